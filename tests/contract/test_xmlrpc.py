# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The XML-RPC API answers as a real OpenNebula 7.4 and 6.10 did.

The situations in which the answers were recorded are brought about one after the other in a zone without real machines;
the recorded requests are sent again, byte for byte, and the answers compared.
"""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from compare import documents, texts
from zone_world import ALICE, RECORDINGS, RUNNING, World

#: whether a machine was measured yet is a matter of time, and the recorded dummy host measured some that did not run
WITHOUT = dict.fromkeys(
    (
        "7.4/one.vm.info.unschedulable", "7.4/one.vm.info.service_master_running",
        "7.4/one.vm.info.service_worker_running", "6.10/one.vm.info.service_master_running", "6.10/one.vm.info.unschedulable", "6.10/one.vm.info.boot",
        "6.10/one.vm.info.running", "6.10/one.vm.info.epilog", "6.10/one.vm.info.done",
        "6.10/one.vm.info.service_worker_running", "6.10/one.vm.info.service_user_inputs",
    ),
    frozenset(("MONITORING",)),
)
#: how many samples there are is a matter of time, and what they say one of the machine
MEASURED = frozenset(("ID", "MEMORY"))
ONE_SAMPLE = ("one.vm.monitoring", "one.vmpool.monitoring", "one.host.monitoring", "one.hostpool.monitoring")


@dataclass(frozen=True)
class Machines:
    """The ids that the VMs of a recorded session had."""

    first: int
    superlink: int
    with_inputs: int
    first_of_five: int
    too_big: int
    in_prolog: int


RECORDED_RELEASES = ("7.4", "6.10")
MACHINES = {
    "7.4": Machines(first=1, superlink=2, with_inputs=12, first_of_five=15, too_big=21, in_prolog=1),
    "6.10": Machines(first=0, superlink=1, with_inputs=19, first_of_five=22, too_big=28, in_prolog=46),
}


def hold_driver(world: World) -> None:
    world.driver.free.clear()


def second_host(world: World) -> None:
    world.call("one.host.allocate", "dummy02", "dummy", "dummy", 0)


def monitored_hosts(world: World) -> None:
    world.tick()


def network_and_image_ready(world: World) -> None:
    world.driver.free.set()
    world.wait("one.vn.info", 0, "<STATE><![CDATA[1]]>")
    world.wait("one.image.info", 0, "<STATE>1<")


def without_onegate(world: World) -> None:
    world.zone.core.config.onegate_endpoint = ""


def with_onegate(world: World) -> None:
    world.zone.core.config.onegate_endpoint = "http://127.0.0.1:5030"


def placed(world: World) -> None:
    world.driver.free.clear()
    world.tick()
    world.wait("one.vm.info", machines(world).first, "<LCM_STATE>2<")


def placed_at_second_try(world: World) -> None:
    for status in (1, 0):
        for host in (0, 1):
            world.call("one.host.status", host, status)
        if status:
            world.tick()
    placed(world)


def booted(world: World) -> None:
    world.driver.free.set()
    world.wait("one.vm.info", machines(world).first, *RUNNING)


def alice(world: World) -> None:
    world.call("one.user.allocate", "alice", "alicepw", "", [])


def renamed(world: World) -> None:
    world.call("one.vm.rename", machines(world).first, "vm-a2")
    world.driver.free.clear()


def ended(world: World) -> None:
    world.driver.free.set()
    world.wait("one.vm.info", machines(world).first, "<STATE>6<")


def service_machines(world: World, service: int = 6, address: str = "192.168.150.13", start_script: bool = True) -> None:
    """What OneFlow asks for: a super link, and a super node that knows its address."""
    script = ',START_SCRIPT_BASE64="ZWNobyBoaQ=="' if start_script else ""
    context = f'CONTEXT=[NETWORK="YES",TOKEN="YES",REPORT_READY="YES"{script}'
    of_service = f'SERVICE_ID="{service}"\nROLE_NAME='
    nic = 'NIC=[NAME="NIC_0",NETWORK_ID="0"]\n'
    superlink = world.instantiate(f"superlink_0_(service_{service})", f'{of_service}"superlink"\n{nic}{context}]')
    assert superlink == machines(world).superlink
    world.tick()
    world.wait("one.vm.info", superlink, *RUNNING)
    world.tick()
    extra = f'{of_service}"supernode"\n{nic}{context},SUPERLINK="{address}"]'
    supernode = world.instantiate(f"supernode_0_(service_{service})", extra)
    world.tick()
    world.wait("one.vm.info", supernode, *RUNNING)


def passing(world: World, until: int) -> None:
    """Let VMs come and go until the next one has that id."""
    while (vm_id := world.instantiate("passing", hold=True)) < until:
        world.call("one.vm.action", "terminate", vm_id)
        if vm_id == until - 1:
            return


def machine_with_user_inputs(world: World) -> None:
    passing(world, machines(world).with_inputs)
    context = 'CONTEXT=[NETWORK="YES",TOKEN="YES",REPORT_READY="YES",START_SCRIPT_BASE64="ZWNobyBoaQ==",ATT="$ATT"]'
    world.instantiate("a_0_(service_17)", f'SERVICE_ID="17"\nROLE_NAME="a"\nATT="hello"\n{context}')
    world.tick()
    world.wait("one.vm.info", machines(world).with_inputs, *RUNNING)


def machine_of_service(world: World) -> None:
    """6.10 does not pass user inputs on."""
    passing(world, machines(world).with_inputs)
    vm_id = world.instantiate("a_0_(service_24)", 'SERVICE_ID="24"\nROLE_NAME="a"')
    world.tick()
    world.wait("one.vm.info", vm_id, *RUNNING)


def five_held(world: World) -> None:
    ids = machines(world)
    passing(world, ids.first_of_five)
    for number in (ids.superlink, ids.superlink + 1, ids.with_inputs):
        world.call("one.vm.action", "terminate-hard", number)
        world.wait("one.vm.info", number, "<STATE>6<")
    for number in range(5):
        world.instantiate(f"p{number}", hold=True)


def second_image(world: World) -> None:
    world.call("one.image.allocate", 'NAME="disk1"\nPATH="/x"\nTYPE="OS"\nSIZE="1024"', 100, False)
    world.wait("one.image.info", 1, "<STATE>1<")


def clone_deleted(world: World) -> None:
    world.call("one.template.delete", 1, False)


def watched_again(world: World) -> None:
    world.tick()


def running_machine(world: World) -> None:
    world.wait("one.vm.info", machines(world).first_of_five, *RUNNING)
    world.tick()


def quota_of_one(world: World) -> None:
    world.call("one.image.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    world.call("one.user.quota", 2, 'VM=[VMS="1"]')
    world.instantiate("al1", hold=True, session=ALICE)


def never_placed(world: World) -> None:
    world.call("one.vm.action", "release", machines(world).too_big)
    world.tick()


def late_in_prolog(world: World) -> None:
    """A VM that waits for the driver, which is busy with as many images as it handles at once."""
    passing(world, machines(world).in_prolog)
    world.call("one.user.quota", 2, 'VM=[VMS="-1"]')
    world.driver.free.clear()
    for number in range(4):
        world.call("one.image.allocate", f'NAME="busy{number}"\nPATH="/x"\nTYPE="OS"\nSIZE="1"', 100, False)
    world.instantiate("pl0")
    world.tick()


def machines(world: World) -> Machines:
    return MACHINES[world.zone.config.version]


Step = str | Callable[[World], None]

#: names of recordings, and what has to happen between them; what differs between the releases is filled in below
COURSE: tuple[Step, ...] = (
    "one.system.version", "one.vmpool.info.empty", "one.templatepool.info.empty", "one.hostpool.info.empty",
    "one.userpool.info", "one.user.info.0", "one.user.info.self", "one.clusterpool.info", "one.zonepool.info",
    "one.datastorepool.info.bootstrap", "one.marketpool.info", "one.marketapppool.info", "one.secgrouppool.info",
    "one.vmgrouppool.info", "one.aclpool.info", "one.hookpool.info",
    "err.auth.unknown_user", "err.auth.no_colon", "err.template.info.missing", "err.host.info.missing",
    "err.image.info.missing", "err.user.info.missing", "err.document.info.missing", "err.vm.action.missing",
    "one.host.allocate.1", "one.host.info.init", second_host,
    "one.datastore.update.0", "one.datastore.allocate.image", "one.datastore.allocate.system",
    hold_driver, "one.vn.allocate", "one.vn.info.new", "one.vn.allocate.samename",
    "one.image.allocate", "one.image.info.new", "err.image.allocate.duplicate", network_and_image_ready,
    "one.template.allocate", "err.template.allocate.duplicate", "err.template.allocate.syntax",
    "err.template.allocate.noname", "one.template.info", "one.templatepool.info", "one.template.update.append",
    "one.template.info.after_append", "err.template.update.missing", "err.template.update.syntax",
    monitored_hosts, "one.host.info.monitored",
    "without a OneGate",
    "one.template.instantiate", "one.vm.info.pending", "placed", "one.vm.info.boot", booted,
    "one.vm.info.running", "one.vmpool.info.one_running", "one.vmpool.infoextended.one_running",
    "one.host.info.monitored.1", "one.hostpool.info.two", "one.vn.info.leased",
    "one.vm.update.append", "err.vm.action.unknown", "err.vm.action.wrong_state",
    "err.template.instantiate.missing", "err.template.instantiate.bad_network", "err.template.instantiate.bad_image",
    "err.template.instantiate.syntax", "err.template.instantiate.bad_memory",
    alice, "err.user.allocate.duplicate", "err.vm.action.denied", "err.template.instantiate.denied",
    "err.host.allocate.denied", "one.vmpool.info.as_alice", "one.userpool.info.as_alice",
    "one.template.allocate.restricted", "one.user.login",
    renamed, "one.vm.action.terminate-hard", "ending", "one.vm.info.done",
    "one.vmpool.info.all_states", "one.vmpool.info.state6", "one.vm.action.on_done", "one.vm.update.on_done",
    "service machines", "one.vm.info.service_master_running", "one.vm.info.service_worker_running",
    "a machine of another service", "one.vm.info.service_user_inputs",
    five_held, "one.vmpool.info.five", "one.vmpool.info.page0", "one.vmpool.info.page1",
    "one.vmpool.infoextended.page", "one.vmpool.info.no_state_arg", "one.vmpool.info.kvfilter",
    "err.vm.rename.too_long", "one.vm.action.release", "err.vm.action.poweroff_on_hold",
    "one.template.clone", clone_deleted, "err.template.delete.again", second_image, "one.image.info.ready",
    "one.host.status.disable", "one.host.info.disabled", "one.host.status.enable",
    watched_again, running_machine, "measured", "one.vmpool.monitoring", "one.host.monitoring",
    "one.hostpool.monitoring",
    "one.template.chmod.other_use", quota_of_one, "err.template.instantiate.quota",
    "one.template.instantiate.too_big", never_placed, "one.vm.info.unschedulable",
)
TOKEN_WITHOUT_ONEGATE: tuple[Step, ...] = (without_onegate, "err.template.instantiate.token_no_onegate", with_onegate)
DIFFERENT: dict[str, dict[str, tuple[Step, ...]]] = {
    "7.4": {
        "without a OneGate": TOKEN_WITHOUT_ONEGATE,
        "placed": (placed, "one.vm.info.prolog"),
        "ending": ("one.vm.info.epilog", ended),
        "service machines": (service_machines,),
        "a machine of another service": (machine_with_user_inputs,),
        "measured": ("one.vm.monitoring",),
        "end": (),
    },
    "6.10": {
        "without a OneGate": (),
        "placed": (placed_at_second_try,),
        "ending": (ended, "one.vm.info.epilog"),
        "service machines": (partial(service_machines, service=7, address="192.168.150.10", start_script=False), watched_again, "one.vm.monitoring"),
        "a machine of another service": (machine_of_service,),
        "measured": (),
        "end": (late_in_prolog, "one.vm.info.prolog", *TOKEN_WITHOUT_ONEGATE),
    },
}
#: VMs that OneFlow made out of service templates of 6.10: made and compared with OneFlow's own recordings
MADE_BY_ONEFLOW = ("context_", "custom_attrs", "roles_")


def course(release: str) -> list[Step]:
    different = DIFFERENT[release]
    return [step for entry in (*COURSE, "end") for step in different.get(entry, (entry,))]


RECORDED = [(release, step) for release in RECORDED_RELEASES for step in course(release) if isinstance(step, str)]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The answers of the lab to all recorded requests, by release and name of the recording."""
    return {release: answers_as(release, tmp_path_factory.mktemp("zone")) for release in RECORDED_RELEASES}


def answers_as(release: str, directory: Path) -> dict[str, bytes]:
    world = World(directory, register_host=False, version=release)
    try:
        for step in course(release):
            if isinstance(step, str):
                world.replay(step)
            else:
                step(world)
        return world.answers
    finally:
        world.stop()


def unpack(body: bytes) -> list | xmlrpc.client.Fault:
    try:
        (answer,), _method = xmlrpc.client.loads(body)
    except xmlrpc.client.Fault as fault:
        return fault
    return answer


@pytest.mark.parametrize("release", RECORDED_RELEASES)
def test_every_recording_is_replayed(release: str) -> None:
    there = {path.name.removesuffix(".req.xml") for path in (RECORDINGS / release / "xmlrpc").glob("*.req.xml")}
    ours = {name for name in there if not name.removeprefix("one.vm.info.").startswith(MADE_BY_ONEFLOW)}
    assert {name for of_release, name in RECORDED if of_release == release} == ours


@pytest.mark.parametrize(("release", "name"), RECORDED)
def test_answers_as_recorded(release: str, name: str, answers: dict[str, dict[str, bytes]], record_property: Callable) -> None:
    record_property("recording", f"xmlrpc {release}/{name}")
    recorded = (RECORDINGS / release / "xmlrpc" / f"{name}.resp.xml").read_bytes()
    assert differences(release, name, unpack(recorded), unpack(answers[release][name])) == []


def differences(
    release: str, name: str, expected: list | xmlrpc.client.Fault, actual: list | xmlrpc.client.Fault
) -> list[str]:
    """Return what differs between two answers, or between the documents in them."""
    if isinstance(expected, xmlrpc.client.Fault) or isinstance(actual, xmlrpc.client.Fault):
        return [] if repr(expected) == repr(actual) else [f"{expected!r} became {actual!r}"]
    head = [(type(value), value) for value in (expected[0], *expected[2:])]
    if head != [(type(value), value) for value in (actual[0], *actual[2:])]:
        return [f"{expected[:1] + expected[2:]} became {actual}"]
    payload, found = expected[1], actual[1]
    if isinstance(payload, str) and payload.startswith("<"):
        if name in ONE_SAMPLE and "<MONITORING>" in payload:
            return documents(first_sample(payload), first_sample(found), varying=MEASURED)
        return documents(payload, found, WITHOUT.get(f"{release}/{name}", frozenset()))
    if name == "one.user.login":
        return [] if len(found) == len(payload) else [f"{payload} became {found}"]
    return texts(str(payload), str(found)) if type(payload) is type(found) else [f"{payload!r} became {found!r}"]


def first_sample(document: str) -> str:
    head, _end, _rest = document.partition("</MONITORING>")
    return f"{head}</MONITORING></MONITORING_DATA>"
