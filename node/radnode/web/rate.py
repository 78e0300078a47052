"""How often one address may ask. In memory: it protects this process from being asked too much, and forgets with it."""

import math
import threading

WINDOW_S = 60.0
MOST_ADDRESSES = 10_000
"""Beyond it those of earlier minutes are forgotten, and then all of them: a scan from many addresses fills no memory."""


class Rate:
    """Counts requests by address and minute. per_min: how many of one address are answered; 0: all. Safe among threads."""

    def __init__(self, per_min: int) -> None:
        self._per_min = per_min
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, int]] = {}  # address -> (minute, how many in it)

    def __len__(self) -> int:
        return len(self._counts)

    def wait_s(self, address: str, now: float) -> int:
        """Count one more; for how many seconds its sender has to wait, 0 when it is answered. now: seconds, of any clock."""
        if not self._per_min:
            return 0
        minute = int(now // WINDOW_S)
        with self._lock:
            if len(self._counts) > MOST_ADDRESSES:
                self._counts = {a: c for a, c in self._counts.items() if c[0] == minute}
            if len(self._counts) > MOST_ADDRESSES:
                self._counts.clear()
            before, many = self._counts.get(address, (minute, 0))
            many = many + 1 if before == minute else 1
            self._counts[address] = (minute, many)
        return math.ceil((minute + 1) * WINDOW_S - now) if many > self._per_min else 0
