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
  - A run that lost its SuperLink goes on by itself, from its newest checkpoint if it has checkpoints.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.training
options:
  name:
    description:
      - Name of the run.
      - The run that a SuperLink starts by itself has the name V(initial).
    type: str
    default: initial
  config:
    description:
      - What differs from the settings of the SuperLink, as keys of the run configuration or as role variables.
      - With O(app), keys of the run configuration that this app declares. What is in a table of it has the table's name and
        a dot before its own. The type of a value is kept.
      - Without it a run that exists is taken as it is.
    type: dict
  app:
    description:
      - A Flower App of your own to train instead of the one that ships with the SuperLink.
      - A directory or a C(.fab) file on the SuperLink's VM, by its absolute path, or a git repository by its URL with
        https, ssh or file, with a branch, tag or commit after C(@) and a directory in it after C(#subdirectory=).
      - The SuperLink takes the app that its context names as C(ONEAPP_FL_APP_SOURCE). It takes others only when its context has
        C(ONEAPP_FL_APP_REQUESTS) set, since an app is code that runs in the whole federation.
      - Such a run is complete when Flower says so. It reports rounds only if the app writes the events of the shipped one.
    type: str
    default: ""
  resume:
    description:
      - Lets a run that failed or was stopped go on, from its newest checkpoint if it has one, from its start otherwise.
      - A run that is complete, or goes on already, is left alone. Without it, a run that failed or was stopped is an error.
    type: bool
    default: false
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
  live_page:
    description:
      - A page that shows the run while it goes on, rewritten in one step whenever something has changed.
      - It is written where the module runs on the control node, only while the task waits for the run, and stays as it was last.
      - The template finds the run as RV(run) in C(flower_run), and in C(flower_run_followed) whether there will be news.
    type: dict
    suboptions:
      dest:
        description: Path of the page, in a directory that is there.
        type: path
        required: true
      template:
        description: Path of its Jinja template on the control node.
        type: path
        required: true
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

- name: Go on with it after the disk was full
  opennebula.flower.flower_run:
    service: flower
    name: ten-rounds
    resume: true

- name: Train an app of your own
  opennebula.flower.flower_run:
    service: flower
    name: mine
    app: https://git.example.org/team/app.git@v1.2#subdirectory=flower
    config:
      learning-rate: 0.05
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
    metrics:
      description:
        - What the nodes measured in the last complete round, by name. The shipped app always has V(accuracy) and V(loss); what else there is
          depends on the use case or on your own app.
        - What is not a finite number is the text V(NaN), V(Infinity) or V(-Infinity), since JSON has no such numbers.
        - At most 32 metrics are taken over, those whose names have up to 40 letters, digits and the characters C(_ . / @ -), with a letter first.
      type: dict
      sample: {accuracy: 0.9777, loss: 0.0909, auc: 0.9981}
    nodes:
      description: Nodes that took part in the last complete round.
      type: int
    zones:
      description:
        - What the nodes of each zone did in the newest attempt, by name of the zone, as the nodes name it; empty when they name none, and when a newer
          run exists. Each has C(joined), when the first of its nodes answered in seconds since the epoch, and of its C(nodes) together the C(rounds)
          that any of them took part in, C(failures), C(examples) trained on and C(seconds) from asking to their replies.
      type: dict
      sample: {lyon: {joined: 1780000000, nodes: 2, rounds: 10, failures: 1, examples: 11520, seconds: 84.2}}
    message:
      description: What it does or why it ended.
      type: str
    run_id:
      description: Flower's own id of its last submission.
      type: str
    attempts:
      description: How often it was submitted.
      type: int
    failed_rounds:
      description: Rounds that too few nodes completed. Each was tried again.
      type: int
    checkpoint:
      description: The newest round with a checkpoint, 0 without one.
      type: int
    resumed:
      description: The round after which the newest attempt went on, 0 when it started at the beginning.
      type: int
    app:
      description: Source of the operator's own app, empty for the shipped one.
      type: str
    app_version:
      description: What of that source is trained, for a git repository its commit.
      type: str
    started:
      description: First submission, in seconds since the epoch.
      type: int
    ended:
      description: End, in seconds since the epoch.
      type: int
    history:
      description:
        - The newest rounds, ascending; empty when a newer run exists.
        - So many rounds are published that rounds times metrics is at most 2000, and never more than 500. The events of the run, which
          M(opennebula.flower.flower_artifacts) fetches, and the C(result.json) that the playbooks make of them, have all rounds.
      type: list
      elements: dict
      contains:
        round:
          description: Its number, the first is 1.
          type: int
        seconds:
          description: How long it took, none when that is not known.
          type: float
        nodes:
          description: Nodes that trained in it.
          type: int
        metrics:
          description: What was measured, as RV(run.metrics).
          type: dict
"""

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import ContextError, run_overrides
from ansible_collections.opennebula.flower.plugins.module_utils.flower.app_source import FORM, parse_source
from ansible_collections.opennebula.flower.plugins.module_utils.flower.run_config import toml_document
from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import protocol
from ansible_collections.opennebula.flower.plugins.module_utils.trainings import (
    SERVICE_OPTIONS,
    Trainings,
    check_name,
    check_not_failed,
    check_same_config,
)


def ensure(module):
    name, state = module.params["name"], module.params["state"]
    check_name(name)
    _check_app(module)
    config = _config(module)
    if module.check_mode and not service_facts.find_service(module.client, module.params["service"]):
        # The service itself would have been made before.
        return _result(module, None, "absent" if state != "stopped" else None)
    trainings = Trainings(module.client, module.params["service"])
    run = trainings.find(name)
    if run and config is not None and state != "stopped":
        check_same_config(run, config, module.params["app"], trainings.service)
    if state == "stopped":
        return _stop(module, trainings, run)
    return _train(module, trainings, run, config or {})


def _check_app(module):
    try:
        if module.params["app"]:
            parse_source(module.params["app"])
    except ValueError as problem:
        raise OneException(
            INVALID, f"'{module.params['app']}' is not the source of an app: {problem}; expected {FORM}."
        ) from None


def _config(module):
    config, app = module.params["config"], module.params["app"]
    if config is None:
        return {} if app else None
    try:
        if app:
            toml_document(config)
            return config
        return run_overrides(config)
    except (ContextError, ValueError) as problem:
        raise OneException(
            INVALID, f"Run '{module.params['name']}' cannot be configured like this: {problem}."
        ) from None


def _train(module, trainings, run, config):
    again = bool(run) and module.params["resume"] and run["status"] in (protocol.FAILED, protocol.STOPPED)
    before = run["status"] if again else (None if run else "absent")
    if module.check_mode:
        if run and not again:
            check_not_failed(run, trainings.service)
        return _result(module, run, before, trainings.vm_id)
    finish = module.params["state"] == "finished"
    ended = run["ended"] if again else None
    if before:
        trainings.request(
            protocol.Request(module.params["name"], config, protocol.STARTED_REQUEST, module.params["app"], ended)
        )
    if before or finish:

        def reached(found):
            taken = not again or found["ended"] != ended
            return taken and (not finish or found["status"] in protocol.ENDED)

        run = _wait(module, trainings, reached, "has not ended" if finish else "has not started")
    check_not_failed(run, trainings.service)
    return _result(module, run, before, trainings.vm_id)


def _stop(module, trainings, run):
    going_on = bool(run) and run["status"] not in protocol.ENDED
    if going_on and not module.check_mode:
        trainings.request(protocol.Request(module.params["name"], {}, protocol.STOPPED_REQUEST))
        run = _wait(module, trainings, lambda found: found["status"] in protocol.ENDED, "has not stopped")
    return _result(module, run, "started" if going_on else None, trainings.vm_id)


def _wait(module, trainings, until, goal):
    told = None

    def seen(found):
        nonlocal told
        if module.params["live_page"] and found != told:
            module.tell({"run": found})
            told = found
        return until(found)

    return trainings.wait(module.params["name"], seen, goal, module.params["wait_timeout"], module.progress)


def _result(module, run, before, vm_id=None):
    """Return the result for a run that was in the state before, None when nothing changes."""
    name, state = module.params["name"], module.params["state"]
    wanted = {"run": name, "state": "stopped" if state == "stopped" else "started"}
    changed = before is not None
    result = {"changed": changed, "diff": {"before": {"run": name, "state": before} if changed else wanted, "after": wanted}}
    if vm_id is not None:
        result["vm_id"] = vm_id
    if run:
        result["run"] = run
    return result


def main():
    module = OneModule(
        argument_spec={
            **SERVICE_OPTIONS,
            "name": {"type": "str", "default": "initial"},
            "config": {"type": "dict"},
            "app": {"type": "str", "default": ""},
            "resume": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["started", "finished", "stopped"], "default": "finished"},
            "wait_timeout": {"type": "float", "default": 3600.0},
            # The action plugin writes it.
            "live_page": {
                "type": "dict",
                "options": {"dest": {"type": "path", "required": True}, "template": {"type": "path", "required": True}},
            },
        },
        supports_check_mode=True,
    )
    module.run(lambda: ensure(module))


if __name__ == "__main__":
    main()
