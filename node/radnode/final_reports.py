"""A final report of another system marks its study as read, where the settings (`[reading]`) say so; a withdrawn one takes that back.

It says who read it. A study that is not here, that is another patient's, or whose images still arrive is left on the list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import events, readings
from radnode.events import Action
from radnode.fhir_store import OWN, Json, Stored
from radnode.states import StudyState
from radnode.tables import ReportRow, StudyRow
from radnode.tables_triage import ReadingRow
from radnode_fhir.read import DEAD, FINAL

BY_REPORT = " (final report)"
PEOPLE = frozenset({"Practitioner", "PractitionerRole"})


@dataclass(frozen=True, kw_only=True)
class Final:
    """What an HL7 message says of the report of one examination. who: the reader, or the system where none is named."""

    accession_number: str
    patient_id: str
    who: str


def by_hl7(session: Session, finals: Sequence[Final], now: float) -> int:
    """Mark the studies of these reports, in the caller's transaction; how many."""
    marked = 0
    for final in finals:
        found = session.scalars(select(StudyRow).where(StudyRow.accession_number == final.accession_number)).all()
        mine = [s for s in found if not s.patient_id or s.patient_id == final.patient_id]
        marked += sum(mark(session, study, final.who, now) for study in mine)
    return marked


def by_fhir(session: Session, changed: Sequence[Stored], now: float) -> int:
    """The same for the DiagnosticReports of other systems that a transaction wrote, once they are linked to their studies."""
    marked = 0
    for report in (s for s in changed if s.kind == "DiagnosticReport" and s.source != OWN):
        row, who = session.get(ReportRow, report.id), reader(report.body)
        study = session.get(StudyRow, row.study_uid) if row is not None else None
        if study is None or not who:
            continue
        if report.body.get("status") in DEAD:
            take_back(session, study, who, now)
        elif report.body.get("status") in FINAL:
            marked += mark(session, study, who, now)
    return marked


def mark(session: Session, study: StudyRow, who: str, now: float) -> bool:
    """False where the study stays as it is: it was read already, or its images still arrive, which its story says."""
    if study.state == StudyState.RECEIVING:
        sentence = f"A final report came ({who}) while images were arriving: the study stays on the worklist."
        events.write(session, study.study_uid, Action.READING, sentence, now)
        return False
    if readings.of_study(session, study.study_uid) is not None:
        return False
    readings.write(session, study, f"{who}{BY_REPORT}"[:128], now)
    return True


def take_back(session: Session, study: StudyRow, who: str, now: float) -> None:
    """The report is withdrawn: what it marked is to be read again; what a person marked here stays."""
    row = session.get(ReadingRow, study.study_uid)
    if row is not None and row.who.endswith(BY_REPORT):
        session.delete(row)
        sentence = f"To be read after all: the final report was withdrawn ({who})."
        events.write(session, study.study_uid, Action.READING, sentence, now)


def reader(report: Json) -> str:
    """The person who stands for a report, by name, else as it is referred to; "" where no person does: an AI's is none."""
    people = [*report.get("resultsInterpreter", ()), *report.get("performer", ())]
    found = (p for p in people if p.get("type") in PEOPLE or str(p.get("reference", "")).split("/")[0] in PEOPLE)
    return next((str(p.get("display") or p.get("reference") or "a radiologist") for p in found), "")
