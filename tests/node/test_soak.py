"""What the soak looks for in the PACS at its end."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from radnode.tables import DeliveryRow, ResultRow

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("superseded_at", "there", "wrong"),
    (
        (1.0, {"old", "new"}, []),
        (1.0, {"old"}, ["a current result is not in the PACS"]),
        (1.0, {"old", "new", "twin"}, ["the PACS has an object that was never delivered"]),
        (9.0, {"old", "new"}, ["a superseded result of m was delivered after the current one"]),
    ),
    ids=("as it should be", "missing", "doubled", "sent again"),
)
def test_the_pacs_is_compared_with_everything_that_was_delivered(
    soak: ModuleType, superseded_at: float, there: set[str], wrong: list[str]
) -> None:
    made = [ResultRow(uid="old", model="m", current=False), ResultRow(uid="new", model="m", current=True)]
    deliveries = [
        DeliveryRow(result_uid="old", delivered_at=superseded_at),
        DeliveryRow(result_uid="new", delivered_at=2.0),
    ]
    assert list(soak.wrongly_there(made, deliveries, there)) == wrong


def test_a_study_without_a_result_is_wrong(soak: ModuleType) -> None:
    assert list(soak.wrongly_there([], [], set())) == ["no result, or only that no model read it"]
