# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a machine with the role container_engine does."""

import json


def test_engine_answers_and_starts_with_the_machine(host):
    assert host.run("docker version --format '{{.Server.Version}}'").rc == 0
    assert host.service("docker").is_enabled


def test_engine_rotates_container_logs(host):
    settings = json.loads(host.check_output("docker info --format '{{json .LoggingDriver}}'"))
    assert settings == "json-file"
    daemon = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert daemon["log-opts"] == {"max-size": "50m", "max-file": "5"}


def test_engine_uses_the_mirror_and_the_address_pool(host):
    assert "https://mirror.example.org/" in host.check_output("docker info --format '{{.RegistryConfig.Mirrors}}'")
    host.check_output("docker network create probe")
    try:
        subnet = host.check_output("docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' probe")
    finally:
        host.check_output("docker network rm probe")
    assert subnet.startswith("10.200.")


def test_engine_keeps_containers_over_a_restart_of_itself(host):
    assert host.check_output("docker info --format '{{.LiveRestoreEnabled}}'") == "true"
