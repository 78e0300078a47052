"""What other systems ordered: kept from their messages, and asked for what triage knows of a study beside its reports."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import priorities
from radnode.settings import ClassRule
from radnode.studies import StudySummary
from radnode.tables import StudyRow
from radnode.tables_triage import OrderRow
from radnode.triage import RANK, Context, Level

EXPECTED_DAYS = 7.0
UNSAID_STAYS = ("procedure", "patient_class", "level", "patient_name", "study_uid", "modality", "scheduled_at")
"""What a later message of an order need not say again: an empty field means "unchanged" (HL7 v2.5.1 section 2.5.3)."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One ordered examination. patient_class: emergency, inpatient, outpatient or "". said_at: MSH-7, as it was written.

    patient_name: as DICOM writes it. study_uid, modality, scheduled_at (as HL7 writes a time): "" where the order names none.

    order_number: the placer's as "P:NUMBER", else the filler's as "F:NUMBER"; filler: the filler's where both are named.
    other_ids: (identifier, issuer) of the same patient beside the first. level: None where the order names no priority.
    emptied: the names of fields that the message says are to be empty from now on; any other empty one was left unsaid.
    names_accession: False where another number had to stand for the accession number, as in many a short status message.
    """

    order_number: str
    accession_number: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_class: str = ""
    level: Level | None = None
    procedure: str = ""
    patient_name: str = ""
    study_uid: str = ""
    modality: str = ""
    scheduled_at: str = ""
    cancelled: bool = False
    said_at: str = ""
    emptied: frozenset[str] = frozenset()
    names_accession: bool = True
    filler: str = ""
    other_ids: tuple[tuple[str, str], ...] = ()

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """(identifier, issuer) of the patient, each that is known."""
        return ((self.patient_id, self.issuer_of_patient_id), *self.other_ids)

    @property
    def placer(self) -> str:
        """The placer's number alone, as it goes into messages; "" where only the filler's is known."""
        return self.order_number.removeprefix("P:") if self.order_number.startswith("P:") else ""


def keep(
    session: Session, order: Order, now: float, is_echo: Callable[[Session, OrderRow, Order, float], bool] | None = None
) -> bool:
    """The order as it stands now. False when a later message of the same order was kept before: that one holds.

    is_echo: whether the message only says the priority that its sender was told (`order_echoes`); None: none does.

    One placer's number may order several examinations, each with its accession number. A message that names none is about
    all of them.
    """
    of_number = of_order(session, order)
    rows = [r for r in of_number if r.accession_number == order.accession_number]
    rows = rows or ([] if order.names_accession else list(of_number))
    if not rows:
        rows = [OrderRow(order_number=order.order_number, accession_number=order.accession_number)]
        session.add_all(rows)
    older = [row for row in rows if not later(row.said_at or "", order.said_at)]
    for row in older:
        echo = is_echo is not None and is_echo(session, row, order, now)
        renew(row, replace(order, level=None) if echo else order, now)
    session.flush()
    return bool(older)


def of_order(session: Session, order: Order) -> list[OrderRow]:
    """The rows of an order: by its own number, else by the filler's, which is all that some messages of it name."""
    locked = select(OrderRow).order_by(OrderRow.id).with_for_update()  # two messages of it may come at once
    rows = list(session.scalars(locked.where(OrderRow.order_number == order.order_number)))
    if rows or not order.filler:
        return rows
    same = session.scalars(locked.where(OrderRow.filler_number == order.filler)).all()
    known = {number for number, _ in order.ids}
    either = (r for r in same if "F:" in (order.order_number[:2], r.order_number[:2]))
    return [r for r in either if r.patient_id in known]


def renew(row: OrderRow, order: Order, now: float) -> None:
    row.patient_id, row.issuer_of_patient_id = order.patient_id, order.issuer_of_patient_id
    row.other_ids = [list(other) for other in order.other_ids]
    row.filler_number = order.filler or row.filler_number or ""
    if order.placer:
        row.order_number = order.order_number
    if (order.level or "level" in order.emptied) and (order.level or "") != row.level:
        row.level_at = now
    for name in UNSAID_STAYS:
        if getattr(order, name) or name in order.emptied:
            setattr(row, name, getattr(order, name) or "")
    row.cancelled, row.said_at, row.updated_at = order.cancelled, order.said_at, now


def later(kept: str, came: str) -> bool:
    """Whether the message that is kept was written after the one that came (HL7 times; those that differ in zone are not told apart)."""
    first, second = kept[:14], came[:14]
    return bool(first and second) and len(first) == len(second) and kept[14:] == came[14:] and first > second


def of_accessions(session: Session, accessions: Sequence[str]) -> Mapping[str, tuple[Order, ...]]:
    """Accession number -> its orders that are not cancelled."""
    wanted = sorted({a for a in accessions if a})
    rows = session.scalars(
        select(OrderRow).where(OrderRow.accession_number.in_(wanted), OrderRow.cancelled.is_(False))
    ).all() if wanted else ()  # fmt: skip
    found: dict[str, list[Order]] = defaultdict(list)
    for row in rows:
        found[row.accession_number].append(from_row(row))
    return {accession: tuple(orders) for accession, orders in found.items()}


def expected(session: Session, now: float) -> tuple[Order, ...]:
    """The orders of the last EXPECTED_DAYS that are not cancelled and of which no image has come, the oldest first."""
    new = (OrderRow.updated_at >= now - EXPECTED_DAYS * 86400, OrderRow.cancelled.is_(False))
    wanted = [from_row(row) for row in session.scalars(select(OrderRow).where(*new).order_by(OrderRow.id))]
    numbers = {o.accession_number for o in wanted}
    query = select(StudyRow.accession_number, StudyRow.patient_id).where(StudyRow.accession_number.in_(numbers))
    here = {(number, patient) for number, patient in session.execute(query)}
    return tuple(o for o in wanted if not any((o.accession_number, i) in here for i in ("", *(n for n, _ in o.ids))))


def from_row(row: OrderRow) -> Order:
    return Order(
        order_number=row.order_number,
        accession_number=row.accession_number,
        patient_id=row.patient_id,
        issuer_of_patient_id=row.issuer_of_patient_id,
        patient_class=row.patient_class,
        level=Level(row.level) if row.level else None,
        procedure=row.procedure,
        patient_name=row.patient_name,
        study_uid=row.study_uid,
        modality=row.modality,
        scheduled_at=row.scheduled_at,
        cancelled=row.cancelled,
        said_at=row.said_at,
        filler=row.filler_number,
        other_ids=tuple((number, issuer) for number, issuer in row.other_ids),
    )


def contexts(
    session: Session, studies: Mapping[str, StudySummary], classes: Sequence[ClassRule]
) -> Mapping[str, Context]:
    """Study UID -> what its orders, the site's rules and people say of it."""
    ordered = of_accessions(session, [s.accession_number for s in studies.values()])
    people = priorities.standing(session, list(studies))
    return {
        uid: context(study, ordered.get(study.accession_number, ()), classes, people.get(uid))
        for uid, study in studies.items()
    }


def context(
    study: StudySummary, ordered: Sequence[Order], classes: Sequence[ClassRule], person: priorities.SetPriority | None
) -> Context:
    """Pure. An order of another patient with the same accession number says nothing of this study."""
    mine = [o for o in ordered if is_of(o, study)]
    levels = sorted((o.level for o in mine if o.level is not None), key=lambda level: RANK[level])
    said = {o.patient_class for o in mine if o.patient_class}
    patient_class = next((c for c in ("emergency", "inpatient", "outpatient") if c in said), "")
    class_from = " (order)" if patient_class else ""
    if not patient_class:
        patient_class = next((r.patient_class for r in classes if applies(r, study)), "")
        class_from = " (by the site's rule)" if patient_class else ""
    return Context(
        patient_class=patient_class,
        class_from=class_from,
        ordered=levels[0] if levels else None,
        set_level=person.level if person else None,
        comment=person.comment if person else "",
    )


def is_of(order: Order, study: StudySummary) -> bool:
    """Whether an identifier of the order's patient is the study's, and no other issuer's."""
    return any(
        (not number or not study.patient_id or number == study.patient_id)
        and len({issuer, study.issuer_of_patient_id} - {""}) < 2
        for number, issuer in order.ids
    )


def applies(rule: ClassRule, study: StudySummary) -> bool:
    words = study.study_description.upper().split()
    return study.calling_ae in rule.calling_aes or any(word.upper() in words for word in rule.words)
