"""Images that stand beside the ones that count: copies, subtractions, maps, other echoes, screen saves, and what is missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.fields import Grid
from radnode_inference.generator.quirks_parts import (
    CLASSIC,
    EVERY,
    ONE_SERIES,
    PER_PHASE,
    Change,
    Quirk,
    Series,
    beside,
    each_phase,
    giving,
    is_dynamic,
    later,
    phases,
    within,
)
from radnode_inference.generator.stacks import Stack, Written, stored

BOTH = ("AcquisitionTime", "ContentTime")
UNNUMBERED = {"TemporalPositionIdentifier": None, "NumberOfTemporalPositions": None}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NO_PLACE = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}


def kind(*words: str) -> Any:
    return giving(ImageType=list(words))


def less(stack: Stack, first: Stack) -> Stack:
    """What brightened since the first phase, where both have slices."""
    count = min(len(stack.pixels), len(first.pixels))
    both = first_slices(stack, count)
    rise = np.maximum(both.pixels.astype(np.int32) - first.pixels[:count], 0)
    return replace(both, pixels=stored(rise.astype(np.float32)))


def subtractions(stacks: Sequence[Stack]) -> list[Stack]:
    """Computed on the console at the end: the times of their sources, but a content time of their own."""
    return [
        less(s, stacks[0]).edited(kind("DERIVED", "SECONDARY", "SUBTRACTION"), later(600 + n, "ContentTime"))
        for n, s in enumerate(stacks[1:], 1)
    ]


def projections(stacks: Sequence[Stack]) -> list[Stack]:
    """One image through each phase, as maximum."""
    return [first_slices(s, 1).edited(kind("DERIVED", "SECONDARY", "MIP"), later(900, "ContentTime")) for s in stacks]


def first_slices(stack: Stack, count: int) -> Stack:
    return replace(stack, pixels=stack.pixels[:count], grid=replace(stack.grid, shape=(count, *stack.grid.shape[1:])))


def screen_save(stacks: Sequence[Stack]) -> list[Stack]:
    """A picture of the screen with a curve, kept in the series from which it was made; it lies nowhere."""
    save = giving(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"], SOPClassUID=SECONDARY_CAPTURE, **NO_PLACE)
    return [first_slices(stacks[-1], 1).edited(save, giving(AcquisitionTime=None, **UNNUMBERED))]


def other_echoes(stacks: Sequence[Stack]) -> list[Stack]:
    """Fat, in and out of phase of a Dixon acquisition, each of every phase, with one description and one time."""
    made = []
    for part, factor in (("F", 0.4), ("IP", 1.2), ("OP", 0.7)):
        word = kind("ORIGINAL", "PRIMARY", f"{part}_FFE", part, "FFE")
        made += [replace(s, pixels=stored(s.pixels * np.float32(factor))).edited(word) for s in stacks]
    return made


def phase_images(stacks: Sequence[Stack]) -> list[Stack]:
    """The phase of the complex signal, beside its magnitude."""
    turned = giving(ImageType=["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"])
    return [replace(s, pixels=stored(4095.0 - s.pixels % 4096)).edited(turned) for s in stacks]


def twice(stacks: Sequence[Stack]) -> list[Stack]:
    """The images of the second phase once more, with other UIDs and the same pixels."""
    return list(stacks[1:2])


def moved(stack: Stack, n: int) -> Stack:
    """As after an elastic motion correction."""
    return replace(stack, pixels=np.roll(stack.pixels, 1, axis=2)).edited(later(200.0, "ContentTime"))


def interrupted(series: Series, order: Order) -> Series:
    """The third phase broken off after two thirds, and acquired again a little later."""
    _, one = phases(series)[2]
    part = first_slices(one, max(2 * len(one.pixels) // 3, 8))
    broken = replace(part, begins_s=one.begins_s - 20).having(**UNNUMBERED)
    return (*series, Written(number=905, description="dyn broken off", stacks=(broken,)))


def repeated(series: Series, order: Order) -> Series:
    """The last phase once more after a cough, 130 s later, as a series of its own."""
    one, last = phases(series)[-1]
    pixels = stored(last.pixels.astype(np.float32) + 1)
    again = replace(last, begins_s=last.begins_s + 130, pixels=pixels).having(**UNNUMBERED)
    return (*series, Written(number=906, description=one.description, stacks=(again,)))


def earlier(series: Series, order: Order, hours: float, **changes: Any) -> Series:
    """The phase before contrast as acquired before, and other than the dynamic series."""
    _, first = phases(series)[0]
    before = replace(
        first, begins_s=first.begins_s - 3600 * hours, written_s=None, pixels=stored(first.pixels * np.float32(1.7))
    )
    without = {**UNNUMBERED, "ContrastBolusAgent": None, "TriggerTime": None, **changes}
    return (*series, Written(number=970, description="t1 tra", stacks=(before.having(**without),)))


def haste(series: Series, order: Order) -> Series:
    """A scout by a heavily T2-weighted spin echo in three planes, with more images than any T2 series."""
    t2 = next(s for w in series for s in w.stacks if s.attributes.get("ScanningSequence") == "SE")
    turned = t2.grid.affine[:, [1, 0, 2, 3]] if len(t2.pixels) > 1 else t2.grid.affine
    many = np.repeat(t2.pixels, 3, axis=0)
    scout = replace(t2, pixels=many, grid=Grid(shape=many.shape, affine=t2.grid.affine), begins_s=1.0)
    other = replace(t2, grid=Grid(shape=t2.grid.shape, affine=turned), begins_s=2.0)
    return (*series, Written(number=980, description="haste 3 plane", stacks=(scout, other)))


def exponential(series: Series, order: Order) -> Series:
    """The exponential map beside the map of the coefficient, as GE names it; its values are no coefficients."""
    adc = next(
        s for w in series for s in w.stacks if "ADC" in s.attributes["ImageType"] or w.description.startswith("App")
    )
    map_ = replace(adc, pixels=stored(np.full(adc.pixels.shape, 600, np.float32))).having(
        ImageType=["DERIVED", "PRIMARY", "OTHER"]
    )
    return (Written(number=299, description="Exponential Apparent Diffusion Coefficient", stacks=(map_,)), *series)


def rescaled_adc(slope: float, divisor: float) -> Change:
    """The ADC map stored in other units: stored divided, and with a rescale slope."""

    def change(series: Series, order: Order) -> Series:
        def other(s: Stack) -> Stack:
            stated = replace(s, pixels=stored((s.pixels / divisor).astype(np.float32)))
            return stated.edited(giving(RescaleSlope=f"{slope:g}", RescaleIntercept="0"))

        return tuple(
            replace(w, stacks=tuple(other(s) for s in w.stacks)) if "ADC" in w.stacks[0].attributes["ImageType"] else w
            for w in series
        )

    return change


def directions(series: Series, order: Order) -> Series:
    """Three directions of every b value in the series that holds the traces."""

    def with_directions(one: Written) -> Written:
        odd = [
            replace(s, pixels=stored(s.pixels * np.float32(1 + 0.1 * n))).having(
                ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "NORM", "DIS2D"]
            )
            for s in one.stacks
            for n in (1, 2, 3)
        ]
        return replace(one, stacks=(*odd, *one.stacks))

    return tuple(with_directions(w) if "TRACEW" in w.stacks[0].attributes["ImageType"] else w for w in series)


def colour_maps(series: Series, order: Order) -> Series:
    """Time to peak, wash-in and wash-out, named by their descriptions only."""
    (one, first), (_, last) = phases(series)[0], phases(series)[-1]
    made = less(last, first).having(ImageType=["DERIVED", "PRIMARY", "M", "NORM", "DIS2D"])
    return (
        *series,
        *(Written(number=940 + n, description=f"{one.description}_{w}", stacks=(made,)) for n, w in enumerate(("TTP", "WI", "WO"))),
    )  # fmt: skip


def enhanced_late(stack: Stack, n: int) -> Stack:
    return stack.having(ContrastBolusAgent=None, ContrastBolusRoute=None) if n == 1 else stack


def enhanced_early(stack: Stack, n: int) -> Stack:
    return stack.having(ContrastBolusAgent="Gadobutrol") if n else stack.having(ContrastBolusAgent=None)


def second_before(series: Series, order: Order) -> Series:
    """One more phase before contrast, acquired between the first and the injection, on which the agent is typed already."""
    one, first = phases(series)[0]
    again = replace(first, begins_s=first.begins_s + 61).having(ContrastBolusAgent="Gadobutrol", **UNNUMBERED)
    added = Written(number=7 if not is_dynamic(one) else 907, description=one.description, stacks=(again,))
    return (*series, added)


SERIES_QUIRKS = {
    "subtractions-within": Quirk(seen="Philips, image algebra", layouts=ONE_SERIES, change=within(subtractions)),
    "projections-within": Quirk(seen="Philips, Canon", layouts=ONE_SERIES, change=within(projections)),
    "screen-save-within": Quirk(seen="any archive", layouts=ONE_SERIES, change=within(screen_save)),
    "echoes-within": Quirk(
        seen="Philips mDIXON, one series", layouts=(Layout.PHILIPS,),
        change=lambda series, order: within(other_echoes)(
            each_phase(lambda s, _: s.edited(kind("ORIGINAL", "PRIMARY", "W_FFE", "W", "FFE")))(series, order), order
        ),
    ),
    "phase-images-within": Quirk(seen="Philips", layouts=(Layout.PHILIPS, Layout.TEMPORAL), change=within(phase_images)),
    "images-twice": Quirk(seen="sent again by a workstation", layouts=ONE_SERIES, change=within(twice)),
    "phases-twice": Quirk(
        seen="sent again by a workstation", layouts=CLASSIC, change=beside(lambda s, n: s, name="{}")
    ),
    "phases-as-series-too": Quirk(
        seen="GE: Ph1/Ax VIBRANT", layouts=(Layout.GE, Layout.TEMPORAL),
        change=beside(lambda s, n: s.edited(later(300.0 + n, "ContentTime")), name="Ph/{}"),
    ),
    "moco": Quirk(
        seen="Siemens MoCo", layouts=(Layout.SIEMENS,),
        change=beside(lambda s, n: moved(s, n).edited(kind("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D", "MOCO")), first=1),
    ),
    "moco-by-description": Quirk(
        seen="Siemens MoCo, words of Image Type lost", layouts=PER_PHASE, change=beside(moved, first=1, name="{}_MOCO")
    ),
    "moco-unmarked": Quirk(
        seen="de-identified MoCo", layouts=PER_PHASE, change=beside(moved, first=1)
    ),
    "unmarked-subtractions": Quirk(
        seen="workstations: SUB1, SUB2", layouts=PER_PHASE,
        change=lambda series, order: beside(
            lambda s, n: less(s, phases(series)[0][1]).edited(later(900.0, *BOTH)), first=1, name="Sub1 {}"
        )(series, order),
    ),
    "colour-maps": Quirk(seen="Siemens TTP, WI, WO", layouts=CLASSIC, change=colour_maps),
    "interrupted": Quirk(seen="every scanner", layouts=PER_PHASE, change=interrupted),
    "repeated": Quirk(seen="every scanner", layouts=PER_PHASE, change=repeated),
    "other-session": Quirk(
        seen="examination begun in the morning", layouts=CLASSIC, change=lambda s, o: earlier(s, o, 4.0)
    ),
    "plain-t1": Quirk(
        seen="T1 without fat suppression on the same grid", layouts=CLASSIC,
        change=lambda s, o: earlier(s, o, 0.05, ScanOptions="PFP"),
    ),
    "other-echo": Quirk(
        seen="T1 with another echo time on the same grid", layouts=CLASSIC,
        change=lambda s, o: earlier(s, o, 0.05, EchoTime="2.9"),
    ),
    "haste": Quirk(seen="Siemens scout", layouts=CLASSIC, change=haste),
    "exponential": Quirk(seen="GE eADC", layouts=(Layout.GE, Layout.TEMPORAL), change=exponential),
    "adc-mm2": Quirk(seen="ADC in mm2/s", layouts=(Layout.TEMPORAL, Layout.SERIES), change=rescaled_adc(1e-6, 1.0)),
    "adc-milli": Quirk(seen="ADC in 1e-3 mm2/s", layouts=(Layout.TEMPORAL, Layout.SERIES), change=rescaled_adc(1e-3, 1.0)),
    "adc-tens": Quirk(
        seen="ADC in 1e-5 mm2/s", layouts=(Layout.TEMPORAL, Layout.SERIES), change=rescaled_adc(1.0, 10.0)
    ),
    "directions": Quirk(seen="Siemens: directions and trace in one series", layouts=(Layout.SIEMENS,), change=directions),
    "agent-late": Quirk(seen="typed late", layouts=EVERY, change=each_phase(enhanced_late)),
    "agent-early": Quirk(seen="typed early", layouts=PER_PHASE, change=second_before),
}  # fmt: skip
