"""What is odd about chest CTs as scanners and archives leave them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.quirks_parts import Change, Quirk, Series, giving
from radnode_inference.generator.stacks import Edit, Stack, Written

MAKERS = (Layout.SIEMENS, Layout.GE, Layout.PHILIPS)
EVERY = (Layout.SERIES, *MAKERS)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def slices(series: Series) -> list[Written]:
    """The series of axial slices."""
    return [w for w in series if len(w.stacks[0].pixels) > 1]


def more_stacks(make: Callable[[Stack], Stack]) -> Change:
    """A stack more in the first series of slices."""

    def added(series: Series, order: Order) -> Series:
        first = slices(series)[0]
        return tuple(replace(w, stacks=(*w.stacks, make(w.stacks[0]))) if w is first else w for w in series)

    return added


def every_slice(edit: Edit) -> Change:
    def changed(series: Series, order: Order) -> Series:
        wanted = slices(series)
        return tuple(replace(w, stacks=tuple(s.edited(edit) for s in w.stacks)) if w in wanted else w for w in series)

    return changed


def one(stack: Stack, edit: Edit) -> Stack:
    return replace(stack, pixels=stack.pixels[:1], grid=replace(stack.grid, shape=(1, *stack.grid.shape[1:]))).edited(
        edit
    )


def dose_report(stack: Stack) -> Stack:
    """A table of doses as a picture, in the series of the slices; it lies nowhere."""
    return one(
        stack,
        giving(
            ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"], SOPClassUID=SECONDARY_CAPTURE, ImagePositionPatient=None,
            ImageOrientationPatient=None, PixelSpacing=None,
        ),
    )  # fmt: skip


def localizer(stack: Stack) -> Stack:
    """The frontal projection in the series of the slices."""
    return one(
        stack,
        giving(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=["1", "0", "0", "0", "0", "-1"]),
    )


def half(stack: Stack) -> Stack:
    """Half of the slices once more, with other UIDs."""
    count = len(stack.pixels) // 2
    return replace(stack, pixels=stack.pixels[:count], grid=replace(stack.grid, shape=(count, *stack.grid.shape[1:])))


def thick(series: Series, order: Order) -> Series:
    """Maxima over slabs of five slices, called original, longer than the slices that they are made of."""
    first = slices(series)[0]
    stack = first.stacks[0]
    slab = np.stack([stack.pixels[max(i - 4, 0) : i + 1].max(axis=0) for i in range(len(stack.pixels))])
    return (*series, Written(number=91, description="Thorax MIP 10 mm", stacks=(replace(stack, pixels=slab),)))


CHEST_QUIRKS = {
    "dose-report-within": Quirk(seen="GE, Canon", layouts=EVERY, change=more_stacks(dose_report)),
    "localizer-within": Quirk(seen="GE", layouts=EVERY, change=more_stacks(localizer)),
    "images-twice": Quirk(seen="sent again by a workstation", layouts=EVERY, change=more_stacks(half)),
    "mip-as-original": Quirk(seen="workstations", layouts=EVERY, change=thick),
    "kernel-gone": Quirk(seen="de-identified", layouts=EVERY, change=every_slice(giving(ConvolutionKernel=None))),
    "rescale-type-gone": Quirk(seen="de-identified", layouts=EVERY, change=every_slice(giving(RescaleType=None))),
}
