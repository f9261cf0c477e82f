#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a model on a Flower service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flower_run
short_description: Train a model on a Flower service
version_added: 0.1.0
description:
  - Starts, follows and stops training runs of a OneFlow service that was made with this collection.
  - Asks the supervisor on the SuperLink's VM through OpenNebula's API. Flower's own control stays closed, and the
    supervisor keeps the run going when the SuperLink goes down.
  - A run is identified by its name. A name that was used with the same configuration is not trained again.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
options:
  service:
    description: Name or id of the service. Its role C(superlink) has exactly one VM.
    type: str
    required: true
  name:
    description:
      - Name of the run.
      - The run that a SuperLink starts by itself has the name V(initial).
    type: str
    default: initial
  config:
    description:
      - What differs from the settings of the SuperLink, as keys of the run configuration or as role variables.
      - Without it a run that exists is taken as it is.
    type: dict
  state:
    description:
      - With V(started) the supervisor has taken the run over, with V(finished) its model is trained.
      - With V(stopped) the run does not go on; one that does not exist is not made.
    type: str
    choices: [started, finished, stopped]
    default: finished
  wait_timeout:
    description: Seconds after which the wait for the state ends with an error that says how the run stands.
    type: float
    default: 3600
"""

EXAMPLES = r"""
- name: Follow the run that the SuperLink starts by itself
  opennebula.flower.flower_run:
    service: flower
    state: finished

- name: Train longer
  opennebula.flower.flower_run:
    service: flower
    name: ten-rounds
    config:
      num-server-rounds: 10
"""

RETURN = r"""
vm_id:
  description: The SuperLink's VM.
  returned: when the service exists
  type: int
run:
  description: The run as it stands.
  returned: when the run exists
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    digest:
      description: Digest of its configuration.
      type: str
    status:
      description: One of waiting, running, completed, failed and stopped.
      type: str
    round:
      description: The last complete round.
      type: int
    rounds:
      description: All its rounds, 0 until it runs.
      type: int
    accuracy:
      description: Accuracy after the last complete round, none when a newer run exists.
      type: float
    loss:
      description: Loss after the last complete round, none when a newer run exists.
      type: float
    nodes:
      description: Nodes that took part in the last complete round.
      type: int
    message:
      description: What it does or why it ended.
      type: str
    run_id:
      description: Flower's own id of its last submission.
      type: str
    attempts:
      description: How often it was submitted.
      type: int
    started:
      description: First submission, in seconds since the epoch.
      type: int
    ended:
      description: End, in seconds since the epoch.
      type: int
    history:
      description: Round, loss, accuracy, seconds and nodes of every round; empty when a newer run exists.
      type: list
      elements: list
"""

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import ContextError, run_overrides
from ansible_collections.opennebula.flower.plugins.module_utils.flower import runs
from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one import services
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.trainings import (
    Trainings,
    check_name,
    check_not_failed,
    check_same_config,
)


def work(module):
    name, state = module.params["name"], module.params["state"]
    check_name(name)
    config = _config(module)
    if module.check_mode and not services.find_service(module.client, module.params["service"]):
        # The service itself would have been made before.
        return _result(module, None, state != "stopped")
    trainings = Trainings(module.client, module.params["service"])
    run = trainings.find(name)
    if run and config is not None and state != "stopped":
        check_same_config(run, config, trainings.service)
    if state == "stopped":
        return _stop(module, trainings, run)
    return _train(module, trainings, run, config or {})


def _config(module):
    if module.params["config"] is None:
        return None
    try:
        return run_overrides(module.params["config"])
    except ContextError as problem:
        raise OneException(
            INVALID, f"Run '{module.params['name']}' cannot be configured like this: {problem}."
        ) from None


def _train(module, trainings, run, config):
    new, finish = run is None, module.params["state"] == "finished"
    if not module.check_mode:
        if new:
            trainings.request(module.params["name"], config, runs.STARTED_REQUEST)
        if new or finish:
            goal = "has not ended" if finish else "has not started"
            run = _wait(module, trainings, lambda found: not finish or found["status"] in runs.ENDED, goal)
    if run:
        check_not_failed(run, trainings.service)
    return _result(module, run, new, trainings.vm_id)


def _stop(module, trainings, run):
    going_on = bool(run) and run["status"] not in runs.ENDED
    if going_on and not module.check_mode:
        trainings.request(module.params["name"], {}, runs.STOPPED_REQUEST)
        run = _wait(module, trainings, lambda found: found["status"] in runs.ENDED, "has not stopped")
    return _result(module, run, going_on, trainings.vm_id)


def _wait(module, trainings, until, goal):
    return trainings.wait(module.params["name"], until, goal, module.params["wait_timeout"], module.progress)


def _result(module, run, changed, vm_id=None):
    name, state = module.params["name"], module.params["state"]
    wanted = {"run": name, "state": "stopped" if state == "stopped" else "started"}
    before = {"run": name, "state": "started" if state == "stopped" else "absent"} if changed else wanted
    result = {"changed": changed, "diff": {"before": before, "after": wanted}}
    if vm_id is not None:
        result["vm_id"] = vm_id
    if run:
        result["run"] = run
    return result


def main():
    module = OneModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "name": {"type": "str", "default": "initial"},
            "config": {"type": "dict"},
            "state": {"type": "str", "choices": ["started", "finished", "stopped"], "default": "finished"},
            "wait_timeout": {"type": "float", "default": 3600.0},
        },
        supports_check_mode=True,
    )
    module.run(lambda: work(module))


if __name__ == "__main__":
    main()
