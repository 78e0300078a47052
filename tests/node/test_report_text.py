"""The text of a report on the page: drafted, edited, confirmed; what becomes of it in FHIR, in the outbox and on the worklist."""

import json
import re
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from support.filled import EHR, PACS, read
from support.findings import MODEL, findings, lesion, scene
from support.pages import serving
from support.results import add_job, prepare, record

from radnode import report, results, verdicts
from radnode.database import Database
from radnode.narrative import narratives
from radnode.results import report_id
from radnode.settings import Settings
from radnode.tables import DeliveryRow, ReportRow, ResultRow, StudyRow
from radnode_inference.findings import Findings


@dataclass(frozen=True, kw_only=True)
class Case:
    """A node with one more study that a model read; lesion: its Study Instance UID."""

    settings: Settings
    database: Database
    lesion: str
    seed: int


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Database, httpx.Client]]:
    settings = Settings(data=tmp_path_factory.mktemp("node") / "data", destinations=(PACS, EHR))
    database = prepare(settings)
    with serving(settings) as client:
        client.timeout = httpx.Timeout(60.0)
        yield settings, database, client
    database.close()


@pytest.fixture
def client(place: tuple[Settings, Database, httpx.Client]) -> httpx.Client:
    return place[2]


@pytest.fixture
def node(place: tuple[Settings, Database, httpx.Client], tmp_path: Path) -> Case:
    """A study of its own for each test, in the one node."""
    settings, database, client = place
    seed = 1 + len(client.get("/api/studies").json())
    return Case(settings=settings, database=database, lesion=study(settings, database, tmp_path, seed), seed=seed)


def study(settings: Settings, database: Database, folder: Path, seed: int, **more: Any) -> str:
    return read(settings, database, folder / "images", time.time() - 60, seed=seed, name="MÜLLER^Anna", **more)


def form(client: httpx.Client, study_uid: str) -> dict[str, str]:
    """The fields of the first report text on the study's page."""
    page = client.get(f"/studies/{study_uid}").text
    card = page.partition('class="report text-card"')[2].partition("</form>")[0]
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', card))
    text = card.partition("<textarea")[2].partition(">\n")[2].partition("</textarea>")[0]
    return hidden | {"language": "en", "text": text, "name": "Dr Lin"}


def send(client: httpx.Client, study_uid: str, action: str, **more: str) -> httpx.Response:
    return client.post(f"/studies/{study_uid}/text", data=form(client, study_uid) | {"action": action} | more)


def rule(client: httpx.Client, study_uid: str, ruling: str, comment: str = "") -> None:
    page = client.get(f"/studies/{study_uid}").text
    found = re.search(r'name="tracking_uid" value="([0-9.]+)"', page)
    assert found is not None
    data = {"model": "ct-lung", "tracking_uid": found[1], "ruling": ruling, "comment": comment}
    assert client.post(f"/studies/{study_uid}/rulings", data=data).status_code == 200


def reported(client: httpx.Client, study_uid: str) -> dict[str, Any]:
    """The DiagnosticReport as the node's own /fhir has it."""
    number = int(report_id(study_uid, "ct-lung").removeprefix("2.25."))
    found = client.get(
        "/fhir/DiagnosticReport", params={"identifier": f"urn:ietf:rfc:3986|urn:oid:2.25.{number}"}
    ).json()
    assert found["total"] == 1
    return dict(found["entry"][0]["resource"])


def observed(client: httpx.Client, made: dict[str, Any]) -> list[dict[str, Any]]:
    return [client.get(f"/fhir/{r['reference']}").json() for r in made.get("result", ())]


def test_every_report_has_a_drafted_text_in_the_words_of_its_findings(
    client: httpx.Client, node: Case, tmp_path: Path
) -> None:
    text = form(client, node.lesion)["text"]
    assert text.startswith("CT of the chest: lungs and airways (read by the AI model ct-lung 1.2.0)")
    assert "- Nodule in the left lung: certainty of finding 81.2 %, volume" in text
    assert "Draft by AI, not confirmed by anybody." in client.get(f"/studies/{node.lesion}").text
    normal = study(node.settings, node.database, tmp_path / "b", 101, items=())
    assert "- No abnormal finding is reported." in form(client, normal)["text"]


def test_a_text_is_edited_saved_with_its_history_and_the_draft_taken_again_in_the_other_language(
    client: httpx.Client, node: Case
) -> None:
    draft = form(client, node.lesion)["text"]
    assert send(client, node.lesion, "save", text="A <nodule>.\r\nIn two lines.\x07").status_code == 200
    assert form(client, node.lesion)["text"] == "A &lt;nodule&gt;.\nIn two lines."
    page = client.get(f"/studies/{node.lesion}").text
    assert "Saved by Dr Lin" in page
    assert reported(client, node.lesion)["status"] == "preliminary", "saved is not confirmed"
    assert send(client, node.lesion, "reset").status_code == 200
    assert form(client, node.lesion)["text"] == draft
    assert send(client, node.lesion, "reset", language="zh-TW").status_code == 200
    assert "左側肺結節：發現確信度 81.2 %，體積" in form(client, node.lesion)["text"]
    with node.database.reading() as session:
        steps = narratives.history(session, node.lesion)
    assert [(s.step, s.language, s.who) for s in steps] == [
        ("saved", "en", "Dr Lin"), ("reset", "en", "Dr Lin"), ("reset", "zh-TW", "Dr Lin"),
    ]  # fmt: skip
    assert send(client, node.lesion, "save", text="  ").status_code == 422


def test_a_confirmed_report_is_final_with_the_person_s_name_here_and_wherever_reports_go(
    client: httpx.Client, node: Case
) -> None:
    before = reported(client, node.lesion)
    assert "resultsInterpreter" not in before
    done = send(client, node.lesion, "confirm", text="A nodule in the left lung.\nCT in three months.")
    assert done.status_code == 200
    assert "Confirmed by Dr Lin" in done.text
    head = done.text.partition('id="verified"')[2].partition("</p>")[0]
    assert "ct-lung: confirmed by Dr Lin, 20" in head and "not verified" not in done.text
    assert "confirmed by Dr Lin" in client.get("/").text
    made = reported(client, node.lesion)
    assert (made["id"], made["status"]) == (before["id"], "final")
    assert made["resultsInterpreter"] == [{"type": "Practitioner", "display": "Dr Lin"}]
    assert made["conclusion"] == "A nodule in the left lung.\nCT in three months."
    assert [p["contentType"] for p in made["presentedForm"]] == ["application/pdf", "text/plain; charset=utf-8"]
    assert b64decode(made["presentedForm"][0]["data"]).startswith(b"%PDF-")
    assert [o["status"] for o in observed(client, made)] == ["final"]
    assert client.get(f"/fhir/DiagnosticReport/{made['id']}/_history").json()["total"] == 2
    with node.database.reading() as session:
        rows = session.scalars(
            select(ResultRow).where(ResultRow.study_uid == node.lesion, ResultRow.kind == "fhir")
        ).all()
        current = next(r for r in rows if r.current)
        owed = {
            r.uid: session.scalars(select(DeliveryRow.state).where(DeliveryRow.result_uid == r.uid)).all() for r in rows
        }
        body = json.loads((node.settings.data / current.file).read_bytes())
    assert len(rows) == 2
    assert owed[current.uid] == ["owed"]
    assert [s for uid, s in owed.items() if uid != current.uid] == [["withdrawn"]], "the draft does not leave any more"
    verified = [e["resource"] for e in body["entry"] if e["resource"]["resourceType"] == "Provenance"][-1]
    assert verified["agent"][0]["who"] == {"type": "Practitioner", "display": "Dr Lin"}
    story = client.get(f"/studies/{node.lesion}").text
    assert "The report of ct-lung was confirmed by Dr Lin; it is final now." in story
    again = send(client, node.lesion, "confirm", text="A nodule in the left lung. CT in six months.")
    assert again.status_code == 200
    assert reported(client, node.lesion)["status"] == "corrected", "it was final before"


def test_nobody_confirms_without_a_name_or_what_changed_meanwhile(client: httpx.Client, node: Case) -> None:
    nameless = send(client, node.lesion, "confirm", name=" ", text="Mine.")
    assert nameless.status_code == 422 and "without a name" in nameless.text
    assert f'href="/studies/{node.lesion}#texts"' in nameless.text, "the way back"
    assert form(client, node.lesion)["text"] == "Mine.", "what was typed is not lost"
    old = form(client, node.lesion)
    rule(client, node.lesion, "rejected")
    late = client.post(f"/studies/{node.lesion}/text", data=old | {"action": "confirm", "text": "My words."})
    assert late.status_code == 409
    assert "Your text is kept as a draft" in late.text
    assert reported(client, node.lesion)["status"] == "preliminary"
    assert form(client, node.lesion)["text"] == "My words."
    with node.database.transaction() as session:
        session.execute(update(StudyRow).where(StudyRow.study_uid == node.lesion).values(state="receiving"))
    refused = send(client, node.lesion, "confirm")
    assert refused.status_code == 409
    assert "still arriving" in refused.text
    assert form(client, node.lesion)["text"] == "My words."
    assert reported(client, node.lesion)["status"] == "preliminary", "nothing partial is final"


def test_two_people_who_write_the_same_report_lose_neither_text(client: httpx.Client, node: Case) -> None:
    first, second = form(client, node.lesion), form(client, node.lesion)
    address = f"/studies/{node.lesion}/text"

    def write(seen: dict[str, str], action: str, text: str, name: str) -> httpx.Response:
        return client.post(address, data=seen | {"action": action, "text": text, "name": name})

    assert write(first, "save", "Dr Lin's <words>.", "Dr Lin").status_code == 200
    for action in ("save", "confirm"):
        late = write(second, action, "Dr Wu's words.", "Dr Wu")
        assert late.status_code == 409
        assert "Dr Lin changed this while you wrote" in late.text
        assert '<pre class="text" id="theirs">Dr Lin&#39;s &lt;words&gt;.</pre>' in late.text
        assert "\nDr Wu&#39;s words.</textarea>" in late.text
    assert write(second, "reset", "Dr Wu's words.", "Dr Wu").status_code == 409
    assert form(client, node.lesion)["text"] == "Dr Lin&#39;s &lt;words&gt;."
    assert reported(client, node.lesion)["status"] == "preliminary"

    now = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', late.text))
    assert now["name"] == "Dr Wu"
    assert client.post(address, data=now | {"action": "confirm", "text": "Both."}).status_code == 200, "it was seen"
    assert "Confirmed by Dr Wu" in client.get(f"/studies/{node.lesion}").text
    late = write(first, "save", "Again.", "Dr Lin")
    assert late.status_code == 409 and "Dr Wu changed this" in late.text, (
        "a confirmed text is not replaced unseen either"
    )


def test_a_report_whose_findings_are_all_rejected_says_so_and_asserts_none(client: httpx.Client, node: Case) -> None:
    rule(client, node.lesion, "rejected")
    text = form(client, node.lesion)["text"]
    assert "- No finding of the AI is confirmed." in text
    assert "- Not confirmed by the reader: the AI reported: Nodule in the left lung" in text
    assert send(client, node.lesion, "confirm", text=form(client, node.lesion)["text"]).status_code == 200
    made = reported(client, node.lesion)
    assert made["status"] == "final"
    assert "result" not in made
    assert "conclusionCode" not in made
    assert "No finding of the AI is confirmed." in made["conclusion"]
    gone = client.get("/fhir/Observation", params={"status": "entered-in-error"}).json()
    assert "Rejected by the reader." in [o["resource"]["note"][-1]["text"] for o in gone["entry"]]
    entry = next(e for e in client.get("/api/worklist").json()["entries"] if e["study"]["study_uid"] == node.lesion)
    assert (entry["level"], "No finding, report final" in entry["reason"]) == ("ROUTINE", True)
    assert "text-card" in client.get(f"/studies/{node.lesion}").text, "the page goes on showing what the AI said"


def test_a_corrected_finding_stands_in_the_words_of_the_person(client: httpx.Client, node: Case) -> None:
    rule(client, node.lesion, "edited", "it is in the right lung")
    draft = form(client, node.lesion)["text"]
    assert "- Corrected by the reader: it is in the right lung (The AI reported: Nodule in the left lung" in draft
    assert send(client, node.lesion, "confirm", text="Nodule, right lung.").status_code == 200
    (seen,) = observed(client, reported(client, node.lesion))
    assert (seen["status"], seen["valueString"]) == ("final", "it is in the right lung")
    assert not {"component", "bodySite", "valueCodeableConcept"} & set(seen), (
        "no value stands that a person called wrong"
    )
    assert seen["meta"]["security"][0]["code"] == "CLINAST"


def test_what_a_person_adds_stands_in_the_report_and_leaves_it_when_undone(client: httpx.Client, node: Case) -> None:
    added = {"model": "ct-lung", "comment": "a rib fracture on the left"}
    assert client.post(f"/studies/{node.lesion}/missed", data=added).status_code == 200
    assert "- Added by the reader: a rib fracture on the left" in form(client, node.lesion)["text"]
    assert send(client, node.lesion, "confirm", text="Nodule and rib fracture.").status_code == 200
    nodule, fracture = observed(client, reported(client, node.lesion))
    assert nodule["valueCodeableConcept"]["text"] == "Nodule"
    assert (fracture["status"], fracture["valueString"]) == ("final", "a rib fracture on the left")
    assert fracture["performer"] == [{"type": "Practitioner", "display": "Dr Lin"}]
    uid = fracture["identifier"][0]["value"].removeprefix("urn:oid:")
    with node.database.transaction() as session:
        said = verdicts.history(session, node.lesion)[-1]
        verdicts.rule(session, replace(said, ruling=verdicts.Ruling.UNDONE, at=time.time()))
    assert said.tracking_uid == uid
    assert send(client, node.lesion, "confirm", text="Nodule.").status_code == 200
    assert len(observed(client, reported(client, node.lesion))) == 1
    assert client.get(f"/fhir/Observation/{fracture['id']}").json()["status"] == "entered-in-error"


def test_a_demonstration_says_so_whatever_a_person_writes(client: httpx.Client, node: Case, tmp_path: Path) -> None:
    shown = study(node.settings, node.database, tmp_path / "d", 102, demonstration=True)
    assert "not for clinical use" in form(client, shown)["text"]
    assert send(client, shown, "confirm", text="A nodule.").status_code == 200
    conclusion = reported(client, shown)["conclusion"]
    assert conclusion == "DEMONSTRATION WEIGHTS TRAINED ON PHANTOMS, NOT FOR CLINICAL USE.\nA nodule."


def changed_result(node: Case, folder: Path, revision: int, **more: object) -> None:
    """The model reads the lesion's study again; more: what it says this time."""
    made = scene(folder, seed=node.seed, shape=(12, 96, 96))
    said: Findings = findings(made, (lesion(made, "nodule-1", (5, 3, 2), 9.0, **more),))
    said = replace(said, model=replace(MODEL, name="ct-lung"))
    with node.database.reading() as session:
        previous = results.previous(session, node.lesion, "ct-lung")
    objects = report.results(said, made.study, previous=previous)
    job = add_job(node.database, node.lesion, "ct-lung", revision=revision)
    record(node.database, node.settings.data, job, list(objects), node.settings.destinations, now=time.time())


def test_another_run_with_the_same_findings_leaves_the_confirmation_and_other_findings_end_it(
    client: httpx.Client, node: Case, tmp_path: Path
) -> None:
    assert send(client, node.lesion, "confirm", text="A nodule.").status_code == 200
    changed_result(node, tmp_path / "same", 2)
    assert reported(client, node.lesion)["status"] == "final", "the same findings: the confirmation stands"
    with node.database.reading() as session:
        current = select(ResultRow.uid).where(
            ResultRow.study_uid == node.lesion, ResultRow.kind == "fhir", ResultRow.current
        )
        assert len(session.scalars(current).all()) == 1
    changed_result(node, tmp_path / "other", 3, probability=0.2)
    made = reported(client, node.lesion)
    assert made["status"] == "amended"
    assert "resultsInterpreter" not in made
    page = client.get(f"/studies/{node.lesion}").text
    assert "The result changed after Dr Lin confirmed it" in page
    assert "certainty of finding 20 %" in form(client, node.lesion)["text"], "the draft is of the new findings"
    assert send(client, node.lesion, "confirm", text="A nodule still.").status_code == 200
    assert reported(client, node.lesion)["status"] == "corrected"


def test_a_retracted_report_takes_its_text_with_it(client: httpx.Client, node: Case) -> None:
    assert send(client, node.lesion, "confirm", text="A nodule.").status_code == 200
    old = form(client, node.lesion)
    gone = {"model": "ct-lung", "reason": "quality", "comment": "wrong", "confirmed": "yes"}
    assert client.post(f"/studies/{node.lesion}/retract", data=gone).status_code == 200
    assert reported(client, node.lesion)["status"] == "entered-in-error"
    assert "text-card" not in client.get(f"/studies/{node.lesion}").text
    assert client.post(f"/studies/{node.lesion}/text", data=old | {"action": "confirm"}).status_code == 409
    with node.database.reading() as session:
        row = session.scalars(select(ReportRow).where(ReportRow.study_uid == node.lesion)).one()
    assert row.status == "entered-in-error"
