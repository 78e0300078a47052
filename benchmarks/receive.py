"""Images per second into radnode, DCMTK's storescp and Orthanc: the same files, in one run, in turn.

python benchmarks/receive.py [--slices 500] [--rounds 3] [--associations 1,4] [--only "radnode,storescp,storescp flushed,storescp recorded,orthanc,disk"]

Senders are DCMTK's storescu, everything with TCP_NODELAY=1 (without it, each image waits 45 ms for a delayed ACK). Each
sender sends every slice; with four associations each sends its own study. radnode answers after fsync of file and
folder and the commit of the row; Orthanc flushes the file, storescp nothing. Only the ratios of one run carry over.

storescp +B      writes what it receives as it comes (bit preserving), without building a data set
storescp flushed the same, with fsync of file and folder before it answers (`flush_on_close.c`, needs a C compiler)
storescp recorded the same, and with its SHA-256 and a row committed: radnode's promises kept by a receiver in C
                 (needs libssl-dev and libsqlite3-dev)
disk             receives nothing: threads write, flush and name the bytes as radnode does, one for each association
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.receiver import receiver, wait_until  # noqa: E402

ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
Clear = Callable[[], None]
Send = Callable[[Sequence[Path]], float]
"""Gives every study to a receiver at once and returns the seconds until the last one has ended."""


def write_study(folder: Path, slices: int, seed: int) -> None:
    """A CT series of 512x512 16-bit slices of noise, with the attributes that a scanner sends."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    for number in range(slices):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CT_IMAGE_STORAGE, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study_uid, series_uid, frame_uid
        image.PatientName, image.PatientID, image.PatientSex, image.PatientBirthDate = "Bench^Mark", "BENCH", "O", ""
        image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20260101", "120000", "1", "1"
        image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 1, number + 1
        image.ImageType, image.BodyPartExamined = ["ORIGINAL", "PRIMARY", "AXIAL"], "CHEST"
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness, image.KVP = [0.7, 0.7], 1, 120
        image.RescaleIntercept, image.RescaleSlope = -1024, 1
        image.Rows = image.Columns = 512
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.PixelData = random.integers(-1000, 2000, (512, 512), dtype=np.int16).tobytes()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@contextmanager
def radnode(folder: Path) -> Iterator[tuple[Send, Clear]]:
    data = folder / "radnode"
    with receiver(data, accept_unknown_callers="true") as node:

        def clear() -> None:
            with node.database.transaction() as session:
                session.connection().exec_driver_sql("DELETE FROM instances")
            for study in (data / "objects").glob("[0-9]*"):
                shutil.rmtree(study)

        yield partial(send, node.port), clear


@contextmanager
def storescp(folder: Path, *options: str, **environment: str) -> Iterator[tuple[Send, Clear]]:
    out, port = Path(tempfile.mkdtemp(prefix="storescp-", dir=folder)), free_port()
    command = ["/usr/bin/storescp", "--fork", *options, "-aet", "RADNODE", "-od", str(out), str(port)]
    with running(command, port, environment):
        yield partial(send, port), partial(empty, out)


def flushed_storescp(folder: Path, **environment: str) -> AbstractContextManager[tuple[Send, Clear]]:
    library = folder / "flush_on_close.so"
    source = ROOT / "benchmarks" / "flush_on_close.c"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lcrypto", "-lsqlite3"]
    subprocess.run(command, check=True)
    return storescp(folder, "+B", LD_PRELOAD=str(library), **environment)


def recorded_storescp(folder: Path) -> AbstractContextManager[tuple[Send, Clear]]:
    return flushed_storescp(folder, RECORD_IN=str(folder / "recorded.db"))


@contextmanager
def orthanc(folder: Path) -> Iterator[tuple[Send, Clear]]:
    port, http_port = free_port(), free_port()
    text = (ROOT / "benchmarks" / "orthanc.json.in").read_text()
    for name, value in {
        "@DIR@": str(folder / "orthanc"),
        "@HTTP_PORT@": str(http_port),
        "@DICOM_PORT@": str(port),
    }.items():
        text = text.replace(name, value)
    (folder / "orthanc").mkdir(exist_ok=True)
    configuration = folder / "orthanc" / "orthanc.json"
    configuration.write_text(text)

    def clear() -> None:
        import httpx

        with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=120) as client:
            for patient in client.get("/patients").json():
                client.delete(f"/patients/{patient}").raise_for_status()

    with running(["/usr/sbin/Orthanc", str(configuration)], port):
        yield partial(send, port), clear


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Send, Clear]]:
    out = folder / "disk"
    out.mkdir(exist_ok=True)

    def keep(study: Path) -> None:
        into = out / study.name
        into.mkdir()
        for slice_file in sorted(study.iterdir()):
            part, body = into / f"{slice_file.name}.part", slice_file.read_bytes()
            with part.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            part.rename(into / slice_file.name)
            name = os.open(into, os.O_RDONLY)
            os.fsync(name)
            os.close(name)

    def keep_all(studies: Sequence[Path]) -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(len(studies)) as threads:
            list(threads.map(keep, studies))
        return time.perf_counter() - start

    yield keep_all, partial(empty, out)


@contextmanager
def running(command: Sequence[str], port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=ENVIRONMENT | (environment or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: listens(port), 30, f"{command[0]} on port {port}")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(port: int, studies: Sequence[Path]) -> float:
    """Seconds until every sender has ended. Raises CalledProcessError when one was refused."""
    start = time.perf_counter()
    command = ["/usr/bin/storescu", "-aet", "BENCH", "-aec", "RADNODE", "+sd", "127.0.0.1", str(port)]
    senders = [
        subprocess.Popen([*command, str(s)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for s in studies
    ]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - start
    for code in codes:
        if code:
            raise subprocess.CalledProcessError(code, command)
    return seconds


RECEIVERS = {
    "radnode": radnode,
    "storescp": storescp,
    "storescp +B": lambda folder: storescp(folder, "+B"),
    "storescp flushed": flushed_storescp,
    "storescp recorded": recorded_storescp,
    "orthanc": orthanc,
    "disk": disk,
}


def measure(
    names: Sequence[str], studies: Sequence[Path], counts: Sequence[int], rounds: int, folder: Path
) -> dict[tuple[str, int], list[float]]:
    """(receiver, associations) -> images per second of each round. Alternating; the first round only warms up."""
    rates: dict[tuple[str, int], list[float]] = {}
    images = {s: sum(1 for _ in s.iterdir()) for s in studies}
    with ExitStack() as stack:
        receivers = {name: stack.enter_context(RECEIVERS[name](folder)) for name in names}
        for turn in range(rounds + 1):
            for count in counts:
                for name, (give, clear) in receivers.items():
                    seconds = give(studies[:count])
                    clear()
                    os.sync()
                    if turn:
                        rates.setdefault((name, count), []).append(sum(images[s] for s in studies[:count]) / seconds)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", default="1,4")
    parser.add_argument("--only", default=",".join(RECEIVERS))
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    counts = [int(n) for n in options.associations.split(",")]
    names = options.only.split(",")
    with tempfile.TemporaryDirectory(prefix="radnode-bench-") as temporary:
        folder = Path(temporary)
        studies = [folder / "studies" / str(n) for n in range(max(counts))]
        for n, study in enumerate(studies):
            write_study(study, options.slices, n)
        rates = measure(names, studies, counts, options.rounds, folder)
    print_table(rates, names, counts)
    if options.json:
        options.json.write_text(
            json.dumps([{"receiver": n, "associations": c, "images_per_s": r} for (n, c), r in rates.items()])
        )


def print_table(rates: dict[tuple[str, int], list[float]], names: Sequence[str], counts: Sequence[int]) -> None:
    print("images per second: median (lowest to highest), and radnode's median over it")
    for count in counts:
        for name in names:
            found = rates[name, count]
            median = statistics.median(found)
            ratio = statistics.median(rates["radnode", count]) / median if "radnode" in names else float("nan")
            print(
                f"{count} associations  {name:17} {median:7.0f}  ({min(found):.0f} to {max(found):.0f})  {ratio:5.2f}"
            )


if __name__ == "__main__":
    main()
