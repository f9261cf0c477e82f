#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Divide NVIDIA GPUs into instances."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_mig
short_description: Divide NVIDIA GPUs into instances
version_added: 0.2.0
description:
  - Gives GPUs a layout of MIG (Multi-Instance GPU). It is applied only where it differs, and only while nothing runs on the GPU.
  - The whole layout is checked before any GPU is changed. While MIG is off the driver does not tell its profiles; an unknown one is
    then found after MIG was switched on, which is undone.
  - Instances do not survive a reboot; the role P(opennebula.flower.nvidia_container_toolkit#role) has them made again.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  layout:
    description: The GPUs and their instances. GPUs that are not listed stay as they are.
    type: list
    elements: dict
    required: true
    suboptions:
      gpu:
        description: Number of the GPU, as C(nvidia-smi) shows it.
        type: int
        required: true
      profiles:
        description: One profile for each instance, such as V(1g.10gb). Empty to switch MIG off.
        type: list
        elements: str
        required: true
requirements:
  - nvidia-smi, of the NVIDIA driver
"""

EXAMPLES = r"""
- name: Divide a GPU of 80 GB among three nodes
  opennebula.flower.nvidia_mig:
    layout:
      - gpu: 0
        profiles: [1g.10gb, 2g.20gb, 3g.40gb]
"""

RETURN = r"""
commands:
  description: What was run, or in check mode would be.
  returned: success
  type: list
  elements: list
  sample: [["nvidia-smi", "mig", "-i", "0", "-cgi", "3g.40gb,2g.20gb,1g.10gb", "-C"]]
"""

from collections.abc import Sequence

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import mig
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule, changed_result


def divide(module: SafeModule) -> dict:
    """Bring the GPUs to the wanted layout and return the module's result."""
    try:
        return _divide(module)
    except mig.MigError as problem:
        module.fail_json(msg=f"{problem}.")


def _divide(module: SafeModule) -> dict:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        program = module.get_bin_path(argv[0])
        if program is None:
            return 127, "", f"there is no {argv[0]} on this machine"
        return module.run_command([program, *argv[1:]], environ_update={"LC_ALL": "C"})

    layout = module.params["layout"]
    mig.check_layout(layout)
    wanted = {entry["gpu"]: entry["profiles"] for entry in layout}
    if module.check_mode and not mig.answers(run):
        module.warn("The NVIDIA driver does not answer yet, so the MIG layout cannot be compared with the GPUs.")
        return {"changed": True, "commands": []}
    gpus = mig.read(run, wanted)
    for gpu in gpus:
        mig.check_profiles(gpu, wanted[gpu.index])
    different = [gpu for gpu in gpus if mig.differs(gpu, wanted[gpu.index])]
    for gpu in different:
        mig.check_idle(gpu)
    before = {gpu.label: _shown(gpu.mode == mig.ENABLED, gpu.instances) for gpu in gpus}
    after = {**before, **{gpu.label: _shown(bool(wanted[gpu.index]), sorted(wanted[gpu.index])) for gpu in different}}
    commands = [command for gpu in different for command in mig.commands(gpu, wanted[gpu.index])]
    if not module.check_mode:
        for gpu in different:
            mig.apply(run, gpu, wanted[gpu.index])
    return changed_result(before, after, commands=commands)


def _shown(on: bool, instances: list[str]) -> str:
    return f"MIG with {', '.join(instances) or 'no instances'}" if on else "no MIG"


def main() -> None:
    """Run the module."""
    entry = {
        "gpu": {"type": "int", "required": True},
        "profiles": {"type": "list", "elements": "str", "required": True},
    }
    module = SafeModule(
        argument_spec={"layout": {"type": "list", "elements": "dict", "required": True, "options": entry}},
        supports_check_mode=True,
    )
    module.run(lambda: divide(module))


if __name__ == "__main__":
    main()
