# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Ports and networks of this machine that nobody uses yet."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

ROUTES = Path("/proc/net/route")


def free_port(host: str, wanted: int) -> int:
    """Return the wanted TCP port of an address of this machine, or another one that is free when somebody has it."""
    for port in (wanted, 0):
        try:
            with socket.create_server((host, port)) as listener:
                return listener.getsockname()[1]
        except OSError:
            continue
    return wanted  # the address is none of this machine's, which whoever listens there will say


def free_subnet(prefix: str, first: int = 0, taken: Collection[str] = ()) -> str:
    """Return a network PREFIX.N.0/24 that no route of this machine leads into and that is not taken, counting N from first: "10.88.7.0/24".

    :raises OSError: when all 256 are taken.
    """
    for number in range(256):
        subnet = f"{prefix}.{(first + number) % 256}.0/24"
        if subnet not in taken and is_free(subnet):
            return subnet
    raise OSError(f"every network {prefix}.N.0/24 is taken on this machine")


def is_free(subnet: str) -> bool:
    """Whether no route of this machine leads into a network."""
    network = ipaddress.ip_network(subnet)
    return not any(network.overlaps(route) for route in _routes())


def _routes() -> Iterable[ipaddress.IPv4Network]:
    """Return where the kernel's IPv4 routes lead, the default route left out."""
    for line in ROUTES.read_text(encoding="ascii").splitlines()[1:]:
        _interface, destination, _gateway, _flags, _count, _use, _metric, mask, *_rest = line.split()
        if int(mask, 16):
            address, bits = (int.from_bytes(bytes.fromhex(field), "little") for field in (destination, mask))
            yield ipaddress.ip_network((address, bits.bit_count()))
