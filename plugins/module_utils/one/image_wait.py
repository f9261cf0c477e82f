# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for images: until the datastore has one, or has it no more."""

from __future__ import annotations

from collections.abc import Callable

from . import resources
from .client import Client
from .images import broken, is_settled, state
from .wait import wait_until


def wait_settled(client: Client, name: str, number: int, timeout: float, progress: Callable[[str], None]) -> dict:
    """Return the image once the datastore has it. Raises OneException when that fails, and after timeout seconds."""
    seen = {"STATE": None}

    def probe() -> dict | None:
        seen.update(resources.require(client, "image", number))
        if state(seen) == "ERROR":
            raise broken(seen)
        return seen if is_settled(seen) else None

    return wait_until(
        probe, lambda: f"its state is {state(seen)}", timeout, progress=progress,
        what=f"Image {name!r} (id {number}) is not READY",
    )


def wait_gone(client: Client, name: str, number: int, timeout: float, progress: Callable[[str], None]) -> None:
    """Wait until an image that is being removed is gone. One that cannot be removed stays with the reason in it."""

    def probe() -> bool | None:
        left = resources.get(client, "image", number)
        if left and state(left) == "ERROR":
            raise broken(left)
        return True if left is None else None

    wait_until(
        probe, lambda: "it is still there", timeout, progress=progress,
        what=f"Image {name!r} (id {number}) is not removed",
    )
