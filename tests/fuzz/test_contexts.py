# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Whatever a context holds: it is refused in sentences that name the parameters, or each value is where it belongs and nowhere else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import contexts
import pytest
import readers
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import StandIns

from ansible_collections.opennebula.flower.plugins.module_utils import context_values
from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.plugins.module_utils.flower.run_config import inline_config, toml_document
from ansible_collections.opennebula.flower.tests.support.rendered_roles import ROLES, rendered
from federation.settings import Settings, SettingsError

# A hundred characters of a value, each perhaps escaped with ten, and what is expected.
LONGEST_SENTENCE = 2000
NAMES = re.compile(r"ONEAPP_[A-Z0-9_]+")
APP_DEFAULTS = tomllib.loads((ROLES.parent / "apps/federation/pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
read = lru_cache(maxsize=2000)(readers.read)


@given(contexts.contexts(), st.sampled_from(table.ROLES), st.sampled_from(["container", "native"]), st.sampled_from(["context", "playbook", "texts"]))
def test_every_context_is_refused_by_name_or_puts_each_value_in_its_place(part: int, context: dict[str, str], role: str, runtime: str, road: str) -> None:
    values = accepted(context, role)
    check_other_road(road, context, values, role)
    check_run_configuration(values)
    check_files("superlink" if role == table.SUPERLINK else "supernode", values, runtime)


def accepted(context: dict[str, str], role: str) -> dict[str, Any]:
    """Return the values of what is left of a context without what is refused, which is told by name."""
    while True:
        try:
            checked = table.check(context, role)
        except table.ContextError as problem:
            named = check_sentences(problem.errors, context)
            assert context, problem.errors
            left = {name: text for name, text in context.items() if not any(map(name.startswith, named))}
            context = left if left != context else {}
        else:
            check_sentences([*checked.ignored, *checked.warnings], context)
            return checked.values


def check_sentences(sentences: list[str], context: Mapping[str, str]) -> set[str]:
    """Check what is said of a context, and return the names in it."""
    sensitive = {name for name in context if name in contexts.PARAMETERS and contexts.PARAMETERS[name].sensitive}
    # What is so long is not said by chance, unless it is given as another value too.
    others = "".join(text for name, text in context.items() if name not in sensitive)
    secrets = [text.strip() for name, text in context.items() if name in sensitive and len(text.strip()) > 20 and text.strip() not in others]
    named = set()
    for sentence in sentences:
        assert sentence.isprintable(), sentence
        assert len(sentence) <= LONGEST_SENTENCE, sentence
        assert not any(secret in sentence for secret in secrets), sentence
        name = NAMES.match(sentence) or re.match(r"(FL|ML|FLOWER)_[A-Z0-9_]+", sentence)
        # Names that there are not may be long, and are shortened.
        assert name and (name[0] in contexts.PARAMETERS or any(given.startswith(name[0]) for given in context)), sentence
        named |= {name[0], *NAMES.findall(sentence)}
    return named


def check_other_road(road: str, context: Mapping[str, str], values: dict[str, Any], role: str) -> None:
    """Values are the same on their way into the context of another VM and through a playbook, whose texts are refused by name too."""
    if road == "context":
        again = table.validate(table.context_values(values), role)
    elif road == "playbook":
        again = table.check_variables(values, role).values
    else:
        again = values
        try:
            table.check_variables({parameter.variable: context[name] for name, parameter in contexts.PARAMETERS.items() if name in context}, role)
        except table.ContextError as problem:
            assert all(sentence.isprintable() and sentence.startswith("flower_") for sentence in problem.errors)
    assert again == values
    assert {name: type(value) for name, value in again.items()} == {name: type(value) for name, value in values.items()}


def check_run_configuration(values: Mapping[str, Any]) -> None:
    """What Flower reads as TOML is what was meant, and the app takes it or says in a sentence why not."""
    for config in (table.run_config(values), values.get("flower_app_config", {}), values.get("flower_node_config", {})):
        for found in (tomllib.loads(toml_document(config)), readers.flower_config(inline_config(config))):
            assert found == config
            assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in config.items()}
    if "flower_num_rounds" in values:
        try:
            Settings.from_run_config({**APP_DEFAULTS, **table.run_config(values), "run-name": "initial"})
        except SettingsError as problem:
            assert str(problem).isprintable()


def check_files(role: str, values: Mapping[str, Any], runtime: str) -> None:
    """The files with these values are those with harmless ones, but for the values in their places."""
    stand_ins = StandIns(values)
    harmless = rendered(role, stand_ins.values, runtime)
    for name, text in rendered(role, values, runtime).items():
        if text == harmless[name] and read(name, text) is not None:
            continue
        expected = stand_ins.back(read(name, harmless[name]))
        if name == "certificates.json":
            # An address of the machine may be given as well.
            expected["names"] = list(dict.fromkeys(expected["names"]))
        if name == "uplink.conf":
            # Its last number follows from the limit.
            assert read(name, text)[-1][-1].isdecimal()
            expected = [*expected[:-1], [*expected[-1][:-1], read(name, text)[-1][-1]]]
        assert read(name, text) == expected, name


def test_every_kind_of_value_has_texts_of_its_own() -> None:
    assert contexts.USUAL.keys() == context_values.KINDS.keys()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.service", "[Unit]\nAfter=b\n\n[Evil]\nUser=d\n", "no section"),
        ("x.service", "[Service]\nUser=%i\n", "systemd changes"),
        ("x.service", "[Service]\nExecStart=/bin/x $HOME\n", "systemd replaces"),
        ("x.service", "[Service]\nExecStart=/bin/x 'a\n", "no word"),
        ("x.service", "[Service]\nExecStart=/bin/x --node-config \"a='x' y\"\n", "leaves something out"),
        ("x.service", "[Service]\nA=b\rUser=root\n", "control characters"),
        ("x.cfg", 'frontend x\n    bind "$X"\n', "no word"),
        ("x.nft", "table inet x {\n  accept }\n}\n", "more braces"),
        ("x.json", '{"a": 1, "a": 2}', "twice"),
        ("x.crt", "-----BEGIN X-----\nAAAA\n-----END X-----\nx\n", "no PEM"),
    ],
)
def test_what_a_program_may_read_in_two_ways_is_an_error(name: str, text: str, reason: str) -> None:
    with pytest.raises(readers.ReadError, match=reason):
        readers.read(name, text)


def test_words_are_those_of_the_program_that_reads_them() -> None:
    unit = readers.read("x.service", '[Service]\nExecStart=/x "a \\"b\\" %% $$ \\U0000000a" \\\n  c\n')
    assert unit == [("Service", "ExecStart", ["/x", 'a "b" % $ \n', "c"])]
    assert readers.read("x.cfg", "frontend x\n  # no\n  bind 'a b' c\\ d\n") == [["frontend", "x"], ["bind", "a b", "c d"]]
