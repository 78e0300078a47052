"""What a reader of the kinetics must know, in sentences: where it was measured, what was assumed and corrected, its limits."""

from collections.abc import Sequence

from radnode_inference.models.breast_mri.kinetics_examination import Examination
from radnode_inference.models.breast_mri.kinetics_lesions import EARLY_S, LATE_S, Kinetics
from radnode_inference.models.breast_mri.kinetics_motion import said_of_motion
from radnode_inference.models.breast_mri.roles import Roles
from radnode_inference.volume import BoolArray

MOST_LESIONS = 20
AUTOMATIC = (
    "The breasts were outlined automatically, without a drawn region: the volume is the enhancing volume of both"
    " breasts (vessels included), not functional tumour volume."
)
LIMITS = (
    "Outlines and numbers only: no probability of malignancy is given. Non-mass enhancement and foci under about"
    " 8 mm can be missed."
)


def statements(
    roles: Roles, found: Examination, maps: Kinetics, background: Kinetics, named: Sequence[tuple[str, BoolArray]]
) -> tuple[str, ...]:
    """All that must be said, in order."""
    times = found.times_s
    said = [
        f"Early phase at {times[found.early]:.0f} s, late phase at {times[found.late]:.0f} s after contrast"
        f" (nearest {EARLY_S:.0f} and {LATE_S:.0f} s after the first phase with contrast began).",
        *(given(found, named) if found.drawn else (AUTOMATIC,)),
        f"Background enhancement of glandular tissue: median {background.background:.0f} %"
        + ("." if found.drawn else f"; a focus needed {maps.focal_percent:.0f} % to stand out."),
        LIMITS,
        *moved(found),
        *found.remarks,
        *roles.assumptions,
    ]
    said.append(found.adc.said)
    if roles.fat_suppressed is False:
        said.append("The dynamic series is not fat-suppressed: percent enhancement and outlines are less reliable.")
    if len(named) > MOST_LESIONS:
        said.append(f"{len(named)} foci were found; only the {MOST_LESIONS} largest are outlined.")
    return tuple(said)


def given(found: Examination, named: Sequence[tuple[str, BoolArray]]) -> tuple[str, ...]:
    """Which regions were measured instead of the whole breasts."""
    listed = "; ".join(f"{d.label} of {d.source}" for d in found.drawn)
    sentences = [
        f"Enhancement was measured inside the given regions only ({listed}); the outlines show what enhances there by the"
        " thresholds of functional tumour volume. Foci elsewhere were not looked for."
    ]
    sentences += [f"{tracking_id}: nothing enhances there." for tracking_id, mask in named if not mask.any()]
    return tuple(sentences)


def moved(found: Examination) -> tuple[str, ...]:
    """What was corrected, and what could not be."""
    sentences = said_of_motion(found.motion, found.times_s[1:], "outlines and curves")
    if found.carrier is not found.pre:
        return sentences
    return (
        "The outlines lie on the images before contrast: the first after it show the breasts elsewhere.",
        *sentences,
    )
