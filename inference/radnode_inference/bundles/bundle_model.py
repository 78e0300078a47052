"""A MONAI bundle or nnU-Net folder as a model of the node: a series in, its segments as findings. What the bundle answers is checked, not believed."""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy import ndimage

from radnode_inference.bundles import isolation, nnunet, store
from radnode_inference.bundles.card import Framework
from radnode_inference.bundles.codes import Segment
from radnode_inference.bundles.exchange import ANSWER_BYTES, BITS, BUNDLE, LABELS, got, mapped, memory
from radnode_inference.bundles.isolation import Limits, NoIsolationError
from radnode_inference.bundles.request import request
from radnode_inference.bundles.series import best
from radnode_inference.bundles.store import Bundle
from radnode_inference.findings import Finding, Findings, Kind, ModelIdentity, tracking_uid
from radnode_inference.load import load
from radnode_inference.measure import diameter_measurements, diameters, volume_measurement
from radnode_inference.model import DeclinedError, Progress
from radnode_inference.study import Study
from radnode_inference.volume import BoolArray, Volume

CHILDREN = {
    Framework.MONAI: "radnode_inference.bundles.child",
    Framework.NNUNET: "radnode_inference.bundles.child_nnunet",
}
Labels = NDArray[np.uint16]
WHOLE = 0.98
"""Of the voxels: what is left out at the edge when a bundle resamples and leaves its result on its own grid."""
NO_GATES = "No input gates were set when this bundle was added: beyond the modality nothing was asked of the images."
NOT_COMPARED = (
    "Whether these images resemble those the bundle was trained on was not checked: a bundle has no reference of them."
)


class BundleAnswerError(RuntimeError):
    """The bundle failed, or answered with something that is no result."""


def create(device: str, weights: Path) -> "BundleModel":
    """The bundle in the folder `weights`. It computes on the CPU: in isolation there is no other device.

    Raises DeclinedError `isolation` where it cannot be run safely, BundleError when a file changed or an extra is not installed.
    """
    bundle = store.read(weights)
    bundle.verify()
    if bundle.described.framework is Framework.NNUNET:
        nnunet.check_installed()
    with declining():
        isolation.probe()
    return BundleModel(bundle)


@contextmanager
def declining() -> Iterator[None]:
    try:
        yield
    except NoIsolationError as e:
        raise DeclinedError("isolation", f"this machine cannot run a bundle safely ({e}), so it was not run") from e


class BundleModel:
    """See model.Model."""

    def __init__(self, bundle: Bundle, limits: Limits | None = None) -> None:
        self.bundle = bundle
        self.limits = limits or default_limits()

    @property
    def identity(self) -> ModelIdentity:
        return self.bundle.identity

    def read(self, study: Study, progress: Progress) -> Findings:
        """The bundle's segments in the series that suits it.

        Raises DeclinedError (`isolation` where it cannot be run safely, and those of `series.best`, `load` and the gates), BundleError when a file
        changed, IsolationError when it went beyond its limits, BundleAnswerError when it failed or answered nonsense.
        """
        progress(0.0, "choosing the series")
        gates = self.bundle.gates
        match = best(study, self.bundle.described.modality, self.bundle.series_word, gates.region, gates.contrast)
        volume = load(match.series.headers, match.series.series_uid)
        admitted = self.bundle.gates.admit(match.series.headers[0], volume)
        progress(0.1, "checking the bundle's files")
        self.bundle.verify()
        masks, seen = self.masks(volume, lambda: progress(0.2, "the bundle is running"))
        progress(0.9, "measuring")
        items = tuple(self.finding(study, volume, s, m) for s, m in masks if m.any())
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=volume,
            items=items,
            statements=(f"Read: {match.reason}.", self.told(len(items)), *self.asked(), *admitted, NOT_COMPARED),
            partial_because=told_seen(seen),
            used_series_uids=(volume.series_uid,),
        )

    def masks(self, volume: Volume, look: Callable[[], None]) -> tuple[list[tuple[Segment, BoolArray]], float]:
        """Where the bundle sees each of its segments, on the volume's grid; and the part of the grid that it says something of."""
        voxels = np.ascontiguousarray(volume.voxels, np.float32)
        asked = request(self.bundle.described, volume, self.limits.threads)
        with (
            memory("request", asked) as told, memory("volume", voxels) as given,
            memory("mask", 2 * voxels.size) as mask, memory("answer", ANSWER_BYTES) as answer,
        ):  # fmt: skip
            fds = (told, given, mask, answer)
            ended = self.run(fds, look)
            labels = mapped(mask).copy().view(np.uint16).reshape(volume.shape)
            said = got(answer)
        if "failed" in said or ended.status != 0:
            reason = said.get("failed") or f"its process ended with status {ended.status}: {ended.said.strip()[-300:]}"
            raise BundleAnswerError(f"the bundle {self.identity.name} failed: {reason}")
        return decoded(said.get("encoding", ""), labels, self.bundle.described.segments), share(said.get("seen", ""))

    def run(self, fds: tuple[int, ...], look: Callable[[], None]) -> isolation.Ended:
        """Raises DeclinedError `isolation`, or IsolationError."""
        program = [sys.executable, "-I", "-m", CHILDREN[self.bundle.described.framework], *map(str, fds)]
        with declining():
            return isolation.run(
                program, shown=[(self.bundle.files, BUNDLE)], hidden=[self.bundle.folder.parent.parent],
                descriptors=fds, limits=self.limits, look=look,
            )  # fmt: skip

    def finding(self, study: Study, volume: Volume, segment: Segment, mask: BoolArray) -> Finding:
        assert segment.kind is not None
        measured: tuple[Any, ...] = (volume_measurement(mask, volume),)
        if segment.kind is Kind.ABNORMALITY and ndimage.label(mask)[1] == 1:
            measured += diameter_measurements(diameters(mask, volume))
        return Finding(
            tracking_id=segment.name,
            tracking_uid=tracking_uid(study.study_uid, self.identity, segment.name),
            kind=segment.kind,
            concept=segment.concept,
            laterality=segment.laterality,
            measurements=measured,
            mask=mask,
        )

    def asked(self) -> tuple[str, ...]:
        """The gates that this site set: they are no part of the bundle's hash."""
        gates = self.bundle.card.about.gates
        return (f"Input gates that this site set for the bundle: {'; '.join(gates)}." if gates else NO_GATES,)

    def told(self, count: int) -> str:
        wanted = sum(1 for s in self.bundle.described.segments if s.kind)
        d = self.bundle.described
        return f"By the {d.framework} {d.name} {d.version}, which this site installed: {count} of its {wanted} classes were seen."


def decoded(encoding: str, labels: Labels, segments: tuple[Segment, ...]) -> list[tuple[Segment, BoolArray]]:
    """The mask of each segment. Raises BundleAnswerError for numbers that mean no class."""
    if encoding not in (LABELS, BITS):
        raise BundleAnswerError("the bundle did not answer")
    highest = len(segments) if encoding == LABELS else (1 << len(segments)) - 1
    if int(labels.max(initial=0)) > highest:
        raise BundleAnswerError(f"the bundle answered {int(labels.max())}, and its classes end at {highest}")
    reported = [s for s in segments if s.kind]
    if encoding == LABELS:
        return [(s, labels == s.channel + 1) for s in reported]
    return [(s, (labels >> np.uint16(s.channel) & 1).astype(bool)) for s in reported]


def share(said: str) -> float:
    """A part of the whole, by a stranger's words. Raises BundleAnswerError when they are none."""
    if not re.fullmatch(r"0\.\d{4}|1\.0000", said) or not float(said):
        raise BundleAnswerError("the bundle did not say what part of the images it looked at")
    return float(said)


def told_seen(share: float) -> str | None:
    """What a reader must know of a result that does not cover the images."""
    if share >= WHOLE:
        return None
    return (
        f"The bundle answered for {math.floor(100 * share)} % of these images only; beside that nothing was looked at."
    )


def default_limits() -> Limits:
    """Half of the machine's memory, and the threads that this process was given."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    return Limits(memory_mb=int(psutil.virtual_memory().total) // 2 // isolation.MIB, threads=threads)
