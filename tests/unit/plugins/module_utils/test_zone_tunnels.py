# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which SuperNodes of other zones have a tunnel, and with which address, whatever their VMs publish."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.redaction import is_secret
from ansible_collections.opennebula.flower.plugins.module_utils.zone_plan import zone_plan
from ansible_collections.opennebula.flower.plugins.module_utils.zone_tunnels import (
    ROTATION_CONTEXT,
    joined_peers,
    tunnel_addresses,
    tunnel_keys,
    tunnel_rotation,
)


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


ONE, TWO, THREE, FOUR, SUPERLINK = map(key, range(1, 6))


def plan(most: int = 2, **zones: dict) -> dict:
    """The plan of a federation whose sites lyon, madrid and rome have tunnels; keywords are variables of one of them."""
    shared = {"flower_connection": "wireguard", "flower_tunnel_network": "10.10.9.0/24", "flower_tunnel_endpoint": "vpn.example.org:51820"}
    names = ["munich", "lyon", "madrid", "rome"]
    variables = {
        name: {**shared, "flower_supernodes_max": most, "one_api_url": f"http://{name}.example.org:2633/RPC2", **zones.get(name, {})} for name in names
    }
    return zone_plan({"coordinator": names[:1], "training_sites": names[1:]}, variables)


def vm(number: int, published: object) -> dict:
    return {"id": number, "attributes": {"FL_TUNNEL_PUBLIC_KEY": published}}


def test_keys_are_found_by_the_number_of_the_vm():
    assert tunnel_keys([vm(7, ONE), vm(8, TWO)], "lyon") == {"keys": {"7": ONE, "8": TWO}, "refused": []}


@pytest.mark.parametrize("published", [
    "", ONE[:-1], ONE + "\n", f"{ONE} 10.10.9.1", f"{ONE},{TWO}", key(0), "A" * 43 + "B", "x" * 100_000, {"a": "b"}, [ONE, TWO], None, "é" * 44,
])  # fmt: skip
def test_a_vm_that_publishes_something_else_does_not_stop_the_others(published):
    found = tunnel_keys([vm(1, published), vm(2, TWO)], "lyon")
    assert found["keys"] == {"2": TWO}
    (sentence,) = found["refused"]
    assert sentence.startswith("zone lyon: the key of a tunnel that VM 1 publishes is not taken") and len(sentence) < 200 and "\n" not in sentence


def test_nodes_get_the_addresses_of_their_zone_by_the_number_of_their_vm():
    made = joined_peers("", plan(), {"madrid": {"11": ONE, "9": TWO}, "lyon": {"3": THREE}}, SUPERLINK)
    assert made == {"peers": [f"{THREE} 10.10.9.2 lyon/vm-3", f"{TWO} 10.10.9.4 madrid/vm-9", f"{ONE} 10.10.9.5 madrid/vm-11"], "refused": []}
    assert tunnel_addresses(made["peers"], "madrid") == {"9": "10.10.9.4", "11": "10.10.9.5"}


def test_a_node_keeps_its_address_when_others_come_and_go():
    known = f"{ONE} 10.10.9.2 lyon/vm-3,{TWO} 10.10.9.3 lyon/vm-5"
    made = joined_peers(known, plan(), {"lyon": {"5": TWO, "4": THREE}}, SUPERLINK)
    assert made["peers"] == [f"{THREE} 10.10.9.2 lyon/vm-4", f"{TWO} 10.10.9.3 lyon/vm-5"]


def test_a_node_with_a_new_key_keeps_its_address():
    assert joined_peers(f"{ONE} 10.10.9.3 lyon/vm-3", plan(), {"lyon": {"3": TWO}})["peers"] == [f"{TWO} 10.10.9.3 lyon/vm-3"]


def test_zones_that_were_not_reached_keep_their_tunnels_and_those_that_left_lose_them():
    known = f"{ONE} 10.10.9.2 lyon/vm-1,{TWO} 10.10.9.4 madrid/vm-1,{THREE} 10.10.9.6 rome/vm-1"
    assert joined_peers(known, plan(rome={"zone_state": "absent"}), {"lyon": {}})["peers"] == [f"{TWO} 10.10.9.4 madrid/vm-1"]


def test_a_zone_that_leaves_moves_no_address_of_the_others():
    made = joined_peers("", plan(lyon={"zone_state": "absent"}), {"madrid": {"1": ONE}})
    assert made["peers"] == [f"{ONE} 10.10.9.4 madrid/vm-1"]


def test_a_node_whose_address_is_another_zones_now_gets_one_of_its_own_zone():
    known = f"{ONE} 10.10.9.4 lyon/vm-1,{TWO} 10.10.9.9 madrid/vm-1"
    assert joined_peers(known, plan(), {"lyon": {"1": ONE}, "madrid": {"1": TWO}})["peers"] == [f"{ONE} 10.10.9.2 lyon/vm-1", f"{TWO} 10.10.9.4 madrid/vm-1"]


def test_nobody_gets_the_address_of_a_node_that_was_not_reached():
    known = f"{ONE} 10.10.9.4 lyon/vm-1"
    assert joined_peers(known, plan(), {"madrid": {"1": TWO}})["peers"] == [f"{ONE} 10.10.9.4 lyon/vm-1", f"{TWO} 10.10.9.5 madrid/vm-1"]


def test_addresses_of_another_tunnel_network_are_forgotten():
    assert joined_peers(f"{ONE} 10.99.0.4 lyon/vm-1", plan(), {})["peers"] == []


@pytest.mark.parametrize(("reached", "known", "thief", "holder"), [
    ({"lyon": {"1": ONE, "2": ONE}}, "", "zone lyon: the key of a tunnel that VM 2", "lyon/vm-1"),
    ({"lyon": {"1": ONE, "2": ONE}}, f"{ONE} 10.10.9.2 lyon/vm-2", "zone lyon: the key of a tunnel that VM 1", "lyon/vm-2"),
    ({"lyon": {"1": ONE}, "madrid": {"1": ONE}}, "", "zone madrid: the key of a tunnel that VM 1", "lyon/vm-1"),
    ({"lyon": {"1": ONE}}, f"{ONE} 10.10.9.4 madrid/vm-1", "zone lyon: the key of a tunnel that VM 1", "madrid/vm-1"),
    ({"lyon": {"1": SUPERLINK}}, "", "zone lyon: the key of a tunnel that VM 1", "the SuperLink"),
])  # fmt: skip
def test_a_key_belongs_to_whoever_had_it_before(reached, known, thief, holder):
    made = joined_peers(known, plan(), reached, SUPERLINK)
    (sentence,) = made["refused"]
    assert sentence == f"{thief} publishes is not taken: it is that of {holder}"
    assert len({line.split()[0] for line in made["peers"]}) == len(made["peers"])


def test_more_nodes_than_the_plan_has_addresses_for_get_none():
    made = joined_peers("", plan(), {"lyon": {"1": ONE, "2": TWO, "10": THREE}})
    assert [line.split()[2] for line in made["peers"]] == ["lyon/vm-1", "lyon/vm-2"]
    assert made["refused"] == ["zone lyon: VM 10 gets no tunnel, because flower_supernodes_max is 2 there, and the plan has as many addresses"]


def test_what_the_template_says_otherwise_is_no_tunnel():
    assert joined_peers("$ONEAPP_FL_TUNNEL_PEERS", plan(), {}) == {"peers": [], "refused": []}


def test_a_zone_without_addresses_in_the_plan_is_named():
    with pytest.raises(ValueError, match="zone rome: the plan has no addresses in the tunnel network for it"):
        joined_peers("", plan(rome={"flower_connection": "public", "flower_superlink_address": "fl.example.org:9092"}), {"rome": {"1": ONE}})


SIX, SEVEN = map(key, (6, 7))


def end(number: int, role: str, key: str, state: str = "RUNNING", next_key: str = "", **context: str) -> dict:
    """A VM with an end of a tunnel as its zone's API shows it; keywords are names of its context."""
    attributes = {"FL_TUNNEL_PUBLIC_KEY": key, "FL_TUNNEL_NEXT_PUBLIC_KEY": next_key}
    return {
        "id": number, "role": role, "state": state, "attributes": attributes,
        "context": {f"ONEAPP_FL_TUNNEL_{name}": value for name, value in context.items()},
    }  # fmt: skip


PEERS = f"{ONE} 10.10.9.2 lyon/vm-1,{TWO} 10.10.9.3 lyon/vm-2"


def rotation(*nodes: dict, **superlink: str) -> dict:
    """How far the replacement is with these nodes in lyon and this context of the SuperLink."""
    munich = end(9, "superlink", SUPERLINK, next_key=SEVEN, **{"PEERS": PEERS, **superlink})
    return tunnel_rotation({"munich": [{"vms": [munich]}], "lyon": [{"vms": list(nodes)}], "madrid": []}, plan())


def test_a_replacement_of_keys_begins_where_nobody_was_told_of_another():
    found = rotation(end(1, "supernode", ONE), end(2, "supernode", TWO, NUMBER="7", NEXT_NUMBER="8"))
    assert found["begins"] and found["next_peers"] == [] and found["switching"] == []
    assert [(node["name"], node["number"], node["next_number"]) for node in found["nodes"]] == [("lyon/vm-1", 1, 0), ("lyon/vm-2", 7, 8)]
    assert found["superlink"]["next_key"] == "", "what it published before means nothing"


def test_a_replacement_that_was_interrupted_goes_on_with_the_ends_that_have_a_next_key():
    done, ready = end(1, "supernode", THREE, NUMBER="2"), end(2, "supernode", TWO, next_key=FOUR, NEXT_NUMBER="2")
    found = rotation(done, ready, NEXT_NUMBER="2")
    assert not found["begins"]
    assert found["next_peers"] == [f"{THREE} 10.10.9.2 lyon/vm-1", f"{FOUR} 10.10.9.3 lyon/vm-2"]
    assert [node["id"] for node in found["switching"]] == [2]
    assert found["peers"] == [f"{THREE} 10.10.9.2 lyon/vm-1", f"{TWO} 10.10.9.3 lyon/vm-2"]
    assert found["superlink"]["next_key"] == SEVEN


def test_a_replacement_whose_last_step_is_left_does_not_begin_anew():
    told = end(1, "supernode", ONE, NUMBER="2", SUPERLINK_NEXT_PUBLIC_KEY=SUPERLINK)
    assert not rotation(told, end(2, "supernode", TWO, NUMBER="2"))["begins"]


@pytest.mark.parametrize("next_key", [FOUR, TWO, SUPERLINK, "", "x" * 1000, [SIX, SIX], {"a": "b"}, None])
def test_a_next_key_that_is_anothers_or_none_is_not_used(next_key):
    other = end(2, "supernode", TWO, next_key=FOUR, NEXT_NUMBER="2")
    found = rotation(end(1, "supernode", ONE, next_key=next_key, NEXT_NUMBER="2"), other, NEXT_NUMBER="2")
    assert [node["id"] for node in found["switching"]] == ([] if next_key == FOUR else [2])
    assert f"{SUPERLINK}" not in str(found["next_peers"]) and found["peers"] == PEERS.split(",")
    assert all(len(sentence) < 200 for sentence in found["refused"])


def test_a_node_that_is_off_keeps_its_key():
    off = end(1, "supernode", ONE, state="POWEROFF", next_key=THREE, NEXT_NUMBER="2")
    found = rotation(off, NEXT_NUMBER="2")
    assert (found["next_peers"], found["switching"]) == ([], [])


@pytest.mark.parametrize("number", ["", "-1", "x", "9" * 1000, "$ONEAPP_FL_TUNNEL_NUMBER"])
def test_a_context_without_a_number_has_the_first_key(number):
    (node,) = rotation(end(1, "supernode", ONE, NUMBER=number))["nodes"]
    assert node["number"] == 1


def test_without_a_superlink_there_is_nothing_to_replace():
    assert tunnel_rotation({"munich": [], "lyon": [{"vms": [end(1, "supernode", ONE)]}]}, plan())["superlink"] == {}


def test_what_is_read_of_the_ends_is_not_hidden():
    assert [name for name in ROTATION_CONTEXT if is_secret(name)] == []
