import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import select, update
from sqlalchemy.exc import DataError
from support.filled import Filled, fill
from support.pages import serving
from support.postgres import Postgres
from support.results import add_study, prepare

from radnode import studies
from radnode.cli import cli
from radnode.fhir_server import search as fhir_search
from radnode.settings import Settings, TriageRule, Web
from radnode.tables import DeliveryRow, InstanceRow, ReportRow, ResultRow, StudyRow
from radnode.web import views
from radnode.web.pixels import Decoder
from radnode.worklist import Reader


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    web = Web(viewer_url="http://ohif.example/viewer?StudyInstanceUIDs={study_uid}")
    node = fill(tmp_path_factory.mktemp("node"), web=web)
    yield node
    node.database.close()


@pytest.fixture(scope="module")
def client(filled: Filled) -> Iterator[httpx.Client]:
    with serving(filled.settings) as made:
        yield made


def one(filled: Filled, column: Any, *where: Any) -> Any:
    with filled.database.reading() as session:
        return session.scalars(select(column).where(*where)).first()


def test_every_page_answers(client: httpx.Client, filled: Filled) -> None:
    for path in ("/", "/studies", "/peers", "/models", "/fragments/worklist", "/api/studies", "/openapi.json"):
        assert client.get(path).status_code == 200, path
    for uid in vars(filled).values():
        if isinstance(uid, str):
            assert client.get(f"/studies/{uid}").status_code == 200
            assert client.get(f"/api/studies/{uid}").json()["study"]["study_uid"] == uid


@pytest.mark.system
def test_every_page_answers_on_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    node = fill(tmp_path, database_url=postgres.new_database())
    with serving(node.settings) as client:
        for path in (
            "/",
            "/studies",
            "/peers",
            "/metrics",
            "/readyz",
            "/fhir/DiagnosticReport",
            f"/studies/{node.lesion}",
        ):
            assert client.get(path).status_code == 200, path
        assert client.get("/api/worklist").json()["entries"][0]["study"]["study_uid"] == node.lesion
        nul_and_length(client)
    node.database.close()


def nul_and_length(client: httpx.Client) -> None:
    """PostgreSQL keeps no NUL character and no text longer than its column: both are refused and nothing fails."""
    for path in ("/models/%00", "/fhir/Patient/%00", "/fhir/AuditEvent?agent-name=%00"):
        assert client.get(path).status_code == 400, path
    for path, form in (
        ("/login", {"name": "\0", "password": "x"}),
        ("/tokens/revoke", {"name": "\0"}),
        ("/peers", {"name": "a", "ae_title": "A", "url": "http://a/\0"}),
    ):
        assert client.post(path, data=form).status_code == 422, path
    patient = {"resourceType": "Patient", "identifier": [{"system": "a", "value": "x\0y"}]}
    assert client.post("/fhir/Patient", json=patient).status_code == 400
    asked = client.post("/fhir/Patient/_search", data={"identifier": "x\0y"})
    assert asked.status_code == 400 and asked.json()["resourceType"] == "OperationOutcome"


def test_the_worklist_stands_in_order_and_says_why(client: httpx.Client, filled: Filled) -> None:
    rows = client.get("/api/worklist").json()["entries"]
    assert [row["study"]["study_uid"] for row in rows] == [
        filled.lesion, filled.demonstration, filled.normal, filled.declined, filled.failed, filled.phantom, filled.arriving,
    ]  # fmt: skip
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["level"] for row in rows] == ["HIGH", "HIGH"] + ["ROUTINE"] * 5
    outcomes = [row["answers"][0]["outcome"] for row in rows]
    assert outcomes == ["finding", "finding", "clear", "declined", "failed", "not-run", "waiting"]
    texts = [row["answers"][0]["text"] for row in rows]
    assert texts[0].startswith("Nodule, left lung, 81 %")
    assert "12.5 mm apart" in texts[3]
    assert "quality-assurance phantom" in texts[5]
    assert [row["demonstration"] for row in rows] == [False, True] + [False] * 5
    assert (rows[0]["owed"], rows[0]["dead"]) == (1, 1)


def test_the_page_shows_what_the_api_says(client: httpx.Client, filled: Filled) -> None:
    page = client.get("/").text
    positions = [page.index(f"/studies/{uid}") for uid in (filled.lesion, filled.normal, filled.declined)]
    assert positions == sorted(positions)
    assert "MÜLLER, Anna" in page
    assert "images are missing" in page


def test_a_study_page_tells_the_whole_story(client: httpx.Client, filled: Filled) -> None:
    page = client.get(f"/studies/{filled.lesion}").text
    for words in (
        "AI (not verified by a radiologist)",
        "81 %",
        "abstract syntax not supported",
        "Send again",
        "ConnectError",
        "Not installed: weights missing.",
        "The first image arrived from CT1.",
        f"http://ohif.example/viewer?StudyInstanceUIDs={filled.lesion}",
        "<strong>CT 3</strong> · 12 objects",
    ):
        assert words in page, words


def test_the_list_of_studies_goes_on_over_the_page(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    every = re.findall(r'class="row" href="/studies/([0-9.]+)"', client.get("/studies").text)
    monkeypatch.setattr("radnode.web.pages.ON_A_PAGE", 2)
    first, second = client.get("/studies").text, client.get("/studies?page=2").text
    shown = [re.findall(r'class="row" href="/studies/([0-9.]+)"', text) for text in (first, second)]
    assert len(every) > 4 and shown == [every[:2], every[2:4]]
    assert f"1 to 2 of {len(every)} studies" in first and 'href="/studies?page=2"' in first
    assert 'href="/studies?page=1"' in second and 'href="/studies?page=3"' in second
    assert "There are not so many studies." in client.get("/studies?page=99").text
    assert client.get("/studies?page=0").status_code == 422


def test_a_study_that_no_model_read_says_so_and_not_that_the_ai_ended(client: httpx.Client, filled: Filled) -> None:
    for path in (f"/studies/{filled.phantom}", "/", "/studies"):
        assert "no model ran" in client.get(path).text, path
    assert "no model ran" not in client.get(f"/studies/{filled.declined}").text
    assert "AI ended" in client.get(f"/studies/{filled.declined}").text


def test_key_images_reports_and_files_are_served(client: httpx.Client, filled: Filled) -> None:
    def uid(kind: str) -> str:
        return str(one(filled, ResultRow.uid, ResultRow.study_uid == filled.lesion, ResultRow.kind == kind))

    picture = client.get(f"/results/{uid('key-image')}/picture.png")
    assert picture.content.startswith(b"\x89PNG")
    text = client.get(f"/results/{uid('sr')}/text").text
    assert "Finding: Nodule" in text
    assert "Certainty of Finding: 81.25 %" in text
    file = client.get(f"/results/{uid('seg')}/file")
    assert file.headers["content-type"] == "application/dicom"
    assert file.content[128:132] == b"DICM"
    assert client.get(f"/results/{uid('fhir')}/file").json()["resourceType"] == "Bundle"
    assert client.get(f"/results/{uid('sr')}/picture.png").status_code == 404


def test_what_is_not_there_is_404(client: httpx.Client) -> None:
    assert client.get("/studies/1.2.3.99999").status_code == 404
    assert "never received" in client.get("/studies/1.2.3.99999").text
    assert client.get("/api/studies/1.2.3.99999").status_code == 404
    assert client.get("/results/1.2.3/file").status_code == 404
    assert client.get("/results/..%2f..%2fradnode.db/file").status_code == 404
    assert client.get("/studies/1.2'--").status_code == 422


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, web=Web(viewer_url="javascript:alert({study_uid})"))
    database = prepare(settings)
    bad = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    add_study(
        database, "1.2.3", patient_name=bad, patient_id=bad, study_description=bad, accession_number=bad,
        calling_ae="<b>x</b>", study_date="<i>", modalities="<u>", last_instance_at=time.time(),
    )  # fmt: skip
    with serving(settings) as client:
        for path in ("/", "/studies", "/studies/1.2.3"):
            page = client.get(path).text
            assert "&lt;script&gt;alert(1)" in page, path
            for tag in ("<script>alert", "<img src=x", "<b>x", "<i>", "<u>", "javascript:"):
                assert tag not in page, (path, tag)
        wrong = client.post("/peers", data={"name": bad, "ae_title": bad}).text
    assert "<script>alert" not in wrong
    database.close()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("MÜLLER^Anna^Maria^Dr^MD", "MÜLLER, Anna Maria"),
        ("Wang^XiaoDong=王^小東", "Wang, XiaoDong (王, 小東)"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田, 太郎)"),
        ("=山田^太郎=やまだ^たろう", "山田, 太郎"),
        ("==やまだ^たろう", "やまだ, たろう"),
        ("^^^^=^", "–"),
        ("", "–"),
    ],
)
def test_a_name_is_shown_in_letters_and_ideographs_whichever_it_has(name: str, shown: str) -> None:
    assert views.person(name) == shown


@pytest.mark.parametrize(
    ("instant", "shown"),
    [
        ("2026-11-23T02:41:55.824+00:00", "2026-11-23 02:41:55"),
        ("2026-11-23T10:41:55+08:00", "2026-11-23 02:41:55"),
        ("2026-11-23T02:41:55Z", "2026-11-23 02:41:55"),
        ("2026", "2026"),
    ],
)
def test_when_a_report_was_made_is_shown_in_utc_whatever_zone_it_was_written_in(instant: str, shown: str) -> None:
    assert views.issued(instant) == shown


def test_the_policy_is_shown_in_the_names_of_findings_beside_their_codes(client: httpx.Client) -> None:
    for page in ("/", "/triage"):
        assert "pulmonary embolism (59282003), pneumothorax (36118008)" in client.get(page).text
        assert "肺栓塞 (59282003)" in client.get(page, headers={"accept-language": "zh-TW"}).text


def test_the_worklist_s_own_words_are_in_the_reader_s_language(client: httpx.Client) -> None:
    chinese = {"accept-language": "zh-TW", "accept": "text/html"}
    rows, here = client.get("/fragments/worklist", headers=chinese).text, client.get("/fragments/worklist").text
    for words in ("No AI report: normal place", "No finding by AI", "images are arriving", "not for clinical use"):
        assert words in here and words not in rows, words
    assert "Nodule, left lung, 81 %" in rows, "what a model wrote stands as it is"
    assert "<title>找不到" in client.get("/nowhere", headers=chinese).text


def test_an_empty_node_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    prepare(settings).close()
    with serving(settings) as client:
        assert "No study has arrived yet" in client.get("/").text
        assert "Nobody may send" in client.get("/peers").text


def test_security_headers_are_on_every_answer(client: httpx.Client) -> None:
    for path in ("/", "/static/style.css", "/api/worklist", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example"},
    ],
)
def test_another_site_changes_nothing(client: httpx.Client, headers: dict[str, str]) -> None:
    peer = {"name": "evil", "ae_title": "EVIL"}
    assert client.post("/peers", data=peer, headers=headers).status_code == 403
    assert "EVIL" not in client.get("/peers").text


def test_another_name_reads_nothing_while_the_node_serves_its_own_machine(client: httpx.Client) -> None:
    assert client.get("/", headers={"host": "rebound.example:8080"}).status_code == 403
    assert client.get("/", headers={"host": "localhost:8080"}).status_code == 200
    assert client.get("/", headers={"host": "[::1]:8080"}).status_code == 200


def test_peers_are_added_and_removed_and_a_refused_caller_with_one_button(client: httpx.Client) -> None:
    own = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    page = client.get("/peers").text
    assert "MR_NEW" in page
    assert 'name="name" value="mr-new"' in page
    added = client.post("/peers", data={"name": "mr-new", "ae_title": "MR_NEW", "address": "10.1.2.77"}, headers=own)
    assert added.status_code == 200
    assert "<td>mr-new</td><td>MR_NEW</td><td>10.1.2.77</td>" in added.text
    again = client.post("/peers", data={"name": "mr-new", "ae_title": "X"}, headers=own)
    assert again.status_code == 422
    assert "already" in again.text
    gone = client.post("/peers/remove", data={"name": "mr-new"}, headers=own).text
    assert "<td>mr-new</td>" not in gone


@pytest.mark.parametrize(
    "peer",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a", "ae_title": "SEVENTEEN_LETTERS"},
        {"name": "a", "address": "not an address"},
        {"name": "a", "port": "99999"},
        {"name": "a", "port": "x"},
    ],
)
def test_a_wrong_peer_is_refused_with_a_sentence(client: httpx.Client, peer: dict[str, str]) -> None:
    answer = client.post("/peers", data=peer)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text


def test_a_dead_delivery_is_sent_again_by_its_button(client: httpx.Client, filled: Filled) -> None:
    dead = one(filled, DeliveryRow.id, DeliveryRow.state == "dead")
    try:
        answer = client.post(f"/deliveries/{dead}/send-again", data={"study_uid": filled.lesion})
        assert answer.status_code == 200
        assert "is to be sent again" in answer.text
        assert one(filled, DeliveryRow.state, DeliveryRow.id == dead) == "owed"
        assert client.post(f"/deliveries/{dead}/send-again", data={"study_uid": filled.lesion}).status_code == 409
    finally:
        with filled.database.transaction() as session:
            session.execute(update(DeliveryRow).where(DeliveryRow.id == dead).values(state="dead"))


def test_fhir_reports_are_found_and_their_references_lead_somewhere(client: httpx.Client, filled: Filled) -> None:
    every = client.get("/fhir/DiagnosticReport").json()
    assert every["total"] == len(every["entry"]) == 3
    found = client.get("/fhir/DiagnosticReport", params={"study": filled.lesion}).json()["entry"][0]["resource"]
    assert found["status"] == "preliminary"
    by_id = client.get(f"/fhir/DiagnosticReport/{found['id']}")
    assert by_id.json() == found
    assert by_id.headers["content-type"] == "application/fhir+json"
    (reference,) = (r["reference"] for r in found["result"])
    assert client.get(f"/fhir/{reference}").json()["resourceType"] == "Observation"
    assert client.get(f"/fhir/{found['imagingStudy'][0]['reference']}").json()["resourceType"] == "ImagingStudy"
    identifier = found["identifier"][0]
    query = {"identifier": f"{identifier['system']}|{identifier['value']}"}
    assert client.get("/fhir/DiagnosticReport", params=query).json()["total"] == 1
    assert client.get("/fhir/DiagnosticReport", params={"_id": found["id"]}).json()["total"] == 1
    assert client.get("/fhir/DiagnosticReport", params={"status": "final"}).json()["total"] == 0
    assert client.get("/fhir/Observation/none").json()["resourceType"] == "OperationOutcome"


def test_a_retracted_report_leaves_the_top_and_says_so(client: httpx.Client, filled: Filled) -> None:
    change = update(ReportRow).where(ReportRow.study_uid == filled.lesion)
    try:
        with filled.database.transaction() as session:
            session.execute(change.values(status="entered-in-error", updated_at=time.time()))
        row = client.get(f"/api/studies/{filled.lesion}").json()["worklist"]
        assert row["level"] == "ROUTINE"
        assert row["answers"][0]["outcome"] == "retracted"
    finally:
        with filled.database.transaction() as session:
            session.execute(change.values(status="preliminary", updated_at=time.time()))


def test_metrics_count_what_the_tables_hold(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    for line in (
        'radnode_studies{state="read"} 6.0',
        'radnode_studies{state="receiving"} 1.0',
        'radnode_jobs{state="declined"} 1.0',
        'radnode_deliveries{state="owed"} 3.0',
        'radnode_deliveries{state="dead"} 1.0',
        "radnode_refused_callers 2.0",
    ):
        assert line in text, line
    assert 'radnode_last_image_to_delivered_seconds_bucket{le="+Inf"}' in text


def test_ready_only_with_a_database_and_a_disk(client: httpx.Client, tmp_path: Path) -> None:
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").json() == {"database": "ok", "disk": "ok"}
    with serving(Settings(data=tmp_path)) as empty:
        answer = empty.get("/readyz")
        assert answer.status_code == 503
        assert "does not answer" in answer.json()["database"]
        assert empty.get("/healthz").status_code == 200


def test_the_policy_of_the_settings_is_the_one_that_counts(filled: Filled) -> None:
    policy = (TriageRule(name="nodules-are-urgent", codes=("27925004",), level="STAT"),)
    rows = Reader(filled.database, policy).worklist(time.time()).entries
    assert [str(row.level) for row in rows[:3]] == ["STAT", "STAT", "ROUTINE"]


def test_old_studies_leave_the_worklist_and_are_counted(filled: Filled) -> None:
    later = time.time() + 8 * 86400
    shown = Reader(filled.database, None).worklist(later)
    assert (shown.entries, shown.older) == ((), 7)


@pytest.mark.system
def test_the_open_page_follows_the_worklist_without_a_reload(filled: Filled, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    code = (
        "import sys; from radnode.settings import Settings; from radnode.web.app import serve;"
        "serve(Settings.model_validate_json(sys.argv[1]))"
    )
    free = filled.settings.model_copy(update={"web": Web(port=0)})
    port_file = filled.settings.data / "run" / "web.port"
    port_file.unlink(missing_ok=True)
    server = subprocess.Popen([sys.executable, "-c", code, free.model_dump_json()])
    try:
        url = f"http://127.0.0.1:{wait_for(port_file)}/"
        assert httpx.get(f"{url}healthz", timeout=60).status_code == 200
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox"], timeout=120_000
            )
            problems: list[str] = []
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            page.goto(url)
            first = page.locator("tbody[data-filtered] tr").first
            assert first.get_attribute("data-key") == filled.lesion
            with filled.database.transaction() as session:
                session.execute(
                    update(StudyRow).where(StudyRow.study_uid == filled.arriving).values(patient_name="NEW^Name")
                )
                session.execute(
                    update(ReportRow)
                    .where(ReportRow.study_uid == filled.lesion)
                    .values(status="entered-in-error", updated_at=1.0)
                )
            page.wait_for_selector("text=NEW, Name", timeout=60_000)
            assert first.get_attribute("data-key") == filled.demonstration
            page.keyboard.press("/")
            page.keyboard.type("lindqvist new")
            page.keyboard.press("Control+A")
            page.keyboard.type("name new")
            assert page.locator("tbody[data-filtered] tr:visible").count() == 1
            browser.close()
        assert problems == []
    finally:
        server.terminate()
        assert server.wait(60) in (0, -15)


def wait_for(file: Path, seconds: float = 60.0) -> int:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not come"
        time.sleep(0.05)
    return int(file.read_text())


@pytest.mark.parametrize("seconds", ["inf", "1e308", "nan", "86401", "-1"])
def test_a_quiet_time_that_never_ends_is_refused_by_page_command_and_settings(
    client: httpx.Client, tmp_path: Path, seconds: str
) -> None:
    """It would keep every study of the peer from being complete, and the page of peers from being shown."""
    answer = client.post("/peers", data={"name": "for-ever", "ae_title": "EVER", "quiet_s": seconds})
    assert answer.status_code == 422 and 'role="alert"' in answer.text
    assert client.get("/peers").status_code == 200
    with pytest.raises(ValueError, match=r"quiet_s|quiet time"):
        Settings.model_validate({"peers": [{"name": "a", "quiet_s": seconds}]})
    with pytest.raises(ValueError, match="quiet_s"):
        Settings.model_validate({"complete": {"quiet_s": seconds}})
    added = CliRunner().invoke(
        cli, ["peers", "add", "for-ever", f"--quiet-s={seconds}"], env={"RADNODE_DATA": str(tmp_path)}
    )
    assert added.exit_code != 0


@pytest.mark.parametrize(
    "path",
    [
        "/audit?before={}", "/held/{}/sr-1.2.dcm", "/triage/simulation/{}", "/fragments/triage/simulation/{}",
    ],
)  # fmt: skip
def test_a_number_too_large_for_a_row_leads_nowhere(client: httpx.Client, path: str) -> None:
    for number in (2**31, 10**30):
        assert client.get(path.format(number)).status_code in (404, 422)
        page = client.get(path.format(number), headers={"accept": "text/html"})
        assert page.status_code in (404, 422), path
    assert client.post(f"/deliveries/{10**30}/send-again", data={"study_uid": "1"}).status_code == 422
    assert client.post(f"/triage/simulation/{10**30}/cancel").status_code == 422


def test_pictures_that_stall_the_decoder_keep_no_other_page_waiting(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, begun = threading.Event(), threading.Event()

    def stalls(*_: object) -> bytes:
        begun.set()
        held.wait(250)
        return b""

    monkeypatch.setattr(Decoder, "run", stalls)
    series = one(filled, InstanceRow.series_uid, InstanceRow.study_uid == filled.lesion)
    path = f"/studies/{filled.lesion}/series/{series}/thumbnail.png"
    with serving(filled.settings) as client, ThreadPoolExecutor(60) as many:
        asked = [many.submit(httpx.get, client.base_url.join(path), timeout=250) for _ in range(60)]
        try:
            assert begun.wait(60)
            assert client.get("/studies", timeout=60).status_code == 200
            assert not any(answer.done() for answer in asked)
        finally:
            held.set()
        assert {answer.result().status_code for answer in asked} == {200}


def test_an_address_with_a_nul_leads_nowhere(client: httpx.Client) -> None:
    for path in ("/models/%00", "/studies/%00", "/peers?edit=%00", "/fhir/Patient?identifier=%00", "/static/%00"):
        assert client.get(path).status_code == 400, path


def test_a_value_that_the_database_does_not_take_is_refused_and_no_failure(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfit(*_: object, **__: object) -> None:
        raise DataError("INSERT", {}, ValueError("value too long for type character varying(64)"))

    monkeypatch.setattr(studies, "studies", unfit)
    monkeypatch.setattr(fhir_search, "search", unfit)
    with serving(filled.settings) as client:
        page = client.get("/studies", headers={"accept": "text/html"})
        outcome = client.get("/fhir/Patient")
    assert page.status_code == 422 and "nothing was changed" in page.text and "varying" not in page.text
    assert outcome.status_code == 400 and "cannot be kept" in outcome.json()["issue"][0]["diagnostics"]


def test_a_failure_is_told_on_a_page_with_the_headers_of_every_other(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("MÜLLER^Anna")

    monkeypatch.setattr(studies, "studies", fails)
    with serving(filled.settings) as client:
        asked = {"accept": "text/html", "connection": "close", "accept-language": "zh-TW"}
        page = client.get("/studies", headers=asked)
        program = client.get("/studies", headers={"connection": "close"})
    assert page.status_code == program.status_code == 500
    assert (
        'role="alert"' in page.text and "節點處理時發生錯誤" in page.text and "MÜLLER" not in page.text + program.text
    )
    assert program.text.startswith("The node failed at this; its log says why.")
    assert (
        "default-src 'self'" in page.headers["content-security-policy"] and page.headers["cache-control"] == "no-store"
    )
