"""The study as it lies in the PACS, with the objects of the result (R4, https://hl7.org/fhir/R4/imagingstudy.html)."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from radnode_fhir.codes import Json, coding
from radnode_fhir.identifiers import DICOM_UID, identifier, order, patient, study_time
from radnode_inference.findings import Code
from radnode_inference.header import Header
from radnode_inference.study import Study

MADE_HERE = {"system": "urn:radnode", "code": "made-here"}
"""The tag of an ImagingStudy that this node made: only such a one may it correct at another server."""
MODALITIES = {"sr": "SR", "seg": "SEG", "key-image": "OT"}


class ResultObject(Protocol):
    """A DICOM object of the result, as far as FHIR names it. kind: "sr", "seg" or "key-image"."""

    @property
    def kind(self) -> str: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...


def imaging_study(study: Study, header: Header, objects: Sequence[ResultObject]) -> Json:
    """Source series by their numbers, result series with every instance."""
    listed = [*source_series(study), *result_series(objects)]
    made: Json = {
        "resourceType": "ImagingStudy",
        "meta": {"tag": [MADE_HERE]},
        "identifier": [identifier(study.study_uid, DICOM_UID)],
        "status": "available",
        "subject": patient(header) or {"type": "Patient", "display": "not named in the images"},
        "modality": [modality(m) for m in sorted({s["modality"]["code"] for s in listed})],
        "numberOfSeries": len(listed),
        "numberOfInstances": sum(s["numberOfInstances"] for s in listed),
        "series": listed,
    }
    for key, value in (("started", study_time(header)), ("description", header.text("StudyDescription"))):
        if value:
            made[key] = value
    placed = order(header)
    if placed:
        made["basedOn"] = [placed]
    return made


def source_series(study: Study) -> Iterable[Json]:
    for series in study.series:
        made: Json = {
            "uid": series.series_uid,
            "modality": modality(series.modality or "OT"),
            "numberOfInstances": len(series.headers),
        }
        number = series.headers[0].number("SeriesNumber")
        if number is not None and number >= 0:
            made["number"] = int(number)
        if series.description:
            made["description"] = series.description
        yield made


def result_series(objects: Sequence[ResultObject]) -> Iterable[Json]:
    for series_uid in dict.fromkeys(o.series_uid for o in objects):
        held = [o for o in objects if o.series_uid == series_uid]
        yield {
            "uid": series_uid,
            "modality": modality(MODALITIES.get(held[0].kind, "OT")),
            "numberOfInstances": len(held),
            "instance": [
                {"uid": o.sop_uid, "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{o.sop_class_uid}"}}
                for o in held
            ],
        }


def modality(value: str) -> Json:
    return coding(Code(value=value, scheme="DCM", meaning=value))
