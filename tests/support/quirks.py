"""What the roles, and the look at the images after them, make of a generated study with quirks."""

from datetime import datetime
from pathlib import Path

import numpy as np

from radnode_inference.generator.breast import BreastPhantom
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.kinetics_arrival import check_arrival
from radnode_inference.models.breast_mri.roles import Roles, roles_of
from radnode_inference.study import Study

RIGHT = "right"
NIGHT = datetime(2026, 3, 2, 23, 54)


def quirky(
    made: BreastPhantom, folder: Path, layout: Layout, *quirks: str, night: bool = False, states_injection: bool = True
) -> Study:
    """The study with the quirks; begun shortly before midnight where that is asked for."""
    began = {"began": NIGHT} if night else {}
    order = Order(
        patient_name="DEMO^QUIRKS", patient_id="Q", layout=layout, quirks=quirks, states_injection=states_injection, **began
    )  # fmt: skip
    return Study.from_files(write_breast(made, folder, order))


def verdict(study: Study, made: BreastPhantom, *, more: int = 0) -> tuple[str, Roles | None]:
    """RIGHT, `gate: sentence` of a refusal, or what is wrong. more: phases that the quirks may add at the end."""
    try:
        roles = roles_of(study)
        pre = roles.pre.images.volume()
        volumes = [pre.voxels, *(p.images.volume().voxels for p in roles.posts)]
        if all(v.shape == pre.shape for v in volumes):
            check_arrival(roles, pre, volumes[1:], np.ones(pre.shape, bool))
    except DeclinedError as e:
        return f"{e.gate}: {e.sentence}", None
    if any(v.shape != volumes[0].shape for v in volumes):
        return "grids-differ: a phase has fewer slices", roles
    times = np.array(roles.times_s)
    assumed = any("ContrastBolusStartTime" in a or "ContrastBolusAgent" in a for a in roles.assumptions)
    kept = len(made.dce)
    if len(volumes) not in (kept, kept + more):
        return f"wrong: {len(volumes)} phases", roles
    if not all(np.abs(v - w).max() < 3.0 for v, w in zip(volumes, made.dce, strict=False)):
        return "wrong: other images", roles
    wanted = made.times_s[1:] - (made.times_s[1] - times[0] if assumed else 0.0)
    if not np.allclose(times[: kept - 1], wanted, atol=1.0):
        return f"wrong: at {np.round(times)} s, not {np.round(wanted)}", roles
    return RIGHT, roles
