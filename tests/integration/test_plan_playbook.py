# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""plan.yml on the example inventories of zones and of the edge, whose endpoints do not exist, and on one that cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def plan(directory: Path, *arguments: str, example: str = "multi_site") -> tuple[int, str]:
    """Return status and output of plan.yml for an example, its lines joined; it writes into a directory."""
    command = [
        sys.executable, "-m", "ansible", "playbook", "-i", str(ROOT / "inventories" / example), str(ROOT / "playbooks/plan.yml"),
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


def test_the_example_of_the_edge_has_zones_and_machines(tmp_path):
    status, output = plan(tmp_path, example="edge")
    assert status == 0, output
    assert "Federation flower: 10 SuperNodes (10 to 10) in 6 zones and on 5 machines" in output
    assert "edge site faro: 1 supernode on the machine faro.example.org, over SSH" in output

    made = json.loads((tmp_path / "plan.json").read_text())
    assert {role["cardinality"] for zone in made["zones"] for role in zone["roles"]} == {1}
    opened = {(port["from"], port["protocol"], port["port"]) for port in made["ports"] if "faro" in port["from"] + port["to"]}
    assert opened == {("the control node", "TCP", 22), ("edge site faro as 203.0.113.6/32", "TCP", 9092)}
    page = (tmp_path / "plan.html").read_text()
    picture = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])
    assert {"cloud", "antwerp", "faro"} <= {element.text for element in picture if element.get("class") == "name"}


def test_an_inventory_that_cannot_be_is_refused_with_every_reason(tmp_path):
    status, output = plan(tmp_path, "-e", '{"flower_superlink_address": "", "flower_min_available_clients": 7}')
    assert status != 0
    for zone in ("lyon", "madrid"):
        assert f"zone {zone}: flower_superlink_address is not set, expected host:port at which its SuperNodes reach the SuperLink" in output
    assert "flower_min_available_clients is 7, but there are only 6 SuperNodes" in output


@pytest.mark.parametrize(("example", "given", "sentence"), [
    ("multi_site", "flower_num_rounds=ten", "flower_num_rounds: 'ten' is not valid, expected a whole number of at least 1"),
    ("multi_site", "flower_supernodes=ten", "flower_supernodes: 'ten' is not valid, expected a whole number of at least 1"),
    ("edge", "flower_uplink_limit=fast", "edge site faro: flower_uplink_limit: 'fast' is not valid"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_refused_before_anything_is_planned(tmp_path: Path, example: str, given: str, sentence: str) -> None:
    status, output = plan(tmp_path, "-e", given, example=example)
    assert status != 0
    assert sentence in output
    assert list(tmp_path.iterdir()) == []
