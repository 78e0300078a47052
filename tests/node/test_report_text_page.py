"""The text of a report in a headless Chromium: edited, saved and confirmed by keyboard; pictures in test-output/pages."""

import time
from pathlib import Path

import pytest
from playwright.sync_api import Page
from support.filled import EHR, PACS, read
from support.language_model import language_model, texts
from support.pages import serving
from support.results import prepare
from support.viewers import ROOT, chromium, fetched

from radnode.narrative import narrate
from radnode.settings import Settings
from radnode.settings_narrative import Narrative

pytestmark = pytest.mark.system
PICTURES = ROOT / "test-output" / "pages"
AXE = """async () => (await axe.run({ resultTypes: ["violations"] })).violations
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .map((v) => v.id + ": " + v.nodes.map((n) => n.target.join(" ") + " " + n.failureSummary).slice(0, 3).join(" | "))"""


def looked_at(page: Page, name: str) -> None:
    """axe-core finds nothing serious; a picture of the card is kept."""
    page.add_script_tag(path=fetched() / "axe-core" / "axe.min.js")
    assert page.evaluate(AXE) == []
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.locator(".text-card").first.screenshot(path=PICTURES / f"{name}.png")


def test_a_person_edits_saves_and_confirms_a_text_in_the_browser(tmp_path: Path) -> None:
    with (
        language_model(lambda given: texts({"F1": "A mass in the right lung; CT is advised."})) as writer,
        chromium() as browser,
    ):
        wanted = Narrative(url=writer.url, model="test-writer")
        settings = Settings(data=tmp_path / "data", destinations=(PACS, EHR), narrative=wanted)
        database = prepare(settings)
        lesion = read(settings, database, tmp_path / "a", time.time() - 60, seed=1, name="MÜLLER^Anna")
        assert narrate.turn(database, settings, time.time())
        with serving(settings) as client:
            page = browser.new_page(viewport={"width": 1200, "height": 1000}, bypass_csp=True)
            page.set_default_timeout(60_000)
            problems: list[str] = []
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: problems.append(str(e)))
            page.goto(f"{client.base_url}/studies/{lesion}")
            card = page.locator(".text-card")
            assert "Its text was not taken: F1: it says 'mass'" in card.inner_text()
            looked_at(page, "text-draft")
            page.get_by_label("Text of the report (ct-lung)").focus()
            page.keyboard.press("Control+End")
            page.keyboard.type("\nNo other finding.")
            client.post(f"{client.base_url}/studies/{lesion}/remark", data={"text": "something new on this page"})
            page.evaluate("refreshAll()")
            assert page.locator("textarea").input_value().endswith("No other finding."), (
                "news do not replace what is typed"
            )
            page.get_by_role("button", name="Save as draft").press("Enter")
            page.wait_for_url("**#texts")
            assert "Saved by" in card.inner_text()
            assert page.locator("textarea").input_value().endswith("No other finding.")
            page.get_by_role("button", name="Confirm", exact=True).press("Enter")
            assert page.evaluate("document.activeElement.name") == "name", (
                "without a name it is asked for, and nothing sent"
            )
            page.get_by_label("Your name").fill("Dr Lin")
            page.get_by_role("button", name="Confirm", exact=True).press("Enter")
            page.wait_for_url("**#texts")
            assert "Confirmed by Dr Lin" in card.inner_text()
            assert card.locator(".badge").first.inner_text() == "final"
            page.locator(".text-card summary").press("Enter")
            looked_at(page, "text-confirmed")
            page.emulate_media(color_scheme="dark")
            page.goto(f"{client.base_url}/studies/{lesion}?lang=zh-TW")
            page.get_by_label("語言").select_option("zh-TW")
            page.get_by_role("button", name="重新採用草稿").press("Enter")
            page.wait_for_url("**#texts")
            assert "左側肺結節：發現確信度 81.2 %，體積" in page.locator("textarea").input_value()
            looked_at(page, "text-zh-dark")
            assert [p for p in problems if "422" not in p] == []
            page.close()
        database.close()
