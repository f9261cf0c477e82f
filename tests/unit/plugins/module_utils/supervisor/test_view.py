# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A federation as text: what there is to see stands there, and nothing that somebody wrote moves the cursor."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.view import (
    BROKEN,
    CONNECTED,
    DISCONNECTED,
    READY,
    STARTING,
    TRAINING,
    Federation,
    Vm,
    Zone,
    sparkline,
    view,
)

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\n\u202eb\x9b31m\ud800" + "x" * 5000


def run(**known: Any) -> dict[str, Any]:
    history = [
        {"round": number, "seconds": 30.0, "nodes": 2, "metrics": {"accuracy": 0.5 + number / 10, "loss": 1 / number, "auc": "NaN"}} for number in (1, 2, 3)
    ]
    return {
        "name": "initial", "status": "running", "rounds": 10, "round": 3, "message": "round 4 of 10: 2 nodes train", "started": 1000, "ended": None,
        "nodes": 2, "failed_rounds": 0, "checkpoint": 0, "resumed": 0, "metrics": history[-1]["metrics"], "zones": {}, "history": history, **known,
    }  # fmt: skip


def shown(*runs: dict[str, Any], zones: tuple[Zone, ...] = (), problems: tuple[str, ...] = (), width: int = 200) -> str:
    return "\n".join(view(Federation("flower", 1090.0, runs, zones, problems), width))


def vms(*standings: str) -> list[Vm]:
    return [Vm(number, f"node-{number}", "supernode", standing, "no space" if standing == BROKEN else "") for number, standing in enumerate(standings)]


ENDED = {"status": "completed", "round": 10, "ended": 4700}
SEEN = {
    "nothing": ((), ["flower at 1970-01-01 00:18:10 UTC", "No run is published yet."]),
    "progress": ((run(),), ["Run initial: running, round 3 of 10 ██████░░░░░░░░░░░░░░, 2 nodes, 1 min 30 s so far, about 3 min 30 s left"]),
    "message": ((run(),), ["  round 4 of 10: 2 nodes train"]),
    "curves": ((run(),), ["  accuracy         0.8000  ▁▄█", "  loss             0.3333  █▃▁", "  auc                 NaN"]),
    "recovery": ((run(checkpoint=3, resumed=2),), ["checkpoint after round 3, went on after round 2"]),
    "end": ((run(**ENDED),), ["Run initial: completed, round 10 of 10 ████████████████████, 2 nodes, 1 h 01 min\n"]),
    "waiting": ((run(status="waiting", rounds=0, round=0, nodes=0, started=None, history=[], metrics={}),), ["Run initial: waiting\n"]),
    "too few nodes": ((run(failed_rounds=2),), ["Problems\n  run initial: rounds that too few nodes completed so far: 2"]),
    "failure": ((run(status="failed", message="only 1 of 2 nodes came"),), ["Problems\n  run initial is failed: only 1 of 2 nodes came"]),
    "the one that goes on": ((run(), run(name="next", status="waiting")), ["Run initial: running", "Other runs\n  next: waiting, 3 of 10 rounds"]),
    "those before": ((run(name="first", **ENDED), run()), ["Run initial: running", "  first: completed, 10 of 10 rounds, accuracy 0.8000, loss 0.3333"]),
}


@pytest.mark.parametrize(("runs", "expected"), SEEN.values(), ids=SEEN)
def test_what_a_run_does_can_be_seen(runs: tuple, expected: list[str]) -> None:
    for text in expected:
        assert text in shown(*runs) + "\n"


def test_the_nodes_of_a_zone_are_counted_by_how_they_stand() -> None:
    zone = Zone("munich", "RUNNING", [Vm(9, "link", "superlink", READY), *vms(CONNECTED, TRAINING, TRAINING)])
    text = shown(run(zones={"munich": {"rounds": 3, "examples": 400, "failures": 1}}), zones=(zone,))
    assert "  munich: service RUNNING; 1 superlink (1 ready); 3 supernode (1 connected, 2 training)" in text
    assert "; took part in 3 rounds with 400 examples, 1 failures\n" in text + "\n"
    assert "Problems" not in text


def test_machines_that_no_zone_has_are_shown_with_what_the_run_tells_of_them() -> None:
    did = {"munich": {"rounds": 3, "examples": 400, "failures": 0}, "jena": {"rounds": 2, "examples": 90, "failures": 1}}
    lines = shown(run(zones=did), zones=(Zone("munich", "RUNNING", vms(CONNECTED)),)).splitlines()
    assert lines[lines.index("Zones") + 1 :] == [
        "  munich: service RUNNING; 1 supernode (1 connected); took part in 3 rounds with 400 examples",
        "  jena: took part in 2 rounds with 90 examples, 1 failures",
    ]


def test_of_many_machines_some_are_shown() -> None:
    did = {f"m{number:03}": {"rounds": 1, "examples": 1, "failures": 0} for number in range(100)}
    lines = shown(run(zones=did)).splitlines()
    assert lines[-2:] == ["  m019: took part in 1 rounds with 1 examples", "  and 80 more"]


def test_who_is_missing_is_named_with_the_reason_the_broken_ones_first() -> None:
    text = shown(zones=(Zone("munich", "WARNING", vms(STARTING, DISCONNECTED, BROKEN)), Zone("lyon", problem="10.0.0.1 does not answer.")))
    assert text.endswith(
        "Problems\n  lyon: 10.0.0.1 does not answer.\n  munich: VM 2 node-2 is broken, no space\n  munich: VM 0 node-0 is starting\n"
        "  munich: VM 1 node-1 is not connected"
    )
    assert "  lyon: does not answer" in text


def test_of_many_broken_machines_some_are_named() -> None:
    lines = shown(zones=(Zone("munich", "RUNNING", vms(*[BROKEN] * 5000)),)).splitlines()
    assert len(lines) < 20
    assert lines[-1] == "  and 4990 more VMs"


def test_nothing_that_a_machine_or_an_app_says_moves_the_cursor_or_fills_the_screen() -> None:
    hostile = run(name=HOSTILE, message=HOSTILE, status="failed", zones={HOSTILE: {"rounds": 1, "examples": 1, "failures": 0}})
    zone = Zone(f"z{HOSTILE}", HOSTILE, [Vm(1, HOSTILE, HOSTILE, BROKEN, HOSTILE)])
    lines = view(Federation(HOSTILE, 0.0, [hostile, run(message=HOSTILE)], [zone, Zone("lyon", problem=HOSTILE)], [HOSTILE]), 80)
    assert all(line.isprintable() for line in lines)
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80
    assert "\\x1b[2J" in "\n".join(lines)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""), (["NaN", None, float("nan"), float("inf")], ""), ([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"), ([5, 5], "▁▁"), ([0.0, "NaN", 1.0], "▁ █"),
        ([-1.7e308, 1.7e308], "▁█"), (range(1000), "▁▁▁▂▂▂▂▂▂▃▃▃▃▃▄▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇▇███"),
    ],
)  # fmt: skip
def test_a_sparkline_has_the_newest_values_between_their_lowest_and_highest(values: list, line: str) -> None:
    assert sparkline(values) == line
