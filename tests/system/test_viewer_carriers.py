"""What only some destinations ask for, in programs that nobody here wrote: label map, contours and printed report in OHIF, selections in highdicom.

Pictures are kept in `test-output/viewers`.
"""

from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from support.findings import Scene, findings, lesion, scene
from support.ohif import Ohif
from support.orthanc import Orthanc
from support.validators import said, system_program
from support.viewers import chromium, viewers

from radnode_dicom_sr import DicomObject, Profile, build
from radnode_inference.findings import Findings
from radnode_inference.study import Study

pytestmark = pytest.mark.system

PICTURES = Path(__file__).resolve().parent.parent.parent / "test-output" / "viewers"
NEAR_MM = 1.0


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A CT with two lesions and every object of it, in a PACS."""

    place: Scene
    made: Findings
    objects: dict[str, DicomObject]
    pacs: Orthanc

    def centers(self) -> list[NDArray[np.float64]]:
        """The middle of each lesion in LPS mm."""
        return [self.place.lps()[f.mask].mean(axis=0) for f in self.made.items if f.mask is not None]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc) -> Carried:
    place = scene(tmp_path_factory.mktemp("carriers"), shape=(20, 96, 96), spacing=(2.5, 1.0, 1.0), seed=77)
    items = (lesion(place, "a", (18, -10, 5), 9.0), lesion(place, "b", (-20, 14, -7.5), 6.0))
    made = findings(place, items)
    objects = build(made, place.study, profile=Profile(seg="labelmap", pdf=True, kos=True, rtstruct=True))
    for file in place.folder.glob("*.dcm"):
        shared_pacs.upload(file.read_bytes())
    for o in objects:
        shared_pacs.upload(o.body)
    return Carried(place=place, made=made, objects={o.kind: o for o in objects}, pacs=shared_pacs)


def test_ohif_shows_the_label_map_the_contours_and_the_printed_report(carried: Carried) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        viewers(carried.pacs) as address,
        chromium() as browser,
        Ohif(browser, address, carried.place.study.study_uid, PICTURES) as viewer,
    ):
        first = carried.centers()[0]
        viewer.open("ct-test contours")
        regions = viewer.contours()
        viewer.turn_to(first)
        viewer.picture("carrier-ohif-contours")
        assert [r["name"] for r in regions] == ["1 Nodule, left lung", "2 Nodule, left lung"]
        assert all(r["shown"] for r in regions)
        near(carried, [middle_of_extent(r["points"]) for r in regions])

        viewer.open("ct-test segmentation")
        segments = [s for s in viewer.segments() if s["label"] != "Background"]
        viewer.turn_to(first)
        viewer.picture("carrier-ohif-labelmap")
        assert [s["label"] for s in segments] == ["Nodule, left lung"] * 2
        near(carried, [s["center"] for s in segments])

        viewer.open("ct-test report as PDF")
        assert viewer.document().startswith("%PDF")
        viewer.picture_of_document("carrier-ohif-pdf")


def dynamic(folder: Path) -> Scene:
    """An MR whose one series holds every slice at two times, as GE and Philips scanners write a dynamic one."""

    def at(number: int, ds: pydicom.Dataset) -> None:
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = number, 2

    place = scene(folder, modality="MR", shape=(20, 64, 64), spacing=(2.5, 1.0, 1.0), seed=78, change=partial(at, 1))
    for file in tuple(folder.glob("*.dcm")):
        ds = pydicom.dcmread(file)
        at(2, ds)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.2"
        ds.InstanceNumber += 20
        ds.save_as(folder / f"late-{file.name}")
    return replace(place, study=Study.from_folder(folder))


def test_ohif_draws_contours_over_a_series_that_holds_several_times(tmp_path: Path, shared_pacs: Orthanc) -> None:
    """The one object of ours that it shows rightly there, so that a site can choose it (docs/decisions.md)."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    place = dynamic(tmp_path)
    made = findings(place, (lesion(place, "a", (8, -10, 3.75), 8.0),))
    for body in (
        *(f.read_bytes() for f in tmp_path.glob("*.dcm")),
        *(o.body for o in build(made, place.study, profile=Profile(rtstruct=True))),
    ):
        shared_pacs.upload(body)
    truth = place.lps()[made.items[0].mask].mean(axis=0)
    with (
        viewers(shared_pacs) as address,
        chromium() as browser,
        Ohif(browser, address, place.study.study_uid, PICTURES) as viewer,
    ):
        viewer.open("ct-test contours")
        assert [c["shown"] for c in viewer.contours()] == [True]
        lines = viewer.outlines_at(truth)
        viewer.picture("dynamic-ohif-contours")

    for line in lines:
        assert np.linalg.norm(middle_of_extent(line) - truth) < NEAR_MM


def near(carried: Carried, centers: list[NDArray[np.float64]]) -> None:
    for shown, truth in zip(centers, carried.centers(), strict=True):
        assert np.linalg.norm(np.asarray(shown, float) - truth) < NEAR_MM


def middle_of_extent(points: list[list[float]]) -> NDArray[np.float64]:
    """The middle of the box around points: corners of an outline crowd, those of a ball's box do not."""
    places = np.asarray(points, float)
    middle: NDArray[np.float64] = (places.min(axis=0) + places.max(axis=0)) / 2
    return middle


def test_highdicom_resolves_every_image_of_the_selection(carried: Carried) -> None:
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(BytesIO(carried.objects["kos"].body)))
    named = [str(i.referenced_sop_instance_uid) for i in document.content.get_references()]
    assert carried.objects["key-image"].sop_uid in named
    sources = {s.sop_uid: carried.place.volume.series_uid for s in carried.place.volume.sources}
    for uid in set(named) & set(sources):
        assert document.resolve_reference(uid)[:2] == (carried.place.study.study_uid, sources[uid])
    assert set(named) & set(sources)


def test_dcmtk_takes_the_printed_report_out_as_it_was_put_in(carried: Carried, tmp_path: Path) -> None:
    (tmp_path / "report.dcm").write_bytes(carried.objects["pdf"].body)
    command = system_program("dcm2pdf"), str(tmp_path / "report.dcm"), str(tmp_path / "report.pdf")
    assert [line for line in said(*command) if line.startswith(("E:", "F:"))] == []
    ds = pydicom.dcmread(BytesIO(carried.objects["pdf"].body))
    assert (tmp_path / "report.pdf").read_bytes() == ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
