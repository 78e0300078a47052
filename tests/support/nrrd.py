"""The NRRD files that dcmqi writes, read without it."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {"unsigned char": np.uint8, "short": np.int16, "unsigned short": np.uint16, "float": np.float32}


def nrrd(file: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels [k, j, i] and the affine (k, j, i, 1) -> LPS mm of an uncompressed or gzip NRRD file."""
    head, _, data = file.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    if fields["encoding"] in ("gzip", "gz"):
        data = gzip.decompress(data)
    size = [int(n) for n in fields["sizes"].split()]
    voxels = np.frombuffer(data, KINDS[fields["type"]]).reshape(size[::-1])
    affine = np.eye(4)
    axes = fields["space directions"].split(") (")
    affine[:3, :3] = np.array([vector(a) for a in axes]).T[:, ::-1]
    affine[:3, 3] = vector(fields["space origin"])
    assert fields["space"] == "left-posterior-superior"
    return voxels, affine


def vector(text: str) -> list[float]:
    return [float(v) for v in text.strip("() ").split(",")]


def places(file: Path) -> NDArray[np.float64]:
    """[n, 3] LPS mm: the centre of every voxel that is not 0."""
    voxels, affine = nrrd(file)
    found = np.argwhere(voxels)
    return (affine @ np.c_[found, np.ones(len(found))].T)[:3].T


def in_order(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same points in one order, so that two sets can be compared one by one."""
    return points[np.lexsort(np.round(points, 2).T)]
