"""C-FIND at the study root: what a system has. PS3.4 annex C.6.2."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from radnode.destinations.dimse import Pacs, hang_up
from radnode.destinations.dimse_commit import EXPLICIT, IMPLICIT, PENDING, STUDY_ROOT_FIND, check
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address

MOST = 5000
"""Answers to one query that are looked at."""
NO_IMAGES = frozenset({
    "SR", "PR", "KO", "DOC", "REG", "RTPLAN", "RTDOSE", "RTRECORD", "AU", "ECG", "PLAN", "FID", "RWV", "ANN",
})  # fmt: skip
"""Modalities of series that no model reads: a study without them is no part. PS3.3 section C.7.3.1.1.1."""
STUDY_KEYS = (
    "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "AccessionNumber", "StudyDescription", "ModalitiesInStudy", "BodyPartExamined", "NumberOfStudyRelatedInstances",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Found:
    """A study as another system describes it. instances: None where it does not count them."""

    study_uid: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    description: str = ""
    modalities: tuple[str, ...] = ()
    body_part: str = ""
    instances: int | None = None


@contextmanager
def finding(address: Address, *, calling_ae: str, timeout_s: float) -> Iterator["Finder"]:
    """An association for queries. Raises DeliveryError."""
    contexts = [(STUDY_ROOT_FIND, EXPLICIT), (STUDY_ROOT_FIND, IMPLICIT)]
    association = Pacs(address, calling_ae, timeout_s).associate(contexts)
    try:
        if not association.accepted_contexts:
            raise DeliveryError("it takes no queries (C-FIND at the study root)")
        yield Finder(association)
    finally:
        if association.is_established:
            association.release()
        hang_up(association)


class Finder:
    """An open way to ask."""

    def __init__(self, association: Any) -> None:
        self._association = association

    def studies(self, **keys: str) -> tuple[Found, ...]:
        """The studies that match DICOM keywords (PS3.4 section C.2.2.2). Raises DeliveryError."""
        answers = self._ask("STUDY", dict.fromkeys(STUDY_KEYS, "") | keys)
        if len(answers) >= MOST:
            raise DeliveryError(
                f"it has {MOST} such studies or more, of which not all are looked at: ask for fewer days"
            )
        return each_once(study_of(a) for a in answers if a.get("StudyInstanceUID"))

    def series(self, study_uid: str) -> Mapping[str, int | None]:
        """Series Instance UID -> how many images it has, None where that is not said. Raises DeliveryError."""
        return {
            str(a.SeriesInstanceUID): number(a.get("NumberOfSeriesRelatedInstances"))
            for a in self._series(study_uid)
            if str(a.get("Modality") or "") not in NO_IMAGES
        }

    def images(self, study_uid: str, series_uid: str) -> int | None:
        """How many objects of a series it lists, each once; None for none, or for more than are looked at. Raises DeliveryError."""
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": ""}
        answers = self._ask("IMAGE", keys)
        listed = {str(a.get("SOPInstanceUID") or "") for a in answers} - {""}
        return len(listed) or None if len(answers) < MOST else None

    def _series(self, study_uid: str) -> list[Dataset]:
        wanted = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "NumberOfSeriesRelatedInstances": ""}
        return [a for a in self._ask("SERIES", wanted | {"Modality": ""}) if a.get("SeriesInstanceUID")]

    def sop_classes(self, study_uid: str) -> frozenset[str]:
        """The SOP classes of a study's objects; none where the system does not say. Raises DeliveryError."""
        whole = self._ask("STUDY", {"StudyInstanceUID": study_uid, "SOPClassesInStudy": ""})
        named = {str(uid) for a in whole for uid in several(a.get("SOPClassesInStudy"))}
        for series_uid in () if named else (str(a.SeriesInstanceUID) for a in self._series(study_uid)):
            keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": ""}
            named |= {str(a.get("SOPClassUID") or "") for a in self._ask("IMAGE", keys | {"SOPClassUID": ""})}
        return frozenset(named - {""})

    def _ask(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        query = Dataset()
        if not all(value.isascii() for value in keys.values()):  # else pydicom would write "?", which matches anything
            query.SpecificCharacterSet = "ISO_IR 192"
        query.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(query, keyword, value or None)
        found: list[Dataset] = []
        unreadable = 0
        status = Dataset()
        for status, identifier in self._association.send_c_find(query, STUDY_ROOT_FIND):
            if status.get("Status") in PENDING and identifier is None:
                unreadable += 1
            elif status.get("Status") in PENDING and len(found) < MOST:
                found.append(identifier)
        check(status, "C-FIND")
        if unreadable:  # what they speak of would be taken for nothing
            raise DeliveryError(f"{unreadable} of its answers to C-FIND cannot be read")
        return found


def each_once(found: Iterable[Found]) -> tuple[Found, ...]:
    """Some systems list a study once for each place where it lies, or each modality: the answer that counts most stands."""
    kept: dict[str, Found] = {}
    for study in found:
        before = kept.get(study.study_uid)
        if before is None or (study.instances or 0) > (before.instances or 0):
            kept[study.study_uid] = study
    return tuple(kept.values())


def study_of(a: Dataset) -> Found:
    return Found(
        study_uid=str(a.StudyInstanceUID),
        patient_id=str(a.get("PatientID") or "").strip(),
        issuer_of_patient_id=str(a.get("IssuerOfPatientID") or ""),
        patient_birth_date=str(a.get("PatientBirthDate") or ""),
        patient_sex=str(a.get("PatientSex") or ""),
        study_date=str(a.get("StudyDate") or ""),
        study_time=str(a.get("StudyTime") or ""),
        accession_number=str(a.get("AccessionNumber") or ""),
        description=str(a.get("StudyDescription") or ""),
        modalities=tuple(map(str, several(a.get("ModalitiesInStudy")))),
        body_part=str(a.get("BodyPartExamined") or ""),
        instances=number(a.get("NumberOfStudyRelatedInstances")),
    )


def several(value: Any) -> tuple[Any, ...]:
    """The values of an element, of which there may be none, one or more."""
    return () if not value else (value,) if isinstance(value, str) else tuple(value)


def number(value: Any) -> int | None:
    """A count of what there is. Some systems say 0, or less, of a study that they list: they do not count."""
    try:
        return max(0, int(str(value))) or None
    except ValueError:
        return None
