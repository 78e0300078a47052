"""How soon somebody must act on a finding, as the American College of Radiology counts it (PS3.16 CID 7035)."""

from collections.abc import Mapping
from dataclasses import replace

from radnode_dicom_sr import codes
from radnode_inference.findings import Evaluation, Finding, Findings


def actionable(findings: Findings, categories: Mapping[str, int]) -> Findings:
    """The findings with the category of each tracking UID in `categories`: 1 (minutes), 2 (hours), 3 (days and longer).

    A category that a model gave itself stays. Raises KeyError for another number.
    """
    return replace(findings, items=tuple(sorted_out(f, categories) for f in findings.items))


def sorted_out(finding: Finding, categories: Mapping[str, int]) -> Finding:
    number = categories.get(finding.tracking_uid)
    if number is None or any(e.concept == codes.ACTIONABLE for e in finding.evaluations):
        return finding
    answer = Evaluation(concept=codes.ACTIONABLE, value=codes.ACR_CATEGORIES[number])
    return replace(finding, evaluations=(*finding.evaluations, answer))
