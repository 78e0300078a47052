"""What a model says about a study: the vocabulary between inference, DICOM, FHIR and triage. No torch, no DICOM files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from radnode_inference.volume import BoolArray, FloatArray, Volume


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded concept (PS3.3 section 8.8): value, coding scheme designator and meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number: `concept` names it, `unit` is a UCUM code (`Code(value="mm", scheme="UCUM", meaning="mm")`)."""

    concept: Code
    value: float
    unit: Code
    method: Code | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One coded answer: `concept` is the question, `value` the answer."""

    concept: Code
    value: Code


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The same thing in an earlier study of the patient, which a finding was compared with.

    measurements: as they were then, with the concepts and units of the finding's own. sentence: what changed.
    """

    study_uid: str
    study_date: str
    tracking_uid: str
    measurements: tuple[Measurement, ...]
    sentence: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ParameterMap:
    """One number per voxel that a reader may look at: enhancement ratio, probability, saliency.

    values: float32 [slice, row, column] on the grid of `Findings.volume`; NaN where there is none. unit: UCUM.
    """

    name: str
    quantity: Code
    unit: Code
    values: FloatArray


class Kind(StrEnum):
    """What sort of thing a finding is."""

    ABNORMALITY = "abnormality"  # something a radiologist would report; triage reads it
    ANATOMY = "anatomy"  # a segmented organ with its measurements; never raises the priority
    EXAMINATION = "examination"  # a statement about the whole examination, without a place


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """One finding. `tracking_uid` is the same in SR, SEG and FHIR (PS3.16 TID 1410, row 3).

    mask: bool [slice, row, column] on the grid of `Findings.volume`; None for a finding without a place. prior: None
    where no earlier study was compared.
    probability: 0..1, None where the model gives none. laterality: SCT right, left or bilateral. colour: sRGB, 0..255, in
    which the site wants it drawn; None: the writers choose.
    """

    tracking_id: str
    tracking_uid: str
    kind: Kind
    concept: Code
    site: Code | None = None
    laterality: Code | None = None
    probability: float | None = None
    measurements: tuple[Measurement, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    mask: BoolArray | None = None
    prior: Prior | None = None
    colour: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability {self.probability} is outside 0..1")
        if self.mask is not None and not self.mask.any():
            raise ValueError(f"finding {self.tracking_id!r} has an empty mask")


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which code and which weights made a result. `weights_sha256` is "" for training-free methods (`weights_name` says so)."""

    name: str
    version: str
    weights_name: str
    weights_version: str
    weights_sha256: str
    intended_use: str
    demonstration: bool = False  # weights trained on phantoms: every result must say so


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What one model found in one study. `items` empty means: looked, found nothing.

    volume: the source volume that the masks lie on (its voxels may be dropped by the reader).
    key_series_uid: the series whose images carry the result (= volume.series_uid).
    statements: sentences a reader must see (gates passed narrowly, assumptions, limits), in order.
    partial_because: None when the whole input was read; otherwise one sentence that says what was missing.
    used_series_uids: every series that entered the result. maps: parameter maps, by name. reasons: for each series one
    sentence why it was used or not; for the study's story, no part of the result. subject: whose images they are, see
    `Study.subject`; "" where nobody asked.
    """

    study_uid: str
    model: ModelIdentity
    volume: Volume
    items: tuple[Finding, ...]
    statements: tuple[str, ...] = ()
    partial_because: str | None = None
    used_series_uids: tuple[str, ...] = ()
    maps: tuple[ParameterMap, ...] = ()
    reasons: tuple[str, ...] = ()
    subject: str = ""

    @property
    def series_uid(self) -> str:
        return self.volume.series_uid

    def digest(self) -> str:
        """Hex SHA-256 over everything that a reader of the result could see; equal content gives an equal digest."""
        h = hashlib.sha256()
        h.update(
            repr((self.study_uid, self.model, self.volume.series_uid, self.statements, self.partial_because)).encode()
        )
        h.update(repr((self.volume.sources, self.used_series_uids)).encode())
        h.update(self.subject.encode())
        for item in self.items:
            described = (
                item.tracking_uid, item.tracking_id, item.kind, item.concept, item.site, item.laterality,
                rounded(item.probability), item.evaluations,
                measured(item.measurements), item.colour,
                item.prior and (item.prior.study_uid, item.prior.sentence, measured(item.prior.measurements)),
            )  # fmt: skip
            h.update(repr(described).encode())
            if item.mask is not None:
                drawn = [i for i, plane in enumerate(item.mask) if plane.any()]  # most planes of most masks are empty
                h.update(repr((item.mask.shape, drawn)).encode())
                for i in drawn:
                    h.update(np.packbits(item.mask[i]).tobytes())
        for map_ in self.maps:
            h.update(repr((map_.name, map_.quantity, map_.unit)).encode())
            h.update(np.round(map_.values, 3).tobytes())
        return h.hexdigest()


def measured(measurements: Sequence[Measurement]) -> list[tuple[Code, str | None, Code, Code | None]]:
    return [(m.concept, rounded(m.value), m.unit, m.method) for m in measurements]


def rounded(value: float | None) -> str | None:
    """A number to six significant digits, so that noise in the last bit does not make a new result."""
    return None if value is None else f"{value:.6g}"


def uid_from(parts: Sequence[str]) -> str:
    """A UID that depends only on `parts`: UUID-derived, root 2.25 (PS3.5 section B.2), from SHA-256."""
    number = int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:16], "big")
    number = (number & ~(0xF << 76)) | (0x8 << 76)  # UUID version 8: custom, RFC 9562 section 5.8
    number = (number & ~(0x3 << 62)) | (0x2 << 62)
    return f"2.25.{number}"


def tracking_uid(study_uid: str, model: ModelIdentity, tracking_id: str) -> str:
    """The tracking UID of a finding: the same on every run of the same model and weights on the same study."""
    return uid_from(("tracking", study_uid, model.name, model.version, model.weights_sha256, tracking_id))


def device_uid(model: ModelIdentity) -> str:
    """The Device UID (0018,1002) of IHE AIR 6.5.3.1: changed whenever the model or its weights change."""
    return uid_from(
        ("device", model.name, model.version, model.weights_name, model.weights_version, model.weights_sha256)
    )
