"""The listener for HL7 v2 orders over MLLP. Every message is kept before it is answered, also one that is not understood.

Bounds: who may connect, how many at a time, how large a message may be, and how long its sender may take.
"""

import asyncio
import codecs
import contextlib
import ipaddress
import logging
import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import hl7
from hl7.mllp import HL7StreamReader, HL7StreamWriter, InvalidBlockError, start_hl7_server
from sqlalchemy.exc import SQLAlchemyError

from radnode import final_reports, order_echoes, orders
from radnode.database import Database
from radnode.hl7 import answers as hl7_answers
from radnode.hl7 import orders as hl7_orders
from radnode.hl7.orders import MessageError
from radnode.settings import Settings
from radnode.tables_triage import MessageRow

log = logging.getLogger(__name__)
POLL_S = 0.1


class Listener:
    """Answers each message of each connection, in order."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.read_by = settings.hl7, settings.reading.read_by
        self.database = database
        self.allowed = tuple(ipaddress.ip_network(a, strict=False) for a in self.settings.addresses)
        self.port_file = settings.data / "run" / "hl7.port"
        self.connections: set[HL7StreamWriter] = set()

    async def run(self, stop: threading.Event) -> None:
        limit = self.settings.max_message_kb * 1024
        server = await start_hl7_server(self.serve, self.settings.host, self.settings.port, limit=limit)
        async with server:
            port = server.sockets[0].getsockname()[1]
            self.port_file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.port_file.with_suffix(".part")
            temporary.write_text(f"{port}\n")
            temporary.replace(self.port_file)
            log.info("HL7 orders are taken.", extra={"action": "hl7", "port": port})
            while not stop.is_set():
                await asyncio.sleep(POLL_S)
            for writer in tuple(self.connections):
                writer.close()
            while self.connections:
                await asyncio.sleep(POLL_S / 10)

    async def serve(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        """One connection, until it ends, breaks a bound or is not one of ours."""
        address = str((writer.get_extra_info("peername") or ("",))[0])
        ended = self.refusal(address)
        self.connections.add(writer)
        try:
            ended = ended or await self.talk(reader, writer, address)
        except SQLAlchemyError as e:  # no answer: the sender sends it again. Its text may hold the message.
            ended = f"a message could not be kept ({type(e).__name__})"
        except TimeoutError:
            ended = "its answer was not taken within the time"
        except ConnectionError:
            ended = ""
        finally:
            writer.close()
            self.connections.discard(writer)
        if ended:
            log.warning("An HL7 connection was ended: %s.", ended, extra={"action": "hl7", "address": address})
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def refusal(self, address: str) -> str:
        """Why this caller is turned away, "" when not."""
        if not any(ipaddress.ip_address(address) in network for network in self.allowed):
            return "the address is not among `hl7.addresses`"
        return "too many connections" if len(self.connections) >= self.settings.max_connections else ""

    async def talk(self, reader: HL7StreamReader, writer: HL7StreamWriter, address: str) -> str:
        """Why the node ended the connection, "" when the sender did."""
        while True:
            try:
                raw = await self.block(reader)
            except TimeoutError:
                return "no message, or no end of one, within the time"
            except (asyncio.IncompleteReadError, ConnectionError):
                return ""
            except (InvalidBlockError, asyncio.LimitOverrunError):
                return "the bytes are no MLLP block, or too many"
            how = (self.settings.encoding, time.time(), self.read_by)
            answer = await asyncio.to_thread(take, self.database, raw, address, *how, echoes=self.settings.echoes)
            if answer:
                writer.writeblock(answer.encode())
                await asyncio.wait_for(writer.drain(), self.settings.message_s)

    async def block(self, reader: HL7StreamReader) -> bytes:
        """One message. The clock of a message starts with its first byte, so that it cannot be sent for ever."""
        first = await asyncio.wait_for(reader.readexactly(1), self.settings.idle_s)
        while first in b"\r\n":  # some end a block with a line end more
            first = await asyncio.wait_for(reader.readexactly(1), self.settings.idle_s)
        if first != b"\x0b":
            raise InvalidBlockError("no start block")
        found: bytes = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), self.settings.message_s)
        return found[:-2].removeprefix(codecs.BOM_UTF8)


def take(
    database: Database,
    raw: bytes,
    address: str,
    encoding: str,
    now: float,
    read_by: Collection[str] = (),
    *,
    echoes: bool = False,
) -> str:
    """Keep a message, what it orders and what it says was read in one transaction; the answer to send, "" for none.

    read_by, echoes: as in the settings. Raises SQLAlchemyError when it cannot be kept: then there is no answer.
    """
    message: hl7.Message | None = None
    received: hl7_orders.Received | None = None
    error: MessageError | None = None
    text = raw.decode("utf-8", "backslashreplace").replace("\0", "")
    try:
        text = hl7_orders.decoded(raw, encoding).replace("\0", "")
        message = hl7_orders.parsed(text)
        received = hl7_orders.understood(message, read_by)
    except MessageError as e:
        error = e
    except (
        Exception
    ) as e:  # whatever a library makes of strange bytes, they are answered, and kept; no word of them is logged
        error = MessageError("AE", "100", f"This message cannot be read ({type(e).__name__}).")
    control = hl7_orders.value(message, "MSH", 10)[:255] if message is not None else ""
    row: dict[str, Any] = {
        "received_at": now,
        "address": address,
        "control_id": control,
        "body": text,
    }
    with database.transaction() as session:
        remark = str(error or "") or (received.remark if received else "")
        session.add(MessageRow(**row, answer=error.answer if error else "AA", reason=remark))
        for order in received.orders if received else ():
            orders.keep(session, order, now, order_echoes.is_echo if echoes else None)
        final_reports.by_hl7(session, received.finals if received else (), now)
    said = (
        f"refused ({error})" if error else f"kept, {len(received.orders) if received else 0} orders. {remark}".strip()
    )
    log.info("An HL7 message was %s", said, extra={"action": "hl7", "address": address})
    at = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d%H%M%S")
    return hl7_answers.acknowledgement(message, at, error)


def serve(settings: Settings, stop: threading.Event) -> None:
    """Take orders until `stop`."""
    database = Database(settings.url)
    try:
        asyncio.run(Listener(settings, database).run(stop))
    finally:
        database.close()
