"""Structured reports: TID 1500 in Comprehensive 3D SR (PS3.16 TID 1500, PS3.3 A.35.13).

Findings with a place and findings without one go into two documents of two series: a viewer (OHIF) shows a black
screen for a document that has a group without coordinates.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from radnode_dicom_sr import codes
from radnode_dicom_sr.content import coded, comment, container, image_item, root, series_item
from radnode_dicom_sr.dataset import Context, described, file_bytes, weights_sentence
from radnode_dicom_sr.elements import dataset, encoded, raw_sequence
from radnode_dicom_sr.groups import device_observer, earlier, language, planar, unlocated, volumetric
from radnode_dicom_sr.identity import EXAMINATION, LOCATED, DicomObject, Previous
from radnode_dicom_sr.profiles import Form
from radnode_dicom_sr.segmentation import Drawn, located

SOP_CLASS_UID = str(Comprehensive3DSRStorage)


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
    form = (*(drawn[0].form if drawn else ("outlines",)), *context.profile.spoken)
    segs = [d.object for d in drawn]
    return document(context, LOCATED, "findings", groups, notes(context), previous, segs, form)


def examination_report(context: Context, previous: Sequence[Previous]) -> DicomObject | None:
    """What has no place: findings of the whole examination, earlier measurements, or that nothing was found.

    None when every finding has a place and none was compared.
    """
    items = context.findings.items
    groups = [unlocated(f, context) for f in items if f.mask is None]
    groups += [earlier(f, f.prior) for f in items if f.prior and f.prior.measurements]
    if items and not groups:
        return None
    statements = notes(context) if items else [context.words.nothing_found, *notes(context)]
    return document(context, EXAMINATION, "examination", groups, statements, previous, form=context.profile.spoken)


def notes(context: Context) -> list[str]:
    """The sentences that a reader must see, the gravest first."""
    findings, model, words = context.findings, context.model, context.words
    partial = [f"{words.partial}: {findings.partial_because}"] if findings.partial_because else []
    demonstration = [words.demonstration] if model.demonstration else []
    use = [f"{words.intended_use}: {model.intended_use}"] if model.intended_use else []
    compared = [
        f"{f.tracking_id}: {words.previous} {f.prior.study_date}: {f.prior.sentence}" for f in findings.items if f.prior
    ]
    stated = (*findings.statements, *compared)
    return [*demonstration, *partial, f"{words.not_verified}.", *stated, *use, weights_sentence(model)]


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
        *language(context.words.language),
        *device_observer(context),
        coded("HAS CONCEPT MOD", codes.PROCEDURE_REPORTED, procedure),
        image_library(context),
    ]
    if groups:
        content.append(container(codes.IMAGING_MEASUREMENTS, [item for group in groups for item in group]))
    content.append(container(codes.QUALITATIVE_EVALUATIONS, [comment(s) for s in statements]))
    return root(codes.REPORT, "1500", content)


def image_library(context: Context) -> Dataset:
    """TID 1600: every image that was read, in one group that says once what they share."""
    images = dict.fromkeys((s.sop_class_uid, s.sop_uid) for s in context.source.slices)
    modality = codes.MODALITIES.get(context.source.modality)
    shared = [coded("HAS ACQ CONTEXT", codes.MODALITY, modality)] if modality else []
    group = container(codes.IMAGE_LIBRARY_GROUP, shared)
    listed = [encoded(d) for d in shared] + [image_item(*image) for image in images]
    group[0x0040A730] = raw_sequence(0x0040A730, *listed)
    return container(codes.IMAGE_LIBRARY, [group])


def evidence(context: Context, referenced: Sequence[DicomObject]) -> Dataset:
    """Every instance that the content tree names, by series (PS3.3 C.17.2)."""
    source = context.source
    images = dict.fromkeys((s.sop_class_uid, s.sop_uid) for s in source.slices)
    series = [series_item(source.series_uid, list(images))]
    series += [series_item(o.series_uid, [(o.sop_class_uid, o.sop_uid)]) for o in referenced]
    return dataset(StudyInstanceUID=source.study_uid, ReferencedSeriesSequence=series)


def predecessors(ds: Dataset, previous: Sequence[Previous]) -> None:
    """The documents of the same series that this one takes the place of (PS3.3 C.17.2)."""
    old = [p for p in previous if p.kind == "sr" and p.series_uid == ds.SeriesInstanceUID]
    old = [p for p in old if p.sop_uid != ds.SOPInstanceUID]
    if old:
        items = [series_item(str(ds.SeriesInstanceUID), [(p.sop_class_uid, p.sop_uid) for p in old])]
        reference = dataset(StudyInstanceUID=ds.StudyInstanceUID, ReferencedSeriesSequence=items)
        ds.PredecessorDocumentsSequence = [reference]
