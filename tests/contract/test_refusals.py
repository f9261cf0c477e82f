# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the zone refuses as oned does: names, calls with wrong parameters, rights, locks, and attributes that cannot be.

The words are those of OpenNebula's published source where no recording holds any.
"""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ADMIN, ALICE, World, refusal

from lab.core.errors import OneError

AUTHORIZATION, NO_EXISTS, ACTION, REQUEST, INTERNAL, ALLOCATE = 512, 1024, 2048, 4096, 8192, 16384
NETWORK = 'NAME="private"\nVN_MAD="bridge"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="9"]'
VM = 'CPU="0.1"\nMEMORY="64"\n'
NEW_VM = "Error allocating a new virtual machine template. "


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A zone with a network, an image, a VM template that everybody may use, and alice."""
    world = World(Path(tmp_path_factory.mktemp("zone")))
    world.call("one.vn.allocate", NETWORK, 0)
    world.call("one.image.allocate", 'NAME="disk"\nPATH="/x"\nSIZE="10"', 1, False)
    world.wait("one.vn.info", 0, "<STATE><![CDATA[1]]>")
    world.wait("one.image.info", 0, "<STATE>1<")
    world.call("one.template.allocate", f'NAME="small"\n{VM}')
    world.call("one.template.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1, False)
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    world.call("one.document.allocate", 'NAME="paper"', 100)
    yield world
    world.stop()


NAMED = [
    ("one.template.allocate", lambda name: (f'NAME="{name}"',), INTERNAL, ""),
    ("one.image.allocate", lambda name: (f'NAME="{name}"\nPATH="/x"', 1, False), ALLOCATE, "Error allocating a new image. "),
    ("one.vn.allocate", lambda name: (f'NAME="{name}"\nVN_MAD="bridge"', 0), INTERNAL, ""),
    ("one.secgroup.allocate", lambda name: (f'NAME="{name}"',), INTERNAL, ""),
    ("one.datastore.allocate", lambda name: (f'NAME="{name}"\nDS_MAD="fs"\nTM_MAD="ssh"', 0), INTERNAL, ""),
    ("one.cluster.allocate", lambda name: (name,), ALLOCATE, "Error allocating a new cluster. "),
    ("one.group.allocate", lambda name: (name,), INTERNAL, ""),
    ("one.vdc.allocate", lambda name: (f'NAME="{name}"',), INTERNAL, ""),
    ("one.market.allocate", lambda name: (f'NAME="{name}"\nMARKET_MAD="one"',), ALLOCATE, "Error allocating a new marketplace. "),
    ("one.vmgroup.allocate", lambda name: (f'NAME="{name}"',), INTERNAL, ""),
    ("one.vntemplate.allocate", lambda name: (f'NAME="{name}"\nVN_MAD="bridge"',), INTERNAL, ""),
    ("one.vrouter.allocate", lambda name: (f'NAME="{name}"',), INTERNAL, ""),
    ("one.backupjob.allocate", lambda name: (f'NAME="{name}"',), INTERNAL, ""),
    ("one.template.clone", lambda name: (0, name, False), INTERNAL, ""),
    ("one.secgroup.clone", lambda name: (0, name), INTERNAL, ""),
    ("one.image.clone", lambda name: (0, name), ALLOCATE, "Error allocating a new image. "),
    ("one.vm.allocate", lambda name: (f'NAME="{name}"\n{VM}', True), INTERNAL, ""),
    ("one.template.instantiate", lambda name: (0, name, True), ALLOCATE, NEW_VM),
]


@pytest.mark.parametrize("character", list("&|:;/'#{}$<>\t"))
@pytest.mark.parametrize(("method", "params", "code", "prefix"), NAMED, ids=[method for method, *_rest in NAMED])
def test_a_name_with_a_forbidden_character_is_refused(world: World, method, params, code, prefix, character) -> None:
    expected = (code, f"{prefix}Invalid NAME, char '{character}' is not allowed")
    assert refusal(world, method, *params(f"a{character}b")) == expected


@pytest.mark.parametrize(("name", "words"), [
    ("a b", "Invalid NAME, char ' ' is not allowed."), ("a:b", "Invalid NAME, char ':' is not allowed."),
    ("", "Invalid NAME, it cannot be empty."), ("é" * 65, "Invalid NAME, max length is 128 chars."),
])
def test_a_users_name_is_refused_with_a_full_stop(world: World, name: str, words: str) -> None:
    assert refusal(world, "one.user.allocate", name, "secret", "") == (INTERNAL, words)


def test_a_group_has_no_space_in_its_name(world: World) -> None:
    assert refusal(world, "one.group.allocate", "a b") == (INTERNAL, "Invalid NAME, char ' ' is not allowed")


@pytest.mark.parametrize(("name", "words"), [
    ("a", "HOSTNAME length should be greater than 1, but smaller than 64 characters"),
    ("-host", "first character can't be '-'"), ("host.", "last character can't be '.'"),
    ("ho st", "' ' is invalid character for a HOSTNAME"), ("ho$t", "'$' is invalid character for a HOSTNAME"),
])
def test_a_host_is_named_as_a_computer_is(world: World, name: str, words: str) -> None:
    refused = refusal(world, "one.host.allocate", name, "kvm", "kvm", 0)
    assert refused == (ALLOCATE, f"Error allocating a new host. Invalid HOSTNAME, {words}")


def test_6_10_takes_hosts_and_groups_with_spaces(tmp_path: Path) -> None:
    world = World(tmp_path, version="6.10")
    try:
        assert world.call("one.host.allocate", "ho st", "kvm", "kvm", 0) == 1
        assert world.call("one.group.allocate", "a b") == 100
    finally:
        world.stop()


def test_a_document_has_any_name_until_it_is_renamed(world: World) -> None:
    assert world.call("one.document.allocate", 'NAME="a&b"', 100) == 1
    assert refusal(world, "one.document.rename", 1, "b&a") == (ACTION, "Invalid NAME, char '&' is not allowed")
    assert refusal(world, "one.document.allocate", f'NAME="{"x" * 129}"', 100)[1].startswith("NAME is too long")


@pytest.mark.parametrize(("kind", "taken"), [
    ("template", "virtual machine template"), ("image", "image"), ("vn", "virtual network"), ("secgroup", "security group"),
])
def test_a_new_name_that_is_taken_is_refused(world: World, kind: str, taken: str) -> None:
    there = {"template": "small", "image": "disk", "vn": "private", "secgroup": "default"}[kind]
    more = {"template": ("",), "image": ('\nPATH="/x"', 1, False), "vn": ('\nVN_MAD="bridge"', 0), "secgroup": ("",)}[kind]
    number = world.call(f"one.{kind}.allocate", f'NAME="other"{more[0]}', *more[1:])
    words = f"{taken} cannot be renamed to {there} because it collides with {taken} 0"
    assert refusal(world, f"one.{kind}.rename", number, there) == (ACTION, words)


def test_a_new_owner_has_no_object_of_the_name(world: World) -> None:
    number = world.call("one.template.allocate", 'NAME="small"', session=ALICE)
    words = f"user [2] already owns virtual machine template [{number}] with NAME small"
    assert refusal(world, "one.template.chown", 0, 2, -1) == (INTERNAL, words)


@pytest.mark.parametrize(("method", "params", "words"), [
    ("one.template.info", ("0",), "Parameter that is supposed to be integer is not"),
    ("one.template.info", (True,), "Parameter that is supposed to be integer is not"),
    ("one.template.allocate", (5,), "Parameter that is supposed to be a string is not"),
    ("one.image.persistent", (0, 1), "Parameter that is supposed to be boolean is not"),
    ("one.user.allocate", ("u", "p", "", "100"), "Parameter that is supposed to be an array is not"),
    ("one.template.info", (), "Not enough parameters"),
    ("one.user.allocate", ("u", "p"), "Not enough parameters"),
    ("one.vn.allocate", ('NAME="n"',), "Not enough parameters"),
    ("one.vm.migrate", (0, 0), "Not enough parameters"),
    ("one.vm.disksaveas", (0, 0, "name"), "Not enough parameters"),
    ("one.vmpool.infoset", ("0",), "Not enough parameters"),
    ("one.image.delete", (0, "yes"), "Parameter that is supposed to be boolean is not"),
])
def test_parameters_that_do_not_fit_are_a_fault(world: World, method: str, params: tuple, words: str) -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        world.call(method, *params)
    assert (caught.value.faultCode, caught.value.faultString) == (-501, words)


def test_parameters_that_no_method_takes_are_passed_over(world: World) -> None:
    assert refusal(world, "one.secgroup.delete", 77, "surplus") == (1024, "Error getting security group [77].")


@pytest.mark.parametrize(("append", "words"), [
    (1, "User Template includes a restricted attribute USER_PRIORITY"), (0, "Tried to change restricted attribute: USER_PRIORITY"),
])
def test_who_is_no_administrator_cannot_restrict_his_vm(world: World, append: int, words: str) -> None:
    vm = world.call("one.template.instantiate", 0, "hers", True, "", False, session=ALICE)
    assert refusal(world, "one.vm.update", vm, 'USER_PRIORITY="1"', append, session=ALICE) == (
        INTERNAL, f"Cannot update template. {words}",
    )
    assert refusal(world, "one.vm.update", vm, "A=1", 2, session=ALICE) == (REQUEST, "Wrong update type")
    assert world.call("one.vm.update", vm, "A=1", session=ALICE) == vm


@pytest.mark.parametrize(("attributes", "datastore", "code", "words"), [
    ("", 1, INTERNAL, "Cannot parse image SIZE: Wrong number or missing SIZE attribute."),
    ('TYPE="DATABLOCK"\nSIZE="large"', 1, INTERNAL, "Cannot parse image SIZE: Wrong number or missing SIZE attribute."),
    ('TYPE="kernel"', 2, INTERNAL, "Cannot parse image SIZE: Either PATH or SOURCE are required for KERNEL"),
    ('SOURCE="/x"\nSIZE="5"', 1, ALLOCATE, "Error allocating a new image. SOURCE needs FORMAT to be set."),
    ('SOURCE="/x"\nPATH="/y"\nSIZE="5"', 1, ALLOCATE, "Error allocating a new image. PATH and SOURCE cannot be both set."),
    ('TYPE="TAPE"\nPATH="/x"', 1, ALLOCATE, "Error allocating a new image. Unknown type "),
    ('TYPE="BACKUP"\nSIZE="5"', 1, ALLOCATE, "Error allocating a new image. IMAGES of type BACKUP can only be registered in an BACKUP_DS datastore"),
])
def test_an_image_that_cannot_be_is_refused(world: World, attributes: str, datastore: int, code: int, words: str) -> None:
    assert refusal(world, "one.image.allocate", f'NAME="odd"\n{attributes}', datastore, False) == (code, words)


def test_an_image_that_is_in_the_datastore_already_stays_where_it_is(world: World) -> None:
    number = world.call("one.image.allocate", 'NAME="there"\nSOURCE="/there"\nSIZE="5"\nFORMAT="qcow2"', 1, False)
    image = ElementTree.fromstring(world.wait("one.image.info", number, "<STATE>1<"))
    assert [image.findtext(name) for name in ("SOURCE", "FORMAT", "SIZE")] == ["/there", "qcow2", "5"]


def test_a_type_that_is_none_is_refused_with_less_of_the_sentence_the_higher_the_type(world: World) -> None:
    number = world.call("one.image.allocate", 'NAME="block"\nTYPE="DATABLOCK"\nSIZE="5"', 1, False)
    assert refusal(world, "one.image.chtype", 0, "TAPE") == (INTERNAL, "Unknown type ")
    assert refusal(world, "one.image.chtype", number, "TAPE") == (INTERNAL, "known type ")


@pytest.mark.parametrize(("session", "params", "code", "words"), [
    (ADMIN, ("nobody", "", 60), NO_EXISTS, "Error getting user Pool."),
    (ALICE, ("alice", "none", 0), REQUEST, "Could not find token: none"),
    (ALICE, ("alice", "", -2), REQUEST, "Wrong valid period for token"),
    (ALICE, ("alice", "", 60, 0), REQUEST, "EGID is not in user group list"),
    (ADMIN, ("alice", "", 60), REQUEST, "Cannot create a full token with a specific group token"),
])
def test_a_token_that_cannot_be_is_refused(world: World, session: str, params: tuple, code: int, words: str) -> None:
    assert refusal(world, "one.user.login", *params, session=session) == (code, words)


def test_a_user_has_ten_tokens_at_most(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _number in range(10):
        world.call("one.user.login", "oneadmin", "", 60)
    try:
        assert refusal(world, "one.user.login", "oneadmin", "", 60) == (REQUEST, "Max number of tokens limit reached.")
    finally:
        world.stop()


@pytest.mark.parametrize(("method", "params", "words"), [
    ("one.group.update", (1, "A=1", 1), "ADMIN GROUP [1]"), ("one.zone.update", (0, "A=1", 1), "MANAGE ZONE [0]"),
])
def test_who_is_no_administrator_changes_neither_groups_nor_the_zone(world: World, method: str, params: tuple, words: str) -> None:
    assert refusal(world, method, *params, session=ALICE) == (AUTHORIZATION, f"User [2] : Not authorized to perform {words}.")


def test_quotas_of_a_group_that_is_not_there_are_not_authorized(world: World) -> None:
    words = "User [0] not authorized to perform action on group."
    assert refusal(world, "one.group.quota", 77, 'VM=[VMS="1"]') == (AUTHORIZATION, words)


def test_6_10_has_other_rights_and_lacks_methods(tmp_path: Path) -> None:
    world = World(tmp_path, version="6.10")
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    try:
        assert refusal(world, "one.group.update", 1, "A=1", 1, session=ALICE)[1] == "User [2] : Not authorized to perform MANAGE GROUP [1]."
        assert refusal(world, "one.group.quota", 77, 'VM=[VMS="1"]') == (NO_EXISTS, "Error getting group [77].")
        assert refusal(world, "one.cluster.allocate", "default") == (INTERNAL, "NAME is already taken by CLUSTER 0.")
        assert refusal(world, "one.market.allocate", 'NAME="m"') == (INTERNAL, "No marketplace driver (MARKET_MAD) in template.")
        words = "Error allocating a new security group. NAME is already taken by SecurityGroup 0."
        assert refusal(world, "one.secgroup.clone", 0, "default") == (ALLOCATE, words)
        with pytest.raises(xmlrpc.client.Fault, match="Method 'one.vm.vmgroupdel' not defined"):
            world.call("one.vm.vmgroupdel", 0)
    finally:
        world.stop()


def test_a_session_that_is_no_text_is_nobodys(world: World) -> None:
    server = xmlrpc.client.ServerProxy(world.zone.xmlrpc_url)
    success, words, code, *_rest = server.one.template.info(5, 0)
    assert (success, code) == (False, 256) and "couldn't be authenticated" in words


def test_a_kind_of_update_there_is_not_is_refused(world: World) -> None:
    assert refusal(world, "one.template.update", 0, "A=1", 2) == (REQUEST, "Wrong update type")
    assert refusal(world, "one.templatepool.info", -5, -1, -1) == (REQUEST, "Incorrect filter_flag")
    assert refusal(world, "one.template.chmod", 0, 2, *[-1] * 8) == (INTERNAL, "New permission values must be -1, 0 or 1")


def test_who_adds_to_a_template_may_make_templates(world: World) -> None:
    group = world.call("one.group.allocate", "guests")
    world.call("one.user.allocate", "bob", "bobpw", "", [group])
    words = "User [3] : Not authorized to perform CREATE TEMPLATE."
    assert refusal(world, "one.template.instantiate", 0, "own", True, 'A="1"', session="bob:bobpw") == (AUTHORIZATION, words)
    world.call("one.template.instantiate", 0, "own", True, "", session="bob:bobpw")


def test_a_lock_holds_administrators_off_too(world: World) -> None:
    world.call("one.template.lock", 0, 2)
    lock = ElementTree.fromstring(world.call("one.template.info", 0)).find("LOCK")
    assert [lock.findtext(name) for name in ("LOCKED", "OWNER")] == ["2", "0"]
    assert refusal(world, "one.template.delete", 0) == (AUTHORIZATION, "User [0] : TEMPLATE is locked. [0].")
    world.call("one.template.instantiate", 0, "used", True)
    assert refusal(world, "one.template.lock", 0, 5) == (ACTION, "Wrong lock level specified")
    world.call("one.template.unlock", 0)
    world.call("one.template.update", 0, "A=1", 1)


@pytest.mark.parametrize(("attributes", "words"), [
    ('DISK=[SIZE="20"]', "DISK 0: Unknown disk type "),
    ('DISK=[TYPE="ext4",SIZE="20"]', "DISK 0: Unknown disk type EXT4"),
    ('DISK=[TYPE="fs"]', "DISK 0: SIZE attribute must be a positive integer value."),
    ('DISK=[IMAGE_ID="0",SIZE="5"]', "DISK 0: SIZE of 5MB is less than the image [0] size of 10MB."),
    ('DISK=[IMAGE="none"]', "DISK 0: User 0 does not own an image with name: none . "
                            "Set IMAGE_UNAME or IMAGE_UID of owner in DISK."),
    ('NIC=[NETWORK="none"]', "User 0 does not own a network with name: none . "
                             "Set NETWORK_UNAME or NETWORK_UID of owner in NIC."),
    ('NIC=[NETWORK_ID="0",IP="10.9.0.1"]', "Cannot get IP/MAC lease from virtual network 0."),
    ('NIC=[NETWORK_ID="0",IP="10.1.0"]', "Cannot get IP/MAC lease from virtual network 0."),
    ('NIC=[NETWORK_ID="0",IP6="fd00::1"]', "Cannot get IP/MAC lease from virtual network 0."),
    ('NIC=[NETWORK_ID="0",MAC="02:00:0a:01:00:ff"]', "Cannot get IP/MAC lease from virtual network 0."),
    ('NIC=[NETWORK_ID="0",IP="10.1.0.11",MAC="02:00:0a:01:00:0b"]', "Cannot get IP/MAC lease from virtual network 0."),
    ('NIC_ALIAS=[NETWORK_ID="0",PARENT="NIC7"]', "NIC named NIC7 not found for alias"),
    ('OS=[BOOT="disk0"]', "Wrong OS/BOOT value. Device with DISK_ID 0 not found"),
    ('OS=[BOOT="hd"]', 'Wrong OS/BOOT value: "hd" should be a comma-separated list of disk# or nic#'),
    ('VIDEO=[VRAM="2048"]', "Video TYPE is required"),
    ('VIDEO=[TYPE="qxl"]', "Invalid video TYPE, should be either: none, vga, cirrus, or virtio"),
    ('GRAPHICS=[TYPE="vnc",PORT="70000"]', "Wrong PORT number in GRAPHICS attribute"),
    ('VCPU="0"', "VCPU attribute must be a positive integer value."),
    ('CPU="one"', "CPU attribute must be a positive float or integer value."),
    ('MEMORY="1.5"', "MEMORY attribute must be a positive integer value."),
    ('TOPOLOGY=[CORES="2"]', "Non-pinned VMs with a virtual topology needs to set  SOCKETS, CORES and THREADS numbers."),
    ('NIC_DEFAULT=[NETWORK_ID="0"]', "Attribute NETWORK_ID is not allowed inside NIC_DEFAULT."),
])
def test_a_vm_that_cannot_be_is_refused(world: World, attributes: str, words: str) -> None:
    assert refusal(world, "one.template.instantiate", 0, "odd", True, attributes) == (ALLOCATE, NEW_VM + words)
    assert "<USED_LEASES>0<" in world.call("one.vn.info", 0)


@pytest.mark.parametrize(("attributes", "code", "words"), [
    ('CPU="1"', INTERNAL, "MEMORY attribute must be a positive integer value."),
    (f'{VM}DISK=[IMAGE_ID="77"]', INTERNAL, "DISK 0: Image with ID: 77 does not exist"),
    (f'{VM}TOPOLOGY=[CORES="2"]', ALLOCATE, "Error allocating a new virtual machine. "
                                            "Non-pinned VMs with a virtual topology needs to set  SOCKETS, CORES and THREADS numbers."),
])
def test_who_asks_for_a_vm_itself_hears_the_mere_reason(world: World, attributes: str, code: int, words: str) -> None:
    assert refusal(world, "one.vm.allocate", attributes, True) == (code, words)


@pytest.mark.parametrize(("value", "words"), [
    ("end$", "unexpected EOA, expecting $end or VARIABLE or RSTRING at line 0, columns 7:8"),
    ("$(hostname)", "unexpected EOA, expecting $end or VARIABLE or RSTRING at line 0, columns 4:5"),
    ("${HOME}", "unexpected EOA, expecting $end or VARIABLE or RSTRING at line 0, columns 4:5"),
    ("a$$b", "unexpected EOA, expecting $end or VARIABLE or RSTRING at line 0, columns 5:6"),
    ("$NAME, you", "unexpected COMMA, expecting OBRACKET or EOA at line 0, columns 8:10"),
    ("$NAME=1", "unexpected EQUAL, expecting OBRACKET or EOA at line 0, columns 8:9"),
    ("$NIC[IP", "unexpected EOA, expecting COMMA or CBRACKET at line 0, columns 10:11"),
    ("$NAME\nmore", "unexpected VARIABLE, expecting OBRACKET or EOA at line 0, columns 9:13"),
])
def test_a_dollar_that_begins_no_variable_is_refused(world: World, value: str, words: str) -> None:
    code, message = refusal(world, "one.vm.allocate", f'{VM}CONTEXT=[A="{value}",B="2"]', True)
    assert code == INTERNAL
    assert message == f"Error parsing: A={value}@^_^@B=2. syntax error, {words}"


@pytest.mark.parametrize(("value", "expected"), [
    ("$NAME-$VMID.", "me-{}."), ("$NAME$UID x", "me0 x"), (r"\$NAME", r"\$NAME"), ("$NONE/x", "/x"),
    ('$NIC[IP, NETWORK=\\"none\\"]!', "!"), ("$USER[TEMPLATE_]", ""),
])
def test_variables_are_filled_in(world: World, value: str, expected: str) -> None:
    number = world.call("one.vm.allocate", f'NAME="me"\n{VM}CONTEXT=[A="{value}"]', True)
    context = ElementTree.fromstring(world.call("one.vm.info", number)).find("TEMPLATE/CONTEXT")
    assert (context.findtext("A") or "") == expected.format(number)


def test_attributes_are_kept_as_oned_writes_them(world: World) -> None:
    number = world.call(
        "one.vm.allocate",
        'CPU="0.50"\nVCPU="02"\nMEMORY="0128"\nFEATURES=[ACPI="yes",PAE="true",GIC="x"]\nVIDEO=[TYPE="VGA"]\n'
        'NIC=[NETWORK_ID="0",NAME="NIC7",MAC="02:0:A:01:00:0F"]\nBACKUP_CONFIG=[KEEP_LAST="3",FS_FREEZE="agent"]', True,
    )
    vm = ElementTree.fromstring(world.call("one.vm.info", number))
    kept = ("CPU", "VCPU", "MEMORY", "FEATURES/ACPI", "FEATURES/PAE", "FEATURES/GIC", "VIDEO/TYPE", "NIC/NAME", "NIC/MAC")
    assert [vm.findtext(f"TEMPLATE/{name}") for name in kept] == [
        "0.5", "2", "128", "YES", "NO", "host", "vga", "_NIC7", "02:00:0a:01:00:0f",
    ]
    backup = vm.find("BACKUPS/BACKUP_CONFIG")
    assert [backup.findtext(name) for name in ("KEEP_LAST", "FS_FREEZE", "MODE")] == ["3", "AGENT", "FULL"]
    world.call("one.vm.action", "terminate", number)


def test_an_alias_has_an_address_of_its_own_and_a_name(world: World) -> None:
    nics = 'NIC=[NETWORK_ID="0"]\nNIC_ALIAS=[NETWORK_ID="0",PARENT="NIC0"]\nCONTEXT=[NETWORK="YES"]'
    number = world.call("one.vm.allocate", f"{VM}{nics}", True)
    machine = ElementTree.fromstring(world.call("one.vm.info", number)).find("TEMPLATE")
    alias = machine.find("NIC_ALIAS")
    assert [alias.findtext(name) for name in ("NAME", "NIC_ID", "PARENT_ID", "ALIAS_ID")] == ["NIC0_ALIAS1", "1", "0", "0"]
    assert machine.findtext("NIC/ALIAS_IDS") == "1"
    assert machine.findtext("CONTEXT/ETH0_ALIAS0_IP") == alias.findtext("IP") != machine.findtext("NIC/IP")
    world.call("one.vm.action", "terminate", number)
    assert "<USED_LEASES>0<" in world.call("one.vn.info", 0)


@pytest.mark.parametrize(("name", "odd"), list(enumerate([
    'NETWORK_MASK="/24"', 'NETWORK_ADDRESS="nowhere"', 'NETWORK_MASK=[A="1"]', 'BRIDGE_TYPE=[A="1"]', 'PHYDEV=[A="1"]',
])))
def test_a_network_keeps_odd_values_that_nothing_depends_on(world: World, name: int, odd: str) -> None:
    number = world.call("one.vn.allocate", f'NAME="odd {name}"\nVN_MAD="bridge"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="9"]\n{odd}', 0)
    assert world.call("one.vn.update", number, odd, 1) == number


def test_a_network_whose_driver_is_a_vector_has_none(world: World) -> None:
    words = "No VN_MAD in template for Virtual Network."
    assert refusal(world, "one.vn.allocate", 'NAME="vector"\nVN_MAD=[A="1"]', 0)[1] == words
    number = world.call("one.vn.allocate", 'NAME="driven"\nVN_MAD="bridge"', 0)
    assert refusal(world, "one.vn.update", number, 'VN_MAD=[A="1"]', 0)[1] == f"Cannot update template. {words}"


ODD_SHAPES = [
    *((method, (f"{rest}\n{name}", *others)) for method, rest, others, names in (
        ("one.template.allocate", 'CPU="1"', (), ("NAME",)),
        ("one.vm.allocate", VM, (False,), ("NAME", "NIC", "NIC_ALIAS", "DISK", "PCI", "NIC_DEFAULT", "OS", "CONTEXT", "GRAPHICS", "RAW")),
        ("one.image.allocate", 'SIZE="1"', (1, False), ("NAME", "TYPE", "PATH", "PERSISTENT", "FROM_APP")),
        ("one.vn.allocate", 'VN_MAD="bridge"', (0,), ("NAME", "AR", "AUTOMATIC_VLAN_ID", "VLAN_ID", "SECURITY_GROUPS")),
        ("one.vntemplate.allocate", 'VN_MAD="bridge"', (), ("NAME", "AR", "CLUSTER_IDS")),
        ("one.secgroup.allocate", "", (), ("NAME", "RULE")),
        ("one.datastore.allocate", 'DS_MAD="fs"\nTM_MAD="ssh"', (0,), ("NAME", "TYPE", "DISK_TYPE", "SAFE_DIRS")),
        ("one.datastore.allocate", "", (0,), ("DS_MAD", "TM_MAD")),
        ("one.market.allocate", "", (), ("NAME", "MARKET_MAD")),
        ("one.vdc.allocate", "", (), ("NAME",)),
        ("one.vmgroup.allocate", "", (), ("NAME", "ROLE")),
        ("one.vrouter.allocate", "", (), ("NAME", "NIC")),
        ("one.document.allocate", "", (100,), ("NAME",)),
        ("one.hook.allocate", 'NAME="h"\nCOMMAND="x"', (), ("TYPE", "REMOTE", "RESOURCE", "CALL", "STATE")),
        ("one.hook.allocate", 'NAME="h"\nCOMMAND="x"\nTYPE="state"', (), ("RESOURCE", "STATE")),
        ("one.hook.allocate", 'NAME="h"\nCOMMAND="x"\nTYPE="api"', (), ("CALL",)),
        ("one.hook.allocate", 'NAME="h"\nCOMMAND="x"\nTYPE="state"\nRESOURCE="VM"', (), ("ON", "STATE")),
        ("one.backupjob.allocate", 'NAME="j"', (), ("BACKUP_VMS", "MODE", "PRIORITY", "SCHED_ACTION")),
    ) for name in names),
    *((method, (0, f"{rest}\n{name}")) for method, rest, names in (
        ("one.vn.add_ar", "", ("AR",)), ("one.vn.update_ar", "", ("AR",)), ("one.vn.hold", "", ("LEASES",)),
        ("one.vn.reserve", 'NAME="r"', ("SIZE",)), ("one.vn.reserve", 'SIZE="1"', ("NAME", "AR_ID", "NETWORK_ID", "IP")),
        ("one.user.quota", "", ("VM", "DATASTORE", "NETWORK")), ("one.group.quota", "", ("IMAGE",)),
        ("one.datastore.update", "", ("TYPE", "TM_MAD", "DISK_TYPE")), ("one.image.update", "", ("PERSISTENT_TYPE", "DEV_PREFIX", "READONLY")),
    ) for name in names),
]


@pytest.mark.parametrize("value", ['=[A="b"]', '="a"\n{}="b"', '=[A="b"]\n{}="c"', '="a"\n{}=[A="b"]'], ids=["vector", "twice", "vector first", "text first"])
def test_a_vector_or_several_in_the_place_of_a_text_and_the_other_way_round_are_no_fault_of_the_server(tmp_path: Path, value: str) -> None:
    world = World(tmp_path)
    world.call("one.vn.allocate", NETWORK, 0)
    world.wait("one.vn.info", 0, "<STATE><![CDATA[1]]>")
    world.call("one.image.allocate", 'NAME="disk"\nPATH="/x"\nSIZE="10"', 1, False)
    faults = []
    for method, params in ODD_SHAPES:
        odd = [f"{text}{value.format(text.rpartition(chr(10))[2])}" if isinstance(text, str) else text for text in params]
        try:
            world.call(method, *odd)
        except OneError:
            continue
        except Exception as error:
            faults.append(f"{method} {odd}: {error!r}")
    try:
        world.tick()
    finally:
        world.stop()
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("method", ["one.vm.allocate", "one.template.allocate"])
def test_a_name_that_begins_with_a_digit_in_a_vector_is_refused(world: World, method: str) -> None:
    more = (False,) if method == "one.vm.allocate" else ()
    code, words = refusal(world, method, f'NAME="odd"\n{VM}X=[1A="x"]', *more)
    assert (code, words) == (INTERNAL, "Parse error: '1A' is not a valid attribute name: it begins with a digit")


def test_no_list_is_broken_by_a_name_that_begins_with_a_digit(world: World) -> None:
    code, words = refusal(world, "one.user.update", 2, 'X=[1A="x"]', 1, session=ALICE)
    assert code == INTERNAL and words.endswith("'1A' is not a valid attribute name: it begins with a digit")
    ElementTree.fromstring(world.call("one.userpool.info"))
