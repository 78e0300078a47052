"""HL7 v2 orders (ORM^O01, OMI^O23 and their like) as the node keeps them. Pure.

Reads HL7 v2.1 to v2.8 with python-hl7; only the fields that triage needs, wherever a version has them.
"""

import codecs
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import hl7

from radnode.final_reports import Final
from radnode.hl7.parts import by_patient
from radnode.orders import Order
from radnode.triage import Level

TAKEN = frozenset({("ORM", "O01"), ("OMI", "O23"), ("OMG", "O19")})
REPORT = ("ORU", "R01")
"""Taken as well where the settings say that a final report marks its study as read."""
CLASSES: Mapping[str, str] = {
    "E": "emergency",
    "I": "inpatient",
    "O": "outpatient",
    "P": "inpatient",
    "R": "outpatient",
}
"""PV1-2 (table 0004); preadmitted counts as inpatient, recurring as outpatient; others say nothing."""
LEVELS: Mapping[str, Level] = {
    "S": Level.STAT, "STAT": Level.STAT, "A": Level.HIGH, "ASAP": Level.HIGH, "C": Level.HIGH, "P": Level.HIGH,
    "R": Level.ROUTINE, "ROUTINE": Level.ROUTINE, "PRN": Level.ROUTINE, "T": Level.ROUTINE,
    "EMERGENCY": Level.STAT, "URGENT": Level.HIGH, "HIGH": Level.HIGH,
    "NORMAL": Level.ROUTINE, "MEDIUM": Level.ROUTINE, "LOW": Level.ROUTINE,
}  # fmt: skip
"""TQ1-9 (table 0485), ORC-7.6 and OBR-27.6: callback and preoperative are read soon; "timing critical" is not about reading.

The last six are of no table, and plain enough that systems which send them mean nothing else.
"""
CANCELLED = frozenset({"CA", "OC", "DC", "OD", "CR", "DR"})
"""ORC-1 (table 0119): cancelled, discontinued, by either side."""
ENDED = frozenset({"CA", "DC"})
"""ORC-5 (table 0038): the order's status is cancelled or discontinued, whatever ORC-1 says of the message."""
NULL = '""'
"""The null value: what was said before is to be deleted (HL7 v2.5.1 section 2.5.3)."""
PLACES: Mapping[str, Sequence[tuple[str, int, int]]] = {
    "patient_class": (("PV1", 2, 1),),
    "level": (("TQ1", 9, 1), ("ORC", 7, 6), ("OBR", 27, 6), ("OBR", 5, 1)),
    "procedure": (("OBR", 4, 2), ("OBR", 4, 1)),
    "patient_name": (("PID", 5, 1),),
    "study_uid": (("IPC", 3, 1),),
    "modality": (("IPC", 5, 1), ("OBR", 24, 1)),
    "scheduled_at": (("TQ1", 7, 1), ("ORC", 7, 4), ("OBR", 36, 1)),
}
"""What a message may leave unsaid or delete -> where it says it: segment, field, component; the first that says anything."""
CHARACTER_SETS: Mapping[str, str] = {
    "ASCII": "ascii", "8859/1": "iso-8859-1", "8859/2": "iso-8859-2", "8859/5": "iso-8859-5", "8859/9": "iso-8859-9",
    "8859/15": "iso-8859-15", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "ISO IR87": "iso2022_jp", "BIG-5": "big5",
    "GB 18030-2000": "gb18030",
}  # fmt: skip
"""MSH-18 (table 0211) -> Python."""
JAPANESE = frozenset({"ISO IR14", "ISO IR87", "ISO IR159"})
"""Sets that escape sequences bring in, so that they may stand second in MSH-18, after one or none."""
PLAIN_NAMES = ("utf", "iso8859", "cp125", "big5", "gb", "euc", "shift_jis")
"""How names of character sets of text begin, as Python knows those that are of no table but sent."""
LONGEST_NUMBER = 250
"""Characters of a placer's or filler's number."""


class MessageError(Exception):
    """A message that is not kept as an order. answer: AE or AR. number: HL7 table 0357. The sentence has no patient data."""

    def __init__(self, answer: str, number: str, sentence: str, where: str = "") -> None:
        super().__init__(sentence)
        self.answer, self.number, self.where = answer, number, where


@dataclass(frozen=True, kw_only=True)
class Received:
    """A message that was understood. control_id: MSH-10. orders: one for each ORC or OBR. finals: what it says was read.

    remark: what of it was not understood although it is kept, without the value; "" for nothing.
    """

    control_id: str
    orders: tuple[Order, ...]
    finals: tuple[Final, ...] = ()
    remark: str = ""


def decoded(raw: bytes, encoding: str) -> str:
    """The text, in the character set that MSH-18 names. Raises MessageError for bytes that are not of it."""
    cells = re.split(rb"[\r\n]", raw, maxsplit=1)[0].split(raw[3:4]) if len(raw) > 8 else []
    named = cells[17].decode("ascii", "replace") if len(cells) > 17 else ""
    try:
        return raw.decode(character_set([name.strip() for name in named.split("~")], encoding))
    except (UnicodeDecodeError, LookupError) as e:
        raise MessageError(
            "AE", "102", "The text is not of the character set that MSH-18 or the settings name.", "MSH^1^18"
        ) from e


def character_set(named: Sequence[str], encoding: str) -> str:
    """Python's name of what MSH-18 names; `encoding` where it names nothing, or nothing that is known."""
    if JAPANESE & set(named):
        return "iso2022_jp_ext"
    first = next((name for name in named if name), "")
    if first in CHARACTER_SETS:
        return CHARACTER_SETS[first]
    try:
        found = codecs.lookup(first.upper().removeprefix("UNICODE ").replace("/", "-")).name
    except LookupError:
        return encoding
    return found if found.replace("-", "").startswith(PLAIN_NAMES) else encoding


def parsed(text: str) -> hl7.Message:
    """Raises MessageError for what is no HL7 message."""
    lines = text.replace("\r\n", "\r").replace("\n", "\r").strip("\r")
    try:
        if not lines.startswith("MSH") or len(lines) < 9:
            raise ValueError("no MSH")
        message = hl7.parse(lines + "\r")
        if not value(message, "MSH", 10):
            raise MessageError("AE", "101", "MSH-10, the control ID, is missing.", "MSH^1^10")
    except (hl7.HL7Exception, ValueError, KeyError, IndexError) as e:
        raise MessageError("AR", "100", "This is no HL7 v2 message.") from e
    return message


def understood(message: hl7.Message, read_by: Collection[str] = ()) -> Received:
    """The orders of a message, and what it says was read (read_by: as in the settings).

    Raises MessageError that says what is wrong, and where.
    """
    kind = (value(message, "MSH", 9, 1), value(message, "MSH", 9, 2))
    if kind == REPORT and "final-report" in read_by:
        read = tuple(f for part in by_patient(message) for f in finals(part, read_by))
        return Received(control_id=value(message, "MSH", 10), orders=(), finals=read)
    if kind not in TAKEN:
        raise MessageError("AR", "200", "Only ORM^O01, OMI^O23 and OMG^O19 are taken here.", "MSH^1^9")
    if not value(message, "MSH", 12).startswith("2."):
        raise MessageError("AR", "203", "Only HL7 version 2 is taken here.", "MSH^1^12")
    message = of_one_patient(message, kind)
    groups = [g for g in grouped(message) if "OBR" in g or is_ended(message, g)]
    if not groups:
        raise MessageError("AE", "100", "The message holds no order: an OBR segment is missing.", "OBR")
    ordered = tuple(order(message, g) for g in groups)
    words = [first(message, g, PLACES["level"]).upper() for g in groups]
    strange = any(word not in LEVELS for word in words if word not in ("", NULL))
    return Received(
        control_id=value(message, "MSH", 10),
        orders=ordered,
        finals=finals(message, read_by),
        remark="A priority (TQ1-9, ORC-7, OBR-27 or OBR-5) is in no word that is known: it counts for nothing."
        if strange
        else "",
    )


def of_one_patient(message: hl7.Message, kind: tuple[str, str]) -> hl7.Message:
    """The same; of an OMG without the earlier orders that stand behind a second PID (PRIOR_RESULT, v2.5.1 section 4.4.4).

    Raises MessageError where it is of several patients: nobody could say whose an order is.
    """
    first, *others = by_patient(message)
    if any(not set(patients(part)) & set(patients(first)) for part in others):
        raise MessageError("AE", "100", "The message is of several patients: send one for each.", "PID")
    return first if kind == ("OMG", "O19") else message


def finals(message: hl7.Message, read_by: Collection[str]) -> tuple[Final, ...]:
    """The examinations of a message that a person reported. OBR-25 (table 0123): F final, C corrected; ORC-5: CM completed."""
    made = []
    for group in (g for g in grouped(message) if "OBR" in g):
        final = "final-report" in read_by and of(message, group, "OBR", 25).upper() in ("F", "C")
        completed = "completed-order" in read_by and of(message, group, "ORC", 5).upper() == "CM"
        if final or completed:
            made.append(
                Final(
                    accession_number=accession(message, group),
                    patient_ids=frozenset(value for value, _ in patients(message)),
                    who=who(message, group),
                )
            )
    return tuple(made)


def who(message: hl7.Message, group: "Group") -> str:
    """OBR-32, the principal result interpreter (NDL or CM: its first component is the person), else who sent the message."""
    parts = str(group["OBR"][32]) if len(group["OBR"]) > 32 else ""
    names = parts.split("~")[0].split("^")[0].split("&")[1:3]
    return " ".join(n for n in reversed(names) if n) or value(message, "MSH", 3) or "the RIS"


Group = dict[str, hl7.Segment]


def grouped(message: hl7.Message) -> list[Group]:
    """The segments of each order by name, the first of each: a group begins with ORC, or with OBR where there is none.

    Each further IPC of an order is an examination of its own, with everything else that was said before it.
    """
    groups: list[Group] = []
    for segment in message:
        name = str(segment[0])
        if name == "IPC" and groups and "IPC" in groups[-1]:
            groups.append({k: v for k, v in groups[-1].items() if k != "IPC"})
        if name == "ORC" or (name == "OBR" and (not groups or "OBR" in groups[-1])):
            groups.append({})
        if groups:
            groups[-1].setdefault(name, segment)
    return groups


def order(message: hl7.Message, group: Group) -> Order:
    placer = of(message, group, "ORC", 2) or of(message, group, "OBR", 2)
    filler = of(message, group, "ORC", 3) or of(message, group, "OBR", 3)
    number = accession(message, group)
    if max(len(placer), len(filler)) > LONGEST_NUMBER:
        raise MessageError("AE", "102", "ORC-2 or ORC-3, the number of the order, is too long.", "ORC^1^2")
    (patient_id, issuer), *others = patients(message)
    stated = {name: first(message, group, places) for name, places in PLACES.items()}
    said = {name: "" if text == NULL else text for name, text in stated.items()}
    return Order(
        order_number=f"P:{placer}" if placer else f"F:{filler or number}",
        accession_number=number,
        patient_id=patient_id,
        issuer_of_patient_id=issuer,
        other_ids=tuple(others),
        filler=filler,
        patient_class=CLASSES.get(said["patient_class"].upper(), ""),
        level=LEVELS.get(said["level"].upper()),
        procedure=said["procedure"],
        patient_name="^".join(value(message, "PID", 5, n) for n in range(1, 4)).rstrip("^"),
        study_uid=uid(said["study_uid"]),
        modality=said["modality"][:16],
        scheduled_at=said["scheduled_at"][:32],
        cancelled=is_ended(message, group),
        said_at=value(message, "MSH", 7)[:32],
        emptied=frozenset(name for name, text in stated.items() if text == NULL),
        names_accession=bool(accession_named(message, group)),
    )


def is_ended(message: hl7.Message, group: Group) -> bool:
    """Whether the order is cancelled or discontinued; such a message may have no OBR (HL7 v2.5.1 section 4.4.1)."""
    return of(message, group, "ORC", 1).upper() in CANCELLED or of(message, group, "ORC", 5).upper() in ENDED


def first(message: hl7.Message, group: Group, places: Sequence[tuple[str, int, int]]) -> str:
    """What the first of these places says that says anything: its text, or NULL; "" where none does."""
    heads = {str(segment[0]): segment for segment in reversed(message) if str(segment[0]) in ("PID", "PV1")}
    there = {**heads, **group}
    texts = (component_of(message, there[name], field, part) for name, field, part in places if name in there)
    return next((text for text in texts if text), "")


def uid(text: str) -> str:
    return text if re.fullmatch(r"[0-9.]{1,64}", text) else ""


def accession_named(message: hl7.Message, group: Group) -> str:
    return of(message, group, "IPC", 1) or of(message, group, "OBR", 18)


def accession(message: hl7.Message, group: Group) -> str:
    """What the message calls so, else the filler's number, which many sites use for it, else the placer's."""
    found = accession_named(message, group) or of(message, group, "ORC", 3) or of(message, group, "OBR", 3)
    found = found or of(message, group, "ORC", 2) or of(message, group, "OBR", 2)
    if not found:
        raise MessageError("AE", "101", "No accession number: IPC-1, OBR-18, OBR-3 and OBR-2 are empty.", "OBR^1^18")
    return found


def patients(message: hl7.Message) -> list[tuple[str, str]]:
    """(identifier, issuer) of the patient: the medical record number (PID-3.5 is MR) first, as images have it, then the others."""
    found = [i for s in message if str(s[0]) == "PID" for i in repeated(message, s, 3)]
    known = [(number, issuer) for number, issuer, kind in found if kind == "MR"]
    known += [(number, issuer) for number, issuer, kind in found if kind != "MR"]
    if not known and (older := value(message, "PID", 2)):
        known = [(older, "")]
    if not known:
        raise MessageError("AE", "101", "PID-3, the patient's identifier, is missing.", "PID^1^3")
    return list(dict.fromkeys(known))


def repeated(message: hl7.Message, segment: hl7.Segment, field: int) -> list[tuple[str, str, str]]:
    """(identifier, assigning authority, type) of each repetition of a CX field that has an identifier."""
    made = []
    for repetition in segment[field] if field < len(segment) else ():
        parts = [repetition_part(message, repetition, n) for n in (1, 4, 5)]
        number, issuer, kind = ("" if part == NULL else part for part in parts)
        made += [(number, issuer, kind)] if number else []
    return made


def of(message: hl7.Message, group: Group, name: str, field: int, component: int = 1) -> str:
    text = component_of(message, group[name], field, component) if name in group else ""
    return "" if text == NULL else text


def value(message: hl7.Message, name: str, field: int, component: int = 1) -> str:
    """A component of the first segment of this name, unescaped; "" where there is none, or it is the null value."""
    try:
        text = component_of(message, message.segment(name), field, component)
    except KeyError:
        return ""
    return "" if text == NULL else text


def component_of(message: hl7.Message, segment: hl7.Segment, field: int, component: int) -> str:
    """Unescaped; "" where the message says nothing, NULL where it says that there is nothing any more."""
    if field >= len(segment):
        return ""
    return repetition_part(message, segment[field], component)


def repetition_part(message: hl7.Message, first: hl7.Container | str, component: int) -> str:
    """A component of the first repetition in `first`, as `component_of`. A character NUL, which no text has, is left out."""
    while isinstance(first, hl7.Container) and len(first) and not isinstance(first, hl7.Repetition):
        first = first[0]
    if isinstance(first, hl7.Repetition):
        first = first[component - 1] if len(first) >= component else ""
    elif component > 1 and str(first).strip() != NULL:
        return ""
    text = str(first[0] if isinstance(first, hl7.Container) and len(first) else first).strip()
    return NULL if text == NULL else str(message.unescape(text)).replace("\0", "")
