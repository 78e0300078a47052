"""The process that holds one warm model: reads one study at a time, makes the results durable, answers what they are.

Started by `radnode.engine` as `python -m radnode.engine_child DESCRIPTOR PARENT`; it never touches the database.
"""

import logging
import signal
import sys
import time
from dataclasses import replace
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from radnode.engine_messages import Answer, Declined, Done, Failed, Held, Progressed, Spec, Task
from radnode.errors import WithheldError
from radnode.facts import only_inputs
from radnode.faults import Point, crash_point
from radnode.lifeline import die_with_parent
from radnode.logs import as_a_service, log_to_stderr, told
from radnode.profiles import omissions
from radnode.results import hold, write_files
from radnode.settings import Rule
from radnode.shadow import summary
from radnode_inference import longitudinal, registry
from radnode_inference.findings import Findings
from radnode_inference.model import DeclinedError, Model, ModelCard
from radnode_inference.study import Study

log = logging.getLogger(__name__)


def main(descriptor: int, parent: int) -> None:
    """Answer tasks until the other end closes. SIGINT is the parent's to handle."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        spec: Spec = connection.recv()
        model: Model | None = None
        while True:
            task: Task = connection.recv()
            try:
                model = model or registry.load(spec.card, device(spec.card, spec.device), spec.weights)
                answer: Answer = read(spec, model, task, connection)
            except DeclinedError as e:
                answer = Declined(gate=e.gate, sentence=e.sentence, reasons=e.reasons)
            except Exception as e:
                answer = Failed(sentence=f"{type(e).__name__}: {e}", details=told(e))
            connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def read(spec: Spec, model: Model, task: Task, connection: "Connection[Any, Any]") -> Done | Held:
    """Study in, durable results out, or results that must not leave. Raises DeclinedError, or whatever the model raises."""
    study = with_priors(Study.from_files(task.data / file for file in task.files), task)
    readable = sum(len(s.headers) for s in study.series)
    if readable != len(task.files):
        raise RuntimeError(f"{len(task.files) - readable} of {len(task.files)} stored objects cannot be read")

    def progress(part: float, words: str) -> None:
        crash_point(Point.MID_INFERENCE)
        connection.send(Progressed(part=part, words=words))

    progress(0.0, "reading")
    began = time.monotonic()
    findings = said_provisional(infer(spec.card, model, study, task.rules, progress), task.provisional)
    read_s = time.monotonic() - began
    if task.shadow:
        return Done(stored=(), read_s=read_s, shadow=summary(findings), weights_sha256=findings.model.weights_sha256)
    progress(0.95, "reporting")
    try:
        made = reporter(spec.reporter)(findings, study, previous=task.previous, plans=task.plans, policy=task.policy)
    except WithheldError as e:
        return Held(reasons=e.reasons, folder=hold(task.data, e.results))
    left_out = omissions(task.plans, findings, {r.kind for r in made})
    stored = write_files(task.data, made)
    return Done(stored=stored, read_s=read_s, omissions=left_out, reasons=findings.reasons)


def said_provisional(findings: Findings, lacking: str) -> Findings:
    """The findings of a study of which others say that there is more: they are of a part, and say so."""
    if not lacking:
        return findings
    both = [findings.partial_because, f"Read as provisional: {lacking}."]
    return replace(findings, partial_because=" ".join(filter(None, both)))


def with_priors(study: Study, task: Task) -> Study:
    """The study and the earlier ones of its patient; one whose files cannot be read is left out, and logged."""
    priors = []
    for files in task.priors:
        try:
            priors.append(Study.from_files(task.data / file for file in files))
        except (OSError, ValueError):
            log.exception("An earlier study cannot be read.", extra={"action": "read", "study_uid": study.study_uid})
    return replace(study, priors=tuple(priors))


def infer(card: ModelCard, model: Model, study: Study, rules: tuple[Rule, ...] | None, progress: Any) -> Findings:
    """What the model finds in those images of the study, and of the earlier ones, that a model may read. Raises DeclinedError."""
    unavailable = card.unavailable_because(generated=study.generated)
    if unavailable:
        raise DeclinedError("not-installed", unavailable)
    inputs = only_inputs(study, rules)
    if not inputs.series:
        raise DeclinedError("no-input", "every image is a localizer, a phantom, or another object no model may read")
    if len(inputs.patients) > 1:
        raise DeclinedError(
            "patients", f"its images name {len(inputs.patients)} different patients: nobody knows whose it is"
        )
    earlier = (only_inputs(p, rules) for p in study.priors)
    whole = tuple(p for p in earlier if p.series and len(p.patients) < 2)
    return longitudinal.read(model, replace(inputs, priors=whole), progress)


def reporter(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def device(card: ModelCard, wanted: str) -> str:
    """ "cpu" or "cuda", for a setting that may be "auto". A training-free model never waits for torch to be imported.

    Raises NoDeviceError.
    """
    if wanted != "cuda" and not card.identity.weights_sha256:
        return "cpu"
    from radnode_inference.device import resolve

    return str(resolve(wanted).type)


if __name__ == "__main__":
    log_to_stderr()
    as_a_service()
    main(int(sys.argv[1]), int(sys.argv[2]))
