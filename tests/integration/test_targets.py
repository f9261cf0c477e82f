# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is to scrape, found in zones that boot nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.targets import Zone, discover, machine
from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, module_zone
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from bench.inventory import PAGE_SIZE, Replay, page, recorded_vm

MODULE = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor.targets"
ON = 'ONEAPP_FL_METRICS_ENABLED="YES"'


class Scene:
    """A zone and the directory of the targets."""

    def __init__(self, zone: ModuleZone, directory: Path) -> None:
        self.zone = zone
        self.directory = directory
        self.settings = {"name": "north", "api_url": zone.options["api_url"], "username": "oneadmin", "password": PASSWORD}

    def vm(self, name: str, context: str, attributes: str = "") -> int:
        template = f'NAME="{name}"\nCPU="0.1"\nMEMORY="64"\nNIC=[NETWORK="scraped"]\nCONTEXT=[{context}]\n{attributes}'
        return int(self.zone.call("one.vm.allocate", template, False))

    def discover(self, *others: Zone, **changes: Any) -> list[str]:
        return discover(self.directory, [Zone(**{**self.settings, **changes}), *others])

    def targets(self, zone: str = "north") -> list[dict[str, Any]]:
        return json.loads((self.directory / f"{zone}.json").read_text())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "zone").mkdir()
    (tmp_path / "targets").mkdir()
    with module_zone(tmp_path / "zone") as zone:
        zone.call("one.vn.allocate", 'NAME="scraped"\nVN_MAD="bridge"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="50"]', -1)
        zone.wait(lambda: "<STATE><![CDATA[1]]></STATE>" in str(zone.call("one.vn.info", 0)), "the network")
        yield Scene(zone, tmp_path / "targets")


def test_vms_that_offer_metrics_are_targets_with_their_roles(scene: Scene) -> None:
    link = scene.vm("link", f'{ON},ONEAPP_FL_FLEET_API_ADDRESS="0.0.0.0:9092"')
    node = scene.vm("node", f'{ON},ONEAPP_FL_METRICS_PORT="9200",ONEAPP_FL_METRICS_CERTFILE="abc"', 'ROLE_NAME="supernode"\nSERVICE_ID="7"')
    scene.vm("without", 'ONEAPP_FL_METRICS_ENABLED="NO"')
    scene.vm("other", 'X="1"')
    scene.zone.running()
    assert scene.discover() == []
    assert scene.targets() == [
        {"targets": ["10.1.0.10:9101"], "labels": {"zone": "north", "vm": str(link), "name": "link", "role": "superlink"}},
        {
            "targets": ["10.1.0.11:9200"],
            "labels": {"zone": "north", "vm": str(node), "name": "node", "role": "supernode", "service": "7", "__scheme__": "https"},
        },
    ]


def test_it_takes_one_call_whatever_there_is(scene: Scene) -> None:
    for number in range(5):
        scene.vm(f"vm{number}", ON)
    scene.zone.running()
    scene.zone.calls.clear()
    scene.discover()
    assert scene.zone.calls == ["one.vmpool.infoextended"]
    assert len(scene.targets()) == 5


def test_a_vm_that_is_gone_is_no_target_any_more_and_one_that_broke_down_is(scene: Scene) -> None:
    gone, off = scene.vm("gone", ON), scene.vm("off", ON)
    scene.zone.running()
    scene.zone.call("one.vm.action", "terminate-hard", gone)
    scene.zone.call("one.vm.action", "poweroff-hard", off)
    scene.zone.wait(lambda: "<STATE>8</STATE>" in str(scene.zone.call("one.vm.info", off)), "the VM to be off")
    scene.zone.wait(lambda: "<STATE>6</STATE>" in str(scene.zone.call("one.vm.info", gone)), "the VM to be gone")
    scene.discover()
    assert [target["labels"]["name"] for target in scene.targets()] == ["off"]


def test_a_zone_that_does_not_answer_keeps_its_targets_and_does_not_stop_the_others(scene: Scene) -> None:
    scene.vm("node", ON)
    scene.zone.running()
    scene.discover()
    before, time = scene.targets(), (scene.directory / "north.json").stat().st_mtime_ns
    south = Zone("south", scene.zone.options["api_url"], "oneadmin", PASSWORD)
    (problem,) = scene.discover(south, api_url=f"http://127.0.0.1:{free_port()}/RPC2")
    assert problem.startswith("Zone north keeps its last targets: ")
    assert scene.targets() == before
    assert (scene.directory / "north.json").stat().st_mtime_ns == time
    assert len(scene.targets("south")) == 1


def test_the_time_of_a_file_says_when_its_zone_answered(scene: Scene) -> None:
    scene.discover()
    path = scene.directory / "north.json"
    os.utime(path, (1, 1))
    scene.discover()
    assert path.stat().st_mtime > 1


def test_a_zone_that_is_not_wanted_any_more_leaves(scene: Scene) -> None:
    scene.discover()
    scene.discover(name="other")
    assert [path.name for path in scene.directory.glob("*.json")] == ["other.json"]


def test_files_that_somebody_else_put_there_stay(scene: Scene) -> None:
    for name in ("machines.json", "north.yml", ".hidden.json"):
        (scene.directory / name).write_text("[]")
    scene.discover()
    scene.discover(name="other")
    assert {path.name for path in scene.directory.iterdir()} >= {"machines.json", "north.yml", ".hidden.json", "other.json"}
    assert not (scene.directory / "north.json").exists()


@pytest.mark.parametrize("record", [b"../evil\n/etc/passwd\n", b"\xff\xfe", b"\0"])
def test_a_damaged_record_of_what_was_written_removes_nothing(scene: Scene, record: bytes) -> None:
    evil = scene.directory.parent / "evil.json"
    evil.write_text("[]")
    (scene.directory / ".written").write_bytes(record)
    assert scene.discover() == []
    assert evil.exists()


def test_a_look_that_was_interrupted_leaves_nothing_behind_for_ever(scene: Scene) -> None:
    scene.directory.joinpath("north.json").mkdir()
    with pytest.raises(OSError):
        scene.discover()
    scene.directory.joinpath("north.json").rmdir()
    scene.directory.joinpath("north.json").write_text("[]")
    scene.discover(name="other")
    assert not (scene.directory / "north.json").exists()


def test_vms_of_others_are_no_targets_unless_they_are_wanted(scene: Scene) -> None:
    scene.vm("node", ON)
    scene.zone.running()
    scene.zone.call("one.user.allocate", "prometheus", "word", "core", [0])
    scene.discover(username="prometheus", password="word")
    assert scene.targets() == []
    scene.discover(username="prometheus", password="word", scope="all")
    assert len(scene.targets()) == 1


def test_a_vm_whose_only_interface_is_a_pci_device_is_scraped(scene: Scene) -> None:
    nic = 'PCI=[SHORT_ADDRESS="02:00.0",TYPE="NIC",NETWORK="scraped"]'
    scene.zone.call("one.vm.allocate", f'NAME="node"\nCPU="0.1"\nMEMORY="64"\n{nic}\nCONTEXT=[{ON}]', False)
    scene.zone.running()
    scene.discover()
    assert [target["targets"] for target in scene.targets()] == [["10.1.0.10:9101"]]


def test_an_address_in_another_network_does_not_count(scene: Scene) -> None:
    scene.vm("node", ON)
    scene.zone.running()
    scene.discover(network="other")
    assert scene.targets() == []


@pytest.mark.parametrize("port", ["80", "99999", "x", "9101/evil", "-9101", "9" * 5000])
def test_a_port_that_is_none_makes_no_target(scene: Scene, port: str) -> None:
    scene.vm("node", f'{ON},ONEAPP_FL_METRICS_PORT="{port}"')
    scene.zone.running()
    scene.discover()
    assert scene.targets() == []


def test_names_and_roles_that_owners_choose_are_short_labels_of_printable_text(scene: Scene) -> None:
    scene.vm("\u202e" + "x" * 100, ON, 'ROLE_NAME="superlink}"\nSERVICE_ID="7; drop"')
    scene.zone.running()
    scene.discover()
    (target,) = scene.targets()
    assert target["labels"]["role"] == "supernode"
    assert "service" not in target["labels"]
    assert target["labels"]["name"].startswith("\\u202exxx") and len(target["labels"]["name"]) < 120


def test_a_name_of_a_zone_cannot_lead_to_another_file() -> None:
    with pytest.raises(ValueError, match="is not a name for a zone"):
        Zone("../x", "http://x", "a", "b")


def test_the_program_says_what_went_wrong_and_no_secret(scene: Scene, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    wrong = {**scene.settings, "password": "not-the-password"}
    config.write_text(json.dumps({"directory": str(scene.directory), "zones": [wrong]}))
    done = subprocess.run([sys.executable, "-m", MODULE, "--config", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("ERROR Zone north keeps its last targets: ")
    assert "not-the-password" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@contextmanager
def silent() -> Iterator[str]:
    """A zone that takes calls and never answers one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/RPC2"


def test_zones_that_are_silent_keep_nobody_waiting(scene: Scene) -> None:
    scene.vm("node", ON)
    scene.zone.running()
    with silent() as url:
        # One after the other they would take longer than the timer's service may.
        holes = [Zone(f"hole{number}", url, "oneadmin", "word", timeout=10) for number in range(31)]
        begun = time.monotonic()
        problems = discover(scene.directory, [*holes, Zone(**scene.settings)])
        took = time.monotonic() - begun
    assert [problem.split()[1] for problem in problems] == [f"hole{number}" for number in range(31)]
    assert len(scene.targets()) == 1
    assert took < 31 * 10 / 2


@pytest.fixture
def large_zone() -> Iterator[str]:
    """A zone of 10,000 VMs that offer metrics."""
    vm = recorded_vm().replace("<CONTEXT>", "<CONTEXT><ONEAPP_FL_METRICS_ENABLED><![CDATA[YES]]></ONEAPP_FL_METRICS_ENABLED>", 1)

    class Answers(Replay):
        pages = [page(vm, max(0, last - PAGE_SIZE + 1), last) for last in range(9_999, -1, -PAGE_SIZE)]
        nothing = page(vm, 1, 0)

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/RPC2"
        server.shutdown()
        thread.join()


def test_a_zone_of_10000_vms_is_one_file(large_zone: str, tmp_path: Path) -> None:
    assert discover(tmp_path, [Zone("large", large_zone, "oneadmin", "word", timeout=300)]) == []
    found = json.loads((tmp_path / "large.json").read_text())
    assert [target["labels"]["vm"] for target in found] == [str(number) for number in range(10_000)]
    assert len({target["targets"][0] for target in found}) == 10_000


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"address": "a"}, "machine '' has no name"),
        ({"name": "jena"}, "machine 'jena' has no address"),
        ({"name": "jena", "address": "a", "user": "x"}, "machine 'jena' has 'user', expected some of: address, name, port, scheme"),
        ({"name": "jena", "address": "a/metrics?"}, "machine 'jena': address 'a/metrics\\?' is not valid, expected a name or an IP address"),
        ({"name": "jena", "address": "fe80::1%eth0"}, "machine 'jena': address 'fe80::1%eth0' is not valid"),
        ({"name": "jena", "address": "a", "port": "99999"}, "machine 'jena': port '99999' is not valid, expected a number from 1024 to 65535"),
        ({"name": "jena", "address": "a", "scheme": "ftp"}, "machine 'jena': scheme 'ftp' is not valid, expected http or https"),
    ],
)
def test_a_machine_that_cannot_be_scraped_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"flower_monitoring_machines: {sentence}"):
        machine(given)
