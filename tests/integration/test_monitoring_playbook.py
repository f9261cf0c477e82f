# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""monitoring.yml for an inventory with zones and existing machines: who is scraped. Molecule has the machine that it sets up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.opennebula.flower.tests.support.zones import Zones, open_zones

METRICS = {"flower_metrics_enabled": True}
JENA = {"ansible_host": "192.0.2.5", "flower_metrics_port": 9200, "flower_metrics_certfile": "a certificate"}
MACHINES = {"jena": JENA, "faro": {}, "quiet": {"flower_metrics_enabled": False}, "gone": {"zone_state": "absent"}}
TARGETS = [
    {"targets": ["192.0.2.5:9200"], "labels": {"zone": "jena", "name": "jena", "role": "edge", "__scheme__": "https"}},
    {"targets": ["faro:9101"], "labels": {"zone": "faro", "name": "faro", "role": "edge"}},
]


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    with open_zones(tmp_path_factory.mktemp("zones"), {"cloud": "7.4"}) as opened:
        yield opened


def export(zones: Zones, directory: Path, *arguments: str, **shared: object) -> tuple[int, str]:
    return zones.play("-e", f"flower_monitoring_export={directory}", *arguments, playbook="monitoring", shared=METRICS | shared, machines=MACHINES)


def test_machines_that_offer_metrics_are_in_a_file_that_prometheus_reads(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path)
    assert status == 0, output
    assert json.loads((tmp_path / "flower-machines.json").read_text()) == TARGETS
    jobs = yaml.safe_load((tmp_path / "scrape.yml").read_text())["scrape_configs"]
    assert all(job["file_sd_configs"][0]["files"] == ["/var/lib/flower-targets/*.json", "/etc/prometheus/flower-machines.json"] for job in jobs)

    status, output = export(zones, tmp_path)
    assert status == 0, output
    assert "changed=0" in output


def test_a_dry_run_writes_nothing(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path / "files", "--check")
    assert status == 0, output
    assert not (tmp_path / "files").exists()


def test_machines_that_are_named_take_the_place_of_those_of_the_inventory(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path, flower_monitoring_machines=[{"name": "other", "address": "2001:db8::7"}])
    assert status == 0, output
    (target,) = json.loads((tmp_path / "flower-machines.json").read_text())
    assert target["targets"] == ["[2001:db8::7]:9101"]


def test_what_is_wrong_with_a_machine_is_said(zones: Zones, tmp_path: Path) -> None:
    status, output = export(zones, tmp_path, flower_metrics_port=80)
    assert status != 0
    assert "flower_monitoring_machines: machine 'faro': port 80 is not valid, expected a number from 1024 to 65535" in output


def test_machines_are_no_zones_that_are_asked(zones: Zones) -> None:
    # All settings are judged before the machine is contacted, which does not answer.
    watch = {"ansible_host": "127.0.0.1", "ansible_port": 9}
    status, output = zones.play(playbook="monitoring", shared=METRICS, machines=MACHINES, groups={"monitoring": {"watch": watch}})
    assert status != 0, output
    assert "unreachable=1 failed=0" in output, output


VM = {"template": "debian", "network": "public", "cpu": 0.5, "memory": 256, "ssh_public_key": "ssh-ed25519 AAAA operator", "timeout": 2}


@pytest.fixture(scope="module")
def cloud(zones: Zones) -> Zones:
    """A zone with a VM template and a virtual network of the operator's; its VMs do not let Ansible in, for they boot nothing."""
    call = zones.zones["cloud"].call
    call("one.template.allocate", 'NAME="debian"\nCPU="0.1"\nMEMORY="64"\nCONTEXT=[NETWORK="YES"]')
    call("one.vn.allocate", 'NAME="public"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="127.9.9.1",SIZE="2"]', -1)
    return zones


def monitored(zones: Zones) -> list[dict]:
    """The VMs of that name."""
    return [vm for vm in zones.zones["cloud"].zone.core.store.all("vm") if vm["state"] != 6 and vm["name"] == "flower-monitoring"]


def with_vm(zones: Zones, *arguments: str, **changed: object) -> tuple[int, str]:
    return zones.play(*arguments, playbook="monitoring", shared=METRICS | {"flower_monitoring_vm": VM | changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"template": ""}, "flower_monitoring_vm: 'template' is missing, the VM template that it is made from"),
        ({"zone": "nowhere"}, "flower_monitoring_vm: 'zone' is \"nowhere\", expected one of the inventory: cloud"),
        ({"disk": 3}, 'flower_monitoring_vm: "disk" is not known, expected some of: cpu, memory, name,'),
        ({"state": "off"}, "flower_monitoring_vm: 'state' is \"off\", expected present or absent"),
    ],
)
def test_a_vm_that_cannot_be_meant_is_refused(cloud: Zones, changed: dict[str, object], said: str) -> None:
    status, output = with_vm(cloud, **changed)
    assert status != 0
    assert said in output
    assert cloud.writes() == {}


def test_a_dry_run_makes_no_vm(cloud: Zones) -> None:
    status, output = with_vm(cloud, "--check")
    assert status == 0, output
    assert "changed=1" in output
    assert monitored(cloud) == []


def test_the_machine_is_a_vm_that_is_made_once_and_is_set_up_over_ssh(cloud: Zones) -> None:
    for changed in (1, 0):
        status, output = with_vm(cloud)
        # It boots nothing, so it is waited for at its address, as long as the operator says.
        assert status != 0
        assert "ssh: connect to host 127.9.9.1 port 22" in output, output
        assert f"changed={changed} unreachable=0 failed=0" in output, output
        (vm,) = monitored(cloud)
    assert (vm["template"]["CPU"], vm["template"]["MEMORY"]) == ("0.5", "256")
    assert vm["template"]["CONTEXT"]["SSH_PUBLIC_KEY"] == VM["ssh_public_key"]


def test_the_vm_is_terminated_when_it_is_not_wanted_any_more(cloud: Zones) -> None:
    status, output = with_vm(cloud, state="absent")
    assert status == 0, output
    assert monitored(cloud) == []
