"""How masks are laid out over one or several segmentation objects: which frames there are, and which object holds them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radnode_dicom_sr.profiles import Profile
from radnode_inference.volume import BoolArray

NO_CAP = 2**31


@dataclass(frozen=True, kw_only=True)
class Frames:
    """segments: 1-based segment number of each frame (0: all of them); slices: its index into the source's slices."""

    segments: tuple[int, ...]
    slices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.segments)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One segmentation object. masks: index of each of its segments' masks; whole: those of which no other part has frames."""

    masks: tuple[int, ...]
    whole: frozenset[int]
    frames: Frames


def parts(masks: Sequence[BoolArray], profile: Profile) -> tuple[Part, ...]:
    """Empty frames left out, at most `profile.frame_cap` frames in a part, no overlap within one in a label map."""
    drawn = [tuple(i for i, plane in enumerate(mask) if plane.any()) for mask in masks]
    cap = profile.frame_cap or NO_CAP
    layers = stacked(masks, drawn) if profile.labelled else [tuple(range(len(masks)))]
    cut = by_slice if profile.labelled else by_segment
    groups = [group for layer in layers for group in cut(layer, drawn, cap)]
    return tuple(part(group, drawn, labelled=profile.labelled) for group in groups)


Group = dict[int, tuple[int, ...]]
"""mask index -> slices, of one part."""


def by_segment(layer: Sequence[int], drawn: Sequence[Sequence[int]], cap: int) -> list[Group]:
    """One frame for each segment and slice; a segment is cut only where it alone exceeds the cap."""
    groups: list[Group] = [{}]
    for mask in layer:
        for start in range(0, len(drawn[mask]), cap):
            piece = tuple(drawn[mask][start : start + cap])
            if sum(map(len, groups[-1].values())) + len(piece) > cap:
                groups.append({})
            groups[-1][mask] = piece
    return groups


def by_slice(layer: Sequence[int], drawn: Sequence[Sequence[int]], cap: int) -> list[Group]:
    """One frame for each slice, whatever lies on it."""
    used = sorted({i for mask in layer for i in drawn[mask]})
    groups = []
    for start in range(0, len(used), cap):
        window = frozenset(used[start : start + cap])
        pieces = {mask: tuple(i for i in drawn[mask] if i in window) for mask in layer}
        groups.append({mask: piece for mask, piece in pieces.items() if piece})
    return groups


def stacked(masks: Sequence[BoolArray], drawn: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The masks in as few layers as it takes, first fit, so that no two of a layer overlap."""
    layers: list[list[int]] = []
    taken: list[dict[int, NDArray[np.bool_]]] = []
    for mask, slices in enumerate(drawn):
        free = (n for n, planes in enumerate(taken) if not overlaps(masks[mask], slices, planes))
        n = next(free, len(layers))
        if n == len(layers):
            layers.append([])
            taken.append({})
        layers[n].append(mask)
        for i in slices:
            taken[n][i] = taken[n][i] | masks[mask][i] if i in taken[n] else masks[mask][i]
    return [tuple(layer) for layer in layers]


def overlaps(mask: BoolArray, slices: Sequence[int], planes: dict[int, NDArray[np.bool_]]) -> bool:
    return any(i in planes and (planes[i] & mask[i]).any() for i in slices)


def part(group: Group, drawn: Sequence[Sequence[int]], *, labelled: bool) -> Part:
    places = [(number, i) for number, slices in enumerate(group.values(), start=1) for i in slices]
    if labelled:
        places = [(0, i) for i in sorted({i for _, i in places})]
    return Part(
        masks=tuple(group),
        whole=frozenset(mask for mask, slices in group.items() if len(slices) == len(drawn[mask])),
        frames=Frames(segments=tuple(n for n, _ in places), slices=tuple(i for _, i in places)),
    )
