# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What waiting for an image needs to know: its states, and the driver's words."""

from __future__ import annotations

from . import states, xml
from .errors import WRONG_STATE, OneException
from .values import words

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
