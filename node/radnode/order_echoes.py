"""A RIS that was told a priority and sends it back in every later message of the order: that is no order of its own.

Only where the settings say that the RIS does so (`[hl7] echoes`): else such a message counts as ordered, since it looks like
one of a person who set it.
"""

from collections.abc import Iterator

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from radnode import events, orders
from radnode.destinations import PRIORITY
from radnode.events import Action
from radnode.orders import Order
from radnode.states import DeliveryState
from radnode.studies import summary
from radnode.tables import DeliveryRow, EventRow, ResultRow, StudyRow
from radnode.tables_triage import NoticeRow, OrderRow


def is_echo(session: Session, row: OrderRow, order: Order, now: float) -> bool:
    """Whether a message says of a kept order what others were told last, and nothing else was said of it since.

    row: the order as its messages before this one left it.
    """
    if order.level is None or order.level == row.level or row.id is None:
        return False
    for study, notice in told(session, row, order):
        if notice.level == order.level and row.level_at <= notice.at:
            sentence = f"Its order says {notice.level}, as it was told: that does not count as ordered."
            said = (EventRow.study_uid == study.study_uid, EventRow.sentence == sentence, EventRow.at >= notice.at)
            if session.scalar(select(EventRow.id).where(*said).limit(1)) is None:
                events.write(session, study.study_uid, Action.PRIORITY, sentence, now)
            return True
    return False


def told(session: Session, row: OrderRow, order: Order) -> Iterator[tuple[StudyRow, NoticeRow]]:
    """The studies of an order, and of the patient whom the message names, whose priority others were told, and took."""
    taken = exists().where(
        ResultRow.study_uid == StudyRow.study_uid, ResultRow.kind == PRIORITY, ResultRow.current,
        DeliveryRow.result_uid == ResultRow.uid, DeliveryRow.state == DeliveryState.DELIVERED,
    )  # fmt: skip
    query = select(StudyRow, NoticeRow).join(NoticeRow, NoticeRow.study_uid == StudyRow.study_uid)
    for study, notice in session.execute(query.where(StudyRow.accession_number == row.accession_number, taken)):
        if row.accession_number and orders.is_of(order, summary(study)):
            yield study, notice
