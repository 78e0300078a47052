"""Images of a Dixon acquisition: water is what a fat-suppressed acquisition shows; fat, in and out of phase are no role.

Image Type as the makers write it: Siemens DERIVED\\PRIMARY\\DIXON\\WATER, GE WATER or a description `WATER: ...`, Philips W
(of which echo: W_FFE). Such images are computed from two echoes and so often called DERIVED, but are what was acquired.
"""

import re
from collections.abc import Set

WATER = frozenset(("WATER", "W", "W_FFE", "W_TSE", "W_SE"))
NOT_WATER = frozenset(
    (
        "FAT", "F", "F_FFE", "F_TSE", "F_SE", "IN", "OPP", "OUT", "IP", "OP", "IP_FFE", "OP_FFE", "IN_PHASE", "OPP_PHASE",
        "OUT_PHASE", "INPHASE", "OUTPHASE", "OUT_OF_PHASE", "FAT_FRACTION", "WATER_FRACTION", "FF", "T2_STAR", "R2_STAR",
    )
)  # fmt: skip
GE_PREFIX = re.compile(r"\s*(WATER|FAT|INPHASE|OUTPHASE)\s*:", re.IGNORECASE)


def is_water(words: Set[str], description: str) -> bool:
    """By the words of Image Type, or GE's prefix of the description."""
    named = GE_PREFIX.match(description)
    return bool(words & WATER) or bool(named and named[1].upper() == "WATER")


def not_water(words: Set[str], description: str) -> str:
    """What says that images are the fat, in-phase or out-of-phase ones of a Dixon acquisition, or ""."""
    if words & NOT_WATER and not words & WATER:
        return "ImageType"
    named = GE_PREFIX.match(description)
    return "its description" if named and not is_water(words, description) else ""
