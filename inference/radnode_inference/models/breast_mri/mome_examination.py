"""The images of one breast examination that MOME reads, chosen by their roles."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri.kinetics_arrival import check_arrival
from radnode_inference.models.breast_mri.kinetics_examination import mean_of
from radnode_inference.models.breast_mri.kinetics_lesions import around
from radnode_inference.models.breast_mri.kinetics_motion import check_motion, moved_back, said_of_motion
from radnode_inference.models.breast_mri.kinetics_region import breast_region
from radnode_inference.models.breast_mri.mome_input import Placed
from radnode_inference.models.breast_mri.roles import (
    OrderedRoles,
    OtherRoles,
    roles_in_order,
    roles_of,
    roles_without_dynamic,
)
from radnode_inference.models.breast_mri.roles_images import ImageSet
from radnode_inference.study import Study
from radnode_inference.volume import Volume

MODALITIES = ("dce", "dwi", "t2")
NONE_THERE = "the study has no such images"
LEAST_SHIFT_MM = 2.0
"""Smaller shifts are left as they are: less than a voxel of the grid that the packaged weights are shown, and what they
were trained and measured with."""
LOWEST_B = 500.0
"""s/mm2: below it the contrast of a diffusion image is not of diffusion (the published network reads b 1000)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """pre and posts lie on one grid, None and () without a dynamic series; times_s: of the posts, seconds after injection,
    () where only their order is known.

    carrier: the images on which the result lies. dwi: the image nearest b 1000. missing: modality -> why it is not
    there, in words. reasons: what each series was taken for.
    """

    pre: Volume | None
    posts: tuple[Volume, ...]
    times_s: tuple[float, ...]
    carrier: Volume
    dwi: Placed | None
    t2: Placed | None
    missing: Mapping[str, str]
    statements: tuple[str, ...]
    used_series_uids: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def pre_placed(self) -> Placed | None:
        return None if self.pre is None else as_placed(self.pre)

    @property
    def present(self) -> tuple[str, ...]:
        """The modalities there are."""
        return tuple(m for m in MODALITIES if m not in self.missing)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dynamic:
    """The dynamic series read: phases after contrast on the grid of `pre`, moved back where the patient moved."""

    pre: Volume
    posts: tuple[Volume, ...]
    carrier: Volume
    statements: tuple[str, ...]


def examination(study: Study, progress: Progress, *, order_is_enough: bool = False) -> Examination:
    """The images read; without a dynamic series where there is none or its phases cannot be put in time.

    order_is_enough: phases without times are read by their temporal positions.
    Raises DeclinedError as `roles.roles_of` and `load.load_frames` do otherwise (a dynamic series that is not whole),
    `dynamic-grid`, `motion`, and `missing-role:dynamic` where there is nothing else either.
    """
    try:
        roles = dynamic_roles(study, order_is_enough=order_is_enough)
    except DeclinedError as e:
        if e.gate not in ("missing-role:dynamic", "timing"):
            raise
        why = e.sentence if e.gate != "timing" else f"its phases cannot be put in time ({e.sentence})"
        return without_dynamic(roles_without_dynamic(study), why)
    try:
        return read(roles, progress)
    except DeclinedError as e:
        raise DeclinedError(e.gate, e.sentence, tuple(roles.reasons.values())) from e


def dynamic_roles(study: Study, *, order_is_enough: bool) -> OrderedRoles:
    try:
        return roles_of(study)
    except DeclinedError as e:
        if e.gate != "timing" or not order_is_enough:
            raise
        return roles_in_order(study)


def read(roles: OrderedRoles, progress: Progress) -> Examination:
    found = read_dynamic(roles, progress)
    others, missing = others_of(roles)
    series = (found.pre.series_uid, *(p.series_uid for p in found.posts), *(v.series_uid for v in others.values()))
    return Examination(
        pre=found.pre,
        posts=found.posts,
        times_s=roles.times_s,
        carrier=found.carrier,
        dwi=as_placed(others["dwi"]) if "dwi" in others else None,
        t2=as_placed(others["t2"]) if "t2" in others else None,
        missing=missing,
        statements=(*roles.assumptions, *found.statements),
        used_series_uids=tuple(dict.fromkeys(series)),
        reasons=tuple(roles.reasons.values()),
    )


def without_dynamic(roles: OtherRoles, why: str) -> Examination:
    """The T2 and diffusion images alone; the result lies on the T2 images, without those on the diffusion images."""
    others, missing = others_of(roles)
    reasons = tuple(roles.reasons.values())
    if not others:
        raise DeclinedError("missing-role:dynamic", f"{why}, and no T2 or diffusion images can be read", reasons)
    return Examination(
        pre=None,
        posts=(),
        times_s=(),
        carrier=others["t2"] if "t2" in others else others["dwi"],
        dwi=as_placed(others["dwi"]) if "dwi" in others else None,
        t2=as_placed(others["t2"]) if "t2" in others else None,
        missing={"dce": why, **missing},
        statements=(),
        used_series_uids=tuple(dict.fromkeys(v.series_uid for v in others.values())),
        reasons=reasons,
    )


def read_dynamic(roles: OrderedRoles, progress: Progress) -> Dynamic:
    """Raises DeclinedError `dynamic-grid`, `motion`, and `timing` where contrast shows elsewhere than stated."""
    pre = roles.pre.images.volume()
    posts: list[Volume] = []
    for number, phase in enumerate(roles.posts, 1):
        progress(0.4 * number / len(roles.posts), f"phase {number}")
        posts.append(phase.images.volume())
        if posts[-1].shape != pre.shape or not np.allclose(posts[-1].affine, pre.affine, atol=0.1):
            raise DeclinedError(
                "dynamic-grid", f"phase {number} after contrast lies on another grid than the one before it"
            )
    return still(roles, pre, posts)


def still(roles: OrderedRoles, pre: Volume, posts: list[Volume]) -> Dynamic:
    """The phases moved back where the patient moved, as for the kinetics, and what to say of it.

    The result lies on the first phase after contrast, which readers look at; on the one before it where that one shows
    the breasts elsewhere.
    """
    after = [p.voxels for p in posts]
    try:
        region = breast_region(mean_of(pre, after))
    except DeclinedError as e:
        unchecked = f"Whether the patient moved between the phases was not checked: {e.sentence}."
        return Dynamic(pre=pre, posts=tuple(posts), carrier=posts[0], statements=(unchecked,))
    check_arrival(roles, pre, after, region.body)
    breasts = around(region.mask, 0.0, pre.spacing)
    motion = check_motion(pre.voxels, after, region.mask, breasts, pre.spacing, LEAST_SHIFT_MM)
    everything = tuple(slice(0, n) for n in pre.shape)
    moved = tuple(
        replace(p, voxels=moved_back(p.voxels, motion.shifts_mm[n - 1], everything, pre.spacing))
        if n in motion.corrected
        else p
        for n, p in enumerate(posts, 1)
    )
    return Dynamic(
        pre=pre,
        posts=moved,
        carrier=pre if 1 in motion.corrected else posts[0],
        statements=said_of_motion(motion, roles.times_s, "the subtractions that the network is shown"),
    )


def others_of(roles: OtherRoles) -> tuple[dict[str, Volume], dict[str, str]]:
    """(modality -> volume, modality -> why there is none), of diffusion and T2."""
    found: dict[str, Volume] = {}
    missing: dict[str, str] = {}
    for modality, images in (("dwi", nearest_b(roles)), ("t2", roles.t2)):
        if images is None:
            missing[modality] = no_diffusion(roles) if modality == "dwi" else NONE_THERE
            continue
        try:
            found[modality] = images.volume()
        except DeclinedError as e:
            missing[modality] = f"its images cannot be used ({e.sentence})"
    return found, missing


def nearest_b(roles: OtherRoles) -> ImageSet | None:
    high = [b for b in roles.dwi if b >= LOWEST_B]
    return roles.dwi[min(high, key=lambda b: abs(b - 1000))] if high else None


def no_diffusion(roles: OtherRoles) -> str:
    """Why there is no diffusion image of a high b value."""
    if roles.dwi_unused:
        return f"its images cannot be used ({roles.dwi_unused})"
    return f"no diffusion image has a b value of {LOWEST_B:g} s/mm2 or more" if roles.dwi else NONE_THERE


def as_placed(volume: Volume) -> Placed:
    return Placed(voxels=volume.voxels, affine=volume.affine)
