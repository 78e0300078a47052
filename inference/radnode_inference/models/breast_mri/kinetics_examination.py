"""A dynamic breast MR read: its phases on one grid, moved back where the patient moved, cut to the breasts."""

from dataclasses import dataclass

import numpy as np

from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri.kinetics_adc import Adc, adc_of
from radnode_inference.models.breast_mri.kinetics_arrival import check_arrival
from radnode_inference.models.breast_mri.kinetics_given import Drawn, drawn_regions
from radnode_inference.models.breast_mri.kinetics_lesions import EARLY_S, LATE_S, around
from radnode_inference.models.breast_mri.kinetics_motion import Motion, check_motion, moved_back
from radnode_inference.models.breast_mri.kinetics_region import Region, breast_region
from radnode_inference.models.breast_mri.roles import Phase, Roles
from radnode_inference.models.breast_mri.roles_series import SIDES
from radnode_inference.study import Study
from radnode_inference.volume import BoolArray, FloatArray, Volume

TIME_TOLERANCE_S = 90.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """The dynamic series read. phases: voxels before contrast first, then each phase after it, cut to `box`.

    early, late: indices of phases. region: the breasts, found automatically. drawn: regions given in the study, on the
    grid of `pre`; remarks: why others were not used. carrier: the phase on whose images the result lies.
    """

    pre: Volume
    carrier: Volume
    phases: tuple[FloatArray, ...]
    times_s: tuple[float, ...]
    early: int
    late: int
    region: Region
    box: tuple[slice, ...]
    adc: Adc
    motion: Motion
    drawn: tuple[Drawn, ...]
    remarks: tuple[str, ...]

    @property
    def breasts(self) -> BoolArray:
        """The automatic region in `box`."""
        return self.region.mask[self.box]

    @property
    def measured(self) -> BoolArray:
        """Where enhancement is measured, in `box`: the given regions, else the breasts."""
        if not self.drawn:
            return self.breasts
        return np.asarray(np.any([d.mask[self.box] for d in self.drawn], axis=0), bool)

    def whole(self, part: BoolArray) -> BoolArray:
        """A mask in `box` on the whole grid."""
        mask = np.zeros(self.pre.shape, bool)
        mask[self.box] = part
        return mask


def examine(study: Study, roles: Roles, progress: Progress) -> Examination:
    """The phases read, cut to the breasts. Raises DeclinedError `grids-differ`, `timing`, `coverage`, `motion`."""
    if roles.side in ("L", "R"):
        raise DeclinedError(
            "coverage", f"the dynamic series shows the {SIDES[roles.side]} only (by {roles.side_by}); both are needed"
        )
    early, late = chosen(roles.posts)
    pre = roles.pre.images.volume()
    volumes = read_phases(roles, pre, progress)
    after = [v.voxels for v in volumes]
    progress(0.6, "finding the breasts")
    region = breast_region(mean_of(pre, after))
    check_arrival(roles, pre, after, region.body)
    drawn, remarks = drawn_regions(study, pre)
    box = around(np.any([region.mask, *(d.mask for d in drawn)], axis=0), 0.0, pre.spacing)
    motion = check_motion(pre.voxels, after, region.mask, box, pre.spacing)
    cut = [
        moved_back(v, motion.shifts_mm[n - 1], box, pre.spacing) if n in motion.corrected else v[box]
        for n, v in enumerate(after, 1)
    ]
    return Examination(
        pre=pre,
        carrier=carrier(pre, volumes, motion),
        phases=(pre.voxels[box], *cut),
        times_s=(roles.pre.after_injection_s, *(p.after_injection_s for p in roles.posts)),
        early=early,
        late=late,
        region=region,
        box=box,
        adc=adc_of(roles, pre),
        motion=motion,
        drawn=drawn,
        remarks=remarks,
    )


def carrier(pre: Volume, after: list[Volume], motion: Motion) -> Volume:
    """The first phase after contrast, which readers look at; the one before it where a lesion lies elsewhere in the first.

    Outlines lie where the tissue was before contrast, so a phase that had to be moved back cannot carry them.
    """
    return pre if 1 in motion.corrected else after[0]


def read_phases(roles: Roles, pre: Volume, progress: Progress) -> list[Volume]:
    """The phases after contrast. Raises DeclinedError `grids-differ`."""
    after: list[Volume] = []
    for n, phase in enumerate(roles.posts):
        progress(0.05 + 0.5 * n / len(roles.posts), f"reading phase {n + 1} of {len(roles.posts)}")
        volume = phase.images.volume()
        if volume.shape != pre.shape or not np.allclose(volume.affine, pre.affine, atol=0.05):
            raise DeclinedError(
                "grids-differ",
                "the dynamic phases do not lie on the same grid:"
                f" the one at {phase.after_injection_s:.0f} s has {len(volume.voxels)} slices, the one before contrast {len(pre.voxels)}",
            )
        after.append(volume)
    return after


def mean_of(pre: Volume, after: list[FloatArray]) -> Volume:
    """The mean of all phases, on the grid of the first."""
    total = pre.voxels.copy()
    for voxels in after:
        total += voxels
    total /= len(after) + 1
    return Volume(
        voxels=total,
        affine=pre.affine,
        frame_of_reference_uid=pre.frame_of_reference_uid,
        series_uid=pre.series_uid,
        sources=pre.sources,
    )


def chosen(posts: tuple[Phase, ...]) -> tuple[int, int]:
    """The phases (counted from 1) whose middle is nearest 150 s and 450 s after the first phase with contrast began.

    As in the UCSF reference implementation (I-SPY, ACRIN 6657), so that it does not matter when the contrast was given.
    Raises DeclinedError `timing` where they are too far off.
    """
    times = np.array([p.after_first_s for p in posts])
    early, late = int(np.argmin(np.abs(times - EARLY_S))), int(np.argmin(np.abs(times - LATE_S)))
    listed = ", ".join(f"{t:.0f}" for t in times)
    if early == late or times[late] - times[early] < TIME_TOLERANCE_S:
        raise DeclinedError("timing", f"the phases after contrast (at {listed} s) have no early and late one")
    if abs(times[early] - EARLY_S) > TIME_TOLERANCE_S:
        raise DeclinedError(
            "timing",
            f"no phase lies near {EARLY_S:.0f} s after the first one with contrast began; there are {listed} s",
        )
    return early + 1, late + 1
