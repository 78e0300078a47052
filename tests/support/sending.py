"""Sending to a node that may die: what was acknowledged, and sending the rest again, as a PACS does."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from radnode.demo.send import Image, send
from radnode.errors import DeliveryError
from radnode_inference.header import walk


def dataset_bytes(file: bytes) -> bytes:
    """The data set of a DICOM file without preamble and file meta information (PS3.10 section 7.1).

    A receiver writes file meta information of its own; everything behind it must be what was sent.
    """
    assert file[128:132] == b"DICM"
    _, end, _, _ = walk(file, 132, big=False, implicit=False, stop_after_group=2)
    return file[end:]


class PatientSender:
    """Sends files until each was acknowledged, over as many associations as that takes.

    acknowledged: SOP Instance UID -> data set, in the order of the answers. interruptions: how often it had to come back.
    """

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self.acknowledged: dict[str, bytes] = {}
        self.interruptions = 0

    def send(self, files: Sequence[Path], *, seconds: float = 120.0) -> None:
        """Raises AssertionError when not everything was acknowledged in time."""
        left = [Image.read(path) for path in files]
        end = time.monotonic() + seconds
        while left:
            self._try(left)
            left = [image for image in left if image.uid not in self.acknowledged]
            if left:
                self.interruptions += 1
                assert time.monotonic() < end, f"{len(left)} of {len(files)} images were never acknowledged"
                time.sleep(0.1)

    @contextmanager
    def in_background(self, files: Sequence[Path], *, seconds: float = 180.0) -> Iterator[None]:
        """Send while the body runs, and wait for the end. An error of the sender is raised at the end."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                self.send(files, seconds=seconds)
            except BaseException as e:
                errors.append(e)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield
        thread.join(seconds)
        if errors:
            raise errors[0]
        assert not thread.is_alive(), "the sender did not come to an end"

    def _try(self, images: Sequence[Image]) -> None:
        if not listens(self._port()):
            return
        try:
            for image in send([i.path for i in images], self._port(), timeout_s=30.0):
                self.acknowledged[image.uid] = dataset_bytes(image.path.read_bytes())
        except (DeliveryError, OSError, ValueError):  # the node died; it is called again
            return


def listens(port: int) -> bool:
    """Whether anybody takes a connection; pynetdicom, asked to try, leaves a socket open for each refusal."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60.0):
            return True
    except OSError:
        return False
