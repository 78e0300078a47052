"""Structured reports: TID 1500 in Comprehensive 3D SR (PS3.16 TID 1500, PS3.3 A.35.13).

Findings with a place and findings without one go into two documents of two series: a viewer (OHIF) shows a black
screen for a document that has a group without coordinates.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from radnode_dicom_sr import codes
from radnode_dicom_sr.dataset import DEMONSTRATION, NOT_VERIFIED, Context, described, file_bytes, weights_sentence
from radnode_dicom_sr.elements import dataset, encoded, instance, raw_sequence, sequence, text
from radnode_dicom_sr.groups import concept, device_observer, planar, unlocated, volumetric
from radnode_dicom_sr.identity import EXAMINATION, LOCATED, DicomObject, Form, Previous
from radnode_dicom_sr.segmentation import Drawn, located
from radnode_inference.findings import Code

SOP_CLASS_UID = str(Comprehensive3DSRStorage)
NOTHING_FOUND = "The model looked at these images and reported no finding."


def located_report(context: Context, drawn: Sequence[Drawn], previous: Sequence[Previous]) -> DicomObject | None:
    """The findings that have a place: for each one a planar and a volumetric group with the same tracking UID.

    A finding that no segmentation holds as a whole has only the planar group, which then says it all. None where no
    finding has a place.
    """
    findings = located(context.findings.items)
    if not findings:
        return None
    groups: list[Any] = []
    for finding in findings:
        held = next((d for d in drawn if finding.tracking_uid in d.numbers), None)
        groups.append(planar(finding, context, alone=held is None))
        if held:
            groups.append(volumetric(finding, context, held.object, held.numbers[finding.tracking_uid]))
    form = drawn[0].form if drawn else ("outlines",)
    segs = [d.object for d in drawn]
    return document(context, LOCATED, "findings", groups, notes(context), previous, segs, form)


def examination_report(context: Context, previous: Sequence[Previous]) -> DicomObject | None:
    """The findings without a place, or that there is none at all; None when every finding has a place."""
    findings = [f for f in context.findings.items if f.mask is None]
    if context.findings.items and not findings:
        return None
    statements = notes(context) if findings else [NOTHING_FOUND, *notes(context)]
    groups = [unlocated(f, context) for f in findings]
    return document(context, EXAMINATION, "examination", groups, statements, previous)


def notes(context: Context) -> list[str]:
    """The sentences that a reader must see, the gravest first."""
    findings, model = context.findings, context.model
    partial = [f"PARTIAL: {findings.partial_because}"] if findings.partial_because else []
    demonstration = [DEMONSTRATION] if model.demonstration else []
    use = [f"Intended use: {model.intended_use}"] if model.intended_use else []
    return [*demonstration, *partial, f"{NOT_VERIFIED}.", *findings.statements, *use, weights_sentence(model)]


def document(
    context: Context,
    role: str,
    description: str,
    groups: Sequence[Any],
    statements: Iterable[str],
    previous: Sequence[Previous],
    referenced: Sequence[DicomObject] = (),
    form: Form = (),
) -> DicomObject:
    """One SR: header, evidence, predecessors and content tree."""
    ds = described(
        context,
        sop_class_uid=SOP_CLASS_UID,
        role=role,
        instance=role,
        number=1,
        modality="SR",
        description=description,
        form=form,
    )
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag = "PARTIAL" if context.findings.partial_because else "COMPLETE"
    if context.findings.partial_because:
        ds.CompletionFlagDescription = context.findings.partial_because[:64]
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.CurrentRequestedProcedureEvidenceSequence = [evidence(context, referenced)]
    predecessors(ds, previous)
    ds.update(tree(context, groups, statements))
    return DicomObject(
        kind="sr",
        sop_class_uid=SOP_CLASS_UID,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=file_bytes(ds),
    )


def tree(context: Context, groups: Sequence[Any], statements: Iterable[str]) -> Dataset:
    """The root content item of TID 1500."""
    procedure = codes.PROCEDURES.get(context.source.modality, codes.OTHER_PROCEDURE)
    content = [
        *sr.LanguageOfContentItemAndDescendants(concept(ENGLISH)),
        *device_observer(context),
        coded("HAS CONCEPT MOD", codes.PROCEDURE_REPORTED, procedure),
        image_library(context),
    ]
    if groups:
        content.append(container(codes.IMAGING_MEASUREMENTS, [item for group in groups for item in group]))
    content.append(container(codes.QUALITATIVE_EVALUATIONS, [comment(s) for s in statements]))
    root = container(codes.REPORT, content)
    del root.RelationshipType
    root.ContentTemplateSequence = [dataset(MappingResource="DCMR", TemplateIdentifier="1500")]
    return root


ENGLISH = Code(value="en-US", scheme="RFC5646", meaning="English (United States)")


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


def comment(sentence: str) -> Dataset:
    return dataset(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=[codes.item(codes.COMMENT)],
        TextValue=sentence,
    )


def image_library(context: Context) -> Dataset:
    """TID 1600: every image that was read, in one group that says once what they share."""
    images = dict.fromkeys((s.sop_class_uid, s.sop_uid) for s in context.source.slices)
    modality = codes.MODALITIES.get(context.source.modality)
    shared = [coded("HAS ACQ CONTEXT", codes.MODALITY, modality)] if modality else []
    group = container(codes.IMAGE_LIBRARY_GROUP, shared)
    listed = [encoded(d) for d in shared] + [image_item(*image) for image in images]
    group[0x0040A730] = raw_sequence(0x0040A730, *listed)
    return container(codes.IMAGE_LIBRARY, [group])


def image_item(sop_class_uid: str, sop_uid: str) -> bytes:
    """An IMAGE content item without a name (TID 1601, row 1), as bytes: there is one for each of hundreds of images."""
    reference = sequence(0x00081199, instance(sop_class_uid, sop_uid))
    return reference + text(0x0040A010, "CS", "CONTAINS") + text(0x0040A040, "CS", "IMAGE")


def evidence(context: Context, referenced: Sequence[DicomObject]) -> Dataset:
    """Every instance that the content tree names, by series (PS3.3 C.17.2)."""
    source = context.source
    images = dict.fromkeys((s.sop_class_uid, s.sop_uid) for s in source.slices)
    series = [series_item(source.series_uid, list(images))]
    series += [series_item(o.series_uid, [(o.sop_class_uid, o.sop_uid)]) for o in referenced]
    return dataset(StudyInstanceUID=source.study_uid, ReferencedSeriesSequence=series)


def series_item(series_uid: str, instances: Sequence[tuple[str, str]]) -> Dataset:
    ds = dataset(SeriesInstanceUID=series_uid)
    ds[0x00081199] = raw_sequence(0x00081199, *(instance(*i) for i in instances))
    return ds


def predecessors(ds: Dataset, previous: Sequence[Previous]) -> None:
    """The documents of the same series that this one takes the place of (PS3.3 C.17.2)."""
    old = [p for p in previous if p.kind == "sr" and p.series_uid == ds.SeriesInstanceUID]
    old = [p for p in old if p.sop_uid != ds.SOPInstanceUID]
    if old:
        items = [series_item(str(ds.SeriesInstanceUID), [(p.sop_class_uid, p.sop_uid) for p in old])]
        reference = dataset(StudyInstanceUID=ds.StudyInstanceUID, ReferencedSeriesSequence=items)
        ds.PredecessorDocumentsSequence = [reference]
