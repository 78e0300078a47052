"""Key object selections (PS3.3 A.35.4, PS3.16 TID 2010): the images worth a look, and the note that rejects a result."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from radnode_dicom_sr import codes
from radnode_dicom_sr.content import evidence_of, pointer, root, said
from radnode_dicom_sr.dataset import Context, Plain, Setting, described, file_bytes
from radnode_dicom_sr.groups import device_observer
from radnode_dicom_sr.identity import REJECTION, SELECTION, DicomObject, Identity, Kind
from radnode_dicom_sr.key_images import KeyPicture
from radnode_dicom_sr.segmentation import LABELMAP_SOP_CLASS_UID
from radnode_dicom_sr.source import DESCRIPTIVE, IDENTIFYING
from radnode_inference.findings import Code, ModelIdentity

SOP_CLASS_UID = str(KeyObjectSelectionDocumentStorage)
IMAGES = frozenset({"seg", "key-image", "parametric-map"})
"""Kinds of objects that are images; the others are referred to as COMPOSITE."""


def value_type(o: DicomObject) -> str:
    """IMAGE or COMPOSITE. A label map counts as no image: readers that do not know it (DCMTK 3.6.7) refuse the whole note."""
    return "IMAGE" if o.kind in IMAGES and o.sop_class_uid != LABELMAP_SOP_CLASS_UID else "COMPOSITE"


def selection(context: Context, pictures: Sequence[KeyPicture], drawn: Sequence[DicomObject]) -> DicomObject | None:
    """The slices with a key image, and the key images where the destination has them; None where there are none."""
    source = context.source
    slices = [source.slices[i] for i in sorted({p.index for p in pictures})]
    chosen = [
        DicomObject(
            kind="key-image", sop_class_uid=s.sop_class_uid, sop_uid=s.sop_uid, series_uid=source.series_uid, body=b""
        )
        for s in slices
    ]
    chosen = list({o.sop_uid: o for o in (*chosen, *drawn)}.values())
    if not chosen:
        return None
    form = (*(() if drawn else ("source images",)), *context.profile.spoken)
    return note(
        context, "kos", codes.OF_INTEREST, f"{context.words.images}: {context.words.not_verified}", chosen, form
    )


def retraction(
    objects: Sequence[DicomObject], model: ModelIdentity, why: str, *, unsafe: bool = False, now: datetime | None = None
) -> DicomObject:
    """The rejection note (IHE RAD Imaging Object Change Management, RAD-66) that withdraws `objects`, all of one study.

    why: one sentence. unsafe: no reader may see them again ("Rejected for Patient Safety Reasons"); otherwise they are
    "Rejected for Quality Reasons", and a PACS may still show them on request. Patient and study are those of the objects.
    Equal objects and reasons make the same note. Raises ValueError without objects.
    """
    if not objects:
        raise ValueError("there is nothing to retract")
    first = pydicom.dcmread(BytesIO(objects[0].body), stop_before_pixels=True)
    title = codes.REJECTED_FOR_SAFETY if unsafe else codes.REJECTED_FOR_QUALITY
    parts = (title.value, why, *sorted(o.sop_uid for o in objects))
    digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
    setting = Plain(
        model=model,
        inherited=inherited_from(first),
        study_uid=str(first.StudyInstanceUID),
        taken={},
        identity=Identity(study_uid=str(first.StudyInstanceUID), model=model, digest=digest),
        now=now or datetime.now(UTC),
    )
    return note(setting, "rejection", title, why, objects, ())


def inherited_from(ds: Dataset) -> Dataset:
    """What one of our own objects inherited from its source."""
    kept = Dataset()
    kept.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (*IDENTIFYING, *DESCRIPTIVE, "PatientIdentityRemoved", "DeidentificationMethod"):
        if keyword in ds:
            kept[keyword] = ds[keyword]
    return kept


def note(
    setting: Setting, kind: Kind, title: Code, sentence: str, objects: Sequence[DicomObject], form: tuple[str, ...]
) -> DicomObject:
    """One key object selection document: what it selects, and why in words."""
    role = SELECTION if kind == "kos" else REJECTION
    ds = described(
        setting,
        sop_class_uid=SOP_CLASS_UID,
        role=role,
        instance=role,
        number=1,
        modality="KO",
        description="key image selection" if kind == "kos" else "rejection note",
        form=form,
    )
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.CurrentRequestedProcedureEvidenceSequence = [evidence_of(setting.study_uid, objects)]
    content = [
        *device_observer(setting),
        said(codes.KEY_OBJECT_DESCRIPTION, sentence),
        *(pointer(value_type(o), o.sop_class_uid, o.sop_uid) for o in objects),
    ]
    ds.update(root(title, "2010", content))
    return DicomObject(
        kind=kind,
        sop_class_uid=SOP_CLASS_UID,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=file_bytes(ds),
    )
