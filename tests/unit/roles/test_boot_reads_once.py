# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A boot reads its context, looks for its token and checks the settings once: boot program, playbook, roles and units pass on what was found."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.onegate import context_files
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.channel import open_channel
from ansible_collections.opennebula.flower.tests.support.one_servers import scripted

ROOT = Path(__file__).parents[3]
# Python runs it when it starts, and this test in its own process: every process of the boot writes down its calls.
COUNTING = """
import os
import sys

COUNTED = {"context_files.py": {"_read"}, "contextualization.py": {"check", "check_variables"}}


def count(frame, event, _argument):
    code = frame.f_code
    if event == "call" and code.co_name in COUNTED.get(code.co_filename.rpartition("/")[2], ()):
        with open(os.environ["CALLS"], "a") as calls:
            calls.write(f"{frame.f_locals.get('path', 'check')}\\n")


sys.setprofile(count)
"""
BAKED = {"flower_version": "1.42.0", "flower_runtime": "native", "ml_framework": "sklearn", "edge": False, "image": ""}


class Machine:
    """A VM of one role, whose playbook takes what the context says and writes the settings of the SuperLink's supervisor."""

    def __init__(self, service: ModuleType, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.service, self.root = service, root
        self.context, self.environment = root / "context.sh", root / "one_env"
        self.environment.write_text('export TOKENTXT="secret"\n')
        (root / "bytecode").mkdir()
        (root / "bytecode" / "sitecustomize.py").write_text(COUNTING)
        (root / "baked.json").write_text(json.dumps(BAKED))
        patch.setenv("CALLS", str(root / "calls"))
        patch.setenv("ANSIBLE_CONFIG", "")
        patch.setattr(context_files, "CONTEXT_FILES", (str(self.context), str(self.environment)))
        patch.setattr(service, "read_token", functools.partial(context_files.read_token, environment=str(self.environment)))
        for name in ("FOUND", "TOKEN", "LOCK"):
            patch.setattr(service, name, root / name)
        for name in ("APPLIANCE", "LOGS"):
            patch.setattr(service, name, root)
        patch.setattr(service, "BOOT_LOG", root / "boot.log")
        patch.setattr(service, "COLLECTIONS", ROOT)
        patch.setattr(service, "RUNNER", ROOT / "roles/flower_appliance/files/runner.py")
        patch.setattr(service, "BYTECODE", root / "kept")
        patch.setattr(service, "PLAYBOOK", root / "play.yml")
        patch.setattr(service.unchanged, "RECORD", root / "record" / "bootstrap")
        patch.setattr(service.unchanged, "PROGRAMS", ())
        patch.setattr(service.unchanged, "SETTINGS", ())
        patch.setattr(sys, "argv", ["service", "bootstrap"])

    def boot(self, role: str, url: str, **parameters: str) -> Counter[str]:
        """Boot with these parameters, OneGate being at the URL; return how often each file was read, and "check" how often settings were checked."""
        texts = {"VMID": "7", "ETH0_IP": "10.0.0.5", "ONEGATE_ENDPOINT": url, **{f"ONEAPP_FL_{name}": value for name, value in parameters.items()}}
        self.context.write_text("".join(f"{name}='{value}'\n" for name, value in texts.items()))
        (self.root / "role").write_text(f"{role}\n")
        self._write_play(role)
        (self.root / "calls").write_text("")
        specification = importlib.util.spec_from_file_location("counting", self.root / "bytecode" / "sitecustomize.py")
        try:
            specification.loader.exec_module(importlib.util.module_from_spec(specification))
            status = self.service.main()
        finally:
            sys.setprofile(None)
        assert status == 0, (self.root / "flower-ansible.log").read_text()
        return Counter(Path(line).name for line in (self.root / "calls").read_text().splitlines())

    def _write_play(self, role: str) -> None:
        """Write a play with the variables of the appliance's own that takes the context as that does."""
        (own,) = yaml.safe_load((ROOT / "playbooks" / "appliance.yml").read_text())
        tasks: list[dict[str, Any]] = [{"ansible.builtin.import_tasks": str(ROOT / "playbooks/tasks/appliance/context.yml")}]
        if role == "superlink":
            superlink = ROOT / "roles" / "flower_superlink"
            probe = self.root / "roles" / "probe"
            (probe / "tasks").mkdir(parents=True, exist_ok=True)
            for name in ("defaults", "vars", "templates"):
                if not (probe / name).exists():
                    (probe / name).symlink_to(superlink / name)
            template = {"src": "supervisor.json.j2", "dest": str(self.root / "supervisor.json"), "mode": "0600"}
            (probe / "tasks" / "main.yml").write_text(json.dumps([{"ansible.builtin.template": template}]))
            tasks.append({"ansible.builtin.include_role": {"name": "probe"}})
        own["vars"] |= {"appliance_role": role, "appliance_baked": BAKED}
        (self.root / "play.yml").write_text(json.dumps([{**own, "tasks": tasks}]))


@pytest.fixture
def machine(service: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(service, tmp_path, monkeypatch)


ONCE = Counter({"context.sh": 1, "one_env": 1, "check": 1})


def test_a_superlink_boots_and_its_supervisor_has_run_and_token(machine: Machine) -> None:
    assert machine.boot("superlink", "http://127.0.0.1:9", USE_CASE="digits", NUM_ROUNDS="7") == ONCE
    settings = json.loads((machine.root / "supervisor.json").read_text())
    assert settings["initial_run"]["config"]["num-server-rounds"] == 7
    # Opening it reads the token where the boot program left it: the guest agent left none on this machine.
    open_channel(settings["onegate"])
    assert Path(settings["onegate"]["token_file"]).read_text() == "secret"


def test_a_node_waits_for_its_superlink_and_boots(machine: Machine) -> None:
    with scripted((200, "")) as superlink:
        address = f"127.0.0.1:{superlink.server_port}"
        assert machine.boot("supernode", "http://127.0.0.1:9", SUPERLINK_ADDRESS=address, TLS_ENABLED="NO") == ONCE


def test_a_restart_in_which_something_changed_boots_with_what_it_compared(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.boot("superlink", "http://127.0.0.1:9")
    assert machine.boot("superlink", "http://127.0.0.1:9") == ONCE
    assert "this VM is configured: the server certificate ends within a day" in capsys.readouterr().out
