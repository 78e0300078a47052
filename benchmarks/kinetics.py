"""How well `mr-breast-kinetics` finds and outlines generated lesions, in every layout: Dice, volume, curve, false finds.

python benchmarks/kinetics.py --studies 20
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radnode_inference.findings import Findings, Kind
from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.generator.fields import Orientation
from radnode_inference.models.breast_mri import kinetics_codes as codes
from radnode_inference.models.breast_mri.kinetics import KineticsModel
from radnode_inference.study import Study

CURVES = {"persistent": codes.PERSISTENT, "plateau": codes.PLATEAU, "washout": codes.WASHOUT}
GEOMETRIES = ((Orientation.AXIAL, "HFP"), (Orientation.AXIAL, "HFS"), (Orientation.SAGITTAL, "HFS"),
              (Orientation.CORONAL, "FFP"), (Orientation.OBLIQUE, "HFP"))  # fmt: skip


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20, help="with a lesion; as many normal ones are read too")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--layouts", nargs="+", default=[str(v) for v in Layout])
    parser.add_argument("--shape", nargs=3, type=int, default=None, help="slices rows columns; default by orientation")
    given = parser.parse_args()
    matches: list[Match] = []
    false, normals, seconds = 0, 0, []
    for n in range(given.studies):
        seed = given.first_seed + n
        for lesion in (True, False):
            orientation, position = GEOMETRIES[n % len(GEOMETRIES)]
            shape = tuple(given.shape) if given.shape else shape_for(orientation)
            made = breast.phantom(seed, lesion=lesion, shape=shape, orientation=orientation, patient_position=position)
            for layout in given.layouts:
                found, took = read(made, Layout(layout), position)
                seconds.append(took)
                here = compare(made, found, layout)
                extra = abnormal(found) - sum(m.dice > 0 for m in here)
                false += extra
                normals += not lesion
                matches += here
                for m in here:
                    print(
                        f"{m.seed} {orientation} {layout}: {m.truth_ml:.2f} mL, Dice {m.dice:.3f}, volume {m.volume_error:+.1%}"
                    )
                if extra:
                    print(f"{seed} {orientation} {layout} {'lesion' if lesion else 'normal'}: {extra} false")
    summary(matches, given.layouts, false, normals, seconds)


def shape_for(orientation: Orientation) -> tuple[int, int, int]:
    """About 2 to 2.5 mm voxels over the generator's field of view."""
    return {Orientation.SAGITTAL: (150, 70, 150), Orientation.CORONAL: (140, 70, 160)}.get(orientation, (60, 160, 160))


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


def abnormal(found: Findings) -> int:
    return sum(f.kind is Kind.ABNORMALITY for f in found.items)


def compare(made: breast.BreastPhantom, found: Findings, layout: str) -> list[Match]:
    """Each true lesion against the findings, in patient coordinates."""
    to_volume = np.linalg.inv(found.volume.affine) @ made.grid.affine
    matches = []
    for truth in made.lesions:
        index = np.rint(to_volume[:3, :3] @ np.argwhere(truth.mask).T + to_volume[:3, 3:]).astype(int)
        moved = np.zeros(found.volume.shape, bool)
        moved[tuple(index)] = True
        best, overlap = None, 0.0
        for item in found.items:
            if item.mask is not None:
                dice = 2 * float((item.mask & moved).sum()) / float(item.mask.sum() + moved.sum())
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


def summary(matches: list[Match], layouts: list[str], false: int, normals: int, seconds: list[float]) -> None:
    for layout in layouts:
        here = [m for m in matches if m.layout == layout]
        found = [m for m in here if m.dice > 0]
        print(
            f"{layout:9} {len(found)} of {len(here)} lesions found; median Dice {np.median([m.dice for m in here]):.3f}"
            f" (lowest found {min(m.dice for m in found):.3f}); median |volume error|"
            f" {np.median([abs(m.volume_error) for m in found]):.1%}; curve right"
            f" {np.mean([m.curve_right for m in found]):.0%}; side right {np.mean([m.laterality_right for m in found]):.0%}"
        )
    print(f"{false} false findings ({normals} normal studies read); {np.median(seconds):.1f} s per study (median)")


if __name__ == "__main__":
    main()
