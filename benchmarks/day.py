"""A day of simulated traffic through a real node: is the page's order the policy's, at every moment, and does the simulation tell it?

    python benchmarks/day.py [--studies 320] [--scale 90] [--seed 8]

A `radnode serve` of its own gets small images by C-STORE, orders of emergency patients by HL7, and reports of other systems by
FHIR; its own model reads every eighth study. Readers take the top row of the page and mark it as read. One real second is `scale`
seconds of the day; the limits of `[ageing]` are divided by it. At each moment that the page is looked at, its order is compared with
the policy as `tests/support/day.py` writes it down. Ends with 1 when something did not hold.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import day_simulated  # noqa: E402
from support.day import Plan, a_day, write_images  # noqa: E402
from support.day_node import Day, node_for  # noqa: E402
from support.day_simulated import Agreement  # noqa: E402

from radnode.database import Database  # noqa: E402

LIMITS_MIN = (60.0, 120.0, 440.0)
RECORDED_TRIALS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=320)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--scale", type=float, default=90.0, help="seconds of the day in one real second")
    parser.add_argument("--trials", type=int, default=200, help="simulated days to compare with")
    parser.add_argument("--seed", type=int, default=8)
    chosen = parser.parse_args()
    plan = Plan(
        studies=chosen.studies, hours=chosen.hours, readers=chosen.readers, limits_min=LIMITS_MIN, scale=chosen.scale,
        read_by_node=chosen.studies // 8, seed=chosen.seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="radnode-day-", ignore_cleanup_errors=True) as name:
        cases = a_day(plan)
        print(f"Writing the images of {len(cases)} studies", flush=True)
        write_images(cases, Path(name) / "images")
        with node_for(plan, Path(name) / "node") as node:
            day = Day(plan=plan, node=node, cases=cases)
            began = time.monotonic()
            try:
                day.run()
            except BaseException:
                print(node.log, file=sys.stderr)
                raise
            took = time.monotonic() - began
            database = Database(f"sqlite:///{node.data / 'radnode.db'}")
            recorded = day_simulated.from_recording(database, plan, RECORDED_TRIALS)
            database.close()
    sys.exit(show(day, took, chosen.trials, recorded))


def show(day: Day, took_s: float, trials: int, recorded: Sequence[Agreement]) -> int:
    """Print what happened; 1 when something did not hold."""
    plan, cases = day.plan, day.cases
    longest = day_simulated.longest_unflagged_min(cases, day_simulated.waits_min(cases, plan, "free"))
    alone = day_simulated.longest_as_planned_min(plan, ageing=False)
    own = [c.when("reported") - c.when("arrived") for c in cases if c.own and "reported" in c.happened]
    print(f"{len(cases)} studies, {plan.readers} readers, {took_s:.0f} s at {plan.scale:g} times the speed")
    print(f"{day.looked} pages compared, {day.rows_compared} rows, every one in the order of the policy")
    if day.came_back:
        print(f"{day.came_back} studies came back to the list after they were read, because images came later")
    gap_s = statistics.fmean(day.gaps_s)
    print(f"this program had the page {gap_s:.2f} s after a reader asked (mean), {max(day.gaps_s):.1f} s (longest)")
    if own:
        middle, most = statistics.median(own), max(own)
        print(
            f"{len(own)} reports of the node itself, {middle:.1f} s after the first image (median), {most:.1f} s (longest)"
        )
    print(
        f"longest wait of an unflagged study: {longest:.0f} min, limit {plan.limits_min[2]:g}; without ageing {alone:.0f} (simulated)"
    )
    rows = day_simulated.agreement(cases, plan, trials, [g * plan.scale for g in day.gaps_s])
    table("the simulated room, with the arrivals and flags of the day", rows, same=True)
    table("radnode triage simulate --from, on what the node recorded", recorded, same=False)
    good = longest <= plan.limits_min[2] < alone and all(r.holds for r in (*rows, *recorded))
    print("\nEverything holds." if good else "\nSOMETHING DOES NOT HOLD.")
    return 0 if good else 1


def table(title: str, rows: Sequence[Agreement], *, same: bool) -> None:
    """Mean minutes that each group waited, really and simulated."""
    heads = f"{'group':<12}{'studies':>8}{'real':>8}{'simulated':>11}{'interval for a day':>22}"
    print(f"\n{title}\n{heads}" + ("  same readings" if same else ""))
    for r in rows:
        interval = f"{r.low:.1f} to {r.high:.1f}"
        line = f"{r.group:<12}{r.studies:>8}{r.real:>8.1f}{r.expected:>11.1f}{interval:>22}"
        print(line + (f"{r.same:>15.1f}" if same else ""))


if __name__ == "__main__":
    main()
