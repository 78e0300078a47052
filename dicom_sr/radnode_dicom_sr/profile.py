"""What a destination takes of a result, and in which form."""

from dataclasses import dataclass
from typing import Literal

Segmented = Literal["binary", "labelmap"]
Language = Literal["en", "zh-TW"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one destination takes. Two destinations with equal profiles get the same objects, with the same UIDs.

    seg: how masks are written; None: not at all, and the report then says everything with outlines alone.
    """

    seg: Literal["binary"] | None = "binary"
    sr: bool = True
    key_images: bool = True


DEFAULT = Profile()
