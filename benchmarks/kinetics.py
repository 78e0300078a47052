"""How well `mr-breast-kinetics` finds and outlines generated lesions, in every layout: Dice, volume, curve, false finds.

Every study with a lesion is written and read in every layout, and as many normal ones in one layout each. Ends with
exit code 1 where a layout misses the aim: median Dice 0.85 (a missed lesion counts 0), median volume error 10 %, curve
type right in 95 %.

python benchmarks/kinetics.py --studies 50 --first-seed 5000 --jobs 2
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radnode_inference.findings import Findings
from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.generator.fields import Orientation
from radnode_inference.models.breast_mri import kinetics_codes as codes
from radnode_inference.models.breast_mri.kinetics import KineticsModel
from radnode_inference.study import Study
from radnode_inference.volume import BoolArray

CURVES = {"persistent": codes.PERSISTENT, "plateau": codes.PLATEAU, "washout": codes.WASHOUT}
GEOMETRIES = ((Orientation.AXIAL, "HFP"), (Orientation.AXIAL, "HFS"), (Orientation.SAGITTAL, "HFS"),
              (Orientation.CORONAL, "FFP"), (Orientation.OBLIQUE, "HFP"))  # fmt: skip
MOTIONS_MM = (0.0, 0.0, 0.0, 4.0)
"""Every fourth patient moves."""
LEAST_DICE, MOST_VOLUME_ERROR, LEAST_CURVE = 0.85, 0.10, 0.95


@dataclass(frozen=True, kw_only=True)
class Match:
    """One true lesion: its overlap with the finding that covers it best (0: missed)."""

    seed: int
    layout: str
    truth_ml: float
    dice: float
    volume_error: float
    curve_right: bool
    laterality_right: bool


@dataclass(frozen=True, kw_only=True)
class Task:
    """One generated patient, written and read in some layouts."""

    seed: int
    lesion: bool
    layouts: tuple[str, ...]
    orientation: Orientation
    position: str
    shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """false: findings that lie on no lesion, over all layouts of the task. seconds: of each reading."""

    task: Task
    matches: list[Match]
    false: int
    seconds: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=50, help="with a lesion; as many normal ones are read too")
    parser.add_argument("--first-seed", type=int, default=5000)
    parser.add_argument("--layouts", nargs="+", default=[str(v) for v in Layout])
    parser.add_argument("--shape", nargs=3, type=int, default=None, help="slices rows columns; default by orientation")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    tasks = []
    for n in range(given.studies):
        orientation, position = GEOMETRIES[n % len(GEOMETRIES)]
        where = {"orientation": orientation, "position": position, "shape": given.shape or shape_for(orientation)}
        normal = (given.layouts[n % len(given.layouts)],)
        for lesion, layouts in ((True, tuple(given.layouts)), (False, normal)):
            tasks.append(Task(seed=given.first_seed + n, lesion=lesion, layouts=layouts, **where))
    outcomes = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for outcome in pool.map(carry_out, tasks):
            tell(outcome)
            outcomes.append(outcome)
    sys.exit(0 if summary(outcomes, given.layouts) else 1)


def carry_out(task: Task) -> Outcome:
    made = breast.phantom(
        task.seed,
        lesion=task.lesion,
        shape=task.shape,
        orientation=task.orientation,
        patient_position=task.position,
        motion_mm=MOTIONS_MM[task.seed % len(MOTIONS_MM)],
    )
    matches: list[Match] = []
    false, seconds = 0, []
    for layout in task.layouts:
        found, took = read(made, Layout(layout), task.position)
        seconds.append(took)
        true = placed(made, found)
        matches += compare(made, true, found, layout)
        false += sum(item.mask is not None and not any((item.mask & t).any() for t in true) for item in found.items)
    return Outcome(task=task, matches=matches, false=false, seconds=seconds)


def tell(outcome: Outcome) -> None:
    task = outcome.task
    for m in outcome.matches:
        curve = "right" if m.curve_right else "WRONG"
        print(
            f"{m.seed} {task.orientation} {m.layout}: {m.truth_ml:.2f} mL, Dice {m.dice:.3f}, volume"
            f" {m.volume_error:+.1%}, curve {curve}", flush=True,
        )  # fmt: skip
    if outcome.false:
        print(
            f"{task.seed} {task.orientation} {'lesion' if task.lesion else 'normal'}: {outcome.false} false", flush=True
        )


def shape_for(orientation: Orientation) -> tuple[int, int, int]:
    """About 2.5 to 3 mm voxels over the generator's field of view: coarser than a scanner's, so harder, and quick."""
    return {Orientation.SAGITTAL: (120, 56, 120), Orientation.CORONAL: (120, 56, 128)}.get(orientation, (52, 132, 132))


def read(made: breast.BreastPhantom, layout: Layout, position: str) -> tuple[Findings, float]:
    order = Order(
        patient_name="BENCH^BREAST",
        patient_id=f"BENCH-{made.seed}-{len(made.lesions)}",
        layout=layout,
        patient_position=position,
    )
    with tempfile.TemporaryDirectory() as folder:
        study = Study.from_files(write_breast(made, Path(folder), order))
        began = time.perf_counter()
        found = KineticsModel().read(study, lambda part, words: None)
        return found, time.perf_counter() - began


def placed(made: breast.BreastPhantom, found: Findings) -> list[BoolArray]:
    """The mask of each true lesion on the grid of the findings."""
    to_volume = np.linalg.inv(found.volume.affine) @ made.grid.affine
    masks = []
    for truth in made.lesions:
        index = np.rint(to_volume[:3, :3] @ np.argwhere(truth.mask).T + to_volume[:3, 3:]).astype(int)
        masks.append(np.zeros(found.volume.shape, bool))
        masks[-1][tuple(index)] = True
    return masks


def compare(made: breast.BreastPhantom, true: list[BoolArray], found: Findings, layout: str) -> list[Match]:
    """Each true lesion against the finding that covers it best; one finding may cover two."""
    matches = []
    for truth, mask in zip(made.lesions, true, strict=True):
        best, overlap = None, 0.0
        for item in found.items:
            if item.mask is not None:
                dice = 2 * float((item.mask & mask).sum()) / float(item.mask.sum() + mask.sum())
                if dice > overlap:
                    best, overlap = item, dice
        ml = 0.0 if best is None or best.mask is None else float(best.mask.sum()) * found.volume.voxel_mm3 / 1000
        matches.append(
            Match(
                seed=made.seed,
                layout=layout,
                truth_ml=truth.volume_ml,
                dice=overlap,
                volume_error=ml / truth.volume_ml - 1,
                curve_right=best is not None and best.evaluations[0].value == CURVES[truth.curve],
                laterality_right=best is not None
                and best.laterality is not None
                and best.laterality.meaning[0] == truth.laterality,
            )
        )
    return matches


def summary(outcomes: list[Outcome], layouts: list[str]) -> bool:
    """Print the figures of every layout; whether all reach the aim."""
    matches = [m for o in outcomes for m in o.matches]
    reached = True
    for layout in layouts:
        here = [m for m in matches if m.layout == layout]
        found = [m for m in here if m.dice > 0]
        dice = float(np.median([m.dice for m in here]))
        volume = float(np.median([abs(m.volume_error) for m in here]))
        curve = float(np.mean([m.curve_right for m in found]))
        reached &= dice >= LEAST_DICE and volume <= MOST_VOLUME_ERROR and curve >= LEAST_CURVE
        print(
            f"{layout:16} {len(found)} of {len(here)} lesions found; median Dice {dice:.3f} (lowest found"
            f" {min(m.dice for m in found):.3f}); median |volume error| {volume:.1%}; curve right {curve:.0%}; side right"
            f" {np.mean([m.laterality_right for m in found]):.0%}"
        )
    seconds = [s for o in outcomes for s in o.seconds]
    for lesion, name in ((True, "with a lesion"), (False, "normal")):
        counted = [o for o in outcomes if o.task.lesion is lesion]
        readings = sum(len(o.seconds) for o in counted)
        print(f"{sum(o.false for o in counted)} false findings in {readings} readings of studies {name}")
    print(f"{np.median(seconds):.1f} s per reading (median); the aim is {'reached' if reached else 'MISSED'}")
    return reached


if __name__ == "__main__":
    main()
