"""What the quirks are made of: which stacks are phases, attributes changed in every image, series added."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydicom import Dataset

from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.stacks import Edit, Stack, Written

Series = tuple[Written, ...]
Change = Callable[[Series, Order], Series]
OfPhase = Callable[[Stack, int], Stack]

PER_PHASE = (Layout.SERIES, Layout.SIEMENS)
"""Each phase is a series."""
ONE_SERIES = (Layout.TEMPORAL, Layout.GE, Layout.PHILIPS)
"""All phases are in one series of single-frame images."""
CLASSIC = (*PER_PHASE, *ONE_SERIES)
NESTED = (Layout.ENHANCED, Layout.PHILIPS_ENHANCED)
EVERY = (*CLASSIC, *NESTED)


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """One oddity. seen: at whom or where; layouts: that can have it; change: makes it."""

    seen: str
    layouts: tuple[Layout, ...]
    change: Change


def is_phase(stack: Stack) -> bool:
    given = stack.attributes
    return (
        given.get("ScanningSequence") == "GR"
        and given.get("MRAcquisitionType") == "3D"
        and given["ImageType"][0] == "ORIGINAL"
    )


def is_dynamic(series: Written) -> bool:
    return any(is_phase(s) for s in series.stacks)


def phases(series: Series) -> list[tuple[Written, Stack]]:
    """The phases in time with the series they are in."""
    return sorted(((one, s) for one in series for s in one.stacks if is_phase(s)), key=lambda pair: pair[1].begins_s)


def each_phase(change: OfPhase) -> Change:
    """Every phase changed; it is told which one it is, from 0."""

    def changed(series: Series, order: Order) -> Series:
        number = {id(s): n for n, (_, s) in enumerate(phases(series))}
        return tuple(
            replace(one, stacks=tuple(change(s, number[id(s)]) if id(s) in number else s for s in one.stacks))
            for one in series
        )

    return changed


def each_image(edit: Edit) -> Change:
    """Every image of a phase changed."""
    return each_phase(lambda stack, _: stack.edited(edit))


def every_image(edit: Edit) -> Change:
    """Every image of the study changed."""
    return lambda series, order: tuple(replace(w, stacks=tuple(s.edited(edit) for s in w.stacks)) for w in series)


def each_object(edit: Callable[[Dataset], None]) -> Change:
    """Every enhanced image of phases changed."""
    return lambda series, order: tuple(replace(w, edits=(*w.edits, edit)) if is_dynamic(w) else w for w in series)


def giving(**values: Any) -> Edit:
    """Attributes set; None takes one away."""

    def edit(ds: Dataset, index: int) -> None:
        for keyword, value in values.items():
            if value is not None:
                setattr(ds, keyword, value)
            elif keyword in ds:
                delattr(ds, keyword)

    return edit


def later(seconds: float, *keywords: str) -> Edit:
    """Times moved, with the date beside them."""

    def edit(ds: Dataset, index: int) -> None:
        for keyword in keywords:
            day = keyword.replace("Time", "Date")
            if not ds.get(keyword) or not ds.get(day):
                continue
            moved = datetime.strptime(ds[day].value + ds[keyword].value, "%Y%m%d%H%M%S.%f") + timedelta(seconds=seconds)
            setattr(ds, day, f"{moved:%Y%m%d}")
            setattr(ds, keyword, f"{moved:%H%M%S.%f}")

    return edit


def beside(change: OfPhase, *, first: int = 0, name: str = "{}", number: int = 900) -> Change:
    """Each phase from `first` on once more, changed, in a series of its own."""

    def added(series: Series, order: Order) -> Series:
        more = [
            Written(number=number + n, description=name.format(one.description), stacks=(change(stack, n),))
            for n, (one, stack) in enumerate(phases(series))
            if n >= first
        ]
        return (*series, *more)

    return added


def within(make: Callable[[Sequence[Stack]], Sequence[Stack]]) -> Change:
    """More stacks in the series that holds the phases."""

    def added(series: Series, order: Order) -> Series:
        return tuple(
            replace(w, stacks=(*w.stacks, *make([s for s in w.stacks if is_phase(s)]))) if is_dynamic(w) else w
            for w in series
        )

    return added


def in_turn(*changes: Change) -> Change:
    def all_of_them(series: Series, order: Order) -> Series:
        for change in changes:
            series = change(series, order)
        return series

    return all_of_them
