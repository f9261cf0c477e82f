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
        ({"flower_elasticity": {"cooldown": 10}}, "flower_elasticity.cooldown: 10 is not valid, expected at least two rounds, 1200 s"),
        ({"flower_dcgm_enabled": "maybe"}, "flower_dcgm_enabled: 'maybe' is not valid, expected YES or NO"),
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


PRODUCTION = {
    "flower_vm": {
        "cpu_model": "host-passthrough", "machine": "q35", "firmware": "/usr/share/OVMF/OVMF_CODE.fd", "graphics": "none", "virtio_queues": "auto",
        "placement": 'CLUSTER_ID = "0"', "disk_size": 20480, "disk_prefix": "vd", "nic_model": "virtio", "nics": ["storage"],
    },
    "flower_supernode_vm": {"placement_rank": "FREE_MEMORY", "disk_size": 40960},
    "flower_firewall": {"ssh_from": ["192.0.2.0/28"]},
    "flower_superlink_image_version": "2026-01", "flower_supernode_image_version": "2026-01",
    "flower_grpc_keepalive_time": 25, "flower_grpc_keepalive_timeout": 15,
}  # fmt: skip


def template(zone: ModuleZone, name: str) -> str:
    """The VM template of that name, without white space and CDATA."""
    pool = re.sub(r"<!\[CDATA\[(.*?)\]\]>", r"\1", zone.call("one.templatepool.info", -2, -1, -1))
    return next(each for each in re.findall("<VMTEMPLATE>.*?</VMTEMPLATE>", pool) if f"<NAME>{name}</NAME>" in each)


@pytest.mark.long
def test_settings_for_production_become_vm_templates_and_security_groups(zone, play):
    zone.call("one.vn.allocate", 'NAME="storage"\nVN_MAD="dummy"\nBRIDGE="br1"\nAR=[TYPE="IP4",IP="10.8.0.10",SIZE="9"]', 0)
    zone.calls.clear()
    status, output = play("site", "--check", "--diff", **PRODUCTION)
    assert status == 0, output
    assert zone.writes == [] and "host-passthrough" in output and "federation-supernode" in output

    play("site", flower_deploy_timeout=1, **PRODUCTION)
    superlink, supernode = (template(zone, f"federation-{role}") for role in ("superlink", "supernode"))
    for each, size in ((superlink, 20480), (supernode, 40960)):
        for part in (
            "<CPU_MODEL><MODEL>host-passthrough</MODEL></CPU_MODEL>", "<MACHINE>q35</MACHINE>", "<FIRMWARE>/usr/share/OVMF/OVMF_CODE.fd</FIRMWARE>",
            "<VIRTIO_BLK_QUEUES>auto</VIRTIO_BLK_QUEUES>", '<SCHED_REQUIREMENTS>CLUSTER_ID = "0"</SCHED_REQUIREMENTS>', f"<SIZE>{size}</SIZE>",
            "<DEV_PREFIX>vd</DEV_PREFIX>", "<NETWORK>storage</NETWORK>", "<MODEL>virtio</MODEL>", "<VIRTIO_QUEUES>auto</VIRTIO_QUEUES>",
        ):  # fmt: skip
            assert part in each, each
        assert "GRAPHICS" not in each
    assert "<ONEAPP_FL_GRPC_KEEPALIVE_TIMEOUT>15</ONEAPP_FL_GRPC_KEEPALIVE_TIMEOUT>" in superlink
    assert "SCHED_RANK" in supernode and "SCHED_RANK" not in superlink
    pool = zone.call("one.secgrouppool.info", -2, -1, -1)
    groups = {
        name: (number, sorted(re.findall(r"<RANGE><!\[CDATA\[(\d+)", text)), "192.0.2.0" in text)
        for number, name, text in re.findall(r"<SECURITY_GROUP><ID>(\d+)</ID>.*?<NAME>(.*?)</NAME>(.*?)</SECURITY_GROUP>", pool)
    }
    assert groups["federation-superlink"][1:] == (["22", "9092"], True)
    assert groups["federation-supernode"][1:] == (["22"], True)
    assert f"<SECURITY_GROUPS>{groups['federation-superlink'][0]}</SECURITY_GROUPS>" in superlink
    network = next(each for each in zone.call("one.vnpool.info", -2, -1, -1).split("<VNET>") if "<NAME>private</NAME>" in each)
    assert f"<SECURITY_GROUPS><![CDATA[{groups['federation-supernode'][0]}]]></SECURITY_GROUPS>" in network, "not OpenNebula's own, which lets all in"

    zone.calls.clear()
    _status, output = play("site", flower_deploy_timeout=1, **PRODUCTION)
    assert [call for call in zone.writes if not call.startswith(("POST", "one.vm."))] == [], output

    status, output = play("teardown", **PRODUCTION)
    assert status == 0, output
    assert "federation" not in zone.call("one.secgrouppool.info", -2, -1, -1) + zone.call("one.templatepool.info", -2, -1, -1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"flower_supernode_vm": {"virtio_queues": 0}}, "virtio_queues of a VM: 0 is not valid, expected auto"),
        ({"flower_firewall": {"ssh": []}}, "flower_firewall names ssh, expected fleet_from and ssh_from"),
        ({"flower_superlink_image_app": "Flower"}, "to come from the path /images/superlink and from the marketplace app Flower, expected one of them"),
    ],
)
def test_bad_settings_of_vms_and_images_end_the_run_before_anything_is_made(zone, play, settings, sentence):
    zone.calls.clear()
    status, output = play("site", **settings)
    assert status != 0
    assert sentence in re.sub(r"''", "'", re.sub(r"\s+", " ", output))
    assert zone.calls == []


def test_a_firewall_in_a_network_that_lets_everything_in_is_refused(zone, play):
    zone.call("one.vn.allocate", 'NAME="open"\nVN_MAD="dummy"\nBRIDGE="br2"\nAR=[TYPE="IP4",IP="10.7.0.10",SIZE="9"]', 0)
    zone.calls.clear()
    status, output = play("site", flower_network={"name": "open"}, flower_firewall={})
    assert status != 0
    assert "flower_firewall has no effect in the network open" in re.sub(r"\s+", " ", output)
    assert zone.writes == []


@pytest.mark.parametrize("zone", ["7.4", pytest.param("6.10", marks=pytest.mark.long)], indirect=True)
def test_a_superlink_that_never_gets_ready_is_named_taken_over_and_torn_down(zone, play):
    status, _output = play("site", flower_deploy_timeout=1)
    assert status != 0
    zone.running()
    vm = re.search(r"<ID>(\d+)</ID>", zone.call("one.vmpool.info", -2, -1, -1, -1)).group(1)
    zone.call("one.vm.update", int(vm), 'FL_ERROR="tls_setup_failed"', 1)
    status, output = play("site", flower_deploy_timeout=3600)
    said = re.sub(r"\s+", " ", output)
    assert status != 0
    assert f"VM {vm} RUNNING, READY missing, FL_ERROR is tls_setup_failed" in said and "superlink" in said and "federation" in said
    assert zone.call("one.documentpool.info", -2, -1, -1, 100).count("<DOCUMENT>") == 1

    status, output = play("teardown")
    assert status == 0, output
    for pool in POOLS:
        assert not re.search(r"<ID>", zone.call(f"one.{pool}.info", -2, -1, -1))
    status, output = play("teardown")
    assert status == 0 and changes(output) == 0, output
