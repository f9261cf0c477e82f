#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage security groups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_security_group
short_description: Manage security groups of OpenNebula
version_added: 0.2.0
description:
  - Makes, changes and removes security groups, and waits until the VMs that have one are filtered by its rules.
  - A rule that could not be applied to a VM is applied again by the next run.
  - A security group that VMs have cannot be removed.
  - An attribute for O(template) is C(DESCRIPTION), for instance.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.attributes.wait
  - opennebula.flower.object
  - opennebula.flower.object.name
  - opennebula.flower.object.template
options:
  rules:
    description:
      - All the rules that the group has, in OpenNebula's terms; other rules are removed. Without it rules stay as they
        are.
      - Each has C(RULE_TYPE), which is V(INBOUND) or V(OUTBOUND), and C(PROTOCOL), which is V(TCP), V(UDP), V(ICMP),
        V(ICMPV6), V(IPSEC) or V(ALL).
      - With TCP and UDP it may have C(RANGE), ports and ranges of ports such as V(22,80:90), with ICMP C(ICMP_TYPE) and
        with ICMPv6 C(ICMPV6_TYPE). A range such as V(20:21) has to be quoted, as YAML reads it as a number.
      - It is for all addresses, for C(SIZE) of them from C(IP) on, or for those of a network, C(NETWORK) with its name
        or id.
      - The order of rules and ports, the case of names, and numbers written as text make no difference.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Open the SuperLink to SuperNodes of the private network, and its SSH to everybody
  opennebula.flower.one_security_group:
    name: superlink
    template:
      DESCRIPTION: What a SuperLink needs
    rules:
      - RULE_TYPE: outbound
        PROTOCOL: all
      - RULE_TYPE: inbound
        PROTOCOL: tcp
        RANGE: 9091:9093
        NETWORK: private
      - RULE_TYPE: inbound
        PROTOCOL: tcp
        RANGE: 22

- name: Remove the group
  opennebula.flower.one_security_group:
    name: superlink
    state: absent
"""

RETURN = r"""
security_group:
  description: The security group as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 100
    name:
      description: Its name.
      returned: always
      type: str
      sample: superlink
    owner:
      description: The user it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    group:
      description: The group it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    mode:
      description: Its permissions as three octal digits.
      returned: when it exists
      type: str
      sample: "640"
    rules:
      description: Its rules, values as text.
      returned: always
      type: list
      elements: dict
      sample: [{"PROTOCOL": "TCP", "RANGE": "22", "RULE_TYPE": "INBOUND"}]
    vms:
      description:
        - The ids of the VMs that have it, by what became of the rules there. C(updated) have them, C(outdated) and
          C(updating) will get them, for C(error) they could not be applied.
      returned: when it exists
      type: dict
      sample: {"updated": [3, 5], "outdated": [], "updating": [], "error": []}
    template:
      description: Its other attributes, values as text.
      returned: always
      type: dict
      sample: {"DESCRIPTION": "What a SuperLink needs"}
"""

from typing import TYPE_CHECKING

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, WAIT_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject, Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.security import rules as security_rules
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, WRONG_STATE, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.values import scalar

if TYPE_CHECKING:
    from ansible_collections.opennebula.flower.plugins.module_utils.one.core.membership import Directory

_VM_STATES = ("updated", "outdated", "updating", "error")


class SecurityGroup(ReconciledObject):
    """One security group and what the task wants of it."""

    kind = "security_group"
    fact = "security_group"
    owned = True
    own = {"RULE": "rules"}

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        self._networks: Directory | None = None
        # The VMs that had the group before it was changed: one that is just getting its rules is in no list.
        self._waited_for: set[int] = set()

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        return {
            "name": document["NAME"],
            "rules": security_rules.by_meaning(xml.items(xml.section(document, "TEMPLATE"), "RULE")),
            "vms_without_rules": _vms(document)["error"],
            "template": self.template(document),
        }

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        return {
            "name": before.get("name", self.name),
            "rules": self._rules() if self.params["rules"] is not None else before.get("rules", {}),
            "vms_without_rules": [],
            "template": self.desired_template(before),
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        compared = self.attributes(document)
        return {
            **lookup.identity(document),
            "mode": mode(document),
            "rules": list(compared["rules"].values()),
            "vms": _vms(document),
            "template": compared["template"],
        }

    def predicted(self, current: dict, after: dict) -> dict:
        """Return the facts as they would be."""
        known = self.facts(current) if current else {}
        told = {name: after[name] for name in ("name", "template", *OPTIONS) if name in after}
        return {**known, **told, "rules": list(after["rules"].values())}

    def server_template(self, state: dict) -> dict:
        """Return what is compared as the server keeps it."""
        rules = list(state["rules"].values())
        return {**state["template"], **({"RULE": rules} if rules else {})}

    def create(self, after: dict) -> int:
        """Make the security group and return its id."""
        return self.client.call("one.secgroup.allocate", {**self.server_template(after), "NAME": self.name})

    def change(self, current: dict) -> Transition:
        """Return the way from a security group that there is to what it should be. Raises OneException."""
        self._waited_for = _listed_vms(current)
        return super().change(current)

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the security group, or only apply its rules where they could not be."""
        if before["vms_without_rules"] and self.server_template(before) == self.server_template(after):
            only_where_they_failed = True
            self.client.call("one.secgroup.commit", number, only_where_they_failed)
        self.update_template(number, before, after)

    def settled(self, number: int, document: dict | None) -> dict:
        """Return the security group, waiting until its rules are applied if the task says so."""
        if not self.params["wait"] or (document and _is_applied(document)):
            return document or self.read(number)
        seen = {"document": document}

        def probe() -> dict | None:
            group = seen["document"] or self.read(number)
            unheard = self._unheard(number, group)
            # The next probe looks again.
            seen.update(document=None, vms=_vms(group), unheard=unheard)
            if seen["vms"]["error"]:
                raise OneException(
                    WRONG_STATE,
                    f"{self.label(number)} could not be applied to VM {_listed(seen['vms']['error'])}; "
                    "the logs of the VM and the server say why.",
                )
            return group if _is_applied(group) and not unheard else None

        return self.wait(
            probe, lambda: f"VM {_listed([*seen['vms']['outdated'], *seen['vms']['updating'], *seen['unheard']])} has the old rules",
            number, "applied",
        )

    def _unheard(self, number: int, group: dict) -> set[int]:
        """Return the VMs that had the group, still have it, and of which the server says nothing yet."""
        unheard = self._waited_for - _listed_vms(group)
        if not unheard:
            return unheard
        from ansible_collections.opennebula.flower.plugins.module_utils.one.vm import facts as vm_facts

        there = vm_facts.by_id(self.client, unheard)
        self._waited_for -= {vm for vm in unheard if vm not in there or not _has_group(there[vm], number)}
        return unheard & self._waited_for

    def _rules(self) -> dict[str, dict]:
        rules = []
        for wanted in self.params["rules"]:
            rule = {str(name).upper(): value for name, value in wanted.items()}
            network = rule.pop("NETWORK", None)
            if network is not None and "NETWORK_ID" in rule:
                raise OneException(INVALID, f"A security rule has both NETWORK {network} and NETWORK_ID.")
            security_rules.check(rule if network is None else {**rule, "NETWORK_ID": 0})
            rules.append(rule if network is None else {**rule, "NETWORK_ID": self._network_id(scalar(network))})
        return security_rules.by_meaning(rules)

    def _network_id(self, network: str) -> int | str:
        """Return the id, or in check mode the name of a network that an earlier task may make."""
        self._networks = self._networks or self.directory("network")
        number = self._networks.find(network)
        if number is None:
            self.module.unresolved(self._networks.missing(network))
        return network if number is None else number


def _vms(document: dict) -> dict[str, list[int]]:
    return {state: xml.ids(document, f"{state.upper()}_VMS") for state in _VM_STATES}


def _has_group(vm: dict, number: int) -> bool:
    from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.devices import present

    return any(str(number) in nic.get("SECURITY_GROUPS", "").split(",") for nic in present(vm, "nics"))


def _listed_vms(document: dict) -> set[int]:
    return {vm for numbers in _vms(document).values() for vm in numbers}


def _is_applied(document: dict) -> bool:
    return not any(numbers for state, numbers in _vms(document).items() if state != "updated")


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={**STATE_OPTIONS, **WAIT_OPTIONS, **OPTIONS, "rules": {"type": "list", "elements": "dict"}},
        supports_check_mode=True,
    )
    module.reconcile(lambda: SecurityGroup(module).transition())


if __name__ == "__main__":
    main()
