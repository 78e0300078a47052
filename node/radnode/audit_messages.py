"""Rows of the audit as messages that other systems take: DICOM's XML (PS3.15 section A.5), and the facts of an AuditEvent.

Codes are those of DICOM (DCM), PS3.16 CID 400 to 404.
"""

import base64
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from radnode.audit import NODE, Entry, Kind, Outcome
from radnode_fhir.audit_event import AuditFacts, Coded


@dataclass(frozen=True, kw_only=True)
class Event:
    """event: CID 400. action: C, R, U, D or E. type: CID 401."""

    event: Coded
    action: str
    type: Coded | None = None


def dcm(code: str, meaning: str) -> Coded:
    return Coded(code=code, meaning=meaning)


STUDY, PATIENT = dcm("110180", "Study Instance UID"), Coded(code="2", meaning="Patient Number", system="RFC-3881")
URI = Coded(code="12", meaning="URI", system="RFC-3881")
EVENTS: Mapping[str, Event] = {
    Kind.START: Event(event=dcm("110100", "Application Activity"), action="E", type=dcm("110120", "Application Start")),
    Kind.STOP: Event(event=dcm("110100", "Application Activity"), action="E", type=dcm("110121", "Application Stop")),
    Kind.LOG_IN: Event(event=dcm("110114", "User Authentication"), action="E", type=dcm("110122", "Login")),
    Kind.LOG_OUT: Event(event=dcm("110114", "User Authentication"), action="E", type=dcm("110123", "Logout")),
    Kind.SECURITY: Event(
        event=dcm("110113", "Security Alert"), action="E", type=dcm("110137", "User Security Attributes Changed")
    ),
    Kind.TURNED_AWAY: Event(
        event=dcm("110113", "Security Alert"), action="E", type=dcm("110126", "Node Authentication")
    ),
    Kind.SEEN: Event(event=dcm("110103", "DICOM Instances Accessed"), action="R"),
    Kind.LISTED: Event(event=dcm("110112", "Query"), action="E"),
    Kind.CHANGED: Event(event=dcm("110103", "DICOM Instances Accessed"), action="U"),
    Kind.RECEIVED: Event(event=dcm("110104", "DICOM Instances Transferred"), action="C"),
    Kind.SENT: Event(event=dcm("110104", "DICOM Instances Transferred"), action="R"),
    Kind.EXPORTED: Event(event=dcm("110106", "Export"), action="R"),
    Kind.AUDIT: Event(event=dcm("110101", "Audit Log Used"), action="R"),
}
OUTCOMES: Mapping[str, str] = {Outcome.SUCCESS: "0", Outcome.REFUSED: "4", Outcome.FAILED: "4"}
"""0: success, 4: minor failure."""
SOURCE, DESTINATION = dcm("110153", "Source Role ID"), dcm("110152", "Destination Role ID")


def message(entry: Entry) -> str:
    """One AuditMessage as XML in one line."""
    event = EVENTS[entry.kind]
    root = Element("AuditMessage")
    root.append(identification(entry, event))
    transferred = entry.kind in (Kind.RECEIVED, Kind.SENT)
    sender = entry.kind == Kind.RECEIVED
    root.append(participant(entry.who, entry.address, requestor=True, role=SOURCE if sender else None))
    if entry.who != NODE:
        root.append(participant(NODE, "", requestor=False, role=DESTINATION if sender else None))
    elif transferred:
        root[-1].append(coded("RoleIDCode", SOURCE))
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=f"{NODE}@{socket.gethostname()}")
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    if entry.patient_id:
        root.append(thing(entry.patient_id, PATIENT, type_="1", role="1"))
    if entry.study_uid:
        root.append(thing(entry.study_uid, STUDY, type_="2", role="3"))
    root.append(chained(entry))
    return ElementTree.tostring(root, encoding="unicode")


def identification(entry: Entry, event: Event) -> Element:
    made = Element(
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=instant(entry.at),
        EventOutcomeIndicator=OUTCOMES[entry.outcome],
    )
    made.append(coded("EventID", event.event))
    if event.type is not None:
        made.append(coded("EventTypeCode", event.type))
    SubElement(made, "EventOutcomeDescription").text = printable(entry.action)
    return made


def participant(name: str, address: str, *, requestor: bool, role: Coded | None) -> Element:
    said = {"UserID": printable(name), "UserIsRequestor": str(requestor).lower()}
    where = {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2"} if address else {}
    made = Element("ActiveParticipant", said | where)
    if role is not None:
        made.append(coded("RoleIDCode", role))
    return made


def thing(identifier: str, kind: Coded, *, type_: str, role: str) -> Element:
    made = Element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=printable(identifier),
        ParticipantObjectTypeCode=type_,
        ParticipantObjectTypeCodeRole=role,
    )
    made.append(coded("ParticipantObjectIDTypeCode", kind))
    SubElement(made, "ParticipantObjectName").text = printable(identifier)
    return made


def chained(entry: Entry) -> Element:
    """The row itself as a security resource: its number, its hash and what it says in detail."""
    made = thing(f"urn:radnode:audit:{entry.number}", URI, type_="2", role="13")
    for name, value in (("hash", entry.hash), ("detail", entry.detail)):
        if value:
            SubElement(made, "ParticipantObjectDetail", type=name, value=base64.b64encode(value.encode()).decode())
    return made


def coded(name: str, code: Coded) -> Element:
    return Element(name, {"csd-code": code.code, "codeSystemName": code.system, "originalText": code.meaning})


def instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def printable(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold, and in one line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def facts(entry: Entry) -> AuditFacts:
    """What a FHIR AuditEvent says of this row."""
    event = EVENTS[entry.kind]
    return AuditFacts(
        event=event.event,
        type=event.type,
        action=event.action,
        recorded=instant(entry.at),
        outcome=OUTCOMES[entry.outcome],
        said=entry.action,
        who=entry.who,
        address=entry.address,
        node=NODE,
        study_uid=entry.study_uid,
        patient_id=entry.patient_id,
        details={"number": str(entry.number), "hash": entry.hash, "detail": entry.detail},
    )
