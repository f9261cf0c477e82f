#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the training runs of a Flower service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flower_run_info
short_description: Read the training runs of a Flower service
version_added: 0.1.0
description:
  - Returns the runs that the supervisor on the SuperLink's VM publishes, the newest 20.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes.info
  - opennebula.flower.attributes.one_group
  - opennebula.flower.training
options:
  name:
    description: Name of a run, to return only that one.
    type: str
"""

EXAMPLES = r"""
- name: Read all runs
  opennebula.flower.flower_run_info:
    service: flower
  register: trainings

- name: Show the accuracy of the newest
  ansible.builtin.debug:
    msg: "{{ (trainings.runs | last).metrics.accuracy }}"
"""

RETURN = r"""
vm_id:
  description: The SuperLink's VM.
  returned: success
  type: int
runs:
  description:
    - The runs, newest last, each as RV(opennebula.flower.flower_run#module:run) with the metrics of its last round. Only the newest has its
      history.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.trainings import SERVICE_OPTIONS, Trainings


def read(module):
    trainings = Trainings(module.client, module.params["service"])
    name = module.params["name"]
    found = [run for run in trainings.all() if name in (None, run["name"])]
    return {"changed": False, "vm_id": trainings.vm_id, "runs": found}


def main():
    module = OneModule(
        argument_spec={**SERVICE_OPTIONS, "name": {"type": "str"}},
        supports_check_mode=True,
    )
    module.run(lambda: read(module))


if __name__ == "__main__":
    main()
