"""What images that came again with other bytes correct of their study: whose it is, and what it is called.

A PACS that puts a patient right sends the same SOP Instance UIDs once more. The newest bytes count, so does what they say.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import events
from radnode.events import Action
from radnode.tables import InstanceRow, StudyRow
from radnode_inference.header import Header

OF_SERIES = frozenset({"body_part"})
"""What two series of one study may say differently."""
WORDS = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.")
"""The beginning of SOP classes of reports, selections and presentation states, which workstations save again under one UID."""
CHUNK = 500


def newest(session: Session, arrived: Sequence[InstanceRow], data: Path) -> Path | None:
    """The file of the last of these images that takes the place of an earlier version of itself; None when none does."""
    images = [r for r in arrived if r.current and r.gone_at is None and not r.sop_class_uid.startswith(WORDS)]
    uids = [r.sop_uid for r in images]
    replaced: set[str] = set()
    for start in range(0, len(uids), CHUNK):
        earlier = (InstanceRow.sop_uid.in_(uids[start : start + CHUNK]), InstanceRow.current.is_(False))
        query = select(InstanceRow.sop_uid).where(InstanceRow.study_uid == arrived[0].study_uid, *earlier)
        replaced.update(session.scalars(query))
    files = [r.file for r in images if r.sop_uid in replaced]
    return data / files[-1] if files else None


def correct(
    session: Session,
    study: StudyRow,
    header: Header,
    attributes: Mapping[str, str],
    limits: Mapping[str, int],
    now: float,
) -> None:
    """The study is now what `header` says. attributes: column of StudyRow -> DICOM keyword. Its story names what changed."""
    changed = []
    for column, keyword in attributes.items():
        value = header.text(keyword)[: limits.get(column)]
        if column not in OF_SERIES and header.raw(keyword) is not None and value != getattr(study, column):
            setattr(study, column, value)
            changed.append(keyword)
    if changed:
        sentence = f"Its images came again with another {', '.join(changed)}: that counts from now on."
        events.write(session, study.study_uid, Action.CORRECTED, sentence, now)
