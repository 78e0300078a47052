"""The two lungs on the working grid: air inside the body, less the airways, told right from left, closed over vessels."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels, watershed

from radnode_inference.models.chest_ct.lung_grid import Grid, Triple
from radnode_inference.volume import BoolArray

Labels = NDArray[np.uint8]
RIGHT, LEFT = 1, 2
TISSUE_HU = -500.0
AIR_HU = -320.0
FREE_GAS_HU = -975.0
"""A component whose median lies below is gas (bowel, the room), not lung; even grave emphysema stays above."""
PART_ML = 40.0
CLOSING_MM = 8.0


def body(work: Grid) -> BoolArray:
    """The patient with everything inside: the largest piece of tissue, filled axial slice by axial slice.

    An opening first parts the body from the table and from thin cables and clothes.
    """
    solid = ndimage.binary_opening(work.hu > TISSUE_HU, ndimage.generate_binary_structure(3, 1))
    labels, count = ndimage.label(solid)
    if count == 0:
        return np.zeros(solid.shape, bool)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])


def parts(work: Grid, inside: BoolArray, airways: BoolArray) -> Labels:
    """The air-filled lung tissue as labelled pieces (1..n, largest first); airways and free gas are left out."""
    walls = ndimage.binary_dilation(airways, ndimage.generate_binary_structure(3, 1))
    labels, count = ndimage.label((work.hu < AIR_HU) & inside & ~walls)
    millilitres = np.bincount(labels.ravel(), minlength=count + 1) * work.voxel_ml
    out = np.zeros(labels.shape, np.uint8)
    kept, boxes = 0, ndimage.find_objects(labels)
    for label in 1 + np.argsort(-millilitres[1:]):
        if millilitres[label] < PART_ML:
            break
        box = boxes[label - 1]
        piece = labels[box] == label
        if np.median(work.hu[box][piece]) > FREE_GAS_HU:
            kept += 1
            out[box][piece] = kept
    return out


def sides(pieces: Labels, spacing: Triple, middle_mm: float) -> Labels:
    """Right (1) and left (2) lung. `middle_mm`: x of the body's middle on this grid.

    A piece that spans both sides is cut where it is thinnest: watershed of the distance to its rim, from the two
    largest cores that lie on different sides. Every other piece belongs to the side of its centre.
    """
    out = np.zeros(pieces.shape, np.uint8)
    for label, box in enumerate(ndimage.find_objects(pieces), 1):
        piece = np.pad(pieces[box] == label, 1)
        offset = box[2].start - 1
        cut = split(piece, spacing, middle_mm - offset * spacing[2])
        inner = cut[1:-1, 1:-1, 1:-1]
        out[box][inner > 0] = inner[inner > 0]
    return out


def split(piece: BoolArray, spacing: Triple, middle_mm: float) -> Labels:
    """One piece, told into right (1) and left (2) with the middle at `middle_mm` along x."""
    depth = ndimage.distance_transform_edt(piece, sampling=spacing)
    for core_mm in (2.0, 4.0, 6.0, 9.0, 12.0, 16.0, 20.0, 25.0):
        cores, count = ndimage.label(depth > core_mm)
        if count < 2:
            continue
        size = np.bincount(cores.ravel())
        size[0] = 0
        large = [c for c in np.argsort(-size) if size[c] > 0.05 * size.max()]
        at = {c: ndimage.center_of_mass(cores == c)[2] * spacing[2] - middle_mm for c in large[:4]}
        right, left = [c for c in at if at[c] < 0], [c for c in at if at[c] > 0]
        if right and left:
            seeds = np.zeros(piece.shape, np.int32)
            seeds[np.isin(cores, right)], seeds[np.isin(cores, left)] = RIGHT, LEFT
            return np.asarray(watershed(-depth, seeds, mask=piece), dtype=np.uint8)
    centre = float(np.nonzero(piece)[2].mean()) * spacing[2]
    return np.where(piece, RIGHT if centre < middle_mm else LEFT, 0).astype(np.uint8)


def close(lungs: Labels, inside: BoolArray, airways: BoolArray, spacing: Triple) -> Labels:
    """Each lung closed by 8 mm and its holes filled, so that vessels and nodules inside belong to it."""
    out = lungs.copy()
    for side in (RIGHT, LEFT):
        box = around(lungs == side, spacing, CLOSING_MM + max(spacing))
        if box is None:
            continue
        lung = lungs[box] == side
        near = ndimage.distance_transform_edt(~lung, sampling=spacing) <= CLOSING_MM
        closed = ndimage.distance_transform_edt(near, sampling=spacing) > CLOSING_MM
        closed = ndimage.binary_fill_holes(closed | lung)
        free = (out[box] == 0) & inside[box] & ~airways[box]
        out[box][closed & free] = side
    return out


def around(mask: BoolArray, spacing: Triple, margin_mm: float) -> tuple[slice, slice, slice] | None:
    """The box of a mask with a margin, inside the array; None when the mask is empty."""
    found = ndimage.find_objects(mask.view(np.uint8))
    if not found:
        return None
    z, y, x = (
        slice(max(0, s.start - int(margin_mm / mm + 1)), min(n, s.stop + int(margin_mm / mm + 1)))
        for s, n, mm in zip(found[0], mask.shape, spacing, strict=True)
    )
    return z, y, x


def reach(lungs: Labels, spacing: Triple) -> Labels:
    """The lungs grown by about a voxel of this grid, for the rim that only the full resolution shows."""
    return np.asarray(expand_labels(lungs, distance=max(spacing), spacing=spacing), dtype=np.uint8)
