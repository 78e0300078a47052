"""A final report of another system marks its study as read, where the settings (`[reading]`) say so; a withdrawn one takes that back.

It says who read it. A study that is not here, that is another patient's, or whose images still arrive is left on the list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import events, readings
from radnode.events import Action
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server.store import OWN, Json, Stored
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
    patient_ids: frozenset[str]
    who: str


def by_hl7(session: Session, finals: Sequence[Final], now: float) -> int:
    """Mark the studies of these reports, in the caller's transaction; how many."""
    marked = 0
    for final in finals:
        found = session.scalars(select(StudyRow).where(StudyRow.accession_number == final.accession_number)).all()
        mine = [s for s in found if not s.patient_id or s.patient_id in final.patient_ids]
        marked += sum(mark(session, study, final.who, now) for study in mine)
    return marked


def by_fhir(session: Session, changed: Sequence[Stored], left: Mapping[str, str], now: float) -> int:
    """The same for the DiagnosticReports of other systems that a transaction wrote, once they are linked to their studies.

    left: report id -> the study that it is not about any more.
    """
    marked = 0
    for report in (s for s in changed if s.kind == "DiagnosticReport" and s.source != OWN):
        row, was = session.get(ReportRow, report.id), left.get(report.id, "")
        dead = report.body.get("status") in DEAD
        for study_uid in {was, row.study_uid if row is not None and dead else ""} - {""}:
            withdraw(session, study_uid, report, now)
        study = session.get(StudyRow, row.study_uid) if row is not None else None
        who = reader(report.body)
        if study is not None and who and report.body.get("status") in FINAL:
            marked += mark(session, study, who, now)
    return marked


def withdraw(session: Session, study_uid: str, report: Stored, now: float) -> None:
    """A report that is withdrawn or moved need not name its reader any more: who stood for any version of it counts."""
    versions = fhir_store.history(session, report.kind, report.id)
    who = next((name for v in versions if (name := reader(v.body))), "")
    study = session.get(StudyRow, study_uid)
    if who and study is not None:
        take_back(session, study, who, now)


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
        sentence = f"To be read after all: the final report was withdrawn, or is not about this study ({who})."
        events.write(session, study.study_uid, Action.READING, sentence, now)


def reader(report: Json) -> str:
    """The person who stands for a report, by name, else as it is referred to; "" where no person does: an AI's is none."""
    people = [*report.get("resultsInterpreter", ()), *report.get("performer", ())]
    contained = {f"#{c.get('id')}": str(c.get("resourceType")) for c in report.get("contained", ())}

    def kinds(person: Json) -> set[str]:
        address = str(person.get("reference", ""))
        return {str(person.get("type")), contained.get(address, ""), *address.split("/")}

    found = (p for p in people if kinds(p) & PEOPLE)
    return next((str(p.get("display") or p.get("reference") or "a radiologist") for p in found), "")
