# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What somebody else does to an object between the module's look at it and what it asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

WAIT = {"wait_timeout": 60}
NEW = {"vm_template": "small", **WAIT}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.changed("one_template", name="small", template={"CPU": 0.1, "MEMORY": 64})
        yield zone


@pytest.fixture
def zone(prepared: ModuleZone) -> Iterator[ModuleZone]:
    yield prepared
    prepared.run("one_vm", name="web", state="absent", hard=True, **WAIT)


@pytest.fixture
def before(zone: ModuleZone, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], None]:
    """Do something once, just before a method of the zone is asked for."""

    def do_before(name: str, thing: Callable[[], object]) -> None:
        methods, things = zone.zone.core.methods, [thing]
        method = methods[name]

        def first(call, *arguments):
            if things:
                things.pop()()
            return method.handler(call, *arguments)

        monkeypatch.setitem(methods, name, replace(method, handler=first))

    return do_before


def only(result: dict) -> dict:
    (vm,) = result["vms"]
    return vm


def test_a_vm_that_somebody_just_deletes_is_on_its_way_to_absent(zone, before, monkeypatch):
    number = only(zone.changed("one_vm", name="web", **NEW))["id"]
    ended, shutdown = threading.Event(), zone.driver.shutdown

    def slowly(vm, hard) -> None:
        ended.wait(60)
        shutdown(vm, hard)

    def delete() -> None:
        zone.call("one.vm.recover", number, 3)
        threading.Timer(0.5, ended.set).start()

    monkeypatch.setattr(zone.driver, "shutdown", slowly)
    before("one.vm.action", delete)
    zone.changed("one_vm", name="web", state="absent", **WAIT)
    zone.unchanged("one_vm", name="web", state="absent", **WAIT)


@pytest.mark.parametrize(("first", "wanted", "action"), [
    ("running", "poweroff", "poweroff"), ("running", "suspended", "suspend"), ("poweroff", "running", "resume"),
    ("hold", "running", "release"),
])
def test_a_vm_that_somebody_just_brings_there_is_waited_for(zone, before, first, wanted, action):
    number = only(zone.changed("one_vm", name="web", state=first, **NEW))["id"]
    before("one.vm.action", lambda: act(zone, action, number))
    assert only(zone.changed("one_vm", name="web", state=wanted, **WAIT))["state"] == wanted.upper()


def act(zone: ModuleZone, action: str, number: int) -> None:
    vm = zone.zone.core.store.get("vm", number)
    lifecycle = zone.zone.core.lifecycle
    if action == "poweroff":
        lifecycle.poweroff(vm, True)
    elif action == "release":
        lifecycle.set_state(vm, 1)
    else:
        getattr(lifecycle, action)(vm)


def test_a_vm_that_is_busy_for_a_moment_is_asked_again(zone, before):
    number = only(zone.changed("one_vm", name="web", **NEW))["id"]
    vm = zone.zone.core.store.get("vm", number)
    before("one.vm.action", lambda: zone.zone.core.lifecycle.change(vm, 17, lambda: None, lambda: None))
    assert only(zone.changed("one_vm", name="web", state="poweroff", **WAIT))["state"] == "POWEROFF"


def test_an_action_that_the_state_never_allows_is_still_an_error(zone, before):
    number = only(zone.changed("one_vm", name="web", **NEW))["id"]
    vm = zone.zone.core.store.get("vm", number)
    before("one.vm.action", lambda: zone.zone.core.lifecycle.set_state(vm, 5))
    failed = zone.fails("one_vm", name="web", state="poweroff", **WAIT)
    assert failed["error"]["kind"] == "wrong_state" and "SUSPENDED" in failed["msg"]


OBJECTS = [
    ("one_template", "one.template.delete", {"template": {"CPU": 1, "MEMORY": 64}}),
    ("one_image", "one.image.delete", {"path": "/images/disk", "size": 10}),
    ("one_virtual_network", "one.vn.delete", {"template": {"VN_MAD": "bridge", "BRIDGE": "br0"}}),
    ("one_security_group", "one.secgroup.delete", {"rules": []}),
    ("one_group", "one.group.delete", {}),
]


@pytest.mark.parametrize(("module", "method", "options"), OBJECTS)
def test_what_somebody_just_removes_is_absent(zone, monkeypatch, module, method, options):
    zone.changed(module, name="thing", **options)
    methods = zone.zone.core.methods
    known = methods[method]

    def twice(call, number):
        known.handler(call, number)
        return known.handler(call, number)

    monkeypatch.setitem(methods, method, replace(known, handler=twice))
    zone.changed(module, name="thing", state="absent")
    zone.unchanged(module, name="thing", state="absent")


@pytest.mark.parametrize(("module", "driver_method", "options"), [
    ("one_image", "delete_image", {"path": "/images/disk", "size": 10}),
    ("one_virtual_network", "delete_network", {"template": {"VN_MAD": "bridge", "BRIDGE": "br0"}}),
])
def test_what_is_just_being_removed_is_waited_for_and_made_again(zone, monkeypatch, module, driver_method, options):
    zone.changed(module, name="thing", **options)
    gone = threading.Event()
    monkeypatch.setattr(zone.driver, driver_method, lambda _thing: gone.wait(60))
    zone.changed(module, name="thing", state="absent", wait=False)
    threading.Timer(0.5, gone.set).start()
    (made,) = (value for value in zone.changed(module, name="thing", **options, **WAIT).values() if isinstance(value, dict) and "id" in value)
    assert made["state"] == "READY"
    zone.changed(module, name="thing", state="absent")
