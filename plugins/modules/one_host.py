#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_host
short_description: Manage hosts of OpenNebula
version_added: 0.2.0
description:
  - Adds, changes and removes hosts, enables, disables and takes them offline, and waits until they are monitored.
  - OpenNebula reaches a new host under its O(name). A host with VMs cannot be removed.
  - Attributes for O(template) are C(RESERVED_CPU), C(RESERVED_MEM), C(PIN_POLICY) or C(PCI_FILTER), for instance. What monitoring finds out about
    the host makes no difference there, and always stays.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.wait
  - opennebula.flower.object
  - opennebula.flower.object.name
  - opennebula.flower.object.template
options:
  status:
    description:
      - What the host does. V(enabled) gets VMs, V(disabled) gets no more of them and is still monitored, V(offline) is
        not monitored either.
      - Without it a new host is enabled, and one that exists stays as it is.
      - With O(wait), an enabled host is waited for until it is monitored. One in state C(ERROR) ends the wait at once
        with the reason.
    type: str
    choices: [enabled, disabled, offline]
  flush:
    description:
      - Whether the VMs on the host are moved to other hosts, by OpenNebula's scheduler and the way it is configured. The
        host must not be enabled, or it would get new ones.
      - With O(wait), the host is waited for until no VM is on it, also none that is powered off.
      - VMs that are suspended or failed are not moved and are an error before anything is changed. Those that run with PCI
        devices are moved only by a scheduler that powers VMs off to move them.
    type: bool
    default: false
  cluster:
    description:
      - Name or id of the cluster the host belongs to.
      - Without it a new host goes to OpenNebula's default cluster, and one that exists stays where it is.
    type: str
  im_mad:
    description: The driver that monitors the host. Without it a new host gets V(kvm).
    type: str
  vm_mad:
    description: The driver that runs VMs on the host. Without it a new host gets V(kvm).
    type: str
seealso:
  - module: opennebula.flower.one_host_info
"""

EXAMPLES = r"""
- name: Create a host of the rack's cluster that keeps two cores for itself
  opennebula.flower.one_host:
    name: node1.example.com
    cluster: rack1
    template:
      RESERVED_CPU: 200

- name: Keep new VMs off a host
  opennebula.flower.one_host:
    name: node1.example.com
    status: disabled

- name: Evacuate a host
  opennebula.flower.one_host:
    name: node1.example.com
    status: disabled
    flush: true

- name: Remove the host
  opennebula.flower.one_host:
    name: node1.example.com
    state: absent
"""

RETURN = r"""
host:
  description: The host as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 0
    name:
      description: Its name.
      returned: always
      type: str
      sample: node1.example.com
    status:
      description: Whether it is enabled, disabled or offline.
      returned: always
      type: str
      sample: enabled
    state:
      description: Its state.
      returned: when it exists
      type: str
      sample: MONITORED
    reason:
      description: Why it is in state C(ERROR), empty otherwise.
      returned: when it exists
      type: str
      sample: ""
    cluster:
      description: The cluster's name.
      returned: always
      type: str
      sample: default
    cluster_id:
      description: The cluster's id.
      returned: when it exists
      type: int
      sample: 0
    im_mad:
      description: The driver that monitors it.
      returned: always
      type: str
      sample: kvm
    vm_mad:
      description: The driver that runs its VMs.
      returned: always
      type: str
      sample: kvm
    template:
      description: Its other attributes, values as text, those that monitoring found out included.
      returned: always
      type: dict
      sample: {"ARCH": "x86_64", "RESERVED_CPU": "200"}
    vms:
      description: The ids of the VMs on it.
      returned: with O(flush)
      type: list
      elements: int
      sample: []
"""

from types import ModuleType

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, WAIT_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject
from ansible_collections.opennebula.flower.plugins.module_utils.one.host import facts as host_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, WRONG_STATE, OneException

_DEFAULT_DRIVER = "kvm"
_DEFAULT_CLUSTER = 0
# In the order of OpenNebula's numbers.
_STATUS = ("enabled", "disabled", "offline")


class Host(ReconciledObject):
    """One host and what the task wants of it."""

    kind = "host"
    fact = "host"
    own = {"IM_MAD": "im_mad", "VM_MAD": "vm_mad"}
    server = read_only = host_facts.MONITORED_ATTRIBUTES
    blank = host_facts.RESERVATIONS

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        return {
            "name": document["NAME"],
            "status": host_facts.status(document),
            "cluster": document["CLUSTER"],
            "im_mad": document["IM_MAD"],
            "vm_mad": document["VM_MAD"],
            "template": self.template(document),
            **({"vms": _host_flush().numbers(document)} if self.params["flush"] else {}),
        }

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        status = self.params["status"] or before.get("status", "enabled")
        if self.params["flush"]:
            if status == "enabled":
                raise OneException(INVALID, f"Host {self.called!r} with status enabled gets new VMs; flush takes the status disabled or offline.")
            _host_flush().check(self.client, before.get("vms", []))
        return {
            "name": before.get("name", self.name),
            "status": status,
            "cluster": self._cluster(before),
            "im_mad": self.params["im_mad"] or before.get("im_mad", _DEFAULT_DRIVER),
            "vm_mad": self.params["vm_mad"] or before.get("vm_mad", _DEFAULT_DRIVER),
            "template": self.desired_template(before),
            **({"vms": []} if self.params["flush"] else {}),
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {
            "id": int(document["ID"]), **self.attributes(document), "state": host_facts.state(document),
            "reason": host_facts.reason(document), "cluster_id": int(document["CLUSTER_ID"]),
        }

    def server_template(self, state: dict) -> dict:
        """Return what is compared as the server keeps it."""
        return {**state["template"], "IM_MAD": state["im_mad"], "VM_MAD": state["vm_mad"]}

    def create(self, after: dict) -> int:
        """Add the host and return its id."""
        number = self.client.call("one.host.allocate", self.name, after["im_mad"], after["vm_mad"], self._cluster_id)
        self.apply(number, {**after, "status": "enabled", "template": {}}, after)
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the host."""
        self.update_template(number, before, after)
        if after["cluster"] != before["cluster"]:
            self.client.call("one.cluster.addhost", self._cluster_id, number)
        if after["status"] != before["status"]:
            self.client.call("one.host.status", number, _STATUS.index(after["status"]))
        if before.get("vms"):
            _host_flush().ask(self.client, before["vms"])

    def settled(self, number: int, document: dict | None) -> dict:
        """Return the host, waiting until it is monitored or empty if the task says so."""
        if self.params["flush"] and self.params["wait"] and document is None:
            return self._emptied(number)
        seen = {"document": document or self.read(number)}
        enabled = host_facts.status(seen["document"]) == "enabled"
        asked_for = document is None or self.params["status"] or host_facts.is_new(seen["document"])
        if not self.params["wait"] or not enabled or not asked_for:
            return seen["document"]

        def probe() -> dict | None:
            host = seen["document"] or self.read(number)
            # The next probe looks again.
            seen.update(document=None, state=host_facts.state(host))
            if host_facts.has_failed(host):
                raise OneException(WRONG_STATE, f"{self.label(number)} is in state ERROR: {host_facts.reason(host)}.")
            return host if host_facts.is_monitored(host) else None

        return self.wait(probe, lambda: f"its state is {seen['state']}", number, "MONITORED")

    def _emptied(self, number: int) -> dict:
        seen = {}

        def probe() -> dict | None:
            host = self.read(number)
            ids = _host_flush().numbers(host)
            seen["left"] = _host_flush().ask(self.client, ids) if ids else ""
            return None if ids else host

        return self.wait(probe, lambda: seen["left"], number, "empty")

    def _cluster(self, before: dict) -> str:
        """Return the name of the wanted cluster, and keep its id."""
        self._cluster_id = _DEFAULT_CLUSTER
        wanted = self.params["cluster"]
        if before and wanted in (None, before["cluster"]):
            return before["cluster"]
        if wanted is None:
            return lookup.require(self.client, "cluster", _DEFAULT_CLUSTER)["NAME"]
        cluster = self.resolve("cluster", wanted)
        self._cluster_id = int(cluster["ID"])
        return cluster["NAME"]


def _host_flush() -> ModuleType:
    # Few tasks need it, see module_utils/module.py.
    from ansible_collections.opennebula.flower.plugins.module_utils.one.host import flush as host_flush

    return host_flush


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            **WAIT_OPTIONS,
            "status": {"type": "str", "choices": list(_STATUS)},
            "flush": {"type": "bool", "default": False},
            "cluster": {"type": "str"},
            "im_mad": {"type": "str"},
            "vm_mad": {"type": "str"},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: Host(module).transition())


if __name__ == "__main__":
    main()
