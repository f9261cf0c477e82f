# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The XML-RPC API answers as a real OpenNebula 7.4 did.

The situations in which the answers were recorded are brought about one after the other in a zone without real machines;
the recorded requests are sent again, byte for byte, and the answers compared.
"""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Callable, Iterator

import pytest
from compare import documents, texts
from zone_world import ALICE, RECORDINGS, RUNNING, World

#: whether a machine was measured yet is a matter of time, and the recorded dummy host measured some that did not run
WITHOUT = dict.fromkeys(
    ("one.vm.info.unschedulable", "one.vm.info.service_master_running", "one.vm.info.service_worker_running"),
    frozenset(("MONITORING",)),
)
#: how many samples there are is a matter of time, and what they say one of the machine
MEASURED = frozenset(("ID", "MEMORY"))
ONE_SAMPLE = ("one.vmpool.monitoring", "one.host.monitoring", "one.hostpool.monitoring")


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
    world.wait("one.vm.info", 1, "<LCM_STATE>2<")


def booted(world: World) -> None:
    world.driver.free.set()
    world.wait("one.vm.info", 1, *RUNNING)


def alice(world: World) -> None:
    world.call("one.user.allocate", "alice", "alicepw", "", [])


def renamed(world: World) -> None:
    world.call("one.vm.rename", 1, "vm-a2")
    world.driver.free.clear()


def ended(world: World) -> None:
    world.driver.free.set()
    world.wait("one.vm.info", 1, "<STATE>6<")


def service_machines(world: World) -> None:
    """What OneFlow asks for: a super link, and a super node that knows its address."""
    context = 'CONTEXT=[NETWORK="YES",TOKEN="YES",REPORT_READY="YES",START_SCRIPT_BASE64="ZWNobyBoaQ=="'
    of_service = 'SERVICE_ID="6"\nROLE_NAME='
    nic = 'NIC=[NAME="NIC_0",NETWORK_ID="0"]\n'
    world.instantiate("superlink_0_(service_6)", f'{of_service}"superlink"\n{nic}{context}]')
    world.tick()
    world.wait("one.vm.info", 2, *RUNNING)
    extra = f'{of_service}"supernode"\n{nic}{context},SUPERLINK="192.168.150.13"]'
    world.instantiate("supernode_0_(service_6)", extra)
    world.tick()
    world.wait("one.vm.info", 3, *RUNNING)


def machine_with_user_inputs(world: World) -> None:
    for number in range(4, 12):
        world.call("one.vm.action", "terminate", world.instantiate(f"passing-{number}", hold=True))
    context = 'CONTEXT=[NETWORK="YES",TOKEN="YES",REPORT_READY="YES",START_SCRIPT_BASE64="ZWNobyBoaQ==",ATT="$ATT"]'
    world.instantiate("a_0_(service_17)", f'SERVICE_ID="17"\nROLE_NAME="a"\nATT="hello"\n{context}')
    world.tick()
    world.wait("one.vm.info", 12, *RUNNING)


def five_held(world: World) -> None:
    for number in (13, 14):
        world.call("one.vm.action", "terminate", world.instantiate(f"passing-{number}", hold=True))
    for number in (2, 3, 12):
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
    world.wait("one.vm.info", 15, *RUNNING)
    world.tick()


def quota_of_one(world: World) -> None:
    world.call("one.image.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    world.call("one.user.quota", 2, 'VM=[VMS="1"]')
    world.instantiate("al1", hold=True, session=ALICE)


def never_placed(world: World) -> None:
    world.call("one.vm.action", "release", 21)
    world.tick()


#: names of recordings, and what has to happen between them
COURSE: tuple[str | Callable[[World], None], ...] = (
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
    without_onegate, "err.template.instantiate.token_no_onegate", with_onegate,
    "one.template.instantiate", "one.vm.info.pending", placed, "one.vm.info.prolog", "one.vm.info.boot", booted,
    "one.vm.info.running", "one.vmpool.info.one_running", "one.vmpool.infoextended.one_running",
    "one.host.info.monitored.1", "one.hostpool.info.two", "one.vn.info.leased",
    "one.vm.update.append", "err.vm.action.unknown", "err.vm.action.wrong_state",
    "err.template.instantiate.missing", "err.template.instantiate.bad_network", "err.template.instantiate.bad_image",
    "err.template.instantiate.syntax", "err.template.instantiate.bad_memory",
    alice, "err.user.allocate.duplicate", "err.vm.action.denied", "err.template.instantiate.denied",
    "err.host.allocate.denied", "one.vmpool.info.as_alice", "one.userpool.info.as_alice",
    "one.template.allocate.restricted", "one.user.login",
    renamed, "one.vm.action.terminate-hard", "one.vm.info.epilog", ended, "one.vm.info.done",
    "one.vmpool.info.all_states", "one.vmpool.info.state6", "one.vm.action.on_done", "one.vm.update.on_done",
    service_machines, "one.vm.info.service_master_running", "one.vm.info.service_worker_running",
    machine_with_user_inputs, "one.vm.info.service_user_inputs",
    five_held, "one.vmpool.info.five", "one.vmpool.info.page0", "one.vmpool.info.page1",
    "one.vmpool.infoextended.page", "one.vmpool.info.no_state_arg", "one.vmpool.info.kvfilter",
    "err.vm.rename.too_long", "one.vm.action.release", "err.vm.action.poweroff_on_hold",
    "one.template.clone", clone_deleted, "err.template.delete.again", second_image, "one.image.info.ready",
    "one.host.status.disable", "one.host.info.disabled", "one.host.status.enable",
    watched_again, running_machine, "one.vm.monitoring", "one.vmpool.monitoring", "one.host.monitoring",
    "one.hostpool.monitoring",
    "one.template.chmod.other_use", quota_of_one, "err.template.instantiate.quota",
    "one.template.instantiate.too_big", never_placed, "one.vm.info.unschedulable",
)
NAMES = [step for step in COURSE if isinstance(step, str)]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """The answers of the lab to all recorded requests, by the name of the recording."""
    world = World(tmp_path_factory.mktemp("zone"), register_host=False)
    try:
        for step in COURSE:
            if isinstance(step, str):
                world.replay(step)
            else:
                step(world)
        yield world.answers
    finally:
        world.stop()


def unpack(body: bytes) -> list | xmlrpc.client.Fault:
    try:
        (answer,), _method = xmlrpc.client.loads(body)
    except xmlrpc.client.Fault as fault:
        return fault
    return answer


def test_every_recording_is_replayed() -> None:
    assert sorted(NAMES) == sorted(path.name.removesuffix(".req.xml") for path in RECORDINGS.glob("*.req.xml"))


@pytest.mark.parametrize("name", NAMES)
def test_answers_as_recorded(name: str, answers: dict[str, bytes], record_property: Callable) -> None:
    record_property("recording", f"xmlrpc/{name}")
    expected, actual = unpack((RECORDINGS / f"{name}.resp.xml").read_bytes()), unpack(answers[name])
    assert differences(name, expected, actual) == []


def differences(name: str, expected: list | xmlrpc.client.Fault, actual: list | xmlrpc.client.Fault) -> list[str]:
    """Return what differs between two answers, or between the documents in them."""
    if isinstance(expected, xmlrpc.client.Fault) or isinstance(actual, xmlrpc.client.Fault):
        return [] if repr(expected) == repr(actual) else [f"{expected!r} became {actual!r}"]
    head = [(type(value), value) for value in (expected[0], *expected[2:])]
    if head != [(type(value), value) for value in (actual[0], *actual[2:])]:
        return [f"{expected[:1] + expected[2:]} became {actual}"]
    payload, found = expected[1], actual[1]
    if isinstance(payload, str) and payload.startswith("<"):
        if name in ONE_SAMPLE:
            return documents(first_sample(payload), first_sample(found), varying=MEASURED)
        return documents(payload, found, WITHOUT.get(name, frozenset()))
    if name == "one.user.login":
        return [] if len(found) == len(payload) else [f"{payload} became {found}"]
    return texts(str(payload), str(found)) if type(payload) is type(found) else [f"{payload!r} became {found!r}"]


def first_sample(document: str) -> str:
    head, _end, _rest = document.partition("</MONITORING>")
    return f"{head}</MONITORING></MONITORING_DATA>"
