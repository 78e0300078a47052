"""Earlier studies of the same patient that the node holds, for models to compare with.

The same patient: equal Patient ID and issuer, and no birth date or sex that says otherwise (hospitals use an ID twice). Where
a birth date is missing, names that have no word in common say otherwise too: an ID such as UNKNOWN is everybody's.
Only whole studies count: one that is still arriving, of which others say that there is more, or whose fetch broke off
could look as if something had been missing then.
"""

import re
import unicodedata

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from radnode import fetches
from radnode.complete import input_files
from radnode.states import StudyState
from radnode.tables import StudyRow

MOST = 3
RESULTS = frozenset({"SR", "SEG", "PR", "KO", "OT", "DOC", "REG", "RTSTRUCT"})
"""Modalities of what is made of images; two studies are of one kind when they share any other."""


def prior_studies(session: Session, study_uid: str) -> tuple[str, ...]:
    """The UIDs of at most three earlier studies of the patient with a common modality, the newest first."""
    study = session.get(StudyRow, study_uid)
    if study is None or not study.patient_id or not study.study_date:
        return ()
    earlier = select(StudyRow).where(
        StudyRow.patient_id == study.patient_id,
        StudyRow.issuer_of_patient_id == study.issuer_of_patient_id,
        StudyRow.study_date != "",
        or_(
            StudyRow.study_date < study.study_date,
            and_(
                StudyRow.study_date == study.study_date,
                StudyRow.study_time != "",
                StudyRow.study_time < study.study_time,
            ),
        ),
        StudyRow.state != StudyState.RECEIVING,
        StudyRow.provisional == "",
    )
    found = [
        row.study_uid
        for row in session.scalars(earlier.order_by(StudyRow.study_date.desc(), StudyRow.study_time.desc()))
        if images(row) & images(study) and nobody_else(row, study) and not fetches.unfinished(session, row)
    ]
    return tuple(found[:MOST])


def prior_files(session: Session, study_uid: str) -> tuple[tuple[str, ...], ...]:
    """The files of those studies, relative to the data folder."""
    found = (input_files(session, uid) for uid in prior_studies(session, study_uid))
    return tuple(files for files in found if files)


def images(study: StudyRow) -> set[str]:
    return set(study.modalities.split("\\")) - RESULTS - {""}


def nobody_else(one: StudyRow, other: StudyRow) -> bool:
    """Whether what the two say of the patient does not contradict."""
    pairs = (
        (one.patient_birth_date, other.patient_birth_date),
        (one.patient_sex, other.patient_sex),
    )
    born = one.patient_birth_date and other.patient_birth_date
    return all(not a or not b or a == b for a, b in pairs) and bool(born or alike(one.patient_name, other.patient_name))


def alike(one: str, other: str) -> bool:
    """Whether two names may be one person's: a word in common, in whatever writing; or one of them says nothing."""
    names = [set(re.findall(r"\w+", unicodedata.normalize("NFKC", n).casefold())) for n in (one, other)]
    return not all(names) or bool(names[0] & names[1])
