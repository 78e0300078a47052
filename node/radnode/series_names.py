"""How people know the series of a study: modality, number and description, from the header of one of its objects."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from radnode.facts import texts
from radnode.route import SeriesFacts
from radnode.tables import InstanceRow
from radnode_inference.header import Header

KEYWORDS = ("Modality", "SeriesNumber", "SeriesDescription")


def of(session: Session, data: Path, study_uid: str) -> Mapping[str, str]:
    """Series Instance UID -> "CT 2 'Chest 2.5 mm soft'"; "" where no file of it is kept or can be read."""
    query = select(InstanceRow.series_uid, func.min(InstanceRow.file))
    query = query.where(InstanceRow.study_uid == study_uid, InstanceRow.current).group_by(InstanceRow.series_uid)
    return {series_uid: name(data / file) for series_uid, file in session.execute(query)}


def name(file: Path) -> str:
    try:
        header = Header.read(file)
        return SeriesFacts(series_uid="", attributes={k: texts(header, k) for k in KEYWORDS}).label
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # one odd header hides no study
        return ""
