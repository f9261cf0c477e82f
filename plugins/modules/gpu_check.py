#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a host that passes GPUs on, or a machine whose containers use them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_check
short_description: Check a host that passes GPUs on, or a machine whose containers use them
version_added: 0.2.0
description:
  - Runs every check of the validation procedure and returns each with its state, what was found, and what to do.
  - On a B(host), C(kernel_parameters), C(iommu_groups), C(vfio_module), C(binding), C(group_members), C(udev_rule) and C(pci_filter).
  - On a B(guest), C(gpu), C(driver), C(nvidia_smi), C(device_nodes), C(toolkit), C(runtime), C(cdi), C(container), C(cuda_product) and
    C(memory_limit).
  - A machine without a GPU is a warning, since it trains on its CPU. The module fails only if it is asked to, see O(fail_on).
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
  - opennebula.flower.attributes.info
options:
  where:
    description: What the machine is. With V(auto) a virtual machine is a guest, others are hosts.
    type: str
    choices: [auto, host, guest]
    default: auto
  checks:
    description: Names of the checks to run, instead of all.
    type: list
    elements: str
    default: []
  engines:
    description: Container engines that have to give GPUs to containers.
    type: list
    elements: str
    choices: [docker, podman, containerd]
    default: [docker]
  image:
    description:
      - Container image for the checks that run a container, best the one that trains. With a Python in it CUDA is tried in the container
        too, with PyTorch in it the memory limit.
      - Without an image those checks are skipped.
    type: str
    default: ""
  pull:
    description: Whether an O(image) may be pulled. Otherwise one that is not on the machine is a warning.
    type: bool
    default: false
  memory_fraction:
    description: Share of the GPU memory that PyTorch is told to keep to.
    type: float
    default: 0.8
  timeout:
    description: Seconds for each container, and for a pull.
    type: int
    default: 120
  fail_on:
    description: Let the module fail, after all checks are done, when the state of one is V(error), or V(warning) or worse.
    type: str
    choices: [never, error, warning]
    default: never
"""

EXAMPLES = r"""
- name: Check the machine that trains
  opennebula.flower.gpu_check:
    where: guest
    image: flower-supernode-pytorch:1.42.0
  register: gpu

- name: Name what is wrong
  ansible.builtin.debug:
    msg: "{{ gpu.checks | selectattr('state', 'in', ['warning', 'error']) }}"
"""

RETURN = r"""
where:
  description: What the machine was taken for.
  returned: always
  type: str
  sample: guest
checks:
  description: The checks, in the order of a machine's layers.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      type: str
      sample: driver
    state:
      description: V(ok), V(warning), V(error) or V(skipped).
      type: str
      sample: error
    finding:
      description: What was found.
      type: str
      sample: kernel module nvidia is not loaded
    fix:
      description: What to do, empty if nothing.
      type: str
      sample: "install the driver (nvidia_container_toolkit_driver_package), then reboot or: modprobe nvidia"
gpu:
  description: Whether a GPU can be used, that is the driver answers; of a host, whether there is one.
  returned: always
  type: bool
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import guest_checks, host_checks
from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.machine import ERROR, WARNING, Machine
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule

FAILING = {"never": [], "error": [ERROR], "warning": [ERROR, WARNING]}
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
NO_SUCH_PROGRAM = (127, "", "no such program")


def run_checks(module: SafeModule) -> dict:
    """Run the checks and return the module's result."""

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        # timeout is there, what it is to run need not be.
        program = argv[2] if argv[0] == "timeout" else argv[0]
        if module.get_bin_path(program) is None:
            return NO_SUCH_PROGRAM
        return module.run_command(list(argv), environ_update={"LC_ALL": "C.UTF-8"})

    _check_options(module)
    machine = Machine(run)
    where = module.params["where"]
    if where == "auto":
        where = "guest" if " hypervisor" in machine.text("/proc/cpuinfo") else "host"
    known = host_checks.CHECKS if where == "host" else guest_checks.CHECKS
    names = module.params["checks"] or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        module.fail_json(msg=f"'{unknown[0]}' is not a check of a {where}; there are {', '.join(known)}.", where=where, checks=[], gpu=False)
    if where == "host":
        results = [known[name](machine) for name in known if name in names]
        gpu = bool(machine.gpus())
    else:
        options = ("engines", "image", "pull", "memory_fraction", "timeout")
        guest = guest_checks.look(machine, guest_checks.Settings(python=sys.executable, **{name: module.params[name] for name in options}))
        if {"container", "cuda_product", "memory_limit"} & set(names):
            guest_checks.get_image(guest)
        results = [known[name](guest) for name in known if name in names]
        gpu = bool(guest.listed)
    return {"changed": False, "where": where, "checks": [asdict(result) for result in results], "gpu": gpu}


def _check_options(module: SafeModule) -> None:
    image, fraction, seconds = (module.params[name] for name in ("image", "memory_fraction", "timeout"))
    problem = ""
    if image and not _IMAGE.fullmatch(image):
        problem = f"image is {image!r}, which is not a valid name of an image."
    elif not 0 < fraction <= 1:
        problem = f"memory_fraction is {fraction:g}, expected a share above 0 and up to 1."
    elif seconds < 1:
        problem = f"timeout is {seconds}, it must be 1 or more."
    if problem:
        module.fail_json(msg=problem, where=module.params["where"], checks=[], gpu=False)


def judged(module: SafeModule) -> dict:
    """Run the checks and return the module's result, or fail if it is asked to."""
    result = run_checks(module)
    wrong = [check for check in result["checks"] if check["state"] in FAILING[module.params["fail_on"]]]
    if wrong:
        said = "; ".join(f"{check['name']}: {check['finding']}" for check in wrong)
        module.fail_json(msg=f"{len(wrong)} of {len(result['checks'])} checks of this {result['where']} failed: {said}.", **result)
    return result


def main() -> None:
    """Run the module."""
    module = SafeModule(
        argument_spec={
            "where": {"type": "str", "choices": ["auto", "host", "guest"], "default": "auto"},
            "checks": {"type": "list", "elements": "str", "default": []},
            "engines": {"type": "list", "elements": "str", "choices": ["docker", "podman", "containerd"], "default": ["docker"]},
            "image": {"type": "str", "default": ""},
            "pull": {"type": "bool", "default": False},
            "memory_fraction": {"type": "float", "default": 0.8},
            "timeout": {"type": "int", "default": 120},
            "fail_on": {"type": "str", "choices": list(FAILING), "default": "never"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: judged(module))


if __name__ == "__main__":
    main()
