"""OHIF driven as a radiologist would, and asked through its own services what it shows."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from PIL import Image
from playwright.sync_api import Browser, Page

WAIT_MS = 90_000
DERIVED = "[data-cy=study-browser-thumbnail-no-image]"
SEGMENTS = """() => window.services.segmentationService.getSegmentations().filter(
    s => !s.representationData || !s.representationData.Contour).flatMap(
    s => Object.values(s.segments).map(x => ({label: x.label, center: x.cachedStats && x.cachedStats.center && x.cachedStats.center.world})))"""
MEASUREMENTS = """() => window.services.displaySetService.getActiveDisplaySets().filter(
    d => d.Modality === 'SR' && d.isLoaded).flatMap(d => d.measurements || []).map(m => ({
    loaded: m.loaded, sop: m.ReferencedSOPInstanceUID, frame: m.frameNumber || 1,
    points: m.coords[0] && m.coords[0].GraphicData, labels: m.labels.map(l => `${l.label}: ${l.value}`)}))"""
CONTOURS = """() => { const s = window.services, drawn = s.segmentationService.getSegmentations().filter(
        x => x.representationData && x.representationData.Contour).flatMap(x => Object.values(x.segments).map(y => y.label));
    return s.displaySetService.getActiveDisplaySets().filter(d => d.Modality === 'RTSTRUCT' && d.structureSet).flatMap(
        d => d.structureSet.ROIContours.map(r => ({name: r.ROIName, shown: drawn.includes(r.ROIName),
            points: r.contourPoints.flatMap(c => c.points.map(p => [p.x, p.y, p.z]))}))) }"""
DOCUMENT = """async () => { const shown = document.querySelector('object[type="application/pdf"]');
    return shown && shown.data ? (await (await fetch(shown.data)).text()).slice(0, 8) : '' }"""
MAP = """() => { const s = window.services, id = s.viewportGridService.getActiveViewportId();
    const actors = s.cornerstoneViewportService.getCornerstoneViewport(id)?.getActors() ?? [];
    const actor = actors.find(a => String(a.referencedId).startsWith('pmap.'));
    if (!actor || !actor.actor.getVisibility()) return null;
    const volume = window.cornerstone.cache.getVolume(actor.referencedId), [columns, rows] = volume.dimensions;
    const values = volume.voxelManager.getCompleteScalarDataArray(), sum = [0, 0, 0];
    let voxels = 0, most = -Infinity;
    values.forEach((value, i) => { if (!(value > 0)) return;
        const index = [i % columns, Math.floor(i / columns) % rows, Math.floor(i / columns / rows)];
        volume.imageData.indexToWorld(index).forEach((c, axis) => sum[axis] += c);
        voxels += 1; most = Math.max(most, value / 100) });  // OHIF multiplies what it reads by 100
    return {voxels, most, center: sum.map(c => c / voxels)} }"""
GO = """center => { const s = window.services, id = s.viewportGridService.getActiveViewportId();
    const v = s.cornerstoneViewportService.getCornerstoneViewport(id); v.jumpToWorld(center);
    return new Promise(done => { let frames = 0;  // the first one may still be of the slice before
        v.element.addEventListener('CORNERSTONE_IMAGE_RENDERED', () => ++frames < 3 ? v.render() : done());
        v.render() }) }"""
OUTLINES = """() => { const s = window.services, id = s.viewportGridService.getActiveViewportId();
    const v = s.cornerstoneViewportService.getCornerstoneViewport(id);
    const numbers = p => p.points ? [...p.points].map(at => [at.x, at.y]) :
        [...p.getAttribute('d').matchAll(/(-?[\\d.]+)[ ,]+(-?[\\d.]+)/g)].map(m => [+m[1], +m[2]]);
    return [...document.querySelectorAll('svg.svg-layer polyline, svg.svg-layer polygon, svg.svg-layer path')].map(
        p => numbers(p).map(at => Array.from(v.canvasToWorld(at)))) }"""
PAINTED = """() => { const s = window.services, id = s.viewportGridService.getActiveViewportId();
    const v = s.cornerstoneViewportService.getCornerstoneViewport(id), canvas = v.getCanvas(), sum = [0, 0, 0];
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height), points = [];
    for (let i = 0; i < data.length; i += 4) {
        const most = Math.max(data[i], data[i + 1], data[i + 2]), least = Math.min(data[i], data[i + 1], data[i + 2]);
        if (most - least > 40) points.push([i / 4 % canvas.width, Math.floor(i / 4 / canvas.width)]) }
    points.forEach(at => v.canvasToWorld(at).forEach((c, axis) => sum[axis] += c));
    const [a, b, c] = [[0, 0], [1, 0], [0, 1]].map(at => v.canvasToWorld(at));
    const mm2 = Math.hypot(...b.map((x, axis) => x - a[axis])) * Math.hypot(...c.map((x, axis) => x - a[axis]));
    return {area: points.length * mm2, center: points.length ? sum.map(x => x / points.length) : null} }"""
SHOWN = """() => { const s = window.services, id = s.viewportGridService.getActiveViewportId();
    const v = s.cornerstoneViewportService.getCornerstoneViewport(id);
    return v && v.getCurrentImageId ? v.getCurrentImageId() : null }"""
DRAWN = """() => { const s = window.services, id = s.viewportGridService.getActiveViewportId();
    s.cornerstoneViewportService.getCornerstoneViewport(id)?.render();
    return [...document.querySelectorAll('svg.svg-layer text')].map(t => t.textContent) }"""


class Ohif:
    """One study in one tab. Use as a context manager; `folder` gets the pictures."""

    def __init__(self, browser: Browser, address: str, study_uid: str, folder: Path) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1400, "height": 900})
        self.page.set_default_timeout(WAIT_MS)
        self.page.add_init_script("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
        self._folder = folder
        self.page.goto(f"{address}/viewer?StudyInstanceUIDs={study_uid}")
        self.page.wait_for_selector(DERIVED)
        self.page.wait_for_function(f"({SHOWN})() !== null")

    def __enter__(self) -> "Ohif":
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def listed(self) -> list[str]:
        """The objects without a picture of their own that the study browser lists, "SR AI ... findings" and the like."""
        return [" ".join(text.split()) for text in self.page.locator(DERIVED).all_inner_texts()]

    def open(self, text: str) -> None:
        """Double-click the object whose entry contains `text`."""
        self.page.locator(DERIVED, has_text=text).first.dblclick()

    def segments(self) -> list[dict[str, Any]]:
        """Every segment once it is drawn: label, and center in LPS mm as the viewer's own service computed it."""
        self.page.wait_for_function(
            f"(() => {{ const s = ({SEGMENTS})(); return s.length && s.every(x => x.center) }})()"
        )
        return cast(list[dict[str, Any]], self.page.evaluate(SEGMENTS))

    def measurements(self) -> list[dict[str, Any]]:
        """Every measurement of the open report, once it is drawn: labels, the image and frame it lies on, and points.

        points: column, row, column, row ... (PS3.3 section C.18.6.1.1).
        """
        loaded = f"(() => {{ const m = ({MEASUREMENTS})(); return m.length && m.every(x => x.loaded) }})()"
        self.page.wait_for_function(loaded)
        self.page.wait_for_function(f"({DRAWN})().length > 0", polling=500)
        return cast(list[dict[str, Any]], self.page.evaluate(MEASUREMENTS))

    def report_loaded(self) -> None:
        """Wait until a report is open, whether or not anything of it is drawn."""
        shown = "d => d.Modality === 'SR' && d.isLoaded"
        self.page.wait_for_function(
            f"window.services.displaySetService.getActiveDisplaySets().some({shown})", polling=500
        )

    def contours(self) -> list[dict[str, Any]]:
        """Every region of the open structure set once it is drawn: name, whether it is drawn, points in LPS mm."""
        self.page.wait_for_function(
            f"(() => {{ const c = ({CONTOURS})(); return c.length && c.every(x => x.shown) }})()", polling=500
        )
        return cast(list[dict[str, Any]], self.page.evaluate(CONTOURS))

    def document(self) -> str:
        """The first characters of the printed document that is open."""
        self.page.wait_for_function("document.querySelector('object[type=\"application/pdf\"]')?.data", polling=500)
        return cast(str, self.page.evaluate(DOCUMENT))

    def picture_of_document(self, name: str) -> Path:
        """A screenshot once the browser's own reader has drawn the document, which nothing tells: more than its bare ground."""
        end = time.monotonic() + 60
        while True:
            file = self.picture(name)
            with Image.open(file) as seen:
                colours = seen.convert("RGB").crop((300, 60, 1350, 880)).getcolors(maxcolors=2**24) or []
            if len(colours) > 50:
                return file
            assert time.monotonic() < end, "the document was not drawn"

    def map(self) -> dict[str, Any]:
        """The parametric map that is open, once it lies over its series: its positive voxels, their middle in LPS mm, and the most.

        The viewer then turns to the slice through that middle.
        """
        self.page.wait_for_function(f"({MAP})() !== null", polling=500)
        shown = cast(dict[str, Any], self.page.evaluate(MAP))
        self.turn_to(shown["center"])
        return shown

    def turn_to(self, center: Sequence[float]) -> None:
        """Show the slice through a point in LPS mm."""
        self.page.evaluate(GO, [float(v) for v in center])

    def drawn(self) -> str:
        """The words drawn over the image."""
        return " ".join(cast(list[str], self.page.evaluate(DRAWN)))

    def outlines(self) -> list[list[list[float]]]:
        """The lines drawn over the image, as points in LPS mm."""
        return cast(list[list[list[float]]], self.page.evaluate(OUTLINES))

    def outlines_at(self, center: Sequence[float]) -> list[list[list[float]]]:
        """The closed lines on the slice through a point in LPS mm, once they are drawn; a volume that loads late turns back."""
        end = time.monotonic() + WAIT_MS / 1000
        while not (lines := [line for line in self.outlines() if len(line) > 2]):
            assert time.monotonic() < end, "no line was drawn"
            self.turn_to(center)
            self.page.wait_for_timeout(500)
        return lines

    def painted(self) -> dict[str, Any]:
        """What the image itself shows in colour, pixel by pixel: area in mm2, and its center in LPS mm (None: nothing)."""
        return cast(dict[str, Any], self.page.evaluate(PAINTED))

    def image(self) -> str:
        """What the active viewport shows: an address that ends in `/instances/UID/frames/NUMBER`."""
        return cast(str, self.page.evaluate(SHOWN))

    def picture(self, name: str) -> Path:
        """A screenshot, kept in the folder."""
        file = self._folder / f"{name}.png"
        self.page.screenshot(path=file)
        return file
