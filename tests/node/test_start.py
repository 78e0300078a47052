"""What stops a role."""

import signal
import threading
from collections.abc import Iterator

import pytest

from radnode.start import stop_on_signals


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield stop_on_signals()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_comes_while_the_main_thread_begins_or_ends_its_wait_stops_a_role(stop: threading.Event) -> None:
    """It holds the event's own lock for some moments of each wait."""
    with stop._cond:  # type: ignore[attr-defined]
        signal.raise_signal(signal.SIGTERM)
    assert stop.wait(60)


def test_a_signal_that_comes_while_the_main_thread_ends_another_stops_a_role(stop: threading.Event) -> None:
    """A lock of `threading` is held meanwhile, without which no thread begins."""
    with threading._shutdown_locks_lock:  # type: ignore[attr-defined]
        signal.raise_signal(signal.SIGTERM)
    assert stop.wait(60)
