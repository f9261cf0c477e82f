# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""site.yml over three zones that boot nothing, one of which is down at first. The tests build on each other."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

# All on one worker.
pytestmark = pytest.mark.xdist_group("zones")
RELEASES = {"munich": "7.4", "lyon": "6.10", "madrid": "7.4"}
SETTINGS = {
    "munich": {"flower_supernodes": 2, "flower_firewall": {}},
    "lyon": {"flower_supernodes": 1, "flower_site_addresses": ["198.51.100.7"]},
    "madrid": {"flower_supernodes": 3, "flower_site_addresses": ["203.0.113.16/28"]},
}
SHARED = {"flower_min_available_clients": 5}


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    with open_zones(tmp_path_factory.mktemp("zones"), RELEASES) as zones:
        yield zones


def test_a_zone_whose_front_end_is_down_is_missing_and_the_others_are_deployed(zones):
    status, output = zones.play(down=("madrid",), shared=SHARED, **SETTINGS)
    assert status != 0
    assert re.search(r"zone madrid is missing, and the next run takes it over: .*127\.0\.0\.1:9", output), output
    assert "zone lyon: 1 supernode" in output
    assert "The training waits for 5 SuperNodes; the zones that are there have 3." in output
    assert [len(zones.vms(name)) for name in RELEASES] == [2, 1, 0]
    assert [len(zones.vms(name, "superlink")) for name in RELEASES] == [1, 0, 0]
    assert zones.may_join("munich") == [f"lyon/vm-{vm['id']}" for vm in zones.vms("lyon")]


def test_the_next_run_takes_it_over_and_leaves_other_sites_alone(zones):
    status, output = zones.play(shared=SHARED, **SETTINGS)
    assert status == 0, output
    assert sorted(zones.writes()) == ["madrid", "munich"], "munich learns who may join"
    assert len(zones.vms("madrid")) == 3
    assert zones.may_join("munich") == [f"{name}/vm-{vm['id']}" for name in ("lyon", "madrid") for vm in zones.vms(name)]


def test_nodes_of_other_zones_know_the_superlink_its_ca_and_where_they_are(zones):
    for name in ("lyon", "madrid"):
        for context in zones.contexts(name):
            assert context["ONEAPP_FL_SUPERLINK_ADDRESS"] == "fl.example.org:9092"
            assert base64.b64decode(context["ONEAPP_FL_SSL_CA_CERTFILE"]).decode().strip() == zones.authority.strip()
            assert context["ONEAPP_FL_NODE_CONFIG"] == f"zone={name}"
    for context in zones.contexts("munich"):
        assert not context.get("ONEAPP_FL_SUPERLINK_ADDRESS"), "it finds its SuperLink through OneGate"
        assert context["ONEAPP_FL_NODE_CONFIG"] == "zone=munich"


def test_the_superlink_has_the_name_they_dial_and_lets_in_their_addresses(zones):
    (context,) = zones.contexts("munich", "superlink")
    assert context["ONEAPP_FL_CERT_EXTRA_SAN"] == "DNS:fl.example.org"
    assert "198.51.100.7" in zones.security_group("munich") and "203.0.113.16" in zones.security_group("munich")
