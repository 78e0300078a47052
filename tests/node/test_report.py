import base64
import json
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx
import pytest
from support.fhir_server import FhirServer
from support.findings import Scene, findings, scene

from radnode import report, results
from radnode.destinations import open_destination, takes
from radnode.hl7 import messages as hl7_messages
from radnode.outbox import Delivery
from radnode.profiles import Plan
from radnode.results import Previous, Result
from radnode.settings import Destination, TriageRule
from radnode.triage import Level, prioritise, read
from radnode_dicom_sr import codes
from radnode_dicom_sr import read as read_back
from radnode_dicom_sr.pdf import letter

NOW = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene(tmp_path_factory.mktemp("study"), shape=(12, 48, 48))


RIS = Destination(name="ris", kind="hl7", host="127.0.0.1", port=1, application="RIS", facility="HOSP")


def bundle(found: tuple[Result, ...]) -> dict[str, object]:
    return dict(json.loads(found[-1].body))


def as_previous(found: tuple[Result, ...], amended: bool = False) -> tuple[Previous, ...]:
    return tuple(
        Previous(kind=r.kind, uid=r.uid, sop_class_uid=r.sop_class_uid, series_uid=r.series_uid, digest=r.digest, amended=amended)
        for r in found
    )  # fmt: skip


def status(found: tuple[Result, ...]) -> str:
    return str(results.report_of(bundle(found))["status"])


def test_findings_become_every_kind_of_result_with_one_digest(made: Scene) -> None:
    said = findings(made)
    found = report.results(said, made.study, now=NOW)
    assert {r.kind for r in found} == {"sr", "seg", "key-image", "fhir"}
    assert found[-1].kind == "fhir"
    assert len({r.digest for r in found}) == 1
    assert len({r.uid for r in found}) == len(found)
    assert status(found) == "preliminary"


def test_a_report_names_the_category_that_the_policy_gives(made: Scene) -> None:
    """ACR: 1 within minutes, 2 within hours, 3 within days."""
    for level, number in (("STAT", 1), ("ROUTINE", 3)):
        policy = (TriageRule(name="every", level=level),)  # type: ignore[arg-type]
        found = report.results(findings(made), made.study, now=NOW, policy=policy)
        reports = [read_back(r.body) for r in found if r.kind == "sr"]
        said = [e.value for r in reports for f in r.findings for e in f.evaluations if e.concept == codes.ACTIONABLE]
        assert said and set(said) == {codes.ACR_CATEGORIES[number]}


def test_what_the_policy_makes_stat_leaves_as_critical_and_another_policy_decides_anew(made: Scene) -> None:
    """HL7 table 0078 and FHIR: AA for what somebody is to be told of within minutes, A for other abnormalities."""
    stat, routine = TriageRule(name="every", level="STAT"), TriageRule(name="every", level="ROUTINE")
    uids = set()
    for rule, flags in ((stat, {"AA"}), (routine, {"A"})):
        found = report.results(findings(made), made.study, now=NOW, policy=[rule])
        lines = hl7_messages.report(bundle(found), "2.25.1", RIS).split("\r")
        assert {f[8] for line in lines if line.startswith("OBX") for f in [line.split("|")] if f[8:9] > [""]} == flags
        uids |= {r.uid for r in found if r.kind == "fhir"}
        stored = read(bundle(found), "ct-test", "preliminary")
        assert stored is not None
        assert prioritise([stored], [routine]).level is Level.ROUTINE, "the node's own AA is not fixed to STAT"
    assert len(uids) == 2, "other content is another Bundle"


def test_the_same_findings_have_the_same_uids_at_another_time(made: Scene) -> None:
    first = report.results(findings(made), made.study, now=NOW)
    again = report.results(findings(made), made.study, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert [r.uid for r in first] == [r.uid for r in again]


def test_other_content_amends_and_is_another_object(made: Scene) -> None:
    first = report.results(findings(made), made.study, now=NOW)
    less = findings(made, items=findings(made).items[:1])
    second = report.results(less, made.study, previous=as_previous(first), now=NOW)
    assert status(second) == "amended"
    assert not {r.uid for r in first} & {r.uid for r in second}
    assert {r.series_uid for r in first if r.kind == "sr"} & {r.series_uid for r in second if r.kind == "sr"}


def test_a_rerun_of_what_stands_is_the_same_again_amended_or_not(made: Scene) -> None:
    first = report.results(findings(made), made.study, now=NOW)
    rerun = report.results(findings(made), made.study, previous=as_previous(first), now=NOW)
    assert [r.uid for r in rerun] == [r.uid for r in first]
    less = findings(made, items=findings(made).items[:1])
    second = report.results(less, made.study, previous=as_previous(first), now=NOW)
    rerun = report.results(less, made.study, previous=as_previous(second, amended=True), now=NOW)
    assert [r.uid for r in rerun] == [r.uid for r in second]


def test_triage_reads_what_was_written(made: Scene) -> None:
    said = findings(made)
    stored = read(bundle(report.results(said, made.study, now=NOW)), "ct-test", "preliminary")
    assert stored is not None
    assert sorted((a.concept.value, a.probability) for a in stored.said.abnormalities) == [
        ("27925004", pytest.approx(0.4)),
        ("27925004", pytest.approx(0.8125)),
    ]
    assert not stored.demonstration


def test_demonstration_findings_are_known_by_their_report(made: Scene) -> None:
    said = findings(made)
    shown = replace(said, model=replace(said.model, demonstration=True))
    stored = read(bundle(report.results(shown, made.study, now=NOW)), "ct-test", "preliminary")
    assert stored is not None
    assert stored.demonstration


@pytest.mark.system
def test_a_real_server_makes_nothing_twice_and_follows_an_amendment(made: Scene, tmp_path: Path) -> None:
    first = report.results(findings(made), made.study, now=NOW)
    less = findings(made, items=findings(made).items[:1])
    second = report.results(less, made.study, previous=as_previous(first), now=NOW)
    sent = [delivery(tmp_path, r[-1]) for r in (first, first, second)]
    counts, statuses = [], []
    with FhirServer(tmp_path / "fhir") as server:
        destination = open_destination(
            Destination(name="ehr", kind="fhir", url=server.url), calling_ae="RADNODE", timeout_s=60
        )
        for one in sent:
            with destination.open([one]) as sender:
                assert sender.send(one) == ""
            counts.append(how_many(server))
            statuses.append([r["status"] for r in server.search("DiagnosticReport")])
    assert counts[0] == counts[1]
    assert statuses == [["preliminary"], ["preliminary"], ["amended"]]


def delivery(tmp_path: Path, result: Result) -> Delivery:
    (stored,) = results.write_files(tmp_path / "data", [result])
    return Delivery(
        id=1,
        study_uid="1.2",
        destination="ehr",
        attempt=0,
        owed_since=0.0,
        kind=stored.kind,
        uid=stored.uid,
        sop_class_uid="",
        path=stored.path,
    )


def how_many(server: FhirServer) -> dict[str, int]:
    kinds = ("DiagnosticReport", "Observation", "ImagingStudy", "Device", "Provenance", "Patient")
    return {k: int(httpx.get(f"{server.url}/{k}?_summary=count", timeout=60).json()["total"]) for k in kinds}


def test_the_fhir_report_presents_the_pdf_where_one_is_made(made: Scene) -> None:
    plan = Plan(destination="pacs", kinds=frozenset({"sr", "seg", "pdf", "fhir"}))
    found = report.results(findings(made), made.study, now=NOW, plans=[plan])
    (presented,) = results.report_of(bundle(found))["presentedForm"]
    page = base64.b64decode(presented["data"])
    assert (presented["contentType"], page[:5]) == ("application/pdf", b"%PDF-")
    assert page.rstrip().endswith(b"%%EOF")
    shown = drawn(page)
    assert b"(Draft text by AI, not confirmed by anybody)" in shown, "a draft, and said to be one"
    assert b"- Nodule in the left lung: certainty of finding 81.2 %" in shown


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_fhir_report_presents_a_pdf_although_nobody_asks_for_one(
    made: Scene, language: Literal["en", "zh-TW"]
) -> None:
    """A site that takes FHIR alone has it too, in its language; without pictures it stays small."""
    plan = Plan(
        destination="ris", kinds=takes(Destination(name="ris", kind="fhir", url="http://ris")), language=language
    )
    found = report.results(findings(made), made.study, now=NOW, plans=[plan])
    (presented,) = results.report_of(bundle(found))["presentedForm"]
    page = base64.b64decode(presented["data"])
    assert (b"(Draft text by AI, not confirmed by anybody)" in drawn(page)) is (language == "en")
    assert b"nodule-1" in drawn(page) and len(page) < 20_000
    assert not [r for r in found if r.kind == "pdf"], "an object of its own only by choice"


def drawn(pdf: bytes) -> bytes:
    """What the pages draw, images left out."""
    streams = re.findall(rb"/Filter \[ /FlateDecode \] /Length (\d+)\n>>\nstream\n(.*?)endstream", pdf, re.DOTALL)
    return b"".join(zlib.decompress(s[: int(length)]) for length, s in streams)


def test_a_confirmed_text_is_a_pdf_of_its_own_in_which_nothing_is_markup() -> None:
    page = letter("Report", ("Patient: Doe Jane (P1)", "Confirmed by: Dr Lin"), "A nodule <b>.\n\nCT & more.")
    shown = drawn(page)
    for words in (b"(Report)", b"Patient: Doe Jane", b"Confirmed by: Dr Lin", b"A nodule <b>.", b"CT & more."):
        assert words in shown, words
