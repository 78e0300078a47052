from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from support.series import Stack

from radnode_inference.study import GENERATOR_CREATOR, Study


def test_files_are_grouped_by_series_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    first, second = Stack(shape=(2, 3, 4)), Stack(shape=(3, 3, 4))
    for stack, number in ((first, 10), (second, 9)):

        def edit(i: int, ds: Dataset, number: int = number) -> None:
            ds.StudyInstanceUID, ds.SeriesNumber, ds.SeriesDescription = "1.2.3", number, f"S{number}"

        stack.write(tmp_path / str(number), edit)
    study = Study.from_folder(tmp_path)
    assert study.study_uid == "1.2.3"
    assert [s.series_uid for s in study.series] == [second.series_uid, first.series_uid]
    assert [len(s.headers) for s in study.series] == [3, 2]
    assert (study.series[0].modality, study.series[0].description) == ("CT", "S9")


def test_files_that_are_not_dicom_are_passed_over(tmp_path: Path) -> None:
    Stack().write(tmp_path)
    (tmp_path / "README").write_text("hello")
    (tmp_path / "empty").touch()
    assert len(Study.from_folder(tmp_path).series[0].headers) == 5


def test_an_empty_folder_and_two_studies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no DICOM image"):
        Study.from_folder(tmp_path)
    Stack().write(tmp_path / "a")
    Stack().write(tmp_path / "b")
    with pytest.raises(ValueError, match="2 studies"):
        Study.from_folder(tmp_path)


def test_only_a_study_marked_in_every_image_is_a_generated_one(tmp_path: Path) -> None:
    def mark(i: int, ds: Dataset) -> None:
        block = ds.private_block(0x0099, GENERATOR_CREATOR, create=True)
        block.add_new(0x01, "LO", "1")

    stack = Stack()
    stack.write(tmp_path / "all", mark)
    assert Study.from_folder(tmp_path / "all").generated
    stack.write(tmp_path / "some", lambda i, ds: mark(i, ds) if i else None)
    assert not Study.from_folder(tmp_path / "some").generated
