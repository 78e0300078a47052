"""Memory that the node and an isolated process share by descriptors: sealed, so that neither its size nor the input can change. No torch."""

import fcntl
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS, BITS = "labels", "bits"
"""How a mask tells classes: the number of the one channel and 1 more (0: none), or a bit for each channel."""
MOST_BITS = 16
BUNDLE = "/bundle"
ANSWER_BYTES = 1 << 14
SIZE_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK

Bytes = NDArray[np.uint8]


@contextmanager
def memory(name: str, content: NDArray[Any] | bytes | int) -> Iterator[int]:
    """A descriptor of memory that holds `content` and can only be read, or of so many zero bytes that can be written."""
    fd = os.memfd_create(f"radnode-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if isinstance(content, int):
            os.truncate(fd, content)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SIZE_SEALS | fcntl.F_SEAL_SEAL)
        else:
            view = memoryview(content) if isinstance(content, bytes) else content.reshape(-1).view(np.uint8).data
            while len(view):
                view = view[os.write(fd, view) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SIZE_SEALS | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        yield fd
    finally:
        os.close(fd)


def mapped(fd: int, *, writable: bool = False) -> Bytes:
    """The bytes of such memory, without a copy."""
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
    return np.frombuffer(mmap.mmap(fd, os.fstat(fd).st_size, access=access), np.uint8)


def put(fd: int, answer: Mapping[str, str]) -> None:
    """Write a short answer as JSON."""
    text = json.dumps(answer).encode()[:ANSWER_BYTES]
    mapped(fd, writable=True)[: len(text)] = np.frombuffer(text, np.uint8)


def got(fd: int) -> dict[str, str]:
    """The answer of a stranger: a small table of words, or nothing."""
    text = os.pread(fd, ANSWER_BYTES, 0).rstrip(b"\0")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(k)[:32]: str(v)[:1000] for k, v in found.items()} if isinstance(found, dict) else {}
