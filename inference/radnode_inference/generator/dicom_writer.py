"""Generated patients as DICOM files, in the layouts that scanners use. Every image carries the generator's mark."""

from copy import deepcopy
from pathlib import Path

from radnode_inference.generator import chest_vendors, vendors
from radnode_inference.generator.breast import BreastPhantom
from radnode_inference.generator.chest import ChestPhantom
from radnode_inference.generator.dicom_enhanced import write_enhanced
from radnode_inference.generator.dicom_parts import (
    Layout,
    Order,
    after,
    common,
    corner,
    date,
    numbers,
    pixel_format,
    plane,
    save,
    time,
)
from radnode_inference.generator.quirks import BREAST, CHEST, quirked
from radnode_inference.generator.stacks import Written, breast_series

CT_IMAGE, MR_IMAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
BREAST_SERIES = {
    Layout.SIEMENS: vendors.siemens,
    Layout.GE: vendors.ge,
    Layout.PHILIPS: vendors.philips,
    Layout.PHILIPS_ENHANCED: vendors.philips_enhanced,
}
MULTI_FRAME = (Layout.ENHANCED, Layout.PHILIPS_ENHANCED)


def write_breast(
    phantom: BreastPhantom, folder: Path, order: Order, *, before_contrast: bool = True
) -> tuple[Path, ...]:
    """The files of a breast MR, below `folder`, one folder for each series; the phase before contrast can be missing."""
    make = BREAST_SERIES.get(order.layout, breast_series)
    series = quirked(make(phantom, order, first_phase=0 if before_contrast else 1), order, BREAST)
    if order.layout in MULTI_FRAME:
        return tuple(write_enhanced(s, folder, order) for s in series)
    return tuple(path for s in series for path in write_classic(s, folder, order, MR_IMAGE))


def write_chest(phantom: ChestPhantom, folder: Path, order: Order, *, leave_out: range = range(0)) -> tuple[Path, ...]:
    """The files of a chest CT; the slices with an index in `leave_out` are missing.

    In a maker's layout: a localizer, and the same slices with a soft and with a sharp kernel.
    """
    series = quirked(chest_vendors.chest_series(phantom, order), order, CHEST)
    return tuple(p for s in series for p in write_classic(s, folder, order, CT_IMAGE, leave_out=leave_out))


def write_classic(
    series: Written, folder: Path, order: Order, sop_class: str, *, leave_out: range = range(0)
) -> tuple[Path, ...]:
    """One single-frame object for each slice of each stack (PS3.3 A.3, A.4)."""
    written: list[Path] = []
    before = 0
    for number, stack in enumerate(series.stacks):
        ds = common(order, "CT" if sop_class == CT_IMAGE else "MR")
        ds.SOPClassUID, ds.SeriesInstanceUID = sop_class, order.uid("series", str(series.number))
        ds.SeriesNumber, ds.SeriesDescription, ds.ProtocolName = series.number, series.description, series.description
        if order.body_part == "BREAST":
            ds.Laterality = ""  # both: the attribute has no word for it
        for keyword, value in stack.attributes.items():
            setattr(ds, keyword, value)
        for element in stack.private:
            element.write(ds)
        when = after(order, stack.says_s)
        ds.SeriesDate, ds.SeriesTime = date(when), time(after(order, series.stacks[0].says_s))
        ds.AcquisitionDate, ds.ContentDate = date(when), date(when)
        ds.AcquisitionTime, ds.ContentTime = time(when), time(when)
        ds.AcquisitionNumber = number + 1
        plane(ds, stack.grid)
        pixel_format(ds, (stack.pixels.shape[1], stack.pixels.shape[2]), stack.bits, signed=stack.signed)
        for index, pixels in enumerate(stack.pixels):
            if index in leave_out:
                continue
            ds.InstanceNumber = before + index + 1
            ds.SOPInstanceUID = order.uid("image", str(series.number), str(ds.InstanceNumber))
            ds.ImagePositionPatient = numbers(corner(stack.grid, index))
            path = folder / f"{series.number:02d}" / f"{ds.InstanceNumber:05d}.dcm"
            image = deepcopy(ds) if stack.edits else ds.copy()
            for edit in stack.edits:
                edit(image, index)
            written.append(save(image, pixels, image.SOPClassUID, path, order.compression))
        before += len(stack.pixels)
    return tuple(written)
