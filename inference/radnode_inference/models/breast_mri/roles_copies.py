"""Images that a study holds twice under different names: the same place, the same time and the same pixels."""

from collections.abc import Sequence

import numpy as np

from radnode_inference.frames import Frame
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_facts import Facts
from radnode_inference.models.breast_mri.roles_images import place
from radnode_inference.pixels import fill
from radnode_inference.volume import FloatArray

Pair = tuple[Frame, Facts]


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """The images of a series without those that are there again: the same place, times and pixels."""
    kept: dict[tuple[object, ...], list[Pair]] = {}
    for frame, facts in pairs:
        times = facts.position, facts.acquired_s, facts.trigger_s, facts.offset_s, facts.dynamic_s, facts.b_value
        alike = kept.setdefault((place(frame), *times), [])
        if not any(same_pixels((frame,), (other,)) for other, _ in alike):
            alike.append((frame, facts))
    return [pair for alike in kept.values() for pair in alike]


def in_place(frames: Sequence[Frame]) -> list[Frame]:
    return sorted(frames, key=place)


def same_pixels(one: Sequence[Frame], other: Sequence[Frame]) -> bool:
    """Whether two sets of frames show the same, place by place; False where they cannot be read."""
    if len(one) != len(other):
        return False
    try:
        return all(np.array_equal(read(a), read(b)) for a, b in zip(in_place(one), in_place(other), strict=True))
    except DeclinedError:
        return False


def read(frame: Frame) -> FloatArray:
    voxels = np.empty((1, *frame.shape), np.float32)
    fill((frame,), voxels)
    return voxels
