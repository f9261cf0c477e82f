# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which VMs become hosts, under which names and addresses, in which groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.redaction import is_secret
from ansible_collections.opennebula.flower.plugins.plugin_utils.vm_facts import inventory_facts
from ansible_collections.opennebula.flower.plugins.plugin_utils.vm_hosts import (
    address,
    groups,
    selector,
    state_names,
    unique_names,
)

NICS = """
<NIC><NIC_ID>1</NIC_ID><NAME>NIC1</NAME><NETWORK>storage</NETWORK><IP>10.0.1.1</IP><IP6_GLOBAL>2001:db8::1</IP6_GLOBAL></NIC>
<NIC><NIC_ID>0</NIC_ID><NAME>NIC0</NAME><NETWORK>dhcp</NETWORK><MAC>02:00:00:00:00:01</MAC></NIC>
<PCI><TYPE>NIC</TYPE><NIC_ID>2</NIC_ID><NAME>NIC2</NAME><NETWORK>fast</NETWORK><IP6_LINK>fe80::1</IP6_LINK><IP6_ULA>fd00::2</IP6_ULA></PCI>
<PCI><ADDRESS>0000:01:00.0</ADDRESS></PCI>
<NIC_ALIAS><ALIAS_ID>0</ALIAS_ID><PARENT>NIC1</PARENT><NIC_ID>3</NIC_ID><NAME>NIC1_ALIAS0</NAME><NETWORK>public</NETWORK><IP>192.0.2.1</IP></NIC_ALIAS>
"""


def facts(vm_id: int = 1, name: str = "vm", template: str = "", user: str = "", rest: str = "", state: str = "3") -> dict:
    document = xml.to_dict(
        f"<VM><ID>{vm_id}</ID><NAME>{name}</NAME><STATE>{state}</STATE><LCM_STATE>3</LCM_STATE>"
        f"<TEMPLATE>{template}</TEMPLATE><USER_TEMPLATE>{user}</USER_TEMPLATE>{rest}</VM>"
    )
    return {**inventory_facts(document), "zone": "north"}


def rule(**options: object) -> dict:
    return {"network": None, "nic": None, "family": "any", "aliases": True, **options}


# ---- Address --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        ([rule()], "10.0.1.1"),
        ([rule(family="ipv6")], "2001:db8::1"),
        ([rule(network="fast")], "fd00::2"),
        ([rule(network="fast", family="ipv4")], None),
        ([rule(network="~^p.*c$")], "192.0.2.1"),
        ([rule(network="public", aliases=False)], None),
        ([rule(nic="0")], None),
        ([rule(nic="0"), rule(nic="1")], "10.0.1.1"),
        ([rule(nic="3")], None),
        ([rule(nic="NIC1_ALIAS0", aliases=False)], "192.0.2.1"),
        ([], None),
    ],
)
def test_the_first_rule_that_finds_an_address_wins(rules: list[dict], chosen: str | None) -> None:
    assert address(facts(template=NICS)["nics"], rules) == chosen


def test_a_vm_without_nic_has_no_address() -> None:
    assert address(facts()["nics"], [rule(), rule(family="ipv6")]) is None


# ---- Names ----------------------------------------------------------------------------------------


def named(*vms: tuple[int, str, str], taken: frozenset[str] = frozenset()) -> list[str]:
    """Host names of VMs given as id, name and zone."""
    known = [{"id": vm_id, "name": name, "zone": zone} for vm_id, name, zone in vms]
    return unique_names(known, [vm["name"] for vm in known], taken)


def test_a_name_of_one_vm_is_its_hosts_name() -> None:
    assert named((1, "web", "a"), (2, "db", "a")) == ["web", "db"]


def test_vms_with_the_same_name_all_get_their_id() -> None:
    assert named((1, "web", "a"), (2, "db", "a"), (3, "web", "a")) == ["web_1", "db", "web_3"]


def test_vms_with_the_same_name_and_id_in_two_zones_all_get_their_zone() -> None:
    assert named((1, "web", "a"), (1, "web", "b"), (2, "web", "b")) == ["web_1_a", "web_1_b", "web_2"]


def test_a_vm_called_like_another_ones_name_with_id_is_told_apart_too() -> None:
    assert named((1, "web", "a"), (3, "web", "a"), (4, "web_3", "a")) == ["web_1", "web_3_a", "web_3_4"]


def test_names_that_mean_something_else_to_ansible_get_the_id() -> None:
    assert named((1, "localhost", "a"), (2, "all", "a"), (3, "role_db", "a"), taken=frozenset({"role_db"})) == [
        "localhost_1", "all_2", "role_db_3"
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "a_1", "a_1_n", "all", "b"]), st.sampled_from(["n", "s"])),
        unique_by=lambda vm: (vm[0], vm[2]),
    )
)
def test_names_are_unique_and_do_not_depend_on_the_order(vms: list[tuple[int, str, str]]) -> None:
    try:
        names = named(*vms)
    except OneException as error:
        assert "set hostname" in error.message
    else:
        assert len(set(names)) == len(names)
        assert named(*reversed(vms)) == names[::-1]


# ---- Groups ---------------------------------------------------------------------------------------

HISTORY = (
    "<HISTORY_RECORDS><HISTORY><HOSTNAME>old</HOSTNAME><CID>0</CID></HISTORY>"
    "<HISTORY><HOSTNAME>new</HOSTNAME><CID>100</CID></HISTORY></HISTORY_RECORDS>"
)
KINDS = ["zone", "service", "role", "host", "cluster", "state", "label"]


def test_groups_are_called_after_kind_and_value_and_the_host_is_the_latest() -> None:
    user = "<SERVICE_ID>0</SERVICE_ID><ROLE_NAME>node</ROLE_NAME><LABELS>a, b/c,</LABELS>"
    vm = facts(user=user, rest=HISTORY)
    assert list(groups(vm, KINDS, frozenset())) == [
        "zone_north", "service_0", "role_node", "host_new", "cluster_100", "state_running", "label_a", "label_b/c"
    ]
    assert list(groups(vm, ["service", "role"], frozenset({"service"}))) == ["service_north_0", "role_node"]


def test_what_a_vm_does_not_have_makes_no_group() -> None:
    assert list(groups(facts(state="1"), KINDS, frozenset())) == ["zone_north", "state_pending"]


# ---- Filters --------------------------------------------------------------------------------------


def test_states_are_known_in_any_spelling() -> None:
    assert state_names(["powered-off", "PowerOff", "BOOT_FAILURE", "boot failure"]) == {"POWEROFF", "BOOT_FAILURE"}
    assert {"RUNNING", "PROLOG", "UNKNOWN"} < state_names(["active"]) and "POWEROFF" not in state_names(["active"])


def test_a_state_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(OneException, match="'runing' is not a state of a VM"):
        state_names(["runing"])


def test_every_criterion_has_to_be_met() -> None:
    vm = facts(name="web-1", user="<LABELS>prod/eu</LABELS><TIER>front</TIER><LIST><A>1</A></LIST>")
    assert selector(names=["db*", "web-?"], labels=["prod*", "prod/eu"], attributes={"tier": "front"}, states=["running"])(vm)
    assert not selector(names=["web-?"], labels=["prod*", "test"])(vm)
    assert not selector(names=["web"])(vm)
    assert not selector(attributes={"LIST": "*"})(vm)
    assert not selector(attributes={"ABSENT": "*"})(vm)
    assert selector()(vm)


def test_a_secret_is_no_criterion() -> None:
    with pytest.raises(OneException, match="DB_PASSWORD cannot be a criterion"):
        selector(attributes={"DB_PASSWORD": "*"})


# ---- Secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ROOT_PASSWORD", "passwd_base64", "API_TOKEN", "ONEAPP_FL_SSL_KEYFILE", "SSH_KEY", "AccessSecret"])
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["SSH_PUBLIC_KEY", "KEYBOARD", "ENVIRONMENT", "BYPASS", "FL_NUM_ROUNDS"])
def test_other_names_are_not_taken_for_secrets(name: str) -> None:
    assert not is_secret(name)


def test_secrets_are_left_out_by_name_content_and_declaration() -> None:
    user = (
        "<A>1</A><B_PASSWORD>x</B_PASSWORD><C>-----BEGIN EC PRIVATE KEY-----</C><D><TOKEN>x</TOKEN><E>2</E></D>"
        "<CODE>x</CODE><USER_INPUTS><CODE>M|password|Door||default</CODE></USER_INPUTS><F><KEY>x</KEY></F><F><G>3</G></F>"
    )
    assert facts(user=user)["user_template"] == {"A": "1", "D": {"E": "2"}, "F": [{}, {"G": "3"}]}


# ---- Documents of every shape ---------------------------------------------------------------------


def test_a_vm_of_the_least_a_document_can_hold_has_facts() -> None:
    vm = facts(state="8")
    assert vm["state"] == "POWEROFF" and vm["host"] is vm["cluster_id"] is vm["service_id"] is vm["role"] is None
    assert vm["nics"] == vm["labels"] == [] and vm["user_template"] == {}


def test_a_state_of_a_later_version_is_shown_by_its_number() -> None:
    assert facts(state="99")["state"] == "STATE_99"
