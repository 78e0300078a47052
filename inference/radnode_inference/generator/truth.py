"""What is true of a generated study, as files: its masks with their affine (NumPy's .npz), its curves and labels (JSON)."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from radnode_inference import generator
from radnode_inference.generator.breast import BreastPhantom, LesionTruth
from radnode_inference.generator.chest import ChestPhantom
from radnode_inference.generator.tofts import signal
from radnode_inference.volume import BoolArray

MASKS, LABELS = "truth.npz", "truth.json"


def write_truth(made: BreastPhantom | ChestPhantom, folder: Path, study_uid: str) -> tuple[Path, Path]:
    """The masks and the labels of a phantom, below `folder`.

    truth.npz: every mask as bool [slice, row, column] under its name (the labels name those of lesions and nodules), and
    `affine`, float64 4 x 4: (slice, row, column, 1) -> LPS mm. They lie where the patient lay before contrast.
    """
    breast = isinstance(made, BreastPhantom)
    masks, labels = breast_truth(made) if isinstance(made, BreastPhantom) else chest_truth(made)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / MASKS, allow_pickle=False, affine=made.grid.affine, **masks)
    about = {
        "kind": "breast" if breast else "chest",
        "seed": made.seed,
        "study_uid": study_uid,
        "generator_version": generator.VERSION,
        "shape": list(made.grid.shape),
        "voxel_ml": made.grid.voxel_ml,
    }
    (folder / LABELS).write_text(json.dumps(about | labels, indent=2) + "\n")
    return folder / MASKS, folder / LABELS


def breast_truth(made: BreastPhantom) -> tuple[dict[str, BoolArray], dict[str, Any]]:
    """Masks and labels. gland_signal: mean of the images in the gland beside the lesions, of each phase."""
    masks = {"breast": made.breast, "gland": made.gland}
    masks |= {f"lesion_{n}": lesion.mask for n, lesion in enumerate(made.lesions, 1)}
    gland = made.gland & ~made.lesion_mask
    return masks, {
        "times_s": made.times_s.tolist(),
        "shifts_mm": made.shifts_mm.tolist(),
        "b_values": sorted(made.dwi),
        "gland_signal": [float(phase[gland].mean()) if gland.any() else None for phase in made.dce],
        "lesions": [lesion_truth(made, f"lesion_{n}", lesion) for n, lesion in enumerate(made.lesions, 1)],
    }


def lesion_truth(made: BreastPhantom, mask: str, truth: LesionTruth) -> dict[str, Any]:
    """curve_signal: of its tissue without noise, bias field and what else its voxels hold; mean_signal: of the images."""
    return {
        "mask": mask,
        "curve": truth.curve,
        "laterality": truth.laterality,
        "volume_ml": truth.volume_ml,
        "centre_lps_mm": list(truth.lesion.centre),
        "radii_mm": list(truth.lesion.radii),
        "adc_mm2_s": truth.lesion.adc_mm2_s,
        "curve_signal": signal(truth.lesion.tissue, made.times_s).tolist(),
        "mean_signal": [float(phase[truth.mask].mean()) for phase in made.dce],
    }


def chest_truth(made: ChestPhantom) -> tuple[dict[str, BoolArray], dict[str, Any]]:
    masks = {"lung_right": made.lung_right, "lung_left": made.lung_left, "airways": made.airways, "body": made.body}
    masks |= {f"nodule_{n}": nodule.mask for n, nodule in enumerate(made.nodules, 1)}
    nodules = [
        {
            "mask": f"nodule_{n}",
            "laterality": truth.laterality,
            "volume_ml": truth.volume_ml,
            "centre_lps_mm": list(truth.nodule.centre),
            "radii_mm": list(truth.nodule.radii),
            "hu": truth.nodule.hu,
        }
        for n, truth in enumerate(made.nodules, 1)
    ]
    volumes = {f"{name}_ml": float(masks[name].sum()) * made.grid.voxel_ml for name in ("lung_right", "lung_left")}
    return masks, {**volumes, "nodules": nodules}
