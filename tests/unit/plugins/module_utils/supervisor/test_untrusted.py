# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives is decoded within bounds or refused in one short sentence, and nothing else is ever raised."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import ContextError, run_overrides
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import encode
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import protocol, runs
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.artifacts import published_collections
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.untrusted import MOST_DEPTH, count, decode_json, figure, sentence

MOST = 1 << 20
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["NaN", "completed", "started", "a"])
FIELD_NAMES = ("digest", "metrics", "request", "reason", "seconds", "config", "state", "token", "files", "app", "resume")
NAMES = st.sampled_from([*vars(runs.Run("a")), *FIELD_NAMES]) | st.text()
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(NAMES, inner, max_size=8), max_leaves=30)
BROKEN = st.text() | st.sampled_from(["[" * 1000, "[" * 100_000, '{"a":' * 1000, "1" * 4000, "-" + "9" * 4301, '"\\ud800"', '{"name": "a"', "\ufeff[]"])
TEXTS = BROKEN | DOCUMENTS.map(json.dumps)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("text", [nested(MOST_DEPTH), '{"a":' * MOST_DEPTH + "1" + "}" * MOST_DEPTH, "12345678901234567890", "-9223372036854775808"])
def test_what_is_within_the_bounds_is_decoded(text: str) -> None:
    assert decode_json(text, MOST) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nested(MOST_DEPTH + 1), "nested more than 16 levels deep"),
        (nested(900), "nested more than 16 levels deep"),
        ("[" * 1000, "nested more than 16 levels deep|not JSON"),
        (nested(50_000), "nested more than 16 levels deep"),
        ("1" * 21, "a number of 21 digits, more than 20"),
        ('{"a": [' + "1" * 4000 + "]}", "a number of 4000 digits, more than 20"),
        ("1" * 100_000, "a number of 100000 digits"),
        ('"' + "a" * MOST + '"', "larger than 1048576 bytes"),
        ("", "not JSON"),
        ("{", "not JSON"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused_in_few_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        decode_json(text, MOST)
    assert len(str(caught.value)) < 80


@given(st.text() | st.binary() | DOCUMENTS, st.integers(20, 500))
def test_a_sentence_is_one_printable_line_of_bounded_length(content: object, most: int) -> None:
    said = sentence(content, most)
    assert said.isprintable()
    assert len(said) <= most + 40
    said.encode()  # half a surrogate pair would not reach any log


def test_a_sentence_says_how_much_was_left_out() -> None:
    assert sentence("a\nb \x1b[31m\u2028\ud800") == "a\\nb \\x1b[31m\\u2028\\ud800"
    assert sentence("x" * 1000, 10) == "xxxxxxxxxx... (1000 characters)"


@pytest.mark.parametrize(
    ("value", "kept"),
    [(0.5, 0.5), (3, 3), (math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), ("NaN", "NaN"), ("-Infinity", "-Infinity")],
)
def test_a_figure_is_kept_as_json_can_keep_it(value: object, kept: object) -> None:
    assert figure(value) == kept
    assert json.loads(json.dumps(figure(value), allow_nan=False)) == kept


@pytest.mark.parametrize("value", [None, True, "high", "nan", [0.5], {}])
def test_anything_else_is_no_figure(value: object) -> None:
    assert figure(value) is None


@pytest.mark.parametrize("value", [None, True, "3", -1, math.nan, math.inf, 1e300, 1 << 53, [3]])
def test_anything_else_is_no_count(value: object) -> None:
    assert count(value) is None


def refused_shortly(parse: Callable[[str], object], text: str) -> object:
    """Parse, or check that the refusal is one that people can read."""
    try:
        return parse(text)
    except (ValueError, ContextError) as problem:
        assert 0 < len(sentence(problem)) < 450
        return None


@settings(max_examples=100)
@given(TEXTS)
def test_any_text_is_a_request_or_refused(text: str) -> None:
    request = refused_shortly(protocol.read_request, text)
    protocol.request_digest(text)
    if request:
        refused_shortly(lambda _text: run_overrides(request.config), text)


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(["flower_node_config", "flower_cert_extra_san", "image-classes", "strategy", "checkpoint-enabled"]) | st.text(), DOCUMENTS)
)
def test_any_configuration_is_taken_or_refused(config: dict) -> None:
    refused_shortly(lambda _text: run_overrides(config), "")


@settings(max_examples=100)
@given(TEXTS)
def test_whatever_a_vm_publishes_is_read_or_refused(text: str) -> None:
    for read, name in (
        (protocol.published_runs, protocol.RUNS_ATTRIBUTE),
        (protocol.published_refusal, protocol.REFUSAL_ATTRIBUTE),
        (published_collections, protocol.ARTIFACTS_ATTRIBUTE),
    ):
        refused_shortly(lambda content, read=read, name=name: read({name: encode(content)}), text)


@settings(max_examples=100)
@given(st.text() | DOCUMENTS)
def test_whatever_an_attribute_is_made_of_is_read_or_refused(value: object) -> None:
    refused_shortly(lambda _text: protocol.published_runs({protocol.RUNS_ATTRIBUTE: value}), "")
    protocol.requested({protocol.REQUEST_ATTRIBUTE: value})


FIGURES = st.floats() | SCALARS
METRICS = st.dictionaries(st.sampled_from(["loss", "auc", "top-5", "", "<b>"]), FIGURES, max_size=3)
TABLES = st.fixed_dictionaries(
    {},
    optional={
        "round": st.lists(st.integers(0, 9) | SCALARS, max_size=2),
        "seconds": st.lists(FIGURES, max_size=2),
        "nodes": st.lists(st.integers(0, 9) | SCALARS, max_size=2),
        "metrics": st.dictionaries(st.sampled_from(["loss", "auc", "<b>"]), st.lists(FIGURES, max_size=2), max_size=2) | SCALARS,
    },
)
TEXTS_OF_RUNS = ("digest", "status", "message", "run_id", "app", "app_version")
NUMBERS_OF_RUNS = ("rounds", "round", "started", "ended", "nodes", "attempts", "failed_rounds", "checkpoint", "resumed")
RECORDS = st.fixed_dictionaries(
    {"name": st.just("a")},
    optional={name: st.text() | SCALARS for name in TEXTS_OF_RUNS}
    | {name: st.integers(0, 9) | SCALARS for name in NUMBERS_OF_RUNS}
    | {"metrics": METRICS | SCALARS, "history": TABLES | DOCUMENTS},
)


@settings(max_examples=100)
@given(RECORDS)
def test_runs_that_are_read_can_be_shown_and_are_json(record: dict) -> None:
    published = refused_shortly(lambda text: protocol.published_runs({protocol.RUNS_ATTRIBUTE: encode(text)}), json.dumps([record]))
    for run in published or []:
        json.dumps(run, allow_nan=False)
        for entry in run["history"]:
            assert protocol.progress_line(run["rounds"], entry).isprintable()
        assert f"{run['message']}{run['status']}".isprintable()


EVENTS = ("training_start", "nodes_waiting", "round_end", "round_failed", "checkpoint_saved", "training_resumed", "training_end", "training_failed")
METRIC_FIELDS = ("aggregated_loss", "aggregated_accuracy", "aggregated_auc", "aggregated_<b>")
FIELDS = ("round", "num_rounds", "connected", "num_clients_responded", *METRIC_FIELDS, "round_duration_seconds")
NUMBERS = st.integers(-5, 5) | st.floats() | SCALARS | st.sampled_from([10**19, 1e308, -1, 2**60])


@settings(max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": st.sampled_from(EVENTS)}, optional={"message": SCALARS, "data": st.dictionaries(st.sampled_from(FIELDS), NUMBERS) | SCALARS}
        ),
        max_size=8,
    )
)
def test_whatever_an_app_says_can_be_published_and_read(events: list[dict]) -> None:
    run = runs.Run("a")
    for event in events:
        run.apply(event)
    attributes = protocol.run_attributes([run])
    assert all(value.isprintable() and value for value in attributes.values())
    (published,) = protocol.published_runs(attributes)
    assert (published["history"], published["metrics"]) == (run.history, run.metrics)
    assert runs.run_from_record(json.loads(json.dumps(vars(run), allow_nan=False))) == (run, [])


@settings(max_examples=100)
@given(st.dictionaries(NAMES, DOCUMENTS, max_size=5) | DOCUMENTS)
def test_any_record_is_a_run_or_refused(record: object) -> None:
    refused_shortly(lambda _text: runs.run_from_record(record), "")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"name": "../../x"}, "'../../x' is not a name for a run"),
        ({"name": "a", "status": "exploded"}, "run 'a' has no usable status"),
        ({"name": "a", "run_id": "--help"}, "run 'a' has no usable run_id"),
        ({"name": "a", "known_ids": [1]}, "run 'a' has no usable run_id"),
        ({"name": "a", "offset": -1}, "run 'a' has no usable offset"),
        ({"name": "a", "history": [[1]]}, "run 'a' has no usable history"),
        ([], "not a JSON object"),
    ],
)
def test_a_record_of_something_else_is_refused_with_its_name(record: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        runs.run_from_record(record)
