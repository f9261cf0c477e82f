# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""site.yml over three zones that boot nothing, one of which is down at first."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ansible_collections.opennebula.flower.tests.support.zones import Zones, certificate_authority, open_zones

pytestmark = pytest.mark.long

RELEASES = {"munich": "7.4", "lyon": "6.10", "madrid": "7.4"}
SETTINGS = {
    "munich": {"flower_supernodes": 2, "flower_firewall": {}},
    "lyon": {"flower_supernodes": 1, "flower_site_addresses": ["198.51.100.7"]},
    "madrid": {"flower_supernodes": 3, "flower_site_addresses": ["203.0.113.16/28"]},
}
SHARED = {"flower_min_available_clients": 5, "flower_metrics_enabled": True, "flower_metrics_from": ["10.20.0.0/16"]}


@dataclass
class Run:
    """One run of site.yml, and what there was after it, in the order of RELEASES."""

    status: int
    output: str
    wrote: list[str]
    supernodes: list[list[str]]
    superlinks: list[int]
    may_join: list[str]


def run(zones: Zones, *down: str) -> Run:
    """Run site.yml while the front ends of some zones do not answer."""
    status, output = zones.play(down=down, shared=SHARED, **SETTINGS)
    supernodes = [[f"{name}/vm-{vm['id']}" for vm in zones.vms(name)] for name in RELEASES]
    return Run(status, output, sorted(zones.writes()), supernodes, [len(zones.vms(name, "superlink")) for name in RELEASES], zones.may_join("munich"))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Zones, Run, Run]]:
    """Three zones after two runs, in the first of which the front end of one was down."""
    with open_zones(tmp_path_factory.mktemp("zones"), RELEASES) as zones:
        yield zones, run(zones, "madrid"), run(zones)


@pytest.fixture
def zones(deployed: tuple[Zones, Run, Run]) -> Zones:
    return deployed[0]


def test_a_zone_whose_front_end_is_down_is_missing_and_the_others_are_deployed(deployed):
    _zones, first, _second = deployed
    assert first.status != 0
    assert re.search(r"zone madrid is missing, and the next run takes it over: .*127\.0\.0\.1:9", first.output), first.output
    assert "zone lyon: 1 supernode" in first.output
    assert "The training waits for 5 SuperNodes; the zones that are there have 3." in first.output
    assert list(map(len, first.supernodes)) == [2, 1, 0]
    assert first.superlinks == [1, 0, 0]
    assert first.may_join == first.supernodes[1]


def test_the_next_run_takes_it_over_and_leaves_other_sites_alone(deployed):
    _zones, _first, second = deployed
    assert second.status == 0, second.output
    assert second.wrote == ["madrid", "munich"], "munich learns who may join"
    assert list(map(len, second.supernodes)) == [2, 1, 3]
    assert second.may_join == [*second.supernodes[1], *second.supernodes[2]]


def test_nodes_of_other_zones_know_the_superlink_its_ca_and_where_they_are(zones):
    for name in ("lyon", "madrid"):
        for context in zones.contexts(name):
            assert context["ONEAPP_FL_SUPERLINK_ADDRESS"] == "fl.example.org:9092"
            assert base64.b64decode(context["ONEAPP_FL_SSL_CA_CERTFILE"]).decode().strip() == zones.authority.strip()
            assert context["ONEAPP_FL_NODE_CONFIG"] == f"zone={name}"
    for context in zones.contexts("munich"):
        assert not context.get("ONEAPP_FL_SUPERLINK_ADDRESS"), "it finds its SuperLink through OneGate"
        assert context["ONEAPP_FL_NODE_CONFIG"] == "zone=munich"


def test_nodes_to_come_trust_the_ca_that_was_there_first_whatever_a_vm_of_the_service_says_later(zones):
    def given() -> str:
        template = zones.zones["munich"].run("one_template", check=True, name="federation-supernode")["vm_template"]["template"]
        return base64.b64decode(template["CONTEXT"]["ONEAPP_FL_SSL_CA_CERTFILE"]).decode().strip()

    first = zones.authority.strip()
    assert given() == first
    zones.authority = certificate_authority("of another VM")
    said = base64.b64encode(zones.authority.encode()).decode()
    zones.zones["munich"].wait(lambda: zones.vms("munich", "superlink")[0]["user_template"]["FL_CA_CERT"] == said, "another CA")
    status, output = zones.play(shared=SHARED, **SETTINGS)
    assert status != 0
    assert "says that it has another CA than the one its SuperNodes are given" in output
    assert given() == first
    for context in zones.contexts("lyon"):
        assert base64.b64decode(context["ONEAPP_FL_SSL_CA_CERTFILE"]).decode().strip() == first


def test_the_superlink_has_the_name_they_dial_and_lets_in_their_addresses(zones):
    (context,) = zones.contexts("munich", "superlink")
    assert context["ONEAPP_FL_CERT_EXTRA_SAN"] == "DNS:fl.example.org"
    assert "198.51.100.7" in zones.security_group("munich") and "203.0.113.16" in zones.security_group("munich")


def test_both_roles_let_in_who_reads_the_metrics(zones):
    for role in ("superlink", "supernode"):
        group = zones.security_group("munich", role)
        assert "10.20.0.0" in group and "9101" in group
