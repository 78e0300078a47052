"""The pages in a headless Chromium: live order, keyboard alone, axe-core; their pictures lie in test-output/pages."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page
from support.filled import Filled, fill
from support.findings import MODEL, findings, lesion, scene
from support.pages import serving
from support.results import add_job, add_study, prepare, record
from support.viewers import ROOT, chromium, fetched

from radnode import report, verdicts
from radnode.policy_shadow import Shadow
from radnode.scores import Watch
from radnode.settings import Settings, TriageRule, Viewer, Web
from radnode.simulation import runs
from radnode.simulation.runs import Asked
from radnode.tables_monitoring import ScoreRow, SimulationRow
from radnode.worklist import Reader
from radnode_inference.findings import Code

pytestmark = pytest.mark.system
PICTURES = ROOT / "test-output" / "pages"
EMBOLISM = Code(value="59282003", scheme="SCT", meaning="Pulmonary embolism")
AXE = """async () => (await axe.run({ resultTypes: ["violations"] })).violations
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .map((v) => v.id + ": " + v.nodes.map((n) => n.target.join(" ") + " " + n.failureSummary).slice(0, 3).join(" | "))"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    web = Web(viewers=(Viewer(name="OHIF", url="http://ohif.example/viewer?StudyInstanceUIDs={study_uid}"),))
    node = fill(tmp_path_factory.mktemp("node"), web=web, triage_shadow=(TriageRule(name="draft", level="STAT"),))
    watched(node)
    yield node
    node.database.close()


def watched(node: Filled) -> None:
    """Months of scores with a change, so that the charts and the alarms have something to show, and a simulation."""
    now = time.time()
    with node.database.transaction() as session:
        for i in range(600):
            found, at = i % 4 == 0 or i > 500, now - (600 - i) * 86400 / 5
            session.add(ScoreRow(
                study_uid=f"1.9.{i}", model="ct-lung", version="1", scanner=f"Maker CT {i % 2}", at=at, seen=at,
                status="preliminary", findings=int(found), probability=0.8 if found else None,
            ))  # fmt: skip
        asked = Asked(studies=100, trials=2, draft='[[triage]]\nname = "all"\nlevel = "STAT"').model_dump(mode="json")
        session.add(SimulationRow(id=1, asked=asked, state="running", created_at=now, beat_at=now))
    Watch(node.database, node.settings).turn(now)
    Shadow(node.database, node.settings).turn(now)
    runs.compute(node.database, node.settings, 1, lambda: True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def url(filled: Filled, browser: Browser) -> Iterator[str]:
    with serving(filled.settings) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made = browser.new_page(viewport={"width": 1500, "height": 900})
    problems: list[str] = []
    made.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    made.on("pageerror", lambda e: problems.append(str(e)))
    yield made
    made.close()
    assert problems == []


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.closest('tr')?.dataset.key ?? document.activeElement.id"))


def tab_to(page: Page, words: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == words:
            return
    raise AssertionError(f"{words!r} cannot be reached by the Tab key")


def test_a_new_stat_study_is_first_within_a_second_of_its_report_without_a_reload(
    filled: Filled, url: str, page: Page, tmp_path: Path
) -> None:
    made = scene(tmp_path / "s", seed=9, shape=(12, 96, 96))
    said = findings(made, (replace(lesion(made, "embolus-1", (5, 3, 2), 9.0), concept=EMBOLISM),))
    said = replace(said, model=replace(MODEL, name="ct-lung"))
    objects = list(report.results(said, made.study))
    page.goto(url)
    page.evaluate("window.sameDocument = true")
    page.keyboard.press("j")
    assert focused(page) == filled.lesion
    now = time.time()
    add_study(
        filled.database, said.study_uid, state="read", patient_name="URGENT^Case", patient_id="P77",
        study_description="CT pulmonary angiography", modalities="CT", first_instance_at=now, last_instance_at=now,
    )  # fmt: skip
    job = add_job(filled.database, said.study_uid, "ct-lung", state="done", progress=1.0)
    reported = time.monotonic()
    record(filled.database, filled.settings.data, job, objects, filled.settings.destinations, now=time.time())
    first = f"tbody[data-filtered] tr:first-child[data-level=STAT][data-key='{said.study_uid}']"
    page.wait_for_selector(first, timeout=10_000)
    took = time.monotonic() - reported
    assert took < 1.0, f"{took:.2f} s"
    assert page.evaluate("window.sameDocument") is True
    assert focused(page) == filled.lesion, "the focus stays on the study that the reader was at"
    assert "URGENT, Case" in page.locator("#live").inner_text()
    picture(page, "worklist-stat")


def test_the_keyboard_alone_finds_a_study_and_rules_on_its_finding(filled: Filled, url: str, page: Page) -> None:
    page.goto(url)
    rows = page.locator("tbody[data-filtered] tr").evaluate_all("rows => rows.map(r => r.dataset.key)")
    for key, row in (("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("End", -1), ("Home", 0)):
        page.keyboard.press(key)
        assert focused(page) == rows[row], key
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    picture(page, "help")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("müller")
    assert page.locator("tbody[data-filtered] tr:visible").count() == 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{filled.lesion}")
    tab_to(page, "Reject")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Undo")
    with filled.database.reading() as session:
        (ruling,) = verdicts.history(session, filled.lesion)
    assert (ruling.ruling, ruling.model) == ("rejected", "ct-lung")
    tab_to(page, "Undo")
    with page.expect_navigation():  # the keys are heard once the next page is there
        page.keyboard.press("Enter")
    page.wait_for_selector("text=Accept")
    page.keyboard.press("w")
    page.wait_for_url(f"{url}/")


def test_a_priority_is_set_by_the_keyboard_alone(filled: Filled, url: str, page: Page) -> None:
    page.goto(url)
    page.keyboard.press("/")
    page.keyboard.type("schmidt")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("p")
    page.wait_for_url(f"**/studies/{filled.normal}#priority")
    page.keyboard.press("p")
    assert page.evaluate("document.activeElement.id") == "priority-level"
    page.keyboard.type("S")
    page.keyboard.press("Tab")
    page.keyboard.type("the ward called")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=set by a person: the ward called")
    assert page.locator(".bar .badge.STAT").count() == 1
    tab_to(page, "Take it back")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Take it back", state="detached")


def test_outlines_are_switched_off_and_lie_where_the_finding_is(filled: Filled, url: str, page: Page) -> None:
    page.goto(f"{url}/studies/{filled.lesion}")
    outline = page.locator("img.outline").first
    for image in (outline, page.locator("img.slice").first):
        image.scroll_into_view_if_needed()
        image.wait_for()
    page.keyboard.press("o")
    assert not outline.is_visible()
    page.keyboard.press("o")
    assert outline.is_visible()
    sizes = page.evaluate(
        """() => Promise.all([...document.querySelectorAll('.stack img')].map((i) => i.decode().then(
            () => [i.naturalWidth, i.naturalHeight, i.clientWidth])))"""
    )
    assert sizes[0] == sizes[1]
    assert sizes[0][:2] == [96, 96]


def test_every_column_has_a_filter(filled: Filled, url: str, page: Page) -> None:
    page.goto(url)
    visible = page.locator("tbody[data-filtered] tr:visible")
    every = visible.count()
    for column, value in (
        ("Filter: Priority", "high"),
        ("Filter: Name", "gener"),
        ("Filter: Accession number", "a-203"),
    ):
        page.get_by_label(column).fill(value)
    assert visible.count() == 1
    assert f"1 of {every} shown" in page.locator("#count").inner_text()
    page.get_by_role("button", name="Clear").click()
    assert visible.count() == every


def looked_at(filled: Filled, language: str) -> dict[str, str]:
    first = {
        "worklist": "/",
        "study": f"/studies/{filled.lesion}",
        "model": "/models/ct-lung",
        "triage": "/triage",
        "simulation": "/triage/simulation/1",
        "simulate": "/triage/simulation",
    }
    if language != "en":
        return first
    return first | {
        "models": "/models",
        "studies": "/studies",
        "peers": "/peers",
        "upload": "/upload",
        "retract": f"/studies/{filled.lesion}/retract?model=ct-lung",
    }


@pytest.mark.parametrize(("scheme", "language"), [("light", "en"), ("dark", "zh-TW")])
def test_axe_finds_no_serious_violation_on_any_page(
    filled: Filled, url: str, browser: Browser, scheme: Any, language: str
) -> None:
    axe = fetched() / "axe-core" / "axe.min.js"
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, locale=language, viewport={"width": 1500, "height": 900}
    )
    page = context.new_page()
    found = {}
    for name, path in looked_at(filled, language).items():
        page.goto(f"{url}{path}")
        assert page.locator("html").get_attribute("lang") == language
        page.add_script_tag(path=axe)
        if problems := page.evaluate(AXE):
            found[name] = problems
        picture(page, f"{name}-{scheme}-{language}")
    context.close()
    assert found == {}


def test_a_thousand_rows_are_drawn_and_followed_smoothly(tmp_path: Path, browser: Browser) -> None:
    settings = Settings(data=tmp_path)
    database = prepare(settings)
    now = time.time()
    for i in range(1000):
        add_study(
            database, f"1.2.9.{i}", state="read", patient_name=f"PATIENT^{i}", patient_id=f"M{i}",
            study_description="CT Chest", modalities="CT", first_instance_at=now - i, last_instance_at=now - i,
        )  # fmt: skip
    assert len(Reader.of(settings, database).worklist(now).entries) == 1000
    with serving(settings) as client:
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.goto(str(client.base_url))
        assert page.locator("tbody[data-filtered] tr").count() == 1000
        frame = page.evaluate(
            """async () => {
                let last = performance.now(), frames = 0; const times = [];
                return await new Promise((done) => requestAnimationFrame(function step(now) {
                    times.push(now - last); last = now;
                    if (frames === 20) { const f = document.getElementById('filter'); f.value = 'patient 5'; f.dispatchEvent(new Event('input')); }
                    window.scrollBy(0, 40);
                    if (++frames < 90) requestAnimationFrame(step); else done(times.sort((a, b) => a - b)[45]);
                }));
            }"""
        )
        session_of = page.context.new_cdp_session(page)
        session_of.send("Performance.enable", {"timeDomain": "threadTicks"})
        before, started = work_s(session_of), time.monotonic()
        with database.transaction() as session:
            verdicts.remark(session, "1.2.9.5", "please call the ward", "test", now)
        cell = 'tr[data-key="1.2.9.5"] td:nth-child(13)'
        page.locator(cell, has_text="please call the ward").wait_for(state="attached")
        took, worked = time.monotonic() - started, work_s(session_of) - before
        page.close()
    database.close()
    assert worked < 1.0, f"the page worked {worked:.2f} s for one changed row"
    assert frame < 50, f"half of the frames took {frame:.0f} ms or more"
    assert took < 5, f"a change took {took:.2f} s"


def work_s(session: CDPSession) -> float:
    """Seconds of processor time that the page's main thread worked: parsing, scripts, layout, style and painting."""
    found = session.send("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in found if m["name"] == "TaskDuration"))
