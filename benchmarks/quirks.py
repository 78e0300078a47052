"""What the roles of a breast MR make of what scanners and archives do to it.

`python benchmarks/quirks.py [--studies 100] [--first-seed 0]`: every quirk of the generator in every layout that can have
it, then studies of one to four quirks chosen by the seed, each right, declined, or wrong. Ends with 1 where one is wrong.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.quirks import RIGHT, quirky, verdict

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout
from radnode_inference.generator.quirks import BREAST, some_quirks

BESIDE = frozenset(("haste", "exponential", "adc-mm2", "adc-milli", "adc-tens", "directions"))
"""Quirks of series that the small phantom without other sequences has not."""


def cases(studies: int, first: int) -> Iterator[tuple[Layout, tuple[str, ...], bool]]:
    """Layout, quirks, and whether the study passes midnight."""
    for name, quirk in BREAST.items():
        for layout in quirk.layouts if name not in BESIDE else ():
            yield layout, (name,), False
            yield layout, (name,), True
    known = {n: q for n, q in BREAST.items() if n not in BESIDE}
    for seed in range(first, first + studies):
        layout = list(Layout)[seed % len(Layout)]
        yield layout, some_quirks(seed, layout, known, most=4), seed % 5 == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only-chosen", action="store_true", help="leave out the single quirks")
    wanted = parser.parse_args()
    made = breast.phantom(3, lesion=True, shape=(9, 12, 12), phases=5, other_sequences=False)
    counted: Counter[str] = Counter()
    for number, (layout, quirks, night) in enumerate(cases(wanted.studies, wanted.first_seed)):
        if wanted.only_chosen and len(quirks) == 1:
            continue
        with tempfile.TemporaryDirectory() as folder:
            study = quirky(made, Path(folder), layout, *quirks, night=night)
            found, _ = verdict(study, made, more=int("repeated" in quirks))
        outcome = RIGHT if found == RIGHT else "wrong" if found.startswith("wrong") else "declined"
        counted[outcome] += 1
        if outcome != RIGHT:
            print(f"{number:4d} {layout:17s}{' midnight' if night else ''} {', '.join(quirks)}: {found}", flush=True)
    print(", ".join(f"{n} {outcome}" for outcome, n in sorted(counted.items())))
    return int(counted["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
