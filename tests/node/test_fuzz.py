"""Whatever bytes come, no target crashes, hangs, fills the memory or logs an error that nobody expected.

RADNODE_FUZZ_RUNS says how many of each target (`make fuzz`: 3000); tests/corpus holds what was found and made by hand.
"""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from support.fuzzing import TARGETS, Bench, Trap, good, spoiled

RUNS = int(os.environ.get("RADNODE_FUZZ_RUNS", "40"))
SEED = int(os.environ.get("RADNODE_FUZZ_SEED", "1"))
CORPUS = Path(__file__).resolve().parent.parent / "corpus"
LONGEST_S = 5.0
"""Of processor time, for one input."""
MOST_MB = 250.0
"""What the process may grow by in all runs of a target."""

pytestmark = pytest.mark.timeout(300 + RUNS)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench.opened(tmp_path_factory.mktemp("fuzz")) as made:
        yield made


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    logging.getLogger("radnode").addHandler(made)
    yield made
    logging.getLogger("radnode").removeHandler(made)


def bear(name: str, bench: Bench, trap: Trap, data: bytes) -> None:
    trap.caught.clear()
    begun = time.process_time()
    TARGETS[name](bench, data)
    assert time.process_time() - begun < LONGEST_S
    assert not trap.caught, trap.caught[0]


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_comes_does_any_harm(name: str, bench: Bench, trap: Trap, tmp_path: Path) -> None:
    before = psutil.Process().memory_info().rss

    @seed(SEED)
    @settings(
        max_examples=RUNS, deadline=None, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=spoiled(good(tmp_path)[name]))
    def run(data: bytes) -> None:
        bear(name, bench, trap, data)

    run()
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    print(f"{name}: {RUNS} runs, seed {SEED}, memory {grown:+.0f} MiB")
    assert grown < MOST_MB


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_is_taken_so_that_the_spoiled_reach_deep(name: str, bench: Bench, tmp_path: Path) -> None:
    """Were the starting bytes refused at the door, nothing behind it would be tried."""
    for data in good(tmp_path)[name]:
        TARGETS[name](bench, data)
    (images, messages) = bench.counts() if name in ("pdu", "stow", "hl7") else (1, 1)
    assert (messages if name == "hl7" else images) > 0


@pytest.mark.parametrize("file", sorted(CORPUS.rglob("*.bin")), ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_the_corpus_is_borne(file: Path, bench: Bench, trap: Trap) -> None:
    bear(file.parent.name, bench, trap, file.read_bytes())


def test_the_corpus_has_something_for_every_target() -> None:
    assert {f.name for f in CORPUS.iterdir() if f.is_dir()} == set(TARGETS)
