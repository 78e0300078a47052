"""Files in a folder, for systems that pick them up: a name is there only when the whole file is."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from radnode.destinations import Outgoing
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address


class Folder:
    """`FOLDER/STUDY/UID.dcm` and `.json`; a result that is already there is left alone, for it never changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["Folder"]:
        yield self

    def send(self, result: Outgoing) -> str:
        target = self.folder / result.study_uid / f"{result.uid}{result.path.suffix}"
        try:
            if target.exists() and target.stat().st_size == result.path.stat().st_size:
                return "was there already"
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
            with result.path.open("rb") as source, temporary.open("wb") as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(target)
        except OSError as e:
            raise DeliveryError(f"the folder cannot be written: {e.strerror or type(e).__name__}") from e
        return ""


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Folder:
    if address.folder is None:
        raise DeliveryError(f"destination {address.name!r} names no folder")
    return Folder(address.folder)
