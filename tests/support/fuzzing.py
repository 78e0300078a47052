"""Bytes that are nearly right: a strategy that spoils good ones, and the targets that must bear whatever comes.

Each target takes bytes, returns nothing, and raises only what its own documentation promises; `TARGETS` names them all.
"""

import logging
import re
import socket
import struct
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import func, select
from support.objects import encoded, image, write
from support.pages import serving
from support.wire import CT_IMAGE_STORAGE, VERIFICATION, association_request, command, pdv, store_command

from radnode import settings as settings_module
from radnode import start
from radnode.association_services import (
    AVAILABILITY,
    C_FIND_RQ,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_EVENT_REPORT_RQ,
    PROCEDURE_STEP,
)
from radnode.database import Database
from radnode.destinations.commit_data import COMMITMENT
from radnode.errors import SettingsError, StoreError
from radnode.hl7 import listen as hl7_listen
from radnode.modality_worklist import FIND as WORKLIST
from radnode.peers.table import Peer, add_peer
from radnode.receive_child import Child, Slots
from radnode.settings import Settings
from radnode.store_check import Arrival, identify
from radnode.tables import InstanceRow
from radnode.tables_triage import MessageRow
from radnode_inference.header import Header, NotDicomError

RELEASE = b"\x05\0\0\0\0\x04\0\0\0\0"
NUMBERS = (
    b"\0",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
)
KEYWORDS = ("StudyInstanceUID", "PatientName", "StudyDescription", "SeriesNumber", "ImageType", "PixelSpacing", "Rows")
ORDER = (
    b"MSH|^~\\&|RIS|HOSP|RADNODE||20260101120000||ORM^O01|M1|P|2.3.1\rPID|1||P1^^^HOSP||Doe^Jane||19700101|F\r"
    b"PV1|1|E\rORC|NW|1|||SC\rOBR|1|1||CT^CT chest^L||||||||||||A1|||||||||||^^^^^S\r"
)
REPORT = (
    b'{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":'
    b'"DiagnosticReport","status":"preliminary","code":{"text":"AI"},"issued":"2026-01-01T12:00:00Z","basedOn":[{"type":'
    b'"ServiceRequest","identifier":{"value":"A1"}}],"subject":{"identifier":{"value":"P1"}}},"request":{"method":"PUT",'
    b'"url":"DiagnosticReport?identifier=urn:v|A1"}}]}'
)
BOUNDARY = b"a-boundary"


@st.composite
def spoiled(draw: st.DrawFn, good: tuple[bytes, ...]) -> bytes:
    """One of `good` with one to six pieces changed, cut, repeated, moved or left out; now and then anything at all."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=2000))
    data = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        many = draw(st.sampled_from((1, 2, 4, 17, 400)))
        how = draw(st.sampled_from(("change", "number", "cut", "repeat", "leave out", "insert", "swap")))
        if how == "change":
            piece = draw(st.binary(min_size=1, max_size=4))
            data = data[:at] + piece + data[at + len(piece) :]
        elif how == "number":
            piece = draw(st.sampled_from(NUMBERS))
            data = data[:at] + piece + data[at + len(piece) :]
        elif how == "cut":
            data = data[:at]
        elif how == "repeat":
            data = data[: at + many] + data[at : at + many] * draw(st.sampled_from((1, 30))) + data[at + many :]
        elif how == "leave out":
            data = data[:at] + data[at + many :]
        elif how == "insert":
            data = data[:at] + draw(st.binary(max_size=20)) + data[at:]
        else:
            data = data[:at] + data[at + many : at + 2 * many] + data[at : at + many] + data[at + 2 * many :]
    return data


class Trap(logging.Handler):
    """Holds every error that was logged: what production code swallows, a test does not."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.caught: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.caught.append(logging.Formatter().format(record))


@dataclass(kw_only=True, eq=False)
class Bench:
    """What the targets need: a receiver and an application in this process, on one data folder."""

    settings: Settings
    child: Child
    database: Database
    client: httpx.Client
    folder: Path

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator["Bench"]:
        sections: Any = {"accept_unknown_callers": True, "association_idle_s": 60, "max_object_mb": 2}
        settings = Settings(data=folder / "data", receive=sections)
        start.prepare(settings)
        child, database = Child(settings, {}, Slots(1), 0), Database(settings.url)
        add_peer(database, Peer(name="wire", ae_title="WIRE", may=("send", "commit", "worklist")))
        try:
            with serving(settings) as client:
                yield cls(settings=settings, child=child, database=database, client=client, folder=folder)
        finally:
            database.close()
            child._store.close()

    # ---------------------------------------------------------------------------------- the targets

    def pdu(self, data: bytes) -> None:
        """A whole connection, as the listener serves it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            caller = socket.create_connection(listener.getsockname())
            connection, _ = listener.accept()
        with caller:
            sender = threading.Thread(target=say, args=(caller, data))
            sender.start()
            self.child._serve(connection, "127.0.0.1", False)
            sender.join(60)
            assert not sender.is_alive()

    def reader(self, data: bytes) -> None:
        """A file, its header and what is read of it."""
        with suppress(NotDicomError):
            header = Header.parse(data)
            for keyword in KEYWORDS:
                header.texts(keyword)
                header.numbers(keyword)
                header.unsigned(keyword)

    def data_set(self, data: bytes) -> None:
        """A data set as it is looked at before it is kept, in each encoding."""
        for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"):
            arrival = Arrival(
                calling_ae="A", called_ae="B", address="127.0.0.1", sop_class_uid="1.2", sop_uid="1.2.3",
                transfer_syntax_uid=syntax,
            )  # fmt: skip
            with suppress(StoreError):
                identify(data, 0, arrival, max_bytes=2_000_000)

    def stow(self, data: bytes) -> None:
        content_type = f'multipart/related; type="application/dicom"; boundary={BOUNDARY.decode()}'
        answer = self.client.post("/dicom-web/studies", content=data, headers={"content-type": content_type})
        assert answer.status_code in (200, 202, 400, 409, 413), answer.text

    def hl7(self, data: bytes) -> None:
        answer = hl7_listen.take(self.database, data, "127.0.0.1", "utf-8", 1.0)
        asked = re.search(
            rb"[^A-Z0-9](AL|NE|ER|SU)[^A-Z0-9]", data.upper()
        )  # MSH-15, MSH-16: it may want another, or none
        assert "MSA|A" in answer or asked, answer

    def fhir(self, data: bytes) -> None:
        headers = {"content-type": "application/fhir+json"}
        answer = self.client.post("/fhir", content=data, headers=headers)
        assert answer.status_code < 500, f"{answer.status_code}: {answer.text}"

    def toml(self, data: bytes) -> None:
        file = self.folder / "settings.toml"
        file.write_bytes(data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RADNODE_CONFIG", str(file))
            with suppress(SettingsError):
                settings_module.load()

    def counts(self) -> tuple[int, int]:
        """How many images are kept, and how many HL7 messages were taken as orders."""
        with self.database.reading() as session:
            images = session.scalar(select(func.count()).select_from(InstanceRow)) or 0
            taken = select(func.count()).select_from(MessageRow).where(MessageRow.answer == "AA")
            return images, session.scalar(taken) or 0


TARGETS: Mapping[str, Callable[[Bench, bytes], None]] = {
    "pdu": Bench.pdu,
    "reader": Bench.reader,
    "data_set": Bench.data_set,
    "stow": Bench.stow,
    "hl7": Bench.hl7,
    "fhir": Bench.fhir,
    "toml": Bench.toml,
}


def say(caller: socket.socket, data: bytes) -> None:
    """Send everything, end, and take in the answers."""
    with suppress(OSError):
        caller.sendall(data)
        caller.shutdown(socket.SHUT_WR)
        caller.settimeout(60)
        while caller.recv(65536):
            pass


def good(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """Of each target, bytes that are right."""
    ds = image()
    data = encoded(ds)
    file = write(folder, ds)[0].read_bytes()
    uid = str(ds.SOPInstanceUID)
    request = association_request(str(ds.SOPClassUID), VERIFICATION)
    stored = (
        request + pdv(1, 3, store_command(uid, str(ds.SOPClassUID))) + pdv(1, 0, data[:100]) + pdv(1, 2, data[100:])
    )
    head = b"--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n"
    settings = Path(__file__).resolve().parents[2] / "deploy" / "radnode.toml"
    return {
        "pdu": (
            stored + RELEASE,
            request + pdv(3, 3, store_command(uid, VERIFICATION, field=0x30, data_set=0x101)) + RELEASE,
            *(conversation(*asked) for asked in service_requests()),
        ),
        "reader": (file,),
        "data_set": (data,),
        "stow": (head + file + b"\r\n--" + BOUNDARY + b"--\r\n",),
        "hl7": (ORDER,),
        "fhir": (REPORT,),
        "toml": tuple(paragraphs(settings.read_bytes())),
    }


def conversation(sop_class: str, head: bytes, data: bytes) -> bytes:
    """A whole association with one request of a service."""
    return association_request(sop_class) + pdv(1, 3, head) + pdv(1, 2, data) + RELEASE


def service_requests() -> Iterator[tuple[str, bytes, bytes]]:
    """SOP class, command and data set of requests that are right: N-CREATE, N-ACTION, N-EVENT-REPORT, C-FIND."""
    image, study, series, scheduled = Dataset(), Dataset(), Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CT_IMAGE_STORAGE, "1.2.3.9.1"
    scheduled.StudyInstanceUID = "1.2.3"
    series.ReferencedImageSequence, series.SeriesInstanceUID = [image], "1.2.3.8"
    study.PerformedProcedureStepStatus, study.PerformedProcedureStepStartDate = "COMPLETED", "20260101"
    study.ScheduledStepAttributesSequence, study.PerformedSeriesSequence = [scheduled], [series]
    yield PROCEDURE_STEP, service_command(PROCEDURE_STEP, N_CREATE_RQ), explicit(study)
    notice, one = Dataset(), Dataset()
    notice.StudyInstanceUID, one.ReferencedSOPSequence, notice.ReferencedSeriesSequence = "1.2.3", [image], [one]
    yield AVAILABILITY, service_command(AVAILABILITY, N_CREATE_RQ), explicit(notice)
    asked = Dataset()
    asked.TransactionUID, asked.ReferencedSOPSequence = "1.2.3.7", [image]
    yield COMMITMENT, service_command(COMMITMENT, N_ACTION_RQ), explicit(asked)
    yield COMMITMENT, service_command(COMMITMENT, N_EVENT_REPORT_RQ), explicit(asked)
    wanted, step = Dataset(), Dataset()
    step.ScheduledStationAETitle, step.ScheduledProcedureStepStartDate, step.Modality = "", "20260101-", "CT"
    wanted.PatientName, wanted.PatientID, wanted.ScheduledProcedureStepSequence = "DOE*", "", [step]
    yield WORKLIST, service_command(WORKLIST, C_FIND_RQ), explicit(wanted)


def service_command(sop_class: str, kind: int) -> bytes:
    """The command set of such a request. PS3.7 section E.1, with type 1 of an action or event."""
    uid, number = sop_class.encode() + b"\0" * (len(sop_class) % 2), struct.Struct("<H").pack
    asks = kind == N_ACTION_RQ
    values = {(0x0003 if asks else 0x0002): uid, 0x0100: number(kind), 0x0110: number(7), 0x0800: number(1)}
    values[0x1001 if asks else 0x1000] = b"1.2.3.99"
    if kind == C_FIND_RQ:
        values |= {0x0700: number(0)}
        del values[0x1000]
    if kind in (N_ACTION_RQ, N_EVENT_REPORT_RQ):
        values[0x1008 if asks else 0x1002] = number(1)
    return command(values)


def explicit(ds: Dataset) -> bytes:
    return cast(bytes, encode(ds, False, True))


def paragraphs(text: bytes) -> list[bytes]:
    """The example settings, whole and in pieces with every commented key in force, as far as they are TOML."""
    pieces = [text, *text.split(b"\n\n")]
    forced = [
        b"\n".join(line.removeprefix(b"# ") for line in piece.split(b"\n") if b" = " in line or b"[" in line)
        for piece in pieces
    ]
    return [piece for piece in (*pieces, *forced) if is_toml(piece)]


def is_toml(piece: bytes) -> bool:
    try:
        return bool(tomllib.loads(piece.decode()))
    except tomllib.TOMLDecodeError:
        return False


def deep(count: int) -> bytes:
    """A data set whose sequences lie in one another, `count` deep, of undefined length. Explicit VR Little Endian."""
    begin = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return begin * count + end * count
