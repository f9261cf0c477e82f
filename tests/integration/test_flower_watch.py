# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""flower_watch and watch.yml against a zone that boots nothing, with a real supervisor and a SuperLink that is a file."""

from __future__ import annotations

import html
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.core.wait import wait_until
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.facts import update_user_template
from ansible_collections.opennebula.flower.tests.support.federation import PASSWORD, Federation
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.zones import FEDERATION

ROOT = Path(__file__).parents[2]


def told(federation: Federation) -> str:
    return "\n".join(json.loads(Path(f"{federation.progress_file}.json").read_text())["view"])


def test_once_it_shows_a_federation_whose_superlink_says_nothing_yet(federation: Federation) -> None:
    result = federation.module("flower_watch", once=True)
    assert (result["changed"], result["ended"], result["runs"]) == (False, False, [])
    (zone,) = result["zones"]
    assert zone["service"] == "RUNNING"
    assert [(vm["number"], vm["role"], vm["standing"]) for vm in zone["vms"]] == [(federation.vm_id, "superlink", "starting")]
    assert told(federation) == "\n".join(result["view"])


def test_it_looks_until_the_run_has_ended(federation: Federation) -> None:
    federation.train = federation.linger
    federation.supervise()
    def end_when_seen() -> None:
        wait_until(lambda: (Path(f"{federation.progress_file}.json").exists() and "Run initial: running" in told(federation)) or None, lambda: "no view", 300)
        federation.succeed("initial")
        federation.superlink.set_status(federation.superlink.run_ids[-1], "finished:completed")

    timer = threading.Thread(target=end_when_seen, daemon=True)
    timer.start()
    result = federation.module("flower_watch", interval=1, duration=300)
    timer.join()
    assert result["ended"]
    assert "Run initial: completed, round 3 of 3" in "\n".join(result["view"])


def test_a_zone_that_does_not_answer_is_a_problem_and_the_others_are_shown(federation: Federation) -> None:
    zones = [{"name": "munich"}, {"name": "lyon", "api_url": f"http://127.0.0.1:{free_port()}/RPC2", "api_password": "secret-of-lyon"}]
    result = federation.module("flower_watch", once=True, zones=zones)
    munich, lyon = result["zones"]
    assert munich["service"] == "RUNNING" and not munich["problem"]
    assert lyon["problem"]
    assert any(line.startswith("  lyon: ") and "127.0.0.1" in line for line in result["view"])
    assert "secret-of-lyon" not in json.dumps(result)


def test_what_a_machine_writes_is_shown_in_a_line_and_moves_no_cursor(federation: Federation) -> None:
    update_user_template(federation.client, federation.vm_id, {"FL_ERROR": "\x9b2J\u202eboom", "FL_CLIENT_STATUS": "\x9b", "FL_RUNS": "e30="})
    result = federation.module("flower_watch", once=True)
    assert all(line.isprintable() for line in result["view"])
    text = "\n".join(result["view"])
    assert "boom" in text
    assert "the runs cannot be read: " in text


def test_a_vm_that_still_tries_to_boot_says_what_it_waits_for(federation: Federation) -> None:
    update_user_template(federation.client, federation.vm_id, {"READY": "NO", "FL_RETRYING": "superlink_not_found"})
    (line,) = [each for each in federation.module("flower_watch", once=True)["view"] if "superlink_not_found" in each]
    assert line.endswith("is starting, superlink_not_found")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"interval": 0}, "interval is 0, it must be 1 or more."),
        ({"interval": float("nan")}, "interval is nan, it must be 1 or more."),
        ({"duration": float("inf")}, "duration is inf, it must be at most 31536000 seconds, a year."),
        ({"service": "nobody"}, "There is no service with the name 'nobody'"),
        ({"oneflow_url": "http://127.0.0.1:9"}, "127.0.0.1:9"),
    ],
)
def test_what_is_wrong_from_the_beginning_is_an_error(federation: Federation, options: dict, sentence: str) -> None:
    result = federation.module("flower_watch", once=True, **options)
    assert result["failed"]
    assert sentence in result["msg"]


def play(federation: Federation, directory: Path, playbook: str, *arguments: str) -> str:
    """Run a playbook over two zones, one of which is down; return its output."""
    api = {"one_api_url": federation.zone.xmlrpc_url, "one_oneflow_url": federation.zone.oneflow_url}
    zones = {"munich": api, "lyon": {"one_api_url": "http://127.0.0.1:9/RPC2"}}
    children = {"coordinator": {"hosts": {"munich": {}}}, "training_sites": {"hosts": zones}}
    known = {**FEDERATION, "one_api_username": "oneadmin", "one_api_password": PASSWORD, "flower_service_name": "federation"}
    (directory / "hosts.json").write_text(json.dumps({"all": {"children": children, "vars": known}}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.json"), f"playbooks/{playbook}.yml", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done.stdout


def test_the_playbook_shows_the_federation(federation: Federation, tmp_path: Path) -> None:
    federation.supervise()
    federation.run()
    output = play(federation, tmp_path, "watch")
    assert "Run initial: completed, round 3 of 3 ████████████████████, 2 nodes" in output
    assert "accuracy         0.9500  ▁▄█" in output
    assert "  munich: service RUNNING; 1 superlink" in output
    assert "  lyon: does not answer" in output
    assert "\x1b" not in output
    assert "changed=0" in output
    limited = play(federation, tmp_path, "watch", "--limit", "lyon,localhost", "-e", "flower_watch_once=true")
    assert "Run initial: completed" in limited
    assert "munich: service" not in limited


HOSTILE = "<script>alert(1)</script>{{ 6 * 7 }}"


def test_the_report_is_a_page_that_is_rewritten_until_the_run_has_ended(federation: Federation, tmp_path: Path) -> None:
    """And what an app says is text on it."""

    def tell(name: str) -> None:
        event = {"event": "training_start", "message": HOSTILE, "data": {"num_rounds": 3}}
        (federation.directory / "runs" / name / "events.jsonl").write_text(json.dumps(event) + "\n")

    federation.train = tell
    federation.supervise(initial=False)
    page = tmp_path / "report" / "index.html"
    seen = []

    def end_when_seen() -> None:
        wait_until(lambda: (page.exists() and "alert(1)" in page.read_text()) or None, lambda: "no page", 300)
        seen.append(page.read_text())
        federation.succeed("longer")
        federation.superlink.set_status(federation.superlink.run_ids[-1], "finished:completed")

    watcher = threading.Thread(target=end_when_seen, daemon=True)
    watcher.start()
    known = {"flower_run_name": "longer", "flower_train_timeout": 120, "flower_report_directory": str(page.parent)}
    arguments = ["-e", json.dumps(known), "--limit", "munich,localhost"]
    play(federation, tmp_path, "train", *arguments)
    watcher.join()
    (live,) = seen
    assert '<meta http-equiv="refresh"' in live
    assert "Running, 0 of 3 rounds complete" in live
    assert html.escape(HOSTILE) in live
    assert "<script>" not in live
    final = page.read_text()
    assert "http-equiv" not in final
    assert "<svg" in final
    assert "changed=0" in play(federation, tmp_path, "train", *arguments)
