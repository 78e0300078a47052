"""Which studies the worklist and the notices look at, and which read ones a finding that came later brings back."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Select, func, select, union
from sqlalchemy.orm import Session

from radnode.fetches import as_prior_only
from radnode.readings import read_studies
from radnode.settings import TriageRule
from radnode.tables import ReportRow, StudyRow
from radnode.tables_triage import NoticeRow, ReadingRow
from radnode.triage import RANK, Level, Report, verdict
from radnode_fhir.read import Abnormality
from radnode_inference.findings import Code

RECENT_DAYS = 7.0
NAMED = 30_000  # values that a statement may hold: SQLite has 32,766, PostgreSQL twice as many
AFTER_READING = "AI finding after reading"


def recently(now: float) -> Select[str]:
    """The studies of the last RECENT_DAYS that nobody has read, and the read ones of which a report came or changed since.

    Not those that are here as earlier studies of others only: nobody waits for them.
    """
    since = now - RECENT_DAYS * 86400
    unread = select(StudyRow.study_uid).where(
        StudyRow.last_instance_at >= since, StudyRow.study_uid.not_in(read_studies()), ~as_prior_only()
    )
    changed = select(ReportRow.study_uid).join(ReadingRow, ReadingRow.study_uid == ReportRow.study_uid)
    changed = changed.where(ReportRow.updated_at >= since, ReportRow.updated_at > ReadingRow.at)
    return select(union(unread, changed).subquery().c.study_uid)


def all_to_read(session: Session) -> int:
    """How many studies there are, read or not, without those that are here as earlier studies of others only."""
    return session.scalar(select(func.count()).select_from(StudyRow).where(~as_prior_only())) or 0


def told(now: float) -> Select[str]:
    """The studies, however old and whether they were read or not, of which others were told before a report changed."""
    changed = select(NoticeRow.study_uid).join(ReportRow, ReportRow.study_uid == NoticeRow.study_uid)
    return changed.where(
        ReportRow.updated_at >= now - RECENT_DAYS * 86400, ReportRow.updated_at > NoticeRow.at
    ).distinct()


def fixed(session: Session, chosen: Select[str]) -> Select[str]:
    """The same studies by their UIDs, so that they are looked for once and not in every query about them."""
    uids = session.scalars(chosen).all()
    return select(StudyRow.study_uid).where(StudyRow.study_uid.in_(uids)) if len(uids) <= NAMED else chosen


def read_before(session: Session, chosen: Select[str]) -> Mapping[str, ReadingRow]:
    """The readings that stand of the studies that `chosen` selects."""
    rows = select(ReadingRow).join(StudyRow, StudyRow.study_uid == ReadingRow.study_uid)
    rows = rows.where(ReadingRow.study_uid.in_(chosen.scalar_subquery()), ReadingRow.revision == StudyRow.revision)
    return {row.study_uid: row for row in session.scalars(rows)}


def after(
    reading: ReadingRow, reports: Sequence[Report], policy: Sequence[TriageRule], patient_class: str
) -> float | None:
    """Since when a finding stands that is new or worse than what the AIs had said when the study was read; None: none does.

    Only what the policy puts above ROUTINE counts, and what a person confirmed does not: that person has seen it. On the other
    side the same is new.
    """
    standing = [r for r in reports if not r.retracted]

    def rank(seen: Abnormality, by: str) -> int:
        return RANK[verdict(seen, policy, patient_class, by, standing).level]

    said = [(seen, rank(seen, model)) for model, seen in known(reading)]

    def worst(found: Abnormality) -> int:
        same = (of for seen, of in said if seen.concept.value == found.concept.value and covers(seen, found))
        return min(same, default=RANK[Level.ROUTINE])

    came = [
        report.changed_at
        for report in standing
        if report.changed_at > reading.at and not report.said.confirmed_by
        for seen in report.said.abnormalities
        if rank(seen, report.by) < worst(seen)
    ]
    return min(came, default=None)


def covers(known: Abnormality, found: Abnormality) -> bool:
    """Whether what was known may be on the same side as what was found."""
    return "" in (known.laterality, found.laterality) or known.laterality in ("bilateral", found.laterality)


def known(reading: ReadingRow) -> list[tuple[str, Abnormality]]:
    """What the AIs had said when the study was read: each finding with the name of what made it."""
    return [(str(kept["by"]), abnormality(kept)) for kept in reading.known]


def abnormality(kept: Mapping[str, object]) -> Abnormality:
    def number(name: str) -> float | None:
        value = kept[name]
        return float(value) if isinstance(value, int | float) else None

    return Abnormality(
        concept=Code(value=str(kept["concept"]), scheme="", meaning=""),
        probability=number("probability"),
        volume_ml=number("volume_ml"),
        long_axis_mm=number("long_axis_mm"),
        laterality=str(kept.get("laterality", "")),
        site="",
        tracking_uid="",
        critical=bool(kept["critical"]),
        codes=frozenset(str(code) for code in codes) if isinstance(codes := kept.get("codes"), list) else frozenset(),
    )
