"""What real scanners, workstations and archives do to a study, by name, as an option of the generator (`Order.quirks`)."""

import numpy as np

from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.quirks_chest import CHEST_QUIRKS
from radnode_inference.generator.quirks_headers import HEADER_QUIRKS
from radnode_inference.generator.quirks_parts import Quirk, Series
from radnode_inference.generator.quirks_series import SERIES_QUIRKS

BREAST: dict[str, Quirk] = {**SERIES_QUIRKS, **HEADER_QUIRKS}
CHEST: dict[str, Quirk] = CHEST_QUIRKS


def quirked(series: Series, order: Order, known: dict[str, Quirk]) -> Series:
    """The series with the quirks that the order names, in turn. Raises KeyError for one that is not known."""
    for name in order.quirks:
        series = known[name].change(series, order)
    return series


def some_quirks(seed: int, layout: Layout, known: dict[str, Quirk], most: int = 3) -> tuple[str, ...]:
    """One to `most` different quirks that a layout can have, chosen by the seed."""
    rng = np.random.default_rng((seed, 11))
    names = [n for n, q in known.items() if layout in q.layouts]
    picked = rng.choice(names, size=min(int(rng.integers(1, most + 1)), len(names)), replace=False)
    return tuple(str(n) for n in picked)
