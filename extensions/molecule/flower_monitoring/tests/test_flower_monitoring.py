# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a machine with the role flower_monitoring watches and tells."""

import json

import pytest
from testing import exposure, wait_until

ASK = """
import json, sys, urllib.parse, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=300).read().decode())
"""
TARGETS = "/var/lib/flower-targets"
EXPORTER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"fl_training_status 3\\nfl_runs_waiting 0\\n")
http.server.HTTPServer(("127.0.0.1", 9101), Handler).serve_forever()
"""


def ask(host, url):
    done = host.run("python3 -c %s %s", ASK, url)
    return json.loads(done.stdout) if done.rc == 0 else {}


def query(host, expression):
    answer = ask(host, f"http://127.0.0.1:9090/api/v1/query?query={expression}")
    return answer["data"]["result"] if answer else []


def alerts(host, port, path):
    answer = ask(host, f"http://127.0.0.1:{port}{path}")
    found = answer["data"]["alerts"] if isinstance(answer, dict) and answer else answer
    return {alert["labels"]["alertname"] for alert in found or []}


@pytest.fixture(name="superlink", scope="module")
def a_superlink_that_nobody_finds_in_a_zone(host):
    """A target as the service discovery wrote it, in a zone that does not answer now, whose training failed."""
    target = [{"targets": ["127.0.0.1:9101"], "labels": {"zone": "north", "vm": "1", "name": "link", "role": "superlink"}}]
    host.check_output("systemd-run --unit exporter python3 -c %s", EXPORTER)
    host.check_output(f"printf %s %s > {TARGETS}/north.json", "%s", json.dumps(target))
    yield
    host.check_output(f"rm {TARGETS}/north.json")
    host.check_output("systemctl stop exporter")


def test_a_target_is_scraped_as_soon_as_its_file_is_there(host, superlink):
    assert wait_until(lambda: query(host, "fl_training_status"))
    (found,) = query(host, "fl_training_status")
    assert found["metric"].items() >= {"zone": "north", "name": "link", "role": "superlink", "deployment": "flower-opennebula", "job": "fl_training"}.items()


def test_only_a_superlink_has_a_gateway(host, superlink):
    assert wait_until(lambda: query(host, 'up{job="fl_gateway"}'))
    assert query(host, 'up{job="fl_supernode"}') == []


def test_rules_are_loaded(host):
    groups = ask(host, "http://127.0.0.1:9090/api/v1/rules")["data"]["groups"]
    assert {group["name"] for group in groups} == {"flower-training", "flower-platform", "flower-gpu"}


def test_an_alert_reaches_alertmanager(host, superlink):
    # The gateway of this SuperLink does not answer as HAProxy does, but it answers: the SuperLink goes down when the exporter does.
    assert wait_until(lambda: query(host, "fl_training_status"))
    host.check_output("systemctl stop exporter")
    assert wait_until(lambda: "FLSuperLinkDown" in alerts(host, 9093, "/api/v2/alerts"))


def test_a_zone_that_does_not_answer_is_told(host):
    assert wait_until(lambda: "Zone north keeps its last targets" in host.check_output("journalctl --unit flower-targets --output cat"))
    assert "secret-of-north" not in host.check_output("journalctl --output cat")


@pytest.mark.parametrize("path", ["/etc/prometheus/flower-targets.json", "/etc/prometheus/flower-password", "/etc/prometheus/alertmanager.yml"])
def test_secrets_are_for_those_who_need_them(host, path):
    assert host.run(f"runuser -u nobody -- cat {path}").rc != 0


def test_nothing_listens_for_others(host):
    listening = host.run("ss --listening --tcp --no-header --numeric").stdout
    foreign = [line for line in listening.splitlines() if "127.0.0." not in line and "[::1]" not in line and ":22 " not in line]
    assert foreign == []


def test_what_looks_at_the_zones_may_do_little_else(host):
    assert exposure(host, "flower-targets") <= 3.0


@pytest.mark.parametrize("unit", ["prometheus", "prometheus-alertmanager", "flower-targets.timer"])
def test_units_start_with_the_machine(host, unit):
    assert host.service(unit).is_enabled
