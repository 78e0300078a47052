"""The roles of a breast MR in every layout with attributes removed one by one: the same, less, or declined by name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.stripped import PRIVATE, without

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles import Roles, roles_of
from radnode_inference.study import Study

DESCRIPTIONS = ("SeriesDescription", "ProtocolName")
CLOCK = ("AcquisitionTime", "AcquisitionDateTime", "FrameAcquisitionDateTime")
SEQUENCE = ("ScanningSequence", "EchoPulseSequence", "EchoPlanarPulseSequence")
NAME = ("SequenceName", "PulseSequenceName")
EVERY, NESTED = tuple(Layout), (Layout.ENHANCED, Layout.PHILIPS_ENHANCED)
PLAIN = (Layout.SERIES, Layout.TEMPORAL, Layout.ENHANCED)


@dataclass(frozen=True, kw_only=True)
class Case:
    """layouts where removing the attributes has the effect: what is lost, words of an assumption, or words of a refusal."""

    removed: tuple[str, ...]
    layouts: tuple[Layout, ...]
    lost: str = ""
    assumed: str = ""
    declined: str = ""


CASES = (
    Case(removed=(), layouts=EVERY),
    Case(removed=DESCRIPTIONS, layouts=tuple(v for v in EVERY if v is not Layout.GE)),
    Case(removed=DESCRIPTIONS, layouts=(Layout.GE,), lost="adc"),
    Case(removed=("ImageType",), layouts=(*PLAIN, Layout.SIEMENS, Layout.GE)),
    Case(removed=("ImageType",), layouts=(Layout.PHILIPS, Layout.PHILIPS_ENHANCED), lost="adc"),
    Case(removed=("ImageType", *DESCRIPTIONS), layouts=(*PLAIN, Layout.PHILIPS, Layout.PHILIPS_ENHANCED), lost="adc"),
    # without both, nothing but its time says that a subtraction is no phase
    Case(
        removed=("ImageType", *DESCRIPTIONS), layouts=(Layout.SIEMENS,),
        declined="AcquisitionTime and ContentTime are the same for some phases",
    ),
    Case(
        removed=("ImageType", *DESCRIPTIONS), layouts=(Layout.GE,),
        declined="AcquisitionTime and TriggerTime and ContentTime are the same for some phases",
    ),
    Case(removed=SEQUENCE, layouts=EVERY),
    Case(removed=NAME, layouts=EVERY),
    Case(removed=(*SEQUENCE, *NAME), layouts=EVERY),
    Case(removed=("MRAcquisitionType",), layouts=EVERY),
    Case(removed=("FlipAngle",), layouts=EVERY),
    Case(removed=("RepetitionTime",), layouts=tuple(v for v in EVERY if v is not Layout.PHILIPS)),
    Case(removed=("RepetitionTime",), layouts=(Layout.PHILIPS,), lost="t2"),
    Case(removed=("EchoTime", "EffectiveEchoTime"), layouts=tuple(v for v in EVERY if v is not Layout.PHILIPS)),
    Case(removed=("EchoTime", "EffectiveEchoTime"), layouts=(Layout.PHILIPS,), lost="t2"),
    Case(removed=CLOCK, layouts=(Layout.SERIES, Layout.TEMPORAL, Layout.SIEMENS), assumed="ContentTime"),
    Case(
        removed=CLOCK, layouts=(*NESTED, Layout.GE, Layout.PHILIPS),
        declined="ContentTime is the same for some phases, and AcquisitionTime",
    ),
    Case(removed=("ContentTime",), layouts=EVERY),
    Case(removed=(*CLOCK, "ContentTime"), layouts=EVERY, declined="AcquisitionTime (or ContentTime, TriggerTime) is missing"),
    Case(removed=("TemporalPositionIdentifier", "TemporalPositionIndex"), layouts=EVERY),
    Case(removed=("NumberOfTemporalPositions",), layouts=EVERY),
    Case(removed=("TemporalResolution", "FrameAcquisitionDuration"), layouts=EVERY),
    Case(removed=("TriggerTime",), layouts=tuple(v for v in EVERY if v is not Layout.GE)),
    Case(removed=("TriggerTime",), layouts=(Layout.GE,), declined="and TriggerTime"),
    Case(removed=("ContrastBolusAgent", "ContrastBolusUsageSequence"), layouts=EVERY),
    Case(removed=("ContrastBolusStartTime",), layouts=EVERY, assumed="ContrastBolusStartTime"),
    Case(
        removed=("ContrastBolusStartTime", "ContrastBolusAgent", "ContrastBolusUsageSequence"), layouts=EVERY,
        assumed="ContrastBolusAgent",
    ),
    Case(removed=("DiffusionBValue",), layouts=PLAIN, lost="dwi"),
    Case(removed=("DiffusionBValue",), layouts=tuple(v for v in EVERY if v not in PLAIN)),
    Case(removed=(PRIVATE,), layouts=(*PLAIN, Layout.SIEMENS, Layout.PHILIPS_ENHANCED)),
    Case(removed=(PRIVATE,), layouts=(Layout.GE,), lost="dwi"),
    Case(removed=(PRIVATE,), layouts=(Layout.PHILIPS,), declined="Dynamic Scan Begin Time"),
    Case(removed=(PRIVATE, "SequenceName"), layouts=(Layout.SIEMENS,), lost="dwi"),
    Case(removed=("Manufacturer", "ManufacturerModelName"), layouts=EVERY),
)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(11, 16, 16), phases=4)


@pytest.fixture(scope="module")
def studies(made: breast.BreastPhantom, tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Study]:
    written = {}
    for layout in Layout:
        order = Order(patient_name="DEMO^ROLES", patient_id="R", layout=layout)
        written[layout] = Study.from_files(write_breast(made, tmp_path_factory.mktemp(layout), order))
    return written


@pytest.mark.parametrize(
    ("case", "layout"), [(c, v) for c in CASES for v in c.layouts], ids=lambda v: "-".join(getattr(v, "removed", (v,)))
)
def test_without_an_attribute_the_roles_are_the_same_or_the_loss_is_named(
    case: Case, layout: Layout, made: breast.BreastPhantom, studies: dict[Layout, Study], tmp_path: Path
) -> None:
    study = without(studies[layout], layout, case.removed, tmp_path)
    if case.declined:
        with pytest.raises(DeclinedError) as declined:
            roles_of(study)
        assert declined.value.gate == "timing"
        assert case.declined in declined.value.sentence
        return
    roles = roles_of(study)
    found = [p.after_injection_s for p in (roles.pre, *roles.posts)]
    shift = found[1] - made.times_s[1] if case.assumed.startswith("Contrast") else 0.0
    assert np.allclose(np.array(found) - shift, made.times_s, atol=0.6)
    assert {k for k, there in present(roles, made).items() if not there} == {case.lost} - {""}
    assert bool(roles.assumptions) == bool(case.assumed)
    assert case.assumed in " ".join(roles.assumptions)
    assert set(roles.reasons) == {s.series_uid for s in study.series}
    assert all(len(reason) > 20 for reason in roles.reasons.values())


def test_every_attribute_is_removed_in_every_layout() -> None:
    for removed in {c.removed for c in CASES} - {(PRIVATE, "SequenceName")}:
        covered = [v for c in CASES if c.removed == removed for v in c.layouts]
        assert sorted(covered) == sorted(Layout), removed


def present(roles: Roles, made: breast.BreastPhantom) -> dict[str, bool]:
    """Which of the other images were found, and are the right ones."""
    return {
        "t2": roles.t2 is not None and len(roles.t2.frames) == made.t2.grid.shape[0],
        "dwi": list(roles.dwi) == sorted(float(b) for b in made.dwi),
        "adc": roles.adc is not None and near(roles.adc.volume().voxels.mean(), made.adc.voxels.mean()),
    }


def near(one: float, other: float) -> bool:
    return abs(float(one) - float(other)) < 1.0
