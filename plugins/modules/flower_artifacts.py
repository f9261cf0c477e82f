#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the model of a training run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flower_artifacts
short_description: Fetch the model of a training run
version_added: 0.2.0
description:
  - Brings what a run left behind to this machine, the final model in every form that the app exports and the events.
  - Needs no log-in to a VM and leaves Flower's own control closed. The SuperLink offers the files on its Fleet port under
    a random token per run, which only those who may read the VM in OpenNebula know. The connection is verified with
    O(ca_certificate), every file with its size and SHA-256.
  - Address, CA, size and SHA-256 are attributes of the SuperLink's VM, which every VM of its service can write through OneGate.
    O(ca_certificate) keeps these from passing off files of their own.
  - A file that is there with the right content is not fetched again.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.training
options:
  name:
    description: Name of the run. It has ended.
    type: str
    default: initial
  dest:
    description: Directory for the files. It is made when it does not exist.
    type: path
    required: true
  files:
    description: Names of the files to fetch. Without it all are fetched.
    type: list
    elements: str
  address:
    description:
      - Fleet address of the SuperLink as this machine reaches it, as C(host:port).
      - Without it, it is the address that the SuperLink published for its nodes.
    type: str
  ca_certificate:
    description:
      - Certificates in PEM of the CA that signed the SuperLink's. With it files come over TLS only, whatever the VM published.
      - Without it, it is the one that the VM published, and files come without TLS where the VM says that there is none.
    type: str
    version_added: 0.2.0
  max_megabytes:
    description: How many MiB the files that are not here yet may have together.
    type: int
    default: 16384
    version_added: 0.2.0
"""

EXAMPLES = r"""
- name: Fetch the model of the first training
  opennebula.flower.flower_artifacts:
    service: flower
    dest: build/report/initial

- name: Fetch the events of another run through a published port
  opennebula.flower.flower_artifacts:
    service: flower
    name: ten-rounds
    dest: /srv/models/ten-rounds
    files: [events.jsonl]
    address: flower.example.org:9092
    ca_certificate: "{{ lookup('ansible.builtin.file', 'flower-ca.crt') }}"
"""

RETURN = r"""
vm_id:
  description: The SuperLink's VM.
  returned: when the service exists
  type: int
files:
  description: The files, those that were there already too.
  returned: when the run has ended
  type: list
  elements: dict
  contains:
    name:
      description: Name of the file.
      type: str
    path:
      description: Where it lies now.
      type: str
    size:
      description: Its size in bytes.
      type: int
    sha256:
      description: Its SHA-256.
      type: str
"""

import contextlib
import os
import tempfile

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.service import facts as service_facts
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, MISSING, WRONG_STATE, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import protocol
from ansible_collections.opennebula.flower.plugins.module_utils.training_files import Download, check_size, sha256_of
from ansible_collections.opennebula.flower.plugins.module_utils.trainings import SERVICE_OPTIONS, Trainings, check_name


def download(module):
    check_name(module.params["name"])
    if module.check_mode and not service_facts.find_service(module.client, module.params["service"]):
        # The service itself would have been made before.
        return {"changed": True}
    trainings = Trainings(module.client, module.params["service"])
    run = trainings.find(module.params["name"])
    if module.check_mode and (run is None or run["status"] not in protocol.ENDED):
        return {"changed": True, "vm_id": trainings.vm_id}
    _check_ended(module, run)
    attributes = trainings.attributes()
    collection = trainings.files(attributes, run["name"])
    if collection is None:
        raise OneException(MISSING, f"Run '{run['name']}' of service '{trainings.service}' left no files.")
    module.no_log_values.add(collection.token)
    return _fetch_missing(module, trainings, attributes, collection)


def _check_ended(module, run):
    name, service = module.params["name"], module.params["service"]
    if run is None:
        raise OneException(MISSING, f"There is no run '{name}' of service '{service}'.")
    if run["status"] not in protocol.ENDED:
        raise OneException(WRONG_STATE, f"Run '{name}' of service '{service}' has not ended, it is {run['status']}.")


def _fetch_missing(module, trainings, attributes, collection):
    files = _selected(module, collection)
    before = {file.name: sha256_of(_path(module, file)) for file in files}
    missing = [file for file in files if before[file.name] != file.sha256]
    check_size(module.params["name"], missing, module.params["max_megabytes"])
    if missing and not module.check_mode:
        _make_directory(module.params["dest"])
        place = module.params["address"] or attributes.get("FL_ENDPOINT")
        with Download(place, attributes, trainings.vm_id, module.params["api_timeout"], module.params["ca_certificate"]) as connection:
            for file in missing:
                module.progress(f"{file.name}, {file.size} bytes")
                _fetch(module, connection, collection.token, file)
    return {
        "changed": bool(missing),
        "diff": {
            "before": {file.name: before[file.name] for file in missing},
            "after": {file.name: file.sha256 for file in missing},
        },
        "vm_id": trainings.vm_id,
        "files": [
            {"name": file.name, "path": _path(module, file), "size": file.size, "sha256": file.sha256} for file in files
        ],
    }


def _selected(module, collection):
    names = [file.name for file in collection.files]
    unknown = [name for name in module.params["files"] or [] if name not in names]
    if unknown:
        raise OneException(
            INVALID, f"Run '{module.params['name']}' left no file '{unknown[0]}', only: {', '.join(names)}."
        )
    return [file for file in collection.files if module.params["files"] is None or file.name in module.params["files"]]


def _path(module, file):
    return os.path.join(module.params["dest"], file.name)


def _make_directory(path):
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as problem:
        raise OneException(INVALID, f"The directory {path} cannot be made: {problem.strerror}.") from None


def _fetch(module, connection, token, file):
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=module.params["dest"])
    except OSError as problem:
        raise OneException(INVALID, f"{module.params['dest']} cannot be written: {problem.strerror}.") from None
    try:
        with os.fdopen(handle, "wb") as sink:
            connection.fetch(module.params["name"], file, token, sink)
        module.atomic_move(temporary, _path(module, file))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def main():
    module = OneModule(
        argument_spec={
            **SERVICE_OPTIONS,
            "name": {"type": "str", "default": "initial"},
            "dest": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str"},
            "address": {"type": "str"},
            "ca_certificate": {"type": "str"},
            "max_megabytes": {"type": "int", "default": 16384},
        },
        supports_check_mode=True,
    )
    module.run(lambda: download(module))


if __name__ == "__main__":
    main()
