"""Files dragged onto the page: the store's own checks, and what a zip may not do."""

import errno
import io
import json
import stat
import zipfile
from pathlib import Path

import pytest
from support.findings import scene
from support.pages import serving
from support.results import prepare

from radnode.settings import Receive, Settings
from radnode.tables import InstanceRow
from radnode.web import upload


def answers(body: str) -> dict[str, tuple[bool, str]]:
    return {a["name"]: (a["kept"], a["sentence"]) for a in map(json.loads, body.splitlines())}


def zipped(entries: dict[str, bytes], *, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, body in entries.items():
            made.writestr(name, body)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            made.writestr(info, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_a_broken_or_unknown_compression_is_an_answer_not_an_end(method: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method if method != 99 else zipfile.ZIP_STORED) as made:
        made.writestr("a.dcm", bytes(range(256)) * 40)
    body = bytearray(buffer.getvalue())
    if method == 99:  # in the local header and in the directory
        body[8:10] = body[body.rfind(b"PK\x01\x02") + 10 : body.rfind(b"PK\x01\x02") + 12] = b"\x63\0"
    else:
        body[44:70] = bytes(26)
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    with serving(settings) as client:
        ((kept, sentence),) = answers(client.post("/upload", content=bytes(body)).text).values()
    assert not kept and sentence.startswith("This file of the zip cannot be read: ")


def test_a_zip_of_a_later_version_of_the_format_is_an_answer_not_an_end(tmp_path: Path) -> None:
    body = bytearray(zipped({"a.dcm": bytes(100)}))
    needed = body.rfind(b"PK\x01\x02") + 6
    body[needed : needed + 2] = (640).to_bytes(2, "little")  # APPNOTE.TXT 4.4.3: version needed to extract
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    with serving(settings) as client:
        ((kept, sentence),) = answers(client.post("/upload", content=bytes(body)).text).values()
    assert not kept and sentence.startswith("The zip cannot be read: ")


def test_a_disk_that_fills_up_under_an_upload_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(upload.tempfile, "SpooledTemporaryFile", lambda *_, **__: Full())
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    with serving(settings) as client:
        answer = client.post("/upload", content=bytes(1000))
    assert answer.status_code == 507 and "The disk of the node is full." in answer.text


def test_files_and_zips_go_the_way_of_the_store_and_each_is_answered(tmp_path: Path) -> None:
    files = sorted(scene(tmp_path / "s", shape=(4, 16, 16)).folder.glob("*.dcm"))
    bodies = [f.read_bytes() for f in files]
    settings = Settings(data=tmp_path / "data", receive=Receive(max_object_mb=2))
    database = prepare(settings)
    hostile = {
        "a/../../../../tmp/radnode-escaped.dcm": bodies[1],
        "/absolute.dcm": bodies[2],
        "half.dcm": bodies[3][:-500],
        "readme.txt": b"no image" * 100,
        "bomb.dcm": bodies[3][:1000] + bytes(50_000_000),
        "inner.zip": zipped({"x.dcm": bodies[0]}),
    }
    with serving(settings) as client:
        one = client.post("/upload", content=bodies[0], headers={"x-file-name": "one.dcm"})
        many = answers(client.post("/upload", content=zipped(hostile, link="link.dcm")).text)
        torn = answers(
            client.post("/upload", content=zipped({"x.dcm": bodies[0]})[:-30], headers={"x-file-name": "t"}).text
        )
        long = client.post("/upload", content=bytes(3_000_000))
        page = client.get("/upload").text
        forged = client.post("/upload", content=bodies[0], headers={"origin": "http://evil.example"})
    assert answers(one.text) == {"one.dcm": (True, "")}
    kept = {name for name, (ok, _) in many.items() if ok}
    assert kept == {"a/../../../../tmp/radnode-escaped.dcm", "/absolute.dcm"}
    assert all(sentence for ok, sentence in many.values() if not ok)
    assert "link" in many["link.dcm"][1]
    assert "times its size" in many["bomb.dcm"][1]
    assert "not a DICOM file" in many["inner.zip"][1]
    assert "cannot be read" in torn["t"][1]
    assert (long.status_code, forged.status_code) == (413, 403)
    assert "A file may have 2 MB" in page
    assert not Path("/tmp/radnode-escaped.dcm").exists()
    with database.reading() as session:
        rows = session.query(InstanceRow).all()
    assert {(r.calling_ae, (settings.data / r.file).is_file()) for r in rows} == {("UPLOAD", True)}
    assert len(rows) == 3
    incoming = settings.data / "objects" / ".incoming"
    assert list(incoming.iterdir()) == [], "nothing half-written is left"
    database.close()


@pytest.mark.parametrize(("count", "directory"), [(upload.MAX_FILES + 1, 0), (1, upload.MAX_DIRECTORY + 1)])
def test_a_directory_that_is_too_long_is_refused_before_it_is_read(count: int, directory: int) -> None:
    end64 = b"PK\x06\x06" + bytes(28) + count.to_bytes(8, "little") + directory.to_bytes(8, "little") + bytes(8)
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + b"\xff\xff\xff\xff" + bytes(6)
    with pytest.raises(ValueError, match="more than"):
        upload.check_directory(io.BytesIO(b"PK\x03\x04" + end64 + end))
