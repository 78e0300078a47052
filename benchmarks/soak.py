"""A node under a steady load for an hour: is its memory flat, is it quick to the end, is anything owed or lost?

python benchmarks/soak.py [--minutes 60] [--per-minute 4] [--seed 1] [--p95 60] [--out soak.json]

Generated studies (three breast MR, one chest CT, small; every copy another patient with new UIDs) are sent to a real
`radnode serve` on SQLite at random moments, so many a minute; results go to Debian's Orthanc by C-STORE; a reader looks
at the worklist and closes what was delivered. Every 15 s the memory and the open files of each process, the rows of the
tables and the queues are sampled. Exit code 0 only when
- the memory of each role grew by no more than GROWTH_MB or GROWTH of its median, by a robust line through the samples
  after the warm-up (the first third);
- no role was started again, and open files did not grow by more than GROWTH_FILES;
- p95 from the last image to the delivered result (of /metrics) is at most --p95 seconds;
- every study was read, nothing is owed, what is current of every study stands in the PACS, and nothing
  there was never delivered, or was superseded and delivered again afterwards;
- every image that was acknowledged is on the disk, byte for byte.
"""

import argparse
import hashlib
import json
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pydicom
from prometheus_client.parser import text_string_to_metric_families
from pydicom.uid import generate_uid
from sqlalchemy import func, select, text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.node_process import TestNode, to_orthanc  # noqa: E402
from support.orthanc import Orthanc  # noqa: E402
from support.sending import dataset_bytes  # noqa: E402
from support.studies import small_breast, small_chest  # noqa: E402

from radnode.database import Database  # noqa: E402
from radnode.demo.send import send  # noqa: E402
from radnode.settings import Settings  # noqa: E402
from radnode.states import DeliveryState, StudyState  # noqa: E402
from radnode.tables import DeliveryRow, EventRow, InstanceRow, JobRow, ReportRow, ResultRow, StudyRow  # noqa: E402

SAMPLE_S, LOOK_S, QUIET_S, REST_S, WARM_UP, SENDERS = 15.0, 5.0, 5.0, 300.0, 1 / 3, 6
GROWTH_MB, GROWTH, GROWTH_FILES = 16.0, 0.05, 8
COUNTED = (InstanceRow, StudyRow, JobRow, ResultRow, ReportRow, DeliveryRow, EventRow)
TO_DELIVERED, TO_WORKLIST = "radnode_last_image_to_delivered_seconds", "radnode_last_image_to_worklist_seconds"
RULES = [
    {"name": name, "models": [model], "when": [{"attribute": "Modality", "test": "equals", "values": [modality]}]}
    for name, model, modality in (("breast", "mr-breast-kinetics", "MR"), ("chest", "ct-lung", "CT"))
]
ROLE = re.compile(r"\bradnode (receive|schedule|work|deliver|web)\b|radnode[./](engine_child)")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """at: seconds since the beginning. memory_mb, files: of each role, its processes summed; pids: of each role."""

    at: float
    memory_mb: dict[str, float]
    files: dict[str, int]
    pids: dict[str, list[int]]
    rows: dict[str, int]
    queue: float
    owed: float


@dataclass(kw_only=True)
class Load:
    """What was sent: study -> SOP Instance UID -> SHA-256 of the acknowledged data set. held_up: studies that were due while
    all senders were busy, and were not sent."""

    sent: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    held_up: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--per-minute", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--p95", type=float, default=60.0, help="seconds from the last image to the delivered result")
    parser.add_argument("--out", type=Path, help="every sample, a line of JSON each, as it is taken")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radnode-soak-") as name:
        wrong = soak(Path(name), chosen)
    for line in wrong:
        print(f"WRONG: {line}")
    sys.exit(1 if wrong else 0)


def soak(folder: Path, chosen: argparse.Namespace) -> list[str]:
    """Everything that is wrong."""
    print("Generating studies", flush=True)
    sources = [list(small_breast(folder / f"mr-{n}", seed=40 + n).files) for n in range(3)]
    sources.append(list(small_chest(folder / "ct", seed=44).files))
    load, samples = Load(), []
    with (
        Orthanc(folder / "pacs") as pacs,
        TestNode(folder / "node", destinations=[to_orthanc(pacs)], quiet_s=QUIET_S, rules=RULES) as node,
    ):
        began, stop = time.monotonic(), threading.Event()
        reader = threading.Thread(target=read_on, args=(node, load, stop), daemon=True)
        reader.start()
        with ThreadPoolExecutor(SENDERS) as senders:
            samples += drive(node, load, senders, sources, folder / "copies", chosen, began)
        come_to_rest(node, load)
        stop.set()
        reader.join(60)
        samples.append(sample(node, began))
        wrong = [*load.errors, *memory(samples), *latency(node, chosen.p95), *nothing_lost(node, pacs, load)]
    show(samples, load, chosen)
    return wrong


# ------------------------------------------------------------------------------------------ the load


def drive(
    node: TestNode, load: Load, senders: ThreadPoolExecutor, sources: Sequence[Sequence[Path]], folder: Path,
    chosen: argparse.Namespace, began: float,
) -> Iterator[Sample]:  # fmt: skip
    """Send studies at moments of a Poisson process by the seed; a sample every SAMPLE_S."""
    chance = random.Random(chosen.seed)
    next_study, next_sample, number = 0.0, 0.0, 0
    sendings: list[Future[None]] = []
    while (now := time.monotonic() - began) < chosen.minutes * 60:
        if now >= next_study:
            if sum(not sending.done() for sending in sendings) < SENDERS:
                sendings.append(senders.submit(one, node, load, sources[number % len(sources)], folder / str(number)))
            else:
                load.held_up += 1
            number += 1
            next_study += chance.expovariate(chosen.per_minute / 60)
        if now >= next_sample:
            yield (seen := sample(node, began))
            if chosen.out:
                with chosen.out.open("a") as out:
                    out.write(json.dumps(vars(seen)) + "\n")
            next_sample = now + SAMPLE_S
        time.sleep(max(0.0, min(next_study, next_sample) - (time.monotonic() - began)))
    for sending in sendings:
        sending.result()


def one(node: TestNode, load: Load, source: Sequence[Path], folder: Path) -> None:
    """Send a copy of a study as another patient's."""
    try:
        copies = renamed(source, folder)
        acknowledged: dict[str, str] = {}
        study_uid = ""
        for image in send(copies, node.receive_port, timeout_s=120.0):
            study_uid = image.study_uid
            acknowledged[image.uid] = digest(image.path.read_bytes())
        load.sent[study_uid] = acknowledged
        for copy in copies:
            copy.unlink()
    except Exception as e:
        load.errors.append(f"a study could not be sent: {type(e).__name__}: {e}")


def renamed(files: Sequence[Path], folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    study, frame, number = generate_uid(), generate_uid(), generate_uid()[-8:]
    series: dict[str, str] = {}
    copies = []
    for file in files:
        image = pydicom.dcmread(file)
        image.StudyInstanceUID, image.FrameOfReferenceUID = study, frame
        image.SeriesInstanceUID = series.setdefault(image.SeriesInstanceUID, generate_uid())
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.PatientID, image.AccessionNumber = f"SOAK-{number}", number
        copies.append(folder / f"{len(copies):05}.dcm")
        image.save_as(copies[-1])
    return copies


def digest(file: bytes) -> str:
    return hashlib.sha256(dataset_bytes(file)).hexdigest()


def read_on(node: TestNode, load: Load, stop: threading.Event) -> None:
    """A reader: looks at the worklist and closes what was delivered, until `stop`."""
    while not stop.wait(LOOK_S):
        try:
            node.http.get("/").raise_for_status()
            for study_uid, revision in finished(node):
                if study_uid in load.sent and study_uid not in load.closed:
                    answer = node.http.post(f"/worklist/{study_uid}/read", data={"revision": revision})
                    if answer.status_code == 303:
                        load.closed.add(study_uid)
        except Exception as e:
            load.errors.append(f"the page failed: {type(e).__name__}: {e}")


def finished(node: TestNode) -> list[tuple[str, int]]:
    """Studies that were read and of which nothing is owed, with their revision."""
    owed = {d.study_uid for d in node.rows(DeliveryRow, state=DeliveryState.OWED)}
    studies = node.rows(StudyRow, state=StudyState.READ)
    return [(s.study_uid, s.revision) for s in studies if s.study_uid not in owed]


def come_to_rest(node: TestNode, load: Load) -> None:
    """Wait until every study was read and nothing is owed, at most REST_S."""
    end = time.monotonic() + REST_S
    while load.sent.keys() - {uid for uid, _ in finished(node)}:
        if time.monotonic() > end:
            load.errors.append(f"not everything came to rest within {REST_S:.0f} s")
            return
        time.sleep(1.0)


# ------------------------------------------------------------------------------------------ what is looked at


def sample(node: TestNode, began: float) -> Sample:
    memory: dict[str, float] = {}
    files: dict[str, int] = {}
    pids: dict[str, list[int]] = {}
    assert node.process is not None
    supervisor = psutil.Process(node.process.pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        try:
            found = ROLE.search(" ".join(process.cmdline()))
            role = "serve" if process is supervisor else next(filter(None, found.groups())) if found else ""
            memory[role] = memory.get(role, 0.0) + process.memory_info().rss / 2**20
            files[role] = files.get(role, 0) + process.num_fds()
        except psutil.Error:  # it just ended
            continue
        pids.setdefault(role, []).append(process.pid)
    said = metrics(node)
    return Sample(
        at=time.monotonic() - began, memory_mb=memory, files=files, pids=pids, rows=rows(node),
        queue=sum(said.get("radnode_queue_depth", {}).values()), owed=sum(said.get("radnode_results_owed", {}).values()),
    )  # fmt: skip


def rows(node: TestNode) -> dict[str, int]:
    database = Database(Settings.model_validate({"data": node.data}).url)
    try:
        with database.reading() as session:
            session.execute(text("PRAGMA query_only=ON"))
            return {t.__tablename__: session.scalar(select(func.count()).select_from(t)) or 0 for t in COUNTED}
    finally:
        database.close()


def metrics(node: TestNode) -> dict[str, dict[str, float]]:
    """/metrics: name -> labels, or the bucket's upper bound -> value."""
    answer = node.http.get("/metrics")
    answer.raise_for_status()
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for s in family.samples:
            found.setdefault(s.name, {})[s.labels.get("le", ",".join(s.labels.values()))] = s.value
    return found


def quantile(buckets: dict[str, float], part: float) -> float:
    """As Prometheus's histogram_quantile: linear within the bucket."""
    bounds = sorted((float(le), count) for le, count in buckets.items())
    wanted, below, lower = part * bounds[-1][1], 0.0, 0.0
    for upper, count in bounds:
        if count >= wanted:
            return lower if upper == float("inf") else lower + (upper - lower) * (wanted - below) / (count - below)
        below, lower = count, upper
    return lower


def memory(samples: Sequence[Sample]) -> Iterator[str]:
    """Roles whose memory or files grew after the warm-up, or that were started again."""
    last = samples[-1].at
    counted = [s for s in samples if s.at >= last * WARM_UP]
    minutes = (counted[-1].at - counted[0].at) / 60
    for role in sorted(counted[-1].memory_mb):
        of_it = [(s.at / 60, s.memory_mb[role]) for s in counted if role in s.memory_mb]
        grown, usual = slope(of_it) * minutes, statistics.median(m for _, m in of_it)
        fds = [s.files[role] for s in counted if role in s.files]
        print(
            f"  {role or 'other':<13} {usual:7.1f} MiB, {grown:+6.2f} MiB in {minutes:.0f} min; {fds[0]} -> {fds[-1]} files"
        )
        if role and grown > max(GROWTH_MB, GROWTH * usual):
            yield f"the memory of {role} is not flat: {grown:+.1f} MiB in {minutes:.0f} min"
        if role and statistics.median(fds[-4:]) > statistics.median(fds[:4]) + GROWTH_FILES:
            yield f"open files of {role}: {fds[0]} -> {fds[-1]}"
    for role in ("serve", "receive", "schedule", "work", "deliver", "web"):
        if counted[0].pids.get(role) != counted[-1].pids.get(role):
            yield f"{role} was started again: {counted[0].pids.get(role)} -> {counted[-1].pids.get(role)}"


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil and Sen's: the median of the slopes between any two points."""
    steps = [(b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(points) for b in points[n + 1 :] if b[0] > a[0]]
    return statistics.median(steps) if steps else 0.0


def latency(node: TestNode, limit_s: float) -> Iterator[str]:
    said = metrics(node)
    for name in (TO_WORKLIST, TO_DELIVERED):
        buckets = said[f"{name}_bucket"]
        p50, p95, p99 = (quantile(buckets, part) for part in (0.5, 0.95, 0.99))
        print(f"  {name}: p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} s (with {QUIET_S:.0f} s of quiet timer)")
        if name == TO_DELIVERED and p95 > limit_s:
            yield f"p95 of {name} is {p95:.1f} s, more than {limit_s:.0f}"


def nothing_lost(node: TestNode, pacs: Orthanc, load: Load) -> Iterator[str]:
    owed = node.rows(DeliveryRow, state=DeliveryState.OWED) + node.rows(DeliveryRow, state=DeliveryState.DEAD)
    if owed:
        yield f"{len(owed)} results are owed or given up"
    images = 0
    for study_uid, acknowledged in load.sent.items():
        stored = {uid: digest(file) for uid, file in node.stored(study_uid).items()}
        images += len(stored)
        if stored != acknowledged:
            yield f"{study_uid}: not every acknowledged image is on the disk as it was sent"
        made = [r for r in node.rows(ResultRow, study_uid=study_uid) if r.sop_class_uid]
        deliveries = node.rows(DeliveryRow, study_uid=study_uid)
        yield from (f"{study_uid}: {wrong}" for wrong in wrongly_there(made, deliveries, pacs.files(study_uid).keys()))
    print(
        f"  {len(load.sent)} studies, {images} images on the disk as they were acknowledged, {len(load.closed)} closed"
    )


def wrongly_there(made: Sequence[ResultRow], deliveries: Sequence[DeliveryRow], there: Set[str]) -> Iterator[str]:
    """What is wrong with the objects of a study in the PACS, beside all that the node made and when it delivered it."""
    current = {r.uid for r in made if r.current}
    delivered_at = {d.result_uid: d.delivered_at for d in deliveries if d.delivered_at is not None}
    delivered = {r.uid: delivered_at[r.uid] for r in made if r.uid in delivered_at}
    if not current:
        yield "no result, or only that no model read it"
    if current - there:
        yield "a current result is not in the PACS"
    if there - delivered.keys():
        yield "the PACS has an object that was never delivered"
    for model in {r.model for r in made}:
        mine = [r for r in made if r.model == model and r.uid in delivered]
        last = max((delivered[r.uid] for r in mine if not r.current), default=0.0)
        if last > min((delivered[r.uid] for r in mine if r.current), default=last):
            yield f"a superseded result of {model} was delivered after the current one"


def show(samples: Sequence[Sample], load: Load, chosen: argparse.Namespace) -> None:
    deepest, most = max(s.queue for s in samples), max(s.owed for s in samples)
    total = sum(sum(s.memory_mb.values()) for s in samples[-4:]) / len(samples[-4:])
    print(
        f"  {chosen.minutes:.0f} min at {chosen.per_minute:g} studies a minute, seed {chosen.seed}: {len(load.sent)} sent, "
        f"{load.held_up} more were due while every sender was busy"
    )
    print(f"  deepest queue {deepest:.0f}, most results owed {most:.0f}, all processes {total:.0f} MiB at the end")
    print("  rows at the end: " + ", ".join(f"{name} {count}" for name, count in samples[-1].rows.items()))


if __name__ == "__main__":
    main()
