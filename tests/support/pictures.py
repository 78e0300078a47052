"""Pictures of the node's pages for the documentation: a node after a morning's work beside a real Orthanc.

PYTHONPATH=tests python -m support.pictures docs/pictures      (make pictures)
"""

import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from support.filled import fill
from support.orthanc import Orthanc
from support.pages import serving
from support.viewers import CHROMIUM

from radnode.peers import table as peers
from radnode.peers.table import Peer

WIDTH, HEIGHT = 1300, 900
COLOURS = 128
DRAWN_S = 60.0


def keep(page: Page, folder: Path, name: str, height: int = HEIGHT) -> None:
    """The top of a page as a PNG with few colours, so that it is small."""
    end = time.monotonic() + DRAWN_S
    while not page.evaluate("[...document.images].every(i => i.complete)") and time.monotonic() < end:
        page.wait_for_timeout(200)
    file = folder / f"{name}.png"
    page.screenshot(path=file, clip={"x": 0, "y": 0, "width": WIDTH, "height": height}, full_page=True)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)


def take(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Orthanc(Path(scratch) / "pacs") as pacs:
        node = fill(Path(scratch) / "node")
        may = ("send", "query", "retrieve")
        peers.add_peer(
            node.database, Peer(name="pacs", ae_title="PACS", address="127.0.0.1", port=pacs.dicom_port, may=may)
        )
        with serving(node.settings) as client, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            url = str(client.base_url).rstrip("/")
            page.goto(f"{url}/")
            keep(page, folder, "worklist", 520)
            page.goto(f"{url}/studies/{node.lesion}")
            keep(page, folder, "study", 720)
            page.goto(f"{url}/studies/{node.declined}")
            keep(page, folder, "declined", 840)
            page.goto(f"{url}/peers")
            page.locator("tr", has_text="pacs").get_by_role("button", name="Test").first.click()
            page.wait_for_selector("#test")
            keep(page, folder, "peers", 1100)
            browser.close()
        node.database.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
