"""What every object says about itself, whatever its kind: patient, study, series, equipment, and that it is AI."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from radnode_dicom_sr import codes
from radnode_dicom_sr.elements import encoded
from radnode_dicom_sr.identity import Form, Identity
from radnode_dicom_sr.profile import DEFAULT, Profile
from radnode_dicom_sr.source import Source, clip
from radnode_inference.findings import Findings, ModelIdentity, uid_from

MANUFACTURER = "radnode"
NOT_VERIFIED = "AI, not verified by a radiologist"
DEMONSTRATION = "DEMONSTRATION WEIGHTS TRAINED ON PHANTOMS: NOT FOR CLINICAL USE"
IMPLEMENTATION_CLASS_UID = uid_from(("radnode", "implementation class"))


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the writers share while they make one result."""

    findings: Findings
    source: Source
    identity: Identity
    now: datetime
    profile: Profile = DEFAULT

    @property
    def model(self) -> ModelIdentity:
        return self.findings.model


def described(
    context: Context,
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
    """
    ds = Dataset()
    ds.update(context.source.inherited)
    stamp = local(context)
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = context.identity.sop_uid(instance, form)
    ds.InstanceCreationDate, ds.InstanceCreationTime = stamp
    ds.ContentDate, ds.ContentTime = stamp
    ds.SeriesDate, ds.SeriesTime = stamp
    ds.StudyInstanceUID = context.source.study_uid
    ds.SeriesInstanceUID = context.identity.series_uid(role, form)
    ds.SeriesNumber = context.identity.series_number(role)
    ds.InstanceNumber = number
    ds.Modality = modality
    ds.SeriesDescription = series_description(context.model, description)
    equipment(ds, context)
    return ds


def series_description(model: ModelIdentity, description: str) -> str:
    """Starts with "AI", which is the one mark that every viewer shows."""
    mark = "AI DEMONSTRATION" if model.demonstration else "AI"
    return clip(f"{mark} {model.name} {description}", 64)


def equipment(ds: Dataset, context: Context) -> None:
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


def local(context: Context) -> tuple[str, str]:
    """`now` as DICOM date and time, in the study's own time zone where it names one."""
    offset = context.source.inherited.get("TimezoneOffsetFromUTC")
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
