# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Flower releases: images and command lines."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower import releases


def test_the_default_release_is_supported() -> None:
    assert releases.release(releases.DEFAULT_VERSION).transport == "http"


def test_an_unsupported_release_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"Flower 1\.25\.0 is not supported, expected one of: 1\.41\.0"):
        releases.image("1.25.0", "superlink")


def test_images_are_not_the_alpine_ones() -> None:
    assert releases.image("1.42.0", "supernode") == "flwr/supernode:1.42.0-py3.13-ubuntu24.04"


def test_a_superlink_behind_a_gateway() -> None:
    assert releases.superlink_command("1.42.0", port=18000, database="state/state.db") == [
        "flower-superlink", "--host", "127.0.0.1", "--port", "18000", "--insecure", "--isolation", "subprocess",
        "--disable-runtime-dependency-installation", "--database", "state/state.db",
    ]  # fmt: skip


def test_a_superlink_with_certificates_of_its_own() -> None:
    paths = {"ca": "ca.crt", "certificate": "server.pem", "key": "server.key"}
    command = releases.superlink_command("1.42.0", host="0.0.0.0", certificates=paths)
    assert "--insecure" not in command
    for flag, path in (
        ("--ssl-ca-certfile", "ca.crt"),
        ("--ssl-certfile", "server.pem"),
        ("--ssl-keyfile", "server.key"),
    ):
        assert command[command.index(flag) + 1] == path


def test_no_limit_on_attempts_means_no_flag() -> None:
    command = releases.supernode_command("1.42.0", "10.0.0.1:9092", max_retries=0, max_wait_time=0)
    assert "--max-retries" not in command
    assert "--max-wait-time" not in command


def test_limits_are_passed_on() -> None:
    command = releases.supernode_command("1.42.0", "10.0.0.1:9092", max_retries=3, max_wait_time=60)
    assert command[command.index("--max-retries") + 1] == "3"
    assert command[command.index("--max-wait-time") + 1] == "60"


def test_a_node_is_either_insecure_or_has_a_trust_anchor() -> None:
    assert "--insecure" in releases.supernode_command("1.42.0", "10.0.0.1:9092")
    secure = releases.supernode_command("1.42.0", "10.0.0.1:9092", root_certificates="ca.crt")
    assert "--insecure" not in secure
    assert secure[secure.index("--root-certificates") + 1] == "ca.crt"


def test_settings_of_a_node_are_quoted_for_flower() -> None:
    config = {"partition-id": 0, "site": "two words"}
    command = releases.supernode_command("1.42.0", "10.0.0.1:9092", node_config=config)
    assert command[command.index("--node-config") + 1] == 'partition-id=0 site="two words"'


def test_a_superexec_shows_the_secret_of_the_program_beside_it() -> None:
    assert releases.superexec_command("1.42.0", "supernode", secret="/secret") == [
        "flower-superexec", "--runtime-api-address", "127.0.0.1:9094", "--insecure", "--superexec-auth-secret-file", "/secret",
    ]  # fmt: skip
    assert releases.superexec_command("1.42.0", "superlink", port=18000, root_certificates="/ca.crt") == [
        "flower-superexec", "--runtime-api-address", "127.0.0.1:18000", "--root-certificates", "/ca.crt",
    ]  # fmt: skip
    assert "--superexec-auth-secret-file" in releases.supernode_command("1.42.0", "a:1", isolation="process", superexec_secret="/secret")
    with pytest.raises(ValueError, match="there is no SuperExec for 'app', expected one of: superlink, supernode"):
        releases.superexec_command("1.42.0", "app")
