"""What a viewer shows where the AI has no result, or only half of one: a short report, and one page as a picture.

Silence looks like "negative" (docs/decisions.md).
"""

import hashlib
from datetime import UTC, datetime

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from radnode_dicom_sr import codes
from radnode_dicom_sr.content import container, root, said
from radnode_dicom_sr.dataset import Plain, described, file_bytes
from radnode_dicom_sr.groups import device_observer, language
from radnode_dicom_sr.identity import STATUS, STATUS_PAGE, DicomObject, Identity
from radnode_dicom_sr.key_images import SOP_CLASS_UID as PAGE_SOP_CLASS_UID
from radnode_dicom_sr.key_images import capture
from radnode_dicom_sr.picture import page
from radnode_dicom_sr.profiles import DEFAULT, Profile
from radnode_dicom_sr.source import clip, inherited, series_numbers
from radnode_dicom_sr.words import ENGLISH, Outcome, words
from radnode_inference.findings import ModelIdentity
from radnode_inference.study import Study

SOP_CLASS_UID = str(BasicTextSRStorage)


def status(
    study: Study,
    model: ModelIdentity,
    outcome: Outcome,
    reason: str,
    *,
    now: datetime | None = None,
    profile: Profile = DEFAULT,
) -> tuple[DicomObject, ...]:
    """A report and a page that say that the AI declined, failed or saw only a part, and why; () where not asked for.

    reason: one sentence for a radiologist. Equal reasons make the same objects.
    """
    if not profile.status:
        return ()
    header = study.series[0].headers[0]
    content = (outcome, reason, study.subject(study.series[0].series_uid))
    digest = hashlib.sha256("\x1f".join(content).encode()).hexdigest()
    setting = Plain(
        model=model,
        inherited=inherited(header),
        study_uid=study.study_uid,
        taken=series_numbers(study),
        identity=Identity(study_uid=study.study_uid, model=model, digest=digest),
        now=now or datetime.now(UTC),
        profile=profile,
    )
    return told(setting, outcome, reason), pictured(setting, outcome, reason)


def told(setting: Plain, outcome: Outcome, reason: str) -> DicomObject:
    """A Basic Text SR by TID 2000, which viewers show as text."""
    ds = described(
        setting,
        sop_class_uid=SOP_CLASS_UID,
        role=STATUS,
        instance=STATUS,
        number=1,
        modality="SR",
        description="status",
        form=setting.profile.spoken,
    )
    spoken = words(setting.profile.language)
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag, ds.PreliminaryFlag = "UNVERIFIED", "PRELIMINARY"
    conclusion = container(codes.CONCLUSIONS, [said(codes.CONCLUSION, f"{spoken.outcomes[outcome]} {reason}")])
    content = [*language(spoken.language), *device_observer(setting), conclusion]
    ds.update(root(codes.IMAGING_REPORT, "2000", content))
    return finished(ds, SOP_CLASS_UID)


def pictured(setting: Plain, outcome: Outcome, reason: str) -> DicomObject:
    """One page as a Secondary Capture, with English letters."""
    ds = described(
        setting,
        sop_class_uid=PAGE_SOP_CLASS_UID,
        role=STATUS_PAGE,
        instance=STATUS_PAGE,
        number=1,
        modality="OT",
        description="status page",
    )
    model = setting.model
    sentence = f"{ENGLISH.outcomes[outcome]} {reason}"
    capture(ds, page(ENGLISH.outcomes[outcome], [reason, f"{model.name} {model.version}. This is not a finding."]))
    ds.ImageComments = clip(sentence, 1024)
    return finished(ds, PAGE_SOP_CLASS_UID)


def finished(ds: Dataset, sop_class_uid: str) -> DicomObject:
    return DicomObject(
        kind="status",
        sop_class_uid=sop_class_uid,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=file_bytes(ds),
    )
