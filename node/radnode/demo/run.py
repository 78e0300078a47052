"""`radnode demo`: sample studies through a node of its own, over real DICOM, and back. Ends with 0 only if all went well."""

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from radnode.demo import pacs as demo_pacs
from radnode.demo import send as demo_send
from radnode.demo.node import NodeError, NodeProcess
from radnode.demo.pacs import Orthanc, PacsError
from radnode.demo.table import Row, broken_promises, table
from radnode.errors import DeliveryError

QUIET_S = 2.0
LIMIT_S = 170.0
POLL_S = 0.5


class DemoError(Exception):
    """The demo cannot go on; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A generated study that the node acknowledged."""

    name: str
    purpose: str
    study_uid: str
    images: int


def main(arguments: Sequence[str]) -> None:
    """Run the demo and end the process: exit code 0 when every promise was kept, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="radnode demo", description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep everything in this folder (default: a temporary one)")
    parser.add_argument("--no-pacs", action="store_true", help="do not start Orthanc, even if it is installed")
    parser.add_argument(
        "--patience", type=float, default=LIMIT_S, help="seconds to wait at most (default: %(default)g)"
    )
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        with folder_for(chosen.folder) as folder:
            wrong = run(folder, console, pacs=not chosen.no_pacs, patience_s=chosen.patience)
    except (DemoError, NodeError, PacsError, DeliveryError) as e:
        wrong = [str(e)]
    except KeyboardInterrupt:
        wrong = ["Interrupted."]
    for sentence in wrong:
        console.print(f"[bold red]Not as it should be:[/] {sentence}", highlight=False)
    sys.exit(1 if wrong else 0)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def folder_for(wanted: Path | None) -> Iterator[Path]:
    """The folder for node, PACS and results: one to keep, or a temporary one."""
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="radnode-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def run(folder: Path, console: Console, *, pacs: bool, patience_s: float) -> list[str]:
    """The whole demo; one sentence for each promise that was not kept."""
    began = time.monotonic()
    with ExitStack() as running:
        orthanc = start_pacs(running, folder, console) if pacs else None
        node = running.enter_context(NodeProcess(folder, settings(folder, orthanc)))
        console.print(f"The node listens: DICOM on port {node.receive_port}, page http://127.0.0.1:{node.web_port}/")
        with steps(console) as bar:
            sent = send_studies(node, folder, bar)
            wait_for_results(node, sent, bar, began + patience_s)
        rows = look(node, orthanc, sent)
    console.print()
    console.print(table(rows))
    console.print(summary(rows, sent, time.monotonic() - began), highlight=False)
    return broken_promises(rows)


def start_pacs(running: ExitStack, folder: Path, console: Console) -> Orthanc | None:
    if demo_pacs.program() is None:
        console.print(
            "Orthanc is not installed: results go to a folder only (apt-get install orthanc orthanc-dicomweb)."
        )
        return None
    orthanc = running.enter_context(Orthanc(folder / "pacs"))
    console.print(f"Orthanc is the PACS: DICOM on port {orthanc.dicom_port}, {orthanc.url}/")
    return orthanc


def settings(folder: Path, orthanc: Orthanc | None) -> dict[str, object]:
    """The defaults (SQLite, a folder, bundled weights, CPU or GPU), but free ports on this machine only and little waiting."""
    destinations: list[dict[str, object]] = [{"name": "folder", "kind": "folder", "folder": folder / "results"}]
    if orthanc is not None:
        pacs = {"name": "pacs", "kind": "dimse", "host": "127.0.0.1", "port": orthanc.dicom_port}
        destinations.append(pacs | {"ae_title": orthanc.ae_title})
    return {
        "receive": {"host": "127.0.0.1", "port": 0, "disk_free_min_mb": 64},
        "complete": {"quiet_s": QUIET_S},
        "web": {"host": "127.0.0.1", "port": 0},
        "peers": [{"name": "modality", "ae_title": "MODALITY", "address": "127.0.0.1"}],
        "destinations": destinations,
    }


@contextmanager
def steps(console: Console) -> Iterator[Progress]:
    """A bar for each step on a terminal; elsewhere each step says so when it begins and ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar


def step(bar: Progress, description: str, total: int) -> TaskID:
    if bar.disable:
        bar.console.print(f"{description} ...")
    return bar.add_task(description, total=total, note="")


def send_studies(node: NodeProcess, folder: Path, bar: Progress) -> list[Sent]:
    """Generate each study and send it at once, so that the node reads the first while the next is made.

    Normal studies go first: in the order of arrival they would stand above the lesions.
    """
    from radnode_inference.generator.studies import demo_studies

    planned = sorted(demo_studies(), key=lambda s: s.purpose != "normal")
    making = step(bar, f"Generating and sending {len(planned)} studies", len(planned))
    sent = []
    for plan in planned:
        bar.update(making, note=plan.name)
        files = plan.write(folder / "studies" / plan.name)
        images = list(demo_send.send(files, node.receive_port))
        sent.append(Sent(name=plan.name, purpose=plan.purpose, study_uid=images[0].study_uid, images=len(images)))
        bar.advance(making)
    bar.update(making, note=f"{sum(s.images for s in sent)} images acknowledged")
    return sent


def wait_for_results(node: NodeProcess, sent: Sequence[Sent], bar: Progress, end: float) -> None:
    """Until every study was read and nothing is owed. Raises DemoError when that takes too long."""
    waiting = step(bar, "Reading, reporting, delivering", len(sent))
    wanted = {s.study_uid for s in sent}
    while True:
        entries = {e["study"]["study_uid"]: e for e in worklist(node)}
        done = [uid for uid in wanted if uid in entries and at_rest(entries[uid])]
        bar.update(waiting, completed=len(done), note=f"{len(done)} of {len(sent)} studies")
        if len(done) == len(sent):
            return
        if time.monotonic() > end:
            names = ", ".join(s.name for s in sent if s.study_uid not in done)
            raise DemoError(f"Time is up, and these studies are not done: {names}.\n{node.log[-2000:]}")
        time.sleep(POLL_S)


def at_rest(entry: dict[str, Any]) -> bool:
    waits = any(answer["outcome"] == "waiting" for answer in entry["answers"])
    return entry["study"]["state"] == "read" and not waits and not entry["owed"]


def worklist(node: NodeProcess) -> list[dict[str, Any]]:
    answer = node.http.get("/api/worklist")
    answer.raise_for_status()
    return list(answer.json()["entries"])


def look(node: NodeProcess, orthanc: Orthanc | None, sent: Sequence[Sent]) -> list[Row]:
    """What the node says of each study, and what the PACS holds of it."""
    entries = {e["study"]["study_uid"]: e for e in worklist(node)}
    return [
        Row(
            name=s.name,
            purpose=s.purpose,
            entry=entries[s.study_uid],
            story=node.http.get(f"/api/studies/{s.study_uid}").raise_for_status().json(),
            in_pacs=None if orthanc is None else in_pacs(orthanc, s.study_uid),
        )
        for s in sent
    ]


def in_pacs(orthanc: Orthanc, study_uid: str) -> Counter[str]:
    """The objects of a study in the PACS by modality, found by QIDO-RS. Nothing but results was ever sent there."""
    instances = orthanc.qido("instances", StudyInstanceUID=study_uid, includefield="Modality")
    return Counter(str(i["00080060"]["Value"][0]) for i in instances)


def summary(rows: Sequence[Row], sent: Sequence[Sent], seconds: float) -> str:
    images = sum(s.images for s in sent)
    text = f"{len(rows)} studies, {images} images, {sum(len(r.results) for r in rows)} results in {seconds:.0f} s."
    fetched: Counter[str] = sum((r.in_pacs for r in rows if r.in_pacs is not None), Counter())
    if fetched:
        found = ", ".join(f"{n} {modality}" for modality, n in sorted(fetched.items()))
        text += f" Fetched back from the PACS: {found}."
    return text
