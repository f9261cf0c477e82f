# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules support."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment opennebula.flower.attributes, with the action group in a fragment of its own."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
"""

    ONE_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/opennebula.flower.one) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - opennebula.flower.one
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: N/A
    details:
      - This module changes nothing.
"""

    OWNERSHIP = r"""
options:
  owner:
    description:
      - Name or id of the user it belongs to. Without it the owner stays, and something new belongs to O(api_username).
      - A name then means an object of this user or of O(api_username) only; an id or C(OWNER/NAME) gives away one of somebody else.
    type: str
  group:
    description: Name or id of the group it belongs to. Without it the group stays.
    type: str
  mode:
    description:
      - The permissions of owner, group and others as octal digits, each use 4, manage 2 and admin 1, such as V("640").
      - Has to be quoted, as YAML reads V(0640) without quotes as the number 416. A number that could be such a reading is refused.
    type: raw
"""

    WAIT = r"""
options:
  wait:
    description: Whether to wait until OpenNebula finished what was asked for.
    type: bool
    default: true
  wait_timeout:
    description: Seconds after which a wait ends with an error that says what is missing and why, at most a year.
    type: float
    default: 600
"""
