"""Images that play one role together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radnode_inference.frames import Frame
from radnode_inference.load import load_frames
from radnode_inference.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images that form one volume in one role; read by `volume`."""

    series_uid: str
    frames: tuple[Frame, ...]

    def volume(self) -> Volume:
        """Raises DeclinedError as `load.load_frames` does."""
        return load_frames(self.frames, self.series_uid)


def place(frame: Frame) -> tuple[float, ...]:
    """Where a frame lies, LPS mm, so that the same place is the same value."""
    return tuple(round(float(v), 3) for v in frame.position)


def whole(frames: Sequence[Frame]) -> bool:
    """Whether every place is there once."""
    return len({tuple(np.round(f.position, 2)) for f in frames}) == len(frames)
