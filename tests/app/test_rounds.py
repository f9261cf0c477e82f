# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from federation.rounds import TRAINING, NotEnoughNodes, RoundFailed, TooManyFailedRounds, check_replies, pause, short


def test_enough_replies_let_the_round_count_despite_a_failure() -> None:
    check_replies(1, "training", replied=2, failures={7: "crashed"}, required=2)


def test_too_few_replies_are_refused_with_counts_and_reasons() -> None:
    with pytest.raises(RoundFailed) as caught:
        check_replies(4, "evaluation", replied=1, failures={9: "no answer within 5 s", 7: "crashed"}, required=2)
    assert str(caught.value) == ("round 4: 1 of 3 nodes completed the evaluation, at least 2 must (node 7: crashed; node 9: no answer within 5 s)")


def test_no_reply_at_all_is_refused() -> None:
    with pytest.raises(RoundFailed, match="0 of 2"):
        check_replies(1, "training", replied=0, failures={1: "gone", 2: "gone"}, required=1)


def test_what_nodes_say_is_short_and_so_is_their_number() -> None:
    failures = {number: short("a\n\x1b[2J" + "x" * 10_000) for number in range(1000)}
    with pytest.raises(RoundFailed, match="and 990 more") as caught:
        check_replies(1, "training", replied=0, failures=failures, required=1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


def rounds(*failed: dict[int, str], required: int, asked: int = 3) -> list[RoundFailed]:
    caught = []
    for failures in failed:
        with pytest.raises(RoundFailed) as problem:
            check_replies(4, TRAINING, asked - len(failures), failures, required)
        caught.append(problem.value)
    return caught


def test_giving_up_names_the_node_that_failed_again_and_again_when_none_may() -> None:
    failed = rounds({9: "sent array a with values that are not finite"}, {7: "crashed", 9: "sent NaN"}, {9: "sent NaN"}, required=3)
    assert str(TooManyFailedRounds(failed)) == (
        "round 4 failed 3 times in a row, at last: 2 of 3 nodes completed the training, at least 3 must (node 9: sent NaN); "
        "node 9 failed in 3 of these 3 rounds, and no node may fail while min-fit-clients is the number of nodes"
    )


def test_giving_up_names_nodes_without_blaming_the_settings_when_some_may_fail() -> None:
    failed = rounds({8: "crashed", 9: "crashed"}, {8: "crashed", 9: "crashed"}, required=2)
    assert str(TooManyFailedRounds(failed)).endswith("node 8 failed in 2 of these 2 rounds, node 9 failed in 2 of these 2 rounds")


def test_giving_up_says_how_often_and_why_at_last() -> None:
    last = RoundFailed(4, TRAINING, "0 of 2 nodes completed the training, at least 2 must")
    assert str(TooManyFailedRounds([last] * 3)) == "round 4 failed 3 times in a row, at last: 0 of 2 nodes completed the training, at least 2 must"
    assert str(TooManyFailedRounds([last])) == "round 4 failed: 0 of 2 nodes completed the training, at least 2 must"


def test_missing_nodes_are_counted_in_the_message() -> None:
    assert str(NotEnoughNodes(1, 2, 600.4)) == "waited 600 s for nodes: 1 connected, 2 needed"


def test_looking_for_replies_is_quick_at_first_and_seldom_later() -> None:
    assert pause(0) <= 0.2
    assert pause(3600) == 3
    assert pause(10) < pause(30)
