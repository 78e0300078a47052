"""Time, memory and size of a segmentation object: radnode, highdicom's plain path and dcmqi, the same masks, the same run.

python benchmarks/objects.py [--slices 500] [--segments 1 10 30 100]

Each measurement is a process of its own. "Memory" is what the process took on top of the masks themselves; highdicom
and dcmqi get them as one label map, which is their cheapest input. The first two end with the complete file in memory.
dcmqi is a program: what it takes includes reading the headers and the label map from the disk and writing its file.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from radnode_dicom_sr.dataset import Context
from radnode_dicom_sr.identity import Identity
from radnode_dicom_sr.segmentation import segmentations
from radnode_dicom_sr.source import Source
from radnode_inference.findings import Finding
from radnode_inference.volume import BoolArray, Volume

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.findings import Scene, findings, lesion, scene

SIDE = 512
RADIUS = 45
Taken = tuple[float, float, float, float]
"""Seconds of processor time, seconds, MiB on top of the input, MiB of the file."""


def series(folder: Path, slices: int) -> Scene:
    """The headers of a CT series with a few pixels: dcmqi asks that there are some, and no writer reads them."""

    def headers_only(ds: Dataset) -> None:
        ds.Rows = ds.Columns = SIDE

    small = scene(folder, shape=(slices, 4, 4), spacing=(1.0, 0.7, 0.7), change=headers_only)
    voxels = np.broadcast_to(np.zeros(1, np.float32), (slices, SIDE, SIDE))
    volume = Volume(
        voxels=voxels,
        affine=small.volume.affine,
        frame_of_reference_uid=small.volume.frame_of_reference_uid,
        series_uid=small.volume.series_uid,
        sources=small.volume.sources,
    )
    return replace(small, volume=volume)


def masks(slices: int, segments: int) -> list[BoolArray]:
    """Cylinders side by side on a 6 × 5 grid (more than 30: 10 × 10), each on about a quarter of the slices."""
    columns_of, step, radius = (6, (80, 95), RADIUS - 6) if segments <= 30 else (10, (50, 50), 22)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    made = []
    for n in range(segments):
        mask = np.zeros((slices, SIDE, SIDE), bool)
        centre = (RADIUS + step[0] * (n % columns_of), RADIUS + step[1] * (n // columns_of))
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
        start = (n * 37) % (slices - slices // 4)
        mask[start : start + slices // 4] = disc
        made.append(mask)
    return made


def by_radnode(place: Scene, drawn: list[BoolArray]) -> Callable[[], bytes]:
    base = lesion_of(place)
    made = findings(
        place,
        tuple(replace(base, tracking_id=f"s{n}", tracking_uid=f"1.2.{n + 1}", mask=m) for n, m in enumerate(drawn)),
    )

    def write() -> bytes:
        context = Context(
            findings=made,
            source=Source.of(place.study, made.volume),
            identity=Identity.of(made),
            now=datetime.now(UTC),
        )
        return segmentations(context)[0].object.body

    return write


def lesion_of(place: Scene) -> Finding:
    """A finding to copy; its own mask, made on three small slices, is thrown away."""
    v = place.volume
    small = Volume(
        voxels=np.zeros((3, 8, 8), np.float32),
        affine=v.affine,
        frame_of_reference_uid=v.frame_of_reference_uid,
        series_uid=v.series_uid,
        sources=v.sources[:3],
    )
    return lesion(replace(place, volume=small), "s", (0, 0, 0), 2)


def by_highdicom(place: Scene, drawn: list[BoolArray]) -> Callable[[], bytes]:
    labels = label_map(drawn)
    count = len(drawn)
    drawn.clear()
    headers = {h.text("SOPInstanceUID"): h for h in place.study.series[0].headers}

    def write() -> bytes:
        algorithm = hd.AlgorithmIdentificationSequence("x", hd.sr.CodedConcept("123110", "DCM", "AI"), "1")
        seg = hd.seg.Segmentation(
            source_images=[headers[s.sop_uid].dataset() for s in place.volume.sources],
            pixel_array=labels,
            segmentation_type="BINARY",
            segment_descriptions=[
                hd.seg.SegmentDescription(
                    segment_number=n,
                    segment_label=f"s{n}",
                    segmented_property_category=hd.sr.CodedConcept("49755003", "SCT", "Abnormal Structure"),
                    segmented_property_type=hd.sr.CodedConcept("27925004", "SCT", "Nodule"),
                    algorithm_type="AUTOMATIC",
                    algorithm_identification=algorithm,
                )
                for n in range(1, count + 1)
            ],
            series_instance_uid=hd.UID(),
            series_number=1,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="m",
            manufacturer_model_name="m",
            software_versions="1",
            device_serial_number="1",
        )
        out = BytesIO()
        seg.save_as(out)
        return out.getvalue()

    return write


def label_map(drawn: list[BoolArray]) -> NDArray[np.uint8]:
    """uint8 [slice, row, column]: the number of the mask at each voxel, from 1; they do not overlap."""
    labels = np.zeros(drawn[0].shape, np.uint8)
    for number, mask in enumerate(drawn, start=1):
        labels[mask] = number
    return labels


def by_dcmqi(place: Scene, drawn: list[BoolArray], folder: Path) -> list[str]:
    """The command that makes dcmqi write the segmentation, its input files written."""
    labels, affine = label_map(drawn), place.volume.affine
    axes = " ".join(f"({','.join(map(str, affine[:3, i]))})" for i in (2, 1, 0))
    sizes = " ".join(map(str, labels.shape[::-1]))
    origin = ",".join(map(str, affine[:3, 3]))
    head = f"NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
    head += f"space directions: {axes}\nkinds: domain domain domain\nencoding: raw\nspace origin: ({origin})\n\n"
    (folder / "labels.nrrd").write_bytes(head.encode() + labels.tobytes())
    described = [
        {
            "labelID": n,
            "SegmentLabel": f"s{n}",
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "x",
            "SegmentedPropertyCategoryCodeSequence": coded("49755003", "Abnormal Structure"),
            "SegmentedPropertyTypeCodeSequence": coded("27925004", "Nodule"),
            "recommendedDisplayRGBValue": [255, 0, 0],
        }
        for n in range(1, len(drawn) + 1)
    ]
    meta = {"ContentCreatorName": "x", "SeriesNumber": "1", "InstanceNumber": "1", "segmentAttributes": [described]}
    (folder / "meta.json").write_text(json.dumps(meta))
    return [
        str(Path(sys.executable).parent / "itkimage2segimage"),
        *("--inputImageList", str(folder / "labels.nrrd")),
        *("--inputDICOMDirectory", str(folder / "source")),
        *("--inputMetadata", str(folder / "meta.json")),
        *("--outputDICOM", str(folder / "seg.dcm")),
        "--skip", "1",
    ]  # fmt: skip


def coded(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def measure_dcmqi(folder: Path, slices: int, segments: int) -> Taken:
    """The same of dcmqi: its memory is what the whole program took, less the label map."""
    place, drawn = series(folder / "source", slices), masks(slices, segments)
    command = by_dcmqi(place, drawn, folder)
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if child.returncode or not (folder / "seg.dcm").exists():
        raise RuntimeError(f"dcmqi wrote nothing:\n{said[-2000:]}")
    assert int(dcmread(folder / "seg.dcm", stop_before_pixels=True).SegmentSequence[-1].SegmentNumber) == segments
    size = (folder / "seg.dcm").stat().st_size
    return used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024 - drawn[0].size / 2**20, size / 2**20


def memory_mib(name: str) -> float:
    """A line of /proc/self/status, in MiB."""
    line = next(t for t in Path("/proc/self/status").read_text().splitlines() if t.startswith(name))
    return int(line.split()[1]) / 1024


def measure(writer: str, folder: Path, slices: int, segments: int) -> Taken:
    if writer == "dcmqi":
        return measure_dcmqi(folder, slices, segments)
    prepare = {"radnode": by_radnode, "highdicom": by_highdicom}[writer]
    write = prepare(series(folder, slices), masks(slices, segments))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before, start, cpu = memory_mib("VmRSS"), time.perf_counter(), time.process_time()
    body = write()
    taken = time.process_time() - cpu, time.perf_counter() - start
    return *taken, memory_mib("VmHWM") - before, len(body) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--segments", type=int, nargs="+", default=[1, 10, 30, 100])
    options = parser.parse_args()
    print(f"{options.slices} slices of {SIDE}×{SIDE}; processor seconds / seconds / MiB of memory / MiB of file")
    with tempfile.TemporaryDirectory() as folder:
        for segments in options.segments:
            line = [f"{segments:3} segments"]
            taken = {}
            for writer in ("radnode", "highdicom", "dcmqi"):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    place = Path(folder) / f"{writer}-{segments}"
                    taken[writer] = pool.apply(measure, (writer, place, options.slices, segments))
                line.append("{}: {:.2f} / {:.2f} / {:.0f} / {:.1f}".format(writer, *taken[writer]))
            quicker = [taken[other][0] / taken["radnode"][0] for other in ("highdicom", "dcmqi")]
            line.append("radnode {:.1f} and {:.1f} times quicker".format(*quicker))
            print("   ".join(line), flush=True)


if __name__ == "__main__":
    main()
