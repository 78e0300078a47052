"""What a destination takes of a result, and in which form."""

from dataclasses import dataclass
from typing import Literal

from radnode_dicom_sr.words import Language

Form = tuple[str, ...]
Segmented = Literal["binary", "labelmap", "labelmap-rle"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one destination takes. Two destinations with equal profiles get the same objects, with the same UIDs.

    seg: how masks are written; None: not at all, and the report then says everything with outlines alone. A label map
    cannot show overlapping findings, which then come in several objects; "labelmap-rle" compresses it without loss.
    frame_cap: the most frames that one object may have; a longer one is split (None: no limit).
    parametric_maps: the maps of a model, as 32-bit numbers. pdf: the report as a page to read. kos: a selection of the key images.
    rtstruct: outlines on every slice.
    status: a visible object where the AI declined, failed or saw only a part. language: of the sentences in reports.
    """

    seg: Segmented | None = "binary"
    frame_cap: int | None = None
    sr: bool = True
    key_images: bool = True
    parametric_maps: bool = True
    pdf: bool = False
    kos: bool = False
    rtstruct: bool = False
    status: bool = False
    language: Language = "en"

    def __post_init__(self) -> None:
        if self.frame_cap is not None and self.frame_cap < 1:
            raise ValueError("an object has at least one frame")

    @property
    def spoken(self) -> Form:
        """What the language makes different about an object with sentences in it."""
        return () if self.language == "en" else (self.language,)

    @property
    def labelled(self) -> bool:
        return self.seg in ("labelmap", "labelmap-rle")


DEFAULT = Profile()
