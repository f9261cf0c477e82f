# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""edge.yml with inventories that cannot be: what is wrong is said before anything is changed. tests/zones/test_edge.py has the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

SETTINGS = {"cloud": {"flower_firewall": {}}}
SHARED = {"flower_min_available_clients": 2}
MACHINE = {"ansible_host": "127.0.0.1", "ansible_port": 9, "flower_site_addresses": ["203.0.113.9"]}


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    with open_zones(tmp_path_factory.mktemp("zones"), {"cloud": "7.4"}) as opened:
        yield opened


def edge(zones: Zones, machines: dict[str, dict]) -> tuple[int, str]:
    return zones.play(playbook="edge", shared=SHARED, machines=machines, **SETTINGS)


def test_what_is_wrong_with_a_machine_is_said_before_anything_is_changed(zones: Zones) -> None:
    wrong = MACHINE | {"flower_uplink_limit": "fast", "flower_log_level": "LOUD"}
    status, output = edge(zones, {"quay": wrong})
    assert status != 0
    assert "edge site quay: " in output
    assert "flower_uplink_limit: 'fast' is not valid" in output and "flower_log_level: 'LOUD' is not valid" in output
    assert zones.writes() == {}


def test_what_is_wrong_with_the_federation_is_said_before_a_machine_is_contacted(zones: Zones) -> None:
    status, output = zones.play(playbook="edge", shared=SHARED | {"flower_num_rounds": 0}, machines={"quay": MACHINE}, **SETTINGS)
    assert status != 0
    assert "flower_num_rounds: '0' is not valid" in output
    assert "Failed to connect" not in output
    assert zones.writes() == {}


def test_an_inventory_without_machines_is_told_what_is_missing(zones: Zones) -> None:
    status, output = edge(zones, {})
    assert status != 0
    assert "The inventory group 'edge_sites' has no hosts, expected existing machines that become SuperNodes over SSH" in output
    assert zones.writes() == {}
