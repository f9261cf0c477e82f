#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage quotas of users and groups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_quota
short_description: Manage quotas of users and groups of OpenNebula
version_added: 0.2.0
description:
  - Limits what a user, or all users of a group together, may take of a zone, and tells what they take.
  - A limit is a number; C(-1) stands for the zone's default, C(-2) for no limit, whatever the default is.
  - What is above a limit already stays; only more is refused.
  - Quotas of clusters, which OpenNebula 7 has, are left alone.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
options:
  user:
    description: Name or id of the user. Either this or O(group) has to be given. The user C(oneadmin) has no quotas.
    type: str
  group:
    description: Name or id of the group. The group C(oneadmin) has no quotas.
    type: str
  vm:
    description:
      - Limits of virtual machines, such as C(VMS), C(CPU), C(MEMORY) in MB, C(SYSTEM_DISK_SIZE) in MB, and
        C(RUNNING_VMS), C(RUNNING_CPU) and C(RUNNING_MEMORY) for those that are not powered off.
      - The names are OpenNebula's, in any case. One that the server does not know is an error once it is set.
    type: dict
    default: {}
  datastores:
    description: Limits by name or id of the datastore, C(IMAGES) and C(SIZE) in MB.
    type: dict
    default: {}
  networks:
    description: Limits by name or id of the virtual network, C(LEASES).
    type: dict
    default: {}
  images:
    description: Limits by name or id of the image, C(RVMS), the virtual machines that use it at the same time.
    type: dict
    default: {}
  update:
    description:
      - What happens to limits that the task does not name.
      - With V(merge) they stay, with V(replace) they go back to the default.
    type: str
    choices: [merge, replace]
    default: merge
  state:
    description: Whether there are these limits. With V(absent) all limits of the user or group go back to the default.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Limit what the hospital may take
  opennebula.flower.one_quota:
    group: hospital
    vm:
      VMS: 5
      CPU: 16
      MEMORY: 65536
    datastores:
      default:
        SIZE: 102400
    networks:
      hospital:
        LEASES: 10

- name: Limit a guest to one VM, and nothing else
  opennebula.flower.one_quota:
    user: guest
    vm:
      VMS: 1
    update: replace

- name: Remove all limits
  opennebula.flower.one_quota:
    group: hospital
    state: absent
"""

RETURN = r"""
quota:
  description: Limits and use, also of what is used without a limit.
  returned: success
  type: dict
  contains:
    vm:
      description: Limit and use of virtual machines by OpenNebula's name, empty without any.
      returned: always
      type: dict
      sample: {"CPU": {"limit": 16, "used": 4.5}, "VMS": {"limit": 5, "used": 2}}
    datastores:
      description: The same by id of the datastore.
      returned: always
      type: dict
      sample: {"1": {"IMAGES": {"limit": -1, "used": 2}, "SIZE": {"limit": 102400, "used": 2048}}}
    networks:
      description: The same by id of the virtual network.
      returned: always
      type: dict
      sample: {"0": {"LEASES": {"limit": 10, "used": 2}}}
    images:
      description: The same by id of the image.
      returned: always
      type: dict
      sample: {}
"""

import struct

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.compare import Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.names import Names
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException

# Option: the server's name, and the kind of object the limits are of.
_SECTIONS = {
    "vm": ("VM", None),
    "datastores": ("DATASTORE", "datastore"),
    "networks": ("NETWORK", "network"),
    "images": ("IMAGE", "image"),
}
_DEFAULT = -1
_UNLIMITED = -2
_USED = "_USED"
# Parts of a quota that are not metrics.
_NO_METRICS = frozenset({"ID", "CLUSTER_IDS"})
# Virtual machines are limited as a whole.
_WHOLE = ""


class Quota:
    """The quotas of a user or group and what the task wants of them.

    Limits and use are kept by option, object and metric: {"datastores": {"1": {"SIZE": 1024}}}.
    """

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.kind = "user" if module.params["user"] is not None else "group"
        self.owner = module.params[self.kind]

    def transition(self) -> Transition:
        """Return the way from the limits that there are to those that the task wants. Raises OneException."""
        wanted = {option: _named(option, self.params[option]) for option in _SECTIONS}
        current = lookup.find(self.client, self.kind, self.owner)
        if current is None:
            return self._without_owner(wanted)
        limits, used = _read(current)
        desired = self._desired(limits, wanted)
        before, after = _limited(limits), _limited(desired)
        if before != after and current["ID"] == "0":
            raise OneException(INVALID, f"OpenNebula has no quotas for the {self.kind} {current['NAME']!r}.")

        def apply() -> dict:
            number = int(current["ID"])
            self.client.call(f"one.{self.kind}.quota", number, _changes(limits, desired))
            kept, used = _read(lookup.get(self.client, self.kind, number))
            self._verify(desired, kept)
            return _facts(kept, used)

        return Transition(before, after, lambda: _facts(desired, used), apply if before != after else None)

    def _without_owner(self, wanted: dict) -> Transition:
        if self.params["state"] == "absent":
            return Transition({}, {}, lambda: _facts({}, {}))
        self.module.unresolved(lookup.missing(self.client, self.kind, self.owner))
        return Transition({}, _limited(wanted), lambda: _facts(wanted, {}))

    def _desired(self, limits: dict, wanted: dict) -> dict:
        absent = self.params["state"] == "absent"
        reset = absent or self.params["update"] == "replace"
        target = {
            option: {number: dict.fromkeys(metrics, _DEFAULT) if reset else dict(metrics)
                     for number, metrics in objects.items()}
            for option, objects in limits.items()
        }
        names = Names(self.client)
        for option, objects in ({} if absent else wanted).items():
            for name, metrics in objects.items():
                target[option].setdefault(self._number(names, option, name), {}).update(metrics)
        return target

    def _number(self, names: Names, option: str, name: str) -> str:
        kind = _SECTIONS[option][1]
        if kind is None:
            return _WHOLE
        number = names.find(kind, name)
        if number is None:
            self.module.unresolved(names.missing(kind, name))
        return name if number is None else str(number)

    def _verify(self, wanted: dict, kept: dict) -> None:
        """Raise OneException for metrics that the server does not know; it says nothing about them."""
        for option, objects in wanted.items():
            for number, metrics in objects.items():
                there = kept[option].get(number, {})
                unknown = sorted(name for name, limit in metrics.items() if there.get(name, _DEFAULT) != limit)
                if unknown:
                    raise OneException(
                        INVALID,
                        f"{self.client.place} did not keep the limit {', '.join(unknown)} of {option} for the "
                        f"{self.kind} {self.owner!r}: it knows no such limit.",
                    )


def _named(option: str, value: dict) -> dict:
    """Return what the task says of a section, by object as the task calls it. Raises OneException."""
    objects = {_WHOLE: value} if _SECTIONS[option][1] is None else value
    result = {}
    for name, metrics in objects.items():
        if not isinstance(metrics, dict):
            raise OneException(INVALID, f"The limits of {option} {name!r} are not a dictionary.")
        if metrics:
            result[str(name)] = {str(metric).upper(): _wanted_limit(metric, metrics[metric]) for metric in metrics}
    return result


def _wanted_limit(metric: str, value: object) -> float:
    try:
        limit = _limit(str(value))
    except (ValueError, OverflowError):
        limit = None
    if isinstance(value, bool) or limit is None or (limit < 0 and limit not in (_DEFAULT, _UNLIMITED)):
        raise OneException(
            INVALID, f"The limit {metric} is {value}, it has to be a number, -1 for the default or -2 for no limit."
        )
    return limit


def _limit(text: str) -> float:
    """Return a limit as the server keeps it: in single precision, with two digits after the point."""
    single = struct.unpack("f", struct.pack("f", float(text)))[0]
    return int(single) if single == int(single) else round(single, 2)


def _read(document: dict) -> tuple[dict, dict]:
    """Return limits and use of a user's or group's document."""
    limits: dict = {option: {} for option in _SECTIONS}
    used: dict = {option: {} for option in _SECTIONS}
    for option, (section, _kind) in _SECTIONS.items():
        for quota in xml.items(xml.section(document, f"{section}_QUOTA"), section):
            if quota.get("CLUSTER_IDS"):
                continue
            number = quota.get("ID", _WHOLE)
            names = [name for name in quota if not name.endswith(_USED) and name not in _NO_METRICS]
            limits[option][number] = {name: _limit(quota[name]) for name in names}
            used[option][number] = {name: _limit(quota.get(name + _USED) or "0") for name in names}
    return limits, used


def _limited(limits: dict) -> dict:
    """Return the limits that differ from the default."""
    result: dict = {}
    for option, objects in limits.items():
        for number, metrics in objects.items():
            own = {name: limit for name, limit in metrics.items() if limit != _DEFAULT}
            if own and number == _WHOLE:
                result[option] = own
            elif own:
                result.setdefault(option, {})[number] = own
    return result


def _changes(before: dict, after: dict) -> dict:
    """Return the template to hand to the server: what it does not find in a quota goes back to the default."""
    template: dict = {}
    for option, (section, _kind) in _SECTIONS.items():
        for number, metrics in after[option].items():
            if metrics != before[option].get(number):
                identity = {} if number == _WHOLE else {"ID": number}
                template.setdefault(section, []).append({**identity, **metrics})
    return template


def _facts(limits: dict, used: dict) -> dict:
    result: dict = {option: {} for option in _SECTIONS}
    for option, objects in limits.items():
        for number, metrics in objects.items():
            use = used.get(option, {}).get(number, {})
            result[option][number] = {
                name: {"limit": limit, "used": use.get(name, 0)} for name, limit in sorted(metrics.items())
            }
    return {"quota": {**result, "vm": result["vm"].get(_WHOLE, {})}}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "user": {"type": "str"},
            "group": {"type": "str"},
            "vm": {"type": "dict", "default": {}},
            "datastores": {"type": "dict", "default": {}},
            "networks": {"type": "dict", "default": {}},
            "images": {"type": "dict", "default": {}},
            "update": STATE_OPTIONS["update"],
            "state": STATE_OPTIONS["state"],
        },
        mutually_exclusive=[("user", "group")],
        required_one_of=[("user", "group")],
        supports_check_mode=True,
    )
    module.reconcile(lambda: Quota(module).transition())


if __name__ == "__main__":
    main()
