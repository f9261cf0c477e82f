# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What many zones cost the control node, as processor time and memory, which do not depend on what else the machine does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 10
MOST_KILOBYTES = 300 << 10


def test_the_plan_of_fifty_zones_takes_seconds(tmp_path):
    hosts = {
        f"zone{number:02}": {"one_api_url": f"http://zone{number:02}.example.org:2633/RPC2", "flower_site_addresses": [f"198.51.100.{number}"]}
        for number in range(50)
    }
    shared = {
        "flower_service_name": "fl", "flower_superlink_address": "fl.example.org:9092", "flower_supernodes": 200, "flower_supernodes_max": 200,
        "flower_node_auth_enabled": False,  # the keys of so many would not fit into a context
    }  # fmt: skip
    groups = {"coordinator": {"hosts": {"zone00": {}}}, "training_sites": {"hosts": hosts}}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"vars": shared, "children": groups}}))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.json"), str(ROOT / "playbooks/plan.yml")]
    process = subprocess.Popen([*command, "-e", f"flower_plan_directory={tmp_path}"], cwd=ROOT, stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    assert json.loads((tmp_path / "plan.json").read_text())["nodes"]["now"] == 10_000
    seconds = usage.ru_utime + usage.ru_stime
    print(f"plan of 50 zones: {seconds:.1f} s of processor, {usage.ru_maxrss >> 10} MB")
    assert seconds < MOST_SECONDS
    assert usage.ru_maxrss < MOST_KILOBYTES
