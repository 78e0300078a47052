"""Files that a person drags onto the page: DICOM files and zips of them, into the same store as C-STORE and STOW-RS.

Nothing of a zip is ever unpacked to a path: each entry is read as a stream and checked by the store, its name is only shown.
So a name with "..", a link or a device means nothing. Sizes, counts and the ratio of compression are bounded.
"""

import json
import lzma
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Header, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, StreamingResponse

from radnode.errors import StoreError
from radnode.peers.table import Peers
from radnode.settings import Settings
from radnode.settings_access import LOOPBACK
from radnode.store import MB, Store, no_room
from radnode.web.dicomweb import Batch
from radnode.web.views import Render

CALLING_AE = "UPLOAD"
CHUNK = 1 << 20
SPOOL = 8 << 20
MAX_FILES = 20_000
"""Entries of one zip."""
MAX_DIRECTORY = 16 << 20
"""Bytes of a zip's central directory, which is read as a whole."""
MAX_RATIO = 200
"""An entry that unpacks to more than this many times its size is no image (air compresses to a hundredth)."""
TAIL = 65_535 + 22 + 20 + 56
"""Where the end records of a zip lie at the latest (APPNOTE.TXT 4.3.14 to 4.3.16)."""
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError, ValueError)
"""What zipfile raises of an entry: a wrong checksum; broken DEFLATE, LZMA and (OSError) bzip2; cut short; a method that
it does not know (NotImplementedError); and what `bounded` raises of a bomb."""


def upload_pages(made: APIRouter, render: Render, settings: Settings, store: Store) -> None:
    peers = Peers(settings, store.database)
    limit = settings.receive.max_object_mb * MB

    @made.get("/upload")
    def page() -> HTMLResponse:
        return render("upload.html", "Upload", "upload", limit_mb=settings.receive.max_object_mb)

    @made.post("/upload")
    async def take(request: Request, x_file_name: Annotated[str, Header(max_length=4000)] = "") -> StreamingResponse:
        """The answer has one line of JSON for each file: name, kept, sentence, study_uid."""
        address = request.client.host if request.client else ""
        if not await run_in_threadpool(allowed, request, address):
            raise HTTPException(403, "This address is not among the peers of the node, or has to come over TLS.")
        file = tempfile.SpooledTemporaryFile(SPOOL, dir=str(store.incoming))  # noqa: SIM115  closed when all was answered
        try:
            await receive(request, file, limit, store)
        except BaseException:
            file.close()
            raise
        batch = Batch(store, settings, address, "", calling_ae=CALLING_AE)
        return StreamingResponse(lines(file, unquote(x_file_name), batch), media_type="application/x-ndjson")

    def allowed(request: Request, address: str) -> bool:
        """Whoever logged in, or sits at this machine, or calls from a peer's address."""
        known = settings.web.host in LOOPBACK or bool(getattr(request.state, "person", ""))
        return known or peers.admit_address(address, CALLING_AE, secured=request.url.scheme == "https")


async def receive(request: Request, file: IO[bytes], limit: int, store: Store) -> None:
    """The body into `file`. Raises HTTPException 413 when it is too long, 507 when the disk is full."""
    size, checked = 0, 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HTTPException(413, f"A file may have {limit // MB} MB.")
        if size - checked > 8 * MB:
            checked = size
            try:
                store.check_space(0)
            except StoreError as e:
                raise HTTPException(507, str(e)) from e
        try:
            await run_in_threadpool(file.write, chunk)
        except OSError as e:
            raise HTTPException(507, str(no_room(e))) from e
    file.seek(0)


def lines(file: IO[bytes], name: str, batch: Batch) -> Iterator[str]:
    """One line of JSON for each file of the upload."""
    with file:
        try:
            for found, sentence, study_uid in answers(file, name, batch):
                answer = {"name": found, "kept": not sentence, "sentence": sentence, "study_uid": study_uid}
                yield json.dumps(answer) + "\n"
        finally:
            batch.close()


def answers(file: IO[bytes], name: str, batch: Batch) -> Iterator[tuple[str, str, str]]:
    """(name, why it was refused or "", Study Instance UID) of the one DICOM file, or of each file of a zip."""
    start = file.read(4)
    file.seek(0)
    if start not in (b"PK\x03\x04", b"PK\x05\x06"):
        yield name, *batch.take(iter(lambda: file.read(CHUNK), b""))
        return
    try:
        check_directory(file)
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, *unpacked(archive, entry, batch)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as e:  # the last: of a later version of the format
        yield name, f"The zip cannot be read: {e}.", ""


def unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, batch: Batch) -> tuple[str, str]:
    """Keep one entry: why it was refused or "", Study Instance UID."""
    mode = entry.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        return "This is a link or a device, not a file.", ""
    if entry.flag_bits & 1:
        return "This file is encrypted.", ""
    try:
        return batch.take(bounded(archive, entry))
    except UNREADABLE as e:
        batch.close()
        return f"This file of the zip cannot be read: {e}.", ""


def bounded(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The entry in pieces. Raises ValueError as soon as it unpacks to too much, whatever its header says."""
    most = max(CHUNK, MAX_RATIO * entry.compress_size)
    size = 0
    with archive.open(entry) as stream:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > most:
                raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size")
            yield chunk


def check_directory(file: IO[bytes]) -> None:
    """Raises ValueError when a zip's directory is too long, before it is read (APPNOTE.TXT 4.3.14, 4.3.16)."""
    file.seek(0, 2)
    file.seek(max(0, file.tell() - TAIL))
    tail = file.read()
    file.seek(0)
    end, end64 = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    if end < 0 or len(tail) < end + 22:
        raise ValueError("it has no end")
    count, size = (
        int.from_bytes(tail[end + 10 : end + 12], "little"),
        int.from_bytes(tail[end + 12 : end + 16], "little"),
    )
    if end64 >= 0:
        count = max(count % 0xFFFF, int.from_bytes(tail[end64 + 32 : end64 + 40], "little"))
        size = max(size % 0xFFFFFFFF, int.from_bytes(tail[end64 + 40 : end64 + 48], "little"))
    if count > MAX_FILES or size > MAX_DIRECTORY:
        raise ValueError(f"it holds more than {MAX_FILES} files")
