"""The worklist as a C-FIND answer: the Modality Worklist information model (PS3.4 annex K), one item for each study to be read.

In the order of the worklist, with Requested Procedure Priority (0040,1003): a RIS or PACS asks for the order in which it is to
be read. After them come the orders of which no image has arrived. Scheduled Procedure Step Status (0040,0020) tells the two
apart: STARTED, SCHEDULED. Not a scheduler of modalities: no time or machine is assigned here. Pure.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from radnode.errors import RefusedError
from radnode.orders import Order
from radnode.triage import RANK, Level
from radnode.worklist import Entry

FIND = "1.2.840.10008.5.1.4.31"
"""Modality Worklist Information Model – FIND. PS3.4 section K.5."""
PENDING, PENDING_WITHOUT_SOME = 0xFF00, 0xFF01
"""PS3.4 section K.4.1.1.4: the second where a key of the request is not kept here."""
OBJECTS = frozenset({"SR", "SEG", "PR", "KO", "DOC", "RTSTRUCT"})
"""Modalities that no reading room means by its own."""
TEXT = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"})
CONTROL = frozenset({"SpecificCharacterSet", "TimezoneOffsetFromUTC"})
LENGTHS = {"LO": 64, "SH": 16, "LT": 10240}
NEVER_CUT = frozenset(
    {"PatientID", "IssuerOfPatientID", "AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID"}
)
"""A part of a number is another number: one that does not fit its VR is left out."""
Value = Callable[[Entry], str]


def modality(entry: Entry) -> str:
    """The one that the study was made with."""
    there = entry.study.modalities.split("\\")
    return next((m for m in there if m and m not in OBJECTS), there[0])


KEYS: Mapping[str, Value] = {
    "PatientName": lambda e: e.study.patient_name,
    "PatientID": lambda e: e.study.patient_id,
    "IssuerOfPatientID": lambda e: e.study.issuer_of_patient_id,
    "PatientBirthDate": lambda e: e.study.patient_birth_date,
    "PatientSex": lambda e: e.study.patient_sex,
    "AccessionNumber": lambda e: e.study.accession_number,
    "StudyInstanceUID": lambda e: e.study.study_uid,
    "RequestedProcedureID": lambda e: e.study.accession_number,
    "RequestedProcedureDescription": lambda e: e.study.study_description,
    "RequestedProcedurePriority": lambda e: e.level.value,
    "RequestedProcedureComments": lambda e: e.reason,
}
"""The keys of a study that are kept here. PS3.4 table K.6-1."""
STEP_KEYS: Mapping[str, Value] = {
    "Modality": modality,
    "ScheduledStationAETitle": lambda e: e.study.calling_ae,
    "ScheduledProcedureStepStartDate": lambda e: e.study.study_date,
    "ScheduledProcedureStepStartTime": lambda e: e.study.study_time,
    "ScheduledProcedureStepDescription": lambda e: e.study.study_description,
    "ScheduledProcedureStepID": lambda e: e.study.accession_number,
    "ScheduledProcedureStepStatus": lambda _: "STARTED",
    "ScheduledPerformingPhysicianName": lambda _: "",
}
"""Those of its Scheduled Procedure Step Sequence (0040,0100)."""


ORDER_KEYS: Mapping[str, Callable[[Order], str]] = {
    "PatientName": lambda o: o.patient_name,
    "PatientID": lambda o: o.patient_id,
    "IssuerOfPatientID": lambda o: o.issuer_of_patient_id,
    "AccessionNumber": lambda o: o.accession_number,
    "StudyInstanceUID": lambda o: o.study_uid,
    "RequestedProcedureID": lambda o: o.accession_number,
    "RequestedProcedureDescription": lambda o: o.procedure,
    "RequestedProcedurePriority": lambda o: o.level.value if o.level else "ROUTINE",
    "RequestedProcedureComments": lambda _: "Ordered; no image has arrived.",
}
ORDER_STEP_KEYS: Mapping[str, Callable[[Order], str]] = {
    "Modality": lambda o: o.modality,
    "ScheduledProcedureStepStartDate": lambda o: o.scheduled_at[:8],
    "ScheduledProcedureStepStartTime": lambda o: re.split(r"[-+.]", o.scheduled_at[8:])[0],
    "ScheduledProcedureStepDescription": lambda o: o.procedure,
    "ScheduledProcedureStepID": lambda o: o.accession_number,
    "ScheduledProcedureStepStatus": lambda _: "SCHEDULED",
}
"""The same of an order; keys that it does not have are empty."""


def answers(
    request: Dataset, entries: Sequence[Entry], expected: Sequence[Order] = ()
) -> Iterator[tuple[int, Dataset]]:
    """(status, identifier) of what matches: the studies, the first to read first, then the orders by their priority.

    Raises RefusedError for no request of this model.
    """
    if any(e.VR == "SQ" and len(e.value) > 1 for e in request):
        raise RefusedError("a sequence of the request has more than one item")
    later = sorted(expected, key=lambda o: RANK[o.level or Level.ROUTINE])
    for item in (*map(study, entries), *map(ordered, later)):
        if matches(request, item):
            yield (PENDING if kept(request, item) else PENDING_WITHOUT_SOME), shaped(request, item)


def study(entry: Entry) -> Dataset:
    """Every key that is kept here, of one study."""
    return item_of({k: value(entry) for k, value in KEYS.items()}, {k: value(entry) for k, value in STEP_KEYS.items()})


def ordered(order: Order) -> Dataset:
    """The same of one order."""
    known = {k: value(order) for k, value in ORDER_KEYS.items()}
    step = {k: value(order) for k, value in ORDER_STEP_KEYS.items()}
    return item_of(dict.fromkeys(KEYS, "") | known, dict.fromkeys(STEP_KEYS, "") | step)


def item_of(values: Mapping[str, str], of_step: Mapping[str, str]) -> Dataset:
    made, step = Dataset(), Dataset()
    for of, dataset in ((values, made), (of_step, step)):
        for keyword, value in of.items():
            put(dataset, keyword, value)
    made.ScheduledProcedureStepSequence = Items([step])
    return made


def put(made: Dataset, keyword: str, text: str) -> None:
    """Set a value, as long as its VR allows (PS3.5 table 6.2-1)."""
    setattr(made, keyword, "")
    element = made[keyword]
    fits = text[: LENGTHS.get(element.VR, len(text))]
    element.value = "" if keyword in NEVER_CUT and fits != text else fits


def matches(request: Dataset, item: Dataset) -> bool:
    """PS3.4 section C.2.2.2: every key with a value that is kept here must match; an empty one matches anything."""
    return all(matched(key, item) for key in request if key.keyword not in CONTROL)


def matched(key: DataElement, item: Dataset) -> bool:
    if key.VR == "SQ":
        wanted = key.value[0] if key.value else Dataset()
        there = item[key.tag].value if key.tag in item else [Dataset()]
        return any(matches(wanted, one) for one in there)
    if key.is_empty or key.tag not in item:
        return True
    return same(key, str(item[key.tag].value or ""))


def same(key: DataElement, value: str) -> bool:
    """One key against one value: list of UIDs, range of dates or times, wildcards in text."""
    wanted = [str(v) for v in key.value] if key.VM > 1 else [str(key.value)]
    if key.VR in ("UI", "CS") and key.VM > 1:
        return value in wanted
    if key.VR in ("DA", "TM"):
        return within(wanted[0], value)
    if key.VR not in TEXT:
        return value == wanted[0]
    if key.VR == "PN":  # any of its groups: by letters, by ideographs, by sound (PS3.5 section 6.2.1.2)
        return any(like(v, w) for w in groups(wanted) if w for v in groups([value]))
    return any(like(value, w) for w in wanted)


def groups(names: Sequence[str]) -> list[str]:
    return [group.upper().rstrip("^ ") for name in names for group in name.split("=")]


def like(value: str, wanted: str) -> bool:
    """Wildcard matching (PS3.4 section C.2.2.2.4)."""
    return fnmatch.fnmatchcase(value.strip(), re.sub(r"([\[\]])", r"[\1]", wanted.strip()))


def within(wanted: str, value: str) -> bool:
    """Range matching (PS3.4 section C.2.2.2.5): FROM-TO, either end open. Times are compared as far as both go."""
    start, dash, end = wanted.partition("-")
    if not dash:
        return value.startswith(start) or start.startswith(value) if value else False
    return bool(value) and (not start or value[: len(start)] >= start) and (not end or value[: len(end)] <= end)


def kept(request: Dataset, item: Dataset) -> bool:
    """Whether every key that was asked for is one of those here."""
    for key in request:
        if key.keyword in CONTROL or key.tag.element == 0:
            continue
        if key.tag not in item:
            return False
        if key.VR == "SQ" and key.value and not kept(key.value[0], item[key.tag].value[0]):
            return False
    return True


def shaped(request: Dataset, item: Dataset) -> Dataset:
    """What was asked for and nothing else; keys that are not kept here are empty."""
    made = Dataset()
    for key in request:
        if key.keyword in CONTROL or key.tag.element == 0:
            continue
        if key.VR == "SQ":
            there = item[key.tag].value if key.tag in item else []
            wanted = key.value[0] if key.value else None
            made.add_new(
                key.tag,
                "SQ",
                Items([one if wanted is None or not len(wanted) else shaped(wanted, one) for one in there]),
            )
        else:
            made.add_new(key.tag, key.VR, item[key.tag].value if key.tag in item else None)
    made.SpecificCharacterSet = "ISO_IR 192"
    return made
