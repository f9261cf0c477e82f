# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Prometheus and Alertmanager from archives, one from a mirror and one on the machine. The tests build on each other."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from checkpoint_machine import MACHINE, Outcome, machine
from conftest import PYTHON, player

from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

PLAYBOOK = f"""
- hosts: all
  gather_facts: false
  vars: {{ansible_python_interpreter: {PYTHON}}}
  roles: [opennebula.flower.flower_monitoring]
"""
MIRROR = "http://127.0.0.1:8000"
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode())"
PROGRAMS = {"prometheus": {"prometheus": "prometheus", "promtool": "promtool"}, "alertmanager": {"alertmanager": "prometheus-alertmanager", "amtool": "amtool"}}
Play = Callable[..., Outcome]


class Archive(NamedTuple):
    """A file as the projects publish it."""

    path: Path
    checksum: str


def archive(directory: Path, name: str, release: str) -> Archive:
    """Make one of the programs of this machine."""
    path, top = directory / f"{name}-{release}.linux-amd64.tar.gz", f"{name}-{release}.linux-amd64"
    (directory / "NOTICE").write_text(release)
    with tarfile.open(path, "w:gz", compresslevel=1) as packed:
        packed.add(directory / "NOTICE", f"{top}/NOTICE")
        for program, here in PROGRAMS[name].items():
            found = shutil.which(here)
            assert found, f"{here} is missing: make monitoring installs it"
            packed.add(found, f"{top}/{program}")
    machine("mkdir", "-p", "/srv/mirror")
    subprocess.run(["docker", "cp", path, f"{MACHINE}:/srv/mirror/"], check=True, capture_output=True)
    return Archive(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def settings(booted: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("archives")
    # Debian's Alertmanager, unlike the project's own, does not carry its templates with it.
    machine("mkdir", "-p", "/usr/share/prometheus")
    subprocess.run(["docker", "cp", "/usr/share/prometheus/alertmanager", f"{MACHINE}:/usr/share/prometheus/"], check=True, capture_output=True)
    prometheus, alertmanager = archive(directory, "prometheus", "1"), archive(directory, "alertmanager", "1")
    machine("systemd-run", "--unit", "mirror", "python3", "-m", "http.server", "8000", "--directory", "/srv/mirror")
    return {
        "flower_monitoring_prometheus_archive": f"{MIRROR}/{prometheus.path.name}",
        "flower_monitoring_prometheus_checksum": prometheus.checksum,
        "flower_monitoring_alertmanager_archive": f"/srv/mirror/{alertmanager.path.name}",
        "flower_monitoring_alertmanager_checksum": alertmanager.checksum,
    }


@pytest.fixture(scope="module")
def play(booted: None, tmp_path_factory: pytest.TempPathFactory) -> Play:
    playbook = tmp_path_factory.mktemp("play") / "monitoring.yml"
    playbook.write_text(PLAYBOOK)
    return player(playbook, everywhere=False)


def installed() -> str:
    return machine("sh", "-c", "readlink /usr/local/bin/prometheus; dpkg-query --show --showformat '${Package} ' 'prometheus*'", check=False).stdout


def answer(port: int) -> str:
    return machine("python3", "-c", ASK, f"http://127.0.0.1:{port}/-/ready", check=False).stdout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"flower_monitoring_prometheus_checksum": ""}, 'flower_monitoring_prometheus_checksum: "" is not the SHA-256 of'),
        ({"flower_monitoring_alertmanager_checksum": "0" * 63}, "flower_monitoring_alertmanager_checksum:"),
        ({"flower_monitoring_alertmanager_archive": "alertmanager.tar.gz"}, "is neither a URL nor the path of a file on the machine"),
        ({"flower_monitoring_grafana_package": f"{MIRROR}/grafana.deb"}, f'flower_monitoring_grafana_checksum: "" is not the SHA-256 of {MIRROR}/grafana.deb'),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_changed(play: Play, settings: dict[str, str], wrong: dict[str, str], said: str) -> None:
    outcome = play(**settings | wrong)
    assert outcome.failed
    assert said in outcome.message
    assert outcome.changed == 0


def test_a_dry_run_installs_nothing(play: Play, settings: dict[str, str]) -> None:
    outcome = play("--check", **settings)
    assert not outcome.failed, outcome.output
    assert outcome.changed > 0
    assert installed() == ""


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_another_archive_is_not_unpacked(play: Play, settings: dict[str, str], name: str) -> None:
    outcome = play("--tags", "install", **settings | {f"flower_monitoring_{name}_checksum": "0" * 64})
    assert outcome.failed
    assert "0" * 64 in outcome.output
    assert machine("find", "/opt/flower-monitoring", "-name", "*000000000000", "-not", "-empty").stdout == ""


def test_both_run_from_their_archives_and_no_package_is_installed(play: Play, settings: dict[str, str]) -> None:
    outcome = play(**settings)
    assert not outcome.failed, outcome.output
    assert installed() == f"/opt/flower-monitoring/prometheus-{settings['flower_monitoring_prometheus_checksum'][:12]}/prometheus\n"
    wait_until(lambda: "Ready" in answer(9090), "Prometheus to answer")
    wait_until(lambda: "OK" in answer(9093), "Alertmanager to answer")
    for unit in ("prometheus", "prometheus-alertmanager"):
        assert machine("systemctl", "show", "--property", "User", "--value", unit).stdout.strip() == "prometheus"
        assert machine("systemctl", "is-enabled", unit).stdout.strip() == "enabled"


def test_a_second_run_changes_nothing(play: Play, settings: dict[str, str]) -> None:
    outcome = play(**settings)
    assert not outcome.failed, outcome.output
    assert outcome.changed == 0, outcome.output


def test_another_release_takes_the_place_of_the_first(play: Play, settings: dict[str, str], tmp_path: Path) -> None:
    newer = archive(tmp_path, "prometheus", "2")
    before = machine("systemctl", "show", "--property", "MainPID", "prometheus").stdout
    outcome = play(
        **settings | {"flower_monitoring_prometheus_archive": f"{MIRROR}/{newer.path.name}", "flower_monitoring_prometheus_checksum": newer.checksum}
    )
    assert not outcome.failed, outcome.output
    assert installed() == f"/opt/flower-monitoring/prometheus-{newer.checksum[:12]}/prometheus\n"
    assert machine("systemctl", "show", "--property", "MainPID", "prometheus").stdout != before
