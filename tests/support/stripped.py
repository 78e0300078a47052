"""Studies from which attributes were removed."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pydicom
from pydicom.datadict import tag_for_keyword

from radnode_inference.generator.dicom_parts import Layout
from radnode_inference.generator.dicom_writer import MULTI_FRAME
from radnode_inference.header import Header
from radnode_inference.study import Series, Study

PRIVATE = "private elements"


def without(study: Study, layout: Layout, removed: tuple[str, ...], folder: Path) -> Study:
    """The study without the attributes of these keywords (PRIVATE: without the makers' own), which the files keep.

    Enhanced ones are written again into `folder`, since theirs are nested.
    """
    series = []
    for one in study.series:
        if layout in MULTI_FRAME:
            headers = tuple(rewritten(h, removed, folder / f"{i}-{one.series_uid}") for i, h in enumerate(one.headers))
        else:
            headers = tuple(stripped(h, removed) for h in one.headers)
        series.append(Series(series_uid=one.series_uid, headers=headers))
    return Study(study_uid=study.study_uid, series=tuple(series))


def stripped(header: Header, removed: tuple[str, ...]) -> Header:
    gone = {tag_for_keyword(k) for k in removed if k != PRIVATE}
    kept = {
        t: v for t, v in header.elements.items()
        if t not in gone and not (PRIVATE in removed and t >> 16 & 1 and t >> 16 != 0x99)
    }  # fmt: skip
    return replace(header, elements=kept)


def rewritten(header: Header, removed: tuple[str, ...], path: Path) -> Header:
    assert header.path is not None
    ds = pydicom.dcmread(header.path)
    strip(ds, removed)
    ds.save_as(path)
    return Header.read(path)


def strip(ds: pydicom.Dataset, removed: Iterable[str]) -> None:
    for element in list(ds):
        private = element.tag.is_private and element.tag.group != 0x99
        if element.keyword in removed or (private and PRIVATE in removed):
            del ds[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                strip(item, removed)
