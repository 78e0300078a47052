"""The images of one breast examination that MOME reads, chosen by their roles."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri.mome_input import Placed
from radnode_inference.models.breast_mri.roles import Roles, roles_of
from radnode_inference.models.breast_mri.roles_images import ImageSet
from radnode_inference.study import Study
from radnode_inference.volume import Volume

MODALITIES = ("dce", "dwi", "t2")
NONE_THERE = "the study has no such images"
LOWEST_B = 500.0
"""s/mm2: below it the contrast of a diffusion image is not of diffusion (the published network reads b 1000)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """pre and posts lie on one grid; times_s: of the posts, seconds after injection. dwi: the image nearest b 1000.

    missing: modality -> why it is not there, in words. reasons: what each series was taken for.
    """

    pre: Volume
    posts: tuple[Volume, ...]
    times_s: tuple[float, ...]
    dwi: Placed | None
    t2: Placed | None
    missing: Mapping[str, str]
    statements: tuple[str, ...]
    used_series_uids: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def carrier(self) -> Volume:
        """The phase on whose images the result lies: the first after contrast, which readers look at."""
        return self.posts[0]

    @property
    def pre_placed(self) -> Placed:
        return Placed(voxels=self.pre.voxels, affine=self.pre.affine)

    @property
    def present(self) -> tuple[str, ...]:
        """The modalities there are."""
        return tuple(m for m in MODALITIES if m not in self.missing)


def examination(study: Study, progress: Progress) -> Examination:
    """The images read. Raises DeclinedError as `roles.roles_of` and `load.load_frames` do, and `dynamic-grid`."""
    roles = roles_of(study)
    try:
        return read(roles, progress)
    except DeclinedError as e:
        raise DeclinedError(e.gate, e.sentence, tuple(roles.reasons.values())) from e


def read(roles: Roles, progress: Progress) -> Examination:
    pre = roles.pre.images.volume()
    posts = []
    for number, phase in enumerate(roles.posts, 1):
        progress(0.4 * number / len(roles.posts), f"phase {number}")
        posts.append(phase.images.volume())
        if posts[-1].shape != pre.shape or not np.allclose(posts[-1].affine, pre.affine, atol=0.1):
            raise DeclinedError(
                "dynamic-grid", f"phase {number} after contrast lies on another grid than the one before it"
            )
    missing: dict[str, str] = {}
    dwi = placed("dwi", nearest_b(roles), missing)
    t2 = placed("t2", roles.t2, missing)
    if "dwi" in missing and nearest_b(roles) is None:
        missing["dwi"] = no_diffusion(roles)
    others = [s.series_uid for s, found in ((nearest_b(roles), dwi), (roles.t2, t2)) if s is not None and found]
    return Examination(
        pre=pre,
        posts=tuple(posts),
        times_s=tuple(p.after_injection_s for p in roles.posts),
        dwi=dwi,
        t2=t2,
        missing=missing,
        statements=roles.assumptions,
        used_series_uids=tuple(dict.fromkeys([pre.series_uid, *(p.series_uid for p in posts), *others])),
        reasons=tuple(roles.reasons.values()),
    )


def nearest_b(roles: Roles) -> ImageSet | None:
    high = [b for b in roles.dwi if b >= LOWEST_B]
    return roles.dwi[min(high, key=lambda b: abs(b - 1000))] if high else None


def no_diffusion(roles: Roles) -> str:
    """Why there is no diffusion image of a high b value."""
    if roles.dwi_unused:
        return f"its images cannot be used ({roles.dwi_unused})"
    return f"no diffusion image has a b value of {LOWEST_B:g} s/mm2 or more" if roles.dwi else NONE_THERE


def placed(modality: str, images: ImageSet | None, missing: dict[str, str]) -> Placed | None:
    """The volume of a modality that the examination can do without; why there is none goes to `missing`."""
    if images is None:
        missing[modality] = NONE_THERE
        return None
    try:
        volume = images.volume()
    except DeclinedError as e:
        missing[modality] = f"its images cannot be used ({e.sentence})"
        return None
    return Placed(voxels=volume.voxels, affine=volume.affine)
