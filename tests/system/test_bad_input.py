"""Everything that goes wrong has a clear status or sentence, is shown on the page, and loses nothing."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.dcmtk import storescu
from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc
from support.sending import PatientSender, dataset_bytes
from support.studies import Sample, small_breast, small_chest

from radnode.demo.send import send
from radnode.errors import DeliveryError
from radnode.states import DeliveryState, JobState
from radnode.tables import DeliveryRow, InstanceRow, JobRow, RouteRow

pytestmark = pytest.mark.system

OUT_OF_RESOURCES, CANNOT_UNDERSTAND = "0xA700", "0xC"


@dataclass(frozen=True, kw_only=True)
class Here:
    """A node that knows one peer, MODALITY, and delivers to a PACS that is not running yet."""

    node: TestNode
    pacs: Orthanc
    breast: Sample
    chest: Sample
    folder: Path

    def send(self, files: Sequence[Path], **names: str) -> int:
        """How many were acknowledged. Raises DeliveryError with what the node answered."""
        return sum(1 for _ in send(files, self.node.receive_port, **names))

    def copy(self, name: str, files: Sequence[Path], **changes: object) -> tuple[str, list[Path]]:
        """The files as another study, with attributes changed: (Study Instance UID, files)."""
        folder = self.folder / name
        folder.mkdir()
        study_uid, series = generate_uid(), {}
        copies = []
        for n, file in enumerate(files):
            image = pydicom.dcmread(file)
            image.StudyInstanceUID = study_uid
            image.SeriesInstanceUID = series.setdefault(image.SeriesInstanceUID, generate_uid())
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            for keyword, value in changes.items():
                setattr(image, keyword, value)
            copies.append(folder / f"{n:04}.dcm")
            image.save_as(copies[-1])
        return study_uid, copies

    def files(self) -> set[Path]:
        """Every file of the data folder that is neither the database nor a note of a running process."""
        kept = (p for p in self.node.data.rglob("*") if p.is_file() and "run" not in p.parts)
        return {p for p in kept if not p.name.startswith("radnode.db")}

    def page(self, path: str) -> str:
        answer = self.node.http.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        return answer.text


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("bad")
    pacs = Orthanc(folder / "orthanc")
    node = TestNode(
        folder,
        destinations=[to_orthanc(pacs)],
        receive={"accept_unknown_callers": False},
        peers=[{"name": "modality", "ae_title": "MODALITY", "address": "127.0.0.1"}],
    )
    breast, chest = small_breast(folder / "breast", seed=3), small_chest(folder / "chest", seed=4)
    with node:
        yield Here(node=node, pacs=pacs, breast=breast, chest=chest, folder=folder)
    pacs.stop()
    pacs.http.close()


# ------------------------------------------------------------------------------------------ refused by the listener


def test_a_truncated_object_is_refused_and_leaves_nothing(here: Here) -> None:
    _, (file, *_) = here.copy("truncated", here.breast.files[:1])
    whole, before = file.read_bytes(), here.files()
    file.write_bytes(whole[:-1000])
    with pytest.raises(DeliveryError, match=CANNOT_UNDERSTAND):
        here.send([file])
    assert here.files() == before
    file.write_bytes(whole)
    assert here.send([file]) == 1


def test_a_uid_with_dots_and_slashes_is_refused_and_leaves_nothing(here: Here) -> None:
    _, (file, *_) = here.copy("dots", here.breast.files[:1])
    uid = str(pydicom.dcmread(file).SOPInstanceUID).encode()
    evil = b"../../../../tmp/" + uid[16:]
    file.write_bytes(file.read_bytes().replace(uid, evil))
    before = here.files()
    said = storescu(here.node.receive_port, [file], "-v", calling_ae="MODALITY")
    assert said.returncode != 0
    assert "0xc000" in (said.stdout + said.stderr).lower() or "CannotUnderstand" in said.stdout + said.stderr
    assert here.files() == before
    assert here.node.rows(InstanceRow, sop_uid=evil.decode()) == []


def test_a_study_uid_with_dots_and_slashes_is_refused_and_leaves_nothing(here: Here) -> None:
    _, (file, *_) = here.copy("dots-study", here.breast.files[:1])
    uid = str(pydicom.dcmread(file).StudyInstanceUID).encode()
    file.write_bytes(file.read_bytes().replace(uid, b"../../../../tmp/" + uid[16:]))
    before = here.files()
    with pytest.raises(DeliveryError, match=CANNOT_UNDERSTAND):
        here.send([file])
    assert here.files() == before


def test_a_call_to_a_wrong_ae_title_is_refused_and_shown(here: Here) -> None:
    with pytest.raises(DeliveryError, match=r"(?i)called AE title"):
        here.send(here.breast.files[:1], called_ae="NOBODY")
    assert "NOBODY" in here.page("/peers")


def test_an_unknown_caller_is_refused_and_shown(here: Here) -> None:
    with pytest.raises(DeliveryError, match=r"(?i)calling AE title"):
        here.send(here.breast.files[:1], calling_ae="STRANGER")
    assert "STRANGER" in here.page("/peers")


def test_a_known_ae_title_from_an_unknown_address_is_refused_and_shown(tmp_path: Path, here: Here) -> None:
    elsewhere = {"name": "modality", "ae_title": "ELSEWHERE", "address": "192.0.2.7"}
    with TestNode(tmp_path, receive={"accept_unknown_callers": False}, peers=[elsewhere]) as node:
        with pytest.raises(DeliveryError, match=r"(?i)calling AE title|not recogni"):
            next(send(here.breast.files[:1], node.receive_port, calling_ae="ELSEWHERE"))
        page = node.http.get("/peers").text
        assert "ELSEWHERE" in page and "127.0.0.1" in page


# ------------------------------------------------------------------------------------------ taken, but not read


def declined(here: Here, study_uid: str) -> list[JobRow]:
    """Every job declined: why stands on the study's page. Raises AssertionError when a job ended otherwise."""
    jobs = here.node.wait_until_read(study_uid)
    assert jobs and {j.state for j in jobs} == {JobState.DECLINED}, here.node.story(study_uid)
    page = here.page(f"/studies/{study_uid}")
    for job in jobs:
        assert len(job.reason) > 30
        assert shown(job.reason, page), job.reason
    return jobs


def shown(sentence: str, page: str) -> bool:
    """Whether the words of a sentence stand in a page, in their order and whatever the markup between."""
    import html
    import re

    plain = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    return " ".join(sentence.split()).partition(": ")[2] in plain or " ".join(sentence.split()) in plain


def test_a_ct_with_a_missing_slice_is_declined_with_the_reason(here: Here) -> None:
    files = list(here.chest.files)
    study_uid, copies = here.copy("missing", files[: len(files) // 2] + files[len(files) // 2 + 1 :])
    here.send(copies)
    declined(here, study_uid)


def test_a_two_dimensional_series_is_declined_or_excluded_with_the_reason(here: Here) -> None:
    study_uid, copies = here.copy("flat", here.chest.files[:1])
    here.send(copies)
    expect_no_result_but_a_reason(here, study_uid)


def test_a_series_of_localizers_alone_leaves_no_slice_for_a_model_and_says_so(here: Here) -> None:
    study_uid, copies = here.copy("localizer", here.chest.files[:2], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    here.send(copies)
    expect_no_result_but_a_reason(here, study_uid)
    assert "localizer" in here.page(f"/studies/{study_uid}").lower()


def test_a_study_of_another_body_part_says_why_no_model_ran(here: Here) -> None:
    study_uid, copies = here.copy(
        "head", here.chest.files, BodyPartExamined="HEAD", StudyDescription="HEAD CT", SeriesDescription="HEAD",
        ProtocolName="HEAD",
    )  # fmt: skip
    here.send(copies)
    here.node.wait_until_read(study_uid)
    assert here.node.rows(JobRow, study_uid=study_uid) == []
    expect_no_result_but_a_reason(here, study_uid)


def expect_no_result_but_a_reason(here: Here, study_uid: str) -> None:
    """Nothing was reported, and every model's reason stands on the study's page."""
    jobs = here.node.wait_until_read(study_uid)
    assert JobState.DONE not in {j.state for j in jobs}, here.node.story(study_uid)
    assert here.node.rows(DeliveryRow, study_uid=study_uid) == []
    reasons = [r.reason for r in here.node.rows(RouteRow, study_uid=study_uid) if not r.chosen]
    reasons += [j.reason for j in jobs]
    assert reasons, here.node.story(study_uid)
    page = here.page(f"/studies/{study_uid}")
    for reason in reasons:
        assert shown(reason, page), reason


# ------------------------------------------------------------------------------------------ the PACS is away


def test_results_wait_for_an_unreachable_pacs_and_arrive_when_it_is_back(here: Here) -> None:
    study_uid = here.breast.study_uid
    here.send(here.breast.files)
    here.node.wait_until_read(study_uid)

    def tried() -> bool:
        return any(d.attempt >= 1 for d in here.node.rows(DeliveryRow, study_uid=study_uid))

    here.node.wait("a first try of delivery", tried, study_uid=study_uid)
    owed = here.node.rows(DeliveryRow, study_uid=study_uid)
    assert {d.state for d in owed} == {DeliveryState.OWED}
    assert all(d.error for d in owed if d.attempt)
    assert "owed" in here.page(f"/studies/{study_uid}").lower()
    here.pacs.start()
    here.node.wait_until_delivered(study_uid)
    assert len(here.pacs.files(study_uid)) == len(owed)


# ------------------------------------------------------------------------------------------ the disk is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "radnode-test", str(folder)]
    for command in (mount, ["sudo", "-n", *mount]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            break
    else:
        pytest.fail(f"a small tmpfs is needed for this test, and only root may mount one: {done.stderr}")
    yield folder
    subprocess.run([*command[: -len(mount)], "umount", str(folder)], check=True)


@pytest.mark.parametrize("watermark_mb", [8, 0])
def test_a_full_disk_refuses_and_goes_on_when_there_is_space_again(
    watermark_mb: int, small_disk: Path, tmp_path: Path, here: Here
) -> None:
    """With a watermark the node refuses early; without one, the disk itself is full in the middle of a write."""
    sample = here.breast
    settings = {"disk_free_min_mb": watermark_mb}
    with TestNode(tmp_path, receive=settings, data=small_disk / "data", quiet_s=3.0) as node:
        sender = PatientSender(lambda: node.receive_port)
        sender.send(sample.files[:5])
        ballast = small_disk / "ballast"
        fill(ballast, watermark_mb)
        with pytest.raises(DeliveryError, match=OUT_OF_RESOURCES):
            list(send(sample.files[5:], node.receive_port))
        ballast.unlink()
        sender.send(sample.files)
        stored = {uid: dataset_bytes(file) for uid, file in node.stored(sample.study_uid).items()}
        assert stored == sender.acknowledged and len(stored) == len(sample.files)


def fill(ballast: Path, watermark_mb: int) -> None:
    """Fill the disk: wholly, or so that less than the watermark is left."""
    with ballast.open("wb", buffering=0) as f:  # else closing it would write what did not fit
        try:
            while watermark_mb == 0 or free_mb(ballast) > watermark_mb - 1:
                f.write(b"\0" * 65536)
        except OSError:
            pass


def free_mb(file: Path) -> float:
    import shutil

    return shutil.disk_usage(file.parent).free / 2**20
