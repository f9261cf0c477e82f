# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Flower's grid with deadlines, failure rules and partitions.

A strategy asks the grid for the connected nodes and has it deliver messages; wrapping the grid gives every strategy
the same rules without touching it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from federation.partition import assign
from federation.recorder import Recorder
from federation.replies import EXAMPLES, accept, accept_evaluation, agree
from federation.rounds import EVALUATION, TRAINING, NotEnoughNodes, check_replies, completing, pause, short
from federation.settings import Settings
from federation.zones import Zones, rests

_NODES_INTERVAL = 1.0  # seconds between two looks at the connected nodes
_LOOK_INTERVAL = 10.0  # seconds between two looks at the connected nodes while replies are awaited
_REMINDER_INTERVAL = 10.0  # seconds between two messages that still wait for nodes
_REQUEST_INTERVAL = 0.05  # seconds for each reply that is asked for: the SuperLink has more to do than to say that there is none
_REST_SECONDS = 120.0  # for which a node that says that it rests is left alone: it stops, or gave that up
_PATIENCE = 1.0  # seconds that one look at the replies may take


class WatchedGrid:
    """The part of a grid that strategies use."""

    def __init__(self, grid: Grid, settings: Settings, recorder: Recorder) -> None:
        self._grid = grid
        self._settings = settings
        self._recorder = recorder
        self._nodes: list[int] = []
        self._replied: set[int] = set()  # in the last phase
        self._resting: dict[int, float] = {}  # nodes that are about to stop -> until when they are left alone
        self._zones = Zones()
        self._seconds: dict[int, float] = {}  # that each reply of the last phase took
        self._pulls = _Pulls(grid)
        self._late: dict[str, tuple[int, int]] = {}  # message that nobody waits for any longer -> its round and node

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

        The phase ends when all nodes answered, when as many did as complete a round, or with the time-out.

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

        required = self._settings.min_fit_clients if training else self._settings.min_evaluate_clients
        enough = completing(len(messages), self._settings.round_completion, required)
        replies, failures = self._usable_replies(messages, round_number, timeout, enough)
        self._replied = set(replies)
        usable = list(replies.values())
        if training:
            self._recorder.clients_trained(len(usable))
            for node_id, reply in replies.items():
                self._zones.trained(node_id, round_number, int(reply.content["metrics"][EXAMPLES]), self._seconds[node_id])
            check_replies(round_number, TRAINING, len(usable), failures, required)
        else:
            self._agree(replies, failures, round_number)
            usable = list(replies.values())
            self._recorder.zones(round_number, self._zones.facts())
            check_replies(round_number, EVALUATION, len(usable), failures, required)
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
        """Return the ids of the nodes that are connected now, without waiting for any; those that did well and stay come first."""
        return sorted(self._grid.get_node_ids(), key=lambda node_id: (node_id in self._resting, node_id not in self._replied, node_id))

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
        self, messages: list[Message], round_number: int, timeout: float, enough: int | None = None
    ) -> tuple[dict[int, Message], dict[int, str]]:
        """Return the usable replies and the failures by node id, once all nodes answered, time is up or ``enough`` replies are there.

        A node that is not waited for any longer is neither.
        """
        asked = {message.metadata.dst_node_id: message for message in messages}
        replies: dict[int, Message] = {}
        failures: dict[int, str] = {}
        for arrived in self._exchange(messages, round_number, timeout):
            for node_id, reply in arrived.items():
                if reply.has_content():
                    self._zones.answered(node_id, reply.content)
                    if rests(reply.content):
                        self._resting[node_id] = time.monotonic() + _REST_SECONDS
                failure = _failure(asked[node_id], reply, self._settings.reply_compression)
                if failure:
                    failures[node_id] = failure
                else:
                    replies[node_id] = reply
            if enough is not None and len(replies) >= enough:
                break
        else:
            silent = asked.keys() - replies.keys() - failures.keys()
            failures |= dict.fromkeys(sorted(silent), f"no answer within {timeout:g} s")
        for node_id, reason in sorted(failures.items()):
            self._recorder.client_failed(round_number, node_id, reason)
            self._zones.failed(node_id)
        return dict(sorted(replies.items())), failures

    def _wait_for_nodes(self) -> list[int]:
        required = self._settings.min_available_clients
        started = time.monotonic()
        reminded: tuple[int, float] | None = None
        while True:
            nodes = [node_id for node_id in self._look() if node_id not in self._resting]
            if len(nodes) >= required:
                return nodes
            waited = time.monotonic() - started
            if reminded is None or len(nodes) != reminded[0] or waited - reminded[1] >= _REMINDER_INTERVAL:
                self._recorder.nodes_waiting(len(nodes), required, waited)
                reminded = (len(nodes), waited)
            if waited >= self._settings.nodes_timeout:
                raise NotEnoughNodes(len(nodes), required, waited)
            time.sleep(min(_NODES_INTERVAL, self._settings.nodes_timeout - waited))

    def _look(self) -> list[int]:
        nodes = sorted(self._grid.get_node_ids())
        self._recorder.nodes_seen(nodes)
        # One that went and came back with the same key is here to stay.
        self._resting = {node_id: until for node_id, until in self._resting.items() if node_id in nodes and time.monotonic() < until}
        return nodes

    def _assign_partitions(self, messages: list[Message]) -> None:
        """Strategies give all messages the same content; each node gets its own from here on."""
        partitions = assign(self._nodes)
        for message in messages:
            config = ConfigRecord(dict(message.content["config"]))
            config["partition-id"] = partitions[message.metadata.dst_node_id]
            config["num-partitions"] = len(partitions)
            message.content = RecordDict({**message.content, "config": config})

    def _exchange(self, messages: list[Message], round_number: int, timeout: float) -> Iterator[dict[int, Message]]:
        """Yield replies by node id as they come, until all are there or time is up. What comes later is counted and thrown away."""
        nodes = [message.metadata.dst_node_id for message in messages]
        message_ids = self._grid.push_messages(messages)
        pending = {message_id: node for message_id, node in zip(message_ids, nodes, strict=True) if message_id}
        started = looked = time.monotonic()
        self._seconds = {}
        try:
            while pending:
                arrived = {}
                for reply in self._pulls.look([*pending, *self._late], min(_PATIENCE, timeout)):
                    message_id = reply.metadata.reply_to_message_id
                    if message_id in pending:
                        node_id = pending.pop(message_id)
                        arrived[node_id] = reply
                        self._seconds[node_id] = time.monotonic() - started
                    else:
                        self._refuse(reply, *self._late.pop(message_id))
                yield arrived
                waited = time.monotonic() - started
                if waited >= timeout:
                    break
                if pending:
                    if started + waited - looked >= _LOOK_INTERVAL:
                        looked = started + waited
                        self._look()
                    time.sleep(min(max(pause(waited), len(pending) * _REQUEST_INTERVAL), timeout - waited))
        finally:
            self._late |= {message_id: (round_number, node_id) for message_id, node_id in pending.items()}

    def _refuse(self, reply: Message, round_number: int, node_id: int) -> None:
        # Flower itself answers for a node that is gone.
        if not reply.has_error():
            self._recorder.reply_late(round_number, node_id)


class _Pulls:
    """Fetches replies, each in a thread of its own.

    Flower waits for a reply that a node is still sending, for minutes if its link broke: neither the others nor the deadline may wait with it.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._running: set[str] = set()
        self._finished: SimpleQueue[tuple[str, list[Message] | Exception]] = SimpleQueue()

    def look(self, message_ids: Iterable[str], patience: float) -> list[Message]:
        """Return the replies to these messages that are there, after at most so many seconds."""
        for message_id in message_ids:
            if message_id not in self._running:
                self._running.add(message_id)
                threading.Thread(target=self._pull, args=(message_id,), daemon=True).start()
        replies: list[Message] = []
        until = time.monotonic() + patience
        while self._running:
            try:
                message_id, found = self._finished.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                break
            self._running.discard(message_id)
            if isinstance(found, Exception):
                raise found
            replies += found
        return replies

    def _pull(self, message_id: str) -> None:
        try:
            self._finished.put((message_id, list(self._grid.pull_messages([message_id]))))
        except Exception as problem:  # noqa: BLE001 - whoever looks raises it
            self._finished.put((message_id, problem))


def _failure(message: Message, reply: Message, compression: str) -> str:
    """Return why a reply cannot be used, empty when it can."""
    if reply.has_error():
        return short(reply.error.reason) or "it gave no reason"
    if message.metadata.message_type == MessageType.TRAIN:
        return accept(message.content, reply.content, compression)
    return accept_evaluation(reply.content) if message.metadata.message_type == MessageType.EVALUATE else ""
