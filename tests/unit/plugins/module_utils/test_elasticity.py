# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies of OneFlow from settings, what is refused, and how the lab zone evaluates what is rendered."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.elasticity import elasticity
from lab.oneflow_policies import wanted_cardinality


def rendered(cpu: float = 1, least: int = 2, most: int = 6, **settings: Any) -> dict[str, Any]:
    return elasticity(settings, nodes=(least, most), cpu=cpu, available=2, round_timeout=300)


def problems(least: int = 2, most: int = 6, **settings: Any) -> list[str]:
    with pytest.raises(ValueError, match="flower_") as caught:
        rendered(least=least, most=most, **settings)
    return str(caught.value).split("; ")


def test_without_policies_there_is_the_cooldown_of_two_rounds() -> None:
    assert rendered() == {"cooldown": 600, "elasticity_policies": [], "scheduled_policies": []}


def test_a_share_of_all_cpus_is_what_opennebula_counts_in_percent_of_one() -> None:
    (policy,) = rendered(cpu=3.5, policies=[{"cpu_above": 80, "change": 1}])["elasticity_policies"]
    assert policy == {"type": "CHANGE", "adjust": 1, "expression": "CPU > 320", "period": 60, "period_number": 3}


def test_all_settings_of_policies() -> None:
    made = rendered(
        round_seconds=100, cooldown=500,
        policies=[
            {"cpu_below": 20, "change": -1, "period": 120, "times": 5, "cooldown": 200, "idle": True},
            {"expression": "A > 1.5 || B = 0", "percentage": 50},
        ],
        schedule=[{"recurrence": "0 9 * * mon", "cardinality": 4}, {"start_time": "2027-01-01 08:00:00", "change": 2}],
    )  # fmt: skip
    assert made == {
        "cooldown": 500,
        "elasticity_policies": [
            {
                "type": "CHANGE", "adjust": -1, "expression": "(CPU < 20) && FL_TRAINING_ACTIVE < 0.01", "period": 120, "period_number": 5, "cooldown": 200,
            },
            {"type": "PERCENTAGE_CHANGE", "adjust": 50, "min_adjust_step": 1, "expression": "A > 1.5 || B = 0", "period": 60, "period_number": 3},
        ],
        "scheduled_policies": [
            {"type": "CARDINALITY", "adjust": 4, "recurrence": "0 9 * * mon"}, {"type": "CHANGE", "adjust": 2, "start_time": "2027-01-01 08:00:00"},
        ],
    }  # fmt: skip


def test_fewer_nodes_than_a_round_needs_are_refused() -> None:
    assert problems(least=1) == ["flower_supernodes_min: 1 is not valid, expected at least flower_min_available_clients, which is 2, with flower_elasticity"]


@pytest.mark.parametrize(("settings", "where"), [
    ({"cooldown": 599}, "flower_elasticity.cooldown: 599"),
    ({"policies": [{"cpu_above": 80, "change": 1, "cooldown": 30}]}, "flower_elasticity.policies[0].cooldown: 30"),
    ({"round_seconds": 0}, "flower_elasticity.round_seconds: 0"),
])
def test_a_cooldown_of_less_than_two_rounds_is_refused(settings: dict, where: str) -> None:
    (problem,) = problems(**settings)
    assert problem.startswith(where)


@pytest.mark.parametrize("expression", ["", "CPU", "CPU > many", "CPU > 80 or MEMORY > 1", "FL_READY = YES", "(CPU > 1", "CPU > 1 true", "CPU > 80 &&"])
def test_what_onflow_would_not_read_or_compare_is_refused(expression: str) -> None:
    (problem,) = problems(policies=[{"expression": expression, "change": 1}])
    assert problem.startswith(f"flower_elasticity.policies[0].expression: {expression!r} is not valid")


@pytest.mark.parametrize(("policy", "expected"), [
    ({"change": 1}, "has no condition, expected one of cpu_above, cpu_below and expression"),
    ({"cpu_above": 80, "cpu_below": 20, "change": 1}, "has cpu_above and cpu_below"),
    ({"cpu_above": 80}, "has nothing to do, expected one of change, cardinality, percentage"),
    ({"cpu_above": 80, "change": 1, "cardinality": 2}, "has change and cardinality"),
    ({"cpu_above": 180, "change": 1}, ".cpu_above: 180"),
    ({"cpu_above": 80, "change": 0}, ".change: 0"),
    ({"cpu_above": 80, "change": "1"}, ".change: '1'"),
    ({"cpu_above": 80, "cardinality": 7}, ".cardinality: 7 is not valid, expected flower_supernodes_min to flower_supernodes_max, 2 to 6"),
    ({"cpu_above": 80, "change": 1, "period": "x"}, ".period: 'x'"),
    ({"cpu_above": 80, "change": 1, "idle": "yes"}, ".idle: 'yes'"),
    ({"cpu_above": 80, "change": 1, "role": "superlink"}, "has role, expected some of"),
    ("CPU > 80", ": 'CPU > 80' is not valid, expected a dictionary"),
])
def test_a_policy_that_cannot_be_is_named(policy: Any, expected: str) -> None:
    assert any(problem.startswith(f"flower_elasticity.policies[0]{expected}" if expected[0] in ".:" else f"flower_elasticity.policies[0] {expected}")
               for problem in problems(policies=[policy]))  # fmt: skip


@pytest.mark.parametrize("policy", [
    {"cardinality": 4}, {"recurrence": "daily", "cardinality": 4}, {"start_time": "tomorrow", "cardinality": 4}, {"recurrence": "0 9 * * *", "cardinality": 1},
    {"recurrence": "0 9 * * *", "start_time": "2027-01-01 08:00:00", "cardinality": 4}, {"recurrence": "0 9 * * *", "cpu_above": 80, "cardinality": 4},
])
def test_a_schedule_that_cannot_be_is_named(policy: dict) -> None:
    assert all(problem.startswith("flower_elasticity.schedule[0]") for problem in problems(schedule=[policy]))


class TestInAZone:
    """As the zone in a box evaluates policies, which recordings of real servers decide."""

    def role(self, cardinality: int, **settings: Any) -> dict[str, Any]:
        return {"cardinality": cardinality, "min_vms": 2, "max_vms": 6, **rendered(cpu=2, **settings)}

    def vms(self, cpu: float, active: str = "0") -> list[dict]:
        return [{"MONITORING": {"CPU": str(cpu)}, "USER_TEMPLATE": {"FL_TRAINING_ACTIVE": active}}] * 2

    def test_busy_nodes_get_more_and_idle_ones_less_within_the_bounds(self) -> None:
        policies = [{"cpu_above": 80, "change": 3, "period": 10, "times": 1}, {"cpu_below": 20, "change": -9, "period": 10, "times": 1}]
        assert wanted_cardinality(self.role(2, policies=policies), self.vms(150), 100) == 2
        assert wanted_cardinality(self.role(2, policies=policies), self.vms(170), 100) == 5
        assert wanted_cardinality(self.role(5, policies=policies), self.vms(170), 100) == 6
        assert wanted_cardinality(self.role(5, policies=policies), self.vms(10), 100) == 2

    def test_nodes_that_train_stay(self) -> None:
        policies = [{"cpu_below": 20, "change": -1, "period": 10, "times": 1, "idle": True}]
        assert wanted_cardinality(self.role(4, policies=policies), self.vms(10, active="1"), 100) == 4
        assert wanted_cardinality(self.role(4, policies=policies), self.vms(10), 100) == 3

    def test_a_schedule_is_followed(self) -> None:
        role = self.role(2, schedule=[{"start_time": "1000", "cardinality": 4}])
        assert [wanted_cardinality(role, self.vms(50), now) for now in (900, 990, 1010)] == [2, 2, 4]
