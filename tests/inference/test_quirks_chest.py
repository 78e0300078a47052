"""Chest CTs with what scanners and archives leave in them: the right slices are read, or the gate is named."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from radnode_inference.generator import chest
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_chest
from radnode_inference.generator.quirks import CHEST
from radnode_inference.load import first_loadable
from radnode_inference.match import best_ct
from radnode_inference.model import DeclinedError
from radnode_inference.study import Study

LEFT_OUT = ("dose-report-within", "localizer-within")
DECLINED = {"images-twice": "share positions"}
"""By the words of what was passed over, or of the refusal."""
UNKNOWN_KERNEL = "kernel-gone"
"""The soft and the sharp images cannot be told apart then."""


@pytest.fixture(scope="module")
def made() -> chest.ChestPhantom:
    return chest.phantom(3, nodules=True, shape=(40, 24, 24))


def one_layout_each() -> list[tuple[str, Layout]]:
    turn = cycle(range(8))
    return [(name, quirk.layouts[next(turn) % len(quirk.layouts)]) for name, quirk in CHEST.items()] + [
        (name, Layout.SERIES) for name in CHEST
    ]


@pytest.mark.parametrize(("quirk", "layout"), one_layout_each())
def test_the_slices_are_read_right_or_passed_over_by_name(
    quirk: str, layout: Layout, made: chest.ChestPhantom, tmp_path: Path
) -> None:
    order = Order(patient_name="DEMO^QUIRKS", patient_id="Q", body_part="CHEST", layout=layout, quirks=(quirk,))
    match = best_ct(Study.from_files(write_chest(made, tmp_path, order)))
    try:
        _, volume, passed_over = first_loadable(match)
    except DeclinedError as e:
        assert DECLINED[quirk] in e.sentence
        return
    assert DECLINED.get(quirk, "") in " ".join(passed_over)
    assert ("1 pictures or localizers in it were left out" in match.reason) is (quirk in LEFT_OUT)
    if not passed_over and quirk != UNKNOWN_KERNEL:
        off = np.abs(volume.voxels - np.maximum(made.hu, -1024))
        inside = off[:, 8:-8, 8:-8]  # outside the circle, GE and the phantom differ
        assert volume.voxels.shape == made.hu.shape
        assert float(inside.max()) < 1.0
