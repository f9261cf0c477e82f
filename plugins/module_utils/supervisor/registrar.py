# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrar of a SuperLink: it registers at Flower the keys of the SuperNodes that belong to the federation, and takes out the others.

Keys come from the operator's list and from the VMs of role supernode of the SuperLink's OneFlow service, which publish theirs through OneGate. What is
registered stands in Flower's own database alone, under names that say where a key came from (``operator/site-3``, ``service/vm-12``): a registrar that
starts again, or finds a new database, does what is missing. Nodes with other names were registered by hand and are left alone.

A node that replaces its key publishes the next one beside it. Both are registered until the VM publishes the next one as its key: the old one is taken
out then.

Flower never takes a revoked key again. So a node of the service is taken out when OneGate said more than once that its VM is gone, or
that the VM has another key; silence of OneGate, or of the VM, takes nobody out.

``python -m ansible_collections.opennebula.flower.plugins.module_utils.supervisor.registrar --config FILE``
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..contextualization import SUPERNODE
from ..flower.node_keys import NodeKey, read_key
from ..one.transport.errors import OneException
from ..onegate.client import OneGate
from ..onegate.context_files import ContextMissing, parse, read_token
from . import unit_log
from .nodes import INVALID_KEY, KEY_IN_USE, UNREGISTERED, Node, Nodes, NodesError
from .settings_file import read_settings
from .untrusted import sentence

LOGGER = logging.getLogger("flower-registrar")

KEY_ATTRIBUTE = "FL_NODE_KEY"
# The key that a node is about to use in place of that one.
NEXT_ATTRIBUTE = "FL_NODE_KEY_NEXT"
# Fingerprints of the newest keys that VMs still publish although they were revoked: the nodes make new ones.
REVOKED_ATTRIBUTE = "FL_NODE_KEYS_REVOKED"
# Fingerprints of the next keys that are registered: the nodes may use them.
REGISTERED_ATTRIBUTE = "FL_NODE_KEYS_REGISTERED"
OPERATOR, SERVICE = "operator/", "service/"

_SERVERS = ("OneGate", "Flower")
_DONE = "6"
# Whoever may write an attribute may write it again and again, and Flower keeps each key for ever.
MOST_KEYS_OF_A_VM = 20
MOST_VMS = 2000
_MOST_SHOWN_KEYS = 16
_NO_KEYS = "none"
_MOST_LINES_ABOUT_ONE = 20
_MOST_EVENT_BYTES = 1 << 20
_ONEGATE_TIMEOUT = 10
# For how long a VM that has no key yet is looked at often.
_NEW_SECONDS = 600


@dataclass(frozen=True)
class Config:
    """The settings of a registrar, as in its JSON file.

    ``url`` is where Flower listens, ``ca_file`` the certificate it shows there. ``keys`` are the operator's, one line of OpenSSH each; with
    ``keys_only`` nobody else may join. ``onegate`` has the endpoint and the number of this VM; its token is in the file of the guest
    agent ``environment_file``, or alone in ``token_file``. Times are in seconds: between two looks while VMs
    without a registered key are expected to publish one, between two looks else, and for how long a VM must be gone.
    """

    url: str
    ca_file: str
    keys: list[str] = field(default_factory=list)
    keys_only: bool = False
    onegate: dict[str, Any] | None = None
    events_file: str = ""
    busy_seconds: float = 1
    poll_seconds: float = 5
    gone_seconds: float = 20

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a settings file; ValueError names unknown and missing keys."""
        return read_settings(cls, path)


class Gate(Protocol):
    """What a registrar needs of OneGate."""

    def get_service(self) -> dict:
        """Return the service of this VM, with the attributes of its VMs."""

    def put(self, attributes: dict[str, str]) -> None:
        """Publish attributes of this VM."""


@dataclass(frozen=True)
class Member:
    """A VM of the service: its key, and the one it is about to use, if it published good ones, else why not (nothing when it published none)."""

    vm_id: int
    key: NodeKey | None = None
    problem: str = ""
    next_key: NodeKey | None = None

    @property
    def name(self) -> str:
        """Its name in Flower."""
        return f"{SERVICE}vm-{self.vm_id}"

    @property
    def keys(self) -> list[NodeKey]:
        """Its good keys, the one that it uses first."""
        return list(dict.fromkeys(key for key in (self.key, self.next_key) if key))


class Registrar:
    """Brings Flower's nodes in line with who belongs. Call ``step`` again and again; nothing in it raises."""

    def __init__(self, config: Config, nodes: Nodes, gate: Gate | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._nodes = nodes
        self._gate = gate
        self._clock = clock
        self._listed = [read_key(line) for line in config.keys]
        self._problems: dict[str, str] = {}
        self._gone_since: dict[int, float] = {}
        self._first_seen: dict[int, float] = {}
        self._invalid: set[str] = set()
        self._lines: dict[str, int] = {}
        self._published = {REGISTERED_ATTRIBUTE: _NO_KEYS}
        self._busy = True

    def step(self) -> float:
        """Look at the list, the service and Flower once, and act; return the seconds until the next look."""
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - the other nodes go on, whatever it is
            self._say("Something", f"{type(error).__name__}: {error}", logging.ERROR)
        else:
            self._say("Something", "")
        return self._config.busy_seconds if self._busy else self._config.poll_seconds

    def _look(self) -> None:
        members = self._members()
        try:
            known = self._nodes.listed()
        except NodesError as problem:
            self._say("Flower", str(problem))
            self._busy = True
            return
        self._say("Flower", "")
        wanted = self._wanted(members or {}, known)
        present = {node.pem for node in known if node.status != UNREGISTERED}
        revoked = {node.pem for node in known if node.status == UNREGISTERED}
        missing = {pem: name for pem, (name, _key) in wanted.items() if pem not in present and pem not in self._invalid}
        for pem, name in missing.items():
            self._register_unless_revoked(wanted[pem][1], name, pem in revoked)
        for node in known:
            if node.pem in wanted:
                self._gone_since.pop(node.node_id, None)
            elif node.status != UNREGISTERED:
                self._judge(node, members, wanted)
        self._publish_keys(REVOKED_ATTRIBUTE, [key for pem, (_name, key) in wanted.items() if pem in revoked])
        following = [member.next_key for member in (members or {}).values() if member.next_key]
        self._publish_keys(REGISTERED_ATTRIBUTE, [key for key in following if key.pem in present])
        self._busy = self._expects(members or {}, present)

    # Who belongs

    def _members(self) -> dict[int, Member] | None:
        """Return the VMs of the service by number; None when OneGate does not say."""
        if self._gate is None or self._config.keys_only:
            return {}
        try:
            members = read_members(self._gate.get_service())
        except OneException as problem:
            self._say("OneGate", problem.message)
            return None
        except ValueError as problem:
            self._say("OneGate", str(problem))
            return None
        self._say("OneGate", "")
        now = self._clock()
        self._first_seen = {vm_id: self._first_seen.get(vm_id, now) for vm_id in members}
        return members

    def _wanted(self, members: Mapping[int, Member], known: Sequence[Node]) -> dict[str, tuple[str, NodeKey]]:
        """Return the keys that belong, as Flower keeps them, with their names; the operator's come first."""
        wanted = {key.pem: (OPERATOR + (key.name or key.fingerprint.removeprefix("SHA256:")[:16]), key) for key in self._listed}
        used: dict[str, set[str]] = {}
        for node in known:
            used.setdefault(node.name, set()).add(node.pem)
        for member in members.values():
            problem = member.problem
            pems = used.setdefault(member.name, set())
            for key in member.keys:
                if key.pem in wanted:
                    other = wanted[key.pem][0]
                    problem = f"it publishes the same key as {other}" if other.startswith(SERVICE) else problem
                elif key.pem in pems or len(pems) < MOST_KEYS_OF_A_VM:
                    wanted[key.pem] = (member.name, key)
                    pems.add(key.pem)
                else:
                    problem = f"it had {len(pems)} keys already, no more are registered"
            self._say(f"VM {member.vm_id}", problem)
        return wanted

    def _expects(self, members: Mapping[int, Member], present: set[str]) -> bool:
        """Say whether a VM of the service is about to publish a key, or Flower lacks one."""
        now = self._clock()
        there = present | self._invalid
        return any(
            any(key.pem not in there for key in member.keys) if member.keys else now - self._first_seen.get(vm_id, now) < _NEW_SECONDS
            for vm_id, member in members.items()
        )

    # What follows

    def _register_unless_revoked(self, key: NodeKey, name: str, revoked: bool) -> None:
        if revoked:
            self._say(f"Node {name}", f"its key {key.fingerprint} was revoked, which Flower never takes again; the node needs a new one")
            return
        try:
            node_id = self._nodes.register(key.pem, name)
        except NodesError as problem:
            self._say(f"Node {name}", f"its key {key.fingerprint} cannot be registered: {problem}")
            if problem.code in (INVALID_KEY, KEY_IN_USE):
                self._invalid.add(key.pem)
            return
        self._say(f"Node {name}", "")
        data = {"node_id": str(node_id), "name": name, "key": key.fingerprint}
        told = unit_log.event("node_registered", **data)
        LOGGER.info("Node %s with key %s was registered as %d.", name, key.fingerprint, node_id, extra=told)
        self._record("node_registered", f"SuperNode {name} may join", data)

    def _judge(self, node: Node, members: Mapping[int, Member] | None, wanted: Mapping[str, tuple[str, NodeKey]]) -> None:
        """Take out a node whose key does not belong any more."""
        if node.name.startswith(OPERATOR):
            self._remove(node, "its key is not on the operator's list")
        elif node.name.startswith(f"{SERVICE}vm-"):
            number = node.name.removeprefix(f"{SERVICE}vm-")
            if self._config.keys_only:
                self._remove(node, "only keys of the operator's list may join")
            elif self._gate is not None and members is not None and number.isdecimal():
                self._judge_member(node, int(number), members, wanted)

    def _judge_member(self, node: Node, vm_id: int, members: Mapping[int, Member], wanted: Mapping[str, tuple[str, NodeKey]]) -> None:
        member = members.get(vm_id)
        replaced = member is not None and member.key is not None and member.key.pem in wanted
        if member is not None and not replaced:
            # It is off, or somebody took its attribute away: that revokes nothing.
            self._gone_since.pop(node.node_id, None)
            return
        now = self._clock()
        since = self._gone_since.setdefault(node.node_id, now)
        if now - since >= self._config.gone_seconds:
            self._remove(node, "its VM has another key" if replaced else "its VM is gone")

    def _remove(self, node: Node, reason: str) -> None:
        try:
            self._nodes.unregister(node.node_id)
        except NodesError as problem:
            self._say(f"Node {node.name}", f"it cannot be unregistered: {problem}")
            return
        self._gone_since.pop(node.node_id, None)
        data = {"node_id": str(node.node_id), "name": node.name, "reason": reason}
        told = unit_log.event("node_removed", **data)
        LOGGER.info("Node %s, %d, was unregistered: %s.", sentence(node.name, 80), node.node_id, reason, extra=told)
        self._record("node_removed", f"SuperNode {node.name} was taken out: {reason}", data)

    def _publish_keys(self, attribute: str, keys: Sequence[NodeKey]) -> None:
        """Tell the nodes of the service which of their keys are of no use any more, or are of use now."""
        text = " ".join(sorted(key.fingerprint for key in keys)[:_MOST_SHOWN_KEYS]) or _NO_KEYS
        if self._gate is None or text == self._published.get(attribute):
            return
        try:
            self._gate.put({attribute: text})
        except OneException as problem:
            self._say("OneGate", problem.message)
        else:
            self._published[attribute] = text

    # What people see

    def _say(self, subject: str, problem: str, level: int = logging.WARNING) -> None:
        """Log a problem once and not at every look, and when it is over if it was one of OneGate or Flower."""
        before = self._problems.get(subject, "")
        if problem == before:
            return
        if problem:
            self._problems[subject] = problem
            self._lines[subject] = self._lines.get(subject, 0) + 1
            if subject in _SERVERS or self._lines[subject] <= _MOST_LINES_ABOUT_ONE:
                LOGGER.log(level, "%s: %s.", subject, sentence(problem).rstrip("."))
        else:
            del self._problems[subject]
            if subject in _SERVERS:
                LOGGER.info("%s answers again.", subject)

    def _record(self, event: str, message: str, data: dict[str, str]) -> None:
        """Append an event to the file, as docs/events.schema.json has it; a large file is put aside."""
        if not self._config.events_file:
            return
        path = Path(self._config.events_file)
        now = time.time()
        line = {
            "timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z",
            "level": "INFO",
            "logger": "flower-registrar",
            "role": "superlink",
            "message": message,
            "source": f"{Path(__file__).name}:{sys._getframe(1).f_lineno}",
            "event": event,
            "data": data,
        }
        try:
            if path.exists() and path.stat().st_size > _MOST_EVENT_BYTES:
                path.replace(path.with_suffix(".old"))
            with path.open("a+b") as stream:
                torn = False
                if stream.tell():
                    # Who was killed while it wrote left a line without its end.
                    stream.seek(-1, os.SEEK_END)
                    torn = stream.read(1) != b"\n"
                stream.write(b"\n" * torn + json.dumps(line).encode() + b"\n")
        except OSError as problem:
            self._say("Events", f"they cannot be written to {path}: {problem.strerror}")


def read_members(service: dict) -> dict[int, Member]:
    """Return the VMs of a service that are not gone, by number, as OneGate tells; any VM of it may have written what they publish.

    A VM of another role, the SuperLink's say, has no key, whatever it publishes: who took it over would have a node more.
    Raises ValueError when it is no service, so that nobody is taken for gone.
    """
    members: dict[int, Member] = {}
    for role in service["roles"]:
        nodes = role.get("nodes", [])
        if not isinstance(nodes, list):
            raise ValueError("OneGate told of a role without a list of VMs")
        for node in nodes:
            number, vm = _vm(node)
            if vm.get("STATE") == _DONE:
                continue
            attributes = vm.get("USER_TEMPLATE")
            published, following = (attributes.get(name) if isinstance(attributes, dict) else None for name in (KEY_ATTRIBUTE, NEXT_ATTRIBUTE))
            is_node = role.get("name") == SUPERNODE
            members[number] = _member(number, published, following) if is_node else _no_supernode(number, role.get("name"), published or following)
    if len(members) > MOST_VMS:
        raise ValueError(f"OneGate told of {len(members)} VMs, more than {MOST_VMS}")
    return dict(sorted(members.items()))


def _vm(node: object) -> tuple[int, dict]:
    number = node.get("deploy_id") if isinstance(node, dict) else None
    if not str(number).isdecimal():
        raise ValueError("OneGate told of a VM without a number")
    info = node.get("vm_info")
    vm = info.get("VM") if isinstance(info, dict) else None
    return int(number), vm if isinstance(vm, dict) else {}


def _member(vm_id: int, published: object, following: object) -> Member:
    problems: list[str] = []
    key, next_key = (_published_key(name, value, problems) for name, value in ((KEY_ATTRIBUTE, published), (NEXT_ATTRIBUTE, following)))
    return Member(vm_id, key, "; ".join(problems), next_key)


def _published_key(name: str, value: object, problems: list[str]) -> NodeKey | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        problems.append(f"{name} is not a text")
        return None
    try:
        return read_key(value)
    except ValueError as problem:
        problems.append(f"{name} is not a usable key: {problem}")
        return None


def _no_supernode(vm_id: int, role: object, published: object) -> Member:
    return Member(vm_id, problem=f"it publishes {KEY_ATTRIBUTE} and is of role {sentence(repr(role), 80)}, expected 'supernode'" if published else "")


def open_gate(settings: dict[str, Any] | None) -> OneGate | None:
    """Return OneGate for the settings endpoint, vm_id and token_file or environment_file; None for none.

    Raises OSError or ContextMissing when there is no token.
    """
    if settings is None:
        return None
    if settings.get("token_file"):
        token = Path(settings["token_file"]).read_text(encoding="utf-8").strip()
    else:
        file = Path(settings["environment_file"])
        token = read_token(parse(file.read_text(encoding="utf-8", errors="replace")), str(file))
    return OneGate(settings["endpoint"], settings["vm_id"], token, _ONEGATE_TIMEOUT)


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(description="Registers the keys of a federation's SuperNodes at Flower.")
    parser.add_argument("--config", required=True, help="JSON file with the settings")
    path = parser.parse_args().config
    unit_log.set_up("flower-registrar")
    try:
        config = Config.read(path)
        registrar = Registrar(config, Nodes(config.url, config.ca_file), open_gate(config.onegate))
    except (OSError, ValueError, KeyError, TypeError, ContextMissing) as problem:
        LOGGER.error("The registrar cannot start: %s", sentence(problem))
        return 1
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.wait(registrar.step()):
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
