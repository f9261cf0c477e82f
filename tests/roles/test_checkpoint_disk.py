# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A second disk for checkpoints: a real block device in a machine with systemd, set up by the role's own tasks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoint_machine import machine

MOUNT = "opt-flower-checkpoints.mount"


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
