"""The measurement groups of a report: TID 1410, 1411 and 1501 for one finding. The only module that speaks highdicom."""

from collections.abc import Sequence
from typing import Any

from highdicom import sr
from highdicom.sr.coding import CodedConcept

from radnode_dicom_sr import codes
from radnode_dicom_sr.contour import in_space, key_slice, oblong, polyline
from radnode_dicom_sr.dataset import MANUFACTURER, Context, Setting, weights
from radnode_dicom_sr.identity import DicomObject
from radnode_dicom_sr.source import clip
from radnode_inference.findings import Code, Finding, Measurement, Prior


def concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning[:64])


def planar(finding: Finding, context: Context, *, alone: bool = False) -> Any:
    """TID 1410: the outline on the key slice, what is measured there, and the score. Needs a mask.

    alone: no volumetric group follows, so that what is measured in space and what was judged stands here too.
    """
    measured = [m for m in finding.measurements if alone or m.concept.value in codes.IN_PLANE]
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=region(finding, context),
        measurements=[*probability(finding), *(number(m) for m in measured)] or None,
        qualitative_evaluations=(evaluations(finding) or None) if alone else None,
        **head(finding, context),
    )


def region(finding: Finding, context: Context) -> Any:
    """The outline on the key slice: on the image, or in space where the pixels are oblong (docs/decisions.md)."""
    assert finding.mask is not None
    index = key_slice(finding.mask)
    points = polyline(finding.mask[index])
    source = context.source
    if source.frame_of_reference_uid and oblong(context.findings.volume):
        return sr.ImageRegion3D(
            graphic_type=sr.GraphicTypeValues3D.POLYLINE,
            graphic_data=in_space(points, index, context.findings.volume.affine),
            frame_of_reference_uid=source.frame_of_reference_uid,
        )
    origin = source.slices[index]
    image = sr.SourceImageForRegion(
        referenced_sop_class_uid=origin.sop_class_uid,
        referenced_sop_instance_uid=origin.sop_uid,
        referenced_frame_numbers=None if origin.frame is None else [origin.frame],
    )
    return sr.ImageRegion(graphic_type=sr.GraphicTypeValues.POLYLINE, graphic_data=points, source_image=image)


def volumetric(finding: Finding, context: Context, seg: DicomObject, segment: int) -> Any:
    """TID 1411: the same finding as a segment of `seg`, with what is measured in space and what was judged."""
    referenced = sr.ReferencedSegment(
        sop_class_uid=seg.sop_class_uid,
        sop_instance_uid=seg.sop_uid,
        segment_number=segment,
        source_series=sr.SourceSeriesForSegmentation(context.source.series_uid),
    )
    measured = [m for m in finding.measurements if m.concept.value not in codes.IN_PLANE]
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=referenced,
        measurements=[number(m) for m in measured] or None,
        qualitative_evaluations=evaluations(finding) or None,
        **head(finding, context),
    )


def unlocated(finding: Finding, context: Context) -> Any:
    """TID 1501: a finding without a place."""
    return sr.MeasurementsAndQualitativeEvaluations(
        measurements=[*probability(finding), *(number(m) for m in finding.measurements)] or None,
        qualitative_evaluations=evaluations(finding) or None,
        **head(finding, context),
    )


def earlier(finding: Finding, prior: Prior) -> Any:
    """TID 1501 with its time point (TID 1502): what was measured of the same thing in an earlier study."""
    site = codes.site(finding)
    side = concept(finding.laterality) if finding.laterality else None
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=prior.tracking_uid, identifier=finding.tracking_id),
        time_point_context=sr.TimePointContext(
            time_point=prior.study_date or "earlier", subject_time_point_identifier=prior.study_uid
        ),
        finding_type=concept(finding.concept),
        finding_sites=[sr.FindingSite(concept(site), laterality=side)] if site else None,
        measurements=[number(m) for m in prior.measurements] or None,
    )


def head(finding: Finding, context: Context) -> dict[str, Any]:
    """The first rows of each group: tracking, finding, category, site, algorithm."""
    side = concept(finding.laterality) if finding.laterality else None
    site = codes.site(finding)
    sites = [sr.FindingSite(concept(site), laterality=side)] if site else None
    return {
        "tracking_identifier": sr.TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        "finding_type": concept(finding.concept),
        "finding_sites": sites,
        "algorithm_id": algorithm(context),
    }


def algorithm(context: Context) -> Any:
    """TID 4019, the weights among its parameters."""
    model = context.model
    return sr.AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"weights: {text}" for text in weights(model)] or None,
        family=concept(codes.family(model)),
        manufacturer=MANUFACTURER,
    )


def number(measurement: Measurement) -> Any:
    """TID 1419 / 300: one number with its unit."""
    method = measurement.method
    return sr.Measurement(
        name=concept(measurement.concept),
        value=significant(measurement.value),
        unit=concept(measurement.unit),
        method=concept(method) if method else None,
    )


def significant(value: float) -> float:
    """Six significant digits: what `Findings.digest` tells apart."""
    return float(f"{value:.6g}")


def probability(finding: Finding) -> Sequence[Any]:
    """The model's score in per cent, if it gave one."""
    if finding.probability is None:
        return []
    name = concept(codes.probability_concept(finding))
    return [sr.Measurement(name=name, value=significant(100 * finding.probability), unit=concept(codes.PERCENT))]


def evaluations(finding: Finding) -> list[Any]:
    """Coded answers; a side without a site is one of them."""
    found = [sr.QualitativeEvaluation(concept(e.concept), concept(e.value)) for e in finding.evaluations]
    if finding.laterality and not codes.site(finding):
        found.append(sr.QualitativeEvaluation(concept(codes.LATERALITY), concept(finding.laterality)))
    return found


def device_observer(context: Setting) -> Any:
    """TID 1001/1004: the model as the observer."""
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=concept(codes.DEVICE),
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=context.identity.device_uid(),
                name=clip(context.model.name, 64),
                manufacturer_name=MANUFACTURER,
                model_name=clip(context.model.name, 64),
                serial_number=clip(context.model.version, 64),
            ),
        )
    )


def language(spoken: Code) -> Any:
    """TID 1204: the language of a document."""
    return sr.LanguageOfContentItemAndDescendants(concept(spoken))
