"""What is large, much or slow: is memory bounded, and is everybody else still served?

python benchmarks/limits.py [large] [many] [flood] [loris] [--megabytes 200] [--instances 10000] [--studies 200]

large  one object of so many megabytes by C-STORE: how much the receiving process grew, and how long it took
many   a study of so many instances: received, complete, its page and the worklist, and what each role grew to
flood  more studies than anybody reads: is receiving as quick at the end as at the beginning, what did the receiver
       grow by, and does a worker that comes then take urgent work first
loris  300 connections that send a byte now and then: what they do to a sender beside them
Exit code 0 when every bound holds (they stand in the output).
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from pydicom.uid import generate_uid

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.node_process import TestNode  # noqa: E402
from support.objects import encoded, image  # noqa: E402
from support.receiver import receiver  # noqa: E402
from support.wire import CT_IMAGE_STORAGE, Wire, association_request, pdv, store_command  # noqa: E402

from radnode.states import JobState, StudyState  # noqa: E402
from radnode.tables import JobRow  # noqa: E402

PIECE = 128 * 1024
GROWTH_MB = 64.0
RULES = [
    {
        "name": name,
        "models": ["ct-lung"],
        "urgency": urgency,
        "when": [{"attribute": "StudyDescription", "test": "equals", "values": [name]}],
    }
    for name, urgency in (("STAT", 5), ("ROUTINE", 0))
]


def peak_mb(pid: int) -> float:
    """The most resident memory a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def large(folder: Path, chosen: argparse.Namespace) -> Iterator[str]:
    with receiver(folder / "data", accept_unknown_callers=True, processes=1) as node:
        (child,) = node.children
        with Wire(node.port) as wire:
            wire.associate()
            ds = image()
            assert wire.status(ds.SOPInstanceUID, encoded(ds)) == 0
            before = peak_mb(child)
            begun = time.monotonic()
            status = store_large(wire, chosen.megabytes)
            took = time.monotonic() - begun
        grown = peak_mb(child) - before
        kept = max(f.stat().st_size for f in node.files()) / 1e6
    print(
        f"large: {kept:.0f} MB in {took:.1f} s, status {status:#06x}, the receiver grew by {grown:.1f} MiB to {before + grown:.0f}"
    )
    if status or kept < chosen.megabytes:
        yield "the large object was not kept"
    if grown > GROWTH_MB:
        yield f"the receiver grew by {grown:.0f} MiB"


def store_large(wire: Wire, megabytes: int) -> int:
    """C-STORE one object with so many megabytes of pixels, made as it is sent; the status."""
    ds = image()
    rows = megabytes * 1_000_000 // (2 * 10_000)
    ds.Rows, ds.Columns = rows, 10_000
    ds.PixelData = b"\0\0"
    head = encoded(ds)
    length = rows * 10_000 * 2
    at = head.rindex(b"\xe0\x7f\x10\x00")
    head = head[: at + 8] + length.to_bytes(4, "little")
    wire.send(pdv(1, 3, store_command(str(ds.SOPInstanceUID))) + pdv(1, 0, head))
    piece = pdv(1, 0, bytes(PIECE))
    for _ in range(length // PIECE):
        wire.send(piece)
    wire.send(pdv(1, 2, bytes(length % PIECE)))
    wire.socket.settimeout(120)
    return wire.answer().number(0x0900)


def many(folder: Path, chosen: argparse.Namespace) -> Iterator[str]:
    study, series = generate_uid(), generate_uid()
    with TestNode(folder, quiet_s=5.0, rules=RULES) as node:
        roles = {name: node.role_processes(name)[0].pid for name in ("receive", "schedule", "web")}
        before = {name: peak_mb(pid) for name, pid in roles.items()}
        begun = time.monotonic()
        store_all(node.receive_port, study, [series] * chosen.instances)
        received = time.monotonic() - begun
        node.wait("the study to be complete", lambda: state(node, study) == StudyState.READ, seconds=600)
        complete = time.monotonic() - begun
        page_s, page = timed(lambda: node.http.get(f"/studies/{study}"))
        list_s, worklist = timed(lambda: node.http.get("/"))
        row = node.study(study)
        grown = {name: peak_mb(pid) - before[name] for name, pid in roles.items()}
    told = ", ".join(f"{name} +{mb:.0f} MiB" for name, mb in grown.items())
    print(f"many: {chosen.instances} instances received in {received:.0f} s ({chosen.instances / received:.0f}/s), complete after "
          f"{complete:.0f} s (5 s of quiet timer); its page {page_s:.2f} s, the worklist {list_s:.2f} s; {told}")  # fmt: skip
    if row is None or row.instances != chosen.instances:
        yield "not every instance was counted"
    if page.status_code != 200 or str(chosen.instances) not in page.text or worklist.status_code != 200:
        yield "the page does not show the study"
    if max(page_s, list_s) > 5 or complete - received > 60:
        yield "a page or the completion took too long"
    if max(grown.values()) > 4 * GROWTH_MB:
        yield f"a role grew too much: {told}"


def state(node: TestNode, study_uid: str) -> str:
    row = node.study(study_uid)
    return "" if row is None else row.state


def store_all(port: int, study: str, series: list[str], description: str = "MANY") -> float:
    """Store an image for each entry of `series` in one association; images a second."""
    begun = time.monotonic()
    with Wire(port) as wire:
        assert wire.associate()[0] == 2
        for number, uid in enumerate(series):
            ds = image(size=64, seed=number)
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.StudyDescription = study, uid, description
            ds.Modality, ds.InstanceNumber = "CT", number + 1
            assert wire.status(str(ds.SOPInstanceUID), encoded(ds), sop_class_uid=CT_IMAGE_STORAGE) == 0
        wire.release()
    return len(series) / (time.monotonic() - begun)


def timed(ask: Callable[[], object]) -> tuple[float, object]:
    begun = time.monotonic()
    answer = ask()
    return time.monotonic() - begun, answer


def flood(folder: Path, chosen: argparse.Namespace) -> Iterator[str]:
    """Nobody reads while they come; every tenth, and the last, is urgent."""
    with TestNode(folder, quiet_s=1.0, rules=RULES, work={"processes": 0}) as node:
        (pid, *children) = [p.pid for p in node.role_processes("receive")]
        before = {p: peak_mb(p) for p in (pid, *children)}
        speeds = []
        for number in range(chosen.studies):
            study, series = generate_uid(), generate_uid()
            urgent = number % 10 == 9
            speeds.append(store_all(node.receive_port, study, [series] * 20, "STAT" if urgent else "ROUTINE"))
        node.wait("all to be queued", lambda: len(node.rows(JobRow)) == chosen.studies, seconds=300)
        grown = max(peak_mb(p) - before[p] for p in before)
        worker = node.launch("work")
        try:
            node.wait("the urgent to be read", lambda: len(ended(node)) >= chosen.studies // 10, seconds=600)
            first = ended(node)[: chosen.studies // 10]
        finally:
            worker.terminate()
            worker.wait(60)
    tenth = chosen.studies // 10
    early, late = statistics.median(speeds[:tenth]), statistics.median(speeds[-tenth:])
    print(f"flood: {chosen.studies} studies wait; {early:.0f} images/s among the first {tenth} studies, {late:.0f} among the last; "
          f"the receiver grew by {grown:.0f} MiB; the first {tenth} that a worker took: urgency {sorted({j.urgency for j in first})}")  # fmt: skip
    if late < 0.6 * early:
        yield "receiving became slower as the queue grew"
    if grown > GROWTH_MB:
        yield f"the receiver grew by {grown:.0f} MiB"
    if {j.urgency for j in first} != {5}:
        yield "urgent work was not done first"


def ended(node: TestNode) -> list[JobRow]:
    """Jobs that ended, in that order."""
    done = [j for j in node.rows(JobRow) if j.state in (JobState.DONE, JobState.DECLINED) and j.ended_at]
    return sorted(done, key=lambda j: j.ended_at or 0.0)


def loris(folder: Path, _chosen: argparse.Namespace) -> Iterator[str]:
    study, series = generate_uid(), generate_uid()
    with receiver(folder / "data", accept_unknown_callers=True, processes=2) as node:
        alone = store_all(node.port, study, [series] * 200)
        with ExitStack() as wires:
            stop = threading.Event()
            drippers = [wires.enter_context(Wire(node.port)) for _ in range(300)]
            thread = threading.Thread(target=drip, args=(drippers, stop), daemon=True)
            thread.start()
            beside = store_all(node.port, generate_uid(), [series] * 200)
            threads = sum(psutil.Process(pid).num_threads() for pid in node.children)
            stop.set()
            thread.join()
        kept = len(node.rows())
    print(
        f"loris: {alone:.0f} images/s alone, {beside:.0f} beside 300 half-open connections; {threads} threads in the receiver"
    )
    if kept != 400:
        yield "not every image was kept"
    if beside < 0.3 * alone:
        yield "half-open connections slow down others too much"


def drip(wires: list[Wire], stop: threading.Event) -> None:
    """The next byte of a request to each, now and then."""
    for byte in association_request(CT_IMAGE_STORAGE):
        for wire in wires:
            with suppress(OSError):
                wire.send(bytes([byte]))
        if stop.wait(0.2):
            return


PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[str]]] = {
    "large": large,
    "many": many,
    "flood": flood,
    "loris": loris,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=PARTS, help="default: all")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--studies", type=int, default=200)
    chosen = parser.parse_args()
    wrong = []
    for name in chosen.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="radnode-limits-") as folder:
            wrong += [f"{name}: {line}" for line in PARTS[name](Path(folder), chosen)]
    for line in wrong:
        print(f"WRONG: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
