"""dwv, a second viewer that shares no code with OHIF, driven through its own programming interface."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from playwright.sync_api import Browser, Page


class Dwv:
    """One tab. Use as a context manager. What is loaded is named by the viewer's own id."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.page: Page = browser.new_page(viewport={"width": 820, "height": 820})
        self._address = address
        self.page.goto(f"{address}/dwv.html")
        self.page.wait_for_function("() => window.viewer")

    def __enter__(self) -> "Dwv":
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def load(self, sop_uids: Sequence[str]) -> str:
        """Open these objects of one series from the PACS. Raises playwright's Error with what the viewer says against them."""
        urls = [f"{self._address}/instances/{uid}" for uid in sop_uids]
        return cast(str, self.page.evaluate("urls => viewer.load(urls)", urls))

    def segments(self, loaded: str) -> list[dict[str, Any]]:
        """The segments of a segmentation: label, voxels, and center in LPS mm."""
        return cast(list[dict[str, Any]], self.page.evaluate("id => viewer.segments(id)", loaded))

    def outlines(self, loaded: str) -> list[dict[str, Any]]:
        """The outlines of a report: sop (the image it lies on), trackingUid, text."""
        return cast(list[dict[str, Any]], self.page.evaluate("id => viewer.outlines(id)", loaded))

    def picture(self, file: Path, center: Sequence[float]) -> Path:
        """A screenshot of the slice through a point in LPS mm."""
        self.page.evaluate("center => viewer.goTo(center)", list(center))
        self.page.screenshot(path=file)
        return file
