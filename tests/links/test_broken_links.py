# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a training, and of the nodes, when links are cut, flap or are thin, and when the SuperLink is away.

Hours are minutes here. Nothing in Flower or in the roles counts longer than three things: the heartbeat by which the SuperLink misses a node, the deadline
of a round, and the longest wait between two attempts of a node to connect. What lasts longer than all of them is as long as it can be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from linked import PATIENCE, LinkedFederation, now, when

from ansible_collections.opennebula.flower.tests.support.cables import Quality
from ansible_collections.opennebula.flower.tests.support.waiting import repeating, wait_until

# Seconds, and what Flower has built in: a node that is silent is missed after two heartbeats, and tries again after 20 s at most.
HEARTBEATS = 60
LONGEST_WAIT = 20


def setting(name: str, usual: int) -> int:
    """A number that the environment may change."""
    return int(os.environ.get(f"LINKS_{name}", usual))


NODES = setting("NODES", 10)
# Scaled: ten minutes of a cut link with rounds of five minutes at most, and hours without a SuperLink.
DEADLINE, CUT, AWAY = setting("DEADLINE", 180), setting("CUT", 240), setting("AWAY", 100)
# Scaled: every 20 s for five minutes.
FLAP, FLAPS = setting("FLAP", 5), setting("FLAPS", 12)
LOCKED = setting("LOCKED", 40)
THIN_ROUNDS = setting("ROUNDS", 1)
BACK = 60
MOST_MORE_MIB = 16
MODEL_MB = 1
# Round trip of half a second.
THIN = Quality(rate=64_000, delay=0.25, loss=0.05)
UPLINK = "56kbit"

Start = Callable[..., LinkedFederation]


def needing(nodes: int) -> dict[str, int]:
    """Settings of a training that goes on with so many nodes."""
    return dict.fromkeys(("min_available_clients", "min_fit_clients", "min_evaluate_clients"), nodes)


def after(seconds: float) -> Callable[[], bool]:
    """A condition that holds once so much time has passed."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def test_nodes_whose_links_are_cut_in_the_middle_of_a_round_are_back_soon_after_the_links(federation: Start, figures: list[str]) -> None:
    many = federation(NODES)
    half = NODES // 2
    cut, kept = many.nodes[:half], many.nodes[half:]
    known = set(many.statuses())
    training = many.train("cut", num_server_rounds=100, round_timeout=DEADLINE, nodes_timeout=PATIENCE, **needing(NODES - half))
    many.wait_for_event(training, "round_end", round=1)
    begun = many.wait_for_event(training, "round_start", after=now(), num_clients_selected=NODES)
    number = begun["data"]["round"]

    # Each one while it works: it has the message, and its reply cannot go.
    waiting = list(cut)

    def cut_those_at_work() -> bool:
        for node in [node for node in waiting if node.asked() >= number]:
            node.cable.cut()
            waiting.remove(node)
        return not waiting

    wait_until(cut_those_at_work, "the nodes to get the message of the round", PATIENCE)
    over = after(CUT)

    ended = many.wait_for_event(training, "round_end", round=number)
    seconds = when(ended) - when(begun)
    assert ended["data"]["num_clients_responded"] == NODES - half
    many.wait_for_event(training, "round_end", after=when(ended), num_clients_selected=NODES - half)
    wait_until(over, "the end of the cut", CUT + PATIENCE)
    assert many.online() == {name for name in known if name.split()[0] in {node.name for node in kept}}

    for node in cut:
        node.cable.mend()
    mended = now()
    back = many.wait_for_nodes(NODES) - mended
    together = many.wait_for_event(training, "round_start", after=mended + back)
    figures.append(
        f"{half} of {NODES} links cut in a round for {CUT} s (deadline {DEADLINE} s): the round closed after {seconds:.0f} s with {NODES - half} replies; "
        f"all nodes back {back:.0f} s after the links, and all of them in the round that began {when(together) - mended:.0f} s after them"
    )
    assert seconds <= DEADLINE
    assert back <= BACK
    assert together["data"]["num_clients_selected"] == NODES
    assert many.wait_for_event(training, "round_end", round=together["data"]["round"])["data"]["num_clients_responded"] == NODES
    assert all(node.is_running() for node in many.nodes), "no node was started again"
    assert set(many.statuses()) == known, "no node is registered twice"
    assert not [event for event in many.events(training) if event["event"] == "round_failed"]


def test_a_link_that_flaps_costs_no_node_its_process_its_registration_or_more_memory(federation: Start, figures: list[str]) -> None:
    two = federation(2)
    flapping = two.nodes[0]
    known = set(two.statuses())
    training = two.train("flaps", num_server_rounds=100, nodes_timeout=PATIENCE, **needing(1))
    two.wait_for_event(training, "round_end", round=2)
    memory = flapping.resident_mib()
    turns = []

    def turn() -> None:
        turns.append(now())
        (flapping.cable.mend if len(turns) % 2 == 0 else flapping.cable.cut)()

    with repeating(turn, FLAP):
        wait_until(lambda: len(turns) >= 2 * FLAPS, "the link to flap")
    flapping.cable.mend()
    mended = now()
    back = two.wait_for_nodes(2) - mended
    together = two.wait_for_event(training, "round_start", after=mended + back, num_clients_selected=2)
    assert two.wait_for_event(training, "round_end", round=together["data"]["round"])["data"]["num_clients_responded"] == 2
    more = flapping.resident_mib() - memory
    figures.append(
        f"link down {FLAP} s and up {FLAP} s, {FLAPS} times: {flapping.cable.lost} packets lost, no crash, one registration, "
        f"{more:+.1f} MiB of {memory:.0f} MiB, back {back:.0f} s after the last"
    )
    assert all(node.is_running() for node in two.nodes)
    assert set(two.statuses()) == known
    assert more <= MOST_MORE_MIB
    assert not [event for event in two.events(training) if event["event"] == "round_failed"]


def test_rounds_complete_over_a_thin_long_and_lossy_link(federation: Start, figures: list[str]) -> None:
    pair = federation(1, MODEL_MB)
    thin = pair.add_linked_node(THIN, UPLINK)
    pair.wait_for_nodes(2)
    training = pair.train("thin", num_server_rounds=THIN_ROUNDS, round_timeout=PATIENCE, max_failed_rounds=1, **needing(2))
    ended = pair.wait_for_event(training, "round_end", round=THIN_ROUNDS, seconds=THIN_ROUNDS * PATIENCE)
    took = [event["data"]["round_duration_seconds"] for event in pair.events(training) if event["event"] == "round_end"]
    lost = thin.cable.lost / (thin.cable.lost + thin.cable.passed)
    figures.append(
        f"64 kbit/s, round trip 500 ms, 5 % loss, model of {MODEL_MB} MB, uplink limit {UPLINK}: "
        f"{len(took)} rounds of {', '.join(f'{seconds:.0f}' for seconds in took)} s, {lost:.1%} of the packets lost"
    )
    assert ended["data"]["num_clients_responded"] == 2
    assert len(took) == THIN_ROUNDS
    assert thin.is_running()


def test_nodes_return_by_themselves_within_the_longest_wait_once_the_superlink_is_there_again(federation: Start, figures: list[str]) -> None:
    three = federation(3)
    known = three.online()
    three.power_off()
    wait_until(after(AWAY), "hours to pass", AWAY + PATIENCE)
    there = three.power_on()
    back = three.wait_for_nodes(3) - there
    figures.append(f"SuperLink away for {AWAY} s, so that nodes wait as long as they ever do: all 3 back {back:.0f} s after it")
    assert back <= LONGEST_WAIT + 10, "the longest wait, and the heartbeat after it on a busy machine"
    assert three.online() == known
    assert all(node.is_running() for node in three.nodes)
    training = three.train("after", num_server_rounds=1, **needing(3))
    assert three.wait_for_event(training, "round_end", round=1)["data"]["num_clients_responded"] == 3


def test_nodes_stay_when_the_database_of_the_superlink_is_locked_for_a_while(federation: Start, figures: list[str]) -> None:
    two = federation(2)
    known = two.online()
    with two.locked_database():
        wait_until(after(LOCKED), "the lock to last", LOCKED + PATIENCE)
    two.wait_for_nodes(2)
    refused = two.told_to_come_back()
    # Longer than a node without heartbeats is not missed.
    wait_until(after(HEARTBEATS + LONGEST_WAIT), "heartbeats to be missed", PATIENCE)
    figures.append(f"database of the SuperLink locked for {LOCKED} s: {refused} requests came back later, no node was lost")
    assert refused > 0
    assert two.online() == known
    assert all(node.is_running() for node in two.nodes)


def test_nodes_that_join_and_leave_in_order_cost_no_round(federation: Start, figures: list[str]) -> None:
    growing = federation(2)
    rounds = 10
    training = growing.train("elastic", num_server_rounds=rounds, round_timeout=PATIENCE, nodes_timeout=PATIENCE, **needing(2))
    growing.wait_for_event(training, "round_end", round=1)
    for _node in range(4):
        growing.add_linked_node()
    joined = growing.wait_for_nodes(6)
    six = growing.wait_for_event(training, "round_start", after=joined, num_clients_selected=6)
    oldest = growing.nodes[:3]
    # The hardest moment: they work. The third one was asked in fewer rounds.
    before = [node.asked() for node in oldest]
    wait_until(lambda: all(node.asked() > asked for node, asked in zip(oldest, before, strict=True)), "the nodes to work", PATIENCE)
    left = now()
    for node in oldest:
        node.stop()
    three = growing.wait_for_event(training, "round_start", after=left, num_clients_selected=3)
    growing.wait_for_event(training, "training_end")
    events = growing.events(training)
    failures = [when(event) - left for event in events if event["event"] == "client_failure" and when(event) > left]
    waited = max(failures, default=0)
    figures.append(
        f"2 nodes, 6 and 3 in a training of {rounds} rounds: all 6 in the round that began {when(six) - joined:.0f} s after they joined, three in the one "
        f"that began {when(three) - left:.0f} s after three left at work; "
        f"{len(failures)} replies of theirs counted as failed after at most {waited:.0f} s, no failed round"
    )
    assert [event["data"]["round"] for event in events if event["event"] == "round_end"] == list(range(1, rounds + 1))
    assert not [event for event in events if event["event"] == "round_failed"]
    assert waited < HEARTBEATS / 2, "told, and not found out"
