# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Module one_context, run as Ansible runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = "ansible_collections.opennebula.flower.plugins.modules.one_context"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----"


def run(context: Path, role: str = "superlink", **options: Any) -> dict[str, Any]:
    arguments = {"role": role, "context_file": str(context), "environment_file": "/nonexistent/one_env", **options}
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return tmp_path / "context.sh"


def test_returns_typed_values(context: Path) -> None:
    context.write_text("ONEAPP_FL_NUM_ROUNDS='7'\nONEAPP_FL_USE_CASE='digits'\nETH0_IP='10.0.0.1'\n")
    result = run(context)
    assert result["values"]["flower_num_rounds"] == 7
    assert result["values"]["flower_tls_enabled"] is True
    assert result["values"]["flower_use_case"] == "digits"
    assert result["source"] == str(context)
    assert result["changed"] is False


def test_fails_with_every_problem(context: Path) -> None:
    context.write_text("ONEAPP_FL_NUM_ROUNDS='0'\nONEAPP_FL_DCGM_ENABLED='maybe'\n")
    result = run(context)
    assert result["failed"] is True
    assert len(result["errors"]) == 2
    assert all(error in result["msg"] for error in result["errors"])


def test_secrets_are_returned_only_when_asked_for(context: Path) -> None:
    context.write_text(f"ONEAPP_FL_TLS_ENABLED='NO'\nONEAPP_FL_SSL_KEYFILE='{KEY}'\n")
    assert "MIIsecret" not in json.dumps(run(context))
    secrets = run(context, include_secrets=True)["secret_values"]
    assert secrets == {"flower_ssl_keyfile": f"{KEY}\n", "flower_s3_secret_key": "", "flower_metrics_keyfile": "", "flower_metrics_auth": ""}


def test_warnings_and_what_is_ignored(context: Path) -> None:
    context.write_text("ONEAPP_FL_TLS_ENABLED='NO'\nONEAPP_FL_MAX_RETRIES='5'\n")
    result = run(context)
    assert "not encrypted" in str(result["warnings"])
    assert result["ignored"] == ["ONEAPP_FL_MAX_RETRIES is ignored: it does not apply to a superlink"]


def test_says_when_there_is_no_context(tmp_path: Path) -> None:
    assert "the context of this VM cannot be read" in run(tmp_path / "missing")["msg"]


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [
        *((endpoint, 1) for endpoint in ("http://10.0.0.1:5030", "HTTP://onegate", "http://[fd00::1]:5030")),
        *((endpoint, 0) for endpoint in ("https://10.0.0.1", "http://127.0.0.1:5030", "http://[::1]", "http://[", "")),
    ],
)
def test_warns_once_of_an_onegate_that_carries_tokens_in_the_open(context: Path, endpoint: str, warned: int) -> None:
    context.write_text(f"ONEGATE_ENDPOINT='{endpoint}'\n")
    warnings = run(context).get("warnings", [])
    assert [warning for warning in warnings if "travel unencrypted" in str(warning) and endpoint in str(warning)] == warnings
    assert len(warnings) == warned
