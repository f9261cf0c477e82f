# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Ports of the loopback interface for what tests start."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

_FIRST = 10_000


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing uses.

    The kernel gives none of these to clients and servers that name no port, so it stays free until what it is for begins to listen.
    """
    given_away = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_FIRST, given_away)
        with suppress(OSError), socket.create_server((host, port)):
            return port
