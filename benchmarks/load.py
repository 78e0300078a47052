"""How quickly a CT series becomes a float32 volume: radnode, the limit (read and convert), and a pydicom loop.

    python benchmarks/load.py FOLDER [--slices 500] [--rounds 3]

FOLDER holds one CT series of native, single-frame images; its slices are repeated up to --slices and transcoded to RLE,
JPEG-LS and JPEG 2000. All ways are measured in turn in one run, and the medians printed in seconds: only the ratios
carry over to another machine. Every way has to give the same voxels.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from radnode_inference.header import Header
from radnode_inference.load import load
from radnode_inference.study import Study

CODECS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        JPEG2000Lossless,
        lambda p: imagecodecs.jpeg2k_encode(p, level=0, reversible=True, codecformat="J2K"),
    ),
}


def native(source: list[Path], folder: Path, slices: int) -> None:
    """`slices` images one after the other along z, little endian, uncompressed."""
    for n in range(slices):
        ds = pydicom.dcmread(source[n % len(source)])
        x, y, _ = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, float(n)]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{n + 1}"
        ds.save_as(folder / f"{n:04}.dcm")


def transcode(source: Path, folder: Path, name: str) -> None:
    for path in sorted(source.iterdir()):
        ds = pydicom.dcmread(path)
        if name == "RLE":
            ds.compress(RLELossless, generate_instance_uid=False)
        else:
            syntax, encode = CODECS[name]
            ds.PixelData = encapsulate([encode(ds.pixel_array)])
            ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
            ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(folder / path.name, implicit_vr=False, little_endian=True)


def by_radnode(folder: Path) -> np.ndarray:
    """Headers, geometry and pixels: what the node does."""
    series = Study.from_folder(folder).series[0]
    return load(series.headers, series.series_uid).voxels


def by_pydicom(folder: Path) -> np.ndarray:
    datasets = [pydicom.dcmread(p) for p in folder.iterdir()]
    datasets.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    planes = [
        ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in datasets
    ]
    return np.stack(planes)


def limit(headers: Iterable[Header]) -> Callable[[Path], np.ndarray]:
    """Only reading the stored pixels (already located, already in order) and converting them."""
    ordered = list(headers)
    first = ordered[0]
    shape = first.unsigned("Rows") or 0, first.unsigned("Columns") or 0

    def read_and_convert(folder: Path) -> np.ndarray:
        out = np.empty((len(ordered), *shape), np.float32)
        for plane, header in zip(out, ordered, strict=True):
            assert header.path is not None
            cells = np.fromfile(header.path, "<u2", shape[0] * shape[1], offset=header.pixel_offset or 0)
            np.add(
                cells.reshape(shape), np.float32(header.number("RescaleIntercept") or 0), out=plane, dtype=np.float32
            )
        return out

    return read_and_convert


def measure(ways: dict[str, Callable[[Path], np.ndarray]], folder: Path, rounds: int) -> dict[str, float]:
    """Median seconds of each way, one after the other in every round; their voxels must be equal."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        sums = set()
        for name, way in ways.items():
            began = time.perf_counter()
            voxels = way(folder)
            seconds[name].append(time.perf_counter() - began)
            sums.add(float(voxels[:: max(1, len(voxels) // 7)].sum(dtype=np.float64)))
            del voxels
        if len(sums) != 1:
            raise SystemExit(f"the ways disagree about the voxels: {sums}")
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    source = sorted(p for p in arguments.folder.iterdir() if p.is_file())
    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / "native"
        first.mkdir()
        native(source, first, arguments.slices)
        print(f"{arguments.slices} slices to float32, median seconds of {arguments.rounds} rounds")
        print(f"{'':10} {'radnode':>9} {'limit':>9} {'pydicom':>9}")
        for name in ("native", "RLE", *CODECS):
            folder = Path(scratch) / name
            if name != "native":
                folder.mkdir()
                transcode(first, folder, name)
            ways: dict[str, Callable[[Path], np.ndarray]] = {"radnode": by_radnode, "pydicom": by_pydicom}
            if name == "native":
                ways["limit"] = limit(Header.read(p) for p in sorted(folder.iterdir()))
            found = measure(ways, folder, arguments.rounds)
            cells = [f"{found[w]:9.2f}" if w in found else f"{'-':>9}" for w in ("radnode", "limit", "pydicom")]
            print(f"{name:10} {' '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
