"""The published test-time augmentations of MOME: where the volume lies in its grid, and along which axes it is mirrored.

LLYXC/MOME, data/augmentation.py: six flips of the grid's axes x, y, z (two or fewer of them), nine places of the volume
in its grid (middle and corners); `pad3flip1` is both.
"""

import re
from dataclasses import dataclass

from torch import Tensor

FLIPS: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
PADS = 9


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """pad: 0 the middle of the grid, 1 to 8 its corners. flips: axes of x, y, z that are mirrored."""

    pad: int = 0
    flips: tuple[int, ...] = ()

    @classmethod
    def named(cls, name: str) -> "Augmentation":
        """`none`, `flip0` to `flip5`, `pad0` to `pad8`, or both as `pad3flip1`. Raises ValueError."""
        found = re.fullmatch(r"(?:pad([0-8]))?(?:flip([0-5]))?", name) if name else None
        if name == "none":
            return PLAIN
        if not found:
            raise ValueError(
                f"there is no augmentation {name!r}; there are none, pad0 to pad8, flip0 to flip5 and pad0flip0"
            )
        pad, flip = found.groups()
        return cls(pad=int(pad or 0), flips=() if flip is None else FLIPS[int(flip)])

    def flipped(self, volume: Tensor) -> Tensor:
        """(channels, x, y, z), mirrored."""
        return volume.flip([axis + 1 for axis in self.flips]) if self.flips else volume


PLAIN = Augmentation()


def place(room: tuple[int, int, int], pad: int) -> tuple[int, int, int]:
    """Where a volume begins in a grid that has `room` voxels more than it along x, y, z."""
    if pad == 0:
        return room[0] // 2, room[1] // 2, room[2] // 2
    x, y, z = ((pad - 1) >> bit & 1 for bit in (2, 1, 0))
    return x * room[0], y * room[1], z * room[2]
