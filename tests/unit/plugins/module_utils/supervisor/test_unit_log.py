# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What units write into the journal, read from their output."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.unit_log_schema import SCHEMA, problem

PACKAGE = "ansible_collections.opennebula.flower.plugins.module_utils.supervisor"
ROOT = Path(__file__).parents[5]
# Each of them fails at once, since there is no such file.
UNITS = {
    "flower-supervisor": ("supervisor",),
    "flower-artifacts": ("artifact_server",),
    "flower-registrar": ("registrar",),
    "flower-checkpoint-upload": ("checkpoint_sync", "upload"),
    "flower-checkpoint-restore": ("checkpoint_sync", "restore"),
    "flower-node-metrics": ("node_metrics",),
    "flower-targets": ("targets",),
}
# Units that run, or begin with, another program of the collection.
OTHERS = {"flower-certificates", "flower-uplink", "flower-supernode"}
# Units whose lines come from programs without a unit file here: the clock's check is a part of flower-supernode, the other is the appliance's.
WITHOUT_FILE = {"flower-clock", "one-appliance-node"}
# Flower's own, of whose lines flower-log makes objects.
FLOWER = {"flower-superlink", "flower-supernode", "flower-superexec"}
TOLD = re.compile(r"^Environment=FL_LOG_FORMAT=\{\{ flower_(monitoring_)?log_format \}\}$", re.MULTILINE)


def said(form: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "FL_LOG_FORMAT": form, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.stderr == "" or form == "text"
    return done.stdout.splitlines()


def lines(program: str) -> list[dict]:
    """What a program logs as JSON after it has set up its log."""
    return [json.loads(line) for line in said("json", "-c", f"import logging\nfrom {PACKAGE} import unit_log\nunit_log.set_up('unit')\n{program}")]


@pytest.mark.parametrize(("unit", "arguments"), UNITS.items(), ids=UNITS)
def test_a_unit_writes_one_json_object_in_a_line(unit: str, arguments: tuple[str, ...]) -> None:
    program, *rest = arguments
    (text,) = said("json", "-m", f"{PACKAGE}.{program}", *rest, "--config", "/nonexistent/\n\x1b")
    line = json.loads(text)
    assert problem(line) == ""
    assert line.keys() == {"timestamp", "level", "unit", "message"}
    assert datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")).utcoffset().total_seconds() == 0
    assert (line["level"], line["unit"]) == ("ERROR", unit)
    assert "nonexistent" in line["message"]


def test_as_text_a_line_is_its_level_and_its_words() -> None:
    (line,) = said("text", "-m", f"{PACKAGE}.supervisor", "--config", "/nonexistent")
    assert line.startswith("ERROR The supervisor cannot start: ")


def test_an_event_has_its_kind_and_its_fields() -> None:
    (line,) = lines("logging.info('Node %s.', 'a', extra=unit_log.event('node_registered', name='a\\n\\ud800\"', round=3))")
    assert line["message"] == "Node a."
    assert (line["event"], line["data"]) == ("node_registered", {"name": 'a\n\ud800"', "round": 3})


def test_what_nobody_caught_is_a_line_too() -> None:
    (line,) = lines("raise RuntimeError('boom')")
    assert (line["level"], line["message"]) == ("CRITICAL", "RuntimeError: boom")
    assert "Traceback" in line["traceback"]


def test_words_of_others_stay_in_their_line() -> None:
    found = lines("logging.warning('a\\nb\\u2028c')\nlogging.getLogger('boto').error('%s', object)")
    assert [line["message"] for line in found] == ["a\nb\u2028c", "<class 'object'>"]


def test_the_uplink_writes_one_json_object_in_a_line() -> None:
    (text,) = said("json", str(ROOT / "roles/flower_supernode/files/flower-uplink"), "--limit", "1mbit", "\N{SNOWMAN}.invalid:1")
    line = json.loads(text)
    assert problem(line) == ""
    assert (line["level"], line["unit"]) == ("ERROR", "flower-uplink")
    assert line["message"].startswith("The uplink is not limited: ")


def test_every_unit_that_runs_a_program_of_the_collection_is_told_the_format() -> None:
    roles = ("flower_superlink", "flower_supernode", "flower_monitoring")
    texts = {path.name.removesuffix(".service.j2"): path.read_text() for role in roles for path in (ROOT / "roles" / role / "templates").glob("*.service.j2")}
    own = {unit for unit, text in texts.items() if "plugins.module_utils.supervisor." in text}
    assert own == UNITS.keys()
    assert [unit for unit in own | OTHERS if not TOLD.search(texts[unit])] == []


def test_the_schema_has_every_unit_that_logs() -> None:
    assert {*SCHEMA["properties"]["unit"]["enum"]} == UNITS.keys() | OTHERS | FLOWER | WITHOUT_FILE


def test_what_flower_writes_goes_through_what_makes_objects_of_it() -> None:
    texts = {path.name.removesuffix(".service.j2"): path.read_text() for path in (ROOT / "roles").glob("*/templates/*.service.j2")}
    for unit in FLOWER:
        starts = re.findall(r"^ExecStart=.*$", texts[unit], re.MULTILINE)
        assert len(starts) == 2
        assert [start for start in starts if "_log_prefix }}/opt/flower/" not in start] == []
