# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/strategies.md says what the code does: its tables are made here, and its examples are checked as settings."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from ansible_collections.opennebula.flower.plugins.filter.settings import settings
from ansible_collections.opennebula.flower.plugins.module_utils import contextualization
from federation import catalogue, limits
from federation.strategy_table import PRIVACY, STRATEGIES, Option, fewest_for_trimming

from .shipped import REPOSITORY

PAGE = (REPOSITORY / "docs" / "strategies.md").read_text()
PARAMETERS = {p.run_config: p for p in contextualization.PARAMETERS if p.run_config}
MALICIOUS = range(5)
ROUNDS = (1, 10, 100)
COMMANDS = re.findall(r"ansible-playbook opennebula\.flower\.train((?:[^`\n]|\\\n)*)", PAGE)
EXAMPLES = [dict(re.findall(r"-e (flower_\w+)=(\S+)", command)) for command in COMMANDS]


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(head), *rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def parameters(choices: dict[str, tuple[Option, ...]]) -> str:
    """The parameters of strategies or kinds of privacy, with what they are by default."""
    rows = []
    for key, bounds in limits.OPTIONS.items():
        of_key = {name: option.default for name, options in choices.items() for option in options if option.key == key}
        defaults = ", ".join(f"{name} {'computed' if default is None else f'{default:g}'}" for name, default in of_key.items())
        if of_key:
            rows.append((f"`{PARAMETERS[key].variable}`", f"`{key}`", bounds.describe(), defaults))
    return table(("Role variable", "Run configuration", "Expected", "With, and by default"), rows)


def test_the_parameters_of_strategies_are_those_of_the_code() -> None:
    assert parameters({name: strategy.options for name, strategy in STRATEGIES.items()}) in PAGE


def test_the_parameters_of_differential_privacy_are_those_of_the_code() -> None:
    assert parameters(PRIVACY) in PAGE


def test_the_numbers_of_nodes_are_those_of_the_code() -> None:
    rows = [(name, *map(strategy.fewest_nodes, MALICIOUS)) for name, strategy in STRATEGIES.items() if strategy.fewest]
    rows.append(("FedTrimmedAvg, share 0.2", *(fewest_for_trimming(0.2, malicious) for malicious in MALICIOUS)))
    assert table(("`flower_num_malicious`", *MALICIOUS), rows) in PAGE


def test_epsilon_is_that_of_the_code() -> None:
    rows = [(noise, *(f"{catalogue.epsilon(noise, rounds, catalogue.DELTA):.1f}" for rounds in ROUNDS)) for noise in (0.5, 1, 2, 4, 8)]
    assert table(("Noise multiplier", *(f"{rounds} rounds" if rounds > 1 else "1 round" for rounds in ROUNDS)), rows) in PAGE


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_a_paragraph(strategy: str) -> None:
    (paragraph,) = re.findall(rf"^\*\*{strategy}\*\* (.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert "when" in paragraph


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["flower_run_name"])
def test_an_example_holds_as_settings_of_a_federation_of_seven(example: dict[str, str]) -> None:
    checked = settings({name: value for name, value in example.items() if name != "flower_run_name"}, 7, 2, 10)
    assert checked["errors"] == []
    assert checked["notes"] == []
