# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a machine with the role flower_supernode does. The machine with the SuperLink is asked what it sees."""

import json
import re

import pytest
import testinfra
from testing import assert_limited, container, exposure, unit_property, wait_until

HEALTHY = "/opt/flower/bin/flower-healthy"
CA = "/opt/flower/certs/ca.crt"
UNIT = "flower-supernode"
SUPEREXEC = "flower-superexec"


@pytest.fixture(name="superlink", scope="module")
def superlink_machine():
    return testinfra.get_host(f"docker://{container('mol-supernode-superlink')}")


def online_nodes(superlink):
    """Return how many nodes the SuperLink sees online."""
    answer = superlink.check_output(
        "docker exec --user 49998:49999 --env HOME=/app/cli --env FLWR_HOME=/app/cli flower-superlink flwr supernode list local --format json"
    )
    return sum(node["status"] == "online" for node in json.loads(answer)["nodes"])


def is_native(host):
    return host.backend.name == container("mol-supernode-native")


def healthy(host):
    return host.run(HEALTHY).rc == 0


def test_superlink_sees_both_nodes(superlink):
    assert wait_until(lambda: online_nodes(superlink) == 2)


def test_a_round_is_trained_by_apps_beside_flower_and_in_it(host, superlink):
    def events():
        return superlink.run("cat /opt/flower/state/runs/*/events.jsonl").stdout

    assert wait_until(lambda: "training_end" in events(), 1800), events()
    assert [json.loads(line)["data"]["num_clients_responded"] for line in events().splitlines() if '"round_end"' in line] == [2]
    runs_beside = is_native(host)
    for machine, program in [(superlink, "superlink"), *([(host, "supernode")] if runs_beside else [])]:
        assert unit_property(machine, SUPEREXEC, "ActiveState") == "active"
        assert f"Description=Flower SuperExec, in which the apps of the {program} run" in machine.check_output(f"systemctl cat {SUPEREXEC}")
    told = host.check_output(f"journalctl --quiet --output cat --unit {SUPEREXEC if runs_beside else UNIT}")
    assert '"client_trained"' in told, told


def test_a_superexec_may_do_little_else_and_reads_neither_key_nor_state(host, superlink):
    if not is_native(host):
        assert not host.file(f"/etc/systemd/system/{SUPEREXEC}.service").exists
        return
    assert exposure(host, SUPEREXEC) <= 3.0 and exposure(superlink, SUPEREXEC) <= 3.0
    assert_limited(host, SUPEREXEC)
    process = unit_property(host, SUPEREXEC, "MainPID")
    for hidden in ("/opt/flower/certs/node.key", "/opt/flower/state/flwr"):
        assert host.run(f"nsenter --target {process} --mount -- runuser -u app -- ls {hidden}").rc != 0
    secret = host.file("/opt/flower/config/superexec.secret")
    assert (secret.user, secret.mode, len(secret.content)) == ("app", 0o400, 48)


def test_both_joined_by_the_keys_that_the_superlink_was_given(superlink):
    events = superlink.file("/var/lib/flower-registrar/events.jsonl").content_string.splitlines()
    names = [json.loads(line)["data"]["name"] for line in events]
    assert sorted(names) == ["operator/mol-supernode-container", "operator/mol-supernode-native"]


def test_node_is_healthy_and_has_not_been_restarted(host):
    assert healthy(host)
    assert unit_property(host, UNIT, "NRestarts") == "0"


def test_the_unit_may_do_little_else_than_its_work(host):
    assert exposure(host, UNIT) <= 3.0


def test_flower_and_its_apps_have_limits(host):
    assert_limited(host, UNIT)


def test_the_private_key_is_the_nodes_own(host):
    key = host.file("/opt/flower/certs/node.key")
    assert (key.user, key.mode) == ("app", 0o600)
    assert "BEGIN OPENSSH PRIVATE KEY" in key.content_string
    assert host.run("runuser -u nobody -- cat /opt/flower/certs/node.key").rc != 0


def test_node_starts_with_the_machine(host):
    assert host.service(UNIT).is_enabled


def test_what_keeps_replies_on_time_runs_beside_the_node(host):
    assert host.service("flower-catch-up").is_running


def test_node_tries_for_ever(host):
    command = host.check_output(f"systemctl cat {UNIT}")
    assert "--max-retries" not in command
    assert "--max-wait-time" not in command


def test_flower_does_not_run_as_root(host):
    assert [process for process in host.process.filter(user="app") if "flower-supernode" in process.args]


def test_node_offers_no_port_to_others(host):
    listening = host.run("ss --listening --tcp --no-header --numeric").stdout
    foreign = [line for line in listening.splitlines() if "127.0.0." not in line and "[::1]" not in line and ":22 " not in line]
    assert foreign == []


CONNECT = """
import os, socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=300)
except OSError as error:
    print(os.strerror(error.errno))
else:
    print("connected")
"""


def test_neither_machine_nor_container_connects_to_others_than_the_superlink(host, superlink):
    address, gateway = superlink.interface("eth0").addresses[0], host.check_output("ip -4 route show default").split()[2]
    programs = ["python3"]
    if host.file("/usr/bin/docker").exists:
        programs.append("docker exec flower-supernode python")
    for program in programs:
        assert host.check_output(f"{program} -c %s %s 9092", CONNECT, address).strip() == "connected"
        # Without the firewall: Connection refused.
        assert host.check_output(f"{program} -c %s %s 9", CONNECT, gateway).strip() == "No route to host"


def test_client_apps_start_by_the_program_that_says_at_once_that_it_lives(host):
    program = "/opt/flower/native/bin/flwr-clientapp"
    if host.file("/usr/bin/docker").exists:
        program = "docker exec flower-supernode /python/venv/bin/flwr-clientapp"
        assert "say_alive" in host.check_output("docker exec flower-supernode cat /python/venv/bin/flwr-clientapp")
    assert "--runtime-api-address" in host.check_output(f"{program} --help")


def test_node_comes_back_after_a_crash(host, superlink):
    before = unit_property(host, UNIT, "InvocationID")
    host.check_output(f"systemctl kill --signal KILL --kill-whom all {UNIT}")
    assert wait_until(lambda: unit_property(host, UNIT, "InvocationID") != before)
    assert wait_until(lambda: healthy(host))


def test_crash_loop_is_not_healthy(host):
    genuine = host.file(CA).content_string
    host.check_output(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=other -keyout /dev/null -out {CA}")
    try:
        host.check_output(f"systemctl restart {UNIT}")
        assert wait_until(lambda: int(unit_property(host, UNIT, "NRestarts")) >= 1)
        assert not healthy(host)
    finally:
        host.check_output("printf %s %s > %s", "%s", genuine, CA)
        host.check_output(f"systemctl restart {UNIT}")
    assert wait_until(lambda: healthy(host))


def uplink(host):
    """Return the class that holds the uplink to its limit, with what it counted, as tc shows it; empty for none."""
    found = re.search(r"class htb f10e:.*?(?=\nclass |\Z)", host.check_output("tc -s class show dev eth0"), re.DOTALL)
    return found[0] if found else ""


def test_what_goes_to_the_superlink_goes_through_the_limit(host):
    sent = re.search(r"rate 200Mbit .*?Sent (\d+) bytes", uplink(host), re.DOTALL)
    assert int(sent[1]) > 0


def test_the_limit_is_looked_after_while_the_node_runs(host):
    assert unit_property(host, "flower-uplink.timer", "ActiveState") == "active"
    # With the burst, which tc reckons from what the unit lets it see.
    shown = re.search("rate .*", uplink(host))[0]
    host.check_output("tc qdisc delete dev eth0 root")
    assert wait_until(lambda: shown in uplink(host))


def test_a_node_that_starts_has_its_limit_first(host):
    host.check_output(f"systemctl stop {UNIT}")
    try:
        assert unit_property(host, "flower-uplink.timer", "ActiveState") == "inactive"
        host.check_output("tc qdisc delete dev eth0 root")
    finally:
        host.check_output(f"systemctl start {UNIT}")
    assert "rate 200Mbit" in uplink(host)
    assert wait_until(lambda: healthy(host))


def test_what_sets_the_limit_may_do_little_else(host):
    assert exposure(host, "flower-uplink") <= 3.0
