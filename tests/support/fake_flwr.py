# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the flwr client: a SuperLink that is one JSON file.

Usage: fake_flwr.py STATE_FILE (run|list|stop) ... ; like the real client it exits 0 even when it refuses.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

FIRST_RUN_ID = 18158515033870114575


def main() -> None:
    path = Path(sys.argv[1])
    state = json.loads(path.read_text())
    command, arguments = sys.argv[2], sys.argv[3:]
    state["calls"].append([command, *arguments])
    if command in state["refuse"]:
        answer = {"success": False, "error-message": state["refuse"][command]}
    else:
        answer = {"success": True} | {"run": run, "list": list_runs, "stop": stop}[command](state, arguments)
    write_state(path, state)
    if command in state["lose_answer"]:
        print("Traceback: connection lost", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(answer))


def write_state(path: Path, state: dict) -> None:
    """Replace the file at once: tests look at it while the client runs."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(state))
    new.replace(path)


def run(state: dict, arguments: list[str]) -> dict:
    config_file = arguments[arguments.index("--run-config") + 1]
    run_id = str(FIRST_RUN_ID + len(state["runs"]))
    config = tomllib.loads(Path(config_file).read_text())
    state["runs"][run_id] = {"status": "running", "details": "", "app": arguments[0], "config": config}
    return {"run-id": run_id}


def list_runs(state: dict, _arguments: list[str]) -> dict:
    runs = state["runs"].items()
    return {"runs": [{"run-id": i, "status": r["status"], "status-details": r["details"]} for i, r in runs]}


def stop(state: dict, arguments: list[str]) -> dict:
    state["runs"][arguments[0]]["status"] = "finished:stopped"
    return {}


if __name__ == "__main__":
    main()
