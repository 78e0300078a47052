"""`radnode run ct-lung` on a real chest CT, and on copies of it with what real files have: results, or one clear line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.validators import dciodvfy, dcmdump, dsrdump

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

REFERENCE_ML = {"right lung": 947.0, "left lung": 1938.0, "trachea and bronchus": 31.0}
"""What the README beside the CT gives (a threshold and connected components); 10 % either way is asked for."""
PROGRAM = Path(sys.executable).parent / "radnode"
MEASURE = (
    "import json, os, resource, subprocess, sys, time;"
    "began = time.monotonic(); done = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL);"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
    "figures = [time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss];"
    "json.dump(figures, open(sys.argv[1], 'w')); sys.exit(done.returncode)"
)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What `radnode run` did: exit code, standard error, wall and CPU time in s, largest memory in MiB, its output folder."""

    code: int
    errors: str
    seconds: float
    cpu_seconds: float
    mib: float
    out: Path

    @property
    def datasets(self) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(file) for file in sorted(self.out.glob("*.dcm"))]

    @property
    def report(self) -> dict[str, object]:
        read: dict[str, object] = json.loads((self.out / "report.json").read_text())
        return read


def run(model: str, folder: Path, out: Path) -> Ran:
    """`radnode run` in a process of its own, measured by a parent of its own."""
    figures = out.with_suffix(".figures")
    command = [sys.executable, "-c", MEASURE, str(figures), str(PROGRAM), "run", model, str(folder), "-o", str(out)]
    command += ["--device", "cpu"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RADNODE_")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=out.parent, env=environment, timeout=600, check=False
    )
    seconds, cpu, kib = json.loads(figures.read_text())
    return Ran(code=done.returncode, errors=done.stderr, seconds=seconds, cpu_seconds=cpu, mib=kib / 1024, out=out)


@pytest.fixture(scope="module")
def read_ct(real_ct: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run("ct-lung", real_ct, tmp_path_factory.mktemp("real") / "out")


def volumes_ml(ran: Ran) -> dict[str, float]:
    """Label of the segment -> volume in mL, counted from the voxels of the SEG."""
    from support.overlap import segments

    (seg,) = [d for d in ran.datasets if d.Modality == "SEG"]
    return {s.label.lower(): len(s.points) * s.voxel_mm3 / 1000 for s in segments(seg)}


def test_the_real_ct_gives_sr_seg_and_report(read_ct: Ran) -> None:
    assert read_ct.code == 0, read_ct.errors
    assert {"SR", "SEG"} <= {d.Modality for d in read_ct.datasets}
    assert read_ct.report["resourceType"] == "Bundle"


@pytest.mark.parametrize("organ", REFERENCE_ML)
def test_volumes_are_within_a_tenth_of_the_reference(organ: str, read_ct: Ran) -> None:
    ml = volumes_ml(read_ct)[organ]
    print(f"{organ}: {ml:.0f} mL, reference {REFERENCE_ML[organ]:.0f} mL")
    assert ml == pytest.approx(REFERENCE_ML[organ], rel=0.10)


def test_it_takes_less_than_twenty_seconds_and_four_gibibytes(read_ct: Ran) -> None:
    """The time of the processors: what it takes on a machine that does nothing else, however busy this one is."""
    print(f"{read_ct.seconds:.1f} s, {read_ct.cpu_seconds:.1f} s of CPU, {read_ct.mib:.0f} MiB")
    assert read_ct.mib < 4096
    assert read_ct.cpu_seconds < 20


def test_validators_have_nothing_against_its_objects(read_ct: Ran) -> None:
    complaints = {}
    for file in sorted(read_ct.out.glob("*.dcm")):
        modality = pydicom.dcmread(file, specific_tags=["Modality"]).Modality
        found = [*dciodvfy(file), *dcmdump(file), *(dsrdump(file) if modality == "SR" else [])]
        if found:
            complaints[f"{modality} {file.name}"] = found
    assert complaints == {}


# ------------------------------------------------------------------------------------------ odd copies

Change = Callable[[list[pydicom.Dataset]], Sequence[pydicom.Dataset]]


def gaps_in_numbering(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    for n, image in enumerate(images):
        image.InstanceNumber = 3 * n + 7
    return images


def private_tags(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    for image in images:
        block = image.private_block(0x0177, "ODD SCANNER", create=True)
        block.add_new(0x01, "UN", b"\xff\x00\xfe odd bytes \x01")
        block.add_new(0x02, "SQ", pydicom.Sequence([pydicom.Dataset()]))
    return images


def odd_character_set(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    for image in images:
        image.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        image.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    return images


def unknown_character_set(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    for image in images:
        image.PatientName = "Unknown"
        image.SpecificCharacterSet = "ISO_IR 999"
    return images


def head_first_reversed(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    """The same voxels with rows and columns turned by half a turn, and the position to match."""
    for image in images:
        dr, dc = (float(v) for v in image.PixelSpacing)
        x, y, z = (float(v) for v in image.ImagePositionPatient)
        a, b = (
            [float(v) for v in image.ImageOrientationPatient[:3]],
            [float(v) for v in image.ImageOrientationPatient[3:]],
        )
        far = [
            p + u * dc * (image.Columns - 1) + v * dr * (image.Rows - 1)
            for p, u, v in zip((x, y, z), a, b, strict=True)
        ]
        image.PixelData = image.pixel_array[::-1, ::-1].tobytes()
        image.ImagePositionPatient = [round(v, 6) for v in far]
        image.ImageOrientationPatient = [-v for v in (*a, *b)]
    return images


def one_slice_missing(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    return images[: len(images) // 2] + images[len(images) // 2 + 1 :]


def only_one_slice(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    return images[:1]


def of_the_head(images: list[pydicom.Dataset]) -> Sequence[pydicom.Dataset]:
    """Water everywhere: nothing in it looks like a lung."""
    for image in images:
        image.BodyPartExamined = "HEAD"
        image.PixelData = (image.pixel_array * 0 + round(0 - float(image.RescaleIntercept))).tobytes()
    return images


SUITS: dict[str, Change] = {
    "gaps in numbering": gaps_in_numbering,
    "private tags": private_tags,
    "odd character set": odd_character_set,
    "unknown character set": unknown_character_set,
    "turned": head_first_reversed,
}
DOES_NOT_SUIT: dict[str, Change] = {
    "one slice missing": one_slice_missing,
    "one slice only": only_one_slice,
    "no lungs": of_the_head,
}


@pytest.fixture(scope="module")
def thick_slices(real_ct: Path) -> list[Path]:
    """Every second image of the real CT, from feet to head: slices 2 mm apart, to save time."""
    placed = []
    for file in real_ct.iterdir():
        try:
            header = pydicom.dcmread(file, specific_tags=["ImagePositionPatient"])
        except pydicom.errors.InvalidDicomError:
            continue
        placed.append((float(header.ImagePositionPatient[2]), file))
    return [file for _, file in sorted(placed)][::2]


def changed_copy(files: Sequence[Path], change: Change, folder: Path) -> Path:
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    images = [pydicom.dcmread(file) for file in files]
    for n, image in enumerate(change(images)):
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = study, series, generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"{n:04}.dcm")
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", SUITS)
def test_an_odd_but_sound_ct_is_read_like_the_plain_one(
    name: str, thick_slices: list[Path], tmp_path: Path, read_ct: Ran
) -> None:
    ran = run("ct-lung", changed_copy(thick_slices, SUITS[name], tmp_path / "in"), tmp_path / "out")
    assert ran.code == 0, ran.errors
    plain, odd = volumes_ml(read_ct), volumes_ml(ran)
    assert odd.keys() == plain.keys()
    for label in odd:
        if "lung" in label:
            assert odd[label] == pytest.approx(plain[label], rel=0.10), label


@pytest.mark.parametrize("name", DOES_NOT_SUIT)
def test_a_ct_that_does_not_suit_ends_with_3_and_one_line(name: str, thick_slices: list[Path], tmp_path: Path) -> None:
    ran = run("ct-lung", changed_copy(thick_slices, DOES_NOT_SUIT[name], tmp_path / "in"), tmp_path / "out")
    assert ran.code == 3, ran.errors
    assert len(ran.errors.strip().splitlines()) == 1, ran.errors
    assert "Traceback" not in ran.errors and len(ran.errors) > 30
    assert list(tmp_path.glob("out/*")) == []


def test_an_empty_folder_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ran = run("ct-lung", tmp_path / "in", tmp_path / "out")
    assert ran.code in (1, 3)
    assert len(ran.errors.strip().splitlines()) == 1 and "Traceback" not in ran.errors, ran.errors


def test_an_unknown_model_is_answered_with_the_names_there_are(tmp_path: Path, real_ct: Path) -> None:
    ran = run("no-such-model", real_ct, tmp_path / "out")
    assert ran.code not in (0, 3)
    assert "ct-lung" in ran.errors and "Traceback" not in ran.errors
