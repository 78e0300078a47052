"""Each destination gets what it takes, in a form that it takes, and the page says what it does not get: with real peers."""

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from support.core import Node, opened
from support.findings import Scene, findings, lesion, saliency, scene
from support.orthanc import Orthanc, free_ports
from support.pages import serving
from support.reading import NAME, receive, work
from support.storage_scp import storage_scp

from radnode import capabilities, deliver, jobs
from radnode.cli import cli
from radnode.destinations import LABELMAP
from radnode.profiles import SOP_CLASSES, Capability, omissions, plan
from radnode.retract import by_person
from radnode.settings import Deliver, Destination, Settings
from radnode_dicom_sr.read import read

QUICK = Deliver(threads=2, timeout_s=60, retry_s=0.1, retry_max_s=0.4)
ANYTHING = (
    Comprehensive3DSRStorage, SegmentationStorage, SecondaryCaptureImageStorage, KeyObjectSelectionDocumentStorage
)  # fmt: skip


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    settings = Settings(data=tmp_path / "data", deliver=QUICK)
    with opened(settings) as made:
        yield made


def place(node: Node, **options: Any) -> Scene:
    made = scene(node.settings.data / "objects", **({"shape": (12, 40, 48)} | options))
    receive(node, made)
    return made


def send_to(node: Node, *destinations: Destination, ask: bool = True) -> None:
    node.settings = node.settings.model_copy(update={"destinations": destinations})
    if ask:
        assert capabilities.ask_those_due(node.database, node.settings, time.time()) == len(destinations)


def delivered(node: Node, study_uid: str, timeout_s: float = 60.0) -> list[tuple[str, str, str]]:
    """(kind, destination, state) of every delivery, when nothing is owed any more."""
    stop = threading.Event()
    thread = threading.Thread(target=deliver.serve, args=(node.settings, stop))
    thread.start()
    try:
        end = time.monotonic() + timeout_s
        while any(d.state == "owed" for d in node.story(study_uid).deliveries):
            assert time.monotonic() < end, node.story(study_uid).deliveries
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join(60)
    return sorted((d.kind, d.destination, d.state) for d in node.story(study_uid).deliveries)


def page(node: Node, study_uid: str) -> str:
    with serving(node.settings) as client:
        return " ".join(client.get(f"/studies/{study_uid}").text.split())


@contextmanager
def scp(classes: Sequence[str] = ANYTHING, most_frames: int = 0) -> Iterator[tuple[Destination, list[Any]]]:
    """A PACS that takes `classes`, and refuses for good what has more frames than `most_frames`."""
    got: list[Any] = []

    def on_store(event: Any) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        if most_frames and int(ds.get("NumberOfFrames", 1)) > most_frames:
            return 0xA900
        got.append(ds)
        return 0x0000

    with storage_scp(classes, on_store) as address:
        yield address, got


@pytest.mark.system
def test_a_strict_orthanc_gets_binary_segmentations_where_label_maps_are_wanted(node: Node, tmp_path: Path) -> None:
    with Orthanc(tmp_path / "strict", {"UnknownSopClassAccepted": False}) as pacs:
        address = Destination(
            name="strict",
            kind="dimse",
            host="127.0.0.1",
            port=pacs.dicom_port,
            ae_title="PACS",
            segmentation="labelmap",
        )
        send_to(node, address)
        seen = place(node)
        work(node, seen)
        uid = seen.study.study_uid
        assert {state for _, _, state in delivered(node, uid)} == {"delivered"}
        files = [pydicom.dcmread(BytesIO(f)) for f in pacs.files(uid).values()]
    assert {ds.SOPClassUID for ds in files} == {
        Comprehensive3DSRStorage, SegmentationStorage, SecondaryCaptureImageStorage
    }  # fmt: skip
    shown = page(node, uid)
    assert "not sent to strict: it gets binary ones: it does not take Label Map Segmentation Storage" in shown


def test_a_pacs_that_refuses_segmentations_gets_a_report_with_outlines_and_the_page_says_so(node: Node) -> None:
    with scp((Comprehensive3DSRStorage, SecondaryCaptureImageStorage)) as (address, got):
        send_to(node, address)
        seen = place(node)
        work(node, seen)
        uid = seen.study.study_uid
        kinds = {kind for kind, _, state in delivered(node, uid) if state == "delivered"}
    assert kinds == {"sr", "key-image"}
    shown = page(node, uid)
    assert "not sent to there: it does not take Segmentation Storage (asked 20" in shown
    (located,) = (ds for ds in got if ds.Modality == "SR")
    assert SegmentationStorage not in str(located), "the report does not refer to what is not there"
    assert "Volume" in str(located)


def test_what_is_refused_before_it_was_asked_is_not_taken_and_left_out_from_then_on(node: Node) -> None:
    with scp((Comprehensive3DSRStorage, SecondaryCaptureImageStorage)) as (address, _):
        send_to(node, address, ask=False)
        seen = place(node)
        uid = seen.study.study_uid
        work(node, seen)
        assert ("seg", "there", "not-taken") in delivered(node, uid)
        sentence = "is not sent to there: it does not take Segmentation Storage: abstract syntax not supported."
        assert any(sentence in e.sentence for e in node.story(uid).events)
        assert "it does not take Segmentation Storage" in page(node, uid)
        jobs.rerun(node.database, uid, NAME, time.time())
        work(node, seen)
        assert [o.kind for o in node.story(uid).omissions] == ["seg"]


@pytest.mark.system
def test_dcmtk_that_takes_implicit_vr_only_gets_everything_in_it(node: Node, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    folder = tmp_path / "received"
    folder.mkdir()
    command = ["/usr/bin/storescp", "--implicit", "--output-directory", str(folder), str(port)]
    peer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = Destination(name="implicit", kind="dimse", host="127.0.0.1", port=port)
        node.settings = node.settings.model_copy(update={"destinations": (address,)})
        end = time.monotonic() + 60
        while (answer := capabilities.ask(node.database, node.settings, address, time.time())).error:
            assert time.monotonic() < end, answer.error
        assert answer.taken is not None
        assert answer.taken[SOP_CLASSES["seg"]] == (str(ImplicitVRLittleEndian),)
        seen = place(node)
        work(node, seen)
        uid = seen.study.study_uid
        assert {state for _, _, state in delivered(node, uid)} == {"delivered"}
    finally:
        peer.terminate()
        peer.wait(60)
    sent = {str(r.uid): node.settings.data / r.file for r in node.story(uid).results if r.kind != "fhir"}
    files = [pydicom.dcmread(f) for f in folder.iterdir()]
    assert {str(ds.SOPInstanceUID) for ds in files} == set(sent)
    for ds in files:
        assert ds.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        original = pydicom.dcmread(sent[str(ds.SOPInstanceUID)])
        assert ds == original or ds.PixelData == original.PixelData
    (masks,) = (f for f in folder.iterdir() if pydicom.dcmread(f).Modality == "SEG")
    assert len(read(masks.read_bytes()).findings) == 3


def test_a_pacs_that_takes_400_frames_gets_a_long_segmentation_in_parts(node: Node) -> None:
    with scp(most_frames=400) as (there, got):
        address = there.model_copy(update={"max_frames": 400})
        send_to(node, address)
        seen = place(node, shape=(450, 16, 16), spacing=(0.5, 1.0, 1.0))
        mask = np.zeros(seen.volume.shape, bool)
        mask[10:440, 4:9, 4:9] = True
        item = lesion(seen, "long", (0, 0, 0), 3.0, mask=mask, measurements=())
        work(node, seen, findings(seen, (item,)))
        uid = seen.study.study_uid
        assert {state for _, _, state in delivered(node, uid)} == {"delivered"}
    frames = [int(ds.NumberOfFrames) for ds in got if ds.Modality == "SEG"]
    assert len(frames) == 2 and sum(frames) == 430 and max(frames) <= 400


def test_objects_common_to_two_destinations_are_made_and_stored_once(node: Node) -> None:
    with scp() as (there, _), scp((Comprehensive3DSRStorage, SecondaryCaptureImageStorage)) as (other, _):
        other = other.model_copy(update={"name": "other"})
        send_to(node, there, other)
        seen = place(node)
        work(node, seen)
        uid = seen.study.study_uid
        delivered(node, uid)
    by_kind: dict[str, set[tuple[str, str]]] = {}
    for d in node.story(uid).deliveries:
        by_kind.setdefault(d.kind, set()).add((d.result_uid, d.destination))
    assert {to for _, to in by_kind["seg"]} == {"there"}
    pictures = {u for u, _ in by_kind["key-image"]}
    assert by_kind["key-image"] == {(u, to) for u in pictures for to in ("there", "other")}
    assert len({u for u, _ in by_kind["sr"]}) == 2, "with the segmentation, and with outlines alone"


def test_a_retraction_sends_a_rejection_note_that_names_every_object(node: Node) -> None:
    with scp() as (there, got):
        send_to(node, there)
        seen = place(node)
        work(node, seen)
        uid = seen.study.study_uid
        delivered(node, uid)
        assert by_person(node.database, node.settings, uid, NAME, "patient-safety", "wrong side", time.time()) == (
            NAME,
        )
        states = delivered(node, uid)
    assert ("rejection", "there", "delivered") in states
    assert {state for kind, _, state in states if kind != "rejection"} == {"retracted"}
    *objects, note = got
    assert note.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"
    named = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in note.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }
    assert named == {str(ds.SOPInstanceUID) for ds in objects}
    assert (note.PatientID, note.StudyInstanceUID) == (objects[0].PatientID, objects[0].StudyInstanceUID)


def test_a_pacs_that_takes_no_rejection_notes_is_named_as_one_where_it_still_stands(node: Node) -> None:
    with scp(ANYTHING[:3]) as (there, _):
        send_to(node, there)
        seen = place(node)
        work(node, seen)
        uid = seen.study.study_uid
        delivered(node, uid)
        by_person(node.database, node.settings, uid, NAME, "quality", "", time.time())
    assert "It still stands at there, which takes no such note." in node.story(uid).events[-1].sentence


def test_a_peer_that_is_away_keeps_its_last_answer_and_says_why(node: Node) -> None:
    with scp() as (address, _):
        send_to(node, address)
    answer = capabilities.ask(node.database, node.settings, address, time.time())
    assert answer.taken is not None and answer.taken[SOP_CLASSES["seg"]]
    assert "refused" in answer.error
    assert capabilities.ask_those_due(node.database, node.settings, time.time()) == 0, "not at once"
    assert capabilities.ask_those_due(node.database, node.settings, time.time() + 61) == 1


def test_a_peer_that_never_answered_is_not_said_to_have_been_asked_in_1970(node: Node) -> None:
    with scp() as (address, _):
        pass
    node.settings = node.settings.model_copy(update={"destinations": (address,)})
    assert capabilities.ask(node.database, node.settings, address, time.time()).taken is None
    with serving(node.settings) as client:
        shown = client.get("/peers").text
    assert "not yet" in shown and "1970" not in shown and "Connection refused" in shown


def test_an_answer_is_asked_anew_after_a_day_and_forgotten_when_the_peer_moves(node: Node) -> None:
    with scp() as (address, _):
        send_to(node, address)
        assert capabilities.ask_those_due(node.database, node.settings, time.time() + 86000) == 0
        assert capabilities.ask_those_due(node.database, node.settings, time.time() + 86500) == 1
    moved = address.model_copy(update={"host": "10.0.0.9"})
    with node.database.reading() as session:
        assert capabilities.known(session, [address])
        assert capabilities.known(session, [moved]) == {}


def test_the_command_asks_and_says_what_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    with scp((Comprehensive3DSRStorage,)) as (there, _):
        file = tmp_path / "radnode.toml"
        file.write_text(f'[[destinations]]\nname = "there"\nkind = "dimse"\nhost = "127.0.0.1"\nport = {there.port}\n')
        monkeypatch.setenv("RADNODE_CONFIG", str(file))
        asked = CliRunner().invoke(cli, ["destinations", "probe", "there"])
    assert asked.exit_code == 0, asked.output
    assert "there (dimse): gets sr" in asked.output
    assert "not sent: seg: it does not take Segmentation Storage" in asked.output
    assert CliRunner().invoke(cli, ["destinations", "list"]).output == asked.output
    away = CliRunner().invoke(cli, ["destinations", "probe"])
    assert away.exit_code == 1 and "does not answer" in away.output
    assert CliRunner().invoke(cli, ["destinations", "probe", "nobody"]).exit_code == 1


def test_what_was_never_asked_is_tried() -> None:
    address = Destination(name="a", kind="dimse", segmentation="labelmap", status_objects=True, results=())
    unknown = plan(address, None)
    assert (unknown.labelled, unknown.omissions) == (True, ())
    assert unknown.kinds >= {"sr", "seg", "key-image", "parametric-map", "status", "rejection"}
    answer = Capability(destination="a", asked_at=1.0, taken={LABELMAP: ("1.2.840.10008.1.2",)})
    only = plan(address, answer)
    assert only.kinds == {"seg"} and only.labelled, "label maps are taken, binary ones are not"


def test_a_map_that_is_not_made_is_named_with_its_reason_to_those_who_would_get_it(tmp_path: Path) -> None:
    """Of images that hold several phases each no map is made (docs/decisions.md); without a map nothing is said."""
    made = scene(tmp_path)
    mapped = findings(made, maps=(saliency(made.volume.voxels),))
    wanted = (
        plan(Destination(name="pacs", kind="dimse"), None),
        plan(Destination(name="ris", kind="dimse", results=("sr",)), None),
    )
    (told,) = omissions(wanted, mapped, {"sr", "seg", "key-image"})
    assert (told.destination, told.kind) == ("pacs", "parametric-map")
    assert "several phases" in told.reason
    assert omissions(wanted, mapped, {"sr", "parametric-map"}) == ()
    assert omissions(wanted, findings(made), {"sr"}) == ()
