# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""When a SuperNode may stop: the program that waits for it, with a clock, a systemd and a journal that a test writes."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/flower_supernode/files/flower-rest"
BEGIN, END = "INFO :      Receiving: train message (ID: a)", "INFO :      Sent successfully"
# As journalctl does it with --reverse, --lines and --grep, of what was said up to now.
JOURNALCTL = """
while [ "$1" != --grep ]; do [ "$1" != --lines ] || lines=$2; shift; done
awk -F '\\t' -v now="$(cat {root}/clock)" '$1 <= now' {root}/journal | while IFS='\t' read -r at line; do
  printf '%s\\n' "$line" | grep -qP -e "$2" && printf '%s.5 host flower[1]: %s\\n' "$at" "$line"
done | tail -n "$lines" | tac
"""
COMMANDS = {
    "date": "cat {root}/clock",
    "sleep": 'echo $(($(cat {root}/clock) + $1)) >{root}/clock',
    "systemctl": "case $1 in is-active) [ ! -e {root}/stopped ];; show) echo 1234;; esac",
    "journalctl": JOURNALCTL,
    "docker": 'echo "$2" >>{root}/containers; [ -e {root}/asked ] || cp {root}/clock {root}/asked; cat {root}/asked; sleep $(cat {root}/slow)',
}


class Node:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.began = int(time.time())
        (root / "clock").write_text(str(self.began))
        (root / "slow").write_text("0")
        (root / "commands").mkdir()
        for name, text in COMMANDS.items():
            (root / "commands" / name).write_text(f"#!/bin/sh\n{text.replace('{root}', str(root))}\n")
            (root / "commands" / name).chmod(0o755)
        self.unit("ExecStart=/opt/flower/bin/flower-container --name flower-supernode")

    def unit(self, text: str, name: str = "flower-supernode") -> None:
        (self.root / f"{name}.service").write_text(f"{text}\n")

    def rest(self, *said: tuple[int, str], most: int = 3600) -> tuple[int, int]:
        """Wait; return the status and after how many seconds it came. said: what Flower says, by seconds from now."""
        (self.root / "journal").write_text("".join(f"{self.began + at}\t{line}\n" for at, line in said))
        script = PROGRAM.read_text().replace("/etc/systemd/system/", f"{self.root}/").replace("/run/", f"{self.root}/")
        environment = os.environ | {"PATH": f"{self.root}/commands:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", script, "flower-rest", str(most)], env=environment, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.returncode, int((self.root / "clock").read_text()) - self.began

    @property
    def containers(self) -> set[str]:
        return set((self.root / "containers").read_text().split())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_one_that_has_had_no_message_may_stop_at_once(node: Node) -> None:
    assert node.rest() == (0, 0)
    assert node.rest((-120, BEGIN), (-120, END)) == (0, 0)
    assert not (node.root / "containers").exists(), "nobody was asked to leave it alone"


def test_one_that_does_not_run_may_stop_at_once(node: Node) -> None:
    (node.root / "stopped").touch()
    assert node.rest((-1, BEGIN)) == (0, 0)


def test_one_that_works_stops_when_a_reply_that_says_so_was_there_to_be_fetched(node: Node) -> None:
    """The reply to what it worked on when it was asked may not say so: the ServerApp may ask again."""
    assert node.rest((-5, BEGIN), (1, END), (3, BEGIN), (5, END)) == (0, 35)
    assert node.containers == {"flower-supernode"}


def test_one_that_gets_work_while_it_is_asked_works(node: Node) -> None:
    (node.root / "slow").write_text("3")
    assert node.rest((-50, BEGIN), (-40, END), (1, BEGIN), (5, END)) == (0, 35)


def test_one_that_gets_work_again_and_again_goes_on(node: Node) -> None:
    said = [(at, line) for start in range(-5, 40, 10) for at, line in ((start, BEGIN), (start + 4, END))]
    assert node.rest(*said, most=30) == (1, 30)


def test_one_whose_replies_nobody_listens_to_stops_when_it_has_had_nothing_to_do_for_two_minutes(node: Node) -> None:
    assert node.rest((-119, BEGIN), (-112, END)) == (0, 8)


def test_one_that_was_asked_before_is_not_asked_again(node: Node) -> None:
    (node.root / "asked").write_text(str(node.began - 60))
    assert node.rest((-50, BEGIN), (-40, END)) == (0, 0)


def test_the_app_is_asked_where_it_runs(node: Node) -> None:
    node.unit("", "flower-superexec")
    node.rest((-5, BEGIN), most=1)
    assert node.containers == {"flower-superexec"}


def test_without_a_container_a_file_of_the_machine_asks_it(node: Node) -> None:
    node.unit("ExecStart=/opt/flower/native/bin/flower-supernode")
    # The file has the time of the machine.
    assert node.rest((-5, BEGIN), (1, END), (3, BEGIN), (5, END)) == (0, 35)
    assert (node.root / "flower-rest").exists()


@pytest.mark.parametrize("end", [
    "ERROR :     Failed to send message b: gone", "ERROR :     Failed to create task for run ID 1. The message will not be processed.",
    "INFO :      Run ID 1 is not in `RUNNING` status. Ignoring reply message b.", "\x1b[92mINFO \x1b[0m:      Sent successfully",
    "INFO 2026-11-30 22:45:29,524:      Sent successfully",
    '{"timestamp": "2026-11-30T22:45:29.524Z", "level": "INFO", "unit": "flower-supernode", "message": "Sent successfully"}',
])
def test_work_ends_in_many_ways(node: Node, end: str) -> None:
    assert node.rest((-119, BEGIN), (-117, end), (-1, "an app says: Receiving: ")) == (0, 3)
