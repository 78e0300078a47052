"""A chest CT written as DICOM again, delivered in the many ways that sites deliver one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage
from support.series import Stack

from radnode_inference.study import Study
from radnode_inference.volume import Affine, SourceFrame, Volume

AIR = -1000.0


def volume_of(voxels: NDArray[np.generic], affine: Affine) -> Volume:
    """Voxels [slice, row, column] as a volume without source images."""
    sources = tuple(SourceFrame(sop_class_uid="1.2", sop_uid=f"1.2.{i}") for i in range(len(voxels)))
    return Volume(
        voxels=np.ascontiguousarray(voxels, np.float32),
        affine=affine,
        frame_of_reference_uid="1",
        series_uid="1",
        sources=sources,
    )


def averaged(volume: Volume, factors: tuple[int, int, int]) -> Volume:
    """The volume averaged over blocks of whole voxels."""
    from radnode_inference.models.chest_ct.lung_grid import block_mean

    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
    affine[:3, :3] *= np.array(factors)
    return volume_of(block_mean(volume.voxels, factors), affine)


def turned(volume: Volume, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    """The same voxels stored with other axes: the patient does not move."""
    voxels, affine = volume.voxels.transpose(order), volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, list(order)]
    for axis in np.nonzero(flips)[0]:
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
        voxels = np.flip(voxels, axis)
    return volume_of(voxels, affine)


def cropped(volume: Volume, part: slice) -> Volume:
    """Some of the slices."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (part.indices(len(volume.voxels))[0])
    return volume_of(volume.voxels[part], affine)


def oblique(volume: Volume, degrees: float, margin: int = 12) -> Volume:
    """The patient as he lies, scanned on a grid that is turned about x (a tilted stack), with `margin` voxels more around."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    middle = volume.affine[:3, :3] @ (np.array(volume.shape) / 2) + volume.affine[:3, 3]
    shape = np.array(volume.shape) + 2 * np.array([2 * margin, margin, 0])
    affine = np.eye(4)
    affine[:3, :3] = turn @ volume.affine[:3, :3]
    affine[:3, 3] = middle - affine[:3, :3] @ (shape / 2)
    index = np.linalg.inv(volume.affine) @ affine
    voxels = ndimage.affine_transform(
        volume.voxels, index[:3, :3], index[:3, 3], tuple(shape), order=1, cval=AIR, prefilter=False
    )
    return volume_of(voxels, affine)


def with_table_and_arms(volume: Volume) -> Volume:
    """A thick bright table under the patient, and both arms (soft tissue with a bone) lying against the body."""
    voxels = np.pad(volume.voxels, ((0, 0), (0, 20), (30, 30)), constant_values=AIR)
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, 2] * 30
    y, x = np.mgrid[: voxels.shape[1], : voxels.shape[2]].astype(np.float32)
    body = np.nonzero(volume.voxels[len(voxels) // 2] > -300)
    back, left, right = body[0].max() + 3, body[1].min() + 30, body[1].max() + 30
    down, across = volume.spacing[1:]
    for arm in (left - 42 / across, right + 42 / across):
        away = np.hypot((x - arm) * across, (y - body[0].mean()) * down)
        voxels[:, away < 45] = np.maximum(voxels[:, away < 45], 40)
        voxels[:, away < 11] = 600
    table = (abs(y - back) * down < 8) & (x > left) & (x < right)
    voxels[:, table] = np.maximum(voxels[:, table], 150)
    return volume_of(voxels, affine)


def outside_circle(volume: Volume) -> NDArray[np.bool_]:
    """What a scanner does not reconstruct: the corners of the image [row, column]."""
    _, rows, columns = volume.shape
    y, x = np.mgrid[:rows, :columns]
    return np.asarray(np.hypot(y - rows / 2, x - columns / 2) > max(rows, columns) / 2)


def written(
    folder: Path,
    volume: Volume,
    *,
    stored: Callable[[NDArray[np.float32]], NDArray[np.generic]] = lambda hu: np.round(hu + 1024).astype(np.uint16),
    orientation: Sequence[float] | None = None,
    edit: Callable[[int, Dataset], None] = lambda i, ds: None,
    skip: Sequence[int] = (),
    **attributes: object,
) -> Study:
    """The volume as a series of CT images with the given attributes; `orientation` replaces the true one in the header."""
    steps = volume.affine[:3, :3]
    spacing = volume.spacing
    true = (*(steps[:, 2] / spacing[2]), *(steps[:, 1] / spacing[1]))
    stack = Stack(stored=stored(volume.voxels), spacing=spacing, orientation=orientation or true)
    stack.positions = [volume.affine[:3, 3] + steps[:, 0] * i for i in range(len(volume.voxels))]

    def change(i: int, ds: Dataset) -> None:
        ds.BodyPartExamined, ds.SliceThickness, ds.ConvolutionKernel = "CHEST", 1.0, "B31f"
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
        edit(i, ds)

    stack.write(folder, change, order=[i for i in range(len(volume.voxels)) if i not in skip])
    return Study.from_folder(folder)
