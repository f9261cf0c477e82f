# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The program that runs an appliance's life cycle, against a small OneGate."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from ansible_collections.opennebula.flower.tests.support.one_servers import scripted


@pytest.fixture(autouse=True)
def check(service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A health check that passes at its third try."""
    check = tmp_path / "health-check"
    check.write_text(f"#!/bin/sh\necho tried >>{tmp_path}/tries\n[ $(wc -l <{tmp_path}/tries) -gt 2 ] || {{ echo not yet; exit 1; }}\n")
    check.chmod(0o755)
    monkeypatch.setattr(service, "HEALTH_CHECK", str(check))
    monkeypatch.setattr(service, "READY_PAUSE", 0.01)


def context(url: str, service: ModuleType, **more: str) -> dict[str, str]:
    own = {"REPORT_READY": "YES", "READY_SCRIPT_PATH": service.HEALTH_CHECK}
    return {"ONEGATE_ENDPOINT": url, "VMID": "7", "ONEGATE_TOKEN": "secret", **own, **more}


def test_ready_is_reported_as_soon_as_the_health_check_passes(service: ModuleType, tmp_path: Path) -> None:
    with scripted((500, "restarting"), (200, "")) as gate:
        service.report_ready(context(gate.url, service))
    assert [(method, path, body) for method, path, body, _headers in gate.requests] == [("PUT", "/vm", b"READY=YES")] * 2
    assert {name.upper(): value for name, value in gate.requests[-1][3].items()}["X-ONEGATE-TOKEN"] == "secret"
    assert (tmp_path / "tries").read_text().count("tried") == 4


@pytest.mark.parametrize("more", [{"REPORT_READY": "NO"}, {"READY_SCRIPT": "true"}, {"READY_SCRIPT_PATH": "/usr/local/bin/my-check"}])
def test_ready_is_not_reported_when_nobody_asked_or_the_context_has_its_own_check(service: ModuleType, more: dict[str, str]) -> None:
    with scripted((200, "")) as gate:
        service.report_ready(context(gate.url, service, **more))
    assert gate.requests == []


def test_a_refused_token_ends_the_report_with_the_reason(service: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted((401, "no")) as gate:
        service.report_ready(context(gate.url, service))
    assert len(gate.requests) == 1
    assert "READY could not be reported: OneGate at" in capsys.readouterr().err


def test_an_appliance_that_never_gets_healthy_says_so(
    service: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "HEALTH_CHECK", "/bin/false")
    monkeypatch.setattr(service, "READY_SECONDS", 0.05)
    with scripted((200, "")) as gate:
        service.report_ready(context(gate.url, service))
    assert gate.requests == []
    assert "READY could not be reported: /bin/false" in capsys.readouterr().err


def test_another_try_withdraws_what_the_last_boot_said_of_its_failure(service: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted((200, "")) as gate:
        service.withdraw_failure(context(gate.url, service))
        assert [(method, path, body) for method, path, body, _headers in gate.requests] == [("PUT", "/vm?type=2", b"FL_ERROR")]
    with scripted((500, "no such attribute")) as gate:
        service.withdraw_failure(context(gate.url, service))
    service.withdraw_failure({})
    assert capsys.readouterr().err.count("the failure of the last boot could not be withdrawn: ") == 2


def test_the_playbook_runs_with_kept_byte_code_and_nothing_of_the_context_that_steers_it(
    service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playbook = tmp_path / "ansible-playbook"
    playbook.write_text("#!/bin/sh\nenv\n")
    playbook.chmod(0o755)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$1"\nshift\nexec "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(service.sys, "executable", str(python))
    monkeypatch.setattr(service, "LOGS", tmp_path)
    for name in ("PYTHONPATH", "KEPT_BYTECODE", "ANSIBLE_CONFIG"):
        monkeypatch.setenv(name, "/foreign")
    for name in ("FOUND", "TOKEN"):
        monkeypatch.setattr(service, name, tmp_path / name)
    monkeypatch.setattr(service, "read_context", lambda: ({"VMID": "7", "PYTHONSTARTUP": "/foreign", "ONEGATE_TOKEN": "secret"}, "context.sh"))
    assert service.run_playbook("bootstrap", service.Context("superlink")) == 0
    lines = (tmp_path / "flower-ansible.log").read_text().splitlines()
    assert lines[0] == "/etc/one-appliance/runner.py"
    assert {"PYTHONPATH=/etc/one-appliance/bytecode", "KEPT_BYTECODE=/var/cache/one-appliance", "VMID=7"} <= set(lines)
    assert [line for line in lines if "/foreign" in line or "secret" in line] == []
    assert (tmp_path / "TOKEN").read_text() == "secret" and (tmp_path / "TOKEN").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "FOUND").exists(), "what was found in the context stays no longer than the playbook"


def test_a_boot_is_rehearsed_once_for_the_files_that_are_there(
    service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho $FLOWER_STEP >>{tmp_path}/rehearsals\nmkdir -p "$FLOWER_BOOT_MODULES"\n')
    python.chmod(0o755)
    module = tmp_path / "collections/ansible_collections/opennebula/flower/plugins/modules/one_context.py"
    module.parent.mkdir(parents=True)
    module.write_text("first = 1\n")
    (tmp_path / "role").write_text("superlink\n")
    places = {"APPLIANCE": tmp_path, "LOGS": tmp_path, "BYTECODE": tmp_path / "kept", "COLLECTIONS": tmp_path / "collections"}
    for name, value in {**places, "FOUND": tmp_path / "found", "TOKEN": tmp_path / "token"}.items():
        monkeypatch.setattr(service, name, value)
    monkeypatch.setattr(service.sys, "executable", str(python))
    assert [service.rehearse(), service.rehearse()] == [0, 0]
    assert (tmp_path / "rehearsals").read_text() == "rehearse\n" and capsys.readouterr().out == "rehearsed\n"
    module.write_text("second = 22\n")
    assert service.rehearse() == 0 and (tmp_path / "rehearsals").read_text() == "rehearse\n" * 2


@pytest.mark.parametrize(("given", "there", "asked"), [
    ({"VMID": "7", "ONEAPP_FL_TUNNEL_NETWORK": "10.10.9.0/24"}, False, "start --no-block one-appliance-tunnel.service one-appliance-tunnel.timer"),
    ({"VMID": "7", "ONEAPP_FL_TUNNEL_NETWORK": " "}, True, "stop one-appliance-tunnel.timer wg-quick@flower0.service"),
    ({"VMID": "7"}, False, ""),
    ({}, True, ""),
])  # fmt: skip
def test_a_tunnel_is_looked_after_where_the_context_asks_for_one(
    service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], there: bool, asked: str
) -> None:
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "asked").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(service, "TUNNEL_LINK", tmp_path if there else tmp_path / "missing")
    service.look_after_tunnel(given)
    assert (tmp_path / "asked").read_text().strip() == asked


def test_a_boot_whose_ansible_did_not_start_failed_in_no_stage(service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BOOT_LOG", tmp_path / "boot.log")
    service.BOOT_LOG.touch()
    assert service.failed_stage() == ""
