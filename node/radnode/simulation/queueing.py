"""Mean waits in closed form, for Poisson arrivals and exponential reading times that are the same in every class.

Against these the simulation is checked. Times in any one unit; classes are ordered, the first is read first.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import factorial


def all_busy(readers: int, load: float) -> float:
    """The probability that an arrival finds every reader busy (Erlang C). load: arrivals × mean reading time, below `readers`."""
    if not 0 <= load < readers:
        raise ValueError(f"{readers} readers cannot keep up with a load of {load:g}")
    waiting = load**readers / factorial(readers) * readers / (readers - load)
    return waiting / (sum(load**k / factorial(k) for k in range(readers)) + waiting)


def first_come(rate: float, reading: float, readers: int) -> float:
    """The mean wait when studies are read in the order of their arrival (M/M/c)."""
    return all_busy(readers, rate * reading) * reading / (readers - rate * reading)


def by_priority(rates: Sequence[float], reading: float, readers: int) -> tuple[float, ...]:
    """The mean wait of each class when a reading once begun is finished (Cobham 1954, Davis 1966)."""
    until = [0.0, *accumulate(rate * reading / readers for rate in rates)]
    base = all_busy(readers, until[-1] * readers) * reading / readers
    return tuple(base / ((1 - before) * (1 - own)) for before, own in pairwise(until))


def interrupting(rates: Sequence[float], reading: float, readers: int) -> tuple[float, ...]:
    """The mean wait of each class, interruptions included, when a higher one interrupts a reading (preemptive resume).

    A class does not notice those below it, so the first k classes together are an M/M/c queue (Buzen and Bondi 1983).
    """
    until = list(accumulate(rates))
    waiting = [0.0, *(rate * first_come(rate, reading, readers) for rate in until)]  # Little: how many wait
    return tuple(
        (own - before) / rate if rate else 0.0 for (before, own), rate in zip(pairwise(waiting), rates, strict=True)
    )
