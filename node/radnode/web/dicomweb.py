"""STOW-RS in: the same store as C-STORE, over HTTP. PS3.18 section 10.5.

Bodies are read as they come: of a part, only its file meta information is ever held in memory.
"""

import logging
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from radnode.errors import StoreError
from radnode.peers.table import Peers
from radnode.refusals import Glimpse
from radnode.sending import WEB, Sending, pause_of
from radnode.settings import Settings
from radnode.store import Arrival, Instance, Store, Upload
from radnode.store_check import CANNOT_UNDERSTAND, is_uid
from radnode_inference.header import walk

CALLING_AE = "STOW-RS"
"""Stands for the calling AE title of what came over HTTP."""
META_LIMIT = 64 * 1024
"""File meta information longer than this is refused."""
MEDIA_TYPE = "application/dicom+json"

log = logging.getLogger(__name__)


def router(settings: Settings, store: Store) -> APIRouter:
    """POST /dicom-web/studies and /dicom-web/studies/{study_uid}; only for who signed in, a token, or the address of a peer."""
    routes = APIRouter(prefix="/dicom-web", tags=["DICOMweb"])
    peers = Peers(settings, store.database)

    async def receive(request: Request, study_uid: str = "") -> Response:
        address = request.client.host if request.client else ""
        known = bool(getattr(request.state, "person", ""))
        secured = request.url.scheme == "https"
        if not known and not await run_in_threadpool(peers.admit_address, address, CALLING_AE, secured=secured):
            raise HTTPException(403, "This address is not among the peers of the node, or has to come over TLS.")
        if study_uid and not is_uid(study_uid):
            raise HTTPException(400, "The Study Instance UID in the address is not valid.")
        batch = Batch(store, settings, address, study_uid)
        await read_body(request, batch)
        return batch.answer()

    routes.add_api_route("/studies", receive, methods=["POST"], operation_id="store_instances")
    routes.add_api_route("/studies/{study_uid}", receive, methods=["POST"], operation_id="store_instances_of_study")
    return routes


async def read_body(request: Request, batch: "Batch") -> None:
    """Feed the body to the batch. Raises HTTPException 415 (media type) or 400 (no multipart body)."""
    parser = MultipartParser(boundary(request.headers.get("content-type", "")), batch.callbacks())  # type: ignore[arg-type]
    try:
        async for chunk in request.stream():
            if chunk:
                await run_in_threadpool(parser.write, chunk)
        parser.finalize()
    except (MultipartParseError, FormParserError) as e:
        raise HTTPException(400, "The multipart body cannot be read.") from e
    finally:
        await run_in_threadpool(batch.close)
    if not batch.ended:
        raise HTTPException(400, "The multipart body has no end.")
    if not batch.parts:
        raise HTTPException(400, "The body holds no object.")


def boundary(content_type: str) -> bytes:
    """The boundary of multipart/related; type="application/dicom". Raises HTTPException."""
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/related":
        raise HTTPException(415, 'Send multipart/related; type="application/dicom".')
    if options.get(b"type", b"application/dicom").lower() != b"application/dicom":
        raise HTTPException(415, "Only parts of type application/dicom are taken.")
    found = options.get(b"boundary", b"")
    if not 1 <= len(found) <= 70:  # RFC 2046 section 5.1.1
        raise HTTPException(400, "The Content-Type has no valid boundary.")
    return found


@dataclass(kw_only=True)
class Part:
    """One object on its way in."""

    content_type: bytes = b""
    head: bytearray = field(default_factory=bytearray)  # until the file meta information is whole
    size: int = 0
    start: int | None = None  # of its data set
    arrival: Arrival | None = None
    upload: Upload | None = None
    error: StoreError | None = None
    glimpse: Glimpse = field(default_factory=Glimpse)


class Batch:
    """The objects of one request, each kept or refused by itself."""

    def __init__(
        self, store: Store, settings: Settings, address: str, study_uid: str, calling_ae: str = CALLING_AE
    ) -> None:
        self._store = store
        self._calling_ae = calling_ae
        self._called_ae, self._address, self._study_uid = settings.receive.ae_title, address, study_uid
        self._sending = Sending(store.database, slot=WEB, pause_s=pause_of(settings))
        self._part: Part | None = None
        self._header = (b"", b"")
        self._kept: list[Instance] = []
        self._refused: list[tuple[Part, StoreError]] = []
        self.ended = False

    @property
    def parts(self) -> int:
        return len(self._kept) + len(self._refused)

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._on_header(data[start:end], b""),
            "on_header_value": lambda data, start, end: self._on_header(b"", data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._data(memoryview(data)[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def take(self, chunks: Iterable[bytes]) -> tuple[str, str]:
        """Keep one whole file: why it was refused or "", and its Study Instance UID or ""."""
        refused = len(self._refused)
        self._begin()
        for chunk in chunks:
            self._data(memoryview(chunk))
        self._end()
        if len(self._refused) > refused:
            return str(self._refused[-1][1]), ""
        return "", self._kept[-1].study_uid

    def close(self) -> None:
        """Leave nothing of a part that did not end."""
        if self._part is not None and self._part.upload is not None:
            self._part.upload.discard()
        self._part = None
        self._sending.end()

    def answer(self) -> Response:
        """200: all kept; 202: some; 409: none (413 when one was too long). PS3.18 tables 10.5.3-1 and I.2-1."""
        body: dict[str, Any] = {}
        if self._kept:
            body["00081199"] = {"vr": "SQ", "Value": [reference(i.sop_class_uid, i.sop_uid) for i in self._kept]}
        if self._refused:
            body["00081198"] = {"vr": "SQ", "Value": [failure(part, error) for part, error in self._refused]}
        too_long = any(part.size > self._store.max_bytes for part, _ in self._refused)
        status = 200 if not self._refused else 202 if self._kept else 413 if too_long else 409
        return JSONResponse(body, status, media_type=MEDIA_TYPE)

    def _begin(self) -> None:
        self._part = Part()

    def _on_header(self, name: bytes, value: bytes) -> None:
        self._header = (self._header[0] + name, self._header[1] + value)

    def _end_header(self) -> None:
        name, value = self._header
        self._header = (b"", b"")
        if name.lower() == b"content-type" and self._part is not None:
            self._part.content_type = parse_options_header(value)[0].lower()

    def _data(self, chunk: memoryview) -> None:
        part = self._part
        assert part is not None
        self._sending.alive()
        part.size += len(chunk)
        part.glimpse.see(chunk)
        if part.error is not None:
            return
        try:
            if part.upload is not None:
                part.upload.write(chunk)
                return
            part.head += chunk
            self._start(part, last=False)
        except StoreError as e:
            self._fail(part, e)

    def _start(self, part: Part, *, last: bool) -> None:
        """Begin to keep the object once its file meta information is there. Raises StoreError."""
        if part.content_type not in (b"", b"application/dicom"):
            raise StoreError(CANNOT_UNDERSTAND, "The part is not application/dicom.")
        start = meta_end(part.head)
        if start is None:
            if last or len(part.head) > META_LIMIT:
                raise StoreError(CANNOT_UNDERSTAND, "The part is not a DICOM file.")
            return
        try:
            meta, _, _, _ = walk(bytes(part.head[:start]), 132, big=False, implicit=False, stop_after_group=2)
        except struct.error as e:
            raise StoreError(CANNOT_UNDERSTAND, "The file meta information cannot be read.") from e

        def uid(element: int) -> str:
            return meta.get(0x00020000 | element, (b"", b""))[1].rstrip(b"\0 ").decode("ascii", "replace")

        part.start = start
        part.arrival = Arrival(
            calling_ae=self._calling_ae,
            called_ae=self._called_ae,
            address=self._address,
            sop_class_uid=uid(0x02),
            sop_uid=uid(0x03),
            transfer_syntax_uid=uid(0x10),
            study_uid=self._study_uid,
        )
        part.upload = self._store.begin(part.arrival)
        part.upload.write(memoryview(part.head)[start:])
        part.head = bytearray()

    def _end(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        try:
            if part.error is not None:
                raise part.error
            if part.upload is None:
                self._start(part, last=True)
            assert part.upload is not None
            self._kept.append(part.upload.finish())
            self._sending.sent(self._kept[-1].study_uid)
        except StoreError as e:
            self._fail(part, e)
            self._refused.append((part, e))
            self._lack(part, e)
            log.warning(
                "An object was refused.",
                extra={
                    "action": "refuse-object",
                    "address": self._address,
                    "status": f"{e.status:#06x}",
                    "why": str(e),
                },
            )

    def _fail(self, part: Part, error: StoreError) -> None:
        part.error = error
        part.head = bytearray()
        if part.upload is not None:
            part.upload.discard()

    def _lack(self, part: Part, error: StoreError) -> None:
        """A study lacks what was refused of it, unless it was sent to another study's address."""
        arrival = part.arrival
        if arrival is None or part.start is None:
            return
        study_uid = part.glimpse.study_uid(arrival.transfer_syntax_uid, part.start)
        if arrival.study_uid in ("", study_uid):
            self._store.refusals.note(study_uid, arrival.sop_class_uid, arrival.sop_uid, str(error))

    def _finish(self) -> None:
        self.ended = True


def meta_end(head: bytearray) -> int | None:
    """Where the data set begins, by the group length (0002,0000); None as long as too few bytes are there.

    Raises StoreError when this is no DICOM file. PS3.10 section 7.1.
    """
    if len(head) < 144:
        return None
    if head[128:132] != b"DICM" or head[132:140] != b"\x02\0\0\0UL\x04\0":
        raise StoreError(CANNOT_UNDERSTAND, "The part is not a DICOM file.")
    end = 144 + int.from_bytes(head[140:144], "little")
    return end if len(head) >= end else None


def reference(sop_class_uid: str, sop_uid: str) -> dict[str, Any]:
    """One item of the Referenced SOP Sequence."""
    return {
        "00081150": {"vr": "UI", "Value": [sop_class_uid] if sop_class_uid else []},
        "00081155": {"vr": "UI", "Value": [sop_uid] if sop_uid else []},
    }


def failure(part: Part, error: StoreError) -> dict[str, Any]:
    """One item of the Failed SOP Sequence, with Failure Reason (0008,1197)."""
    uids = (part.arrival.sop_class_uid, part.arrival.sop_uid) if part.arrival else ("", "")
    return {**reference(*uids), "00081197": {"vr": "US", "Value": [error.status]}}
