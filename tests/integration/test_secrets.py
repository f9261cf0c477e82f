# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""No document of the server shows a secret to people: not in facts, differences, errors, warnings or what Ansible logs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import encode
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import ServerModule
from ansible_collections.opennebula.flower.tests.support.one_servers import failure, scripted
from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone, run_module

OLD, NEW = "former-s3cret", "new-s3cret"


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        context = {"PASSWORD": OLD, "TOKEN": True, "NOTE": "n"}
        zone.changed("one_template", name="thing", template={"CPU": 0.01, "MEMORY": 1, "CONTEXT": context})
        zone.changed("one_vm", name="thing", vm_template="thing", template={"DB_PASSWORD": OLD, "NESTED": {"API_KEY": OLD}})
        yield zone


def check_silent(result: dict) -> dict:
    assert not result.get("failed"), result
    for secret in (OLD, NEW):
        assert secret not in json.dumps(result)
    return result


def test_a_difference_of_a_vm_says_that_its_password_changes(zone):
    wanted = {"name": "thing", "vm_template": "thing", "template": {"DB_PASSWORD": NEW, "NESTED": {"API_KEY": NEW}}}
    result = check_silent(zone.run("one_vm", check=True, **wanted))
    assert "the former one" in json.dumps(result["diff"]["before"]) and "a new one" in json.dumps(result["diff"]["after"])
    assert result["changed"] is True


@pytest.mark.parametrize("template", [
    {"CONTEXT": {"PASSWORD": NEW}}, {"USER_INPUTS": {"WORDS": f"O|password|The words||{NEW}"}}, f'CONTEXT=[PASSWORD="{NEW}"]',
    {"NOTE": f'PASSWORD="{NEW}"'},
])
def test_neither_a_template_nor_the_options_of_its_task_show_a_secret(zone, template):
    check_silent(zone.run("one_template", check=True, name="thing", template=template))
    check_silent(zone.run("one_template", check=True, name="thing", template=template, update="replace"))
    check_silent(zone.run("one_template", check=True, name="new", template=template))


def test_a_list_of_vms_shows_no_secret_and_all_else(zone):
    attributes = check_silent(zone.run("one_vm_info"))["vms"][0]["attributes"]
    assert attributes["DB_PASSWORD"] == attributes["NESTED"]["API_KEY"] == "********"


def test_neither_lists_nor_differences_show_the_token_of_artifacts_or_what_else_is_encoded(zone):
    artifacts = encode(json.dumps({"first": {"token": OLD, "files": [["model.npz", 5, "0" * 64]]}}))
    script = base64.b64encode(f"export DB_PASSWORD={OLD}\n".encode()).decode()
    zone.changed("one_template", name="encoded", template={"CPU": 0.01, "MEMORY": 1, "FL_ARTIFACTS": artifacts, "START_SCRIPT_BASE64": script})
    for module, options in (
        ("one_template", {"name": "encoded", "template": {"NOTE": 1}}),
        ("one_template", {"name": "encoded", "template": {"FL_ARTIFACTS": "-", "START_SCRIPT_BASE64": script + "IA=="}}),
    ):
        result = check_silent(zone.run(module, check=True, **options))
        assert artifacts not in json.dumps(result) and script not in json.dumps(result)
        assert result["changed"] is True


def test_what_the_server_repeats_in_an_error_has_no_secret_in_it():
    text = f'[one.vm.updateconf] Error parsing: CONTEXT = [ NOTE = "a$", PASSWORD = "{OLD}" ]. syntax error, unexpected $end.'
    for message in (text, f'[one.vm.updateconf] Cannot use PASSWORD="{OLD}"', f"[one.vm.updateconf] <PASSWORD>{OLD}</PASSWORD>"):
        with scripted(failure(2048, message)) as server:
            result = run_module("one_vm_info", {"api_url": f"{server.url}/RPC2", "api_username": "u", "api_password": "long-enough"})
        assert result["failed"] and OLD not in json.dumps(result)
    with scripted(failure(2048, text)) as server:
        result = run_module("one_vm_info", {"api_url": f"{server.url}/RPC2", "api_username": "u", "api_password": "long-enough"})
    assert "Error parsing what has a $ in it, NOTE: syntax error, unexpected $end" in result["msg"]


def test_a_short_password_is_hidden_and_leaves_all_other_text_alone(zone):
    options = {**zone.options, "api_password": "e"}
    result = run_module("one_vm_info", options)
    assert result["error"]["kind"] == "authentication"
    assert result["msg"].endswith("does not accept the password of user oneadmin.")
    assert result["invocation"]["module_args"]["api_password"] == "********"


def test_what_ansible_logs_of_a_task_has_no_secret_in_it(zone, monkeypatch):
    logged = []
    monkeypatch.setattr(ServerModule, "log", lambda self, message, log_args=None: logged.append((message, log_args)))
    zone.run("one_template", check=True, name="thing", template={"CONTEXT": {"PASSWORD": NEW, "NOTE": "shown"}})
    assert NEW not in str(logged) and "shown" in str(logged)
