"""The input gates of a weights card: what images must be like for these weights. docs/adding-a-model.md explains each key."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from radnode_inference.header import Header
from radnode_inference.match import GIVEN, contrast_of, is_sharp, thickness_of
from radnode_inference.model import DeclinedError
from radnode_inference.volume import Volume

Bounds = tuple[float, float]
REGION_KEYWORDS = ("BodyPartExamined", "SeriesDescription", "ProtocolName", "StudyDescription")
DAYS_A_YEAR = 365.25


class Gates(BaseModel):
    """Every key may be left out; bounds are the lowest and the highest value that is allowed.

    modality: the DICOM Modality. region: words, one of which the body part, series, protocol or study description must
    hold (nothing stated at all is a doubt, not a refusal). slice_mm: of the larger of slice distance and thickness.
    pixel_mm: of the pixel spacing. coverage_mm: along the slices, at least. kernel: "soft", or the names allowed.
    contrast: "given" or "none", by the contrast agent that the images state; an image made with one must state it (PS3.3 table
    A.3-1). age_years, sex (M, F or O): of the patient.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str | None = None
    region: tuple[Annotated[str, Field(min_length=2)], ...] = ()
    slice_mm: Bounds | None = None
    pixel_mm: Bounds | None = None
    coverage_mm: Annotated[float, Field(gt=0)] | None = None
    kernel: str | tuple[str, ...] | None = None
    contrast: Literal["given", "none"] | None = None
    age_years: Bounds | None = None
    sex: str | None = None

    def admit(self, header: Header, volume: Volume) -> tuple[str, ...]:
        """What a reader must know: gates that could not be asked, and those that are passed. Raises DeclinedError with the gate's name."""
        asked = [
            self.asked_modality(header), self.asked_region(header), self.asked_slices(header, volume),
            self.asked_pixels(volume), self.asked_coverage(volume), self.asked_kernel(header),
            self.asked_contrast(header), self.asked_age(header), self.asked_sex(header),
        ]  # fmt: skip
        unasked = [words for words in asked if words and words.startswith("Gate ")]
        passed = [words for words in asked if words and not words.startswith("Gate ")]
        return (*unasked, *((f"Input gates of the weights passed: {', '.join(passed)}.",) if passed else ()))

    def asked_modality(self, header: Header) -> str | None:
        if self.modality is None:
            return None
        found = header.text("Modality")
        if found != self.modality:
            raise DeclinedError("modality", f"the images are {found or 'of no stated modality'}, not {self.modality}")
        return f"modality ({found})"

    def asked_region(self, header: Header) -> str | None:
        if not self.region:
            return None
        said = [header.text(k).upper() for k in REGION_KEYWORDS]
        wanted = next((w for w in self.region if any(w.upper() in s for s in said)), None)
        if wanted is not None:
            return f"region ({wanted.lower()})"
        if not any(said):
            return "Gate region: the images do not say what they show."
        shown = "; ".join(dict.fromkeys(s for s in said if s))
        raise DeclinedError("region", f"the images show {shown}, the weights need {' or '.join(self.region)}")

    def asked_slices(self, header: Header, volume: Volume) -> str | None:
        mm = max(thickness_of(header) or 0.0, volume.spacing[0])
        return within("slice-spacing", "slices", mm, self.slice_mm, "mm")

    def asked_pixels(self, volume: Volume) -> str | None:
        return within("pixel-spacing", "pixels", max(volume.spacing[1:]), self.pixel_mm, "mm")

    def asked_coverage(self, volume: Volume) -> str | None:
        bounds = None if self.coverage_mm is None else (self.coverage_mm, np.inf)
        return within("coverage", "coverage", volume.spacing[0] * len(volume.voxels), bounds, "mm")

    def asked_kernel(self, header: Header) -> str | None:
        if self.kernel is None:
            return None
        name = next(iter(header.stated("ConvolutionKernel")), "")
        if not name:
            return "Gate kernel: the images do not state their kernel."
        fits = not is_sharp(name) if self.kernel == "soft" else name.upper() in {k.upper() for k in words(self.kernel)}
        if not fits:
            wanted = "a soft one" if self.kernel == "soft" else " or ".join(words(self.kernel))
            raise DeclinedError("kernel", f"the kernel is {name}, the weights need {wanted}")
        if self.kernel == "soft" and is_sharp(name) is None:
            return f"Gate kernel: it is not known whether the kernel {name} is soft."
        return f"kernel ({name})"

    def asked_contrast(self, header: Header) -> str | None:
        if self.contrast is None:
            return None
        agent = contrast_of(header)
        if bool(agent) != (self.contrast == GIVEN):
            found = f"were made with the contrast agent {agent}" if agent else "state no contrast agent"
            raise DeclinedError("contrast", f"the images {found}, the weights need {'one' if not agent else 'none'}")
        return f"contrast ({agent or 'none stated'})"

    def asked_age(self, header: Header) -> str | None:
        if self.age_years is None:
            return None
        years = age_of(header)
        if years is None:
            return "Gate age: the images do not state the patient's age."
        return within("age", "age", years, self.age_years, "years")

    def asked_sex(self, header: Header) -> str | None:
        if self.sex is None:
            return None
        found = header.text("PatientSex").upper()
        if not found:
            return "Gate sex: the images do not state the patient's sex."
        if found != self.sex.upper():
            raise DeclinedError("sex", f"the patient's sex is {found}, the weights are for {self.sex}")
        return f"sex ({found})"


def words(kernel: str | Sequence[str]) -> tuple[str, ...]:
    return (kernel,) if isinstance(kernel, str) else tuple(kernel)


def within(gate: str, what: str, value: float, bounds: Bounds | None, unit: str) -> str | None:
    """The gate in words. Raises DeclinedError when a value is outside its bounds (with a percent of slack for rounding)."""
    if bounds is None:
        return None
    low, high = bounds
    if not 0.99 * low <= value <= 1.01 * high:
        wanted = f"at least {low:g}" if high == np.inf else f"{low:g} to {high:g}"
        raise DeclinedError(gate, f"{what}: {value:.3g} {unit}, the weights need {wanted} {unit}")
    return f"{what} ({value:.3g} {unit})"


def age_of(header: Header) -> float | None:
    """Years, from Patient's Age (PS3.5 section 6.2: 045Y, 006M, 003W, 010D), else from birth and study dates."""
    if found := re.fullmatch(r"(\d{1,3})([DWMY])", header.text("PatientAge")):
        return int(found[1]) / {"D": DAYS_A_YEAR, "W": DAYS_A_YEAR / 7, "M": 12.0, "Y": 1.0}[found[2]]
    try:
        born, seen = (datetime.strptime(header.text(k), "%Y%m%d") for k in ("PatientBirthDate", "StudyDate"))
    except ValueError:
        return None
    return (seen - born).days / DAYS_A_YEAR


def from_card(given: Mapping[str, Any]) -> Gates:
    """Raises pydantic's ValidationError, a ValueError, for a key that is not known or of a wrong kind."""
    return Gates.model_validate(dict(given))
