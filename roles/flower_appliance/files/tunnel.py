# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Ends the tunnel between a node and the SuperLink of another zone, started by one-appliance-tunnel.timer while the context asks for one.

Makes the key of this end, which never leaves the VM, publishes its public part as FL_TUNNEL_PUBLIC_KEY, and brings the interface to what is wanted,
without a reboot and without the boot's lock: a node waits in its boot for the tunnel. Whom a SuperLink lets in, and to which SuperLink a node goes, says
the context, which no VM can write. Which address of the tunnel network is a node's says FL_TUNNEL_ADDRESS in its attributes: another one than the
SuperLink knows passes nothing.
"""

import ipaddress
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
SECONDS = 60
# What a node knows of the SuperLink, by the end of the names of its parameters.
OTHER_END = {"public_key": "superlink_public_key", "endpoint": "endpoint", "keepalive": "keepalive"}
# Of a name that does not resolve just now, the next look asks again.
RESOLUTIONS = "1"


class TunnelError(Exception):
    """Something is wrong with the tunnel; one sentence without a full stop."""


def look_after(context: Mapping[str, str], role: str, open_gate: Callable[[Mapping[str, str]], OneGate]) -> None:
    """Look once, publish the key and bring the interface to what is wanted. Raises TunnelError, ContextError, ContextMissing, OneException, OSError."""
    values = check(context, role).values
    if not values["flower_tunnel_network"]:
        return
    network = ipaddress.ip_network(values["flower_tunnel_network"])
    key_file, public_key = own_key(context.get("VMID", ""))
    if not LINK.exists():
        run(["systemctl", "restart", UNIT])
    problems: list[Exception] = []
    mine = {}
    try:
        # The interface needs no OneGate once it has its address: who has a tunnel keeps it while OneGate is away.
        mine = published(open_gate(context), public_key)
    except (ContextMissing, OneException) as problem:
        problems.append(problem)
    state = interface.read_state(run, INTERFACE)
    if role == SUPERLINK:
        wanted = peers.superlink_interface(network, values["flower_tunnel_port"], values["flower_tunnel_peers"])
    else:
        address = ""
        try:
            address = peers.node_address(mine["FL_TUNNEL_ADDRESS"], network) if "FL_TUNNEL_ADDRESS" in mine else ""
        except ValueError as problem:
            problems.append(TunnelError(f"FL_TUNNEL_ADDRESS is not taken: {problem}"))
        superlink = {name: values[f"flower_tunnel_{parameter}"] for name, parameter in OTHER_END.items()}
        wanted = peers.node_interface(network, address, superlink, state)
    bring(state, wanted, key_file, public_key)
    if problems:
        raise problems[0]


def own_key(vm_id: str) -> tuple[Path, str]:
    """Return the file of this end's key, made if there is none, and the public key. A VM that boots with the disk of another has a key of its own."""
    if not vm_id.isdecimal():
        raise ContextMissing("the context of this VM has no VMID")
    path = DIRECTORY / f"{INTERFACE}-vm-{vm_id}.key"
    if not path.exists():
        key_files.write(path, run(["wg", "genkey"]).strip())
    key = key_files.read(path)
    if not is_key(key):
        raise TunnelError(f"{path} holds something else than a WireGuard key; move it away to have a new one made")
    return path, run(["wg", "pubkey"], key).strip()


def published(gate: OneGate, public_key: str) -> Mapping[str, Any]:
    """Publish the public key unless it is, and return the attributes of this VM."""
    mine = gate.get_vm()["USER_TEMPLATE"]
    if mine.get("FL_TUNNEL_PUBLIC_KEY") != public_key:
        gate.put({"FL_TUNNEL_PUBLIC_KEY": public_key})
    return mine


def bring(state: interface.State, wanted: Mapping[str, Any], key_file: Path, public_key: str) -> None:
    """Bring the interface to what is wanted."""
    whole = {"name": INTERFACE, "private_key_file": str(key_file), "public_key": public_key, "mtu": peers.MTU, "routes": [], "floating": [], **wanted}
    try:
        checked = interface.checked(whole)
    except ValueError as problem:
        raise TunnelError(f"the tunnel cannot be brought to what is wanted: {problem}") from problem
    for command in interface.commands(state, INTERFACE, checked, time.time()):
        run(command)


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
    context, missing = {}, None
    try:
        context = read_context()[0]
    except ContextMissing as problem:
        missing = problem
    unit_log.set_up("one-appliance-tunnel", context.get("ONEAPP_FL_LOG_FORMAT"))
    try:
        if missing:
            raise missing
        look_after(context, role, service.open_gate)
    except (TunnelError, ContextMissing, ContextError, OneException, OSError, ValueError) as problem:
        logging.getLogger(__name__).error("the tunnel is not looked after: %s", problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
