"""Images that the node refused: their study lacks them until they come again. `evidence` asks, whoever receives writes.

A full disk refuses the rest of a study and leaves room for results: without a note, the study would look quiet and whole.
The sender's answer waits for no note, which may come when the database does.
"""

import threading
import time
from collections.abc import Mapping
from io import BytesIO

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from radnode import events, evidence
from radnode.database import Database
from radnode.events import Action
from radnode.patience import Patience
from radnode.store_check import is_uid
from radnode.tables_pacs import EvidenceRow
from radnode_inference.header import EXPLICIT_BIG, IMPLICIT_LITTLE

FIRST = 64 * 1024
"""Bytes of a data set that are kept in case it is refused: the Study Instance UID (0020,000D) stands among the first elements."""
MOST = 20_000
"""Objects of a study that are named."""
UNNAMED = "no valid UID"
GATHER_S = 0.5
CLOSE_S = 2.0


class Glimpse:
    """The beginning of a data set."""

    def __init__(self) -> None:
        self._seen = bytearray()

    def see(self, piece: bytes | bytearray | memoryview) -> None:
        if len(self._seen) < FIRST:
            self._seen += piece[: FIRST - len(self._seen)]

    def study_uid(self, transfer_syntax_uid: str, start: int = 0) -> str:
        """The Study Instance UID; "" where it cannot be found. start: of the data set in what was seen."""
        from pydicom.filereader import read_dataset

        implicit, big = transfer_syntax_uid == IMPLICIT_LITTLE, transfer_syntax_uid == EXPLICIT_BIG
        data = BytesIO(bytes(self._seen[start:]))
        try:
            read = read_dataset(data, implicit, not big, stop_when=lambda tag, *_: tag > 0x0020000D)
            return str(read.get("StudyInstanceUID", "")).rstrip("\0 ")
        except Exception:  # it was refused for a reason: pydicom raises whatever its readers happen to raise
            return ""


class Refusals:
    """What one process refused. Safe among threads; its own thread writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._new: dict[str, dict[str, str]] = {}  # Study Instance UID -> SOP Instance UID -> why
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, study_uid: str, sop_class_uid: str, sop_uid: str, why: str) -> None:
        """An object was refused; at once, and whatever the database does. What is no image is no part of what is read."""
        if not is_uid(study_uid) or not evidence.is_image(sop_class_uid):
            return
        with self._lock:
            self._new.setdefault(study_uid, {})[sop_uid if is_uid(sop_uid) else UNNAMED] = why
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
                self._thread.start()
        self._wake.set()

    def write(self) -> None:
        """Keep what was noted, also what another thread is about to keep. Raises SQLAlchemyError; then it is kept the next time."""
        with self._writing:
            with self._lock:
                taken, self._new = self._new, {}
            try:
                if taken:
                    keep(self._database, taken, time.time())
            except SQLAlchemyError:
                with self._lock:
                    for study_uid, named in taken.items():
                        self._new[study_uid] = named | self._new.get(study_uid, {})
                raise

    def close(self) -> None:
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        patience = Patience("The note of what was refused", "refuse-object")
        while True:
            self._wake.wait()
            self._wake.clear()
            ending = self._ending.is_set()
            try:
                self.write()
                patience.worked()
                self._ending.wait(GATHER_S)  # a full disk refuses many: they are written together
            except SQLAlchemyError as e:
                self._ending.wait(patience.failed(e))
                self._wake.set()
            if ending:
                return


def keep(database: Database, refused: Mapping[str, Mapping[str, str]], now: float) -> None:
    """refused: Study Instance UID -> SOP Instance UID -> why. One row for each study; its story tells of each reason once."""
    with database.transaction() as session:
        for study_uid, named in sorted(refused.items()):
            row = row_of(session, study_uid)
            why = list(named.values())[-1]
            if row.error != why:
                events.write(session, study_uid, Action.REFUSED, f"Images of this study are refused: {why}", now)
            row.named = sorted({*row.named, *named})[:MOST]
            row.error, row.at = why, now


def row_of(session: Session, study_uid: str) -> EvidenceRow:
    """The row of a study, locked, or a new one."""
    of_it = (EvidenceRow.study_uid == study_uid, EvidenceRow.source == evidence.REFUSED)
    row = session.scalar(select(EvidenceRow).where(*of_it).with_for_update())
    if row is None:
        row = EvidenceRow(study_uid=study_uid, source=evidence.REFUSED, key=evidence.REFUSED, ended=True, named=[])
        row.series, row.error, row.at = {}, "", 0.0
        session.add(row)
    return row
