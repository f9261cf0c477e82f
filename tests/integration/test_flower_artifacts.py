# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""flower_artifacts: the files of a run, from the supervisor's server to this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.facts import vm_info
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import decode, encode
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import ARTIFACTS_ATTRIBUTE
from ansible_collections.opennebula.flower.tests.support.federation import PASSWORD, Federation
from ansible_collections.opennebula.flower.tests.support.one_servers import self_signed

ROOT = Path(__file__).parents[2]
MODEL = bytes(range(256)) * 5000


@pytest.fixture
def trained(federation: Federation) -> Federation:
    def succeed(name: str) -> None:
        (federation.directory / "runs" / name / "model.npz").write_bytes(MODEL)
        federation.succeed(name)

    federation.train = succeed
    federation.supervise()
    assert federation.run()["run"]["status"] == "completed"
    return federation


def fetch(federation: Federation, dest: Path, **options: Any) -> dict[str, Any]:
    result = federation.module("flower_artifacts", **{"dest": str(dest)} | options)
    assert all(record["token"] not in json.dumps(result) for record in offered(federation).values())
    return result


def offered(federation: Federation) -> dict[str, Any]:
    attributes = vm_info(federation.client, federation.vm_id)["USER_TEMPLATE"]
    return json.loads(decode(attributes.get(ARTIFACTS_ATTRIBUTE, "e30")))


def publish(federation: Federation, record: dict[str, Any]) -> None:
    federation.publish(**{ARTIFACTS_ATTRIBUTE: encode(json.dumps({"initial": record}))})


def test_brings_the_model_and_the_events(trained: Federation, tmp_path: Path) -> None:
    result = fetch(trained, tmp_path / "report/initial")
    assert result["changed"] is True
    assert [file["name"] for file in result["files"]] == ["events.jsonl", "model.npz"]
    assert (tmp_path / "report/initial/model.npz").read_bytes() == MODEL
    assert result["files"][1] == {
        "name": "model.npz",
        "path": str(tmp_path / "report/initial/model.npz"),
        "size": len(MODEL),
        "sha256": hashlib.sha256(MODEL).hexdigest(),
    }


def test_a_second_time_nothing_is_fetched(trained: Federation, tmp_path: Path) -> None:
    fetch(trained, tmp_path / "files")
    again = fetch(trained, tmp_path / "files", address="127.0.0.1:1")
    assert again["changed"] is False
    assert again["diff"] == {"before": {}, "after": {}}


def test_a_file_that_was_changed_is_fetched_again(trained: Federation, tmp_path: Path) -> None:
    fetch(trained, tmp_path / "files")
    (tmp_path / "files/model.npz").write_bytes(b"something else")
    assert list(fetch(trained, tmp_path / "files")["diff"]["after"]) == ["model.npz"]
    assert (tmp_path / "files/model.npz").read_bytes() == MODEL


def test_brings_only_what_is_named(trained: Federation, tmp_path: Path) -> None:
    fetch(trained, tmp_path / "files", files=["events.jsonl"])
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["events.jsonl"]
    assert fetch(trained, tmp_path / "files", files=["model.pt"])["msg"] == (
        "Run 'initial' left no file 'model.pt', only: events.jsonl, model.npz."
    )


def test_check_mode_predicts_and_writes_nothing(trained: Federation, tmp_path: Path) -> None:
    result = fetch(trained, tmp_path / "files", check=True)
    assert result["changed"] is True
    assert list(result["diff"]["after"]) == ["events.jsonl", "model.npz"]
    assert not (tmp_path / "files").exists()


def test_check_mode_before_the_training(federation: Federation, tmp_path: Path) -> None:
    assert fetch(federation, tmp_path / "files", check=True)["changed"] is True
    assert fetch(federation, tmp_path / "files", check=True, service="not-there-yet")["changed"] is True


def test_a_run_that_goes_on_has_no_files_yet(federation: Federation, tmp_path: Path) -> None:
    federation.train = federation.linger
    federation.supervise()
    federation.run(state="started")
    assert "has not ended" in fetch(federation, tmp_path / "files")["msg"]
    assert fetch(federation, tmp_path / "files", name="never")["msg"] == "There is no run 'never' of service 'federation'."


def test_a_port_that_cannot_be_reached_is_one_sentence_with_what_to_do(trained: Federation, tmp_path: Path) -> None:
    message = fetch(trained, tmp_path / "files", address="127.0.0.1:1")["msg"]
    assert "127.0.0.1:1" in message and "Connection refused" in message
    assert message.endswith(f"this machine must reach the Fleet port of VM {trained.vm_id}, at 127.0.0.1:1 or at what the option address names.")


def test_the_published_ca_is_trusted_and_no_other(trained: Federation, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    with self_signed(tmp_path / "ours", (200, MODEL)) as (ours, ca), self_signed(tmp_path / "theirs", (200, MODEL)) as (theirs, _ca):
        trained.publish(FL_TLS="YES", FL_CA_CERT=base64.b64encode(ca.read_bytes()).decode().rstrip("="))
        refused = fetch(trained, tmp_path / "files", files=["model.npz"], address=f"127.0.0.1:{theirs.server_port}")
        fetched = fetch(trained, tmp_path / "files", files=["model.npz"], address=f"127.0.0.1:{ours.server_port}")
    assert "has a certificate that is not trusted" in refused["msg"]
    assert theirs.requests == []
    assert fetched["changed"] is True
    assert (tmp_path / "files/model.npz").read_bytes() == MODEL


@pytest.mark.parametrize("tls", ["YES", "NO"])
def test_only_whom_the_given_ca_vouches_for_is_asked_whatever_was_published(trained: Federation, tmp_path: Path, tls: str) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    with self_signed(tmp_path / "ours", (200, MODEL)) as (ours, ca), self_signed(tmp_path / "theirs", (200, MODEL)) as (theirs, forged):
        trained.publish(FL_TLS=tls, FL_CA_CERT=base64.b64encode(forged.read_bytes()).decode(), FL_ENDPOINT=f"127.0.0.1:{theirs.server_port}")
        options = {"files": ["model.npz"], "ca_certificate": ca.read_text()}
        refused = fetch(trained, tmp_path / "files", **options)
        fetched = fetch(trained, tmp_path / "files", **options, address=f"127.0.0.1:{ours.server_port}")
    assert "has a certificate that is not trusted" in refused["msg"] and "the CA in ca_certificate" in refused["msg"]
    assert theirs.requests == []
    assert fetched["changed"] is True


def test_with_a_ca_nothing_is_fetched_without_tls(trained: Federation, tmp_path: Path) -> None:
    with self_signed(tmp_path, (200, MODEL)) as (_ours, ca):
        message = fetch(trained, tmp_path / "files", ca_certificate=ca.read_text())["msg"]
    assert "events.jsonl of run 'initial' cannot be fetched" in message
    assert list((tmp_path / "files").iterdir()) == []


def test_a_ca_that_is_none_is_refused(trained: Federation, tmp_path: Path) -> None:
    assert fetch(trained, tmp_path / "files", ca_certificate="ours")["msg"] == "ca_certificate holds no certificate, expected X.509 in PEM."


def test_train_yml_asks_nobody_but_whom_the_ca_in_the_vm_template_vouches_for(trained: Federation, tmp_path: Path) -> None:
    with self_signed(tmp_path, (200, MODEL)) as (_ours, ca):
        given = base64.b64encode(ca.read_bytes()).decode()
    template = trained.client.call("one.template.allocate", f'NAME="federation-supernode"\nCONTEXT=[ONEAPP_FL_SSL_CA_CERTFILE="{given}"]')
    variables = {
        "one_api_url": trained.zone.xmlrpc_url, "one_oneflow_url": trained.zone.oneflow_url, "one_api_username": "oneadmin", "one_api_password": PASSWORD,
        "flower_service_name": "federation", "flower_supernodes": 2, "flower_supernodes_min": 2, "flower_supernodes_max": 2,
        "flower_run_name": "again", "flower_report_directory": str(tmp_path / "report"),
    }  # fmt: skip
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"children": {"coordinator": {"hosts": {"munich": variables}}}}}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(ROOT / "playbooks/train.yml")]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    finally:
        trained.client.call("one.template.delete", int(template), False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split()).replace("''", "'")
    assert "The training is complete, but its model is not here: events.jsonl of run 'again' cannot be fetched" in said
    assert json.loads((tmp_path / "report/result.json").read_text())["files"] == []
    assert list((tmp_path / "report/again").iterdir()) == []


@pytest.mark.parametrize("check", [False, True])
def test_a_published_size_does_not_fill_the_disk(trained: Federation, tmp_path: Path, check: bool) -> None:
    publish(trained, offered(trained)["initial"] | {"files": [["events.jsonl", 1, "0" * 64], ["model.npz", 3 << 20, "0" * 64]]})
    assert fetch(trained, tmp_path / "files", check=check, max_megabytes=2)["msg"] == (
        "Run 'initial' offers 3145729 bytes with model.npz, expected at most 2 MiB in all, which max_megabytes says."
    )
    assert not (tmp_path / "files").exists()


@pytest.mark.parametrize("attributes", [{"FL_CA_CERT": ""}, {"FL_CA_CERT": "bm90IGEgY2VydGlmaWNhdGU"}])
def test_without_a_ca_nothing_is_fetched(trained: Federation, tmp_path: Path, attributes: dict[str, str]) -> None:
    trained.publish(FL_TLS="YES", **attributes)
    assert "has published no CA certificate" in fetch(trained, tmp_path / "files")["msg"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token": "0" * 64}, "does not offer events.jsonl of run 'initial' (status 404)"),
        ({"files": [["model.npz", len(MODEL), "0" * 64]]}, "model.npz of run 'initial' arrived with"),
        ({"files": [["model.npz", 10, "0" * 64]]}, "sends more than was announced"),
        ({"files": [["../../etc/passwd", 1, "0" * 64]]}, "holds something else than runs"),
        ({"files": "all"}, "holds something else than runs"),
    ],
)
def test_what_does_not_match_what_was_published_is_not_kept(trained: Federation, tmp_path: Path, change: dict, words: str) -> None:
    publish(trained, offered(trained)["initial"] | change)
    result = fetch(trained, tmp_path / "files")
    assert words in result["msg"]
    assert not (tmp_path / "files").exists() or not list((tmp_path / "files").iterdir())
