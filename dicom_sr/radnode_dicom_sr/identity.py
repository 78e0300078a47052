"""Who an object is: UIDs that depend only on what made it, so that equal content is the same object on every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from radnode_dicom_sr.profiles import Form
from radnode_inference.findings import Findings, ModelIdentity, device_uid, uid_from

Kind = Literal["sr", "seg", "key-image", "parametric-map", "pdf", "kos", "rtstruct", "status", "rejection"]


@dataclass(frozen=True, kw_only=True)
class DicomObject:
    """One finished object. body: the complete file (PS3.10), Explicit VR Little Endian."""

    kind: Kind
    sop_class_uid: str
    sop_uid: str
    series_uid: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Previous:
    """An object that an earlier run of the same model wrote into the same study."""

    kind: str
    sop_class_uid: str
    sop_uid: str
    series_uid: str


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The UIDs of one result. `digest` is `Findings.digest()`, taken once because it reads every mask."""

    study_uid: str
    model: ModelIdentity
    digest: str

    @classmethod
    def of(cls, findings: Findings) -> "Identity":
        return cls(study_uid=findings.study_uid, model=findings.model, digest=findings.digest())

    def sop_uid(self, name: str, form: Form = ()) -> str:
        """Changes with the content, the model and its weights. `name` is unique within a result ("seg", "key-image-3").

        form: what a destination's profile makes different about this object; () for the form that all others take.
        """
        return self._uid("instance", name, *form, self.model.version, *self._weights(), self.digest)

    def series_uid(self, role: str, form: Form = ()) -> str:
        """Stays when the content changes: a corrected result is a new instance in the same series."""
        return self._uid("series", role, *form)

    def device_uid(self) -> str:
        return device_uid(self.model)

    def series_number(self, role: str) -> int:
        """A number far above those of scanners, the same for the same model; roles lie side by side."""
        model = int(uid_from(("series-number", self.model.name)).rpartition(".")[2]) % 9000
        return 900000 + model * len(ROLES) + ROLES.index(role)

    def _weights(self) -> Sequence[str]:
        return self.model.weights_name, self.model.weights_version, self.model.weights_sha256

    def _uid(self, *parts: str) -> str:
        return uid_from((*parts, self.study_uid, self.model.name))


SEG, LOCATED, EXAMINATION, KEY_IMAGES, MAPS = "seg", "sr-located", "sr-examination", "key-images", "maps"
PDF, SELECTION, CONTOURS, STATUS, STATUS_PAGE = "pdf", "kos", "rtstruct", "status", "status-page"
REJECTION = "rejection"
ROLES = (SEG, LOCATED, EXAMINATION, KEY_IMAGES, MAPS, PDF, SELECTION, CONTOURS, STATUS, STATUS_PAGE, REJECTION)
"""One series each."""
