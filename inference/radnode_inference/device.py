"""Where a network runs, with how many threads and in which precision."""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import psutil
import torch


class NoDeviceError(ValueError):
    """The device asked for is not in this machine."""


def resolve(wanted: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda"; "auto" is a GPU where there is one. Raises NoDeviceError."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise NoDeviceError("cuda was asked for, and torch finds no GPU")
    if wanted not in ("cpu", "cuda"):
        raise NoDeviceError(f"there is no device {wanted!r}; there are auto, cpu and cuda")
    return torch.device(wanted)


def precision(device: torch.device, *, half: bool = False) -> AbstractContextManager[object]:
    """Single precision, on a GPU too; bfloat16 (`half`) only where it agreed with it on those weights (`engines`)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def largest_batch(device: torch.device) -> int:
    """Windows at a time beyond which nothing is gained: on a CPU two, because oneDNN is slow with batches of one."""
    return 8 if device.type == "cuda" else 2


class Meter:
    """The memory that a piece of work took at most, in bytes; use as a context manager, then ask `fit`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.used = 0

    def __enter__(self) -> "Meter":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            self._before = psutil.Process().memory_info().rss
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.used = torch.cuda.max_memory_allocated(self._device) - self._before
        else:  # the process's own high-water mark may be older: then this is more than was used, never less
            self.used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._before

    def fit(self, most: int) -> int:
        """How many such pieces of work fit beside each other into four fifths of the free memory: 1 to `most`."""
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info(self._device)[0]
        else:
            free = psutil.virtual_memory().available
        return max(1, min(most, int(0.8 * free / max(self.used, 1))))


@contextmanager
def threads() -> Iterator[int]:
    """torch with as many threads as cores are idle (at least one), then as before.

    Threads beyond the idle cores wait for each other: on two busy cores two threads took 4.3 s for what one does in 0.64 s.
    """
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    idle = max(1, min(before, cores, round(cores - os.getloadavg()[0])))
    torch.set_num_threads(idle)
    try:
        yield idle
    finally:
        torch.set_num_threads(before)
