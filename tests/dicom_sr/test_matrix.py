"""Whatever the source, every object that can be written of it passes the validators and is read back as it was meant."""

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.matrix import Variant, Written, complaints, everything_of, variants, writer
from support.nrrd import in_order, places
from support.pixelmed import pixelmed
from support.validators import segimage2itkimage, tid1500reader

from radnode_dicom_sr import codes, elements
from radnode_dicom_sr.invariants import check
from radnode_dicom_sr.read_segmentation import segments
from radnode_dicom_sr.source import DESCRIPTIVE
from radnode_inference.findings import Finding, Measurement

VARIANTS = variants()
KINDS = {"seg", "sr", "parametric-map", "key-image", "pdf", "kos", "rtstruct", "status", "rejection"}
APART = ("status", "rejection")  # told of a study, not of findings


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """Everything that is written of the variant of a name."""
    return writer(tmp_path_factory.mktemp("matrix"), VARIANTS)


def test_there_are_enough_variants() -> None:
    assert len(VARIANTS) >= 40


@pytest.mark.parametrize("name", VARIANTS)
def test_every_object_of_every_source_is_valid_and_reads_back(
    written: Callable[[str], Written], tmp_path: Path, name: str
) -> None:
    found = written(name)
    assert {o.kind for o in found.objects} | {"seg"} == KINDS  # one in four without a segmentation
    assert check([o for o in found.objects if o.kind not in APART], found.made, found.place.study) == ()
    assert list(complaints(VARIANTS[name], found)) == []
    dcmqi_reads_the_numbers(found, tmp_path)
    dcmqi_reads_the_voxels(found, tmp_path)


def test_pixelmed_finds_no_error_in_any_content_tree_of_any_source(written: Callable[[str], Written]) -> None:
    documents = [file for name in VARIANTS for file in written(name).documents]
    assert len(documents) == 6 * len(VARIANTS)  # two reports, a selection, two statuses and a rejection note of each
    assert pixelmed(documents) == []


def dcmqi_reads_the_numbers(found: Written, folder: Path) -> None:
    """tid1500reader has every finding of both reports, and every number with its unit."""
    groups = [
        group
        for o, file in zip(found.objects, found.files, strict=True)
        if o.kind == "sr"
        for group in tid1500reader(file, folder)["Measurements"]
    ]
    theirs = {(g["TrackingUniqueIdentifier"], *n) for g in groups for n in numbers_in(g)}
    items = found.made.items
    now = {(f.tracking_uid, *n) for f in items for n in numbers_of(f)}
    earlier = {(f.prior.tracking_uid, *n) for f in items if f.prior for n in measured(f.prior.measurements)}
    assert theirs == now | earlier


def numbers_in(group: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    for item in group.get("measurementItems", ()):
        yield item["quantity"]["CodeValue"], float(item["value"]), item["units"]["CodeValue"]


def numbers_of(finding: Finding) -> Iterator[tuple[str, float, str]]:
    if finding.probability is not None:
        yield codes.probability_concept(finding).value, float(f"{100 * finding.probability:.6g}"), "%"
    yield from measured(finding.measurements)


def measured(measurements: Iterable[Measurement]) -> Iterator[tuple[str, float, str]]:
    for m in measurements:
        yield m.concept.value, float(f"{m.value:.6g}"), m.unit.value


def dcmqi_reads_the_voxels(found: Written, folder: Path) -> None:
    """segimage2itkimage has every voxel of every finding where it is, and no other; our own reader has its volume."""
    theirs, volumes = [], dict[str, float]()
    for o, file in zip(found.objects, found.files, strict=True):
        if o.kind == "seg":
            segimage2itkimage(file, folder / o.sop_uid)
            theirs += [places(image) for image in (folder / o.sop_uid).glob("*.nrrd")]
            for s in segments(o.body):
                volumes[s.tracking_uid] = volumes.get(s.tracking_uid, 0.0) + s.volume_ml
    if not theirs:
        return
    located = {f.tracking_uid: f for f in found.made.items if f.mask is not None}
    truth = np.concatenate([found.place.lps()[f.mask] for f in located.values()])
    points = np.concatenate(theirs)
    assert len(points) == len(truth)
    assert np.abs(in_order(points) - in_order(truth)).max() < 0.01
    assert volumes == {uid: pytest.approx(f.measurements[0].value, rel=1e-5) for uid, f in located.items()}


UNSETTLED = (*DESCRIPTIVE, "SliceThickness", "SeriesNumber")
CHARSETS = ("ISO_IR 100", "ISO_IR 192", "GB18030", "GBK", "ISO 2022 IR 6\\ISO 2022 IR 87", "ISO_IR 999", "")
ABSENT = "absent"
ODD = {"exclude_categories": ("C", "Z"), "exclude_characters": "\\^="}
NAMES = st.text(st.characters(max_codepoint=0xFFFF, **ODD), max_size=16)
SHORT = st.one_of(
    st.text(st.characters(max_codepoint=0xFFFF, **ODD), max_size=5),
    st.text(st.characters(max_codepoint=0x7E, **ODD), max_size=16),
)
"""At most 16 bytes: in an SH, dciodvfy counts these where the standard counts characters (PS3.5 section 6.2)."""
IDENTITY = {"PatientName": NAMES, "PatientID": NAMES, "AccessionNumber": SHORT, "StudyID": SHORT}
ANYTHING = st.one_of(
    st.sampled_from([ABSENT, b"", b"x" * 300, b"2026.11.22"]), st.binary(max_size=90), NAMES.map(str.encode)
)


@pytest.mark.filterwarnings("ignore")  # pydicom's, of characters that are none
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.fixed_dictionaries({}, optional={k: st.just(ABSENT) | v for k, v in IDENTITY.items()}),
    values=st.dictionaries(st.sampled_from(UNSETTLED), ANYTHING, max_size=8),
    unknown=st.booleans(),
    charset=st.sampled_from(CHARSETS),
    number=st.integers(0, 15),
)
def test_whatever_a_header_holds_every_object_is_valid_and_keeps_every_rule(
    names: dict[str, str], values: dict[str, str | bytes], unknown: bool, charset: str, number: int
) -> None:
    """Any bytes in whatever results copy, in any character set; unknown: elements say that their VR is not known.

    What identifies the patient and the study has characters that a name may have: it is copied as it is.
    """
    charsets = "ISO_IR 192" if names else charset
    held = {tag_for(keyword): value for keyword, value in {**values, **names, "SpecificCharacterSet": charsets}.items()}

    def change(ds: pydicom.Dataset) -> None:
        for tag in held:
            ds.pop(tag, None)

    def insert(folder: Path) -> None:
        """Byte by byte: pydicom would convert, correct or refuse some."""
        for file in folder.glob("*.dcm"):
            body = file.read_bytes()
            for tag, value in held.items():
                if value != ABSENT:
                    own = not unknown or tag == tag_for("SpecificCharacterSet")
                    body = inserted(body, tag, pydicom.datadict.dictionary_VR(tag) if own else "UN", value)
            file.write_bytes(body)

    variant = Variant(scene={"change": change}, after=insert, valid=False)
    with TemporaryDirectory() as folder:
        found = everything_of(Path(folder), variant, number)
        assert check([o for o in found.objects if o.kind not in APART], found.made, found.place.study) == ()
        assert list(complaints(variant, found)) == []


def tag_for(keyword: str) -> int:
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    return tag


def inserted(file: bytes, tag: int, vr: str, value: str | bytes) -> bytes:
    """A file in Explicit VR Little Endian without sequences, with one more element at its place (PS3.5 section 7.1)."""
    at = 144 + int.from_bytes(file[140:144], "little")  # after the file meta information
    while at < len(file):
        group, element_number, kind, short = struct.unpack_from("<HH2sH", file, at)
        if (group << 16 | element_number) > tag:
            break
        long = kind.decode() in elements.LONG
        at += 12 + struct.unpack_from("<L", file, at + 8)[0] if long else 8 + short
    raw = value.encode() if isinstance(value, str) else value
    return file[:at] + elements.element(tag, vr, raw) + file[at:]
