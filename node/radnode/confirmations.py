"""A person stands for a report: it becomes final with the person's name and text, here and wherever reports go. One transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import events, results
from radnode.errors import RefusedError
from radnode.events import Action
from radnode.results import Result
from radnode.retract import Origin
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import ReportRow, ResultRow, StudyRow
from radnode.verdicts import Ruling, Verdict
from radnode_fhir.bundle import uid_of
from radnode_fhir.confirm import CONFIRMED, Confirmed, confirmation
from radnode_fhir.diagnostic_report import DEMONSTRATION

GONE = frozenset({"entered-in-error", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What a person confirms. rulings: those that hold on the report's findings; undone: findings that a person had added.

    again: the report was confirmed before.
    """

    person: str
    text: str
    language: Literal["en", "zh-TW"]
    rulings: Sequence[Verdict]
    undone: Sequence[Verdict]
    again: bool
    now: float


def original(session: Session, data: Path, row: ReportRow) -> dict[str, Any]:
    """The Bundle as the model's result made it, whatever a person made of it since."""
    bundle: dict[str, Any] = dict(row.bundle)
    if row.status not in CONFIRMED:
        return bundle
    first = first_of(session, bundle)
    path = None if first is None else data / first.file
    return orjson.loads(path.read_bytes()) if path is not None and path.is_file() else bundle


def first_of(session: Session, bundle: dict[str, Any]) -> ResultRow | None:
    """The first result that was made from the findings in `bundle`: the model's own."""
    current = session.get(ResultRow, uid_of(bundle))
    if current is None:
        return None
    query = select(ResultRow).where(
        ResultRow.study_uid == current.study_uid,
        ResultRow.model == current.model,
        ResultRow.kind == "fhir",
        ResultRow.digest == current.digest,
    )
    return session.scalars(query.order_by(ResultRow.created_at, ResultRow.uid)).first()


def confirm(session: Session, settings: Settings, row: ReportRow, said: Confirmation) -> str:
    """The report is final, the person's text its conclusion; it is owed to all who take reports. The confirmed text.

    Within the caller's transaction. Raises RefusedError where nobody can stand for it now.
    """
    study = session.get(StudyRow, row.study_uid, with_for_update=True)
    if study is None or study.state != StudyState.READ:
        raise RefusedError("images of the study are still arriving, or models still read it")
    bundle = original(session, settings.data, row)
    first = first_of(session, dict(row.bundle))
    if row.status in GONE or first is None:
        raise RefusedError("the report does not stand any more")
    text = marked(bundle, said.text)
    made = confirmation(bundle, spoken(said, text, written(study, said, text)))
    result = Result(
        kind="fhir", uid=uid_of(made), sop_class_uid="", series_uid="", digest=first.digest,
        body=orjson.dumps(made, option=orjson.OPT_SORT_KEYS),
    )  # fmt: skip
    replace(session, settings, Origin(id=first.job_id, study_uid=row.study_uid, model=row.model), result, said.now)
    sentence = f"The report of {row.model} was confirmed by {said.person}; it is {row.status} now."
    events.write(session, row.study_uid, Action.CONFIRMED, sentence, said.now)
    return text


def replace(session: Session, settings: Settings, origin: Origin, report: Result, now: float) -> None:
    """`report` takes the place of the current report; the DICOM objects stay as they are."""
    (stored,) = results.write_files(settings.data, [report])
    objects = session.scalars(results.standing(origin.study_uid, origin.model).where(ResultRow.kind != "fhir"))
    results.supersede(session, origin.study_uid, origin.model, [stored.uid, *(o.uid for o in objects)])
    results.make_current(session, origin, stored, now)
    for destination in settings.destinations:
        if results.is_for(stored, destination):
            results.owe(session, origin.study_uid, stored.uid, destination.name, now, again=False)
    results.upsert_report(session, origin, orjson.loads(report.body), now)


def written(study: StudyRow, said: Confirmation, text: str) -> bytes:
    """The confirmed report as PDF: of whom, by whom, and the text."""
    from radnode_dicom_sr.pdf import letter
    from radnode_dicom_sr.words import words

    used = words(said.language)
    at = datetime.fromtimestamp(said.now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    name = study.patient_name.replace("^", " ").replace("=", " = ").strip()
    heads = (
        f"{used.patient}: {name} ({study.patient_id or '–'})",
        f"{used.study}: {study.study_date or '–'} {study.study_description}",
        f"{used.accession}: {study.accession_number or '–'}",
        f"{used.confirmed_by}: {said.person}, {at}",
    )
    return letter(used.final, heads, text)


def spoken(said: Confirmation, text: str, document: bytes) -> Confirmed:
    """As FHIR has it: rejected and corrected findings by their tracking UIDs."""
    return Confirmed(
        person=said.person,
        at=datetime.fromtimestamp(said.now, UTC),
        text=text,
        rejected=[v.tracking_uid for v in said.rulings if v.ruling is Ruling.REJECTED],
        corrected={v.tracking_uid: v.comment for v in said.rulings if v.ruling is Ruling.EDITED},
        added={v.tracking_uid: v.comment for v in said.rulings if v.ruling is Ruling.ADDED},
        withdrawn={v.tracking_uid: v.comment for v in said.undone if said.again},
        status="corrected" if said.again else "final",
        documents=(("application/pdf", document), ("text/plain; charset=utf-8", text.encode())),
    )


def marked(bundle: dict[str, Any], text: str) -> str:
    """The text, with what a person cannot leave out: that the weights are for demonstration, that images were missing."""
    resources = [e["resource"] for e in bundle["entry"]]
    conclusion = str(results.report_of(bundle).get("conclusion", ""))
    notes = [str(n["text"]) for r in resources if r["resourceType"] == "Task" for n in r.get("note", ())]
    partial = [n for n in notes if n.startswith("PARTIAL: ") and n not in text]
    warning = DEMONSTRATION.strip()
    demonstration = [warning] if warning in conclusion and warning not in text else []
    return "\n".join([*demonstration, *partial, text])
