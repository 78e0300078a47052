"""Breast MR studies with what real scanners and archives do to them: read right, or declined with the attribute's name."""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from support.quirks import RIGHT, quirky, verdict

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout
from radnode_inference.generator.quirks import BREAST, some_quirks
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.kinetics import KineticsModel, median_adc
from radnode_inference.models.breast_mri.mome_examination import examination
from radnode_inference.models.breast_mri.roles import roles_of
from radnode_inference.study import Study

OTHER_SERIES = ("haste", "exponential", "adc-mm2", "adc-milli", "adc-tens", "directions", "nameless")
"""Quirks of series beside the dynamic one."""
NIGHT = ("undated", "dates-stuck", "dates-gone")
"""Quirks that matter when the study passes midnight."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """declined: how `gate: sentence` begins, "" for right; more: phases added; assumed: words of an assumption."""

    declined: str = ""
    more: int = 0
    assumed: str = ""


EXPECTED = {
    "moco-unmarked": Expected(declined="timing: the AcquisitionTime of series"),
    "interrupted": Expected(declined="grids-differ"),
    "repeated": Expected(more=1),
    "agent-late": Expected(declined="timing: Contrast"),
    "agent-early": Expected(assumed="ContrastBolusAgent is named in 1 phase(s) before ContrastBolusStartTime"),
    "agent-unsaid": Expected(assumed="(ContrastBolusAgent); the first in time"),
    "agent-emptied": Expected(assumed="(ContrastBolusAgent); the first in time"),
    "start-gone": Expected(assumed="ContrastBolusStartTime"),
    "all-times-equal": Expected(declined="timing: AcquisitionTime and ContentTime are the same for some phases"),
    "times-equal": Expected(assumed="timed by ContentTime"),
    "dates-gone": Expected(assumed="passes midnight"),
    "undated": Expected(assumed="AcquisitionTime passes midnight"),
    "dates-stuck": Expected(declined="timing:"),
    "frame-times-gone": Expected(declined="timing: ContentTime is the same for some phases, and AcquisitionTime"),
    "trigger-disagrees": Expected(declined="timing: AcquisitionTime and TriggerTime differ by"),
    "manufacturer-gone": Expected(declined="scaling: "),
    "laterality-left": Expected(assumed="Laterality says left breast, but the images reach"),
    "laterality-frames": Expected(assumed="FrameLaterality says left breast, but the images reach"),
    "phases-twice": Expected(assumed="phases are in the study twice"),
    "phases-as-series-too": Expected(assumed="phases are in the study twice"),
}
OF_LAYOUT = {
    ("trigger-nought", Layout.GE): Expected(declined="timing: AcquisitionTime and TriggerTime"),
    ("dates-gone", Layout.GE): Expected(),
    ("dates-gone", Layout.PHILIPS): Expected(),
    ("undated", Layout.GE): Expected(),
    ("undated", Layout.PHILIPS): Expected(),
}
"""Where all phases have the time at which the series began, midnight does not lie between them."""


@pytest.fixture(scope="module")
def made() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(11, 12, 12), phases=5)


@pytest.fixture(scope="module")
def alone() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(9, 12, 12), phases=4, other_sequences=False)


def expected(quirk: str, layout: Layout) -> Expected:
    return OF_LAYOUT.get((quirk, layout), EXPECTED.get(quirk, Expected()))


def one_layout_each() -> list[tuple[str, Layout]]:
    """Every quirk in one layout, the layouts in turn; `benchmarks/quirks.py` runs them all."""
    turn = cycle(range(60))
    return [(name, quirk.layouts[next(turn) % len(quirk.layouts)]) for name, quirk in BREAST.items()]


@pytest.mark.parametrize(("quirk", "layout"), one_layout_each())
def test_an_oddity_is_read_right_or_declined_by_name(
    quirk: str, layout: Layout, made: breast.BreastPhantom, alone: breast.BreastPhantom, tmp_path: Path
) -> None:
    phantom = made if quirk in OTHER_SERIES else alone
    wanted = expected(quirk, layout)
    study = quirky(phantom, tmp_path, layout, quirk, night=quirk in NIGHT)
    found, roles = verdict(study, phantom, more=wanted.more)
    assert found.startswith(wanted.declined or RIGHT)
    if roles is not None and not wanted.declined:
        assert wanted.assumed in " ".join(roles.assumptions)
        assert set(roles.reasons) == {s.series_uid for s in study.series}


@pytest.mark.parametrize(
    ("quirk", "layout"),
    [("moco", Layout.SIEMENS), ("subtractions-within", Layout.TEMPORAL), ("plain-t1", Layout.SIEMENS),
     ("other-session", Layout.TEMPORAL), ("unmarked-subtractions", Layout.SERIES)],
)  # fmt: skip
def test_what_is_read_right_by_the_agents_name_is_not_read_wrong_without_it(
    quirk: str, layout: Layout, alone: breast.BreastPhantom, tmp_path: Path
) -> None:
    found, _ = verdict(quirky(alone, tmp_path, layout, quirk, "agent-emptied"), alone)
    wanted = "timing: by AcquisitionTime and its date the phase before contrast lies" if "session" in quirk else RIGHT
    assert found.startswith(wanted)


@pytest.mark.parametrize(
    ("quirk", "layout", "wanted"),
    [("exponential", Layout.GE, 1.0), ("adc-mm2", Layout.SERIES, 1e-6), ("adc-milli", Layout.TEMPORAL, 1e-3),
     ("adc-tens", Layout.TEMPORAL, 0.1)],
)  # fmt: skip
def test_the_coefficient_is_the_same_in_every_unit_or_not_given(
    quirk: str, layout: Layout, wanted: float, made: breast.BreastPhantom, tmp_path: Path
) -> None:
    roles = roles_of(quirky(made, tmp_path, layout, quirk))
    assert roles.adc is not None
    volume = roles.adc.volume()
    assert volume.voxels.mean() == pytest.approx(made.adc.voxels.mean() * wanted, rel=0.02)
    mask = volume.voxels > np.percentile(volume.voxels, 70)
    found = median_adc(mask, volume, volume)
    true = float(np.median(volume.voxels[mask])) / wanted * 1e-6
    assert found is None if quirk == "adc-tens" else found == pytest.approx(true, rel=0.02)


def test_traces_among_directions_are_the_diffusion_images(made: breast.BreastPhantom, tmp_path: Path) -> None:
    roles = roles_of(quirky(made, tmp_path, Layout.SIEMENS, "directions"))
    assert list(roles.dwi) == sorted(float(b) for b in made.dwi)
    assert all(
        images.volume().voxels.mean() == pytest.approx(made.dwi[int(b)].voxels.mean(), rel=0.01)
        for b, images in roles.dwi.items()
    )


def test_a_scout_with_more_images_is_not_the_t2_series(made: breast.BreastPhantom, tmp_path: Path) -> None:
    roles = roles_of(quirky(made, tmp_path, Layout.TEMPORAL, "haste"))
    assert roles.t2 is not None
    assert roles.t2.volume().shape == made.t2.grid.shape


@pytest.mark.parametrize("seed", range(6))
def test_several_oddities_at_once_never_give_a_wrong_phase(
    seed: int, alone: breast.BreastPhantom, tmp_path: Path
) -> None:
    layout = list(Layout)[seed % len(Layout)]
    quirks = tuple(q for q in some_quirks(seed, layout, BREAST) if q not in OTHER_SERIES)
    more = sum(expected(q, layout).more for q in quirks)
    found, _ = verdict(quirky(alone, tmp_path, layout, *quirks), alone, more=more)
    assert not found.startswith("wrong"), quirks


@pytest.fixture(scope="module")
def patient() -> breast.BreastPhantom:
    return breast.phantom(1006, lesion=True, shape=(24, 64, 64), phases=4, other_sequences=False)


@pytest.mark.parametrize(
    ("layout", "quirks", "words"),
    [
        (Layout.ENHANCED, ("agent-late",), "ContrastBolusAgent puts contrast after a phase that shows it already"),
        (Layout.SERIES, ("start-gone", "agent-early"), "ContrastBolusAgent puts contrast before a phase that does not show"),
    ],
)  # fmt: skip
def test_an_agent_that_was_typed_late_or_early_is_seen_in_the_images(
    layout: Layout, quirks: tuple[str, ...], words: str, patient: breast.BreastPhantom, tmp_path: Path
) -> None:
    study = quirky(patient, tmp_path, layout, *quirks, states_injection=False)
    for read in (KineticsModel().read, examination):
        with pytest.raises(DeclinedError, match=words) as declined:
            read(study, lambda part, said: None)
        assert declined.value.gate == "timing"


def test_a_first_phase_with_contrast_is_not_taken_for_the_one_before_it(
    patient: breast.BreastPhantom, tmp_path: Path
) -> None:
    study = quirky(patient, tmp_path, Layout.SERIES, "agent-emptied")
    without = Study(study_uid=study.study_uid, series=tuple(s for s in study.series if s.series_uid != first(study)))
    with pytest.raises(DeclinedError, match="it holds contrast already") as declined:
        KineticsModel().read(without, lambda part, said: None)
    assert declined.value.gate == "timing"


def first(study: Study) -> str:
    return roles_of(study).pre.images.series_uid


@pytest.mark.parametrize(
    ("layout", "quirk", "night"),
    [(Layout.PHILIPS_ENHANCED, "laterality-frames", False), (Layout.SIEMENS, "undated", True)],
)
def test_a_side_or_a_night_that_the_headers_get_wrong_changes_no_number(
    layout: Layout, quirk: str, night: bool, patient: breast.BreastPhantom, tmp_path: Path
) -> None:
    plain = KineticsModel().read(quirky(patient, tmp_path / "plain", layout), lambda part, said: None)
    odd = KineticsModel().read(quirky(patient, tmp_path / "odd", layout, quirk, night=night), lambda part, said: None)
    values = [[(m.concept.value, m.value) for i in f.items for m in i.measurements] for f in (plain, odd)]
    assert values[0] == values[1] != []
    assert set(odd.statements) - set(plain.statements)


def test_images_of_one_side_are_declined_with_what_says_so(patient: breast.BreastPhantom, tmp_path: Path) -> None:
    study = quirky(patient, tmp_path, Layout.TEMPORAL, "one-side")
    with pytest.raises(DeclinedError, match=r"left breast only \(by Laterality\)") as declined:
        KineticsModel().read(study, lambda part, said: None)
    assert declined.value.gate == "coverage"
