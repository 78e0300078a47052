"""Radiologists' edited copies of the node's reports, read back as rulings on the findings in them.

A copy comes by C-STORE or STOW-RS as a report (TID 1500) of the same study that takes the place of one of ours (Predecessor
Documents Sequence), or that holds findings with our tracking UIDs. It is no image: it starts no new revision. What it
leaves as it was is accepted, what it says otherwise is edited; what it says is absent, or leaves out although it takes the
place of ours, is rejected; what a signed one holds beside ours is a finding that the model had not made. It changes no result.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from radnode import abnormalities, events, triage, verdicts
from radnode.events import Action
from radnode.settings import Settings
from radnode.states import JobState, StudyState
from radnode.tables import InstanceRow, JobRow, ReportRow, ResultRow, StudyRow
from radnode.verdicts import REMARK_LENGTH, Ruling, Verdict
from radnode_inference.findings import uid_from

if TYPE_CHECKING:
    from radnode_dicom_sr import Document, ReadFinding

REPORTS = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (22, 33, 34))
"""Enhanced, Comprehensive and Comprehensive 3D SR."""
SOURCE = "edited SR"
LARGEST = 16 * 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One edited copy. who: the people whom it names, "" for none. signed: by a person who stands for it, or made by one.

    added: findings that are none of ours, by tracking UID. model: whose report it takes the place of, "" for none or several.
    """

    sop_uid: str
    calling_ae: str
    who: str
    signed: bool
    replaces: bool
    ours: "Mapping[str, ReadFinding]"
    theirs: "Mapping[str, ReadFinding]"
    added: "Mapping[str, ReadFinding]"
    model: str


def copies(session: Session, settings: Settings, study_uid: str, arrived: Sequence[InstanceRow]) -> tuple[Copy, ...]:
    """Which of the objects that arrived for a study are edited copies. One that cannot be read is none."""
    reports = [row for row in arrived if row.sop_class_uid in REPORTS and row.size <= LARGEST]
    if not reports:
        return ()
    rows = session.scalars(
        select(ResultRow).where(ResultRow.study_uid == study_uid, ResultRow.kind == "sr").order_by(ResultRow.created_at)
    ).all()
    own = {row.uid: document for row in rows if (document := read(settings.data / row.file))}
    models = {row.uid: row.model for row in rows}
    found = (copy(row, read(settings.data / row.file), own, models) for row in reports) if own else ()
    return tuple(c for c in found if c)


def copy(
    row: InstanceRow, said: "Document | None", own: "Mapping[str, Document]", models: Mapping[str, str]
) -> Copy | None:
    """own: every report that the node made of the study, the newest last; models: whose each is."""
    if said is None:
        return None
    replaced = [own[uid] for uid in said.predecessors if uid in own]
    ours = {
        f.tracking_uid: f for d in replaced or own.values() for f in d.findings if f.tracking_uid and not f.time_point
    }
    theirs = {f.tracking_uid: f for f in said.findings if f.tracking_uid in ours}
    if not replaced and not theirs:
        return None
    of = {models[uid] for uid in said.predecessors if uid in own}
    known = {f.tracking_uid for d in own.values() for f in d.findings}
    new = [f for f in said.findings if f.tracking_uid not in known and f.concept and not f.time_point]
    return Copy(
        sop_uid=row.sop_uid,
        calling_ae=row.calling_ae,
        who=", ".join(said.persons),
        signed=said.verified or bool(said.persons),
        replaces=bool(replaced),
        ours=ours,
        theirs=theirs,
        added={f.tracking_uid or uid_from(("added", row.sop_uid, f"{at}")): f for at, f in enumerate(new)},
        model=of.pop() if len(of) == 1 else "",
    )


def read(file: Path) -> "Document | None":
    from radnode_dicom_sr import read as parse

    try:
        return parse(file.read_bytes())
    except (OSError, ValueError) as e:
        log.warning("A report cannot be read back.", extra={"action": "edited", "why": type(e).__name__})
        return None


def changes_nothing(session: Session, study: StudyRow) -> bool:
    """Whether a study may stay as it is when only edited copies arrived: read, and no run of it was ended for their sake."""
    ended = exists().where(
        JobRow.study_uid == study.study_uid, JobRow.revision == study.revision, JobRow.state == JobState.STALE
    )
    return study.state == StudyState.READ and not session.scalar(select(ended))


def record(session: Session, study_uid: str, edited: Copy, now: float) -> None:
    """Keep what a copy says of the findings that stand, and tell it in the study's story. In the caller's transaction."""
    who = f"{edited.who or 'nobody named'} ({SOURCE})"
    made = [
        Verdict(
            study_uid=study_uid,
            model=model,
            tracking_uid=uid,
            said=said,
            ruling=ruling,
            comment=comment[:REMARK_LENGTH],
            who=who[:128],
            at=now,
        )
        for uid, (model, said) in standing(session, study_uid).items()
        for ruling, comment in [judge(edited, uid)]
        if ruling
    ] + additions(study_uid, edited, who, now)
    for verdict in made:
        verdicts.rule(session, verdict)
        because = f" ({verdict.comment})" if verdict.comment else ""
        sentence = f"A finding of {verdict.model} was {verdict.ruling} in a report from {edited.calling_ae}: {verdict.said}{because}."
        events.write(session, study_uid, Action.RULED, sentence, now)
    if not made:
        sentence = f"A copy of a report of the node came from {edited.calling_ae}; it says nothing new of a finding that stands."
        events.write(session, study_uid, Action.RETURNED, sentence, now)


def additions(study_uid: str, edited: Copy, who: str, now: float) -> list[Verdict]:
    """What a person found and the model had not, where a signed copy takes the place of one model's report."""
    if not (edited.signed and edited.model):
        return []
    found = {uid: described(finding)[:REMARK_LENGTH] for uid, finding in edited.added.items()}
    return [
        Verdict(
            study_uid=study_uid, model=edited.model, tracking_uid=uid, said=words, ruling=Ruling.ADDED, comment=words,
            who=who[:128], at=now,
        )
        for uid, words in found.items()
    ]  # fmt: skip


def described(finding: "ReadFinding") -> str:
    """ "Nodule, left, lung, Volume 1.2 ml"."""
    codes = (finding.concept, finding.laterality, finding.site)
    numbers = (f"{m.concept.meaning} {m.value:.4g} {m.unit.value}" for m in finding.measurements)
    return ", ".join([*(c.meaning for c in codes if c), *numbers])


def judge(edited: Copy, uid: str) -> tuple[Ruling | None, str]:
    """What a copy says of one finding, and in what words; None for nothing."""
    from radnode_dicom_sr.differences import denied, differences

    ours, theirs = edited.ours.get(uid), edited.theirs.get(uid)
    if ours is None:
        return None, ""
    if theirs is None:
        return (
            (Ruling.REJECTED, "it is not in the report that takes the place of ours") if edited.replaces else (None, "")
        )
    if denied(ours, theirs):
        return Ruling.REJECTED, "the report says that it is absent"
    said = differences(ours, theirs)
    if said:
        return Ruling.EDITED, "; ".join(said)
    return (Ruling.ACCEPTED, "") if edited.signed else (None, "")


def standing(session: Session, study_uid: str) -> Mapping[str, tuple[str, str]]:
    """Tracking UID -> the model and the words of each finding of the reports that stand."""
    rows = session.scalars(select(ReportRow).where(ReportRow.study_uid == study_uid)).all()
    reports = [r for row in rows if (r := triage.read(row.bundle, row.model, row.status)) and not r.retracted]
    return {
        a.tracking_uid: (r.model, abnormalities.describe(a))
        for r in reports
        for a in r.said.abnormalities
        if a.tracking_uid
    }
