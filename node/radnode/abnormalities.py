"""A model's finding as a report will tell it, and in one line of words. Pure."""

from radnode_fhir.codes import LONG_AXIS, VOLUME
from radnode_fhir.read import Abnormality
from radnode_inference.findings import Finding


def as_reported(finding: Finding) -> Abnormality:
    """A model's finding as a report will tell it."""
    numbers = {m.concept.value: m.value for m in finding.measurements}
    return Abnormality(
        concept=finding.concept,
        probability=finding.probability,
        volume_ml=numbers.get(VOLUME),
        long_axis_mm=numbers.get(LONG_AXIS),
        laterality=finding.laterality.meaning if finding.laterality else "",
        site=finding.site.meaning if finding.site else "",
        tracking_uid=finding.tracking_uid,
        critical=False,
    )


def describe(abnormality: Abnormality) -> str:
    """ "Nodule, left lung, 93 %, 1.2 ml"."""
    place = " ".join(w for w in (abnormality.laterality, abnormality.site.lower()) if w)
    if abnormality.laterality and abnormality.laterality in abnormality.site.lower():
        place = abnormality.site.lower()
    parts = [abnormality.words or abnormality.concept.meaning or "Abnormal finding", place]
    if abnormality.probability is not None:
        parts.append(f"{100 * abnormality.probability:.0f} %")
    if abnormality.volume_ml is not None:
        parts.append(f"{abnormality.volume_ml:{'.2g' if abnormality.volume_ml < 10 else '.0f'}} ml")
    return ", ".join(p for p in parts if p)


def marked(demonstration: bool) -> str:
    return " – demonstration, not for clinical use" if demonstration else ""
