"""Content items and references that every SR document is made of (PS3.3 C.17.3)."""

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from radnode_dicom_sr import codes
from radnode_dicom_sr.elements import dataset, instance, raw_sequence, sequence, text
from radnode_dicom_sr.identity import DicomObject
from radnode_inference.findings import Code


def container(name: Code, items: Sequence[Dataset]) -> Dataset:
    return dataset(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=[codes.item(name)],
        ContinuityOfContent="SEPARATE",
        ContentSequence=list(items),
    )


def coded(relationship: str, name: Code, value: Code) -> Dataset:
    return dataset(
        RelationshipType=relationship,
        ValueType="CODE",
        ConceptNameCodeSequence=[codes.item(name)],
        ConceptCodeSequence=[codes.item(value)],
    )


def said(name: Code, sentence: str) -> Dataset:
    """A TEXT item."""
    return dataset(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=[codes.item(name)],
        TextValue=sentence,
    )


def comment(sentence: str) -> Dataset:
    return said(codes.COMMENT, sentence)


def image_item(sop_class_uid: str, sop_uid: str) -> bytes:
    """An IMAGE content item without a name (TID 1601, row 1), as bytes: there is one for each of hundreds of images."""
    reference = sequence(0x00081199, instance(sop_class_uid, sop_uid))
    return reference + text(0x0040A010, "CS", "CONTAINS") + text(0x0040A040, "CS", "IMAGE")


def series_item(series_uid: str, instances: Sequence[tuple[str, str]]) -> Dataset:
    ds = dataset(SeriesInstanceUID=series_uid)
    ds[0x00081199] = raw_sequence(0x00081199, *(instance(*i) for i in instances))
    return ds


def pointer(kind: str, sop_class_uid: str, sop_uid: str) -> Dataset:
    """An IMAGE or COMPOSITE item without a name (TID 2010, row 4 and 5)."""
    reference = dataset(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_uid)
    return dataset(RelationshipType="CONTAINS", ValueType=kind, ReferencedSOPSequence=[reference])


def root(name: Code, template: str, items: Sequence[Dataset]) -> Dataset:
    """The root container of a document of PS3.16 TID `template`."""
    ds = container(name, items)
    del ds.RelationshipType
    ds.ContentTemplateSequence = [dataset(MappingResource="DCMR", TemplateIdentifier=template)]
    return ds


def evidence_of(study_uid: str, objects: Iterable[DicomObject]) -> Dataset:
    """An item of an evidence sequence: objects of one study, by series (PS3.3 C.17.2)."""
    series: dict[str, list[tuple[str, str]]] = {}
    for o in objects:
        series.setdefault(o.series_uid, []).append((o.sop_class_uid, o.sop_uid))
    return dataset(StudyInstanceUID=study_uid, ReferencedSeriesSequence=[series_item(*s) for s in series.items()])
