# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A node without a CA in its context trusts what OneGate told it first, says what that is worth, and refuses another one."""

from __future__ import annotations

import base64
import getpass
import grp
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).parents[3] / "roles/flower_supernode"
WORTH = "This node trusts the CA certificate that OneGate told it first. Any VM of its service could have written that"
REFUSED = "The SuperLink publishes another CA certificate than the one this node trusted first"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two CA certificates."""
    made = []
    for name in ("own", "foreign"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-days", "30"]
        key = tmp_path_factory.mktemp(name) / "key"
        made.append(subprocess.run([*command, "-keyout", str(key)], capture_output=True, text=True, check=True).stdout)
    return made


def boots(directory: Path, *boots: tuple[str | None, str]) -> list[tuple[str, str]]:
    """Play the tasks for boot after boot, with what OneGate and the context say; return for each the output on one line, and what the node trusts then."""
    text = re.sub(r"\b(owner|group): root\b", r"\1: __\1__", (ROLE / "tasks/tls.yml").read_text())
    tasks = yaml.safe_load(text.replace("__owner__", getpass.getuser()).replace("__group__", grp.getgrgid(os.getgid()).gr_name))
    variables = {
        "flower_supernode_ca": yaml.safe_load((ROLE / "vars/main.yml").read_text())["flower_supernode_ca"], "flower_tls_enabled": True,
        "flower_superlink_address": "",
        "flower_supernode_first_ca_file": str(directory / "first-ca.crt"), "flower_supernode_ca_file": str(directory / "ca.crt"),
    }  # fmt: skip
    played = []
    for published, given in boots:
        told = {"FL_CA_CERT": base64.b64encode(published.encode()).decode()} if published else {}
        of_this = {"flower_supernode_published": told, "flower_ssl_ca_certfile": given}
        played += [
            {"vars": of_this, "block": tasks, "rescue": [{"ansible.builtin.meta": "noop"}]},
            {"name": "END OF BOOT", "ansible.builtin.command": {"argv": ["base64", "--wrap=0", str(directory / "ca.crt")]}, "changed_when": False,
             "register": "now"},
            {"ansible.builtin.debug": {"msg": "TRUSTED {{ now.stdout }} TRUSTED"}},
        ]  # fmt: skip
    handlers = [{"name": "Restart the SuperNode", "ansible.builtin.debug": {"msg": "restarted"}}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": played, "handlers": handlers}
    (directory / "play.yml").write_text(json.dumps([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml", "-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(command, cwd=directory, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, output
    trusted = [base64.b64decode(found).decode() for found in re.findall(r"TRUSTED (\S+) TRUSTED", output)]
    return list(zip(output.split("END OF BOOT"), trusted, strict=False))


def test_the_first_word_of_onegate_is_kept_and_its_worth_is_said(tmp_path: Path, authorities: list[str]) -> None:
    own, foreign = authorities
    first, again, other, silent = boots(tmp_path, (own, ""), (own, ""), (foreign, ""), (None, ""))
    assert WORTH in first[0]
    assert WORTH in again[0] and "changed:" not in again[0]
    assert REFUSED in other[0]
    assert "there is no CA certificate to trust" in silent[0]
    assert [trusted for _output, trusted in (first, again, other, silent)] == [own] * 4


def test_the_context_is_what_no_vm_can_change(tmp_path: Path, authorities: list[str]) -> None:
    own, foreign = authorities
    ((output, trusted),) = boots(tmp_path, (foreign, own))
    assert WORTH not in output
    assert trusted == own
