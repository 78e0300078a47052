"""A slice as a picture: grey values by window, square pixels, outlines, words around it. Knows pixels, not DICOM."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from radnode_dicom_sr.contour import outlines
from radnode_inference.volume import BoolArray, FloatArray

LONG_SIDE = 768
MARGIN = 12
Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
YELLOW: Colour = (255, 220, 0)


@dataclass(frozen=True, kw_only=True)
class Outlined:
    mask: BoolArray  # [row, column]
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Picture:
    """pixels: float [row, column]. spacing: mm between (rows, columns). window: centre and width.

    directions: what lies at the left, right, top and bottom edge, as letters of PS3.3 C.7.6.1.1.1.
    """

    pixels: FloatArray
    spacing: tuple[float, float]
    window: tuple[float, float]
    shapes: Sequence[Outlined]
    caption: Sequence[str]
    banner: str
    directions: tuple[str, str, str, str]

    def draw(self) -> NDArray[np.uint8]:
        """uint8 [row, column, RGB]: the slice, a banner above it where there is one, the caption below it."""
        height, width = self.size()
        slice_image = Image.fromarray(grey(self.pixels, self.window)).resize((width, height), Image.Resampling.BICUBIC)
        picture = slice_image.convert("RGB")
        scale = (height / self.pixels.shape[0], width / self.pixels.shape[1])
        pen = ImageDraw.Draw(picture)
        for shape in self.shapes:
            for border in outlines(shape.mask):
                points = [((c + 0.5) * scale[1], (r + 0.5) * scale[0]) for r, c in border]
                pen.line(points, fill=shape.colour, width=2, joint="curve")
        letters(pen, self.directions, width, height)
        above = strip([self.banner], width, YELLOW, 17) if self.banner else None
        below = strip(self.caption, width, WHITE, 19)
        parts = [p for p in (above, picture, below) if p is not None]
        return np.concatenate([np.asarray(p, dtype=np.uint8) for p in parts], axis=0)

    def size(self) -> tuple[int, int]:
        """Height and width in pixels that are square in the patient, the longer side LONG_SIDE."""
        high = self.pixels.shape[0] * self.spacing[0]
        wide = self.pixels.shape[1] * self.spacing[1]
        scale = LONG_SIDE / max(high, wide)
        return max(1, round(high * scale)), max(1, round(wide * scale))


def page(title: str, lines: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 [row, column, RGB]: words on black, a title in yellow above them."""
    parts = [strip([title], LONG_SIDE, YELLOW, 26), strip(lines, LONG_SIDE, WHITE, 19)]
    height = sum(p.height for p in parts)
    rest = Image.new("RGB", (LONG_SIDE, max(LONG_SIDE // 2 - height, 1)))
    return np.concatenate([np.asarray(p, dtype=np.uint8) for p in (*parts, rest)], axis=0)


def grey(pixels: FloatArray, window: tuple[float, float]) -> NDArray[np.uint8]:
    """0..255 by the linear window of PS3.3 C.11.2.1.2, near enough for a picture."""
    centre, width = window
    level = (pixels - (centre - width / 2)) / max(width, 1e-6) * 255
    shown: NDArray[np.uint8] = np.nan_to_num(np.clip(level, 0, 255)).astype(np.uint8)
    return shown


def letters(pen: ImageDraw.ImageDraw, directions: tuple[str, str, str, str], width: int, height: int) -> None:
    """What lies where, in yellow at the middle of each edge."""
    left, right, top, bottom = directions
    font = ImageFont.load_default(20)
    places = (
        (left, (MARGIN, height / 2), "lm"),
        (right, (width - MARGIN, height / 2), "rm"),
        (top, (width / 2, MARGIN), "mt"),
        (bottom, (width / 2, height - MARGIN), "mb"),
    )
    for letter, place, anchor in places:
        pen.text(place, letter, fill=YELLOW, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def strip(lines: Sequence[str], width: int, colour: Colour, size: int) -> Image.Image:
    """Lines of text on black, broken where they are wider than the picture."""
    font = ImageFont.load_default(size)
    broken = [part for line in lines for part in wrapped(line, font, width - 2 * MARGIN)]
    image = Image.new("RGB", (width, len(broken) * (size + 6) + MARGIN))
    pen = ImageDraw.Draw(image)
    for i, line in enumerate(broken):
        pen.text((MARGIN, MARGIN // 2 + i * (size + 6)), line, fill=colour, font=font)
    return image


def wrapped(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    found = [""]
    for word in line.split():
        longer = f"{found[-1]} {word}".strip()
        if font.getlength(longer) > width and found[-1]:
            found.append(word)
        else:
            found[-1] = longer
    return found
