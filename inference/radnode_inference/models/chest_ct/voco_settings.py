"""What the card of VoCo weights says: how the network is fed and what its classes mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radnode_inference.findings import Code, Kind
from radnode_inference.measure import LEFT, RIGHT
from radnode_inference.preprocess import Size
from radnode_inference.weights import WeightsError, WeightsFile, code

Spacing = tuple[float, float, float]
UNREPORTED = ("background", "negative")


@dataclass(frozen=True, kw_only=True)
class ClassSetting:
    """One output channel. `concept` None: background, not reported.

    smallest_mm3: connected parts below it are dropped. separate: each connected part is a finding of its own.
    calibration: (slope, offset) from a part's mean log-odds to the log-odds of its probability; None: used as it is.
    threshold: a part less probable than this is not reported. laterality: of a class that is one side's. colour: sRGB, 0..255.
    """

    name: str
    kind: Kind | None
    concept: Code | None
    site: Code | None
    smallest_mm3: float
    separate: bool
    calibration: tuple[float, float] | None
    threshold: float
    laterality: Code | None = None
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class VocoSettings:
    """spacing_mm to the right, front, head. window_hu is scaled to 0..1. body_hu: what is brighter is body; the rest is cropped.

    roi: of the windows; with `whole`, the size that the whole body is brought to for a network that classifies, and
    `repeat_depth` how often it is put behind itself along the third axis (VoCo's CC-CCII: twice).
    """

    spacing_mm: Spacing
    window_hu: tuple[float, float]
    body_hu: float
    roi: Size
    overlap: float
    classes: tuple[ClassSetting, ...]
    whole: bool = False
    repeat_depth: int = 1

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> "VocoSettings":
        """Raises WeightsError when the card lacks something or says it in a wrong form."""
        try:
            given = weights.settings["input"]
            spacing, window = given["spacing_mm"], given["window_hu"]
            if "size" not in given and weights.settings["classes"][0]["kind"] not in UNREPORTED:
                raise ValueError("the first class of a segmentation must be the background")
            found = cls(
                spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
                window_hu=(float(window[0]), float(window[1])),
                body_hu=float(given.get("body_hu", window[0])),
                roi=window_size(given["size"] if "size" in given else given["roi"]),
                whole="size" in given,
                repeat_depth=max(int(given.get("repeat_depth", 1)), 1),
                overlap=float(given.get("overlap", 0.5)),
                classes=tuple(class_setting(c) for c in weights.settings["classes"]),
            )
            found.check()
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise WeightsError(f"the card of {weights.name}: {type(e).__name__} {e}") from e
        return found

    def check(self) -> None:
        """Raises ValueError for numbers that would show the network nothing of the patient: it would find nothing, silently."""
        low, high = self.window_hu
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"window_hu from {low:g} to {high:g}; the first must be the lower one")
        if not math.isfinite(self.body_hu):
            raise ValueError(f"body_hu {self.body_hu:g} is no number")
        if not all(0 < mm < math.inf for mm in self.spacing_mm):
            raise ValueError(f"spacing_mm {self.spacing_mm}: each must be above 0")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap {self.overlap:g}; it is a part of the window, from 0 to below 1")
        for c in self.classes:
            slope, offset = c.calibration or (1.0, 0.0)
            if not (0 < slope < math.inf and math.isfinite(offset) and 0 <= c.smallest_mm3 < math.inf):
                raise ValueError(f"calibration or smallest_mm3 of {c.name}: a slope above 0 and numbers are needed")


def window_size(given: Sequence[int]) -> Size:
    """The sides of the network's window. Raises ValueError for one that the network's five halvings leave nothing of."""
    x, y, z = (int(side) for side in given)
    if any(side < 32 or side % 32 for side in (x, y, z)) or (x, y, z) == (32, 32, 32):
        raise ValueError(f"a window of {x} x {y} x {z}: its sides must be multiples of 32, and one of them at least 64")
    return x, y, z


def class_setting(given: Mapping[str, Any]) -> ClassSetting:
    kind = None if given["kind"] in UNREPORTED else Kind(given["kind"])
    calibration = given.get("calibration")
    return ClassSetting(
        name=str(given["name"]),
        kind=kind,
        concept=None if kind is None else code(given["concept"]),
        site=code(given["site"]) if "site" in given else None,
        smallest_mm3=float(given.get("smallest_mm3", 0.0)),
        separate=bool(given.get("separate", kind is Kind.ABNORMALITY)),
        calibration=None if calibration is None else (float(calibration[0]), float(calibration[1])),
        threshold=float(given.get("threshold", 0.0)),
        laterality={"left": LEFT, "right": RIGHT}[given["laterality"]] if given.get("laterality") else None,
        colour=tuple(given["colour"]) if given.get("colour") else None,
    )
