"""Seconds that the look at the store takes at a start, with many small files: without a checkpoint, and with one.

python benchmarks/recover.py [--files 100000] [--per-series 500]

The files are no DICOM objects: each has its row, and what has its row is not read. A last run follows a crash: 99 of the
newest files have lost their rows; as they are no DICOM objects, they are read and told.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import delete, insert

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.store import open_store, settings_for  # noqa: E402

from radnode.store import Store  # noqa: E402
from radnode.store_checkpoint import MARGIN_S  # noqa: E402
from radnode.store_recover import recover  # noqa: E402
from radnode.tables import InstanceRow  # noqa: E402


def fill(store: Store, count: int, per_series: int) -> None:
    """Studies of one series each, all but the newest older than the margin of the checkpoint."""
    old = time.time() - 2 * MARGIN_S
    for first in range(0, count, per_series):
        study_uid, series_uid = f"1.2.{first}", f"1.2.{first}.1"
        folder = store.objects / study_uid / series_uid
        folder.mkdir(parents=True)
        for number in range(first, min(first + per_series, count)):
            (folder / f"1.2.9.{number}.dcm").write_bytes(b"not a DICOM file")
        numbers = range(first, min(first + per_series, count))
        rows = [row(study_uid, series_uid, n, f"objects/{study_uid}/{series_uid}/1.2.9.{n}.dcm") for n in numbers]
        with store.database.transaction() as session:
            session.execute(insert(InstanceRow), rows)
        if first + per_series < count:
            os.utime(folder, (old, old))


def row(study_uid: str, series_uid: str, number: int, file: str) -> dict[str, object]:
    return {
        "sop_uid": f"1.2.9.{number}",
        "sha256": "",
        "study_uid": study_uid,
        "series_uid": series_uid,
        "sop_class_uid": "1.2",
        "transfer_syntax_uid": "1.2",
        "calling_ae": "BENCH",
        "called_ae": "RADNODE",
        "address": "",
        "file": file,
        "size": 16,
        "received_at": time.time(),
        "current": True,
        "settled": True,
    }


def timed(store: Store, what: str) -> None:
    start = time.perf_counter()
    found = recover(store, store.database)
    seconds = time.perf_counter() - start
    print(f"{what:32} {seconds:7.3f} s  missing {len(found.missing)}  cannot be read {len(found.damaged)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--per-series", type=int, default=500)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="radnode-bench-") as folder:
        store = open_store(settings_for(Path(folder) / "data"))
        fill(store, options.files, options.per_series)
        timed(store, "no checkpoint: every file")
        timed(store, "with a checkpoint")
        with store.database.transaction() as session:
            newest = InstanceRow.id.between(options.files - 99, options.files - 1)
            session.execute(delete(InstanceRow).where(newest))
        timed(store, "with a checkpoint, 99 rows lost")
        store.close()


if __name__ == "__main__":
    main()
