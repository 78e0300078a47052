"""Forty and more sources as scanners and archives deliver them, and everything that can be written of each."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from support.findings import MODEL, ORIENTATIONS, Scene, findings, lesion, saliency, scene
from support.validators import dcentvfy, dciodvfy, dsrdump

from radnode_dicom_sr import DicomObject, Profile, build, retraction, status
from radnode_inference.findings import Code, Evaluation, Finding, Findings, Kind, Prior, tracking_uid
from radnode_inference.study import Study

Change = Callable[[Dataset], None]
NAMES = {
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 192": "王^小明=王^小明",
    "GB18030": "王^小东=王^小東",
    "GBK": "誠^一",  # trail bytes below 0x80
    "ISO_IR 144": "Люкceмбypг",
    "ISO_IR 166": "นามสกุล^ชื่อ",
    "ISO 2022 IR 6\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 6\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
}


def put(ds: Dataset, keyword: str, value: object) -> None:
    """Set a value that pydicom would rather not."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    ds.add(DataElement(tag, pydicom.datadict.dictionary_VR(tag), value, validation_mode=pydicom.config.IGNORE))


def without(*keywords: str) -> Change:
    def change(ds: Dataset) -> None:
        for keyword in keywords:
            if keyword in ds:
                del ds[keyword]

    return change


def empty(*keywords: str) -> Change:
    def change(ds: Dataset) -> None:
        for keyword in keywords:
            put(ds, keyword, None)

    return change


def setting(**values: object) -> Change:
    def change(ds: Dataset) -> None:
        for keyword, value in values.items():
            put(ds, keyword, value)

    return change


def named(charset: str) -> Change:
    def change(ds: Dataset) -> None:
        ds.SpecificCharacterSet = charset.split("\\")
        ds.PatientName = NAMES[charset]
        ds.ReferringPhysicianName = ds.StudyDescription = ""

    return change


def wrong_vr(ds: Dataset) -> None:
    """A text in a number's clothes, and a number in a text's."""
    ds.add(DataElement(0x00101010, "LO", "sixty five"))  # Patient's Age
    ds.add(DataElement(0x00101030, "UN", b"72.5"))  # Patient's Weight
    ds.add(DataElement(0x00081030, "UN", b"thorax "))  # Study Description


def broken_private(ds: Dataset) -> None:
    ds.add(DataElement(0x00111001, "LO", "no creator"))
    ds.add(DataElement(0x00130010, "LO", ""))
    ds.add(DataElement(0x00131001, "UN", b"\x01\x02\x03"))


IDENTIFYING = ("PatientName", "PatientID", "AccessionNumber", "StudyID")
DESCRIBING = ("IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
REST = ("ReferringPhysicianName", "StudyDescription", "SeriesNumber", "SliceThickness", "Manufacturer")
CHANGES: dict[str, Change] = {
    "no identification": without(*IDENTIFYING),
    "no description": without(*DESCRIBING, *REST),
    "empty identification": empty(*IDENTIFYING),
    "empty description": empty(*DESCRIBING, *REST),
    "no frame of reference": empty("FrameOfReferenceUID"),
    "long description": setting(StudyDescription="y" * 200, IssuerOfPatientID="h" * 100),
    "long name of the referrer": setting(ReferringPhysicianName="^".join(["Long" * 10] * 5)),
    "dates that are none": setting(PatientBirthDate="1960-12-31", StudyDate="2026.03.01", StudyTime="25:99"),
    "words for codes": setting(PatientSex="female", PatientAge="65", BodyPartExamined="Chest, abdomen"),
    "numbers out of range": setting(PatientWeight="-1", PatientSize="0"),
    "control characters": setting(StudyDescription="a\\b\x01c"),
    "deidentified": setting(PatientIdentityRemoved="YES", DeidentificationMethod=["Basic", "pixels"]),
    "another time zone": setting(TimezoneOffsetFromUTC="-0330"),
    "breast": setting(BodyPartExamined="BREAST"),
    "chest": setting(BodyPartExamined="CHEST"),
    "lossy": setting(
        LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_15444_1"
    ),
    "lossy without words": setting(LossyImageCompression="01"),
    "series number of ours": setting(SeriesNumber="900000"),
    "wrong value representations": wrong_vr,
    "broken private elements": broken_private,
}


VALID = frozenset({"another time zone", "breast", "chest", "lossy", "series number of ours"})


def in_ascii(ds: Dataset) -> None:
    """dcentvfy compares bytes: the same name in two character sets is two names for it."""
    ds.ReferringPhysicianName = "Mueller^Joerg"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How the source looks. scene: arguments of `support.findings.scene`; after: done to the folder of its files.

    valid: its own header is as the standard has it and in ASCII, so that results say the same to the byte.
    """

    scene: dict[str, object]
    after: Callable[[Path], None] | None = None
    valid: bool = True


def duplicate(folder: Path) -> None:
    """An archive that delivers one instance twice."""
    first = min(folder.glob("*.dcm"))
    (folder / "again.dcm").write_bytes(first.read_bytes())


def another_of_the_same_uid(folder: Path) -> None:
    """Two images that say they are one instance, with other pixels and another description."""
    ds = pydicom.dcmread(min(folder.glob("*.dcm")))
    ds.PixelData = bytes(255 - v for v in ds.PixelData)
    ds.SeriesDescription = "sent again after a correction"
    ds.save_as(folder / "again.dcm")


def other_frame_of_reference(folder: Path) -> None:
    """A second series of the study with a frame of reference of its own."""
    for number, file in enumerate(sorted(folder.glob("*.dcm"))):
        ds = pydicom.dcmread(file)
        ds.SeriesInstanceUID += ".7"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.7"
        ds.FrameOfReferenceUID, ds.SeriesNumber = "1.2.3.4.5", 9
        ds.save_as(folder / f"other-{number}.dcm")


def variants() -> dict[str, Variant]:
    found: dict[str, Variant] = {}
    for orientation in ORIENTATIONS:
        for modality, enhanced in (("CT", False), ("MR", False), ("MR", True), ("CT", True)):
            name = f"{'enhanced ' if enhanced else ''}{modality} {orientation}"
            found[name] = Variant(scene={"orientation": orientation, "modality": modality, "enhanced": enhanced})
    for number, (name, change) in enumerate(CHANGES.items()):
        modality = ("CT", "MR")[number % 2]
        found[name] = Variant(scene={"change": change, "modality": modality}, valid=name in VALID)
    for charset in NAMES:
        found[charset] = Variant(scene={"change": named(charset)}, valid=False)
    found["oblong pixels"] = Variant(scene={"spacing": (2.5, 0.8, 1.1)})
    found["one instance twice"] = Variant(scene={}, after=duplicate, valid=False)
    found["two images of one UID"] = Variant(scene={}, after=another_of_the_same_uid, valid=False)
    found["two frames of reference"] = Variant(scene={}, after=other_frame_of_reference)
    return found


SEGS = ("binary", "labelmap", "labelmap-rle", None)


def everything(place: Scene, number: int) -> tuple[Findings, tuple[DicomObject, ...]]:
    """What is found there, and each kind of object of it; the forms of objects go round with `number`."""
    organ = lesion(place, "lung", (0, 0, 0), 7, kind=Kind.ANATOMY, probability=None)
    item = lesion(place, "nodule", (1, 1, 0), 4.0)
    prior = Prior(
        study_uid="1.2.3.4",
        study_date="20250102",
        tracking_uid="1.2.3.5",
        measurements=(replace(item.measurements[0], value=0.25),),
        sentence="It grew.",
    )
    items = (replace(item, prior=prior), organ, examination(place))
    made = findings(place, items, maps=(saliency(place.volume.voxels),), partial_because="A phase is missing.")
    profile = Profile(
        seg=SEGS[number % 4],  # type: ignore[arg-type]
        frame_cap=(None, 3)[number // 4 % 2],
        language=("en", "zh-TW")[number // 8 % 2],  # type: ignore[arg-type]
        pdf=True, kos=True, rtstruct=True, status=True,
    )  # fmt: skip
    objects = build(made, place.study, profile=profile)
    failed = status(place.study, MODEL, "failed", "The disk was full.", profile=profile)
    return made, (*objects, *failed, retraction(objects, MODEL, "The wrong series was read."))


def examination(place: Scene) -> Finding:
    return Finding(
        tracking_id="whole",
        tracking_uid=tracking_uid(place.study.study_uid, MODEL, "whole"),
        kind=Kind.EXAMINATION,
        concept=Code(value="86049000", scheme="SCT", meaning="Malignant neoplasm, primary"),
        probability=0.3,
        evaluations=(
            Evaluation(
                concept=Code(value="111031", scheme="DCM", meaning="Image View"),
                value=Code(value="52101004", scheme="SCT", meaning="Present"),
            ),
        ),
    )


def delivered(folder: Path, variant: Variant) -> Scene:
    own = variant.scene.get("change")

    def change(ds: Dataset) -> None:
        in_ascii(ds)
        if own:
            own(ds)  # type: ignore[operator]

    place = scene(folder, shape=(7, 20, 24), **{**variant.scene, "change": change})  # type: ignore[arg-type]
    if variant.after:
        variant.after(folder)
    return replace(place, study=Study.from_folder(folder))


@dataclass(frozen=True, kw_only=True)
class Written:
    """One variant: its study, what was found there, and every object that was written of it, with its file."""

    place: Scene
    made: Findings
    objects: tuple[DicomObject, ...]
    files: tuple[Path, ...]

    @property
    def documents(self) -> tuple[Path, ...]:
        """The files that have a content tree."""
        return tuple(f for o, f in zip(self.objects, self.files, strict=True) if is_document(o))


def writer(folder: Path, named: dict[str, Variant]) -> Callable[[str], Written]:
    """Writes everything of the variant of that name, once."""

    @cache
    def write(name: str) -> Written:
        number = list(named).index(name)
        return everything_of(folder / str(number), named[name], number)

    return write


def everything_of(folder: Path, variant: Variant, number: int) -> Written:
    place = delivered(folder / "source", variant)
    made, objects = everything(place, number)
    return Written(place=place, made=made, objects=objects, files=tuple(written(folder, objects)))


def written(folder: Path, objects: tuple[DicomObject, ...]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, o in enumerate(objects):
        files.append(folder / f"result-{number:02}-{o.kind}.dcm")
        files[-1].write_bytes(o.body)
    return files


def is_document(o: DicomObject) -> bool:
    """Whether an object has a content tree."""
    return o.sop_class_uid.startswith("1.2.840.10008.5.1.4.1.1.88.")


def complaints(variant: Variant, all_of_it: Written) -> Iterator[str]:
    """What the quick validators have against these objects, and against their agreement with a valid source."""
    place, objects, files = all_of_it.place, all_of_it.objects, all_of_it.files

    def judged(pair: tuple[DicomObject, Path]) -> list[str]:
        o, file = pair
        said = [*dciodvfy(file), *(dsrdump(file) if is_document(o) else ())]
        return [f"{o.kind}: {line}" for line in said]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for lines in pool.map(judged, zip(objects, files, strict=True)):
            yield from lines
    sources = [h.path for s in place.study.series for h in s.headers if h.path]
    if variant.valid:
        missing = f"Missing SOPInstanceUID that was referenced - {place.study.study_uid}"  # RTSTRUCT names the study so
        yield from (f"dcentvfy: {line}" for line in dcentvfy([*sources, *files]) if missing not in line)
