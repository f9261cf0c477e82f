# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One federation for all tests, and the figures they measure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_federation import LabFederation, clean, deploy

FIGURES: list[str] = []


@pytest.fixture(scope="session")
def federation() -> Iterator[LabFederation]:
    yield deploy()
    clean()


@pytest.fixture(scope="session")
def figures() -> list[str]:
    """Lines that are printed at the end."""
    return FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in FIGURES:
        terminalreporter.write_line(f"RECOVERY {line}")
