# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""site.yml over three zones that boot nothing: dry run, one zone alone, a new CA, a zone that leaves. The tests build on each other."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import changes
from ansible_collections.opennebula.flower.tests.support.zones import Zones, certificate_authority, open_zones

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


def test_a_dry_run_makes_nothing_in_any_zone(zones):
    status, output = zones.play("--check", "--diff", shared=SHARED, **SETTINGS)
    assert status == 0, output
    assert zones.writes() == {}
    assert "name: federation-supernode" in output


def test_a_site_cannot_be_deployed_alone_before_its_coordinator(zones):
    status, output = zones.play("--limit", "lyon", shared=SHARED, **SETTINGS)
    assert status != 0
    assert "zone munich: the API shows no SuperLink with a CA in service federation, because it is not deployed yet, or because oneadmin may not" in output
    assert not zones.vms("lyon")


def test_problems_of_any_zone_are_said_before_anything_is_changed(zones):
    status, output = zones.play(shared=SHARED, **{**SETTINGS, "madrid": {**SETTINGS["madrid"], "flower_superlink_address": ""}})
    assert status != 0
    assert "zone madrid: flower_superlink_address is not set, expected host:port" in output
    assert {name: zone.calls for name, zone in zones.zones.items() if name != "lyon" and zone.calls} == {}


def test_one_zone_after_the_other_makes_the_whole(zones):
    status, output = zones.play("--limit", "munich", shared=SHARED, **SETTINGS)
    assert status == 0, output
    status, output = zones.play("--limit", "lyon,madrid", shared=SHARED, **SETTINGS)
    assert status == 0, output
    assert [len(zones.vms(name)) for name in RELEASES] == [2, 1, 3]


def test_a_second_run_changes_nothing(zones):
    status, output = zones.play(shared=SHARED, **SETTINGS)
    assert status == 0, output
    assert changes(output) == 0, output
    assert zones.writes() == {}


def test_a_new_ca_reaches_the_vms_that_run_and_those_to_come(zones):
    before = {name: [vm["id"] for vm in zones.vms(name)] for name in RELEASES}
    zones.authority = certificate_authority("second")
    encoded = base64.b64encode(zones.authority.encode()).decode()
    zones.zones["munich"].wait(lambda: zones.vms("munich", "superlink")[0]["user_template"]["FL_CA_CERT"] == encoded, "a SuperLink with another CA")
    status, output = zones.play(shared=SHARED | {"flower_new_ca": True}, **SETTINGS)
    assert status == 0, output
    assert {name: [vm["id"] for vm in zones.vms(name)] for name in RELEASES} == before, "no VM is made anew"
    assert sorted(zones.writes()) == ["lyon", "madrid", "munich"]
    for name in ("lyon", "madrid"):
        for context in zones.contexts(name):
            assert base64.b64decode(context["ONEAPP_FL_SSL_CA_CERTFILE"]).decode().strip() == zones.authority.strip()
        pool = zones.zones[name].call("one.templatepool.info", -2, -1, -1)
        assert base64.b64encode(zones.authority.strip().encode()).decode()[:60] in pool


def test_a_zone_that_leaves_takes_its_service_and_its_rights_along(zones):
    others = {name: [vm["id"] for vm in zones.vms(name)] for name in ("munich", "madrid")}
    status, output = zones.play(shared=SHARED, **{**SETTINGS, "lyon": {**SETTINGS["lyon"], "zone_state": "absent"}})
    assert status == 0, output
    assert "zone lyon is out of the federation" in output
    assert not zones.vms("lyon")
    for pool in ("templatepool", "imagepool"):
        assert not re.search("<ID>", zones.zones["lyon"].call(f"one.{pool}.info", -2, -1, -1))
    assert {name: [vm["id"] for vm in zones.vms(name)] for name in ("munich", "madrid")} == others
    assert sorted(zones.writes()) == ["lyon", "munich"], "madrid notices nothing"
    assert all(node.startswith("madrid/") for node in zones.may_join("munich")) and len(zones.may_join("munich")) == 3
    assert "203.0.113.16" in zones.security_group("munich") and "198.51.100.7" not in zones.security_group("munich")


def test_a_zone_that_joins_is_let_in_and_the_others_notice_nothing(zones):
    def there() -> dict[str, list[int]]:
        return {f"{name} {role}": [vm["id"] for vm in zones.vms(name, role)] for name in ("munich", "madrid") for role in ("superlink", "supernode")}

    others, before = there(), zones.may_join("munich")
    status, output = zones.play(shared=SHARED, **SETTINGS)
    assert status == 0, output
    (joined,) = zones.vms("lyon")
    assert zones.may_join("munich") == sorted([*before, f"lyon/vm-{joined['id']}"])
    assert "198.51.100.7" in zones.security_group("munich")
    assert there() == others
    assert sorted(zones.writes()) == ["lyon", "munich"], "munich learns who may join, madrid notices nothing"


def test_teardown_empties_all_zones(zones):
    status, output = zones.play(playbook="teardown", shared=SHARED, **SETTINGS)
    assert status == 0, output
    for name, zone in zones.zones.items():
        for pool in ("templatepool", "imagepool", "vnpool"):
            assert not re.search("<ID>", zone.call(f"one.{pool}.info", -2, -1, -1)), (name, pool)
