# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Prints which share of the recorded exchanges the lab answers as recorded."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    agreeing: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            group = dict(report.user_properties).get("recording", "").partition("/")[0]
            if group and report.when == "call":
                compared[group] += 1
                agreeing[group] += outcome == "passed"
    for group, number in sorted(compared.items()):
        share = agreeing[group] / number
        terminalreporter.write_line(f"recordings {group}: {agreeing[group]} of {number} agree ({share:.1%})")
