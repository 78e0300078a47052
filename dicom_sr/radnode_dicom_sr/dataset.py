"""What every object says about itself, whatever its kind: patient, study, series, equipment, and that it is AI."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Protocol

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from radnode_dicom_sr import codes
from radnode_dicom_sr.elements import encoded
from radnode_dicom_sr.identity import ROLES, Identity
from radnode_dicom_sr.profiles import DEFAULT, Form, Profile
from radnode_dicom_sr.source import Source, clip
from radnode_dicom_sr.words import ENGLISH, Words, words
from radnode_inference.findings import Findings, ModelIdentity, uid_from

MANUFACTURER = "radnode"
NOT_VERIFIED = ENGLISH.not_verified
DEMONSTRATION = ENGLISH.demonstration
"""In English wherever letters are drawn or an attribute is short: no font of another script is shipped."""
IMPLEMENTATION_CLASS_UID = uid_from(("radnode", "implementation class"))


class Setting(Protocol):
    """What every object needs to know, whatever it is made from. inherited: see `source.inherited`.

    taken: series numbers of the study by Series Instance UID.
    """

    @property
    def model(self) -> ModelIdentity: ...
    @property
    def inherited(self) -> Dataset: ...
    @property
    def study_uid(self) -> str: ...
    @property
    def taken(self) -> Mapping[str, int]: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def now(self) -> datetime: ...
    @property
    def profile(self) -> Profile: ...


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A setting without findings: for what is said of a study that has no result, or of objects that exist."""

    model: ModelIdentity
    inherited: Dataset
    study_uid: str
    taken: Mapping[str, int]
    identity: Identity
    now: datetime
    profile: Profile = DEFAULT


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the writers share while they make one result. draft: the drafted text by language, which the PDF shows as such."""

    findings: Findings
    source: Source
    identity: Identity
    now: datetime
    profile: Profile = DEFAULT
    draft: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> ModelIdentity:
        return self.findings.model

    @property
    def inherited(self) -> Dataset:
        return self.source.inherited

    @property
    def study_uid(self) -> str:
        return self.source.study_uid

    @property
    def taken(self) -> Mapping[str, int]:
        return self.source.series_numbers

    @property
    def words(self) -> Words:
        return words(self.profile.language)


def described(
    context: Setting,
    *,
    sop_class_uid: str,
    role: str,
    instance: str,
    number: int,
    modality: str,
    description: str,
    form: Form = (),
) -> Dataset:
    """A data set with the modules that all composite objects share (PS3.3 C.7.1 to C.7.5, C.12.1).

    role: names the series (see `identity.ROLES`); instance: unique within the result; form: see `Identity.sop_uid`.
    description: of the series, so the same for every instance of it, now and later. A series has no date of its own.
    """
    ds = Dataset()
    ds.update(context.inherited)
    stamp = local(context)
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = context.identity.sop_uid(instance, form)
    ds.InstanceCreationDate, ds.InstanceCreationTime = stamp
    ds.ContentDate, ds.ContentTime = stamp
    ds.StudyInstanceUID = context.study_uid
    ds.SeriesInstanceUID = context.identity.series_uid(role, form)
    ds.SeriesNumber = free_number(context, role, str(ds.SeriesInstanceUID))
    ds.InstanceNumber = number
    ds.Modality = modality
    ds.SeriesDescription = series_description(context.model, description)
    equipment(ds, context)
    return ds


def free_number(context: Setting, role: str, series_uid: str) -> int:
    """The series number of a role, moved on where another series of the study has it."""
    taken = {number for uid, number in context.taken.items() if uid != series_uid}
    number = context.identity.series_number(role)
    while number in taken:
        number += len(ROLES)
    return number


def series_description(model: ModelIdentity, description: str) -> str:
    """Starts with "AI", which is the one mark that every viewer shows."""
    mark = "AI DEMONSTRATION" if model.demonstration else "AI"
    return clip(f"{mark} {model.name} {description}", 64)


def equipment(ds: Dataset, context: Setting) -> None:
    """Who made it: enhanced general equipment, contributing equipment (IHE AIR 6.5.3.1), content qualification."""
    model = context.model
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = clip(model.name, 64)
    ds.DeviceSerialNumber = clip(context.identity.device_uid().rpartition(".")[2], 64)
    ds.SoftwareVersions = clip(model.version, 64)
    ds.ContentQualification = "RESEARCH"
    device = Dataset()
    device.PurposeOfReferenceCodeSequence = [codes.item(codes.PROCESSING_EQUIPMENT)]
    device.Manufacturer = MANUFACTURER
    device.ManufacturerModelName = clip(model.name, 64)
    device.DeviceSerialNumber = ds.DeviceSerialNumber
    device.SoftwareVersions = [clip(t, 64) for t in (model.version, *weights(model))]
    device.DeviceUID = context.identity.device_uid()
    device.ContributionDescription = weights_sentence(model)
    ds.ContributingEquipmentSequence = [device]


def weights(model: ModelIdentity) -> tuple[str, ...]:
    """Digest, name and version of the weights, the empty ones left out (the digest first: padding would make it too long)."""
    return tuple(t for t in (model.weights_sha256, model.weights_name, model.weights_version) if t)


def weights_sentence(model: ModelIdentity) -> str:
    digest = f", SHA-256 {model.weights_sha256}" if model.weights_sha256 else ""
    return f"{model.name} {model.version}; weights: {model.weights_name} {model.weights_version}".rstrip() + digest


def local(context: Setting) -> tuple[str, str]:
    """`now` as DICOM date and time, in the study's own time zone where it names one."""
    offset = context.inherited.get("TimezoneOffsetFromUTC")
    now = context.now if context.now.tzinfo else context.now.replace(tzinfo=UTC)
    if offset:
        sign = -1 if offset[0] == "-" else 1
        zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))
        now = now.astimezone(zone)
    else:
        now = now.astimezone()
    return now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")


def file_bytes(ds: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """The complete file (PS3.10). The data set itself is Explicit VR Little Endian, whatever its pixels are."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(ds.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(ds.SOPInstanceUID)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "RADNODE"
    out = DicomBytesIO()
    out.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(out, meta, enforce_standard=True)
    return out.getvalue() + encoded(ds)
