# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""rotate.yml over the tunnel of one node, in zones that boot nothing. How ends change keys without losing the tunnel is in tests/zones/test_tunnel.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

pytestmark = pytest.mark.long

SHARED = {
    "flower_superlink_address": "", "flower_connection": "wireguard", "flower_tunnel_network": "10.10.9.0/24",
    "flower_tunnel_endpoint": "vpn.example.org:51820", "flower_supernodes_max": 2, "flower_min_available_clients": 1, "flower_min_fit_clients": 1,
    "flower_rotate": "tunnels",
}  # fmt: skip
ENDS = {"munich": "superlink", "lyon": "supernode"}


def deploy(zones: Zones) -> None:
    """Leave the SuperLink and the node as site.yml does, as far as their tunnel goes."""
    for name, role in ENDS.items():
        zone = zones.zones[name]
        context = {"TOKEN": True, "ONEAPP_FL_TUNNEL_NETWORK": "10.10.9.0/24"}
        zone.changed("one_template", name=f"federation-{role}", template={"CPU": 0.1, "MEMORY": 64, "CONTEXT": context})
        described = {"name": role, "vm_template": f"federation-{role}", "cardinality": 1}
        zone.changed("one_service_template", name="federation", template={"deployment": "none", "ready_status_gate": False, "roles": [described]})
        zone.changed("one_service", name="federation", service_template="federation", wait_timeout=300)
        zone.wait(lambda name=name: "FL_TUNNEL_PUBLIC_KEY" in end(zones, name)["user_template"], "the key of a tunnel")
    node = end(zones, "lyon")["id"]
    give(zones, "munich", PEERS=f"{key(zones, 'lyon')} 10.10.9.2 lyon/vm-{node}")
    give(zones, "lyon", SUPERLINK_PUBLIC_KEY=key(zones, "munich"))


def end(zones: Zones, name: str) -> dict:
    (vm,) = zones.vms(name, ENDS[name])
    return vm


def key(zones: Zones, name: str) -> str:
    return end(zones, name)["user_template"]["FL_TUNNEL_PUBLIC_KEY"]


def give(zones: Zones, name: str, **context: str) -> None:
    given = {f"ONEAPP_FL_TUNNEL_{parameter}": value for parameter, value in context.items()}
    zones.zones[name].changed("one_vm", name=str(end(zones, name)["id"]), template={"CONTEXT": given})


def test_both_ends_get_other_keys_and_know_that_of_the_other(tmp_path: Path) -> None:
    with open_zones(tmp_path, dict.fromkeys(ENDS, "7.4")) as zones:
        deploy(zones)
        before = {name: key(zones, name) for name in ENDS}
        status, output = zones.play(playbook="rotate", shared=SHARED)
        assert status == 0, output
        after = {name: key(zones, name) for name in ENDS}
        assert not set(after.values()) & set(before.values())
        peers = f"{after['lyon']} 10.10.9.2 lyon/vm-{end(zones, 'lyon')['id']}"
        wanted = {"munich": {"PEERS": peers, "NEXT_PEERS": ""}, "lyon": {"SUPERLINK_PUBLIC_KEY": after["munich"], "SUPERLINK_NEXT_PUBLIC_KEY": ""}}
        for name, role in ENDS.items():
            (context,) = zones.contexts(name, role)
            for parameter, value in {**wanted[name], "NUMBER": "2", "NEXT_NUMBER": "0"}.items():
                assert context[f"ONEAPP_FL_TUNNEL_{parameter}"] == value, (name, parameter)
        for name, parameter, value in (("munich", "PEERS", peers), ("lyon", "SUPERLINK_PUBLIC_KEY", after["munich"])):
            template = zones.zones[name].run("one_template", check=True, name=f"federation-{ENDS[name]}")["vm_template"]["template"]
            assert template["CONTEXT"][f"ONEAPP_FL_TUNNEL_{parameter}"] == value, "VMs to come"
