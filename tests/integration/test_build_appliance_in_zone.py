# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""build_appliance.yml with the target opennebula: what it refuses before it makes a VM, and what it leaves of one that lets nobody in."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

ROOT = Path(__file__).parents[2]
Play = Callable[..., tuple[int, str]]


@pytest.fixture
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.changed("one_image", name="stock", path="/images/stock", size=2000, template={"DEV_PREFIX": "vd"})
        # Nobody answers at addresses for documentation.
        zone.call("one.vn.allocate", 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="192.0.2.10",SIZE="9"]', 0)
        yield zone


@pytest.fixture
def build(zone: ModuleZone) -> Play:
    """Run the playbook against the zone; return exit status and output with its lines joined."""

    def build(*arguments: str, **settings: object) -> tuple[int, str]:
        given = {
            "appliance_target": "opennebula", "appliance_base_image": "stock", "appliance_network": "private",
            "appliance_images": "flower-superlink-native", **{f"one_{name}": value for name, value in zone.options.items()}, **settings,
        }  # fmt: skip
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(ROOT / "playbooks/build_appliance.yml")]
        done = subprocess.run(
            [*command, "-e", json.dumps(given), *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    return build


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"appliance_network": "", "appliance_base_image": ""}, "the target opennebula needs appliance_base_image and appliance_network: "),
        ({"appliance_base_image": "nowhere"}, "Image 'nowhere' does not exist"),
        ({"appliance_network": "nowhere"}, "there is no virtual network nowhere in the zone"),
        ({"appliance_images": "flower-supernode-pytorch-cuda"}, "flower-supernode-pytorch-cuda cannot be built in a VM of a stock image"),
        ({"appliance_disk_size": 10**9}, " MB free, but an image of flower-superlink-native has 1000000000 MB"),
    ],
)
def test_what_cannot_be_is_said_before_a_vm_is_made(zone: ModuleZone, build: Play, settings: dict[str, object], sentence: str) -> None:
    zone.calls.clear()
    status, output = build(**settings)
    assert status != 0 and sentence in output, output
    assert zone.writes == []


@pytest.mark.parametrize(
    ("option", "sentence"), [({"type": "DATABLOCK"}, "it is of type DATABLOCK instead of OS"), ({"persistent": True}, "it is persistent")]
)
def test_an_image_that_no_build_machine_boots_from_is_refused(zone: ModuleZone, build: Play, option: dict[str, object], sentence: str) -> None:
    zone.changed("one_image", name="stock", **option)
    zone.calls.clear()
    status, output = build()
    assert status != 0 and sentence in output, output
    assert zone.writes == []


def test_a_dry_run_says_what_would_be_built(zone: ModuleZone, build: Play) -> None:
    zone.calls.clear()
    status, output = build("--check")
    assert status == 0 and "would build the image flower-superlink-native" in output, output
    assert zone.writes == []


def test_of_a_vm_that_lets_nobody_in_nothing_is_left_nor_of_an_interrupted_build(zone: ModuleZone, build: Play) -> None:
    machine = f"build-{hashlib.sha256(str(ROOT.resolve()).encode()).hexdigest()[:6]}-superlink-native"
    zone.changed("one_template", name=machine, template={"CPU": 0.1, "MEMORY": 64, "DISK": {"IMAGE": "stock"}})
    zone.changed("one_vm", name=machine, vm_template=machine, wait_timeout=600)
    before = zone.call("one.imagepool.info", -2, -1, -1)
    status, output = build(appliance_timeout=10)
    assert status != 0 and "did not let root in at 192.0.2.10 within 10 s: " in output, output
    assert "one.template.instantiate" in zone.calls
    assert "<VM>" not in zone.call("one.vmpool.info", -2, -1, -1, -1, "")
    assert "<VMTEMPLATE>" not in zone.call("one.templatepool.info", -2, -1, -1)
    names = re.findall("<NAME>(.*?)</NAME>", before)
    assert re.findall("<NAME>(.*?)</NAME>", zone.call("one.imagepool.info", -2, -1, -1)) == names
