# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Two checkouts on one machine leave each other alone: names, ports and networks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab import addresses
from lab.addresses import free_port, free_subnet
from lab.checkout import CHECKOUT, IMAGE_PREFIX, ROOT
from lab.driver import NetSpec
from lab.driver.docker import DockerDriver
from lab.engine import docker

ROUTES = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"


def lab(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command line of the lab of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    return subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A second checkout, as far as the lab goes."""
    for part in ("lab", "plugins", "ansible_collections"):
        shutil.copytree(ROOT / part, tmp_path / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_inventory_names_the_images_as_the_lab_does() -> None:
    said = subprocess.check_output(
        ["ansible", "zone0", "-i", "inventories/lab", "--playbook-dir", "playbooks", "-m", "ansible.builtin.debug", "-a", "var=lab_images"],
        cwd=ROOT, text=True,
    )  # fmt: skip
    assert IMAGE_PREFIX in said


def test_wanted_port_is_taken_when_it_is_free_and_another_one_when_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other_port = free_port("127.0.0.1", port)
        assert other_port not in (0, port)
    assert free_port("127.0.0.1", port) == port


def test_subnet_is_one_that_no_route_leads_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # 10.88.5.0/24, 10.88.6.0/23 and the default route, as the kernel writes them: little endian.
    lines = ("eth0 0005580A 0 1 0 0 0 00FFFFFF 0 0 0", "eth1 0006580A 0 1 0 0 0 00FEFFFF 0 0 0", "eth0 00000000 0102000A 3 0 0 0 00000000 0 0 0")
    routes = tmp_path / "route"
    routes.write_text(ROUTES + "\n".join(lines) + "\n")
    monkeypatch.setattr(addresses, "ROUTES", routes)
    assert free_subnet("10.88", first=5) == "10.88.8.0/24"
    assert free_subnet("10.88", first=256 + 4) == "10.88.4.0/24"
    assert free_subnet("10.88", first=5, taken=["10.88.8.0/24"]) == "10.88.9.0/24"
    routes.write_text(ROUTES + "eth0 0000580A 0 1 0 0 0 0000FFFF 0 0 0\n")
    with pytest.raises(OSError, match=r"every network 10\.88\.N\.0/24 is taken"):
        free_subnet("10.88")


def test_second_zone_of_the_same_name_gets_other_ports_and_keeps_them(other: Path, tmp_path: Path) -> None:
    def endpoints(state: Path) -> str:
        said = lab(other, "up", "--name", "zone0", "--driver", "dummy", "--state-dir", str(state))
        assert said.returncode == 0, said.stderr
        return said.stdout

    first, second = tmp_path / "first", tmp_path / "second"
    try:
        one, two = endpoints(first), endpoints(second)
        assert one.splitlines()[-1] != two.splitlines()[-1], "their networks may not be made yet"
        assert not {line for line in one.splitlines() if "http" in line} & {line for line in two.splitlines() if "http" in line}
        lab(other, "down", "--name", "zone0", "--state-dir", str(second))
        assert endpoints(second) == two
    finally:
        for state in (first, second):
            lab(other, "clean", "--name", "zone0", "--driver", "dummy", "--state-dir", str(state))


@pytest.mark.docker
def test_cleaning_a_zone_leaves_the_zone_of_that_name_in_another_checkout(other: Path, zone: str, tmp_path: Path) -> None:
    subnet = free_subnet("10.213", first=os.getpid() + 2)
    program = (
        "import sys; from lab.driver import NetSpec; from lab.driver.docker import DockerDriver;"
        "DockerDriver(sys.argv[1], sys.argv[2]).create_network(NetSpec(0, 'private', sys.argv[3], ''))"
    )
    environment = os.environ | {"PYTHONPATH": str(other)}
    subprocess.run([sys.executable, "-c", program, zone, str(tmp_path / "state"), subnet], cwd=other, env=environment, check=True)
    listing = ("network", "ls", "--quiet", "--filter", f"label=opennebula.zone={zone}", "--filter")
    theirs = docker("network", "ls", "--format", "{{.Name}} {{.Labels}}", "--filter", f"label=opennebula.zone={zone}").splitlines()
    (name,) = [line.split()[0] for line in theirs if CHECKOUT not in line]
    driver = DockerDriver(zone, str(tmp_path / "own"))
    try:
        driver.create_network(NetSpec(7, "own", free_subnet("10.213", first=os.getpid() + 3), ""))
        driver.clean()
        assert docker(*listing, f"label=opennebula.checkout={CHECKOUT}") == ""
        assert docker("network", "ls", "--quiet", "--filter", f"name={name}") != ""
    finally:
        docker("network", "rm", name)
