#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List zones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_zone_info
short_description: List zones of OpenNebula and look at the server that answers
version_added: 0.2.0
description:
  - Lists the zones of a federation with their servers, and says what the server that answers is, its version and its part
    in a cluster of servers.
  - A zone that is not federated lists itself only.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes.info
  - opennebula.flower.attributes.one_group
options:
  name:
    description: Name or id of the only zone to list.
    type: str
"""

EXAMPLES = r"""
- name: Look at what answers here
  opennebula.flower.one_zone_info:
  register: here

- name: Refuse a zone older than OpenNebula 7
  ansible.builtin.assert:
    that: here.server.version is version('7.0', '>=')
"""

RETURN = r"""
zones:
  description: The zones in the order of their ids.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      returned: always
      type: int
      sample: 0
    name:
      description: Its name.
      returned: always
      type: str
      sample: OpenNebula
    state:
      description: Its state, V(ENABLED) or V(DISABLED).
      returned: always
      type: str
      sample: ENABLED
    endpoint:
      description: Its XML-RPC endpoint.
      returned: always
      type: str
      sample: http://localhost:2633/RPC2
    servers:
      description: The servers that make it highly available, each with C(id), C(name) and C(endpoint).
      returned: always
      type: list
      elements: dict
      sample: [{"id": 0, "name": "one1", "endpoint": "http://one1:2633/RPC2"}]
    template:
      description: Its attributes, values as text.
      returned: always
      type: dict
      sample: {"ENDPOINT": "http://localhost:2633/RPC2"}
server:
  description: The server that answers.
  returned: success
  type: dict
  contains:
    version:
      description: Its version of OpenNebula.
      returned: always
      type: str
      sample: 7.4.0
    id:
      description: Its id among the servers of its zone, null if it is the only one, or if the user may not know.
      returned: always
      type: int
      sample: 0
    state:
      description: V(SOLO), V(CANDIDATE), V(FOLLOWER) or V(LEADER), empty if the user may not know.
      returned: always
      type: str
      sample: LEADER
    term:
      description: The term of the election it knows of, null if the user may not know.
      returned: always
      type: int
      sample: 3
    log_index:
      description: The last entry of its log, null for the only server, or if the user may not know.
      returned: always
      type: int
      sample: 20481
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import lookup, zones


def listed(module: OneModule) -> dict:
    """Return the module's result."""
    name, client = module.params["name"], module.client
    if name is None:
        found = sorted(lookup.pool(client, "zone"), key=lambda zone: int(zone["ID"]))
    else:
        zone = lookup.find(client, "zone", name)
        found = [zone] if zone else []
    return {"changed": False, "zones": [zones.facts(zone) for zone in found], "server": zones.server_facts(client)}


def main() -> None:
    """Run the module."""
    module = OneModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True)
    module.run(lambda: listed(module))


if __name__ == "__main__":
    main()
