# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""site.yml and teardown.yml against a zone that boots nothing: dry run, bad settings, and what a failed run leaves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, changes, module_zone

ROOT = Path(__file__).parents[2]
FEDERATION = {
    "flower_service_name": "federation",
    "flower_supernodes": 2,
    "flower_supernodes_min": 2,
    "flower_supernodes_max": 4,
    "flower_use_case": "digits",
    "flower_superlink_cpu": 0.1,
    "flower_superlink_memory": 64,
    "flower_supernode_cpu": 0.1,
    "flower_supernode_memory": 64,
    "flower_image_datastore": "default",
    "flower_superlink_image_name": "superlink",
    "flower_superlink_image_path": "/images/superlink",
    "flower_supernode_image_name": "supernode",
    "flower_supernode_image_path": "/images/supernode",
    "flower_network": {
        "name": "private",
        "template": {"VN_MAD": "bridge", "BRIDGE": "br0"},
        "address_ranges": [{"TYPE": "IP4", "IP": "10.9.0.10", "SIZE": 8}],
    },
}
POOLS = ("vnpool", "imagepool", "templatepool")


@pytest.fixture(scope="module")
def zone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone"), version=getattr(request, "param", "7.4")) as zone:
        yield zone


@pytest.fixture
def play(zone: ModuleZone, tmp_path: Path):
    """Run a playbook on the zone with settings beside those of FEDERATION; returns exit status and output."""

    def run(playbook: str, *arguments: str, hosts: tuple[str, ...] = ("zone0",), **settings: object) -> tuple[int, str]:
        groups = {group: {"hosts": dict.fromkeys(hosts)} for group in ("zones", "coordinator", "training_sites")}
        variables = {f"one_{name}": value for name, value in zone.options.items()}
        inventory = {"all": {"children": groups, "vars": {**FEDERATION, **variables, **settings}}}
        (tmp_path / "hosts.json").write_text(json.dumps(inventory))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.json"), str(ROOT / f"playbooks/{playbook}.yml")]
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
        output = done.stdout + done.stderr
        assert PASSWORD not in output
        return done.returncode, output

    return run


def test_a_dry_run_shows_everything_and_makes_nothing(zone, play):
    zone.calls.clear()
    status, output = play("site", "--check", "--diff", flower_trim_beta=0.3)
    assert status == 0, output
    assert "flower_trim_beta is ignored: flower_strategy is FedAvg" in output
    for made in ("name: private", "name: superlink", "name: federation-superlink", "name: federation-supernode", "ONEAPP_FL_NUM_ROUNDS"):
        assert made in output
    assert zone.writes == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"flower_num_rounds": 0}, "flower_num_rounds: '0' is not valid"),
        ({"flower_strategy": "Mean"}, "flower_strategy: 'Mean' is not valid, expected one of: FedAvg"),
        ({"flower_strategy": "Krum"}, "flower_min_fit_clients: 2 is not valid, expected at least 3 for Krum with flower_num_malicious 0"),
        ({"flower_min_available_clients": 3}, "flower_min_available_clients is 3, but there are only 2 SuperNodes"),
        ({"flower_supernodes": 5}, "flower_supernodes: 5 is not valid, expected flower_supernodes_min to flower_supernodes_max, 2 to 4"),
        ({"flower_dcgm_enabled": True}, "flower_dcgm_enabled"),
    ],
)
def test_bad_settings_end_the_run_before_anything_is_made(zone, play, settings, sentence):
    zone.calls.clear()
    status, output = play("site", **settings)
    assert status != 0
    assert sentence in re.sub(r"''", "'", re.sub(r"\s+", " ", output))
    assert zone.calls == []


def test_an_inventory_with_two_coordinators_is_refused(zone, play):
    zone.calls.clear()
    status, output = play("site", hosts=("zone0", "zone1"))
    assert status != 0
    assert "'coordinator' has 2 hosts" in re.sub(r"\s+", " ", output).replace("''", "'")
    assert zone.calls == []


@pytest.mark.parametrize("zone", ["7.4", "6.10"], indirect=True)
def test_a_superlink_that_never_gets_ready_is_named_taken_over_and_torn_down(zone, play):
    status, _output = play("site", flower_deploy_timeout=1)
    assert status != 0
    zone.running()
    status, output = play("site", flower_deploy_timeout=1)
    said = re.sub(r"\s+", " ", output)
    assert status != 0
    assert "READY missing" in said and "superlink" in said and "federation" in said
    assert zone.call("one.documentpool.info", -2, -1, -1, 100).count("<DOCUMENT>") == 1

    status, output = play("teardown")
    assert status == 0, output
    for pool in POOLS:
        assert not re.search(r"<ID>", zone.call(f"one.{pool}.info", -2, -1, -1))
    status, output = play("teardown")
    assert status == 0 and changes(output) == 0, output
