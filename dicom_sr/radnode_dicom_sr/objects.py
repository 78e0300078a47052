"""Findings to finished DICOM objects: READ FIRST."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from radnode_dicom_sr.dataset import Context
from radnode_dicom_sr.identity import DicomObject, Identity, Previous
from radnode_dicom_sr.key_images import key_images, key_pictures
from radnode_dicom_sr.maps import parametric_maps
from radnode_dicom_sr.pdf import pages, pdf
from radnode_dicom_sr.profiles import DEFAULT, Profile
from radnode_dicom_sr.report import examination_report, located_report
from radnode_dicom_sr.rtstruct import structure_set
from radnode_dicom_sr.segmentation import segmentations
from radnode_dicom_sr.selection import selection
from radnode_dicom_sr.source import Source
from radnode_dicom_sr.status import status
from radnode_dicom_sr.words import Language
from radnode_inference.findings import Findings
from radnode_inference.study import Study


def build(
    findings: Findings,
    study: Study,
    *,
    previous: Sequence[Previous] = (),
    now: datetime | None = None,
    profile: Profile = DEFAULT,
    draft: Mapping[str, str] | None = None,
) -> tuple[DicomObject, ...]:
    """Every object of one result that `profile` asks for, in the order in which a PACS should get them.

    The same findings give the same UIDs whenever they are built; only times (`now`, by default the clock) differ, so
    keep the bytes of the first. previous: the current objects of the same study and model, which these supersede.
    draft: a drafted text of the report by language, for the PDF.
    Raises ValueError when the findings do not lie on the images of `study`.
    """
    context = Context(
        findings=findings,
        source=Source.of(study, findings.volume),
        identity=Identity.of(findings),
        now=now or datetime.now(UTC),
        profile=profile,
        draft=draft or {},
    )
    drawn = segmentations(context) if profile.seg else ()
    objects = [d.object for d in drawn]
    if profile.parametric_maps:
        objects += parametric_maps(context)
    if profile.sr:
        reports = located_report(context, drawn, previous), examination_report(context, previous)
        objects += [report for report in reports if report is not None]
    contours = structure_set(context) if profile.rtstruct else None
    if contours:
        objects.append(contours)
    return (*objects, *pictured(context), *unfinished(context, study))


def printable(
    findings: Findings,
    study: Study,
    *,
    now: datetime,
    language: Language = "en",
    draft: Mapping[str, str] | None = None,
) -> bytes:
    """The result as a PDF to read, without pictures: some thousand bytes. Arguments and errors as for `build`."""
    context = Context(
        findings=findings,
        source=Source.of(study, findings.volume),
        identity=Identity.of(findings),
        now=now,
        profile=Profile(language=language),
        draft=draft or {},
    )
    return pages(context, ())


def pictured(context: Context) -> tuple[DicomObject, ...]:
    """What shows key images, each drawn once."""
    profile = context.profile
    pictures = key_pictures(context) if profile.key_images or profile.kos or profile.pdf else ()
    images = key_images(context, pictures) if profile.key_images else ()
    chosen = selection(context, pictures, images) if profile.kos else None
    document = pdf(context, pictures) if profile.pdf else None
    return (*images, *(o for o in (chosen, document) if o))


def unfinished(context: Context, study: Study) -> tuple[DicomObject, ...]:
    """The status of a result that was made from a part of the study."""
    because = context.findings.partial_because
    if not because:
        return ()
    return status(study, context.model, "partial", because, now=context.now, profile=context.profile)
