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
    lookup = 2
    assert len(zone.calls) <= lookup + 2, zone.calls

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
