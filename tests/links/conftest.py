# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Federations whose nodes are behind links of their own, and the figures that are measured with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from linked import LinkedFederation

from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.support.cables import Cables
from bench.checkpoints import app_with_model

SMALL_MODEL_MB = 0.01
# A training takes long enough that a link can be cut meanwhile.
TRAINS, TRAINING_SECONDS = "def train(arrays, data, options):\n", 3
FIGURES: list[str] = []


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Callable[..., LinkedFederation]]:
    """Starts a federation with so many nodes behind good links, whose app has a model of that size and does nothing for some seconds instead of training."""
    with ExitStack() as stack:

        def start(nodes: int, megabytes: float = SMALL_MODEL_MB) -> LinkedFederation:
            cables = stack.enter_context(Cables())
            app = app_with_model(tmp_path, megabytes)
            use_case = app / "federation/usecases/digits.py"
            use_case.write_text(use_case.read_text().replace(TRAINS, f"{TRAINS}    __import__('time').sleep({TRAINING_SECONDS})\n"))
            running = stack.enter_context(LinkedFederation(make_flower_venv(), app, tmp_path, cables))
            for _node in range(nodes):
                running.add_linked_node()
            running.wait_for_nodes(nodes)
            return running

        yield start


@pytest.fixture(scope="session")
def figures() -> list[str]:
    """Lines that are printed at the end."""
    return FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in FIGURES:
        terminalreporter.write_line(f"LINKS {line}")
