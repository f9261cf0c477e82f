# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""build_appliance.yml with the target opennebula in a zone on the Docker engine: an image built in a VM over SSH, and a VM that boots from it.

The stock image has the packages that the role installs and the Python wheels, since VMs of the zone reach no package index.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import vm_templates
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import render
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until
from lab.addresses import free_subnet
from lab.driver.docker import machine_prefix
from lab.engine import docker, host_address
from lab.images import SUITES, WHEELS, build
from lab.zone import Zone, ZoneConfig

ROOT = Path(__file__).parents[2]
PASSWORD = "password-of-the-zone"
NAME = "flower-superlink-native"
PACKAGES = "git haproxy nftables openssl prometheus-node-exporter python3-cryptography python3-urllib3 e2fsprogs nfs-common python3-boto3 python3-venv"
pytestmark = [pytest.mark.docker, pytest.mark.long]


class LabZone:
    """A zone whose VMs are containers, and calls as its administrator."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self._api = xmlrpc.client.ServerProxy(zone.xmlrpc_url, allow_none=True)

    def call(self, name: str, *arguments: object) -> object:
        done, answer = getattr(self._api, name)(f"oneadmin:{PASSWORD}", *arguments)[:2]
        assert done, answer
        return answer

    def documents(self, pool: str, *more: object) -> dict[str, ElementTree.Element]:
        listed = ElementTree.fromstring(self.call(f"one.{pool}pool.info", -2, -1, -1, *more))
        return {item.findtext("NAME"): item for item in listed}

    def vm(self, number: int) -> ElementTree.Element:
        return ElementTree.fromstring(self.call("one.vm.info", number))


@pytest.fixture(scope="module")
def stock() -> Iterator[str]:
    """A cloud image with a guest agent, as it comes from elsewhere."""
    suite = SUITES["bookworm"]
    build("base", suite)
    build("wheels", suite)
    name = f"onelab-test-{uuid.uuid4().hex[:8]}"
    recipe = (
        f"FROM {suite.vm_image}\nRUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends {PACKAGES}"
        " && systemctl disable haproxy.service\nCOPY . /srv/wheels\n"
    )
    docker("build", "--quiet", "--tag", name, "--file", "-", str(WHEELS), stdin=recipe, timeout=900)
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, stock: str) -> Iterator[LabZone]:
    subnet = free_subnet("10.214", first=os.getpid())
    prefix = subnet.removesuffix(".0/24")
    config = ZoneConfig(
        name=f"t{uuid.uuid4().hex[:8]}", state_dir=tmp_path_factory.mktemp("zone"), password=PASSWORD, driver="docker", port=0, oneflow_port=0,
        onegate_host=host_address(), onegate_port=0,
    )  # fmt: skip
    zone = Zone(config)
    zone.start()
    lab = LabZone(zone)
    lab.call("one.image.allocate", f'NAME="stock"\nPATH="container:{stock}"', 1, False)
    network = {
        "NAME": "private", "VN_MAD": "bridge", "BRIDGE": "t0", "NETWORK_ADDRESS": f"{prefix}.0", "NETWORK_MASK": "255.255.255.0",
        "GATEWAY": f"{prefix}.1", "AR": {"TYPE": "IP4", "IP": f"{prefix}.10", "SIZE": "9"},
    }  # fmt: skip
    lab.call("one.vn.allocate", render(network), 0)
    yield lab
    zone.core.driver.clean()
    zone.stop()


@pytest.fixture(scope="module")
def play(lab: LabZone) -> object:
    """Run the playbook; return its output with lines joined."""

    def play(**settings: object) -> subprocess.CompletedProcess:
        given = {
            "one_api_url": lab.zone.xmlrpc_url, "one_api_username": "oneadmin", "one_api_password": PASSWORD,
            "appliance_target": "opennebula", "appliance_base_image": "stock", "appliance_network": "private", "appliance_images": NAME,
            "appliance_cpu": 0.5, "appliance_memory": 1536, "flower_wheelhouse": "/srv/wheels", **settings,
        }  # fmt: skip
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "playbooks/build_appliance.yml", "-e", json.dumps(given)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)

    return play


@pytest.fixture(scope="module")
def image(lab: LabZone, play: object) -> ElementTree.Element:
    """The image, built after a build that failed in the machine."""
    done = play(flower_wheelhouse="/nowhere")
    assert done.returncode != 0, done.stdout
    assert lab.documents("image").keys() == {"stock"}, "a machine in which the installation failed becomes no image"
    assert lab.documents("vm", -1, "") == {} and lab.documents("template") == {}
    done = play()
    assert done.returncode == 0, done.stdout + done.stderr
    return lab.documents("image")[NAME]


def test_an_image_is_built_in_a_vm_of_which_nothing_is_left(lab: LabZone, image: ElementTree.Element, play: object) -> None:
    assert image.findtext("STATE") == "1" and re.fullmatch("[0-9a-f]{12}", image.findtext("TEMPLATE/VERSION"))
    assert lab.documents("vm", -1, "") == {} and lab.documents("template") == {}
    done = play()
    assert done.returncode == 0 and re.search(r"localhost +: .*changed=0 ", done.stdout), done.stdout + done.stderr
    assert lab.documents("image").keys() == {"stock", NAME}


def test_nothing_of_the_build_machine_is_in_the_image(lab: LabZone, image: ElementTree.Element) -> None:
    saved = f"{machine_prefix(lab.zone.config.name)}-image-{image.findtext('ID')}"
    script = (
        "ls /etc/ssh/ssh_host_* /root/.ssh /root/.ansible /run/one-context /tmp/* 2>/dev/null; cat /etc/machine-id; find /var/log -type f;"
        " grep -rl 'appliance build' /root /home /etc || true"
    )
    assert docker("run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", saved, "-c", script) == ""


def test_a_vm_boots_from_the_image_and_is_a_superlink(lab: LabZone, image: ElementTree.Element) -> None:
    template = vm_templates.vm_template("superlink", {}, image=NAME, cpu=0.5, memory=1536, network="private", service="test")
    template["CONTEXT"] |= {"TOKEN": "YES", "NETWORK": "YES", "REPORT_READY": "YES", "READY_SCRIPT_PATH": "/opt/flower/bin/health-check"}
    number = lab.call("one.vm.allocate", render({"NAME": "superlink", **template}), False)
    try:
        wait_until(lambda: lab.vm(number).findtext("USER_TEMPLATE/READY") == "YES", "READY of the SuperLink", seconds=900)
        assert lab.vm(number).findtext("USER_TEMPLATE/FL_ENDPOINT")
    except BaseException:
        print(docker("exec", f"{machine_prefix(lab.zone.config.name)}-{number}", "journalctl", "--no-pager", "--lines", "80"))
        raise
    lab.call("one.vm.action", "terminate-hard", number)
    wait_until(lambda: lab.vm(number).findtext("STATE") == "6", "the VM to be gone")
