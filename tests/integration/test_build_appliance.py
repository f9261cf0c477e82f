# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What build_appliance.yml refuses to build disk images from, before it makes anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHA256 = "0" * 64


def package(directory: Path, name: str, architecture: str = "all") -> Path:
    """Make a Debian package with nothing in it."""
    control = directory / name / "DEBIAN"
    control.mkdir(parents=True)
    control.joinpath("control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: {architecture}\nMaintainer: nobody <nobody@example.org>\nDescription: nothing\n"
    )
    made = directory / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", control.parent, made], check=True, capture_output=True)
    return made


def refused(directory: Path, **variables: object) -> str:
    """Run the playbook, which has to refuse before it makes an image, and return its only message."""
    output = directory / "images"
    command = [
        Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "playbooks/build_appliance.yml",
        "-e", json.dumps({"appliance_target": "qcow2", "appliance_image_output": str(output), **variables}),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert not [path for path in output.rglob("*") if path.is_file()]
    return re.sub(r"\s+", " ", re.findall(r"\[ERROR\]: Task failed: (?:Action failed|Module failed): (.*)\nOrigin:", done.stdout + done.stderr)[-1])


@pytest.fixture
def agent(tmp_path: Path) -> str:
    return str(package(tmp_path, "one-context"))


def test_no_guest_agent(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith("appliance_guest_agent is not set: name the package of OpenNebula's guest agent (one-context_*.deb, from the releases")


def test_a_guest_agent_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path, appliance_guest_agent="/nowhere/one-context.deb") == (
        "appliance_guest_agent is /nowhere/one-context.deb, but there is no file /nowhere/one-context.deb"
    )


def test_paths_are_relative_to_where_the_playbook_is_started(tmp_path: Path) -> None:
    assert refused(tmp_path, appliance_guest_agent="nowhere/one-context.deb").endswith(f"but there is no file {ROOT}/nowhere/one-context.deb")


def test_a_guest_agent_from_the_network_without_a_checksum(tmp_path: Path) -> None:
    assert refused(tmp_path, appliance_guest_agent="http://127.0.0.1:9/one-context.deb").startswith(
        "appliance_guest_agent is a URL and needs appliance_guest_agent_checksum"
    )


def test_a_guest_agent_that_cannot_be_had(tmp_path: Path) -> None:
    assert refused(tmp_path, appliance_guest_agent="http://127.0.0.1:9/one-context.deb", appliance_guest_agent_checksum=SHA256).startswith(
        "the guest agent cannot be downloaded from http://127.0.0.1:9/one-context.deb: "
    )


def test_another_guest_agent_than_the_one_that_was_named(tmp_path: Path, agent: str) -> None:
    assert f"but appliance_guest_agent_checksum is {SHA256}" in refused(
        tmp_path, appliance_guest_agent=agent, appliance_guest_agent_checksum=f"sha256:{SHA256}"
    )


def test_a_checksum_of_another_kind(tmp_path: Path, agent: str) -> None:
    assert refused(tmp_path, appliance_guest_agent=agent, appliance_guest_agent_checksum="d41d8cd98f00b204e9800998ecf8427e").endswith(
        "as 64 hexadecimal digits"
    )


@pytest.mark.parametrize(("name", "architecture"), [("cloud-init", "all"), ("one-context", "arm64")])
def test_a_package_that_is_no_guest_agent(tmp_path: Path, name: str, architecture: str) -> None:
    made = package(tmp_path, name, architecture)
    assert f"is not the Debian package one-context for x86_64 or all architectures, but {name} 1 {architecture}" in refused(
        tmp_path, appliance_guest_agent=str(made)
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("appliance_target", "ova", "appliance_target is 'ova', expected container, opennebula or qcow2"),
        ("appliance_images", "flower-superlink", "appliance_images names flower-superlink, expected some of: flower-superlink-container, "),
        ("appliance_images", [], "appliance_images names nothing, expected some of: "),
        ("appliance_image_architecture", "riscv64", "appliance_image_architecture is 'riscv64', but images are built for x86_64 only"),
        ("appliance_image_architecture", "arm64", "images for arm64 are made in a VM on an arm64 host, with appliance_target=opennebula"),
        ("appliance_image_suite", "bookworm", "the kernel for clouds of Debian 12 has no AHCI"),
        ("appliance_image_compression", "lz4", "appliance_image_compression is 'lz4', expected zlib or zstd"),
        ("appliance_image_archives", {"flower-superlink-container": "/nowhere.tar"}, "/nowhere.tar, but there is no such file"),
        ("appliance_image_wheelhouse", "nowhere", f"appliance_image_wheelhouse is nowhere, but there is no directory {ROOT}/nowhere"),
        ("appliance_image_space", {"base": 9e9, "sklearn": 9e9}, "GB free, but the build of flower-superlink-container, "),
    ],
)
def test_a_value_that_cannot_be(tmp_path: Path, agent: str, variable: str, value: object, message: str) -> None:
    assert message in refused(tmp_path, **{"appliance_guest_agent": agent, variable: value})


def test_a_driver_that_is_not_to_be_had(tmp_path: Path, agent: str) -> None:
    message = refused(
        tmp_path, appliance_guest_agent=agent, appliance_images="flower-supernode-pytorch-cuda", appliance_image_driver_url="http://127.0.0.1:9/debian13"
    )
    assert message.startswith(
        "flower-supernode-pytorch-cuda needs NVIDIA's driver 580.65.06 or newer for CUDA 13.0, Debian has 550.163.01, and "
        "http://127.0.0.1:9/debian13 (appliance_image_driver_url) cannot be read: "
    )


def test_packages_that_are_not_to_be_had(tmp_path: Path, agent: str) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    message = refused(
        tmp_path, appliance_guest_agent=agent, appliance_image_wheelhouse=str(wheels), appliance_images="flower-supernode-tensorflow-native"
    )
    assert message.startswith("the Python packages of flower-supernode-tensorflow-native (ansible-core==")
    assert f") are not available as wheels for Python 3.13 on x86_64 from {wheels}: No matching distribution found for ansible-core==" in message


def test_every_task_of_a_container_has_a_title_that_can_be_read() -> None:
    """Also those of stages in which there is nothing to do."""
    command = [
        Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "playbooks/build_appliance.yml",
        "-e", json.dumps({"appliance_target": "container", "appliance_base_image": "nowhere:1"}),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and "Identify the base image nowhere:1" in done.stdout
    assert "the Docker engine of this machine lacks nowhere:1" in done.stdout + done.stderr
    assert "undefined" not in done.stdout + done.stderr
