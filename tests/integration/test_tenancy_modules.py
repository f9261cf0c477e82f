# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules of tenancy against a zone that boots nothing: users, groups, quotas, rights, virtual data centers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

GOOD = "correct-horse"
# Module, the name of what is made, options, and options that ask for a change.
RESOURCES = [
    ("one_user", {"password": GOOD, "group": "hospital", "template": {"email": "a@b"}},
     {"password": "battery-staple", "template": {"PHONE": 12}, "enabled": False}),
    ("one_user", {"password": GOOD, "group": "hospital", "groups": ["users"]}, {"groups": [], "update": "replace"}),
    ("one_user", {"password": GOOD, "group": "hospital", "groups": ["users"]}, {"group": "clinic"}),
    ("one_group", {"template": {"DESCRIPTION": "x"}}, {"template": {"note": [1, 2]}, "update": "replace"}),
    ("one_vdc", {"groups": ["hospital"], "hosts": ["all"], "datastores": ["default"], "template": {"A": "1"}},
     {"groups": ["clinic"], "hosts": ["0"], "datastores": ["files", "1"], "update": "replace", "template": {"B": 2}}),
    ("one_vdc", {"groups": ["hospital"], "clusters": ["default"]}, {"groups": [], "clusters": ["all"], "absent_groups": ["hospital"]}),
]
ids = [f"{module}-{'-'.join(change)}" for module, _options, change in RESOURCES]


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        for group in ("hospital", "clinic"):
            zone.changed("one_group", name=group)
        yield zone


def user_of(zone: ModuleZone, name: str, **options: object) -> dict:
    """Options that make a module act as a user, who is made for it."""
    zone.changed("one_user", name=name, password=GOOD, **options)
    return {"api_username": name, "api_password": GOOD}


@pytest.mark.parametrize(("module", "options", "change"), RESOURCES, ids=ids)
def test_each_resource_is_made_changed_and_removed_exactly_once(zone, module, options, change):
    name = {"name": "thing"}
    zone.calls.clear()
    predicted = zone.changed(module, check=True, **name, **options)
    assert zone.writes == []
    made = zone.changed(module, **name, **options)
    assert predicted["diff"] == made["diff"]
    assert made["diff"]["before"] == {} and made["diff"]["after"]
    zone.unchanged(module, **name, **options)

    changed = {**options, **change}
    zone.calls.clear()
    predicted = zone.changed(module, check=True, **name, **changed)
    assert zone.writes == []
    done = zone.changed(module, **name, **changed)
    assert predicted["diff"] == done["diff"] != {"before": {}, "after": {}}
    zone.unchanged(module, **name, **changed)

    number = str(next(value["id"] for value in done.values() if isinstance(value, dict) and "id" in value))
    zone.unchanged(module, name=number, **changed)
    assert len([call for call in zone.calls if not call.endswith("pool.info")]) == 1, zone.calls
    assert len(set(zone.calls)) == len(zone.calls)

    zone.calls.clear()
    zone.changed(module, check=True, **name, state="absent")
    assert zone.writes == []
    zone.changed(module, name=number, state="absent")
    zone.unchanged(module, **name, state="absent")
    assert zone.fails(module, name=number, **options)["error"]["kind"] == "missing"


# ---- Users ------------------------------------------------------------------------------------------


def test_a_password_works_and_is_never_shown(zone):
    user = user_of(zone, "shown", template={"EMAIL": "x"})
    result = zone.run("one_user", **{**zone.options, **user}, name="shown")
    assert not result["changed"] and result["user"]["template"] == {"EMAIL": "x"}
    token = zone.call("one.user.info", result["user"]["id"]).partition("<TOKEN_PASSWORD>")[2][9:20]
    changed = zone.changed("one_user", name="shown", password="another-one", template={}, update="replace")
    assert "another-one" not in str(changed) and token not in str(changed)
    assert changed["diff"]["after"] == {"password": "a new one", "template": {}}
    assert token in zone.call("one.user.info", result["user"]["id"])
    assert zone.run("one_user", name="shown", **user)["error"]["kind"] == "authentication"


def test_a_password_for_new_users_only_leaves_the_one_there_is(zone):
    user = user_of(zone, "first-day")
    zone.unchanged("one_user", name="first-day", password="another-one", update_password="on_create")
    zone.unchanged("one_user", name="first-day", **user)


def test_a_disabled_user_cannot_log_in(zone):
    user = user_of(zone, "leaver")
    zone.changed("one_user", name="leaver", enabled=False)
    assert zone.run("one_user", name="leaver", **user)["error"]["kind"] == "authentication"
    zone.changed("one_user", name="leaver", enabled=True)
    zone.unchanged("one_user", name="leaver", **user)


def test_the_driver_of_a_user_changes_with_the_password_it_keeps(zone):
    zone.changed("one_user", name="keyholder", auth_driver="ssh", password="ssh-rsa-key")
    zone.unchanged("one_user", name="keyholder", auth_driver="ssh", password="ssh-rsa-key")
    changed = zone.changed("one_user", name="keyholder", auth_driver="core", password="ssh-rsa-key")
    assert changed["diff"]["before"]["auth_driver"] == "ssh"
    zone.unchanged("one_user", name="keyholder", auth_driver="core", password="ssh-rsa-key")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"name": "nobody"}, "invalid", "needs a password"),
        ({"name": "nobody", "password": "with space"}, "invalid", "white space"),
        ({"name": "nobody", "password": GOOD, "group": "ghosts"}, "missing", "'ghosts'"),
        ({"name": "no:body", "password": GOOD}, "invalid", "':' is not allowed"),
        ({"name": "oneadmin", "enabled": False}, "wrong_state", "oneadmin"),
        ({"name": "0", "state": "absent"}, "wrong_state", "oneadmin cannot be deleted"),
    ],
)
def test_what_cannot_be_said_of_a_user_is_one_sentence(zone, options, kind, words):
    failed = zone.fails("one_user", **options)
    assert failed["error"]["kind"] == kind and words in failed["msg"]


def test_a_group_that_an_earlier_task_would_make_is_no_error_in_check_mode(zone):
    zone.calls.clear()
    result = zone.changed("one_user", check=True, name="early", password=GOOD, group="not-yet", groups=["later"])
    assert result["user"]["group"] == "not-yet" and result["user"]["groups"] == ["later"]
    assert zone.writes == []


# ---- Groups -----------------------------------------------------------------------------------------


def test_administrators_of_a_group_come_and_go(zone):
    for name in ("ada", "bob"):
        zone.changed("one_user", name=name, password=GOOD, group="clinic")
    zone.changed("one_group", name="clinic", admins=["ada"])
    zone.unchanged("one_group", name="clinic", admins=["ada"])
    both = zone.changed("one_group", name="clinic", admins=["bob"])
    assert both["group"]["admins"] == ["ada", "bob"]
    zone.unchanged("one_group", name="clinic", admins=["bob"])
    assert zone.changed("one_group", name="clinic", admins=["bob"], update="replace")["group"]["admins"] == ["bob"]
    as_bob = {"api_username": "bob", "api_password": GOOD}
    zone.changed("one_user", name="carol", password=GOOD, group="clinic", **as_bob)
    assert zone.fails("one_user", name="dave", password=GOOD, group="hospital", **as_bob)["error"]["kind"] == (
        "missing"
    )
    for name in ("ada", "bob", "carol"):
        zone.changed("one_user", name=name, state="absent")


def test_an_administrator_has_to_be_a_member(zone):
    zone.changed("one_user", name="stranger", password=GOOD)
    failed = zone.fails("one_group", name="hospital", admins=["stranger"])
    assert failed["error"]["kind"] == "invalid" and "does not belong to group 'hospital'" in failed["msg"]


def test_a_group_with_users_is_not_removed(zone):
    zone.changed("one_group", name="full")
    zone.changed("one_user", name="resident", password=GOOD, group="full")
    failed = zone.fails("one_group", name="full", state="absent")
    assert failed["error"]["kind"] == "wrong_state" and "is not empty" in failed["msg"]


# ---- Quotas -----------------------------------------------------------------------------------------


def rows(zone: ModuleZone, **options: object) -> dict:
    """The quotas of a user or group, asked for in a way that changes nothing."""
    return zone.unchanged("one_quota", **options)["quota"]


def test_quotas_are_set_changed_and_taken_back_exactly_once(zone):
    network = zone.changed("one_virtual_network", name="ward", template={"VN_MAD": "bridge"},
                           address_ranges=[{"IP": "10.0.0.1", "SIZE": 5}])["virtual_network"]["id"]
    owner = {"group": "hospital"}
    limits = {
        "vm": {"vms": "3", "CPU": 2.5, "MEMORY": 4096.0}, "datastores": {"default": {"SIZE": 1000}},
        "networks": {"ward": {"LEASES": 2}}, "images": {"7": {"RVMS": -2}},
    }
    zone.calls.clear()
    predicted = zone.changed("one_quota", check=True, **owner, **limits)
    assert zone.writes == []
    done = zone.changed("one_quota", **owner, **limits)
    assert predicted["diff"] == done["diff"] == {"before": {}, "after": {
        "vm": {"VMS": 3, "CPU": 2.5, "MEMORY": 4096}, "datastores": {"1": {"SIZE": 1000}},
        "networks": {str(network): {"LEASES": 2}}, "images": {"7": {"RVMS": -2}},
    }}
    zone.unchanged("one_quota", **owner, **limits)
    assert zone.calls.count("one.group.info") == 1 and len(zone.calls) <= 4

    more = {"vm": {"VMS": 4}}
    assert zone.changed("one_quota", **owner, **more)["diff"] == {
        "before": {"vm": {"VMS": 3}}, "after": {"vm": {"VMS": 4}},
    }
    assert rows(zone, **owner, **limits | more)["vm"]["CPU"]["limit"] == 2.5
    only = zone.changed("one_quota", **owner, **more, update="replace")
    assert only["diff"]["after"] == {"vm": {}} and only["quota"]["vm"]["CPU"] == {"limit": -1, "used": 0}
    zone.unchanged("one_quota", **owner, **more, update="replace")
    zone.changed("one_quota", **owner, state="absent")
    zone.unchanged("one_quota", **owner, state="absent")
    zone.unchanged("one_quota", group="ghosts", state="absent")


def test_numbers_are_compared_as_the_server_keeps_them(zone):
    owner = {"group": "clinic"}
    limits = {"vm": {"CPU": "1.239", "SYSTEM_DISK_SIZE": 16777217, "VMS": -1}}
    assert zone.changed("one_quota", **owner, **limits)["quota"]["vm"]["CPU"]["limit"] == 1.24
    zone.unchanged("one_quota", **owner, **limits)
    zone.changed("one_quota", **owner, state="absent")


def test_use_is_told_and_more_is_refused(zone):
    user = user_of(zone, "eater", group="users")
    zone.changed("one_template", name="meal", template={"CPU": 0.5, "MEMORY": 64}, **user)
    zone.changed("one_quota", user="eater", vm={"VMS": 1})
    machine = {"name": "first", "vm_template": "meal", "state": "hold", "wait": False, **user}
    zone.changed("one_vm", **machine)
    used = rows(zone, user="eater")["vm"]
    assert (used["VMS"], used["CPU"]) == ({"limit": 1, "used": 1}, {"limit": -1, "used": 0.5})
    failed = zone.fails("one_vm", **{**machine, "name": "second"})
    assert failed["error"]["kind"] == "quota" and "limit of 1 reached for VMS quota in VM" in failed["msg"]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"vm": {"VMS": "many"}}, "invalid", "VMS is many"),
        ({"vm": {"VMS": -3}}, "invalid", "VMS is -3"),
        ({"datastores": {"default": 5}}, "invalid", "'default' are not a dictionary"),
        ({"datastores": {"attic": {"SIZE": 5}}}, "missing", "'attic'"),
        ({"vm": {"TEETH": 3}}, "invalid", "TEETH"),
        ({"group": "oneadmin", "vm": {"VMS": 3}}, "invalid", "no quotas for the group 'oneadmin'"),
        ({"group": "ghosts", "vm": {"VMS": 3}}, "missing", "'ghosts'"),
    ],
)
def test_what_cannot_be_limited_is_one_sentence(zone, options, kind, words):
    failed = zone.fails("one_quota", **{"group": "clinic", **options})
    assert failed["error"]["kind"] == kind and words in failed["msg"]


# ---- The access control list ------------------------------------------------------------------------


def test_rules_are_compared_by_what_they_mean(zone):
    group = zone.run("one_group", name="hospital")["group"]["id"]
    rules = [
        {"group": "hospital", "resources": ["vm", "DOCUMENT"], "rights": ["create"]},
        {"group": "hospital", "resources": ["DATASTORE"], "objects": ["default"], "rights": ["USE", "ADMIN"]},
        {"user": "oneadmin", "resources": ["HOST"], "cluster": "default", "rights": ["MANAGE"], "zone": "all"},
        {"everyone": True, "resources": ["IMAGE"], "owner_group": "hospital", "rights": ["USE"]},
    ]
    zone.calls.clear()
    predicted = zone.changed("one_acl", check=True, rules=rules)
    assert zone.writes == []
    done = zone.changed("one_acl", rules=rules)
    written = [
        f"@{group} VM+DOCUMENT/* CREATE *", f"@{group} DATASTORE/#1 USE+ADMIN #0", "#0 HOST/%0 MANAGE *",
        f"* IMAGE/@{group} USE *",
    ]
    assert predicted["diff"] == done["diff"] == {"before": {}, "after": {"rules": written}}
    assert [rule["rule"] for rule in done["rules"]] == written
    shown = zone.call("one.acl.info")
    assert all(f"<STRING>{rule}</STRING>" in shown for rule in written)

    same = [
        {"group": str(group), "resources": ["Document", "VM", "VM"], "rights": ["CREATE"], "zone": "all"},
        {"group": "hospital", "resources": ["DATASTORE"], "objects": ["1"], "rights": ["ADMIN", "USE"], "zone": "OpenNebula"},
        {"user": "0", "resources": ["HOST"], "cluster": "0", "rights": ["MANAGE"], "zone": "all"},
        {"everyone": True, "resources": ["IMAGE"], "owner_group": str(group), "rights": ["USE"]},
    ]
    zone.unchanged("one_acl", rules=same)
    assert len(zone.calls) <= 3
    zone.calls.clear()
    zone.changed("one_acl", check=True, rules=same[:1], state="absent")
    assert zone.writes == []
    assert zone.changed("one_acl", rules=same, state="absent")["diff"]["before"] == {"rules": written}
    zone.unchanged("one_acl", rules=rules, state="absent")
    zone.unchanged("one_acl", rules=[{"group": "ghosts", "resources": ["VM"], "rights": ["USE"]}], state="absent")


def test_a_rule_gives_a_right_and_its_removal_takes_it(zone):
    user = user_of(zone, "nurse")
    image = zone.changed("one_image", name="xray", path="/x", size=1)["image"]["id"]
    rule = {"user": "nurse", "resources": ["IMAGE"], "objects": ["xray"], "rights": ["USE"]}
    assert zone.fails("one_image", name=str(image), **user)["error"]["kind"] == "authorization"
    zone.changed("one_acl", rules=[rule])
    zone.unchanged("one_image", name=str(image), **user)
    assert zone.fails("one_acl", rules=[rule], **user)["error"]["kind"] == "authorization"
    zone.changed("one_acl", rules=[rule], state="absent")
    assert zone.fails("one_image", name=str(image), **user)["error"]["kind"] == "authorization"


@pytest.mark.parametrize(
    ("rule", "kind", "words"),
    [
        ({"user": "0", "everyone": True}, "invalid", "exactly one of user, group and everyone"),
        ({}, "invalid", "exactly one of user, group and everyone"),
        ({"everyone": True, "resources": ["PONY"]}, "invalid", "'PONY'"),
        ({"everyone": True, "rights": ["RIDE"]}, "invalid", "'RIDE'"),
        ({"everyone": True, "cluster": "0"}, "invalid", "VM, which is in no cluster"),
        ({"everyone": True, "objects": ["3"], "zone": "all"}, "invalid", "in one zone only"),
        ({"everyone": True, "objects": ["web"]}, "invalid", "has to be given by its id"),
        ({"everyone": True, "resources": ["HOST"], "owner_group": "1"}, "invalid", "HOST, which belongs to no group"),
        ({"everyone": True, "objects": ["3"], "owner_group": "1"}, "invalid", "not objects and owner_group"),
        ({"group": "ghosts"}, "missing", "'ghosts'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_one_sentence_and_nothing_is_written(zone, rule, kind, words):
    good = {"everyone": True, "resources": ["VM"], "rights": ["USE"]}
    zone.calls.clear()
    failed = zone.fails("one_acl", rules=[good, {"resources": ["VM"], "rights": ["USE"], **rule}])
    assert failed["error"]["kind"] == kind and words in failed["msg"]
    assert zone.writes == []


def test_rules_about_what_an_earlier_task_would_make_are_a_change_in_check_mode(zone):
    rule = {"group": "not-yet", "resources": ["VM"], "rights": ["CREATE"]}
    predicted = zone.changed("one_acl", check=True, rules=[rule])
    assert predicted["diff"]["after"] == {"rules": ["not-yet VM/* CREATE"]}


# ---- Virtual data centers ---------------------------------------------------------------------------


def test_a_group_outside_of_the_default_data_center_has_no_networks_and_a_group_of_its_own_some(zone):
    zone.changed("one_group", name="lab")
    user = user_of(zone, "tech", group="lab")
    mine, other = [
        str(zone.changed("one_virtual_network", name=name, template={"VN_MAD": "bridge"})["virtual_network"]["id"])
        for name in ("mine", "other")
    ]
    zone.unchanged("one_virtual_network", name=other, **user)
    zone.changed("one_vdc", name="default", absent_groups=["lab"])
    zone.unchanged("one_vdc", name="0", absent_groups=["lab", "ghosts"])
    assert zone.fails("one_virtual_network", name=other, **user)["error"]["kind"] == "authorization"
    made = zone.changed("one_vdc", name="lab", groups=["lab"], networks=["mine"])
    assert made["vdc"]["networks"] == [mine] and made["vdc"]["groups"] == ["lab"]
    zone.unchanged("one_virtual_network", name=mine, **user)
    assert zone.fails("one_virtual_network", name=other, **user)["error"]["kind"] == "authorization"
    zone.changed("one_vdc", name="lab", state="absent")
    assert zone.fails("one_virtual_network", name=mine, **user)["error"]["kind"] == "authorization"


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"groups": ["ghosts"]}, "missing", "'ghosts'"),
        ({"hosts": ["attic"]}, "missing", "'attic'"),
        ({"zone": "moon", "hosts": ["0"]}, "missing", "'moon'"),
        ({"groups": ["lab"], "absent_groups": ["lab"]}, "invalid", "at once"),
        ({"name": "0", "state": "absent"}, "wrong_state", "System VDCs"),
    ],
)
def test_what_cannot_be_said_of_a_data_center_is_one_sentence(zone, options, kind, words):
    zone.run("one_group", name="lab")
    failed = zone.fails("one_vdc", **{"name": "new", **options})
    assert failed["error"]["kind"] == kind and words in failed["msg"]
