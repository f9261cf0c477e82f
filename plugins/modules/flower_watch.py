#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch a federation over zones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flower_watch
short_description: Watch a federation over zones
version_added: 0.2.0
description:
  - Shows the runs of a OneFlow service that was made with this collection, how its metrics go, how its VMs stand in each zone, and what
    is wrong, again and again until no run goes on.
  - Asks only OpenNebula's APIs, with two calls for each zone and two for the runs at every look. Nothing has to be installed or opened for it.
  - Live output appears only when the module runs on the control node. Where Ansible shows colours, each view takes the place of
    the last one; elsewhere, a view follows when something has changed.
  - What VMs and apps say is shown in one line each, shortened, with control characters escaped.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes.info
  - opennebula.flower.attributes.one_group
options:
  service:
    description: Name of the service, the same in all zones. In the zone of O(api_url), its role C(superlink) has exactly one VM.
    type: str
    required: true
  zones:
    description:
      - The zones whose VMs are shown. Without any, those of the zone of O(api_url).
      - What is not given of a zone is as in the options of the same names.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What to call the zone; as the SuperNodes name it, so that what they did is shown beside them.
        type: str
        required: true
      api_url:
        description: Its XML-RPC endpoint.
        type: str
      api_username:
        description: The user to ask it as.
        type: str
      api_password:
        description: The user's password or login token.
        type: str
      api_timeout:
        description: Seconds after which a request to it ends.
        type: float
      validate_certs:
        description: Whether its certificate must be valid.
        type: bool
      ca_path:
        description: File with the PEM certificates to trust.
        type: path
      oneflow_url:
        description: Its endpoint of OneFlow.
        type: str
  once:
    description: Whether to look only once.
    type: bool
    default: false
  interval:
    description: Seconds between two looks, 1 or more.
    type: float
    default: 5
  duration:
    description: Seconds after which it stops looking, although a run goes on.
    type: float
    default: 3600
"""

EXAMPLES = r"""
- name: Watch the training until it ends
  opennebula.flower.flower_watch:
    service: flower

- name: Look once at a federation over two zones
  opennebula.flower.flower_watch:
    service: flower
    once: true
    zones:
      - name: munich
      - name: lyon
        api_url: https://lyon.example.org:2634/RPC2
        api_username: flower
        api_password: "{{ lyon_password }}"
"""

RETURN = r"""
view:
  description: What was shown last, by lines.
  returned: success
  type: list
  elements: str
ended:
  description: Whether there are runs and none of them goes on.
  returned: success
  type: bool
runs:
  description: The runs, as M(opennebula.flower.flower_run_info) returns them.
  returned: success
  type: list
  elements: dict
zones:
  description: The zones, in their order.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: What it is called.
      type: str
    service:
      description: State of its service, V(MISSING) without one.
      type: str
    problem:
      description: Why nothing is known of the zone, empty if it answers.
      type: str
    vms:
      description:
        - The VMs of the service, each with its C(number), C(name), C(role), how it is C(standing), and the C(reason) if it is not well.
        - C(standing) is one of V(ready), V(connected), V(training), V(not connected), V(starting) and V(broken).
      type: list
      elements: dict
"""

import dataclasses
import json
import math
import shutil
import time

from ansible_collections.opennebula.flower.plugins.module_utils.module import LONGEST_WAIT, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import view
from ansible_collections.opennebula.flower.plugins.module_utils.trainings import Trainings
from ansible_collections.opennebula.flower.plugins.module_utils.watching import Watch, follow, has_ended

WIDTH = 100
ZONE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "api_url": {"type": "str"},
    "api_username": {"type": "str"},
    "api_password": {"type": "str", "no_log": True},
    "api_timeout": {"type": "float"},
    "validate_certs": {"type": "bool"},
    "ca_path": {"type": "path"},
    "oneflow_url": {"type": "str"},
}


def watch_federation(module):
    interval, duration = module.params["interval"], 0 if module.params["once"] else module.params["duration"]
    if not interval >= 1:
        raise OneException(INVALID, f"interval is {interval:g}, it must be 1 or more.")
    for name, seconds in (("interval", interval), ("duration", module.params["duration"])):
        if seconds > LONGEST_WAIT or math.isnan(seconds):
            raise OneException(INVALID, f"{name} is {seconds:.10g}, it must be at most {LONGEST_WAIT} seconds, a year.")
    service = module.params["service"]
    # What is wrong from the beginning is an error; what goes wrong later is part of the view.
    Trainings(module.client, service)
    zones = {zone["name"]: module.client_of(zone) for zone in module.params["zones"]}
    watch = Watch(service, module.client, zones or {service: module.client_of({})})
    # The action plugin says how wide the terminal is.
    columns = shutil.get_terminal_size((WIDTH, 0)).columns

    def show(federation):
        module.tell({"view": view.view(federation, columns)})

    seen = follow(watch, show, time.time, time.sleep, interval, time.time() + duration)
    return {
        "changed": False,
        "view": view.view(seen, columns),
        "ended": has_ended(seen),
        "runs": list(seen.runs),
        "zones": json.loads(json.dumps([dataclasses.asdict(zone) for zone in seen.zones])),
    }


def main():
    module = OneModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "zones": {"type": "list", "elements": "dict", "default": [], "options": ZONE_OPTIONS},
            "once": {"type": "bool", "default": False},
            "interval": {"type": "float", "default": 5.0},
            "duration": {"type": "float", "default": 3600.0},
        },
        supports_check_mode=True,
    )
    module.run(lambda: watch_federation(module))


if __name__ == "__main__":
    main()
