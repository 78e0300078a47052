"""A file that crashes, stalls or swells a decoder costs that picture and nothing else."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from support.decoding import crash, process_id, refuse, stall, swell
from support.findings import scene

from radnode.web import overlay, pixels
from radnode.web.pixels import CrashedError, Decoder


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def test_pictures_are_made_in_one_other_process(decoder: Decoder) -> None:
    found = {decoder.run(process_id) for _ in range(3)}
    assert len(found) == 1
    assert found != {process_id()}


@pytest.mark.parametrize("wrong", [crash, stall])
def test_a_file_that_ends_its_process_costs_one_picture(decoder: Decoder, wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(CrashedError):
        decoder.run(wrong)
    assert decoder.run(process_id)


def test_a_file_that_wants_all_the_memory_is_refused(decoder: Decoder) -> None:
    with pytest.raises(MemoryError):
        decoder.run(swell)
    assert decoder.run(process_id)


def test_what_a_decoder_says_is_handed_on(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="this is no image"):
        decoder.run(refuse)


def test_a_thumbnail_shows_something_also_where_all_lies_outside_the_window(tmp_path: Path) -> None:
    seen = scene(tmp_path, shape=(1, 16, 16))
    file = next(seen.folder.glob("*.dcm"))
    ds = pydicom.dcmread(file)
    ds.Modality, ds.RescaleSlope, ds.RescaleIntercept = "CT", 1, -3000
    ds.PixelData = np.arange(256, dtype=f"<u{ds.BitsAllocated // 8}").tobytes()
    ds.save_as(file)
    picture = np.asarray(Image.open(io.BytesIO(overlay.thumbnail_png(file))))
    assert picture.shape == (16, 16)
    assert np.ptp(picture) > 200


def test_a_picture_comes_also_from_the_process_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at once, then one by one: a pool that changes its process by itself then waits for one that is gone."""
    monkeypatch.setattr(pixels, "PICTURES", 8)
    made, found = Decoder(), list[int]()

    def picture() -> threading.Thread:
        thread = threading.Thread(target=lambda: found.append(int(made.run(process_id))), daemon=True)
        thread.start()
        return thread

    for thread in [picture() for _ in range(4)]:
        thread.join(60)
    for _ in range(15):
        picture().join(60)
    assert len(found) == 19
    assert 2 <= len(set(found)) <= 4
    made.close()
