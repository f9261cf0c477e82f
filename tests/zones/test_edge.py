# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""edge.yml over two zones that boot nothing and machines that do not answer: what goes through APIs, and what is said of the rest. The tests build on each
other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.zones import Zones, node_key, open_zones

SETTINGS = {"cloud": {"flower_supernodes": 1, "flower_firewall": {}}, "north": {"flower_site_addresses": ["198.51.100.7"]}}
SHARED = {"flower_min_available_clients": 2, "flower_round_completion": 0.6}
# Nothing listens there. The key of tower is one that an earlier run has read.
AWAY = {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_become": False}
MACHINES = {
    "tower": AWAY | {"flower_site_addresses": ["203.0.113.8"], "flower_zone_own_keys": [f"{node_key()} tower/machine"]},
    "quay": AWAY | {"flower_site_addresses": ["203.0.113.9"]},
}


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    with open_zones(tmp_path_factory.mktemp("zones"), {"cloud": "7.4", "north": "6.10"}) as opened:
        yield opened


def edge(zones: Zones, machines: dict[str, dict], *arguments: str) -> tuple[int, str]:
    return zones.play(*arguments, playbook="edge", shared=SHARED, machines=machines, **SETTINGS)


@pytest.fixture(scope="module")
def deployed(zones: Zones) -> tuple[int, str]:
    """The first run."""
    return edge(zones, MACHINES)


def test_what_goes_through_apis_is_deployed_and_machines_that_do_not_answer_are_named(zones: Zones, deployed: tuple[int, str]) -> None:
    status, output = deployed
    assert status != 0
    assert [len(zones.vms("cloud", "superlink")), len(zones.vms("cloud")), len(zones.vms("north"))] == [1, 1, 1], output
    assert "edge site quay is missing, and the next run takes it over: Failed to connect to the host via ssh" in output
    assert "edge site tower is missing" in output


def test_the_superlink_lets_the_machines_in_by_key_and_by_address(zones: Zones, deployed: tuple[int, str]) -> None:
    north = f"north/vm-{zones.vms('north')[0]['id']}"
    assert zones.may_join("cloud") == [north, "tower/machine"], deployed[1]
    group = zones.security_group("cloud")
    assert all(address in group for address in ("198.51.100.7", "203.0.113.8", "203.0.113.9"))


@pytest.mark.usefixtures("deployed")
def test_the_key_of_a_machine_stays_while_it_does_not_answer_and_goes_with_the_site(zones: Zones) -> None:
    silent = {"tower": AWAY | {"flower_site_addresses": ["203.0.113.8"]}, "quay": MACHINES["quay"]}
    edge(zones, silent)
    assert "tower/machine" in zones.may_join("cloud")

    edge(zones, {"quay": MACHINES["quay"]})
    assert "tower/machine" not in zones.may_join("cloud")
