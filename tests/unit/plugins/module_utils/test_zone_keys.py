# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which SuperNodes of other zones may join, whatever their VMs publish."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.opennebula.flower.plugins.module_utils.zone_keys import joined_keys, zone_keys


def public_key(curve: ec.EllipticCurve | None = None) -> str:
    key = ec.generate_private_key(curve or ec.SECP384R1()).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


ONE, TWO, THREE = public_key(), public_key(), public_key()


def test_keys_have_the_names_of_zone_and_vm():
    found = zone_keys([{"id": 7, "attributes": {"FL_NODE_KEY": f"{ONE} root@anywhere"}}], "lyon", 4)
    assert found == {"keys": [f"{ONE} lyon/vm-7"], "refused": []}


@pytest.mark.parametrize(
    "published", ["", "ssh-rsa AAAA", ONE[:-8], public_key(ec.SECP256R1()), "x" * 100_000, f"{ONE}\n{TWO}", f"{ONE},{TWO}", {"a": "b"}, [ONE, TWO], None]
)
def test_a_vm_that_publishes_something_else_does_not_stop_the_others(published):
    found = zone_keys([{"id": 1, "attributes": {"FL_NODE_KEY": published}}, {"id": 2, "attributes": {"FL_NODE_KEY": TWO}}], "lyon", 4)
    assert found["keys"] == [f"{TWO} lyon/vm-2"]
    (sentence,) = found["refused"]
    assert sentence.startswith("zone lyon: the key that VM 1 publishes is not taken") and len(sentence) < 300 and "\n" not in sentence


def test_no_more_keys_are_taken_than_the_zone_may_have_nodes_and_the_oldest_vms_come_first():
    vms = [{"id": number, "attributes": {"FL_NODE_KEY": public_key()}} for number in (30, *range(16, 0, -1))]
    found = zone_keys([*vms, {"id": 0, "attributes": {}}], "lyon", 2)
    assert [line.rpartition(" ")[2] for line in found["keys"]] == ["lyon/vm-1", "lyon/vm-2"]
    assert found["refused"][1:] == [
        "zone lyon: flower_supernodes_max is 2, so that the keys of VM 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 5 more are not taken"
    ]


def test_a_vm_without_a_key_is_named_with_the_error_that_it_published():
    found = zone_keys([{"id": 1, "attributes": {"FL_ERROR": "no\tGPU" + "!" * 1000}}, {"id": 2, "attributes": {"FL_NODE_KEY": TWO}}], "lyon", 4)
    assert found["keys"] == [f"{TWO} lyon/vm-2"]
    (said,) = found["refused"]
    assert said.startswith("zone lyon: the key that VM 1 publishes is not taken") and "FL_ERROR is no\\tGPU!!!" in said and len(said) < 450


def test_what_is_said_of_a_zone_with_many_odd_vms_stays_short():
    refused = zone_keys([{"id": number, "attributes": {}} for number in range(5000)], "lyon", 2)["refused"]
    assert len(refused) == 21 and refused[-1] == "zone lyon: and 4980 more"


def test_zones_that_were_not_reached_keep_their_keys_and_those_that_left_lose_them():
    known = f"{ONE} lyon/vm-1,{TWO} madrid/vm-1,{THREE} rome/vm-1"
    assert joined_keys(known, ["munich", "lyon", "madrid"], {"lyon": []}) == [f"{TWO} madrid/vm-1"]


def test_a_zone_that_was_reached_has_the_keys_of_its_vms_now():
    assert joined_keys(f"{ONE} lyon/vm-1", ["lyon"], {"lyon": [f"{TWO} lyon/vm-2"]}) == [f"{TWO} lyon/vm-2"]


def test_a_key_counts_once_and_the_operators_first():
    reached = {"lyon": [f"{ONE} lyon/vm-1", f"{TWO} lyon/vm-2"], "madrid": [f"{ONE} madrid/vm-1", f"{THREE} madrid/vm-2"]}
    assert joined_keys("", ["lyon", "madrid"], reached, [THREE]) == [f"{ONE} lyon/vm-1", f"{TWO} lyon/vm-2"]


def test_keys_without_the_name_of_a_zone_are_the_operators_and_not_known_from_before():
    assert joined_keys(f"{ONE} alice,{TWO}", ["lyon"], {}) == []


def test_the_key_of_a_machine_stays_as_long_as_its_site_belongs():
    known = f"{ONE} tower/machine,{TWO} quay/machine"
    assert joined_keys(known, ["tower"], {}) == [f"{ONE} tower/machine"]
    assert joined_keys(known, ["tower"], {"tower": [f"{THREE} tower/machine"]}) == [f"{THREE} tower/machine"]
