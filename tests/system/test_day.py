"""A few busy hours at a real node: the page shows the policy at every moment, nobody starves, and the simulation tells it.

`make day` is the whole day with 320 studies.
"""

import statistics
from pathlib import Path

import pytest
from support import day_simulated
from support.day import Plan, a_day, write_images
from support.day_node import Day, node_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PLAN = Plan(studies=40, hours=4.0, readers=2, limits_min=(60.0, 120.0, 240.0), scale=240.0, read_by_node=3)

ENOUGH = 10
"""Studies of a group whose mean is compared: that of three says more about this machine than about the order. `make day` compares all."""


def test_the_page_is_the_policy_at_every_moment_and_the_waits_are_those_of_the_simulation(tmp_path: Path) -> None:
    cases = a_day(PLAN)
    write_images(cases, tmp_path / "images")
    with node_for(PLAN, tmp_path) as node:
        day = Day(plan=PLAN, node=node, cases=cases)
        day.run()  # compares each page with the policy
    assert day.looked >= len(cases)
    gaps_s = [gap * PLAN.scale for gap in day.gaps_s]
    waited = day_simulated.longest_unflagged_min(cases, day_simulated.waits_min(cases, PLAN))
    # on a machine that is too slow for this plan the readers cannot keep the limit, and the simulation says so too
    same = day_simulated.simulated(cases, PLAN, lambda c: c.reading_s + statistics.fmean(gaps_s))
    assert waited <= max(PLAN.limits_min[2], 1.25 * day_simulated.longest_unflagged_min(cases, same))
    rows = [r for r in day_simulated.agreement(cases, PLAN, trials=60, gaps_s=gaps_s) if r.studies >= ENOUGH]
    assert len(rows) > 1
    assert [r for r in rows if not r.holds] == []
