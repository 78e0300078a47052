"""The words of Image Type and of descriptions by which the images of a breast MR are told apart."""

import re

from radnode_inference.models.breast_mri.roles_dixon import NOT_WATER, WATER

NOT_SOURCES = frozenset(
    ("LOCALIZER", "SCOUT", "MIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "MPR", "SCREEN SAVE", "POSDISP", "MOSAIC")
)
SUBTRACTED = frozenset(("SUB", "SUBTRACT", "SUBTRACTION", "SUBTRACTED"))
SAID_DYNAMIC = frozenset(("DYN", "DYNAMIC", "DCE", "VIBRANT", "THRIVE", "ETHRIVE", "FLASH3D"))
SAID_DIFFUSION = frozenset(("DWI", "DIFF", "DIFFUSION", "TRACEW"))
SAID_ADC = frozenset(("ADC", "APPARENT", "DADC"))
SAID_EXPONENTIAL = frozenset(("EXPONENTIAL", "EADC", "EXPADC"))
"""An exponential map beside the ADC map: what is left of the signal, not a coefficient."""
SAID_MAP = frozenset(("MIP", "MIPS", "MPR", "TTP", "TTC", "PEI", "WASHIN", "WASHOUT"))
NOT_MAGNITUDE = frozenset(("P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"))
CORRECTED = frozenset(("ND", "NORM", "DIS2D", "DIS3D", "FIL", "FM", "MOCO"))
"""Words of Image Type (Siemens) that tell apart images made twice of one acquisition, with and without corrections."""
UNDISTORTED = frozenset(("DIS2D", "DIS3D"))
MOVED = frozenset(("MOCO", "MOCOSERIES"))
"""Images that the scanner moved to each other."""
TRACE = "TRACEW"
TELLING = (
    NOT_SOURCES | SUBTRACTED | WATER | NOT_WATER | NOT_MAGNITUDE | CORRECTED | {"ADC", "EADC", TRACE, "DERIVED", "MIXED"}
)  # fmt: skip
"""Words by which images of one series are taken apart: what they say decides on the role."""
SUBTRACTION_NAME = re.compile(r"SUB\d*|SUBS|SUBT\w*")


def word_set(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Z0-9]+", text.upper()))


def telling(words: frozenset[str]) -> frozenset[str]:
    """The words by which images are taken apart; all projections are one kind."""
    return words & TELLING | ({"MIP"} if any(w.startswith("MIP") for w in words) else set())


def is_projection(words: frozenset[str]) -> bool:
    return bool(words & NOT_SOURCES) or any(w.startswith("MIP") for w in words)


def names_subtraction(description: str) -> bool:
    """Whether a series is called a subtraction. Its protocol's name does not count: it is that of its source, too."""
    return any(SUBTRACTION_NAME.fullmatch(word) for word in word_set(description))
