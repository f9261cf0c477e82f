# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a machine with the role flower_superlink offers, and what it refuses."""

import json
import re
import socket

import pytest
from testing import assert_limited, container, exposure, unit_property, wait_until

# Ports that other machines reach: SSH, the one the role was told to open, and that of the nodes.
OPEN = [22, 7001, 9092]
CA = "/opt/flower/certs/ca.crt"
FLOWER = "/opt/flower/loopback/flower.crt"
PROBE = """
import ssl, sys, urllib.error, urllib.request
url, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca or None)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
try:
    print(opener.open(url, timeout=300).status)
except urllib.error.HTTPError as error:
    print(error.code)
except Exception as error:
    print(error)
"""


def get(host, url, ca=CA, user="root"):
    """Return the status of a GET request that a user makes on the machine itself, or why there was none."""
    return host.run("runuser -u %s -- python3 -c %s %s %s", user, PROBE, url, ca).stdout.strip()


def own_address(host):
    return host.interface("eth0").addresses[0]


def test_nodes_reach_the_fleet_port_over_tls_with_the_ca(host):
    assert get(host, f"https://{own_address(host)}:9092/health") == "200"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_certificate_is_valid_for_local_names(host, name):
    assert get(host, f"https://{name}:9092/health") == "200"


def test_certificate_holds_the_extra_name_and_the_ipv6_loopback(host):
    certificate = host.check_output("openssl x509 -in /opt/flower/certs/server.pem -noout -ext subjectAltName")
    assert "DNS:superlink.example.org" in certificate
    assert "IP Address:0:0:0:0:0:0:0:1" in certificate


def test_connection_without_the_right_ca_is_refused(host):
    assert "CERTIFICATE_VERIFY_FAILED" in get(host, "https://127.0.0.1:9092/health", ca="")


def test_plain_connection_is_refused(host):
    assert get(host, "http://127.0.0.1:9092/health") == "Remote end closed connection without response"


def test_old_tls_is_refused(host):
    assert host.run("openssl s_client -connect 127.0.0.1:9092 -tls1_1 </dev/null").rc != 0


@pytest.mark.parametrize("path", ["/v1/control/", "/v1/control/ListRuns", "/v1/runtime/", "/docs", "/openapi.json", "/artifacts/initial/model.npz"])
def test_only_the_fleet_api_is_behind_the_fleet_port(host, path):
    assert get(host, f"https://127.0.0.1:9092{path}") == "404"


TRICKS = [
    "/v1/fleet/../control/list-runs", "/v1/fleet/%2e%2e/control/list-runs", "/v1/%66leet/get-run", "/v1/fleet//../control/list-runs",
    "/v1/fleet/..%2fcontrol/list-runs", "/v1/fleet\\..\\control/list-runs", "//v1/control/list-runs", "/v1/fleet/./get-run", "/v1/fleet/get-run/",
    "http://127.0.0.1:18000/v1/control/list-runs", "http://x/v1/fleet/../control/list-runs", "*", "/v1/fleet/get-run;/../../control/list-runs",
    "/V1/CONTROL/list-runs", "/v1/fleet/get-run%00", "/v1/fleet/get-run%0d%0aX: y",
]
RAW = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
for target in sys.argv[2:]:
    with socket.create_connection(("127.0.0.1", 9092), 300) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
        stream.sendall(f"POST {target} HTTP/1.1\\r\\nHost: superlink\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n".encode())
        print(stream.makefile("rb").readline().split()[1].decode(), end=" ")
"""
SMUGGLED = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
hidden = "POST /v1/control/list-runs HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n"
for lengths in ("Content-Length: 0\\r\\nContent-Length: %d" % len(hidden), "Transfer-Encoding: xchunked\\r\\nContent-Length: %d" % len(hidden)):
    with socket.create_connection(("127.0.0.1", 9092), 300) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
        stream.sendall(f"POST /docs HTTP/1.1\\r\\nHost: superlink\\r\\n{lengths}\\r\\n\\r\\n{hidden}".encode())
        stream.settimeout(300)
        while stream.recv(65536):
            pass
"""


def passed_on(host):
    """Return how many requests the gateway has given to Flower."""
    metrics = host.check_output("python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8405/metrics\").read().decode())'")
    return sum(int(count) for count in re.findall(r'^haproxy_backend_http_requests_total\{proxy="superlink"\} (\d+)', metrics, re.MULTILINE))


def test_no_trick_with_a_path_reaches_flower(host):
    before = passed_on(host)
    statuses = host.check_output("python3 -c %s %s " + " ".join(["%s"] * len(TRICKS)), RAW, CA, *TRICKS).split()
    assert set(statuses) <= {"400", "404"} and len(statuses) == len(TRICKS)
    assert passed_on(host) == before


def test_a_second_request_hidden_in_the_first_does_not_reach_flower(host):
    before = passed_on(host)
    host.check_output("timeout 600 python3 -c %s %s", SMUGGLED, CA)
    assert passed_on(host) == before


@pytest.mark.parametrize("path", ["/v1/fleet/", "/health", "/docs"])
def test_only_the_control_api_is_behind_the_control_port(host, path):
    assert get(host, f"https://127.0.0.1:9093{path}") == "404"


def test_operators_connect_on_loopback_only(host):
    assert host.socket("tcp://127.0.0.1:9093").is_listening
    assert "refused" in get(host, f"https://{own_address(host)}:9093/v1/control/")


def test_flower_itself_cannot_be_reached_from_outside(host):
    assert host.socket("tcp://127.0.0.1:18000").is_listening
    assert "refused" in get(host, f"https://{own_address(host)}:18000/health")


def answered(host, port):
    """Return whether a port of the machine answers another one."""
    try:
        socket.create_connection((own_address(host), port), timeout=300).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_host_firewall_lets_in_what_flower_needs_and_what_was_asked_for(host):
    listeners = (22, 7001, 7002)
    for port in listeners:
        host.check_output(f"systemd-run --unit listener-{port} python3 -m http.server {port}")
        assert wait_until(lambda url=f"http://127.0.0.1:{port}/": get(host, url) == "200")
    try:
        assert [port for port in (*listeners, 9092) if answered(host, port)] == OPEN
    finally:
        host.check_output("systemctl stop " + " ".join(f"listener-{port}" for port in listeners))


def test_the_host_firewall_is_there_before_the_network_and_goes_with_its_unit(host):
    assert "network-pre.target" in unit_property(host, "flower-firewall", "Before")
    assert host.service("flower-firewall").is_enabled
    host.check_output("systemctl stop flower-firewall")
    assert "flower_firewall" not in host.check_output("nft list tables")
    host.check_output("systemctl start flower-firewall")
    assert "policy drop" in host.check_output("nft list table inet flower_firewall")


def test_flower_shows_the_gateway_a_certificate_of_its_own(host):
    assert get(host, "https://127.0.0.1:18000/health", FLOWER) == "200"
    assert "CERTIFICATE_VERIFY_FAILED" in get(host, "https://127.0.0.1:18000/health", CA)
    assert host.run("runuser -u nobody -- cat /opt/flower/loopback/flower.key").rc != 0


@pytest.mark.parametrize(
    "path", ["control/list-runs", "control/start-run", "fleet/register-node-fleet", "runtime/start-automation", "runtime/../control/list-runs"]
)
def test_an_app_gets_no_interface_of_flower_but_its_own(host, path):
    assert get(host, f"https://127.0.0.1:18000/v1/{path}", FLOWER, "app") == "404"


def test_an_app_gets_its_own_interface(host):
    assert get(host, "https://127.0.0.1:18000/health", FLOWER, "app") == "200"
    # Flower's own answer to a method that it has, of a request that is none.
    assert get(host, "https://127.0.0.1:18000/v1/runtime/get-nodes", FLOWER, "app") == "405"


def test_an_app_reaches_no_port_where_operators_start_runs(host):
    assert "refused" in get(host, "https://127.0.0.1:9093/v1/control/list-runs", user="app")
    assert "refused" in get(host, "https://127.0.0.1:18000/health", FLOWER, "nobody")


def test_flower_does_not_start_without_the_rules_that_keep_apps_apart(host):
    host.check_output("systemctl stop flower-firewall")
    try:
        assert "Assertion failed" in host.run("systemctl restart flower-superlink").stderr
    finally:
        host.check_output("systemctl start flower-firewall flower-superlink")
    assert wait_until(lambda: get(host, "https://127.0.0.1:18000/health", FLOWER) == "200")
    assert wait_until(lambda: get(host, "https://127.0.0.1:9092/health") == "200")


def test_nobody_joins_by_himself(host):
    assert "--enable-supernode-auth" in host.check_output("systemctl cat flower-superlink")


@pytest.mark.parametrize("unit", ["flower-registrar", "flower-artifacts", "flower-supervisor"])
def test_what_stands_beside_flower_is_not_root(host, unit):
    assert unit_property(host, unit, "User") == unit
    assert wait_until(lambda: unit_property(host, unit, "ActiveState") == "active")
    assert unit_property(host, unit, "NRestarts") == "0"
    assert host.service(unit).is_enabled
    status = host.check_output(f"cat /proc/{unit_property(host, unit, 'MainPID')}/status")
    rights = int(re.search(r"CapEff:\s*(\w+)", status)[1], 16)
    # CHOWN, DAC_OVERRIDE and FOWNER.
    assert rights == (0b1011 if unit == "flower-supervisor" else 0)


def test_the_files_of_runs_are_served_on_loopback_only(host):
    assert wait_until(lambda: get(host, "http://127.0.0.1:18001/artifacts/initial/model.npz") == "404")
    assert "refused" in get(host, f"http://{own_address(host)}:18001/")


@pytest.mark.parametrize("path", ["/opt/flower/ca/1.key", "/opt/flower/certs/server.pem"])
def test_keys_are_refused_to_everybody_but_root(host, path):
    assert host.run(f"runuser -u app -- cat {path}").rc != 0
    assert host.run(f"runuser -u nobody -- cat {path}").rc != 0


def test_ca_key_is_not_in_the_directory_of_the_certificates(host):
    assert not host.run("ls /opt/flower/certs").stdout.count("1.key")


def test_the_timer_does_not_repeat_the_reload_of_the_role(host):
    host.check_output("systemctl start flower-certificates.service")
    assert host.check_output("journalctl --unit haproxy --output cat").count("Reloaded haproxy") <= 1


def test_requests_are_counted_for_prometheus(host):
    assert get(host, "http://127.0.0.1:8405/metrics") == "200"
    assert 'haproxy_frontend_http_requests_total{proxy="fleet"}' in host.check_output(
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8405/metrics\").read().decode())'"
    )


def test_flower_does_not_run_as_root(host):
    processes = [process for process in host.process.filter(user="app") if "superlink" in process.args]
    assert processes
    assert not [process for process in host.process.filter(user="root") if process.comm == "flower-superlink"]


def test_flower_comes_back_after_a_crash(host):
    before = unit_property(host, "flower-superlink", "MainPID")
    if host.backend.name == container("mol-superlink-container"):
        host.check_output("docker kill flower-superlink")
    else:
        host.check_output(f"kill -9 {before}")
    assert wait_until(lambda: unit_property(host, "flower-superlink", "MainPID") not in (before, "0"))
    assert wait_until(lambda: get(host, "https://127.0.0.1:18000/health", FLOWER) == "200")
    assert wait_until(lambda: get(host, "https://127.0.0.1:9092/health") == "200")


def test_flower_comes_back_when_its_superexec_has_ended(host):
    timer = host.service("flower-superexec-watch.timer")
    if host.file("/etc/systemd/system/flower-superexec.service").exists:
        assert not timer.is_running, "systemd starts a SuperExec that is a unit again"
        return
    assert timer.is_running
    host.check_output("systemctl start flower-superexec-watch.service")
    before = unit_property(host, "flower-superlink", "MainPID")
    watch = "sed 's/-ge 300/-ge 0/' /opt/flower/bin/flower-superexec-watch | sh"
    host.check_output(watch)
    assert unit_property(host, "flower-superlink", "MainPID") == before, "it has one"
    host.check_output(r"kill -KILL $(grep -lasP '/flower-superexec\x00' /proc/[0-9]*/cmdline | cut -d / -f 3)")
    assert "SuperExec has ended" in host.check_output(watch)
    assert wait_until(lambda: unit_property(host, "flower-superlink", "MainPID") not in (before, "0"))
    assert wait_until(lambda: get(host, "https://127.0.0.1:9092/health") == "200")


def test_health_check_agrees_with_the_state(host):
    assert host.run("/opt/flower/bin/flower-healthy").rc == 0


def test_command_line_of_operators_works_on_the_machine(host):
    if host.backend.name == container("mol-superlink-container"):
        flwr = "docker exec --user 49998:49999 --env HOME=/app/cli --env FLWR_HOME=/app/cli flower-superlink flwr"
    else:
        flwr = "runuser -u flower-supervisor -- env PATH=/opt/flower/native/bin:/usr/bin FLWR_HOME=/opt/flower/flwr flwr"
    answer = host.check_output(f"{flwr} list local --format json")
    assert '"success": true' in answer


def test_supervisor_keeps_running(host):
    assert host.service("flower-supervisor").is_running
    assert unit_property(host, "flower-supervisor", "NRestarts") == "0"


@pytest.mark.parametrize("unit", ["flower-superlink", "flower-supervisor", "flower-artifacts", "flower-registrar", "flower-firewall", "flower-certificates"])
def test_a_unit_may_do_little_else_than_its_work(host, unit):
    assert exposure(host, unit) <= 3.0


def test_flower_and_its_apps_have_limits(host):
    assert_limited(host, "flower-superlink")


def test_units_start_with_the_machine(host):
    for unit in ("flower-superlink", "flower-supervisor", "flower-certificates.timer", "haproxy"):
        assert host.service(unit).is_enabled


def test_the_supervisor_bases_runs_on_the_role_variables(host):
    config = json.loads(host.file("/opt/flower/config/supervisor.json").content_string)["run_config"]
    assert (config["num-server-rounds"], config["strategy"], config["proximal-mu"]) == (7, "FedProx", 0.25)


def test_lines_of_flower_are_objects_where_that_is_wanted(host):
    lines = host.check_output("journalctl --quiet --unit flower-superlink _TRANSPORT=stdout --output cat").splitlines()
    if not host.file("/opt/flower/native").exists:
        assert lines
        assert not any(line.startswith("{") for line in lines)
    else:
        found = [json.loads(line) for line in lines]
        assert {line["unit"] for line in found} == {"flower-superlink"}
        assert any("Flower SuperLink" in line["message"] and line["level"] == "INFO" for line in found)
