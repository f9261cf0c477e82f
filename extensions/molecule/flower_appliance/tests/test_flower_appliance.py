# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Appliances that configure themselves at boot. The tests build on each other, as the boots of a service do."""

import base64
import json
import re

import pytest
from testing import wait_until

BOOT_SECONDS = 900


def ready(machine):
    return lambda: machine.published.get("READY") == "YES" and machine.host.run("true").rc == 0


def failed(machine):
    return lambda: "FL_ERROR" in machine.published and machine.host.run("true").rc == 0


def stages(machine):
    """Return the seconds of each stage of the last boot."""
    return {name: float(seconds) for name, seconds in re.findall(r"^(\w+) ([\d.]+)$", "\n".join(machine.boot_log()), re.MULTILINE)}


@pytest.fixture(scope="module")
def running_superlink(superlink):
    superlink.boot(ONEAPP_FL_NUM_ROUNDS="5")
    assert wait_until(ready(superlink), BOOT_SECONDS), superlink.boot_log()
    return superlink


@pytest.fixture(scope="module")
def running_supernode(running_superlink, supernode):
    supernode.boot(ONEAPP_FL_NODE_CONFIG="site=berlin", ONEAPP_FL_GPU_ENABLED="YES")  # which it has not
    assert wait_until(ready(supernode), BOOT_SECONDS), supernode.boot_log()
    return supernode


def test_superlink_with_a_wrong_context_says_what_is_wrong(superlink):
    superlink.boot(ONEAPP_FL_NUM_ROUNDS="0", ONEAPP_FL_STRATEGY="Best")
    assert wait_until(failed(superlink), BOOT_SECONDS)
    assert superlink.published["FL_READY"] == "NO"
    assert superlink.published["FL_ERROR"] == "config_validation_failed"
    assert superlink.host.file("/etc/one-appliance/status").content_string.strip() == "failure"
    last = superlink.boot_log()[-1]
    assert "ONEAPP_FL_NUM_ROUNDS: '0' is not valid" in last
    assert "ONEAPP_FL_STRATEGY" in last
    assert "READY" not in superlink.published
    assert superlink.host.run("/opt/flower/bin/health-check").rc != 0


def test_superlink_publishes_itself_and_its_ca(running_superlink):
    published = running_superlink.published
    address = running_superlink.host.interface("eth0").addresses[0]
    assert {name: published[name] for name in ("FL_READY", "FL_ENDPOINT", "FL_VERSION", "FL_ROLE", "FL_TLS")} == {
        "FL_READY": "YES", "FL_ENDPOINT": f"{address}:9092", "FL_VERSION": "1.42.0", "FL_ROLE": "superlink", "FL_TLS": "YES",
    }
    certificate = running_superlink.host.file("/opt/flower/certs/ca.crt").content
    assert base64.b64decode(published["FL_CA_CERT"]) == certificate
    assert "FL_ERROR" not in published


@pytest.mark.parametrize("role", ["superlink", "supernode"])
def test_boot_says_where_the_time_went(running_superlink, running_supernode, role):
    machine = {"superlink": running_superlink, "supernode": running_supernode}[role]
    measured = stages(machine)
    common = {"context", "tls", "container", "health", "publish", "total"}
    assert set(measured) == common | ({"gateway"} if role == "superlink" else {"discovery"})
    print(f"boot of the {role}: {measured['total']} s")
    assert measured["total"] >= max(value for stage, value in measured.items() if stage != "total")
    assert machine.boot_log()[-1] == "succeeded"


def test_what_looks_after_a_node_says_how_it_is(running_supernode):
    def connected():
        assert running_supernode.host.run("systemctl start one-appliance-node.service").rc == 0
        return running_supernode.published["FL_CLIENT_STATUS"] == "1"

    assert wait_until(connected, BOOT_SECONDS), running_supernode.published


@pytest.mark.parametrize("role", ["superlink", "supernode"])
def test_what_the_boot_compiled_is_kept_for_root_alone(running_superlink, running_supernode, role):
    host = {"superlink": running_superlink, "supernode": running_supernode}[role].host
    kept = host.file("/var/cache/one-appliance")
    assert (kept.user, kept.mode & 0o022) == ("root", 0)
    assert host.run("ls /var/cache/one-appliance").stdout.count(".cpython-") > 10


def test_supernode_joins_the_superlink_of_its_service(running_superlink, running_supernode):
    assert running_supernode.published["FL_NODE_READY"] == "YES"
    assert running_supernode.published["FL_NODE_ID"] == "11"
    assert running_supernode.published["FL_GPU_AVAILABLE"] == "NO"
    answer = running_superlink.host.check_output(
        "docker exec --user 49998:49999 --env HOME=/app/cli --env FLWR_HOME=/app/cli flower-superlink flwr supernode list local --format json"
    )
    assert "online" in [node["status"] for node in json.loads(answer)["nodes"]]
    events = running_superlink.host.file("/var/lib/flower-registrar/events.jsonl").content_string.splitlines()
    assert "service/vm-11" in [json.loads(line)["data"]["name"] for line in events]


def test_units_do_not_start_before_the_machine_is_configured(running_superlink, running_supernode):
    for unit in ("flower-superlink", "flower-supervisor", "haproxy"):
        assert not running_superlink.host.service(unit).is_enabled
    assert not running_supernode.host.service("flower-supernode").is_enabled


def test_reboot_keeps_the_ca(running_superlink):
    before = running_superlink.published["FL_CA_CERT"]
    running_superlink.boot()
    assert wait_until(ready(running_superlink), BOOT_SECONDS)
    assert running_superlink.published["FL_CA_CERT"] == before


def test_supernode_without_a_published_ca_fails_closed(onegate, running_superlink, supernode):
    with onegate.lie("FL_CA_CERT", None):
        supernode.boot()
        assert wait_until(failed(supernode), BOOT_SECONDS)
    assert supernode.published["FL_NODE_READY"] == "NO"
    assert supernode.published["FL_ERROR"] == "tls_setup_failed"
    assert "no CA certificate to trust" in supernode.boot_log()[-1]
    assert not supernode.host.service("flower-supernode").is_running


def test_supernode_keeps_to_the_ca_it_was_told_first(onegate, running_superlink, supernode):
    foreign = running_superlink.host.check_output(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=foreign -days 30 -keyout /dev/null 2>/dev/null"
    )
    with onegate.lie("FL_CA_CERT", base64.b64encode(foreign.encode()).decode()):
        supernode.boot()
        assert wait_until(failed(supernode), BOOT_SECONDS)
    authority = running_superlink.published["FL_CA_CERT"]
    assert supernode.published["FL_ERROR"] == "tls_setup_failed"
    assert "another CA certificate than the one this node trusted first" in supernode.boot_log()[-1]
    assert supernode.host.file("/opt/flower/certs/ca.crt").content_string.strip() == base64.b64decode(authority).decode().strip()


def test_supernode_that_cannot_reach_onegate_fails_at_once(supernode):
    supernode.boot(ONEGATE_ENDPOINT="http://127.0.0.1:9")
    assert wait_until(lambda: supernode.host.run("test -s /etc/one-appliance/status").rc == 0, BOOT_SECONDS)
    assert "failed in stage discovery" in supernode.boot_log()[-1]
    assert "http://127.0.0.1:9" in supernode.boot_log()[-1]
