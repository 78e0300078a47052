"""Sending again what was given up, where something newer went out meanwhile."""

import json
import time
from dataclasses import replace
from typing import Any

from sqlalchemy import select, update
from support.core import STUDY, Node
from support.results import Ended, dicom_file, dicom_result, fhir_result, record

from radnode import resend, results
from radnode.destinations import REJECTION
from radnode.fhir_server.transaction import references
from radnode.outbox import Outbox
from radnode.resend import OVERTAKEN
from radnode.retract import by_person, drop_findings
from radnode.settings import Destination
from radnode.tables import DeliveryRow, ResultRow
from radnode_fhir.codes import AI_ASSERTED
from radnode_fhir.identifiers import full_url
from radnode_inference.findings import uid_from

EHR = Destination(name="ehr", kind="fhir", url="http://127.0.0.1:1/")
RIS = Destination(name="ris", kind="hl7", host="127.0.0.1", port=1)
PACS = Destination(name="pacs", kind="folder", folder="/nowhere")


def entry(kind: str, name: str, status: str = "preliminary") -> dict[str, Any]:
    address = full_url(uid_from(("entry", name)))
    return {"fullUrl": address, "resource": {"resourceType": kind, "status": status, "identifier": [{"system": "urn:t", "value": name}]},
            "request": {"method": "PUT", "url": f"{kind}?identifier=urn:t|{name}"}}  # fmt: skip


def report(content: str, *findings: str) -> results.Result:
    made = fhir_result(STUDY, "m", content, digest=content * 64)
    body = json.loads(made.body)
    body["entry"] += [entry("Observation", name) for name in findings] + [entry("Device", "the model")]
    return replace(made, body=json.dumps(body).encode())


def read(node: Node, *made: results.Result) -> None:
    """The model has read the study (again)."""
    if not node.jobs():
        node.add_study()
        node.add_job("m")
    record(
        node.database,
        node.settings.data,
        Ended(id=node.jobs()[0].id, study_uid=STUDY, model="m"),
        made,
        node.settings.destinations,
    )


def deliver(node: Node, destination: str, *dead: str) -> list[str]:
    """Send what is owed; kinds in `dead` are refused for good. The names of what each took or took back."""
    box, sent = Outbox(node.database, node.settings.data), []
    while batch := box.claim(destination, time.time(), 10.0):
        for delivery in batch.deliveries:
            if delivery.kind in dead:
                box.give_up(batch.token, [delivery], "it says no", time.time())
                continue
            sent.append(f"{delivery.kind}: {what(delivery.path.read_bytes())}")
            box.delivered(batch.token, delivery, "", time.time())
    return sent


def what(body: bytes) -> str:
    if not body.startswith(b"{"):
        return "a file"
    resources = [e["resource"] for e in json.loads(body)["entry"]]
    return " ".join(r.get("conclusion") or f"{r['identifier'][0]['value']} {r['status']}" for r in resources)


def given_up(node: Node, destination: str) -> int:
    with node.database.reading() as session:
        query = select(DeliveryRow.id).where(DeliveryRow.state == "dead", DeliveryRow.destination == destination)
        return session.scalars(query).one()


def retract(node: Node) -> None:
    assert by_person(node.database, node.settings, STUDY, "", "quality", "wrong side", time.time())


def sending_again(node: Node, destination: str) -> str:
    return resend.send_again(node.database, node.settings, given_up(node, destination), time.time())


def test_a_note_that_was_given_up_never_puts_a_newer_report_in_error_but_what_still_holds_of_it_goes(
    node: Node,
) -> None:
    node.settings = node.settings.model_copy(update={"destinations": (EHR, RIS)})
    read(node, report("A", "left", "right"))
    for name in ("ehr", "ris"):
        deliver(node, name)
    retract(node)
    for name in ("ehr", "ris"):
        assert deliver(node, name, "retraction") == []
    read(node, report("B", "right"))
    assert deliver(node, "ehr") == ["fhir: B right preliminary the model preliminary"]
    deliver(node, "ris")

    assert sending_again(node, "ehr") == ""
    assert deliver(node, "ehr") == ["retraction: the model preliminary left entered-in-error"]
    assert sending_again(node, "ris") == OVERTAKEN, "HL7 has no message of a finding alone"
    assert deliver(node, "ris") == []
    told = [e.sentence for e in node.story().events]
    begins = "The retraction for {} is not sent again: what it takes back stands there anew."
    assert begins.format("ris") in told
    assert f"{begins.format('ehr')} A note of 1 finding, which does not, is owed." in told


def test_a_note_goes_again_where_nothing_newer_went_or_is_owed(node: Node) -> None:
    node.settings = node.settings.model_copy(update={"destinations": (EHR,)})
    read(node, report("A", "left"))
    deliver(node, "ehr")
    retract(node)
    deliver(node, "ehr", "retraction")
    assert sending_again(node, "ehr") == ""
    assert len(deliver(node, "ehr", "retraction")) == 0
    read(node, report("B", "left"))
    deliver(node, "ehr", "fhir")
    assert resend.send_all_again(node.database, node.settings, "ehr", time.time()) == ("", "")
    (note, newer) = deliver(node, "ehr")
    assert note.startswith("retraction: RETRACTED") and newer.startswith("fhir: B"), "in the order of what happened"


def test_objects_that_came_back_are_not_rejected_by_an_older_note(node: Node) -> None:
    node.settings = node.settings.model_copy(update={"destinations": (PACS,)})
    made = dicom_result("sr", STUDY, "content")
    read(node, made)
    deliver(node, "pacs")
    retract(node)
    deliver(node, "pacs", REJECTION)
    with node.database.reading() as session:
        assert session.scalars(select(ResultRow.kind).order_by(ResultRow.kind)).all() == ["rejection", "sr"]
    read(node, made)
    assert deliver(node, "pacs") == ["sr: a file"]
    assert sending_again(node, "pacs") == OVERTAKEN
    assert deliver(node, "pacs") == []

    with node.database.transaction() as session:  # as it is before it was overtaken
        session.execute(update(DeliveryRow).where(DeliveryRow.state == "withdrawn").values(state="dead"))
    read(
        node,
        replace(dicom_result("sr", STUDY, "other"), body=dicom_file(made.sop_class_uid, "1.2.9", STUDY, "1.2.8", "x")),
    )
    assert sending_again(node, "pacs") == "", "other objects stand there: those that it names do not"


def test_a_note_of_single_findings_points_at_nothing_outside_of_itself(node: Node) -> None:
    """A FHIR server resolves the addresses of entries within the transaction alone, and refuses the rest."""
    node.settings = node.settings.model_copy(update={"destinations": (EHR,)})

    made = report("A", "left", "right")
    body = json.loads(made.body)
    for e in body["entry"][1:-1]:
        e["resource"] |= {"meta": {"security": [AI_ASSERTED]}, "device": {"reference": body["entry"][-1]["fullUrl"]}}
    read(node, replace(made, body=json.dumps(body).encode()))
    deliver(node, "ehr")
    newer = results.write_files(node.settings.data, [report("B", "right")])
    with node.database.transaction() as session:
        drop_findings(session, node.settings, STUDY, "m", newer, time.time())
    with node.database.reading() as session:
        file = session.scalars(select(ResultRow.file).where(ResultRow.kind == "retraction")).one()
    note = json.loads((node.settings.data / file).read_bytes())
    targets = set(references(note["entry"]))
    assert targets and targets <= {e["fullUrl"] for e in note["entry"]}
    assert deliver(node, "ehr") == ["retraction: the model preliminary left entered-in-error"]
