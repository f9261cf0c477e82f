# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Flower's grid with deadlines, failure rules and partitions.

A strategy asks the grid for the connected nodes and has it deliver messages; wrapping the grid gives every strategy
the same rules without touching it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from federation.partition import assign
from federation.recorder import Recorder
from federation.replies import EXAMPLES, accept, accept_evaluation, agree
from federation.rounds import EVALUATION, TRAINING, NotEnoughNodes, check_replies, pause, short
from federation.settings import Settings
from federation.zones import Zones

_NODES_INTERVAL = 1.0  # seconds between two looks at the connected nodes
_REMINDER_INTERVAL = 10.0  # seconds between two messages that still wait for nodes


class WatchedGrid:
    """The part of a grid that strategies use."""

    def __init__(self, grid: Grid, settings: Settings, recorder: Recorder) -> None:
        self._grid = grid
        self._settings = settings
        self._recorder = recorder
        self._nodes: list[int] = []
        self._replied: set[int] = set()  # in the last phase
        self._zones = Zones()
        self._seconds: dict[int, float] = {}  # that each reply of the last phase took

    def get_node_ids(self) -> list[int]:
        """Wait for enough nodes and return their ids, the same ones until the next messages are sent.

        Flower's own sampling asks twice and waits for ever when a node left in between.

        Raises:
            NotEnoughNodes: the deadline passed.
        """
        if not self._nodes:
            self._nodes = self._wait_for_nodes()
        return self._nodes

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> list[Message]:
        """Deliver the messages of one phase of a round and return the usable replies in the order of the node ids.

        Raises:
            RoundFailed: fewer nodes than the settings demand gave a usable reply before the time-out.
        """
        messages = list(messages)
        self._assign_partitions(messages)
        self._nodes = []
        round_number = messages[0].content["config"]["server-round"]
        training = messages[0].metadata.message_type == MessageType.TRAIN
        if training:
            self._recorder.round_started(round_number, len(messages))

        replies, failures = self._usable_replies(messages, round_number, timeout)
        self._replied = set(replies)
        usable = list(replies.values())
        if training:
            self._recorder.clients_trained(len(usable))
            for node_id, reply in replies.items():
                self._zones.trained(node_id, round_number, int(reply.content["metrics"][EXAMPLES]), self._seconds[node_id])
            check_replies(round_number, TRAINING, len(usable), failures, self._settings.min_fit_clients)
        else:
            self._agree(replies, failures, round_number)
            usable = list(replies.values())
            self._recorder.zones(round_number, self._zones.facts())
            check_replies(round_number, EVALUATION, len(usable), failures, self._settings.min_evaluate_clients)
        return usable

    def _agree(self, replies: dict[int, Message], failures: dict[int, str], round_number: int) -> None:
        """Make evaluations alike, and move the nodes that are left out from the replies to the failures."""
        contents = {node_id: reply.content for node_id, reply in replies.items()}
        faults, left_out = agree(contents, self._settings.min_evaluate_clients)
        for node_id, fault in faults.items():
            self._recorder.client_failed(round_number, node_id, fault)
            if node_id in left_out:
                failures[node_id] = fault
                del replies[node_id]

    def connected_nodes(self) -> list[int]:
        """Return the ids of the nodes that are connected now, without waiting for any; those that did well come first."""
        return sorted(self._grid.get_node_ids(), key=lambda node_id: (node_id not in self._replied, node_id))

    def query(
        self, action: str, nodes: list[int], content: RecordDict, round_number: int, timeout: float
    ) -> tuple[dict[int, Message], dict[int, str]]:
        """Ask nodes for something outside of training; return the usable replies and the failures by node id."""
        config = ConfigRecord({"server-round": round_number})
        messages = [
            Message(RecordDict({**content, "config": config}), node_id, f"{MessageType.QUERY}.{action}")
            for node_id in nodes
        ]
        self._nodes = self._nodes or nodes
        self._assign_partitions(messages)
        self._nodes = []
        return self._usable_replies(messages, round_number, timeout)

    def _usable_replies(
        self, messages: list[Message], round_number: int, timeout: float
    ) -> tuple[dict[int, Message], dict[int, str]]:
        replies = self._exchange(messages, timeout)
        failures = {}
        for message in messages:
            node_id = message.metadata.dst_node_id
            reply = replies[node_id]
            if reply is not None and reply.has_content():
                self._zones.answered(node_id, reply.content)
            failure = _failure(message, reply, timeout)
            if failure:
                failures[node_id] = failure
        for node_id, reason in failures.items():
            self._recorder.client_failed(round_number, node_id, reason)
            self._zones.failed(node_id)
        return {node_id: replies[node_id] for node_id in sorted(replies) if node_id not in failures}, failures

    def _wait_for_nodes(self) -> list[int]:
        required = self._settings.min_available_clients
        started = time.monotonic()
        reminded: tuple[int, float] | None = None
        while True:
            nodes = sorted(self._grid.get_node_ids())
            if len(nodes) >= required:
                self._recorder.nodes_connected(len(nodes))
                return nodes
            waited = time.monotonic() - started
            if reminded is None or len(nodes) != reminded[0] or waited - reminded[1] >= _REMINDER_INTERVAL:
                self._recorder.nodes_waiting(len(nodes), required, waited)
                reminded = (len(nodes), waited)
            if waited >= self._settings.nodes_timeout:
                raise NotEnoughNodes(len(nodes), required, waited)
            time.sleep(min(_NODES_INTERVAL, self._settings.nodes_timeout - waited))

    def _assign_partitions(self, messages: list[Message]) -> None:
        """Strategies give all messages the same content; each node gets its own from here on."""
        partitions = assign(self._nodes)
        for message in messages:
            config = ConfigRecord(dict(message.content["config"]))
            config["partition-id"] = partitions[message.metadata.dst_node_id]
            config["num-partitions"] = len(partitions)
            message.content = RecordDict({**message.content, "config": config})

    def _exchange(self, messages: list[Message], timeout: float) -> dict[int, Message | None]:
        """Return node id -> reply, None for a node that did not answer in time."""
        nodes = [message.metadata.dst_node_id for message in messages]
        message_ids = self._grid.push_messages(messages)
        pending = {message_id: node for message_id, node in zip(message_ids, nodes, strict=True) if message_id}
        replies: dict[int, Message | None] = dict.fromkeys(nodes)
        started = time.monotonic()
        self._seconds = {}
        while pending:
            for reply in self._grid.pull_messages(pending):
                node_id = pending.pop(reply.metadata.reply_to_message_id)
                replies[node_id] = reply
                self._seconds[node_id] = time.monotonic() - started
            waited = time.monotonic() - started
            if waited >= timeout:
                break
            if pending:
                time.sleep(min(pause(waited), timeout - waited))
        return replies


def _failure(message: Message, reply: Message | None, timeout: float) -> str:
    """Return why a reply cannot be used, empty when it can."""
    if reply is None:
        return f"no answer within {timeout:g} s"
    if reply.has_error():
        return short(reply.error.reason) or "it gave no reason"
    if message.metadata.message_type == MessageType.TRAIN:
        return accept(message.content, reply.content)
    return accept_evaluation(reply.content) if message.metadata.message_type == MessageType.EVALUATE else ""
