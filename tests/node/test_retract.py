import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select, update
from support.core import STUDY, Node
from support.results import Ended, four, record

from radnode import jobs, outbox, pipeline, results, routing
from radnode.cli import cli
from radnode.commands.retract import REASONS as ON_THE_COMMAND_LINE
from radnode.errors import RefusedError
from radnode.fhir_server import search as fhir_search
from radnode.fhir_server import store as fhir_store
from radnode.retract import REASONS, by_person
from radnode.route import Route, not_chosen, nothing
from radnode.settings import Destination
from radnode.states import DeliveryState, JobState, StudyState
from radnode.tables import DeliveryRow, ResultRow, StudyRow
from radnode_fhir.codes import AI_ASSERTED
from radnode_fhir.confirm import CLINICIAN_ASSERTED
from radnode_fhir.identifiers import full_url
from radnode_inference.findings import uid_from

EHR = Destination(name="ehr", kind="fhir", url="http://127.0.0.1:1/")
OTHER = Destination(name="other", kind="fhir", url="http://127.0.0.1:2/")


def read(node: Node, content: str = "A", status: str = "preliminary") -> None:
    """The model m has read the study, as a worker does it."""
    if not node.jobs():
        node.add_study()
        node.add_job("m")
    job = jobs.claim(node.database, "w", time.time())
    assert job is not None
    made = [r for r in four(STUDY, "m", content, status) if r.kind == "fhir"]
    ended = Ended(id=job.id, study_uid=STUDY, model="m")
    with node.database.transaction() as session:
        jobs.finish(session, job, JobState.DONE, "", time.time())
    record(node.database, node.settings.data, ended, made, node.settings.destinations, again=job.rerun)


def reports_to(node: Node, *destinations: Destination) -> Node:
    node.settings = node.settings.model_copy(update={"destinations": destinations})
    return node


def deliver(node: Node, destination: str = "ehr") -> list[tuple[str, dict[str, Any]]]:
    """Send what is owed; the kind and content of each, in the order of sending."""
    box = outbox.Outbox(node.database, node.settings.data)
    sent = []
    while batch := box.claim(destination, time.time(), 10.0):
        for delivery in batch.deliveries:
            sent.append((delivery.kind, json.loads(delivery.path.read_bytes())))
            box.delivered(batch.token, delivery, "", time.time())
    return sent


def states(node: Node, destination: str = "ehr") -> list[tuple[str, str]]:
    with node.database.reading() as session:
        query = select(ResultRow.kind, DeliveryRow.state).join(DeliveryRow, DeliveryRow.result_uid == ResultRow.uid)
        rows = session.execute(query.where(DeliveryRow.destination == destination).order_by(DeliveryRow.id))
        return [(row.kind, row.state) for row in rows]


def retract(node: Node, comment: str = "wrong side") -> tuple[str, ...]:
    return by_person(node.database, node.settings, STUDY, "", "quality", comment, time.time())


def test_what_was_delivered_is_taken_back_there_and_here(node: Node) -> None:
    reports_to(node, EHR, OTHER)
    read(node)
    deliver(node)
    assert retract(node) == ("m",)
    assert node.report_status() == "entered-in-error"
    assert states(node) == [("fhir", DeliveryState.RETRACTED), ("retraction", DeliveryState.OWED)]
    assert states(node, "other") == [("fhir", DeliveryState.WITHDRAWN)], "it never got anything"
    ((kind, bundle),) = deliver(node)
    (entry,) = bundle["entry"]
    assert (kind, entry["request"]["method"], entry["resource"]["status"]) == ("retraction", "PUT", "entered-in-error")
    assert entry["resource"]["conclusion"] == "RETRACTED: wrong side. It said: A"
    story = [e.sentence for e in node.story().events]
    sentence = (
        "What m said is retracted (Rejected for Quality Reasons): wrong side. A note that takes it back is owed to ehr."
    )
    assert sentence in story


def find(node: Node, *names: str, status: str = "preliminary") -> None:
    """The model m finds these things; a person's own finding stands beside them in the report."""
    if node.jobs():
        jobs.rerun(node.database, STUDY, "m", time.time())
    else:
        node.add_study()
        node.add_job("m")
    job = jobs.claim(node.database, "w", time.time())
    assert job is not None
    (made,) = (r for r in four(STUDY, "m", " ".join(names), status) if r.kind == "fhir")
    body = json.loads(made.body)
    body["entry"] += [seen(name, [AI_ASSERTED]) for name in names]
    body["entry"] += [seen("a person's", [CLINICIAN_ASSERTED])] if status == "preliminary" else []
    stored = results.write_files(node.settings.data, [replace(made, body=json.dumps(body).encode())])
    assert pipeline.end(node.database, node.settings, job, stored) is JobState.DONE


def seen(name: str, security: list[Any]) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation", "status": "preliminary", "meta": {"security": security},
        "identifier": [{"system": "urn:test", "value": name}], "code": {"text": name},
        "interpretation": [{"coding": [{"code": "AA"}]}],
    }  # fmt: skip
    request = {"method": "PUT", "url": f"Observation?identifier=urn:test|{name}"}
    return {"fullUrl": full_url(uid_from(("seen", name))), "resource": resource, "request": request}


def standing(node: Node) -> set[str]:
    with node.database.reading() as session:
        found = fhir_search.search(session, "Observation", [("status:not", "entered-in-error")]).found
    return {str(s.body["code"]["text"]) for s in found}


def test_a_finding_that_an_amended_report_has_no_more_is_entered_in_error_here_and_where_it_went(node: Node) -> None:
    mllp = Destination(name="ris", kind="hl7", host="127.0.0.1", port=1)
    reports_to(node, EHR, OTHER, mllp)
    find(node, "embolism", "nodule")
    deliver(node)
    deliver(node, "ris")
    find(node, "nodule", status="amended")
    assert standing(node) == {"nodule", "a person's"}
    assert [kind for kind, _ in states(node, "ris")] == ["fhir", "fhir"], "HL7 has no message of a finding alone"
    assert [kind for kind, _ in states(node, "other")] == ["fhir", "fhir"], "it never had the embolism"
    (first, note), (second, _) = deliver(node)
    told = [(e["resource"]["code"]["text"], e["resource"]["status"]) for e in note["entry"]]
    assert (first, second, told) == ("retraction", "fhir", [("embolism", "entered-in-error")])
    said = [e.sentence for e in node.story().events if "stands no more" in e.sentence]
    assert said == ["A finding of the earlier report of m stands no more: entered in error. ehr will be told."]
    find(node, "nodule", "embolism", status="amended")
    assert standing(node) == {"embolism", "nodule", "a person's"}
    assert [kind for kind, _ in deliver(node)] == ["fhir"]


def test_the_node_s_own_fhir_endpoint_says_so_too_until_a_re_run_brings_the_report_back(node: Node) -> None:
    def said() -> list[tuple[str, str]]:
        with node.database.reading() as session:
            (found,) = fhir_search.search(session, "DiagnosticReport", []).found
            versions = fhir_store.history(session, "DiagnosticReport", found.id)
            return [(v.body["status"], v.body["conclusion"]) for v in versions]

    reports_to(node, EHR)
    read(node)
    retract(node)
    first, taken_back = ("preliminary", "A"), ("entered-in-error", "RETRACTED: wrong side. It said: A")
    assert said() == [taken_back, first]
    jobs.rerun(node.database, STUDY, "m", time.time())
    read(node)
    assert said() == [first, taken_back, first]


def test_a_second_retraction_changes_nothing(node: Node) -> None:
    reports_to(node, EHR)
    read(node)
    deliver(node)
    retract(node)
    before = (states(node), len(node.story().events))
    assert retract(node) == ()
    assert (states(node), len(node.story().events)) == before


def test_what_is_on_its_way_while_it_is_retracted_is_taken_back_afterwards(node: Node) -> None:
    reports_to(node, EHR)
    read(node)
    box = outbox.Outbox(node.database, node.settings.data)
    batch = box.claim("ehr", time.time(), 10.0)
    assert batch is not None
    retract(node)
    assert states(node) == [("fhir", DeliveryState.WITHDRAWN), ("retraction", DeliveryState.OWED)]
    assert box.claim("ehr", time.time(), 10.0) is None, "the sender is still at work: the note would come before it"
    box.delivered(batch.token, batch.deliveries[0], "", time.time())
    later = box.claim("ehr", time.time() + 11.0, 10.0)
    assert later is not None and [d.kind for d in later.deliveries] == ["retraction"]


@pytest.mark.parametrize(
    ("routes", "status"),
    [
        ((not_chosen(STUDY, "m", "No series has thin slices."),), "entered-in-error"),
        ((replace(not_chosen(STUDY, "other", ""), chosen=True),), "entered-in-error"),
        ((replace(not_chosen(STUDY, "m", ""), chosen=True),), "preliminary"),
        ((nothing(STUDY, "The stored objects of this study cannot be looked at."),), "preliminary"),
    ],
    ids=["not sent to it", "not in use", "sent to it", "nobody looked"],
)
def test_what_was_said_of_earlier_images_is_taken_back_when_the_study_is_not_sent_to_the_model_any_more(
    node: Node, routes: tuple[Route, ...], status: str
) -> None:
    reports_to(node, EHR)
    read(node)
    deliver(node)
    with node.database.transaction() as session:
        session.execute(update(StudyRow).values(state=StudyState.COMPLETE, revision=2))
    assert routing.keep(node.database, node.settings, STUDY, 2, routes)
    assert node.report_status() == status
    gone = [e.sentence for e in node.story().events if e.action == "retracted"]
    assert [kind for kind, _ in deliver(node)] == (["retraction"] if gone else [])
    assert len(gone) == (status == "entered-in-error")
    if routes[0].model == "m":
        because = "the study as it is now is not sent to it (No series has thin slices)"
        assert all(because in sentence for sentence in gone)


def test_every_version_that_was_sent_is_taken_back(node: Node) -> None:
    reports_to(node, EHR)
    read(node, "A")
    deliver(node)
    jobs.rerun(node.database, STUDY, "m", time.time())
    read(node, "B", "amended")
    deliver(node)
    retract(node)
    assert [state for kind, state in states(node) if kind == "fhir"] == [DeliveryState.RETRACTED] * 2


def test_nothing_is_retracted_when_the_transaction_is_cut_off(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    reports_to(node, EHR)
    read(node)
    deliver(node)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("radnode.retract.events.write", cut)
    with pytest.raises(KeyboardInterrupt):
        retract(node)
    assert node.report_status() == "preliminary"
    assert states(node) == [("fhir", DeliveryState.DELIVERED)]


def test_a_re_run_with_equal_content_sends_the_identical_object_again(node: Node) -> None:
    reports_to(node, EHR)
    read(node)
    first = deliver(node)
    assert jobs.rerun(node.database, STUDY, "", time.time()) == ("m",)
    assert node.study().state is StudyState.ROUTED
    assert jobs.rerun(node.database, STUDY, "", time.time()) == (), "it waits already"
    read(node)
    assert deliver(node) == first
    with node.database.reading() as session:
        assert len(session.scalars(select(ResultRow)).all()) == 1
    assert "A person asked for another run of m." in [e.sentence for e in node.story().events]


def test_a_re_run_with_other_content_takes_the_place_of_the_first(node: Node) -> None:
    reports_to(node, EHR)
    read(node, "A")
    deliver(node)
    jobs.rerun(node.database, STUDY, "m", time.time())
    read(node, "B", "amended")
    assert [kind for kind, _ in deliver(node)] == ["fhir"]
    assert node.report_status() == "amended"
    assert [r.current for r in node.story().results] == [False, True]


def test_a_retracted_result_that_a_re_run_makes_again_is_sent_again(node: Node) -> None:
    reports_to(node, EHR)
    read(node)
    deliver(node)
    retract(node)
    jobs.rerun(node.database, STUDY, "m", time.time())
    read(node)
    assert [kind for kind, _ in deliver(node)] == ["retraction", "fhir"]
    assert node.report_status() == "preliminary"
    assert retract(node) == ("m",)
    assert [kind for kind, _ in deliver(node)] == ["retraction"]


def test_a_study_that_is_not_there_or_still_arrives_or_was_not_to_be_read_is_not_run_again(node: Node) -> None:
    with pytest.raises(RefusedError, match="never received"):
        jobs.rerun(node.database, "9.9", "", 1.0)
    with pytest.raises(RefusedError, match="never received"):
        by_person(node.database, node.settings, "9.9", "", "quality", "", 1.0)
    node.add_study(state=StudyState.RECEIVING)
    with pytest.raises(RefusedError, match="still arriving"):
        jobs.rerun(node.database, STUDY, "", 1.0)
    node.add_study("1.2.4")
    with pytest.raises(RefusedError, match="m was not to read this study"):
        jobs.rerun(node.database, "1.2.4", "m", 1.0)


def test_a_misspelt_model_is_not_taken_for_one_of_which_nothing_stands(node: Node) -> None:
    read(node)
    with pytest.raises(RefusedError, match="n made no result of this study; there are some of m"):
        by_person(node.database, node.settings, STUDY, "n", "quality", "", 1.0)
    assert node.report_status() == "preliminary"


def test_the_commands_say_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    run = CliRunner().invoke
    absent = run(cli, ["rerun", "1.2.3"])
    assert (absent.exit_code, absent.stderr) == (1, "radnode: this node never received a study 1.2.3\n")
    assert run(cli, ["retract", "1.2.3"]).exit_code == 2, "without a reason nothing is retracted"
    refused = run(cli, ["retract", "1.2.3", "--reason", "quality"])
    assert (refused.exit_code, refused.stderr) == (1, "radnode: this node never received a study 1.2.3\n")
    assert set(ON_THE_COMMAND_LINE) == set(REASONS)
