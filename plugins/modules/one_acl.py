#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage the access control list."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_acl
short_description: Manage rules of OpenNebula's access control list
version_added: 0.2.0
description:
  - Adds and removes rules that allow users to do something with objects. There are no rules that forbid.
  - Rules are written with names and compared by what they mean, so neither the order of kinds and rights nor names
    instead of ids make a difference. A rule that allows more than the wanted one is another rule.
  - The rules of a virtual data center or of the administrators of a group are the server's; M(opennebula.flower.one_vdc)
    and M(opennebula.flower.one_group) change them.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
options:
  rules:
    description:
      - The rules. Exactly one of C(user), C(group) and C(everyone) says whom a rule is for, and at most one of
        C(objects), C(owner_group) and C(cluster) what it is about; without any it is about all objects of their kind.
    type: list
    elements: dict
    required: true
    suboptions:
      user:
        description: Name or id of the user the rule is for.
        type: str
      group:
        description: Name or id of the group the rule is for.
        type: str
      everyone:
        description: Whether the rule is for all users.
        type: bool
        default: false
      resources:
        description:
          - Kinds of objects in OpenNebula's terms and any case, C(VM), C(HOST), C(NET), C(IMAGE), C(USER), C(TEMPLATE),
            C(GROUP), C(DATASTORE), C(CLUSTER), C(DOCUMENT), C(ZONE), C(SECGROUP), C(VDC), C(VROUTER), C(MARKETPLACE),
            C(MARKETPLACEAPP), C(VMGROUP), C(VNTEMPLATE) and C(BACKUPJOB).
          - A service and a service template are each a C(DOCUMENT).
        type: list
        elements: str
        required: true
      objects:
        description:
          - Names or ids of single objects. Each gives a rule of its own, as OpenNebula's rules are about one object or
            many of a kind; an empty list gives none.
          - A name needs a single kind, of which names can be looked up, which is any but C(VM), C(VROUTER), C(VMGROUP),
            C(VNTEMPLATE) and C(BACKUPJOB). The name of a C(DOCUMENT) is that of a service template.
        type: list
        elements: str
      owner_group:
        description: Name or id of the group whose objects the rule is about.
        type: str
      cluster:
        description: Name or id of the cluster whose hosts, datastores and virtual networks the rule is about.
        type: str
      rights:
        description: What the rule allows in OpenNebula's terms and any case, C(USE), C(MANAGE), C(ADMIN) and C(CREATE).
        type: list
        elements: str
        required: true
      zone:
        description:
          - Name or id of the zone in which the rule holds, or V(all).
          - If not given, it holds in all zones; a rule about single objects or about a cluster holds in the only zone
            there is, and needs this where there are several. Users, groups, zones and virtual data centers are the
            same in all of them.
        type: str
  state:
    description: Whether there should be the rules.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Allow the users of the hospital to use the appliances and to create VMs and services
  opennebula.flower.one_acl:
    rules:
      - group: hospital
        resources: [IMAGE]
        objects: [flower-superlink, flower-supernode]
        rights: [USE]
      - group: hospital
        resources: [VM, DOCUMENT]
        rights: [CREATE]

- name: Allow a user to manage everything that belongs to the group
  opennebula.flower.one_acl:
    rules:
      - user: alice
        resources: [VM, IMAGE, TEMPLATE]
        owner_group: hospital
        rights: [USE, MANAGE]

- name: Withdraw the right of all users to use the networks of the edge
  opennebula.flower.one_acl:
    rules:
      - everyone: true
        resources: [NET]
        cluster: edge
        rights: [USE]
    state: absent
"""

RETURN = r"""
rules:
  description: The rules that the task names and that there are now.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 12
    rule:
      description: The rule as OpenNebula writes it.
      returned: always
      type: str
      sample: "@100 IMAGE/#5 USE #0"
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.compare import Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.names import Names
from ansible_collections.opennebula.flower.plugins.module_utils.one.security import acl
from ansible_collections.opennebula.flower.plugins.module_utils.one.security.acl import Rule
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException

_SUBJECTS = {"user": acl.ONE, "group": acl.GROUP}
# What the id in a resource is one of, and of which kind the object is if the resource does not tell.
_SELECTORS = {"objects": (acl.ONE, None), "owner_group": (acl.GROUP, "group"), "cluster": (acl.CLUSTER, "cluster")}
# The kinds whose names can be looked up, as resources calls them.
_NAMED = {
    "HOST": "host", "NET": "network", "IMAGE": "image", "USER": "user", "TEMPLATE": "template", "GROUP": "group",
    "DATASTORE": "datastore", "CLUSTER": "cluster", "DOCUMENT": "service_template", "ZONE": "zone",
    "SECGROUP": "security_group", "VDC": "vdc", "MARKETPLACE": "marketplace", "MARKETPLACEAPP": "marketplace_app",
}
_ALL_ZONES = "all"


class AccessList:
    """The rules there are and what the task wants of them."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.client = module.client
        self.names = Names(module.client)
        self.absent = module.params["state"] == "absent"
        # In check mode: rules about what an earlier task would make, in words.
        self.pending: list[str] = []

    def transition(self) -> Transition:
        """Return the way from the rules that there are to those that the task wants. Raises OneException."""
        desired = list(dict.fromkeys(rule for given in self.module.params["rules"] for rule in self._rules(given)))
        pool = xml.items(self.client.call("one.acl.info"), "ACL")
        ids = {rule: int(document["ID"]) for document in pool if (rule := Rule.read(document)) in desired}

        def facts() -> dict:
            return {"rules": [] if self.absent else [{**({"id": ids[rule]} if rule in ids else {}), "rule": str(rule)} for rule in desired]}

        def apply() -> dict:
            for rule in desired:
                if self.absent and rule in ids:
                    self.client.call("one.acl.delrule", ids[rule])
                elif not self.absent and rule not in ids:
                    ids[rule] = self.client.call("one.acl.addrule", *rule.arguments)
            return facts()

        before = _state([str(rule) for rule in desired if rule in ids])
        after = _state([] if self.absent else [*map(str, desired), *self.pending])
        return Transition(before, after, facts, apply)

    def _rules(self, given: dict) -> list[Rule]:
        """Return the rules an entry means, without those that name something that does not exist."""
        types, type_bits = acl.bits(given["resources"], acl.TYPES, "kind of resource")
        rights, right_bits = acl.bits(given["rights"], acl.RIGHTS, "right")
        subject = self._subject(given)
        which, things = self._things(given, types)
        zone = self._zone(given["zone"], which in (acl.ONE, acl.CLUSTER) and not acl.SHARED.issuperset(types))
        if zone is not None:
            acl.check(types, which, zone)
        result = []
        for name, number in things.items():
            if None not in (subject, number, zone):
                result.append(Rule(subject, type_bits | which | number, right_bits, zone))
            elif not self.absent:
                who = given["user"] or given["group"] or "everyone"
                self.pending.append(f"{who} {'+'.join(types)}/{name} {'+'.join(rights)}")
        return result

    def _subject(self, given: dict) -> int | None:
        named = [name for name in _SUBJECTS if given[name] is not None]
        if len(named) + given["everyone"] != 1:
            raise OneException(INVALID, "A rule needs exactly one of user, group and everyone.")
        if given["everyone"]:
            return acl.ALL
        number = self._find(named[0], given[named[0]])
        return None if number is None else _SUBJECTS[named[0]] | number

    def _things(self, given: dict, types: list[str]) -> tuple[int, dict[str, int | None]]:
        """Return what kind of id an entry's rules have in their resource, and these ids by name."""
        options = [name for name in _SELECTORS if given[name] is not None]
        if len(options) > 1:
            raise OneException(INVALID, f"A rule can have one of {', '.join(_SELECTORS)}, not {' and '.join(options)}.")
        if not options:
            return acl.ALL, {"*": 0}
        which, kind = _SELECTORS[options[0]]
        value = given[options[0]]
        if kind:
            return which, {value: self._find(kind, value)}
        return which, {name: self._object(types, name) for name in value}

    def _object(self, types: list[str], name_or_id: str) -> int | None:
        if lookup.is_id(name_or_id):
            return int(name_or_id)
        if len(types) != 1 or types[0] not in _NAMED:
            raise OneException(
                INVALID, f"The object {name_or_id!r} of a rule about {'+'.join(types)} has to be given by its id."
            )
        return self._find(_NAMED[types[0]], name_or_id)

    def _zone(self, name_or_id: str | None, local: bool) -> int | None:
        if name_or_id == _ALL_ZONES or (name_or_id is None and not local):
            return acl.ALL
        if name_or_id is not None:
            number = self._find("zone", name_or_id)
            return None if number is None else acl.ONE | number
        zones = self.names.ids("zone")
        if len(zones) != 1:
            raise OneException(INVALID, f"There are {len(zones)} zones, so a rule about objects of one needs a zone.")
        return acl.ONE | zones[0]

    def _find(self, kind: str, name_or_id: str) -> int | None:
        number = self.names.find(kind, name_or_id)
        if number is None and not self.absent:
            self.module.unresolved(self.names.missing(kind, name_or_id))
        return number


def _state(rules: list[str]) -> dict:
    return {"rules": rules} if rules else {}


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "rules": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "user": {"type": "str"},
                    "group": {"type": "str"},
                    "everyone": {"type": "bool", "default": False},
                    "resources": {"type": "list", "elements": "str", "required": True},
                    "objects": {"type": "list", "elements": "str"},
                    "owner_group": {"type": "str"},
                    "cluster": {"type": "str"},
                    "rights": {"type": "list", "elements": "str", "required": True},
                    "zone": {"type": "str"},
                },
            },
            "state": STATE_OPTIONS["state"],
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: AccessList(module).transition())


if __name__ == "__main__":
    main()
