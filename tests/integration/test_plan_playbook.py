# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""plan.yml on the example inventory of zones, whose endpoints do not exist, and on one that cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[2]


def plan(directory: Path, *arguments: str) -> tuple[int, str]:
    """Return status and output of plan.yml for the example, its lines joined; it writes into a directory."""
    command = [
        sys.executable, "-m", "ansible", "playbook", "-i", str(ROOT / "inventories/multi_site"), str(ROOT / "playbooks/plan.yml"),
        "-e", f"flower_plan_directory={directory}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    return done.returncode, " ".join((done.stdout + done.stderr).split()).replace("''", "'")


def test_the_example_has_a_plan_as_text_as_json_and_as_a_page_with_a_picture(tmp_path):
    status, output = plan(tmp_path)
    assert status == 0, output
    assert "Federation flower: 6 SuperNodes (3 to 12) in 3 zones" in output

    made = json.loads((tmp_path / "plan.json").read_text())
    assert {zone["name"]: [role["name"] for role in zone["roles"]] for zone in made["zones"]} == {
        "munich": ["superlink", "supernode"], "lyon": ["supernode"], "madrid": ["supernode"],
    }  # fmt: skip
    text = (tmp_path / "plan.txt").read_text()
    page = (tmp_path / "plan.html").read_text()
    for port in made["ports"]:
        assert f"{port['protocol']} {port['port']}  from {port['from']} to {port['to']}" in text
        assert f"<td>{port['to']}</td>" in page
    picture = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])
    assert {element.text for element in picture if element.get("class") == "name"} == {"munich", "lyon", "madrid"}
    assert "src=" not in page and "href=" not in page, "nothing but itself"


def test_an_inventory_that_cannot_be_is_refused_with_every_reason(tmp_path):
    status, output = plan(tmp_path, "-e", '{"flower_superlink_address": "", "flower_min_available_clients": 7}')
    assert status != 0
    for zone in ("lyon", "madrid"):
        assert f"zone {zone}: flower_superlink_address is not set, expected host:port at which its SuperNodes reach the SuperLink" in output
    assert "flower_min_available_clients is 7, but there are only 6 SuperNodes" in output
