# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A second disk for checkpoints: a real block device in a machine with systemd, set up by the role's own tasks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.checkout import CHECKOUT
from lab.images import SUITES

REPOSITORY = Path(__file__).resolve().parents[2]
MACHINE = f"test-checkpoint-disk-{CHECKOUT}"
MOUNT = "opt-flower-checkpoints.mount"
DEADLINE = 600  # seconds

# The units as the role writes them; what they start stands still, since only their order matters here.
PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars: {flower_runtime: native}
  tasks:
    - ansible.builtin.user: {name: app, uid: 49999, shell: /usr/sbin/nologin, create_home: false}
    - ansible.builtin.file: {path: /opt/flower/config/flwr, state: directory, mode: "0755"}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: checkpoints}
    - ansible.builtin.include_role: {name: opennebula.flower.flower_superlink, tasks_from: container}
"""
STAND_IN = "[Service]\nUser=root\nExecStart=\nExecStart=/bin/sleep infinity\nRestart=no\n"


def machine(*command: str, standard_input: str = "", check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run(["docker", "exec", "-i", MACHINE, *command], input=standard_input, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def booted() -> Iterator[None]:
    flags = yaml.safe_load((REPOSITORY / "playbooks/vars/systemd_container.yml").read_text())["systemd_container_flags"]
    subprocess.run(["docker", "run", "--detach", "--name", MACHINE, *flags, SUITES["bookworm"].vm_image, "/sbin/init"], check=True)
    try:
        deadline = time.monotonic() + DEADLINE
        while machine("systemctl", "is-system-running", check=False).stdout.strip() not in ("running", "degraded"):
            assert time.monotonic() < deadline, "systemd is not up"
            time.sleep(0.2)
        machine("mkdir", "-p", "/etc/systemd/system/flower-superlink.service.d", "/etc/systemd/system/flower-supervisor.service.d")
        for unit in ("superlink", "supervisor"):
            machine("tee", f"/etc/systemd/system/flower-{unit}.service.d/stand-in.conf", standard_input=STAND_IN)
        yield
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", MACHINE], check=True, capture_output=True)


@pytest.fixture
def disk(booted: None, tmp_path: Path) -> Iterator[str]:
    """A blank disk of 64 MiB that the machine sees."""
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(64 * 2**20)
    device = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    number = device.removeprefix("/dev/loop")
    machine("sh", "-c", f"rm -f {device}; mknod {device} b 7 {number}")
    yield device
    machine("systemctl", "stop", "flower-superlink", MOUNT, check=False)
    machine("sh", "-c", f"rm -f /etc/systemd/system/{MOUNT}; systemctl daemon-reload")
    subprocess.run(["losetup", "--detach", device], check=True)


class Outcome:
    """What a run of the role said."""

    def __init__(self, result: subprocess.CompletedProcess) -> None:
        self.output = result.stdout
        self.failed = result.returncode != 0
        self.message = " ".join("".join(re.findall(r"msg: (?:[>|]-?\n)?(.*?)(?:\n\n|\nPLAY|$)", result.stdout, re.DOTALL)).replace("''", "'").split())
        self.changed = int(re.search(r"changed=(\d+)", result.stdout)[1])


@pytest.fixture
def play(booted: None, tmp_path: Path):
    playbook = tmp_path / "checkpoints.yml"
    playbook.write_text(PLAYBOOK)
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": f"{REPOSITORY}:{REPOSITORY / 'build/collections'}",
        "ANSIBLE_NOCOLOR": "1",
    }

    def run(*arguments: str, **variables: object) -> Outcome:
        program = [Path(sys.executable).parent / "ansible-playbook", "-i", f"{MACHINE},", "-c", "community.docker.docker"]
        command = [*program, playbook, *arguments, "-e", json.dumps(variables)]
        return Outcome(subprocess.run(command, env=environment, capture_output=True, text=True, check=False))

    return run


def content(device: str) -> str:
    return machine("sha256sum", device).stdout


def test_a_blank_disk_is_left_blank_unless_formatting_was_asked_for(play, disk: str) -> None:
    before = content(disk)
    outcome = play(flower_checkpoint_disk=disk)
    assert outcome.failed
    assert f"'{disk}' is blank; set flower_checkpoint_format_disk to have it formatted" in outcome.message
    assert content(disk) == before


def test_a_blank_disk_is_formatted_and_mounted_once(play, disk: str) -> None:
    wanted = {"flower_checkpoint_disk": disk, "flower_checkpoint_format_disk": True}
    before = content(disk)
    on_the_system_disk = play()
    assert not on_the_system_disk.failed, on_the_system_disk.output
    dry = play("--check", **wanted)
    assert not dry.failed, dry.output
    assert content(disk) == before

    outcome = play(**wanted)
    assert not outcome.failed, outcome.output
    assert machine("stat", "--format", "%u %a", "/opt/flower/checkpoints").stdout == "49999 750\n"
    assert disk in machine("findmnt", "--noheadings", "/opt/flower/checkpoints").stdout
    machine("touch", "/opt/flower/checkpoints/kept")

    again = play(**wanted)
    assert not again.failed, again.output
    assert again.changed == 0
    by_label = play(flower_checkpoint_disk="LABEL=flower-ckpt")
    assert not by_label.failed, by_label.output
    assert machine("ls", "/opt/flower/checkpoints").stdout.split() == ["kept", "lost+found"]


def test_flower_does_not_start_without_its_disk_and_stops_with_it(play, disk: str) -> None:
    outcome = play(flower_checkpoint_disk=disk, flower_checkpoint_format_disk=True)
    assert not outcome.failed, outcome.output
    machine("systemctl", "start", "flower-superlink")
    machine("systemctl", "stop", MOUNT)
    assert machine("systemctl", "is-active", "flower-superlink", check=False).stdout.strip() == "inactive"
    machine("systemctl", "start", "flower-superlink")  # brings its disk
    machine("mountpoint", "/opt/flower/checkpoints")
    machine("systemctl", "stop", MOUNT)
    machine("sh", "-c", f"dd if=/dev/zero of={disk} bs=1M count=8 status=none")
    assert "dependency" in machine("systemctl", "start", "flower-superlink", check=False).stderr
    assert machine("systemctl", "is-active", "flower-superlink", check=False).stdout.strip() == "inactive"


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("mkfs.ext4 -q -L photos {}", "already holds ext4 labelled 'photos', expected a blank disk or one for checkpoints"),
        ("mkswap {}", "already holds swap without a label, expected a blank disk or one for checkpoints"),
        ("printf '\\125\\252' | dd of={} bs=1 seek=510 conv=notrunc status=none", "already holds a partition table"),
    ],
)
def test_a_disk_with_something_else_is_refused_and_left_alone(play, disk: str, prepare: str, reason: str) -> None:
    machine("sh", "-c", prepare.format(disk))
    before = content(disk)
    outcome = play(flower_checkpoint_disk=disk, flower_checkpoint_format_disk=True)
    assert outcome.failed
    assert f"'{disk}' {reason}" in outcome.message
    assert content(disk) == before


def test_a_disk_that_is_not_there_is_named(play) -> None:
    for wanted in ("LABEL=nowhere", "/dev/null"):
        outcome = play(flower_checkpoint_disk=wanted, flower_checkpoint_format_disk=True)
        assert f"there is no disk '{wanted}' on this machine" in outcome.message


def test_a_disk_and_an_export_together_are_refused(play) -> None:
    outcome = play(flower_checkpoint_disk="/dev/vdb", flower_checkpoint_nfs="nas:/models")
    assert "expected one of them to be empty" in outcome.message


def test_the_unit_for_an_export_is_one_that_systemd_accepts(play) -> None:
    """Mounting needs a kernel with NFS, which a test machine may lack; the dry run renders the unit and stops before."""
    outcome = play("--check", "--diff", flower_checkpoint_nfs="nas.example.org:/export/models")
    unit = "\n".join(line[1:] for line in outcome.output.splitlines() if line.startswith("+") and not line.startswith("+++"))
    unit = unit[unit.index("[Unit]\nDescription=File system for") : unit.index("TimeoutSec=90") + len("TimeoutSec=90\n")]
    assert "What=nas.example.org:/export/models\nType=nfs\n" in unit
    machine("tee", f"/tmp/{MOUNT}", standard_input=unit)
    verified = machine("systemd-analyze", "verify", f"/tmp/{MOUNT}", check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
