# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Ends the tunnel between a node and the SuperLink of another zone, started by one-appliance-tunnel.timer while the context asks for one.

Makes the key of this end, which never leaves the VM, publishes its public part as FL_TUNNEL_PUBLIC_KEY, and brings the interface to what is wanted,
without a reboot and without the boot's lock: a node waits in its boot for the tunnel. Whom a SuperLink lets in, and to which SuperLink a node goes, says
the context, which no VM can write. Which address of the tunnel network is a node's says FL_TUNNEL_ADDRESS in its attributes: another one than the
SuperLink knows passes nothing.

Keys have numbers, which the context says. An end that gets another key makes and publishes it before, as FL_TUNNEL_NEXT_PUBLIC_KEY, so that the other end
knows it (FL_TUNNEL_NEXT_KNOWN) when it is used, and lets it take over with the first handshake: playbooks/rotate.yml.
"""

import hashlib
import ipaddress
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import service

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import SUPERLINK, ContextError, check
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import ContextMissing, read_context
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import unit_log
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard import interface, key_files, peers
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.values import is_key

INTERFACE = "flower0"
# wg-quick makes the interface in the kernel, or with wireguard-go where the kernel has no WireGuard.
UNIT = f"wg-quick@{INTERFACE}.service"
DIRECTORY = Path("/etc/wireguard")
LINK = Path("/sys/class/net") / INTERFACE
# The number of the key that has none in the name of its file.
FIRST = 1
SECONDS = 60
# What a node knows of the SuperLink, by the end of the names of its parameters.
OTHER_END = {
    "public_key": "superlink_public_key", "next_public_key": "superlink_next_public_key", "endpoint": "endpoint", "keepalive": "keepalive",
}  # fmt: skip
# Of a name that does not resolve just now, the next look asks again.
RESOLUTIONS = "1"
# While another end is about to use its next key: how long it is waited for, how often all is looked at, and how often whether there was a handshake.
WATCH_SECONDS = 150
LOOK_SECONDS = 5
HANDSHAKE_SECONDS = 0.2


class TunnelError(Exception):
    """Something is wrong with the tunnel; one sentence without a full stop."""


def keep_watch(look: Callable[[], Mapping[str, str]], seconds: float) -> None:
    """Look, and look again as long as other ends are about to use their next keys, so that they lose the tunnel for no longer than a handshake."""
    deadline = time.monotonic() + seconds
    awaited = look()
    while awaited and time.monotonic() < deadline:
        await_handshakes(awaited, LOOK_SECONDS)
        awaited = look()


def await_handshakes(awaited: Mapping[str, str], seconds: float) -> None:
    """Wait until a next key of another end is used, and let it take over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lines = [line.split("\t") for line in run(["wg", "show", INTERFACE, "latest-handshakes"]).splitlines()]
        words = peers.take_over({key: int(moment) for key, moment in lines}, awaited)
        if words:
            run(["wg", "set", INTERFACE, *words])
            return
        time.sleep(HANDSHAKE_SECONDS)


def look_after(context: Mapping[str, str], role: str, open_gate: Callable[[Mapping[str, str]], OneGate]) -> Mapping[str, str]:
    """Look once, publish the key and bring the interface to what is wanted. Raises TunnelError, ContextError, ContextMissing, OneException, OSError.

    Returns the next keys of other ends that are known and not used yet, by the address that they take over.
    """
    values = check(context, role).values
    if not values["flower_tunnel_network"]:
        return {}
    network = ipaddress.ip_network(values["flower_tunnel_network"])
    number, following = values["flower_tunnel_number"], values["flower_tunnel_next_number"]
    key_file, public_key = own_key(context.get("VMID", ""), number)
    next_key = own_key(context.get("VMID", ""), following)[1] if following not in (0, number) else ""
    if not LINK.exists():
        run(["systemctl", "restart", UNIT])
    problems: list[Exception] = []
    gate: OneGate | None = None
    mine: Mapping[str, Any] | None = None
    try:
        # The interface needs no OneGate once it has its address: who has a tunnel keeps it while OneGate is away.
        gate = open_gate(context)
        mine = gate.get_vm()["USER_TEMPLATE"]
    except (ContextMissing, OneException) as problem:
        problems.append(problem)
    state = interface.read_state(run, INTERFACE)
    if role == SUPERLINK:
        wanted = peers.superlink_interface(
            network, values["flower_tunnel_port"], values["flower_tunnel_peers"], values["flower_tunnel_next_peers"]
        )  # fmt: skip
    else:
        address = ""
        try:
            address = peers.node_address(mine["FL_TUNNEL_ADDRESS"], network) if mine and "FL_TUNNEL_ADDRESS" in mine else ""
        except ValueError as problem:
            problems.append(TunnelError(f"FL_TUNNEL_ADDRESS is not taken: {problem}"))
        superlink = {name: values[f"flower_tunnel_{parameter}"] for name, parameter in OTHER_END.items()}
        wanted = peers.node_interface(network, address, superlink, state)
    try:
        state = bring(state, wanted, key_file, public_key)
    finally:
        # An interface that could not be brought to another key has the one before, and others have to know that one.
        told = {"FL_TUNNEL_PUBLIC_KEY": state.public_key or public_key, "FL_TUNNEL_NEXT_PUBLIC_KEY": next_key}
        told["FL_TUNNEL_NEXT_KNOWN"] = digest(wanted["successors"].values())
        try:
            if gate and mine is not None:
                publish(gate, mine, told)
        except OneException as problem:
            problems.append(problem)
    forget_keys(context["VMID"], {number, following})
    if problems:
        raise problems[0]
    return peers.waiting(state, wanted["successors"])


def own_key(vm_id: str, number: int) -> tuple[Path, str]:
    """Return the file of this end's key, made if there is none, and the public key. A VM that boots with the disk of another has a key of its own."""
    if not vm_id.isdecimal():
        raise ContextMissing("the context of this VM has no VMID")
    path = key_path(vm_id, number)
    if not path.exists():
        key_files.write(path, run(["wg", "genkey"]).strip())
    key = key_files.read(path)
    if not is_key(key):
        raise TunnelError(f"{path} holds something else than a WireGuard key; move it away to have a new one made")
    return path, run(["wg", "pubkey"], key).strip()


def key_path(vm_id: str, number: int) -> Path:
    """Return where a key of this VM lies."""
    return DIRECTORY / f"{INTERFACE}-vm-{vm_id}{'' if number == FIRST else f'-{number}'}.key"


def forget_keys(vm_id: str, numbers: Container[int]) -> None:
    """Remove the keys of this VM with other numbers."""
    for path in DIRECTORY.glob(f"{INTERFACE}-vm-{vm_id}*.key"):
        found = re.fullmatch(rf"{INTERFACE}-vm-{vm_id}(?:-([0-9]+))?\.key", path.name)
        if found and int(found[1] or FIRST) not in numbers:
            path.unlink()


def digest(keys: Iterable[str]) -> str:
    """Return what says that these keys are known, nothing for none."""
    known = ",".join(sorted(keys))
    return hashlib.sha256(known.encode()).hexdigest() if known else ""


def publish(gate: OneGate, mine: Mapping[str, Any], told: Mapping[str, str]) -> None:
    """Publish what is not published like this."""
    changed = {name: value for name, value in told.items() if mine.get(name, "") != value}
    if changed:
        gate.put(changed)


def bring(state: interface.State, wanted: Mapping[str, Any], key_file: Path, public_key: str) -> interface.State:
    """Bring the interface to what is wanted, and return how it is then."""
    whole = {"name": INTERFACE, "private_key_file": str(key_file), "public_key": public_key, "mtu": peers.MTU, "routes": [], "floating": [], **wanted}
    try:
        checked = interface.checked(whole)
    except ValueError as problem:
        raise TunnelError(f"the tunnel cannot be brought to what is wanted: {problem}") from problem
    if state.public_key not in ("", public_key) and state.peers:
        # Keepalive that is switched on sends one at once, so that the handshake does not wait for traffic.
        for key, seconds in ([], "0"), (["private-key", str(key_file)], "1"):
            run(["wg", "set", INTERFACE, *key, *(word for peer in state.peers for word in ("peer", peer, "persistent-keepalive", seconds))])
        state = interface.read_state(run, INTERFACE)
    for command in interface.commands(state, INTERFACE, checked, time.time()):
        run(command)
    return interface.read_state(run, INTERFACE)


def run(argv: Sequence[str], given: str = "") -> str:
    """Run a command and return what it says. Raises TunnelError when it fails or does not end."""
    environment = {**os.environ, "WG_ENDPOINT_RESOLUTION_RETRIES": RESOLUTIONS}
    try:
        done = subprocess.run(argv, input=given, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        raise TunnelError(f"{' '.join(argv[:3])} did not end within {SECONDS} s") from None
    if done.returncode:
        raise TunnelError(f"{' '.join(argv[:3])} failed: {' '.join((done.stderr.strip() or done.stdout.strip()).split())[-200:]}")
    return done.stdout


def main() -> int:
    """Look after the tunnel once and return the exit status."""
    role = (service.APPLIANCE / "role").read_text(encoding="utf-8").strip()
    unit_log.set_up("one-appliance-tunnel", service.machine_context().get("ONEAPP_FL_LOG_FORMAT"))
    try:
        keep_watch(lambda: look_after(read_context()[0], role, service.open_gate), WATCH_SECONDS)
    except (TunnelError, ContextMissing, ContextError, OneException, OSError, ValueError) as problem:
        logging.getLogger(__name__).error("the tunnel is not looked after: %s", problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
