"""The store: what is kept, under which name, and what is refused with which status."""

import hashlib
import os
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from sqlalchemy import select, text, update
from support.objects import dataset_of, encoded, image
from support.store import EXPLICIT, arrival_of, files, open_store, rows, settings_for

from radnode.errors import StoreError
from radnode.settings import Receive, Settings
from radnode.store import Arrival, Store, instances, study_files
from radnode.tables import EventRow, InstanceRow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(settings_for(tmp_path / "data"))
    yield store
    store.close()


def refused(store: Store, arrival: Arrival, data: bytes) -> int:
    """The status of the refusal; nothing may be left."""
    before = files(store)
    with pytest.raises(StoreError) as refusal:
        store.put(arrival, [data])
    assert files(store) == before
    assert len(rows(store)) == len(before)
    return refusal.value.status


def test_an_object_is_kept_byte_for_byte_with_its_row(store: Store) -> None:
    ds = image()
    data = encoded(ds)
    kept = store.put(arrival_of(ds), [data[:100], memoryview(data)[100:]])
    assert kept.file == store.objects / ds.StudyInstanceUID / ds.SeriesInstanceUID / f"{ds.SOPInstanceUID}.dcm"
    assert dataset_of(kept.file) == data
    meta = dcmread(kept.file).file_meta
    assert (meta.SourceApplicationEntityTitle, meta.TransferSyntaxUID) == ("SCANNER", EXPLICIT)
    assert meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    (row,) = rows(store)
    assert row.sha256 == hashlib.sha256(data).hexdigest()
    assert (row.study_uid, row.series_uid) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
    assert (row.current, row.settled, row.size) == (True, False, kept.file.stat().st_size)
    assert store.data / row.file == kept.file


def test_the_current_objects_of_a_study_are_listed(store: Store) -> None:
    first, second = image(), image()
    second.StudyInstanceUID = first.StudyInstanceUID
    kept = [store.put(arrival_of(ds), [encoded(ds)]) for ds in (first, second)]
    store.put(arrival_of(other := image()), [encoded(other)])
    with store.database.reading() as session:
        found = instances(session, first.StudyInstanceUID, store.data)
        assert set(found) == set(kept)
        assert study_files(session, first.StudyInstanceUID, store.data) == tuple(i.file for i in found)


def test_the_same_bytes_again_are_success_without_a_second_row(store: Store) -> None:
    ds = image()
    first = store.put(arrival_of(ds), [encoded(ds)])
    again = store.put(arrival_of(ds, calling_ae="OTHER"), [encoded(ds)])
    assert again.file == first.file
    assert (len(rows(store)), len(files(store))) == (1, 1)


def test_other_bytes_under_the_same_uid_are_kept_beside_the_first_and_told(store: Store) -> None:
    ds = image()
    first = store.put(arrival_of(ds), [encoded(ds)])
    ds.PatientID = "CHANGED"
    second = store.put(arrival_of(ds), [encoded(ds)])
    assert first.file != second.file
    assert first.file.exists()
    assert dataset_of(second.file) == encoded(ds)
    assert [row.current for row in rows(store)] == [False, True]
    with store.database.reading() as session:
        assert study_files(session, ds.StudyInstanceUID, store.data) == (second.file,)
        (event,) = session.scalars(select(EventRow))
    assert (event.study_uid, event.action) == (ds.StudyInstanceUID, "conflict")
    assert "TEST" not in event.sentence


def test_an_earlier_version_sent_again_becomes_the_current_one(store: Store) -> None:
    ds = image()
    first = store.put(arrival_of(ds), [data := encoded(ds)])
    ds.PatientID = "CHANGED"
    store.put(arrival_of(ds), [encoded(ds)])
    assert store.put(arrival_of(ds), [data]).file == first.file
    assert [row.current for row in rows(store)] == [True, False]
    assert len(files(store)) == 2


def test_a_lost_file_is_restored_when_it_is_sent_again(store: Store) -> None:
    ds = image()
    store.put(arrival_of(ds), [encoded(ds)]).file.unlink()
    assert dataset_of(store.put(arrival_of(ds), [encoded(ds)]).file) == encoded(ds)
    assert len(rows(store)) == 1


def test_a_cut_off_file_is_replaced_when_it_is_sent_again(store: Store) -> None:
    ds = image()
    os.truncate(store.put(arrival_of(ds), [encoded(ds)]).file, 200)
    assert dataset_of(store.put(arrival_of(ds), [encoded(ds)]).file) == encoded(ds)
    assert len(rows(store)) == 1


def test_many_threads_storing_the_same_and_other_objects_lose_nothing(store: Store) -> None:
    objects = [image(seed=n) for n in range(12)]
    bodies = [encoded(ds) for ds in objects]
    failures: list[BaseException] = []

    def send() -> None:
        try:
            for ds, body in zip(objects, bodies, strict=True):
                store.put(arrival_of(ds), [body])
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(rows(store)) == len(files(store)) == 12
    assert {row.sop_uid for row in rows(store)} == {ds.SOPInstanceUID for ds in objects}
    assert all(dataset_of(store.data / row.file) in bodies for row in rows(store))


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.2])
def test_a_truncated_object_is_refused_with_c000(store: Store, keep: float) -> None:
    data = encoded(ds := image())
    assert refused(store, arrival_of(ds), data[: int(len(data) * keep)]) == 0xC000


def test_an_object_that_ends_in_a_trailing_element_is_refused(store: Store) -> None:
    ds = image()
    ds.add_new(0x7FE10010, "LO", "PRIVATE AFTER PIXELS")
    assert refused(store, arrival_of(ds), encoded(ds)[:-3]) == 0xC000


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_missing_uid_is_refused_with_a900(store: Store, keyword: str) -> None:
    arrival = arrival_of(ds := image())
    delattr(ds, keyword)
    buffer = encoded_without_check(ds)
    assert refused(store, arrival, buffer) == 0xA900


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2/3", "1..2", "1.02", ".", "1." + "2" * 70, "1.2\\1.3", "1.2 "])
def test_a_uid_that_is_none_never_becomes_a_path(store: Store, keyword: str, uid: str) -> None:
    arrival = arrival_of(ds := image())
    del ds[keyword]
    ds.add_new(keyword, "LO", "placeholder-of-uid")
    data = encoded_without_check(ds).replace(b"LO\x12\0placeholder-of-uid", uid_element(uid))
    if uid.strip(" ") == "1.2":
        store.put(arrival, [data])  # padded with a space: tolerated, as the standard of old allowed
        return
    assert refused(store, arrival, data) == 0xC000
    assert not list(store.data.parent.glob("etc"))


def uid_element(uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"UI" + len(value).to_bytes(2, "little") + value


def encoded_without_check(ds: object) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)  # type: ignore[arg-type]
    return bytes(buffer.getvalue())


@pytest.mark.parametrize("uid", ["../../x", "", "1..2", "not a uid"])
def test_an_announced_uid_that_is_none_is_refused_with_c000(store: Store, uid: str) -> None:
    assert refused(store, arrival_of(ds := image(), sop_uid=uid), encoded(ds)) == 0xC000


@pytest.mark.parametrize("name", ["sop_uid", "sop_class_uid"])
def test_a_data_set_that_is_not_the_announced_one_is_refused_with_a900(store: Store, name: str) -> None:
    assert refused(store, arrival_of(ds := image(), **{name: generate_uid()}), encoded(ds)) == 0xA900


def test_an_over_long_object_is_refused_with_a700(tmp_path: Path) -> None:
    store = open_store(settings_for(tmp_path / "data", max_object_mb=1))
    ds = image(size=1024)
    assert refused(store, arrival_of(ds), encoded(ds)) == 0xA700
    store.close()


def test_below_the_watermark_objects_are_refused_with_a700(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", receive=Receive(disk_free_min_mb=10**9))
    store = open_store(settings)
    assert refused(store, arrival_of(ds := image()), encoded(ds)) == 0xA700
    store.close()


def test_a_full_disk_is_a700_with_nothing_half_written_and_nothing_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(data)], check=True)
    try:
        store = open_store(settings_for(data))
        kept = []
        with pytest.raises(StoreError) as refusal:
            for _ in range(20):
                ds = image(size=512)
                kept.append((encoded(ds), store.put(arrival_of(ds), [encoded(ds)]).file))
        assert refusal.value.status == 0xA700
        assert kept
        assert sorted(file for _, file in kept) == files(store)
        assert all(dataset_of(file) == body for body, file in kept)
        assert len(rows(store)) == len(kept)
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def test_an_index_that_cannot_be_written_is_a700_and_leaves_no_file(store: Store) -> None:
    with store.database.transaction() as session:
        session.execute(text("ALTER TABLE instances RENAME TO gone"))
    with pytest.raises(StoreError) as refusal:
        store.put(arrival_of(ds := image()), [encoded(ds)])
    assert refusal.value.status == 0xA700
    assert files(store) == []


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    import zlib

    store = open_store(settings_for(tmp_path / "data", max_object_mb=1))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(bytes(200_000_000)) + packer.flush()
    assert refused(store, arrival_of(image(), "1.2.840.10008.1.2.1.99"), data) == 0xA700
    store.close()


NO_STUDY, BROKEN = 0xA900, 0xC000
REFUSED = {
    "JPEGLSNearLossless_08.dcm": NO_STUDY,
    "JPEGLSNearLossless_16.dcm": NO_STUDY,
    "SC_rgb_jls_lossy_line.dcm": NO_STUDY,
    "SC_rgb_jls_lossy_sample.dcm": NO_STUDY,
    "MR_truncated.dcm": BROKEN,
    "SC_rgb_jpeg.dcm": BROKEN,  # labelled explicit, encoded implicit
    "rtplan_truncated.dcm": BROKEN,
}


def test_pydicoms_odd_files_are_kept_byte_for_byte_or_refused_with_a_reason(store: Store) -> None:
    kept, refused_files = 0, {}
    for file in sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(file, specific_tags=["SOPClassUID", "SOPInstanceUID"], force=True)
        if "SOPInstanceUID" not in ds or "TransferSyntaxUID" not in ds.file_meta:
            continue  # no sender could announce it
        data = dataset_of(file)
        try:
            instance = store.put(arrival_of(ds, str(ds.file_meta.TransferSyntaxUID)), [data])
        except StoreError as e:
            refused_files[file.name] = e.status
            continue
        assert dataset_of(instance.file) == data, file.name
        kept += 1
    assert refused_files == REFUSED
    assert kept >= 60
    assert list(store.incoming.iterdir()) == []


def test_an_implicit_data_set_is_understood(store: Store) -> None:
    ds = image()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data = encoded(ds)
    assert dataset_of(store.put(arrival_of(ds, ImplicitVRLittleEndian), [data]).file) == data


def test_an_object_of_the_same_uid_in_another_study_leaves_that_of_the_first_as_it_is(store: Store) -> None:
    ds = image()
    first_study, first = ds.StudyInstanceUID, store.put(arrival_of(ds), [encoded(ds)])
    ds.StudyInstanceUID = generate_uid()
    second = store.put(arrival_of(ds), [encoded(ds)])
    ds.PatientID = "CHANGED"
    third = store.put(arrival_of(ds), [encoded(ds)])
    assert [row.current for row in rows(store)] == [True, False, True]
    with store.database.reading() as session:
        assert study_files(session, first_study, store.data) == (first.file,)
        assert study_files(session, ds.StudyInstanceUID, store.data) == (third.file,)
        assert [e.study_uid for e in session.scalars(select(EventRow))] == [ds.StudyInstanceUID]
    assert second.file.exists()


@pytest.mark.parametrize("gone", [True, False])
def test_what_no_file_tells_of_is_durable_before_success(
    store: Store, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """A row that says again that an object is here: a power cut must not bring back that it was let go, or superseded."""
    ds = image()
    kept = store.put(arrival_of(ds), [data := encoded(ds)])
    if gone:
        with store.database.transaction() as session:
            session.execute(update(InstanceRow).values(gone_at=1.0))
        kept.file.unlink()
    else:
        ds.PatientID = "CHANGED"
        store.put(arrival_of(ds), [encoded(ds)])
    flushed: list[bool] = []
    monkeypatch.setattr(
        store.index, "flush", lambda: flushed.append(rows(store)[0].current and rows(store)[0].gone_at is None)
    )
    store.put(arrival_of(ds), [data])
    assert flushed == [True], "after the commit, before the answer"
    store.put(arrival_of(other := image()), [encoded(other)])
    assert flushed == [True], "a new object is found again by its file"
