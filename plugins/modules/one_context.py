#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and validate the contextualization of a Flower appliance."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_context
short_description: Read and validate the contextualization of a Flower appliance
version_added: 0.1.0
description:
  - Runs inside a VM. Reads the context the guest agent of OpenNebula left there, validates all parameters of the
    collection and returns them as the variables of the roles.
  - Fails with every problem at once, each with name, given value and expected form. Parameters that are not set, or
    set to an empty text, get their defaults.
author:
  - opennebula.flower contributors (@opennebula)
options:
  role:
    description: What the VM is in the federation. Required unless O(checked_file) is given.
    type: str
    choices: [superlink, supernode, edge]
  checked_file:
    description:
      - File with what the boot program of an appliance found in the context, which is returned in place of reading and validating the context again.
    type: path
    version_added: 0.2.0
  context_file:
    description:
      - File with the VM's context, in either form of the guest agent, C(KEY='value') or C(export KEY="value").
      - Without it, the files that OpenNebula's guest agent leaves in C(/run/one-context). These are the copy of the context from the newest
        phase, C(context.sh.network), C(context.sh.online) or C(context.sh.local), else C(one_env), whose values are not escaped.
    type: path
  environment_file:
    description: File that is read when O(context_file) is given and does not exist.
    type: path
  include_secrets:
    description:
      - Return secret values too, in RV(secret_values).
      - Tasks that ask for it must set C(no_log).
    type: bool
    default: false
attributes:
  check_mode:
    description: The module only reads.
    support: full
  diff_mode:
    description: The module changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Read the context of a SuperLink
  opennebula.flower.one_context:
    role: superlink
    include_secrets: true
  no_log: true
  register: context
"""

RETURN = r"""
source:
  description: The file that was read.
  returned: success
  type: str
  sample: /run/one-context/context.sh.network
values:
  description: Typed values by role variable, without secrets.
  returned: success
  type: dict
  sample: {flower_num_rounds: 3, flower_tls_enabled: true}
secret_values:
  description: Secret values by role variable.
  returned: when O(include_secrets) is true
  type: dict
ignored:
  description: What was given and has no effect, and why.
  returned: success
  type: list
  elements: str
errors:
  description: Every problem found.
  returned: when a parameter is not valid
  type: list
  elements: str
"""

import json
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import ContextMissing, read_context
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule


class ContextModule(SafeModule):
    """A module whose values are for the roles, which get secrets only if they ask for them."""

    exact = frozenset({"values", "secret_values"})


def checked_before(path: str) -> contextualization.Checked:
    """Return what an earlier check found. Raises ContextMissing, ContextError, as reading and checking did."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if "missing" in found:
            raise ContextMissing(found["missing"])
        if "errors" in found:
            raise contextualization.ContextError(found["errors"])
        return contextualization.Checked(**found)
    except (OSError, ValueError, TypeError) as problem:
        raise ContextMissing(f"what the boot program found in the context of this VM cannot be read: {path}: {problem}") from problem


def read(module: ContextModule) -> dict:
    """Return the module's result."""
    try:
        if module.params["checked_file"]:
            checked, source = checked_before(module.params["checked_file"]), module.params["checked_file"]
        else:
            raw, source = read_context(*filter(None, (module.params["context_file"], module.params["environment_file"])))
            checked = contextualization.check(raw, module.params["role"])
    except ContextMissing as problem:
        module.fail_json(msg=str(problem))
    except contextualization.ContextError as problem:
        module.fail_json(msg=f"the context of this VM is not valid: {problem}", errors=problem.errors)

    for warning in checked.warnings:
        module.warn(warning)
    secret = {p.variable for p in contextualization.PARAMETERS if p.sensitive}
    result = {
        "source": source,
        "values": {name: value for name, value in checked.values.items() if name not in secret},
        "ignored": checked.ignored,
    }
    if module.params["include_secrets"]:
        result["secret_values"] = {name: value for name, value in checked.values.items() if name in secret}
    return {"changed": False, **result}


def main() -> None:
    """Run the module."""
    module = ContextModule(
        argument_spec={
            "role": {"type": "str", "choices": list(contextualization.ROLES)},
            "checked_file": {"type": "path"},
            "context_file": {"type": "path"},
            "environment_file": {"type": "path"},
            "include_secrets": {"type": "bool", "default": False},
        },
        required_one_of=[("role", "checked_file")],
        mutually_exclusive=[("role", "checked_file"), ("context_file", "checked_file"), ("environment_file", "checked_file")],
        supports_check_mode=True,
    )
    module.run(lambda: read(module))


if __name__ == "__main__":
    main()
