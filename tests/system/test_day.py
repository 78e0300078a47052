"""A few busy hours at a real node: the page shows the policy at every moment, nobody starves, and the simulation tells it.

`make day` is the whole day with 320 studies.
"""

from pathlib import Path

import pytest
from support import day_simulated
from support.day import Plan, a_day, write_images
from support.day_node import Day, node_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PLAN = Plan(studies=40, hours=3.0, readers=2, limits_min=(60.0, 120.0, 240.0), scale=300.0, read_by_node=3)


def test_the_page_is_the_policy_at_every_moment_and_the_waits_are_those_of_the_simulation(tmp_path: Path) -> None:
    cases = a_day(PLAN)
    write_images(cases, tmp_path / "images")
    with node_for(PLAN, tmp_path) as node:
        day = Day(plan=PLAN, node=node, cases=cases)
        day.run()  # compares each page with the policy
    assert day.looked >= len(cases)
    gaps_s = [gap * PLAN.scale for gap in day.gaps_s]
    waited = day_simulated.longest_unflagged_min(cases, day_simulated.waits_min(cases, PLAN))
    assert waited <= max(PLAN.limits_min[2], day_simulated.in_order_of_arrival(cases, PLAN, gaps_s))
    for row in day_simulated.agreement(cases, PLAN, trials=60, gaps_s=gaps_s):
        assert row.holds, row
