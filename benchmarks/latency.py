"""From the last image acknowledged to the result in the PACS: what the node adds to the model and the quiet timer.

python benchmarks/latency.py [--folder CHEST_CT] [--slices 300] [--rounds 3] [--quiet 2]

The PACS is Debian's Orthanc, by C-STORE. The study is a generated chest CT of 512x512 slices, or one of your own; every
round sends it under new UIDs. The first round, which also loads the model, is shown and not counted. Taken off: the quiet
timer, which is a setting, and the time inside the model's `read`, which the node writes into the study's story.
Two clocks are read, both of this machine: the node's (its tables) and this program's.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.node_process import TestNode, to_orthanc  # noqa: E402
from support.orthanc import Orthanc  # noqa: E402

from radnode.demo.send import send  # noqa: E402
from radnode.tables import DeliveryRow, EventRow, InstanceRow, JobRow  # noqa: E402

STAGES = ("settle and quiet timer's end", "route", "claim", "load, report, write", "record", "deliver")
AIM_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds: of each stage, of the model, and of all that the node added."""

    stages: tuple[float, ...]
    model: float

    @property
    def added(self) -> float:
        return sum(self.stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a chest CT (default: one is generated)")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quiet", type=float, default=2.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radnode-latency-") as name:
        folder = Path(name)
        files = source(chosen.folder, folder / "source", chosen.slices)
        rounds = measure(folder, files, chosen.rounds + 1, chosen.quiet)
    show(rounds, len(files))


def source(given: Path | None, folder: Path, slices: int) -> list[Path]:
    if given is None:
        from support.studies import chest

        print(f"Generating a chest CT of {slices} slices", flush=True)
        return list(chest(folder, seed=1, shape=(slices, 512, 512)).files)
    files = [p for p in sorted(given.rglob("*")) if p.is_file() and p.read_bytes()[128:132] == b"DICM"]
    return files[:slices]


def measure(folder: Path, files: Sequence[Path], rounds: int, quiet_s: float) -> list[Round]:
    made = []
    with (
        Orthanc(folder / "pacs") as pacs,
        TestNode(folder, destinations=[to_orthanc(pacs)], quiet_s=quiet_s) as node,
    ):
        for n in range(rounds):
            copies = renamed(files, folder / f"round-{n}")
            made.append(one(node, pacs, copies, quiet_s))
            word = "warming up" if n == 0 else f"round {n}"
            print(f"{word}: {made[-1].added:.2f} s added, {made[-1].model:.2f} s in the model", flush=True)
            for copy in copies:
                copy.unlink()
    return made


def renamed(files: Sequence[Path], folder: Path) -> list[Path]:
    """The same images as another study."""
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    copies = []
    for file in files:
        image = pydicom.dcmread(file)
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        copies.append(folder / file.name)
        image.save_as(copies[-1])
    os.sync()  # so that the node's own flushes do not wait for ours
    return copies


def one(node: TestNode, pacs: Orthanc, files: Sequence[Path], quiet_s: float) -> Round:
    """Send, wait for the results in the PACS, and take the times from the node's tables."""
    acknowledged_at = 0.0
    study_uid = ""
    for image in send(files, node.receive_port):
        acknowledged_at, study_uid = time.time(), image.study_uid
    node.wait_until_delivered(study_uid, seconds=600)
    while not len(pacs.qido("instances", StudyInstanceUID=study_uid)) >= len(delivered(node, study_uid)):
        time.sleep(0.01)
    return times(node, study_uid, acknowledged_at, quiet_s)


def delivered(node: TestNode, study_uid: str) -> list[float]:
    """When each delivery was confirmed by the PACS, in order."""
    rows = node.rows(DeliveryRow, study_uid=study_uid)
    return sorted(row.delivered_at for row in rows if row.delivered_at is not None)


def times(node: TestNode, study_uid: str, acknowledged_at: float, quiet_s: float) -> Round:
    (job,) = [j for j in node.rows(JobRow, study_uid=study_uid) if j.state == "done"]
    events = {e.action: e for e in node.rows(EventRow, study_uid=study_uid)}
    last_image = max(i.received_at for i in node.rows(InstanceRow, study_uid=study_uid))
    told = re.search(r"read it in ([0-9.]+) s", events["done"].sentence)
    assert told, events["done"].sentence
    model_s = float(told.group(1))
    ends = (
        events["complete"].at,
        job.created_at,
        job.started_at,
        job.ended_at,
        min(d.created_at for d in node.rows(DeliveryRow, study_uid=study_uid)),
        delivered(node, study_uid)[-1],
    )
    begins = (min(acknowledged_at, last_image), *ends[:-1])
    stages = [end - begin for begin, end in zip(begins, ends, strict=True)]
    stages[0] -= quiet_s
    stages[3] -= model_s
    return Round(stages=tuple(stages), model=model_s)


def show(rounds: Sequence[Round], images: int) -> None:
    counted = rounds[1:]
    print(f"\n{images} images; medians of {len(counted)} rounds, in seconds")
    for n, name in enumerate(STAGES[: len(counted[0].stages)]):
        print(f"  {name:<30} {statistics.median(r.stages[n] for r in counted):6.2f}")
    added = statistics.median(r.added for r in counted)
    print(f"  {'the node added':<30} {added:6.2f}   (aim: under {AIM_S:.0f} s)")
    print(f"  {'inside the model':<30} {statistics.median(r.model for r in counted):6.2f}")
    sys.exit(0 if added < AIM_S else 1)


if __name__ == "__main__":
    main()
