"""The deliver role in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from radnode import deliver
from radnode.settings import Settings


@contextmanager
def delivering(settings: Settings) -> Iterator[None]:
    """It runs while the body does, and has ended afterwards."""
    stop = threading.Event()
    thread = threading.Thread(target=deliver.serve, args=(settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
