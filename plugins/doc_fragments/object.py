# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of modules that make, change and remove an object of OpenNebula; their specification is STATE_OPTIONS of module_utils/module.py.

What is so for one kind of object only is said by its module: in its description, or at the option that it concerns.
"""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment opennebula.flower.object, with the name and the template in fragments of their own."""

    DOCUMENTATION = r"""
options:
  update:
    description:
      - What happens to attributes, members and the like that an existing object has and the task does not name.
      - With V(merge) they stay, with V(replace) they are removed. What the server sets by itself stays in any case, and so does what an option other
        than O(template) stands for when the task does not have that option.
    type: str
    choices: [merge, replace]
    default: merge
  state:
    description: Whether the object should exist.
    type: str
    choices: [present, absent]
    default: present
"""

    NAME = r"""
options:
  name:
    description: Name of the object, or the id of one that exists.
    type: str
    required: true
"""

    TEMPLATE = r"""
options:
  template:
    description:
      - Attributes of the object in OpenNebula's terms, besides those that are options of their own.
      - A dictionary is a vector attribute, a list a repeated one, and booleans are written as C(YES) and C(NO).
    type: dict
    default: {}
"""

    # A template that is not given is not an empty one: O(update=replace) removes nothing then.
    GIVEN_TEMPLATE = r"""
options:
  template:
    description:
      - Attributes of the object in OpenNebula's terms, besides those that are options of their own. Without it they stay, whatever O(update) says.
      - A dictionary is a vector attribute, a list a repeated one, and booleans are written as C(YES) and C(NO).
    type: dict
"""
