# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of images, and waiting for them."""

from __future__ import annotations

from collections.abc import Callable

from ..core import lookup, states
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import WRONG_STATE, OneException
from ..transport.values import words

# States an image stays in.
_SETTLED = ("READY", "USED", "USED_PERS", "DISABLED")


def state(image: dict) -> str:
    """Return the name of the image's state."""
    return states.name(states.IMAGE, image["STATE"])


def is_settled(image: dict) -> bool:
    """Tell whether nothing more is done to the image."""
    return state(image) in _SETTLED


def broken(image: dict) -> OneException:
    """Return the exception for an image in state ERROR, with the driver's reason."""
    reason = words(xml.section(image, "TEMPLATE").get("ERROR"), "the server gives no reason")
    return OneException(WRONG_STATE, f"Image {image['NAME']!r} (id {image['ID']}) is in state ERROR: {reason}.")


def wait_settled(client: Client, name: str, number: int, timeout: float, progress: Callable[[str], None]) -> dict:
    """Return the image once the datastore has it. Raises OneException when that fails, and after timeout seconds."""
    from ..core.wait import wait_until

    seen = {"STATE": None}

    def probe() -> dict | None:
        seen.update(lookup.require(client, "image", number))
        if state(seen) == "ERROR":
            raise broken(seen)
        return seen if is_settled(seen) else None

    return wait_until(
        probe, lambda: f"its state is {state(seen)}", timeout, progress=progress,
        what=f"Image {name!r} (id {number}) is not READY",
    )


def wait_gone(client: Client, name: str, number: int, timeout: float, progress: Callable[[str], None]) -> None:
    """Wait until an image that is being removed is gone. One that cannot be removed stays with the reason in it."""
    from ..core.wait import wait_until

    def probe() -> bool | None:
        left = lookup.get(client, "image", number)
        if left and state(left) == "ERROR":
            raise broken(left)
        return True if left is None else None

    wait_until(
        probe, lambda: "it is still there", timeout, progress=progress,
        what=f"Image {name!r} (id {number}) is not removed",
    )
