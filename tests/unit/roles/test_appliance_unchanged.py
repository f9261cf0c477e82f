# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""When an appliance is only started again, and when it is configured anew."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import check
from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.tests.support.one_servers import scripted

CA = "-----BEGIN CERTIFICATE-----\nof the SuperLink\n-----END CERTIFICATE-----\n"
KEY = "ecdsa-sha2-nistp384 AAAA"
PUBLISHED = {"FL_READY": "YES", "FL_ENDPOINT": "10.0.0.5:9092", "FL_VERSION": "1.41.0", "FL_CA_CERT": base64.b64encode(CA.encode()).decode()}
CONTEXT = {"VMID": "7", "ETH0_IP": "10.0.0.5", "ONEGATE_TOKEN": "secret"}


class Appliance:
    """The files of an appliance below a directory, bootstrapped with CONTEXT."""

    def __init__(self, unchanged: ModuleType, root: Path, patch: Callable[[object, str, object], None]) -> None:
        self.unchanged = unchanged
        self.root = root
        for name in ("programs/plugins", "settings", "certs"):
            (root / name).mkdir(parents=True)
        (root / "programs/plugins/module.py").write_text("one")
        (root / "settings/flower-supernode.service").write_text('ExecStart=supernode --superlink "10.0.0.5:9092"\n')
        (root / "certs/ca.crt").write_text(CA)
        (root / "certs/node-vm-7.key.pub").write_text(f"{KEY}\n")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x", "-days", "30",
             "-keyout", root / "certs/server.key", "-out", root / "certs/server.pem"], check=True, capture_output=True,
        )  # fmt: skip
        patch(unchanged, "RECORD", root / "record/bootstrap")
        patch(unchanged, "PROGRAMS", (root / "programs",))
        patch(unchanged, "SETTINGS", ((root / "settings", "*"), (root / "certs", "[!s.]*")))
        patch(unchanged, "CERTIFICATES", root / "certs")
        patch(unchanged, "REGISTRAR_UNIT", root / "settings/flower-registrar.service")
        patch(unchanged, "NODE_UNIT", root / "settings/flower-supernode.service")
        unchanged.remember(CONTEXT)

    def difference(self, role: str = "superlink", superlink: dict | None = None, mine: dict | None = None, **context: str) -> str:
        superlink = PUBLISHED if superlink is None else superlink
        mine = mine or (superlink if role == "superlink" else {"FL_NODE_READY": "YES", "FL_VERSION": "1.41.0", "FL_NODE_KEY": KEY})
        service = {"SERVICE": {"roles": [{"name": "superlink", "nodes": [{"vm_info": {"VM": {"ID": "2", "USER_TEMPLATE": superlink}}}]}]}}
        with scripted((200, json.dumps({"VM": {"ID": "2", "USER_TEMPLATE": mine}})), (200, json.dumps(service))) as gate:
            texts = {**CONTEXT, **context}
            return self.unchanged.difference(texts, role, OneGate(gate.url, 7, "secret"), lambda: check(texts, role).values)


@pytest.fixture
def appliance(unchanged: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Appliance:
    return Appliance(unchanged, tmp_path, monkeypatch.setattr)


@pytest.mark.parametrize("role", ["superlink", "supernode"])
def test_a_vm_as_it_was_is_not_configured_again(appliance: Appliance, role: str) -> None:
    assert appliance.difference(role) == ""


def test_a_changed_context_is_a_difference(appliance: Appliance) -> None:
    assert "changed" in appliance.difference(ONEAPP_FL_NUM_ROUNDS="9")


@pytest.mark.parametrize("file", ["programs/plugins/module.py", "settings/flower-supernode.service", "certs/ca.crt", "settings/flower-new.service"])
def test_a_changed_program_setting_or_certificate_is_a_difference(appliance: Appliance, file: str) -> None:
    (appliance.root / file).write_text("something else")
    assert "changed" in appliance.difference()


def test_a_removed_file_is_a_difference(appliance: Appliance) -> None:
    (appliance.root / "settings/flower-supernode.service").unlink()
    assert "changed" in appliance.difference()


def test_a_renewed_certificate_of_the_server_is_none_and_a_lost_one_is(appliance: Appliance) -> None:
    file = appliance.root / "certs/server.pem"
    file.write_text(file.read_text() + "# renewed\n")
    assert appliance.difference() == ""
    file.unlink()
    assert appliance.difference() == "the server certificate ends within a day"


def test_compiled_programs_are_none(appliance: Appliance) -> None:
    (appliance.root / "programs/plugins/__pycache__").mkdir()
    (appliance.root / "programs/plugins/__pycache__/module.pyc").write_text("x")
    assert appliance.difference() == ""


@pytest.mark.parametrize("name", ["ONEAPP_FL_GPU_ENABLED", "ONEAPP_FL_CHECKPOINT_DISK"])
def test_gpus_and_disks_are_looked_at_again(appliance: Appliance, name: str) -> None:
    context = {name: "YES" if "GPU" in name else "/dev/vdb"}
    appliance.unchanged.remember({**CONTEXT, **context})
    role = "supernode" if "GPU" in name else "superlink"
    assert "is set" in appliance.difference(role, **context)


def test_a_server_certificate_in_its_last_day_is_a_difference(appliance: Appliance) -> None:
    certificate = appliance.root / "certs/server.pem"
    subprocess.run(["openssl", "req", "-x509", "-key", appliance.root / "certs/server.key", "-subj", "/CN=x", "-days", "1", "-out", certificate],
                   check=True, capture_output=True)  # fmt: skip
    appliance.unchanged.remember(CONTEXT)
    assert appliance.difference() == "the server certificate ends within a day"


@pytest.mark.parametrize("published", [
    {**PUBLISHED, "FL_READY": "NO"}, {**PUBLISHED, "FL_ERROR": "boot_failed"}, {**PUBLISHED, "FL_ENDPOINT": "10.0.0.9:9092"},
    {**PUBLISHED, "FL_CA_CERT": "Zm9yZWlnbg=="}, {**PUBLISHED, "FL_CA_CERT": "?"}, {}, {"FL_READY": "YES"},
])
def test_a_superlink_that_onegate_does_not_show_as_it_is_publishes_itself_anew(appliance: Appliance, published: dict) -> None:
    assert appliance.difference(superlink=published) != ""


@pytest.mark.parametrize("superlink", [
    {**PUBLISHED, "FL_READY": "NO"}, {**PUBLISHED, "FL_ENDPOINT": "10.0.0.9:9092"}, {**PUBLISHED, "FL_ENDPOINT": "10.0.0.5:90"},
    {**PUBLISHED, "FL_VERSION": "1.40.0"}, {**PUBLISHED, "FL_CA_CERT": "Zm9yZWlnbg=="}, {},
])
def test_a_node_looks_for_its_superlink_again_when_that_is_another_one(appliance: Appliance, superlink: dict) -> None:
    assert appliance.difference("supernode", superlink=superlink) != ""


def test_a_node_that_was_not_ready_is_configured_again(appliance: Appliance) -> None:
    assert appliance.difference("supernode", mine={"FL_NODE_READY": "NO"}) != ""


@pytest.mark.parametrize("key", [{}, {"FL_NODE_KEY": "ecdsa-sha2-nistp384 BBBB"}])
def test_a_node_whose_key_onegate_does_not_show_publishes_it_anew(appliance: Appliance, key: dict) -> None:
    assert "key" in appliance.difference("supernode", mine={"FL_NODE_READY": "YES", "FL_VERSION": "1.41.0", **key})


def test_a_node_that_still_uses_the_key_of_before_is_configured_again(appliance: Appliance) -> None:
    context = {"ONEAPP_FL_NODE_KEY_RENEWAL": "3"}
    (appliance.root / "certs/node-vm-7-3.key.pub").write_text("ecdsa-sha2-nistp384 CCCC\n")
    appliance.unchanged.remember({**CONTEXT, **context})
    for key, difference in ((KEY, "OneGate says something else about the key of this VM"), ("ecdsa-sha2-nistp384 CCCC", "")):
        assert appliance.difference("supernode", mine={"FL_NODE_READY": "YES", "FL_VERSION": "1.41.0", "FL_NODE_KEY": key}, **context) == difference


def test_a_node_whose_key_was_revoked_is_configured_again(appliance: Appliance) -> None:
    parts = (b"ecdsa-sha2-nistp384", b"nistp384", b"\x04" + bytes(96))
    key = f"ecdsa-sha2-nistp384 {base64.b64encode(b''.join(len(part).to_bytes(4, 'big') + part for part in parts)).decode()}"
    (appliance.root / "certs/node-vm-7.key.pub").write_text(f"{key}\n")
    appliance.unchanged.remember(CONTEXT)
    mine = {"FL_NODE_READY": "YES", "FL_VERSION": "1.41.0", "FL_NODE_KEY": key}
    for revoked, difference in (("SHA256:another", ""), (read_key(key).fingerprint, "the SuperLink says that the key of this VM was revoked")):
        assert appliance.difference("supernode", {**PUBLISHED, "FL_NODE_KEYS_REVOKED": revoked}, mine) == difference


def test_without_a_record_or_with_an_onegate_that_fails_it_is_configured(appliance: Appliance) -> None:
    gate = OneGate("http://127.0.0.1:9", 7, "secret")
    values = check(CONTEXT, "superlink").values
    assert "127.0.0.1:9" in appliance.unchanged.difference(CONTEXT, "superlink", gate, lambda: values)
    appliance.unchanged.forget()
    assert appliance.difference() != ""


def test_units_that_do_not_start_or_get_healthy_are_told(
    appliance: Appliance, unchanged: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    for name, text in (("systemctl", f'echo "$@" >>{tmp_path}/started'), ("sick", "echo not connected yet; exit 1")):
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setattr(unchanged, "HEALTHY", "true")
    assert unchanged.start("superlink") == ""
    units = ["haproxy.service", "flower-superlink.service", "flower-supervisor.service", "flower-artifacts.service", "flower-certificates.timer"]
    assert (tmp_path / "started").read_text().split() == ["start", *units]
    (appliance.root / "settings/flower-registrar.service").write_text("")
    assert unchanged.start("superlink") == ""
    assert (tmp_path / "started").read_text().endswith("flower-certificates.timer flower-registrar.service\n")
    monkeypatch.setattr(unchanged, "HEALTHY", "sick")
    monkeypatch.setattr(unchanged, "HEALTH_SECONDS", 0)
    assert "not healthy within 0 s: not connected yet" in unchanged.start("supernode")
    (commands / "systemctl").write_text("#!/bin/sh\necho no such unit >&2; exit 5\n")
    assert unchanged.start("supernode") == "no such unit"
