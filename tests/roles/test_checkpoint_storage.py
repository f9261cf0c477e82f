# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The units that copy checkpoints to object storage and back, as systemd runs them, and what an app could make of their rights."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkpoint_machine import MACHINE, machine, machine_log

from ansible_collections.opennebula.flower.tests.support.object_storage import Storage, empty_bucket, server
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until
from lab.engine import host_address

REPOSITORY = Path(__file__).resolve().parents[2]
# All of Python alone, so those of this environment do in the machine's.
CLIENT = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3")
COLLECTION = "/usr/share/ansible/collections/ansible_collections/opennebula/flower"
CHECKPOINTS = "/opt/flower/checkpoints"
UPLOAD, RESTORE = "flower-checkpoint-upload", "flower-checkpoint-restore"
KEY = "first/checkpoint_round_5.npz"
MOST_EXPOSURE = 3.0


def copied(files: dict[str, Path], target: str) -> None:
    """Put files and directories into the machine."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, path in files.items():
            archive.add(path, name)
    subprocess.run(["docker", "cp", "-", f"{MACHINE}:{target}"], input=stream.getvalue(), check=True)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with server(free_port(host_address()), host_address()) as endpoint:
        yield empty_bucket(endpoint)


@pytest.fixture(scope="module")
def configured(play, storage: Storage) -> None:
    """The machine with the units, in which a second run of the role changes nothing."""
    machine("mkdir", "-p", COLLECTION)
    packages = {name: Path(find_spec(name).origin).parent for name in CLIENT}
    copied({**packages, "six.py": Path(find_spec("six").origin)}, "/usr/lib/python3/dist-packages")
    copied({"plugins": REPOSITORY / "plugins"}, COLLECTION)
    settings = {"endpoint": storage.endpoint, "bucket": "models", "access_key": storage.access_key, "secret_key": storage.secret_key}
    wanted = {f"flower_s3_{name}": value for name, value in settings.items()}
    outcome = play(**wanted)
    assert not outcome.failed, outcome.output + machine("journalctl", "--no-pager", "--unit", RESTORE, "--unit", UPLOAD).stdout
    assert play(**wanted).changed == 0


@pytest.fixture
def units(configured: None) -> None:
    """The units, whose upload runs."""
    machine("systemctl", "restart", UPLOAD)


def written(path: str, content: str) -> None:
    machine("runuser", "-u", "app", "--", "sh", "-c", f"mkdir -p $(dirname {path}); printf '{content}' >{path}")


def test_checkpoints_travel_and_keys_and_links_do_not(units: None, storage: Storage) -> None:
    written(f"{CHECKPOINTS}/first/checkpoint_round_1.npz", "soon a link")
    machine("runuser", "-u", "app", "--", "ln", "-sf", "/opt/flower/config/checkpoint-sync.json", f"{CHECKPOINTS}/first/checkpoint_round_1.npz")
    written(f"{CHECKPOINTS}/{KEY}", "model")
    wait_until(lambda: storage.keys() == [KEY], "the upload", shown=machine_log)

    process = machine("systemctl", "show", "--property", "MainPID", "--value", UPLOAD).stdout.strip()
    status = machine("cat", f"/proc/{process}/status").stdout
    assert not re.search(r"^(Uid|Gid):.*\t(0|49999)\t", status, re.MULTILINE), status
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
    settings = "/opt/flower/config/checkpoint-sync.json"
    assert storage.secret_key in machine("cat", settings).stdout
    assert machine("runuser", "-u", "app", "--", "cat", settings, check=False).returncode != 0
    assert machine("runuser", "-u", "flower-upload", "--", "touch", f"{CHECKPOINTS}/first/x", check=False).returncode != 0
    metrics = "/run/flower-checkpoint-upload/metrics.prom"
    wait_until(lambda: "fl_checkpoint_uploaded_total 1\n" in machine("cat", metrics).stdout, "the metrics", shown=machine_log)

    machine("systemctl", "stop", UPLOAD)
    machine("sh", "-c", f"rm -rf {CHECKPOINTS}/*")
    machine("systemctl", "restart", RESTORE)
    assert machine("cat", f"{CHECKPOINTS}/{KEY}").stdout == "model"
    assert machine("stat", "--format", "%u %g", f"{CHECKPOINTS}/{KEY}", f"{CHECKPOINTS}/first").stdout == "49999 49999\n" * 2


def test_nothing_is_restored_through_a_link_of_the_app(units: None, storage: Storage) -> None:
    written(f"{CHECKPOINTS}/{KEY}", "model")
    wait_until(lambda: storage.keys() == [KEY], "the upload", shown=machine_log)
    machine("systemctl", "stop", UPLOAD)
    machine("sh", "-c", f"rm -rf {CHECKPOINTS}/*; mkdir -p /srv/of-root")
    machine("runuser", "-u", "app", "--", "ln", "-s", "/srv/of-root", f"{CHECKPOINTS}/first")
    assert machine("systemctl", "restart", RESTORE, check=False).returncode != 0
    journal = machine("journalctl", "--unit", RESTORE, "--no-pager", "--output", "cat").stdout
    assert f"{CHECKPOINTS}/first is not a directory, so no checkpoint can be put there" in journal and "Traceback" not in journal
    assert machine("stat", "--format", "%u", "/srv/of-root").stdout == "0\n" and machine("ls", "/srv/of-root").stdout == ""
    machine("sh", "-c", f"rm -rf {CHECKPOINTS}/*")


@pytest.mark.parametrize("unit", [UPLOAD, RESTORE, "flower-supervisor", "flower-superlink"])
def test_a_unit_may_do_little_else(units: None, unit: str) -> None:
    judged = machine("systemd-analyze", "security", "--no-pager", f"{unit}.service").stdout
    exposure = float(re.search(r"Overall exposure level for .*: ([0-9.]+)", judged)[1])
    assert exposure <= MOST_EXPOSURE, judged
