"""Findings to finished DICOM objects: READ FIRST."""

from collections.abc import Sequence
from datetime import UTC, datetime

from radnode_dicom_sr.dataset import Context
from radnode_dicom_sr.identity import DicomObject, Identity, Previous
from radnode_dicom_sr.key_images import key_images
from radnode_dicom_sr.report import examination_report, located_report
from radnode_dicom_sr.segmentation import located, segmentation
from radnode_dicom_sr.source import Source
from radnode_inference.findings import Findings
from radnode_inference.study import Study


def build(
    findings: Findings, study: Study, *, previous: Sequence[Previous] = (), now: datetime | None = None
) -> tuple[DicomObject, ...]:
    """Every object of one result: segmentation, reports, key images, in the order in which a PACS should get them.

    The same findings give the same UIDs whenever they are built; only times (`now`, by default the clock) differ, so
    keep the bytes of the first. previous: the current objects of the same study and model, which these supersede.
    Raises ValueError when the findings do not lie on the images of `study`.
    """
    context = Context(
        findings=findings,
        source=Source.of(study, findings.volume),
        identity=Identity.of(findings),
        now=now or datetime.now(UTC),
    )
    objects: list[DicomObject] = []
    if located(findings.items):
        seg = segmentation(context)
        objects += [seg, located_report(context, seg, previous)]
    examination = examination_report(context, previous)
    if examination is not None:
        objects.append(examination)
    return (*objects, *key_images(context))
