"""Small models for tests of the worker, each with one habit, run in the worker's real child processes."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.results import four

from radnode.profiles import Plan
from radnode.results import Previous, Result
from radnode_inference.findings import Code, Finding, Findings, Kind, ModelIdentity
from radnode_inference.model import Availability, DeclinedError, ModelCard, Progress
from radnode_inference.study import Study
from radnode_inference.volume import SourceFrame, Volume

LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")


def identity(name: str) -> ModelIdentity:
    return ModelIdentity(
        name=name, version="1", weights_name="none", weights_version="", weights_sha256="", intended_use="tests"
    )


def card(name: str, habit: str, availability: Availability = Availability.READY) -> ModelCard:
    """The card of a model called `name` with the habit of one of the functions below."""
    return ModelCard(
        identity=identity(name),
        title=name,
        modality="CT",
        inputs=("anything",),
        findings=(LUNG,),
        availability=availability,
        factory=f"support.models:{habit}",
    )


class Quick:
    """Finds one thing in every study: how many images there are. `weights` is a folder that tests may use for notes."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.identity = identity("quick")

    def read(self, study: Study, progress: Progress) -> Findings:
        progress(0.5, "looking")
        self.habit()
        header = study.series[0].headers[0]
        images = sum(len(s.headers) for s in study.series)
        source = SourceFrame(sop_class_uid=header.text("SOPClassUID"), sop_uid=header.text("SOPInstanceUID"))
        volume = Volume(
            voxels=np.zeros((1, 2, 2), dtype=np.float32),
            affine=np.eye(4),
            frame_of_reference_uid="1.2",
            series_uid=study.series[0].series_uid,
            sources=(source,),
        )
        item = Finding(
            tracking_id=f"{images} images",
            tracking_uid="2.25.1",
            kind=Kind.EXAMINATION,
            concept=Code(value=str(images), scheme="99TEST", meaning=f"{images} images"),
        )
        return Findings(study_uid=study.study_uid, model=self.identity, volume=volume, items=(item,))

    def habit(self) -> None:
        """What this model does before it answers."""


class Sleepy(Quick):
    def habit(self) -> None:
        time.sleep(600)


class Held(Quick):
    """Notes its process id, so that a test knows that it has begun, and ends once there is a file `go`."""

    def habit(self) -> None:
        (self.weights / "held.pid").write_text(str(os.getpid()))
        while not (self.weights / "go").exists():
            time.sleep(0.02)


class Killed(Quick):
    def habit(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KilledOnce(Quick):
    def habit(self) -> None:
        note = self.weights / "killed-once"
        if not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Raising(Quick):
    def habit(self) -> None:
        raise RuntimeError("the model is broken")


class Declining(Quick):
    def habit(self) -> None:
        raise DeclinedError("slice-gap", "a slice is missing", ("series 1: not used, a slice is missing",))


class Telling(Quick):
    """Says what it took the series for."""

    def read(self, study: Study, progress: Progress) -> Findings:
        return replace(super().read(study, progress), reasons=("series 1: the only one",))


def telling(*, device: str, weights: Path) -> Quick:
    return Telling(weights)


def quick(*, device: str, weights: Path) -> Quick:
    return Quick(weights)


def sleepy(*, device: str, weights: Path) -> Quick:
    return Sleepy(weights)


def held(*, device: str, weights: Path) -> Quick:
    return Held(weights)


def killed(*, device: str, weights: Path) -> Quick:
    return Killed(weights)


def killed_once(*, device: str, weights: Path) -> Quick:
    return KilledOnce(weights)


def raising(*, device: str, weights: Path) -> Quick:
    return Raising(weights)


def declining(*, device: str, weights: Path) -> Quick:
    return Declining(weights)


def report(
    findings: Findings, study: Study, *, previous: Sequence[Previous] = (), plans: Sequence[Plan] = (), **_: object
) -> list[Result]:
    """Small results instead of those of `radnode.report`: they tell how many images were read."""
    return four(findings.study_uid, findings.model.name, findings.items[0].tracking_id)
