"""How soon the worklist page of a thousand rows shows what changed, in a headless Chromium.

    python benchmarks/worklist_page.py [ROUNDS]

Processor time is that of the page's main thread (parsing, scripts, layout, style, painting) and, where it says so, of the
server with the recording; wall time is also other work's. The peer in the same run: loading the whole page anew.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, CDPSession

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.results import record
from support.urgent import REMARK_CELL, thousand
from support.viewers import chromium

from radnode import verdicts

FRAMES = """async () => {
    let last = performance.now(), frames = 0; const times = [];
    return await new Promise((done) => requestAnimationFrame(function step(now) {
        times.push(now - last); last = now;
        if (frames === 20) { const f = document.getElementById('filter'); f.value = 'patient 5'; f.dispatchEvent(new Event('input')); }
        window.scrollBy(0, 40);
        if (++frames < 90) requestAnimationFrame(step); else done(times.sort((a, b) => a - b)[45]);
    }));
}"""
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def main(rounds: int) -> None:
    told: list[dict[str, float]] = []
    with chromium() as browser:
        for number in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                told.append(one(browser, Path(folder)))
            print(f"{number + 1}: " + ", ".join(f"{name} {value:.2f}" for name, value in told[-1].items()))
    print("median: " + ", ".join(f"{name} {median(t[name] for t in told):.2f}" for name in told[0]))


def one(browser: Browser, folder: Path) -> dict[str, float]:
    with thousand(folder) as node:
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def timed(change: Callable[[], None], shown: Callable[[], object]) -> tuple[float, float, float]:
            """Seconds of wall time, of the page's and of this process's processor."""
            page.evaluate(DRAWN)
            worked, served, begun = work_s(session), time.process_time(), time.monotonic()
            change()
            shown()
            return time.monotonic() - begun, work_s(session) - worked, time.process_time() - served

        def remark() -> None:
            with node.database.transaction() as at:
                verdicts.remark(at, "1.2.9.5", "please call the ward", "benchmark", time.time())

        def report() -> None:
            record(node.database, node.settings.data, node.job, node.urgent.objects, now=time.time())

        page.goto(node.url)
        anew = timed(lambda: None, lambda: page.goto(node.url))
        frame_ms = float(page.evaluate(FRAMES))
        cell = page.locator(REMARK_CELL, has_text="please call the ward")
        changed = timed(remark, lambda: cell.wait_for(state="attached"))
        page.locator("#filter").fill("")  # every row counts
        first = timed(report, lambda: page.wait_for_selector(node.urgent.first_row))
        page.close()
    return {
        "STAT study first after s": first[0], "processor of page": first[1], "of server": first[2],
        "one changed row after s": changed[0], "its processor of page": changed[1],
        "whole page anew s": anew[0], "median frame ms": frame_ms,
    }  # fmt: skip


def work_s(session: CDPSession) -> float:
    found = session.send("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in found if m["name"] == "TaskDuration"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
