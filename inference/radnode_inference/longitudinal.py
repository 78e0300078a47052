"""A study read together with the patient's earlier ones: the newest that the same model can read is compared.

The earlier images are read anew by the same model and weights, so that both numbers come from one method
(docs/decisions.md); a result that another version once made is not looked at.
"""

import logging
from dataclasses import replace

from radnode_inference.compare import Examined, comparable, compare
from radnode_inference.findings import Findings
from radnode_inference.model import DeclinedError, Model, Progress
from radnode_inference.study import Study

NONE_HERE = "Nothing is compared: no earlier study of this patient was at hand in full."
NOTHING_TO_COMPARE = "Nothing is compared with the earlier study: this model gives neither places nor sizes."
OWN_SHARE = 0.6
"""The part of the progress that the study itself takes when an earlier one is read too."""

log = logging.getLogger(__name__)


def read(model: Model, study: Study, progress: Progress) -> Findings:
    """What `model` finds in `study`, compared with the newest of `study.priors` that it can read.

    One sentence always says what was compared, or why nothing was. Raises what `model.read` raises for the study
    itself; an earlier study that cannot be read never stops it.
    """
    if not study.priors:
        return said(model.read(study, progress), NONE_HERE)
    findings = model.read(study, lambda part, words: progress(OWN_SHARE * part, words))
    if not comparable(findings):
        return said(findings, NOTHING_TO_COMPARE)
    passed_over: list[str] = []
    stopped: list[BaseException] = []

    def go_on(part: float, words: str) -> None:
        try:
            progress(OWN_SHARE + (1 - OWN_SHARE) * part, words)
        except BaseException as e:
            stopped.append(e)
            raise

    for prior in study.priors:
        try:
            earlier = model.read(prior, go_on)
            now, then = Examined(study=study, findings=findings), Examined(study=prior, findings=earlier)
            return said(compare(now, then), *passed_over)
        except DeclinedError as e:
            passed_over.append(f"The earlier study {prior.study_uid} is not compared ({e.gate}): {e.sentence}.")
        except Exception as e:  # the patient's study must be reported whatever an old file is like
            if stopped:
                raise
            log.exception("An earlier study cannot be compared.", extra={"action": "compare"})
            passed_over.append(f"The earlier study {prior.study_uid} is not compared: {type(e).__name__}.")
    return said(findings, *passed_over)


def said(findings: Findings, *sentences: str) -> Findings:
    return replace(findings, statements=(*findings.statements, *sentences))
