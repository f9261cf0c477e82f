# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A zone that reaches nothing gets a federation from one archive, by the README in it.

The control node is in the network namespace of the zone: it reaches the zone's APIs and the VMs, and there is nothing else to be reached.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import DEFAULT_DATASTORE, PASSWORD, BootZone

ROOT = Path(__file__).resolve().parents[2]
# What a person changes in the inventory of the archive's collection: the zone's addresses, and that this machine has two cores.
ZONE = {"one_api_username": "oneadmin", "one_api_password": PASSWORD}
FEDERATION = {
    "flower_supernodes": 1, "flower_supernodes_min": 1, "flower_min_available_clients": 1, "flower_min_fit_clients": 1, "flower_min_evaluate_clients": 1,
    "flower_num_rounds": 1, "flower_round_timeout": 7200, "flower_nodes_timeout": 7200, "flower_deploy_timeout": 14400, "flower_vm": {"disk_size": 8192},
    "flower_superlink_cpu": 0.5, "flower_superlink_memory": 2048, "flower_supernode_cpu": 0.5, "flower_supernode_memory": 2048,
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the images in build/appliances, made where there is a network."""
    path = tmp_path_factory.mktemp("bundle") / "flower-bundle.tar"
    subprocess.run(["ansible-playbook", "playbooks/bundle.yml", "-e", f"bundle_output={path}"], cwd=ROOT, check=True)
    return path


class ControlNode:
    """A directory and a shell in it, which reaches the zone alone."""

    def __init__(self, zone: BootZone, directory: Path) -> None:
        self.directory = directory
        kept = {name: value for name, value in os.environ.items() if name in ("LANG", "LC_ALL")}
        path = f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        self._environment = {**kept, "HOME": str(directory), "PATH": path}
        self._command = zone.within(["bash", "-euo", "pipefail", "-c"])

    def __call__(self, script: str) -> str:
        """Run a script, show what it says and return it; fails with it."""
        said = []
        with subprocess.Popen(
            [*self._command, script], cwd=self.directory, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            for line in running.stdout:
                said.append(line)
                print(f"  {line}", end="", flush=True)
        assert running.returncode == 0, "".join(said)[-6000:]
        return "".join(said)


@pytest.fixture
def control(zone: BootZone, tmp_path: Path) -> ControlNode:
    return ControlNode(zone, tmp_path)


@pytest.fixture
def unpacked() -> Iterator[Path]:
    """Where the archive is unpacked: below the only directory that a datastore of OpenNebula reads unless it is told otherwise."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:  # noqa: S108 - what that directory is for
        yield Path(directory, "bundle")


@pytest.fixture
def nothing_left(zone: BootZone) -> Iterator[None]:
    """VMs of a test that failed do not run on."""
    yield
    for vm in zone.api.vmpool.info(-2, -1, -1, -1).VM:
        zone.api.vm.action("terminate-hard", vm.ID)


def test_a_zone_that_reaches_nothing_gets_a_federation_from_one_archive(
    zone: BootZone, bundle: Path, control: ControlNode, unpacked: Path, nothing_left: None
) -> None:
    began = time.monotonic()
    control("! timeout 10 python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 443))' 2>/dev/null")
    (control.directory / "flower-bundle.tar").symlink_to(bundle)
    commands = readme(bundle)
    for command in commands:
        given = f"{command} -e bundle_directory={unpacked}" if "import_bundle" in command else command
        activate = "" if command.startswith(("mkdir", "python3 -m venv")) else ". venv/bin/activate; "
        control(f"{activate}{given}")
        if command.startswith("cp -r"):
            adapt(control.directory / "mine", zone)
    report = json.loads((control.directory / "build/report/result.json").read_text())
    assert (report["status"], report["rounds"], report["nodes"]) == ("completed", 1, 1)
    images = {image.NAME for image in zone.api.imagepool.info(-2, -1, -1).IMAGE}
    assert {"Flower SuperLink", "Flower SuperNode - scikit-learn"} <= images
    print(f"federation from the archive: trained after {time.monotonic() - began:.0f} s", flush=True)

    again = control(". venv/bin/activate; ansible-playbook -i mine/hosts.yml opennebula.flower.site")
    assert re.search(r"^zone0 .*changed=0 .*failed=0", again, re.MULTILINE)
    control(". venv/bin/activate; ansible-playbook -i mine/hosts.yml opennebula.flower.teardown")
    assert not [vm for vm in zone.api.vmpool.info(-2, -1, -1, -1).VM if vm.STATE != 6]


def readme(bundle: Path) -> list[str]:
    """Return the commands of the archive's README, without their comments."""
    text = subprocess.run(["tar", "--extract", "--to-stdout", "--file", bundle, "README.md"], check=True, capture_output=True, text=True).stdout
    block = re.search(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL).group(1)
    return [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]


def adapt(inventory: Path, zone: BootZone) -> None:
    """Change in the copied inventory what is marked, take the paths of the images out, and make the VMs small."""
    network = {"flower_network": {"name": "private"}, "flower_image_datastore": zone.api.datastore.info(DEFAULT_DATASTORE).NAME}
    addresses = {"one_api_url": zone.xmlrpc_url, "one_oneflow_url": zone.oneflow_url}
    for name, changed in {"host_vars/zone0.yml": {**ZONE, **addresses, **network}, "group_vars/all.yml": FEDERATION}.items():
        path = inventory / name
        content = {**yaml.safe_load(path.read_text()), **changed}
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if not key.endswith("_image_path")}))
