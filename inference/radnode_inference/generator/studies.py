"""The demonstration set: named studies with known truth, written one at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from radnode_inference.generator import breast, chest
from radnode_inference.generator.dicom_parts import Compression, Layout, Order
from radnode_inference.generator.dicom_writer import write_breast, write_chest
from radnode_inference.generator.fields import Shape, grid

BREAST_SHAPE: Shape = (60, 160, 160)
CHEST_SHAPE: Shape = (112, 144, 144)
BEGAN = datetime(2026, 3, 2, 7, 40)
MISSING_SLICES = range(48, 55)

Truth = breast.BreastPhantom | chest.ChestPhantom


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One study of the set.

    purpose: `lesion`, `normal`, `unsuitable` (its models must decline it) or `phantom` (no model may see it).
    wrong: what is wrong with an unsuitable one, in words; "" otherwise.
    """

    name: str
    purpose: str
    modality: str
    seed: int
    order: Order
    wrong: str = ""

    @property
    def study_uid(self) -> str:
        return self.order.uid("study")

    def truth(self) -> Truth:
        """The arrays that `write` puts into files, with their truth masks."""
        return MAKERS[self.modality](self)

    def write(self, folder: Path) -> tuple[Path, ...]:
        """The study's DICOM files, below `folder`."""
        made = self.truth()
        if isinstance(made, breast.BreastPhantom):
            return write_breast(made, folder, self.order, before_contrast=not self.wrong)
        return write_chest(made, folder, self.order, leave_out=MISSING_SLICES if self.wrong else range(0))


def demo_studies() -> tuple[StudySpec, ...]:
    """The set that `make demo` sends: both kinds with and without a finding, two unsuitable ones, one test object."""
    return (
        breast_spec(1, "normal", seed=2),
        breast_spec(2, "lesion", seed=3),
        breast_spec(3, "normal", seed=10, layout=Layout.ENHANCED),
        breast_spec(4, "lesion", seed=1006, layout=Layout.TEMPORAL, compression=Compression.JPEG_LS),
        chest_spec(1, "normal", seed=2),
        chest_spec(2, "lesion", seed=3),
        chest_spec(3, "normal", seed=6),
        chest_spec(4, "lesion", seed=7),
        chest_spec(5, "unsuitable", seed=8, wrong=f"{len(MISSING_SLICES)} slices are missing in the middle"),
        breast_spec(5, "unsuitable", seed=12, wrong="there is no phase before contrast"),
        quality_spec(),
    )


def breast_spec(
    number: int,
    purpose: str,
    *,
    seed: int,
    layout: Layout = Layout.SERIES,
    compression: Compression = Compression.NATIVE,
    wrong: str = "",
) -> StudySpec:
    order = Order(
        patient_name=f"DEMO^BREAST {number:02d}",
        patient_id=f"DEMO-B{number:02d}",
        accession_number=f"DB{number:04d}",
        study_description="MR breast bilateral dynamic",
        patient_position="HFP",
        identity=f"demo-{seed}",
        layout=layout,
        compression=compression,
        began=BEGAN + timedelta(minutes=45 * number),
    )
    return StudySpec(name=f"breast-{number}", purpose=purpose, modality="MR", seed=seed, order=order, wrong=wrong)


def chest_spec(number: int, purpose: str, *, seed: int, wrong: str = "") -> StudySpec:
    order = Order(
        patient_name=f"DEMO^CHEST {number:02d}",
        patient_id=f"DEMO-C{number:02d}",
        accession_number=f"DC{number:04d}",
        study_description="CT chest",
        patient_sex="M",
        body_part="CHEST",
        identity=f"demo-{seed}",
        began=BEGAN + timedelta(minutes=20 + 15 * number),
    )
    return StudySpec(name=f"chest-{number}", purpose=purpose, modality="CT", seed=seed, order=order, wrong=wrong)


def quality_spec() -> StudySpec:
    """A water cylinder with inserts, as a CT is checked with every morning."""
    order = Order(
        patient_name="QA^PHANTOM",
        patient_id="QA-CT-1",
        study_description="QA PHANTOM daily",
        patient_sex="O",
        body_part="CHEST",
        identity="quality",
        quality_control=True,
        began=BEGAN,
    )
    return StudySpec(name="test-object", purpose="phantom", modality="QA", seed=0, order=order)


def cylinder(seed: int) -> chest.ChestPhantom:
    """Water in a cylinder of 200 mm with rods of air, acrylic and bone; no anatomy at all."""
    where = grid((24, 128, 128), (280.0, 280.0, 60.0), (0.0, 0.0, 0.0))
    x, y, _ = where.points()
    hu = np.where(np.hypot(x, y) < 100, 0, -1000).astype(np.float32)
    for angle, value in ((0, -1000), (120, 120), (240, 950)):
        cx, cy = 60 * np.cos(np.radians(angle)), 60 * np.sin(np.radians(angle))
        hu[np.hypot(x - cx, y - cy) < 14] = value
    hu += 6 * np.random.default_rng(seed).standard_normal(where.shape, dtype=np.float32)
    nothing = np.zeros(where.shape, bool)
    return chest.ChestPhantom(
        seed=seed, grid=where, hu=hu, lung_right=nothing, lung_left=nothing, airways=nothing, body=hu > -500, nodules=()
    )


MAKERS: dict[str, Callable[[StudySpec], Truth]] = {
    "MR": lambda s: breast.phantom(s.seed, lesion=s.purpose == "lesion", shape=BREAST_SHAPE, square_pixels=True),
    "CT": lambda s: chest.phantom(s.seed, nodules=s.purpose == "lesion", shape=CHEST_SHAPE),
    "QA": lambda s: cylinder(s.seed),
}
