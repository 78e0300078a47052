"""The gate that keeps pynetdicom's own thread away from answers to C-STORE."""

import sys
import threading
import time

import pytest

from radnode.destinations import gate as destinations_gate
from radnode.destinations.gate import Gate


def test_nobody_passes_between_clear_and_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that goes round as pynetdicom's does, and a sender that stops it 2,000 times."""
    monkeypatch.setattr(destinations_gate, "LIMIT_S", 60.0)  # the thread is there, however seldom it gets its turn
    gate, end, rounds = Gate(), threading.Event(), [0]

    def go_round() -> None:
        while not end.is_set():
            gate.wait()
            rounds[0] += 1

    thread = threading.Thread(target=go_round, daemon=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        moved = 0
        for _ in range(2000):
            gate.clear()
            before = rounds[0]
            time.sleep(0)
            moved += rounds[0] != before
            gate.set()
        assert moved == 0
    finally:
        sys.setswitchinterval(interval)
        end.set()
        gate.set()
        thread.join(60)
    assert rounds[0] > 0


def test_clear_comes_back_when_the_thread_has_ended() -> None:
    gate = Gate()
    began = time.monotonic()
    gate.clear()
    assert time.monotonic() - began > 0.9
    assert not gate.is_set()
