"""The pages in a headless Chromium: live order, keyboard alone, axe-core; their pictures lie in test-output/pages."""

import re
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import delete
from support.access import ADMINISTRATOR, PASSWORD, READER, sign_in
from support.filled import Filled, fill
from support.findings import scene
from support.pages import serving
from support.results import add_study, prepare, record
from support.urgent import REMARK_CELL, arrives, embolism, thousand
from support.viewers import ROOT, chromium, fetched

from radnode import accounts, events, verdicts
from radnode.accounts import Role
from radnode.events import Action
from radnode.policy_shadow import Shadow
from radnode.scores import Watch
from radnode.settings import Settings, TriageRule, Viewer, Web
from radnode.simulation import runs
from radnode.simulation.runs import Asked
from radnode.tables_access import SessionRow
from radnode.tables_monitoring import ScoreRow, SimulationRow
from radnode.web.access import TABLE
from radnode.web.door import COOKIE
from radnode.web.views import COLUMNS
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


def test_a_new_stat_study_is_first_without_a_reload(filled: Filled, url: str, page: Page, tmp_path: Path) -> None:
    urgent = embolism(tmp_path / "s")
    page.goto(url)
    page.evaluate("window.sameDocument = true")
    page.keyboard.press("j")
    assert focused(page) == filled.lesion
    job = arrives(filled.database, urgent)
    record(filled.database, filled.settings.data, job, urgent.objects, filled.settings.destinations, now=time.time())
    page.wait_for_selector(urgent.first_row, timeout=60_000)
    assert page.evaluate("window.sameDocument") is True
    assert focused(page) == filled.lesion, "the focus stays on the study that the reader was at"
    page.locator("#live", has_text="URGENT, Case").wait_for(state="attached", timeout=60_000)
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
    composed = (
        "f => f.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true, isComposing: true}))"
    )
    page.locator("#filter").evaluate(composed)
    assert focused(page) == "filter", "the arrows of an input method choose characters"
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


def test_what_was_chosen_in_a_list_stays_when_the_page_changes_meanwhile_and_that_is_said(
    filled: Filled, url: str, page: Page
) -> None:
    page.goto(f"{url}/studies/{filled.normal}")
    page.select_option("#priority-level", "STAT")
    page.focus("#priority-comment")
    with filled.database.transaction() as session:
        events.write(session, filled.normal, Action.RULED, "Something happened meanwhile.", time.time())
    page.wait_for_selector("#live.problem")
    assert "There is news of this study" in page.locator("#live").inner_text()
    assert page.locator("#priority-level").input_value() == "STAT", "not HIGH again, which would be set then"
    page.select_option("#priority-level", "HIGH")  # as it was: nothing of a person's would be lost
    page.focus("#filter, .history")
    page.wait_for_selector("text=Something happened meanwhile.", timeout=60_000)
    page.wait_for_selector("#live.problem", state="detached", timeout=60_000)


def test_names_leave_the_screen_with_the_session_and_what_was_written_is_sent_after_signing_in_again(
    tmp_path: Path, browser: Browser
) -> None:
    node = fill(tmp_path, web=Web(login="required"))
    accounts.add(node.database, READER, Role.READER, PASSWORD, time.time())
    with serving(node.settings) as client:
        url = str(client.base_url).rstrip("/")
        context = browser.new_context()
        page, other = context.new_page(), context.new_page()
        sign_in_by_page(page, url)
        page.wait_for_selector("text=MÜLLER")
        other.goto(f"{url}/studies/{node.lesion}")
        other.fill("#remark-text", "call the ward")
        with node.database.transaction() as session:
            session.execute(delete(SessionRow))
            events.write(session, node.lesion, Action.RULED, "So that the pages look.", time.time())
        page.bring_to_front()
        page.wait_for_url("**/login*", timeout=60_000)
        assert "MÜLLER" not in page.content()
        other.bring_to_front()
        assert other.locator("#remark-text").input_value() == "call the ward", "not loaded anew under the hand"
        with other.expect_navigation():
            other.click("#remark button")
        assert "You are signed out" in other.content()
        picture(other, "signed-out")
        with context.expect_page() as opened:
            other.get_by_role("link", name="Sign in", exact=True).click()
        sign_in_by_page(opened.value, url)
        other.reload()
        assert other.locator("#remark-text").input_value() == "call the ward"
        assert other.locator("tr, #remark").count()
        context.close()
    with node.database.reading() as session:
        assert verdicts.remarks(session)[node.lesion] == "call the ward"
    node.database.close()


def sign_in_by_page(page: Page, url: str) -> None:
    page.goto(f"{url}/login")
    page.fill("[name=name]", READER)
    page.fill("[name=password]", PASSWORD)
    page.click("main button")
    page.wait_for_url(f"{url}/")


def test_a_study_that_was_marked_as_read_is_named_and_can_be_taken_back_at_once(
    filled: Filled, url: str, page: Page
) -> None:
    page.goto(url)
    row = page.locator(f"tr[data-key='{filled.declined}']")
    row.get_by_role("button", name="Mark as read").click()
    page.wait_for_selector("#marked")
    assert "PEREIRA, Maria" in page.locator("#marked").inner_text() and row.count() == 0
    picture(page, "worklist-marked")
    page.click("#marked button")
    page.wait_for_url(f"**/studies/{filled.declined}")
    page.goto(url)
    assert row.count() == 1


def test_a_very_long_name_leaves_the_results_of_the_others_on_the_screen(tmp_path: Path, browser: Browser) -> None:
    """Five components of 64 characters (PS3.5 table 6.2-1), an identifier and a description as long: the row grows, not the table."""
    settings = Settings(data=tmp_path)
    database = prepare(settings)
    long = "^".join(letter * 64 for letter in "VWXYZ")
    for number, (name, said) in enumerate((("SHORT^Name", "CT Chest"), (long, "D" * 64))):
        add_study(
            database, f"1.2.8.{number}", state="read", patient_name=name, patient_id=said[:1] * 64, study_description=said,
            modalities="CT", first_instance_at=time.time(), last_instance_at=time.time(),
        )  # fmt: skip
    with serving(settings) as client:
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.goto(str(client.base_url))
        right = page.locator("ul.answers").first.bounding_box()
        assert right is not None and right["x"] + right["width"] <= 1500
        phone = browser.new_page(viewport={"width": 390, "height": 800})
        for path in ("/", "/studies/1.2.8.1", "/rules", "/reconcile", "/peers"):
            phone.goto(f"{client.base_url}{path}")
            assert phone.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.close()
        phone.close()
    database.close()


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
    """Each alone leaves the rows that hold the words in its column, and no others; the last column holds actions."""
    page.goto(url)
    rows = page.locator("tbody[data-filtered] tr:not(.empty)")
    texts = rows.evaluate_all("(all) => all.map((row) => [...row.cells].map((cell) => cell.textContent))")
    shown = "(all) => all.map((row, at) => [row, at]).filter(([row]) => !row.hidden).map(([, at]) => at)"
    for number, column in enumerate(COLUMNS[:-1]):
        words = {row[number].strip() for row in texts}
        word = max(words, key=lambda w: (sum(w.lower() not in r[number].lower() for r in texts), w))
        word = "h" if column == "Waiting" else next(iter(word.splitlines()), "no such words").strip()  # seconds go on
        page.get_by_label(f"Filter: {column}", exact=True).fill(word.upper())
        expected = [at for at, row in enumerate(texts) if word.lower() in row[number].lower()]
        assert rows.evaluate_all(shown) == expected, column
        if column not in ("Sex", "Comment", "Body part"):
            assert len(expected) < len(texts), f"{column}: {word!r} leaves every row"
        page.get_by_role("button", name="Clear").click()
        assert rows.evaluate_all(shown) == list(range(len(texts)))
    page.get_by_label("Filter: Priority").fill("high")
    page.get_by_label("Filter: Name").fill("gener")
    assert len(rows.evaluate_all(shown)) == 1
    assert f"1 of {len(texts)} shown" in page.locator("#count").inner_text()
    page.get_by_role("button", name="Clear").click()


HELD = {"study_uid", "name", "number"}
"""Places in the addresses of pages; what has others (files, pictures, resources) is no page."""
NO_PAGES = re.compile(
    r"/(static|healthz|readyz|changes|metrics|openapi\.json|login/oidc.*|api/.*|fhir/.*|fragments/.*)"
)


def pages_of(filled: Filled) -> list[str]:
    """The address of every page, from the table of routes, which names them all (tests/node/test_access.py)."""
    values = {"study_uid": filled.lesion, "name": "ct-lung", "number": "1"}
    found = {line.path for line in TABLE if "GET" in line.methods and not NO_PAGES.fullmatch(line.path)}
    paged = (path for path in sorted(found) if set(re.findall(r"{(\w+)", path)) <= HELD)
    made = [re.sub(r"{(\w+)}", lambda place: values[place[1]], path) for path in paged]
    return [f"{path}?model=ct-lung" if path.endswith("/retract") else path for path in made]


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A node where people sign in. cookies: name -> of that person's session."""

    node: Filled
    url: str
    cookies: Mapping[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    web = Web(login="required")
    node = fill(tmp_path_factory.mktemp("guarded"), web=web, triage_shadow=(TriageRule(name="draft", level="STAT"),))
    watched(node)
    accounts.add(node.database, ADMINISTRATOR, Role.ADMINISTRATOR, PASSWORD, time.time())
    accounts.add(node.database, READER, Role.READER, PASSWORD, time.time())
    cookies = {}
    with serving(node.settings) as client:
        url = str(client.base_url).rstrip("/")
        client.headers["origin"] = url
        for who in (ADMINISTRATOR, READER):
            client.cookies.clear()  # who signs in again ends the session before
            assert sign_in(client, who).status_code == 303
            cookies[who] = client.cookies[COOKIE]
        yield Guarded(node=node, url=url, cookies=cookies)
    node.database.close()


@pytest.mark.parametrize(("scheme", "language"), [("light", "en"), ("dark", "zh-TW")])
def test_axe_finds_no_serious_violation_on_any_page(
    guarded: Guarded, browser: Browser, scheme: Any, language: str
) -> None:
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, locale=language, viewport={"width": 1500, "height": 900}
    )
    page = context.new_page()
    found: dict[str, object] = {}
    seen: dict[str, str] = {}
    for who, paths in (
        ("", ["/login"]),
        (ADMINISTRATOR, [*pages_of(guarded.node), "/studies/9.9", "/no/such/page"]),
        (READER, ["/users"]),
    ):
        context.clear_cookies()
        if who:
            context.add_cookies([{"name": COOKIE, "value": guarded.cookies[who], "url": guarded.url}])
        for path in paths:
            page.goto(f"{guarded.url}{path}")
            assert page.locator("html").get_attribute("lang") == language
            page.add_script_tag(path=fetched() / "axe-core" / "axe.min.js")
            if problems := page.evaluate(AXE):
                found[path] = problems
            words = path.replace(guarded.node.lesion, "one") + {"": " signed out", READER: " refused"}.get(who, "")
            name = "-".join(re.findall(r"[a-z0-9]+", words)) or "worklist"
            assert name not in seen, "its picture would take the place of another"
            seen[name] = page.locator("h1").first.inner_text()
            if scheme == "light":
                picture(page, f"{name}-{scheme}-{language}")
    context.close()
    print(seen)
    assert found == {}
    assert len(set(seen.values())) >= 20


def test_a_thousand_rows_are_drawn_and_followed(tmp_path: Path, browser: Browser) -> None:
    """How fast: benchmarks/worklist_page.py."""
    with thousand(tmp_path) as node:
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.goto(node.url)
        assert page.locator("tbody[data-filtered] tr").count() == 1000
        page.evaluate("window.sameDocument = true")
        page.locator("#filter").fill("patient 5")
        with node.database.transaction() as session:
            verdicts.remark(session, "1.2.9.5", "please call the ward", "test", time.time())
        page.locator(REMARK_CELL, has_text="please call the ward").wait_for(state="attached")
        page.locator("#filter").fill("")  # every row counts
        record(node.database, node.settings.data, node.job, node.urgent.objects, now=time.time())
        page.wait_for_selector(node.urgent.first_row, timeout=60_000)
        assert page.evaluate("window.sameDocument") is True
        page.close()


DROP = """async (files) => {
    // a drop as a browser gives it: one file, and a folder with a folder in it; one more that cannot be read
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const leaf = (name, text) => ({ isFile: true, name, file: (ok) => ok(new File([bytes(text)], name)) });
    const folder = (name, inside) => ({ isFile: false, name, createReader: () => {
        const turns = [...inside.map((one) => [one]), []];  // a browser gives the entries of a folder in several turns
        return { readEntries: (ok) => ok(turns.shift()) };
    } });
    const gone = { isFile: true, name: "gone.dcm", file: (ok, fail) => fail(new Error("away")) };
    const [one, two, three] = files;
    const entries = [gone, leaf("one.dcm", one), folder("outer", [leaf("two.dcm", two), folder("inner", [leaf("three.dcm", three)])]),
        folder("nothing", [])];
    const event = new Event("drop", { bubbles: true, cancelable: true });
    event.dataTransfer = { items: entries.map((entry) => ({ webkitGetAsEntry: () => entry })) };
    document.getElementById("drop").dispatchEvent(event);
    return event.defaultPrevented;
}"""


def test_files_a_folder_and_a_drop_are_sent_and_each_is_answered(url: str, page: Page, tmp_path: Path) -> None:
    images = sorted(scene(tmp_path / "s", seed=77, shape=(6, 16, 16)).folder.glob("*.dcm"))
    text = tmp_path / "readme.txt"
    text.write_text("no image" * 100)
    page.goto(f"{url}/upload")
    page.set_input_files("#files", [images[0], text])
    summary = page.locator("#sum")
    summary.filter(has_text="1 kept, 1 refused").wait_for()
    cells = page.locator("#answers tr").first.locator("td")
    assert cells.nth(0).inner_text() == "readme.txt", "what was refused stands first"
    assert "not a DICOM file" in cells.nth(1).inner_text()
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    images[1].rename(folder / "a.dcm")
    images[2].rename(folder / "below" / "b.dcm")
    page.set_input_files("#folder", folder)
    summary.filter(has_text="3 kept, 1 refused").wait_for()
    bodies = [b64encode(f.read_bytes()).decode() for f in images[3:6]]
    assert page.evaluate(DROP, bodies) is True, "the browser itself does not open the file"
    summary.filter(has_text="6 kept, 3 refused").wait_for()
    empty = page.locator("#answers tr", has_text="nothing").first
    assert "There is no file in this folder." in empty.inner_text()
    names = set(page.locator("#answers tr td:first-child").all_inner_texts())
    assert names == {
        images[0].name, "readme.txt", "folder/a.dcm", "folder/below/b.dcm",
        "gone.dcm", "nothing", "one.dcm", "outer/two.dcm", "outer/inner/three.dcm",
    }  # fmt: skip
    bar = page.locator("#progress")
    assert bar.is_visible() and bar.evaluate("(b) => [b.value, b.max]") == [9, 9]
    assert str(page.locator("#answers a").first.get_attribute("href")).startswith("/studies/")
