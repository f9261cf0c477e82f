# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""site.yml over two zones, one of which belongs to somebody else and whose VMs say what they want."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import context_values
from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SETTINGS = {"munich": {"flower_supernodes": 2}, "lyon": {"flower_supernodes": 2}}
SHARED = {"flower_min_available_clients": 2}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Zones, int, str, list[str]]]:
    """The zones, and what came of the first run, in which one VM of lyon could not boot."""
    with open_zones(tmp_path_factory.mktemp("zones"), {"munich": "7.4", "lyon": "7.4"}) as zones:
        zones.errors["lyon", 0] = "gpu_not_found"
        status, output = zones.play(shared=SHARED, **SETTINGS)
        joined = zones.may_join("munich")
        del zones.errors["lyon", 0]
        lyon = zones.zones["lyon"].zone.core.store
        zones.zones["lyon"].wait(lambda: lyon.get("vm", 0)["user_template"].get("FL_NODE_KEY"), "the VM boots at last")
        yield zones, status, output, joined


@pytest.fixture
def zones(deployed: tuple[Zones, int, str, list[str]]) -> Zones:
    return deployed[0]


def test_a_vm_that_cannot_boot_is_named_with_its_error_and_the_others_of_its_zone_join(deployed):
    _zones, status, output, joined = deployed
    assert status != 0
    assert joined == ["lyon/vm-1"]
    assert "the key that VM 0 publishes is not taken" in output and "FL_ERROR is gpu_not_found" in output
    assert "role supernode 1/2 ready, VM 0 RUNNING, READY missing, FL_ERROR is gpu_not_found" in output


def test_a_zone_brings_no_more_keys_than_it_may_have_nodes(zones: Zones, tmp_path: Path):
    options = {f"one_{name}": value for name, value in zones.zones["lyon"].options.items()}
    given = {"flower_service_name": "federation", "flower_supernodes": 1, "flower_supernodes_max": 1, "flower_deploy_timeout": 600}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"lyon": {**options, **given, "ansible_python_interpreter": sys.executable}}}}))
    tasks = [
        {"ansible.builtin.include_tasks": str(ROOT / "playbooks/tasks/zone_keys_read.yml")},
        {"ansible.builtin.debug": {"msg": "taken: {{ flower_zone_own_keys | map('split') | map('last') | join(' ') }} and no more"}},
    ]
    defaults = {"group/opennebula.flower.one": {name: f"{{{{ one_{name} }}}}" for name in zones.zones["lyon"].options}}
    play = {"hosts": "lyon", "connection": "local", "gather_facts": False, "module_defaults": defaults, "tasks": tasks}
    (tmp_path / "play.json").write_text(json.dumps([play]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.json"), str(tmp_path / "play.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    output = " ".join((done.stdout + done.stderr).split()).replace("''", "'")
    assert done.returncode == 0, output
    assert "taken: lyon/vm-0 and no more" in output
    assert "zone lyon: flower_supernodes_max is 1, so that the keys of VM 1 are not taken" in output


@pytest.mark.parametrize(("mode", "sentence"), [
    ("604", "zone munich: stranger may not read VM 0, the SuperLink of service federation"),
    ("600", "zone munich, which --limit leaves out: the API shows no SuperLink in service federation"),
])
def test_a_user_who_may_not_read_the_superlink_is_refused_before_a_zone_is_changed(zones: Zones, mode: str, sentence: str):
    """Not even a network that the zone lacks is made."""
    munich = zones.zones["munich"]
    munich.run("one_user", name="stranger", password="a-stranger", auth_driver="core")
    munich.run("one_service", name="federation", mode=mode)
    stranger = {"one_api_username": "stranger", "one_api_password": "a-stranger"}
    addresses = [{"TYPE": "IP4", "IP": "10.9.0.10", "SIZE": 8}]
    more = {"flower_network": {"name": "other", "template": {"VN_MAD": "dummy", "BRIDGE": "br1"}, "address_ranges": addresses}}
    status, output = zones.play("--limit", "lyon", shared=SHARED, munich=SETTINGS["munich"] | stranger, lyon={**SETTINGS["lyon"], **more})
    assert status != 0
    assert sentence in output
    assert zones.writes() == {}


def test_what_a_vm_says_of_its_context_does_not_keep_a_key_in_force(zones: Zones):
    """The last one here: the zone leaves, and the SuperLink's VM had said that it knows already."""
    (superlink,) = zones.vms("munich", "superlink")
    wanted = json.dumps(context_values({"flower_cert_extra_san": [], "flower_node_keys": []}), sort_keys=True)
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    zones.zones["munich"].call("one.vm.update", superlink["id"], f'FL_ZONE_CONTEXT="{digest}"', 1)
    status, output = zones.play(shared=SHARED, munich=SETTINGS["munich"], lyon={**SETTINGS["lyon"], "zone_state": "absent"})
    assert status == 0, output
    assert zones.may_join("munich") == []
