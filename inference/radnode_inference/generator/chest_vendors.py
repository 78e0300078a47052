"""A generated chest CT as Siemens, GE and Philips scanners hand it over: kernels, rescale, padding and private blocks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from radnode_inference.generator.chest import ChestPhantom
from radnode_inference.generator.dicom_parts import Layout, Order, Private
from radnode_inference.generator.fields import Grid
from radnode_inference.generator.stacks import Stack, Written
from radnode_inference.volume import FloatArray

BEGAN_S, SCOUT_S = 20.0, 5.0
SHARPEN, SHARP_NOISE_HU = 0.9, 35.0
PADDING_GE = -2000
ATTRIBUTES = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "KVP": "120",
    "XRayTubeCurrent": 180,
    "ConvolutionKernel": "STANDARD",
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
    "RescaleType": "HU",
    "WindowCenter": "-500",
    "WindowWidth": "1500",
}


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What a maker's chest CT says. kernels: the soft and the sharp one; intercept: the rescale's, in HU."""

    name: str
    model: str
    kernels: tuple[Any, Any]
    descriptions: tuple[str, str, str]
    image_type: tuple[str, ...]
    intercept: int
    private: tuple[Private, ...]
    padded: bool = False
    feet_first: bool = False


MAKERS = {
    Layout.SIEMENS: Maker(
        name="SIEMENS", model="SOMATOM Force", kernels=(["Br40d", "3"], "B70f"),
        descriptions=("Topogram 0.6 Tr20", "Thorax 2.0 Br40", "Thorax 2.0 B70f"),
        image_type=("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"), intercept=-8192,
        private=(
            Private(tag=0x00191092, creator="SIEMENS CT VA0  COAD", vr="DS", value="0"),
            Private(tag=0x001910B0, creator="SIEMENS CT VA0  COAD", vr="DS", value="46"),
        ),
    ),
    Layout.GE: Maker(
        name="GE MEDICAL SYSTEMS", model="Revolution CT", kernels=("STANDARD", "LUNG"),
        descriptions=("SCOUT", "CHEST STD", "CHEST LUNG"), image_type=("ORIGINAL", "PRIMARY", "AXIAL"), intercept=-1024,
        private=(
            Private(tag=0x00431040, creator="GEMS_PARM_01", vr="FL", value=178.0),
            Private(tag=0x00451001, creator="GEMS_HELIOS_01", vr="SS", value=64),
        ),
        padded=True,
    ),
    Layout.PHILIPS: Maker(
        name="Philips", model="iCT 256", kernels=("B", "YA"),
        descriptions=("Surview", "Thorax 2.0 B", "Thorax 2.0 YA"), image_type=("ORIGINAL", "PRIMARY", "AXIAL", "HELIX"),
        intercept=-1024, private=(Private(tag=0x01E11026, creator="ELSCINT1", vr="CS", value="N"),), feet_first=True,
    ),
}  # fmt: skip
"""Philips hands the slices over from the feet up or the head down as the scan went; here the order is turned."""


def chest_series(phantom: ChestPhantom, order: Order) -> tuple[Written, ...]:
    """One series of standard attributes, or a maker's: localizer, soft kernel, sharp kernel."""
    maker = MAKERS.get(Layout.PHILIPS if order.layout is Layout.PHILIPS_ENHANCED else order.layout)
    if maker is None:
        pixels = np.clip(np.rint(phantom.hu) + 1024, 0, 4095).astype(np.uint16)
        attributes = {**ATTRIBUTES, "SliceThickness": f"{phantom.grid.spacing[0]:.6f}"}
        stack = Stack(pixels=pixels, grid=phantom.grid, begins_s=BEGAN_S, bits=12, attributes=attributes)
        return (Written(number=2, description="Chest 2.5 mm soft", stacks=(stack,)),)
    images: tuple[Callable[[ChestPhantom], FloatArray], ...] = (lambda p: p.hu, sharp)
    made = [
        Written(number=2 + n, description=description, stacks=(axial(phantom, image(phantom), maker, n),))
        for n, (image, description) in enumerate(zip(images, maker.descriptions[1:], strict=True))
    ]
    return Written(number=1, description=maker.descriptions[0], stacks=(scout(phantom, maker),)), *made


def axial(phantom: ChestPhantom, hu: FloatArray, maker: Maker, kernel: int) -> Stack:
    """The slices with the maker's soft (0) or sharp (1) kernel."""
    attributes = {
        **ATTRIBUTES,
        "ImageType": list(maker.image_type),
        "Manufacturer": maker.name,
        "ManufacturerModelName": maker.model,
        "ConvolutionKernel": maker.kernels[kernel],
        "SliceThickness": f"{phantom.grid.spacing[0]:.6f}",
        "RescaleIntercept": str(maker.intercept),
        "GantryDetectorTilt": "0",
        "SpiralPitchFactor": 0.984,
        "PatientAge": "056Y",
    }
    pixels, grid = np.rint(hu) - maker.intercept, phantom.grid
    if maker.padded:
        pixels[:, outside_circle(grid)] = PADDING_GE
        attributes["PixelPaddingValue"] = PADDING_GE
    if maker.feet_first:
        affine = grid.affine.copy()
        affine[:3, 3] += affine[:3, 0] * (grid.shape[0] - 1)
        affine[:3, 0] = -affine[:3, 0]
        pixels, grid = pixels[::-1], Grid(shape=grid.shape, affine=affine)
    stack = Stack(
        pixels=pixels.astype(np.int16).view(np.uint16) if maker.padded else pixels.astype(np.uint16),
        grid=grid,
        begins_s=BEGAN_S,
        signed=maker.padded,
        attributes=attributes,
    )
    return stack.having(*maker.private)


def sharp(phantom: ChestPhantom) -> FloatArray:
    """The same slices with raised edges and more noise, as an edge-enhancing kernel shows them."""
    rng = np.random.default_rng((phantom.seed, 4))
    blurred = ndimage.gaussian_filter(phantom.hu, (0, 1.0, 1.0))
    noise = rng.standard_normal(phantom.hu.shape, dtype=np.float32)
    raised = phantom.hu + np.float32(SHARPEN) * (phantom.hu - blurred) + np.float32(SHARP_NOISE_HU) * noise
    limited: FloatArray = np.clip(raised, -1024, 3071).astype(np.float32)
    return limited


def outside_circle(grid: Grid) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """What lies outside the circle that the scanner reconstructs, [row, column]."""
    _, rows, columns = grid.shape
    r, c = np.ogrid[:rows, :columns]
    outside = (r - (rows - 1) / 2) ** 2 / (rows / 2) ** 2 + (c - (columns - 1) / 2) ** 2 / (columns / 2) ** 2 > 1
    return np.asarray(outside, bool)


def scout(phantom: ChestPhantom, maker: Maker) -> Stack:
    """The frontal projection from which the scan was planned."""
    density = np.clip(phantom.hu + 1000, 0, None).mean(axis=1)
    affine = np.eye(4)
    affine[:3, 0] = (0.0, 1.0, 0.0)
    affine[:3, 1] = phantom.grid.affine[:3, 0]
    affine[:3, 2] = phantom.grid.affine[:3, 2]
    affine[:3, 3] = phantom.grid.affine[:3, 3] + phantom.grid.affine[:3, 1] * phantom.grid.shape[1] / 2
    rows, columns = density.shape
    attributes = {
        **{k: v for k, v in ATTRIBUTES.items() if k != "ConvolutionKernel"},
        "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        "Manufacturer": maker.name,
        "ManufacturerModelName": maker.model,
        "SliceThickness": f"{phantom.grid.spacing[1]:.6f}",
    }
    return Stack(
        pixels=np.rint(density).astype(np.uint16)[None],
        grid=Grid(shape=(1, rows, columns), affine=affine),
        begins_s=SCOUT_S,
        attributes=attributes,
    )
