# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Links between this machine and network namespaces that are as thin, long and lossy as a test wants, and that can be cut.

The kernel need not know how to delay packets: each end of a link is a TUN device, and a thread here carries the packets between the two. What is cut is
silent, as where a wire breaks behind the next router: nobody is told that packets are lost.
"""

from __future__ import annotations

import fcntl
import math
import os
import random
import selectors
import struct
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from lab.addresses import free_subnet
from lab.checkout import CHECKOUT

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_LONGEST_PACKET = 65536
# Packets that are read of one device before it is another one's turn, and the longest that the thread sleeps.
_AT_ONCE = 64
_LONGEST_SLEEP = 0.2
_FIRST_HOST = 10


@dataclass(frozen=True)
class Quality:
    """How a link is in each direction: bits in a second (0 for any number), seconds that a packet is under way, the share of packets that are lost, and
    for how many seconds at most a packet may wait until those before it are sent; what would have to wait longer is lost as well."""

    rate: float = 0
    delay: float = 0
    loss: float = 0
    queue: float = 1


GOOD = Quality()


class Cable:
    """A link to a namespace of its own."""

    def __init__(self, number: int, host: str, quality: Quality) -> None:
        self.namespace = f"link{CHECKOUT}-{number}"
        self.address = f"{host.rpartition('.')[0]}.{_FIRST_HOST + number}"
        self.quality = quality
        self.is_cut = False
        self._device = f"l{CHECKOUT}{number}"
        # Of a test that was killed.
        if self.namespace in ip("netns", "list").split():
            ip("netns", "delete", self.namespace)
        ip("netns", "add", self.namespace)
        here, there = _tun(self._device), _tun(f"{self._device}n")
        self.ways = Way(self, here, there), Way(self, there, here)
        ip("link", "set", f"{self._device}n", "netns", self.namespace, "name", "up0")
        ip("address", "add", host, "peer", self.address, "dev", self._device)
        ip("link", "set", self._device, "up")
        for command in (
            ("link", "set", "lo", "up"), ("address", "add", self.address, "peer", host, "dev", "up0"), ("link", "set", "up0", "up"),
            ("route", "add", "default", "via", host),
        ):  # fmt: skip
            ip("-n", self.namespace, *command)

    def cut(self) -> None:
        """Let nothing through any longer."""
        self.is_cut = True

    def mend(self) -> None:
        """Let packets through again."""
        self.is_cut = False

    def inside(self, *command: str) -> list[str]:
        """Return a command that runs at the far end."""
        return ["ip", "netns", "exec", self.namespace, *command]

    @property
    def lost(self) -> int:
        """How many packets did not arrive."""
        return sum(way.lost for way in self.ways)

    @property
    def passed(self) -> int:
        """How many packets were let through."""
        return sum(way.passed for way in self.ways)

    def remove(self) -> None:
        """Remove both ends and the namespace."""
        for way in self.ways:
            os.close(way.source)
        ip("netns", "delete", self.namespace)


class Way:
    """One direction of a link."""

    def __init__(self, cable: Cable, source: int, sink: int) -> None:
        self.source = source
        self.lost = self.passed = 0
        self._cable = cable
        self._sink = sink
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._busy_until = 0.0

    @property
    def next(self) -> float:
        """When the next packet arrives, by the monotonic clock."""
        return self._waiting[0][0] if self._waiting else math.inf

    def take(self, now: float) -> None:
        """Take what was sent at one end."""
        for _packet in range(_AT_ONCE):
            try:
                packet = os.read(self.source, _LONGEST_PACKET)
            except OSError:
                return
            quality = self._cable.quality
            begin = max(now, self._busy_until)
            if self._cable.is_cut or random.random() < quality.loss or begin - now > quality.queue:
                self.lost += 1
                continue
            self._busy_until = begin + (len(packet) * 8 / quality.rate if quality.rate else 0)
            self._waiting.append((self._busy_until + quality.delay, packet))

    def give(self, now: float) -> None:
        """Let arrive what is due at the other end; what was under way when the link was cut is lost."""
        while self.next <= now:
            _due, packet = self._waiting.popleft()
            if self._cable.is_cut:
                self.lost += 1
                continue
            self.passed += 1
            with suppress(OSError):
                os.write(self._sink, packet)


class Cables:
    """All links of a test: the near ends have one address together, ``host``."""

    def __init__(self) -> None:
        self.host = free_subnet("10.79", first=int(CHECKOUT, 16)).replace(".0/24", ".1")
        self._cables: list[Cable] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> Cables:
        # Who listens at the host's address is there before the first link is. That of a test that was killed may be there still.
        ip("address", "replace", f"{self.host}/32", "dev", "lo")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping = True
        self._thread.join()
        self._selector.close()
        for cable in self._cables:
            cable.remove()
        ip("address", "delete", f"{self.host}/32", "dev", "lo")

    def add(self, quality: Quality = GOOD) -> Cable:
        """Lay a link."""
        cable = Cable(len(self._cables), self.host, quality)
        self._cables.append(cable)
        for way in cable.ways:
            self._selector.register(way.source, selectors.EVENT_READ, way)
        return cable

    def _carry(self) -> None:
        while not self._stopping:
            ways = [way for cable in list(self._cables) for way in cable.ways]
            due = min((way.next for way in ways), default=math.inf)
            ready = self._selector.select(max(0.0, min(due - time.monotonic(), _LONGEST_SLEEP)))
            now = time.monotonic()
            for key, _events in ready:
                key.data.take(now)
            for way in ways:
                way.give(now)


def ip(*arguments: str) -> str:
    """Run a command of iproute2."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)} failed: {done.stderr}"
    return done.stdout


def _tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
