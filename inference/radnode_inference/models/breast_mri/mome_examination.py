"""The images of one breast examination that MOME reads, chosen by their roles."""

from dataclasses import dataclass

import numpy as np

from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri.mome_input import Placed
from radnode_inference.models.breast_mri.roles import ImageSet, Roles, roles_of
from radnode_inference.study import Study
from radnode_inference.volume import Volume

MODALITIES = ("dce", "dwi", "t2")
LOWEST_B = 500.0
"""s/mm2: below it the contrast of a diffusion image is not of diffusion (the published network reads b 1000)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """pre and posts lie on one grid; times_s: of the posts, seconds after injection. dwi: the image nearest b 1000."""

    pre: Volume
    posts: tuple[Volume, ...]
    times_s: tuple[float, ...]
    dwi: Placed | None
    t2: Placed | None
    statements: tuple[str, ...]
    used_series_uids: tuple[str, ...]

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
        given = {"dce": True, "dwi": self.dwi is not None, "t2": self.t2 is not None}
        return tuple(m for m in MODALITIES if given[m])


def examination(study: Study, progress: Progress) -> Examination:
    """The images read. Raises DeclinedError as `roles.roles_of` and `load.load_frames` do, and `dynamic-grid`."""
    roles = roles_of(study)
    pre = roles.pre.images.volume()
    posts = []
    for number, phase in enumerate(roles.posts, 1):
        progress(0.4 * number / len(roles.posts), f"phase {number}")
        posts.append(phase.images.volume())
        if posts[-1].shape != pre.shape or not np.allclose(posts[-1].affine, pre.affine, atol=0.1):
            raise DeclinedError(
                "dynamic-grid", f"phase {number} after contrast lies on another grid than the one before it"
            )
    statements = list(roles.assumptions)
    dwi = placed("DWI", nearest_b(roles), statements)
    t2 = placed("T2", roles.t2, statements)
    used = [pre.series_uid, *(p.series_uid for p in posts)]
    used += [
        s.series_uid for s, found in ((nearest_b(roles), dwi), (roles.t2, t2)) if s is not None and found is not None
    ]
    return Examination(
        pre=pre,
        posts=tuple(posts),
        times_s=tuple(p.after_injection_s for p in roles.posts),
        dwi=dwi,
        t2=t2,
        statements=tuple(statements),
        used_series_uids=tuple(dict.fromkeys(used)),
    )


def nearest_b(roles: Roles) -> ImageSet | None:
    high = [b for b in roles.dwi if b >= LOWEST_B]
    return roles.dwi[min(high, key=lambda b: abs(b - 1000))] if high else None


def placed(title: str, images: ImageSet | None, statements: list[str]) -> Placed | None:
    """The volume of a modality that the examination can do without; why it cannot be read goes to `statements`."""
    if images is None:
        return None
    try:
        volume = images.volume()
    except DeclinedError as e:
        statements.append(f"The {title} images were not used: {e.sentence}.")
        return None
    return Placed(voxels=volume.voxels, affine=volume.affine)
