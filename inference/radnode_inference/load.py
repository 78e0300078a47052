"""A series to a volume: the one way from DICOM images to voxels with proven geometry."""

from collections.abc import Sequence

import numpy as np

from radnode_inference.frames import Frame, frames_of
from radnode_inference.geometry import stack
from radnode_inference.header import Header
from radnode_inference.match import Match, name
from radnode_inference.model import DeclinedError
from radnode_inference.pixels import fill
from radnode_inference.study import Series
from radnode_inference.volume import Volume


def load(headers: Sequence[Header], series_uid: str) -> Volume:
    """The images of a series (classic or enhanced multi-frame, compressed or not) as one volume.

    voxels: float32 [slice, row, column] after rescale; CT values below -1024 HU (padding) are raised to -1024.
    Slices are in order of their position along the slice normal; see `geometry.Stack` for the affine's handedness.
    Raises DeclinedError with the gates `no-images`, `no-position`, `impossible-orientation`, `impossible-spacing`, `pixel-data` and
    those of `geometry.stack`.
    """
    return load_frames(frames_of(headers), series_uid)


def load_frames(frames: Sequence[Frame], series_uid: str) -> Volume:
    """Some of the frames of a series (`frames.frames_of`), as one volume: for example one phase of a dynamic series.

    Raises DeclinedError as `load` does.
    """
    ordered = stack(frames)
    rows, columns = frames[0].shape
    voxels = np.empty((len(frames), rows, columns), np.float32)
    fill(ordered.frames, voxels)
    return Volume(
        voxels=voxels,
        affine=ordered.affine,
        frame_of_reference_uid=frames[0].header.text("FrameOfReferenceUID"),
        series_uid=series_uid,
        sources=tuple(f.source for f in ordered.frames),
    )


def first_loadable(match: Match) -> tuple[Series, Volume, tuple[str, ...]]:
    """The best series that is a proven volume, and why better ones were passed over. Raises DeclinedError as `load` does for the best when none is."""
    declined: list[tuple[Series, DeclinedError]] = []
    for series in match.candidates:
        try:
            volume = load(series.headers, series.series_uid)
        except DeclinedError as e:
            declined.append((series, e))
            continue
        return series, volume, tuple(f"Not read: {name(s)}: {e.sentence}." for s, e in declined)
    raise declined[0][1]
