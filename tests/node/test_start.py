"""What stops a role."""

import signal

from radnode.start import stop_on_signals


def test_a_signal_that_comes_at_the_worst_moment_stops_a_role() -> None:
    """The main thread waits for the event and holds its lock for some moments of each wait."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = stop_on_signals()
        with stop._cond:  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGTERM)
        assert stop.wait(60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
