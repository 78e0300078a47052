"""Headers as scanners, archives and de-identification leave them: times, dates, contrast, laterality, rounding, words."""

from typing import Any

from pydicom import Dataset

from radnode_inference.generator.dicom_parts import Layout
from radnode_inference.generator.quirks_parts import (
    CLASSIC,
    EVERY,
    NESTED,
    ONE_SERIES,
    PER_PHASE,
    Change,
    Quirk,
    each_image,
    each_object,
    each_phase,
    every_image,
    giving,
    in_turn,
)
from radnode_inference.generator.stacks import Edit, Stack

NO_AGENT = {"ContrastBolusRoute": None, "ContrastBolusStartTime": None}


def some(edit: Edit, every: int = 3) -> Edit:
    """The edit in one image of every `every`, the first among them."""

    def edited(ds: Dataset, index: int) -> None:
        if index % every == 0:
            edit(ds, index)

    return edited


def after_first(edit: Edit) -> Change:
    """The edit in the images of all phases but the first."""
    return each_phase(lambda stack, n: stack.edited(edit) if n else stack)


def by_number(keyword: str, value: Any) -> Change:
    """An attribute from the phase's number."""
    return each_phase(lambda stack, n: stack.edited(giving(**{keyword: value(n)})))


def undated(ds: Dataset, index: int) -> None:
    """Without the day of the acquisition; the series has that of the study's begin."""
    for keyword in ("AcquisitionDate", "AcquisitionDateTime"):
        if keyword in ds:
            delattr(ds, keyword)
    ds.SeriesDate = ds.StudyDate


def dates_stuck(ds: Dataset, index: int) -> None:
    ds.AcquisitionDate = ds.SeriesDate = ds.ContentDate = ds.StudyDate


def dates_gone(ds: Dataset, index: int) -> None:
    for keyword in ("AcquisitionDate", "SeriesDate", "ContentDate", "StudyDate"):
        setattr(ds, keyword, "")


def dates_shifted(ds: Dataset, index: int) -> None:
    for keyword in ("AcquisitionDate", "SeriesDate", "ContentDate", "StudyDate"):
        setattr(ds, keyword, "19580417")


def slices_over_time(ds: Dataset, index: int) -> None:
    """Each slice with a time of its own, 0.4 s after the one before."""
    text = ds.get("AcquisitionTime", "093000.0")
    total = int(text[:2]) * 3600 + int(text[2:4]) * 60 + float(text[4:]) + 0.4 * index
    ds.AcquisitionTime = f"{int(total // 3600):02d}{int(total // 60) % 60:02d}{total % 60:09.6f}"


def undated_enhanced(ds: Dataset) -> None:
    """The times of the frames are gone, and that of the whole is no date time but a date."""
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.FrameContentSequence[0].FrameAcquisitionDateTime
    ds.AcquisitionDateTime = ds.StudyDate


def unsaid_enhanced(ds: Dataset) -> None:
    """No frame says whether contrast was given."""
    for group in ds.PerFrameFunctionalGroupsSequence:
        if "ContrastBolusUsageSequence" in group:
            del group.ContrastBolusUsageSequence
    if "ContrastBolusAgentSequence" in ds:
        del ds.ContrastBolusAgentSequence


def rounded(ds: Dataset, index: int) -> None:
    """As another writer turns numbers into text."""
    ds.PixelSpacing = [f"{float(v) + 6e-8:.8f}" for v in ds.get("PixelSpacing", (1, 1))]
    ds.RepetitionTime = f"{float(ds.RepetitionTime) + 0.004:.3f}"


def wide_spacing(ds: Dataset, index: int) -> None:
    """Pixels of a width at which rounding to three places turns."""
    ds.PixelSpacing = ["8.12500000", "8.12500000"]
    ds.RepetitionTime = "4.45"


def protocol(ds: Dataset, index: int) -> None:
    ds.ProtocolName = "t1_fl3d_tra_dyn_sub"


def resolution_in_s(stack: Stack, n: int) -> Stack:
    """Temporal Resolution in seconds, where others write milliseconds."""
    given = stack.attributes.get("TemporalResolution")
    return stack.edited(giving(TemporalResolution=f"{float(given) / 1000:.2f}")) if given else stack


def manufacturer_gone(stack: Stack, n: int) -> Stack:
    """Phases of different slopes without the maker's name and private elements."""
    slope = 1.3 if n == 0 else 2.6

    def strip(ds: Dataset, index: int) -> None:
        ds.remove_private_tags()
        ds.Manufacturer, ds.RescaleSlope = "", f"{slope:g}"

    return stack.edited(strip)


def trigger(seconds: float) -> Change:
    return each_phase(lambda stack, n: stack.edited(giving(TriggerTime=f"{1000 * seconds * n:.1f}")))


def narrow(ds: Dataset, index: int) -> None:
    """The images moved so that they show one side only."""
    if "ImagePositionPatient" in ds:
        ds.ImagePositionPatient[0] = float(ds.ImagePositionPatient[0]) + 220.0
    ds.Laterality = "L"


def laterality_of_frames(ds: Dataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].FrameAnatomySequence[0].FrameLaterality = "L"


def nameless(ds: Dataset, index: int) -> None:
    for keyword in ("SeriesDescription", "ProtocolName", "StudyDescription"):
        if keyword in ds:
            setattr(ds, keyword, "")


AGENT_GONE = each_image(giving(ContrastBolusAgent="", **NO_AGENT))
HEADER_QUIRKS = {
    "agent-emptied": Quirk(seen="QIN, ISPY", layouts=CLASSIC, change=AGENT_GONE),
    "agent-unsaid": Quirk(seen="de-identified enhanced", layouts=NESTED, change=each_object(unsaid_enhanced)),
    "start-gone": Quirk(seen="most scanners", layouts=CLASSIC, change=each_image(giving(ContrastBolusStartTime=None))),
    "agent-in-some": Quirk(
        seen="de-identified", layouts=CLASSIC, change=each_image(some(giving(ContrastBolusAgent="", **NO_AGENT)))
    ),
    "agent-without": Quirk(
        seen="'no contrast' typed before", layouts=CLASSIC,
        change=each_phase(lambda s, n: s if n else s.having(ContrastBolusAgent="WITHOUT CONTRAST")),
    ),
    "time-in-some": Quirk(seen="QIN", layouts=CLASSIC, change=each_image(some(giving(AcquisitionTime=None)))),
    "times-equal": Quirk(
        seen="one acquisition time for all", layouts=PER_PHASE, change=each_image(giving(AcquisitionTime="093010.0"))
    ),
    "all-times-equal": Quirk(
        seen="one time for all", layouts=PER_PHASE,
        change=each_image(giving(AcquisitionTime="093010.0", ContentTime="093010.0")),
    ),
    "date-time-cut": Quirk(
        seen="de-identified", layouts=CLASSIC, change=each_image(giving(AcquisitionDateTime="20260302"))
    ),
    "date-time-dummy": Quirk(
        seen="de-identified", layouts=PER_PHASE, change=each_image(giving(AcquisitionDateTime="19000101000000"))
    ),
    "dates-shifted": Quirk(seen="TCIA", layouts=CLASSIC, change=every_image(dates_shifted)),
    "dates-gone": Quirk(seen="TCIA", layouts=CLASSIC, change=every_image(dates_gone)),
    "undated": Quirk(seen="older scanners", layouts=CLASSIC, change=every_image(undated)),
    "dates-stuck": Quirk(seen="de-identified", layouts=PER_PHASE, change=every_image(dates_stuck)),
    "slices-over-time": Quirk(
        seen="Canon", layouts=(Layout.SERIES, Layout.TEMPORAL), change=each_image(slices_over_time)
    ),
    "frame-times-gone": Quirk(seen="de-identified enhanced", layouts=NESTED, change=each_object(undated_enhanced)),
    "trigger-disagrees": Quirk(seen="nominal trigger times", layouts=(Layout.TEMPORAL,), change=trigger(240.0)),
    "trigger-nought": Quirk(seen="Siemens, Canon", layouts=CLASSIC, change=trigger(0.0)),
    "resolution-in-s": Quirk(seen="Canon, GE", layouts=CLASSIC, change=each_phase(resolution_in_s)),
    "rounded-apart": Quirk(
        seen="converted objects", layouts=CLASSIC, change=in_turn(each_image(wide_spacing), after_first(rounded))
    ),
    "research-mode": Quirk(seen="GE: RM", layouts=(Layout.GE,), change=each_image(giving(ScanningSequence="RM"))),
    "protocol-sub": Quirk(seen="Siemens protocol names", layouts=CLASSIC, change=each_image(protocol)),
    "nameless": Quirk(seen="de-identified", layouts=(Layout.TEMPORAL, Layout.SIEMENS), change=every_image(nameless)),
    "laterality-left": Quirk(seen="typed at the console", layouts=CLASSIC, change=each_image(giving(Laterality="L"))),
    "laterality-frames": Quirk(seen="typed at the console", layouts=NESTED, change=each_object(laterality_of_frames)),
    "one-side": Quirk(seen="one breast at a time", layouts=CLASSIC, change=each_image(narrow)),
    "manufacturer-gone": Quirk(seen="de-identified Philips", layouts=ONE_SERIES, change=each_phase(manufacturer_gone)),
    "prone-feet-first": Quirk(
        seen="QIN", layouts=EVERY, change=lambda s, o: s if o.layout in NESTED else every_image(giving(PatientPosition="FFP"))(s, o)
    ),
}  # fmt: skip
