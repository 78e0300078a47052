"""A few busy hours at a real node: the page shows the policy at every moment, nobody starves, and the simulation tells it.

`make day` is the whole day with 320 studies.
"""

from pathlib import Path

import pytest
from support import day_simulated
from support.day import Plan, a_day, write_images
from support.day_node import Day, node_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PLAN = Plan(studies=40, hours=4.0, readers=2, limits_min=(30.0, 60.0, 90.0), scale=240.0, read_by_node=3)


def test_somebody_would_starve_in_these_hours_if_waiting_raised_nobody() -> None:
    assert day_simulated.longest_as_planned_min(PLAN, ageing=True) < PLAN.limits_min[2]
    assert day_simulated.longest_as_planned_min(PLAN, ageing=False) > PLAN.limits_min[2]


def test_the_page_is_the_policy_at_every_moment_and_the_waits_are_those_of_the_simulation(tmp_path: Path) -> None:
    cases = a_day(PLAN)
    write_images(cases, tmp_path / "images")
    with node_for(PLAN, tmp_path) as node:
        day = Day(plan=PLAN, node=node, cases=cases)
        day.run()  # compares each page with the policy
    assert day.looked >= len(cases)
    waited = day_simulated.longest_unflagged_min(cases, day_simulated.waits_min(cases, PLAN, "free"))
    assert waited <= PLAN.limits_min[2]
    rows = day_simulated.agreement(cases, PLAN, trials=60, gaps_s=[gap * PLAN.scale for gap in day.gaps_s])
    assert len(rows) == len(day_simulated.GROUPS)
    assert [r for r in rows if not r.holds] == []
