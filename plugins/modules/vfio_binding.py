#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give PCI devices to vfio-pci, or back to their own drivers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vfio_binding
short_description: Give PCI devices to vfio-pci, or back to their own drivers
version_added: 0.2.0
description:
  - Changes which driver holds a device while the machine runs. Devices are told apart by their address, so that others of the same kind
    stay where they are.
  - Checks nothing but the result; M(opennebula.flower.vfio_info) says which devices must stay.
  - Does not last longer than until the next boot.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  bind:
    description: Addresses of devices for vfio-pci, such as V(0000:e1:00.0) or V(e1:00.0).
    type: list
    elements: str
    default: []
  release:
    description: Addresses of devices that go back to the driver that Linux has for them.
    type: list
    elements: str
    default: []
seealso:
  - module: opennebula.flower.vfio_info
"""

EXAMPLES = r"""
- name: Take a GPU and its audio function from their drivers
  opennebula.flower.vfio_binding:
    bind: ["0000:e1:00.0", "0000:e1:00.1"]
"""

RETURN = r"""
drivers:
  description: What holds each of the devices now, empty for nothing.
  returned: success
  type: dict
  sample: {"0000:e1:00.0": "vfio-pci"}
"""

from subprocess import CalledProcessError

from ansible_collections.opennebula.flower.plugins.module_utils.addresses import pci_address
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule, changed_result
from ansible_collections.opennebula.flower.plugins.module_utils.vfio import binding

_VFIO = "vfio-pci"
# Which driver Linux has for a device, nobody knows before it was asked.
_OWN = "its own driver"


def change(module: SafeModule) -> dict:
    """Change the drivers and return the module's result."""
    wanted, freed = _addresses(module)
    before = {address: binding.driver(address) for address in [*wanted, *freed]}
    if module.check_mode:
        predicted = {**dict.fromkeys(wanted, _VFIO), **{address: before[address] if before[address] != _VFIO else _OWN for address in freed}}
        return changed_result(before, predicted, drivers=predicted)
    try:
        if wanted:
            binding.load()
        for address in wanted:
            binding.bind(address)
        for address in freed:
            binding.release(address)
    except OSError as error:
        module.fail_json(msg=f"The driver of {address} could not be changed: {error.strerror} ({error.filename}).")
    except CalledProcessError:
        module.fail_json(msg="The module vfio-pci could not be loaded; the running kernel has none.")
    after = {address: binding.driver(address) for address in before}
    stuck = [f"{address} is held by {after[address] or 'no driver'}" for address in wanted if after[address] != _VFIO]
    if stuck:
        module.fail_json(msg=f"vfio-pci did not take what it should have: {', '.join(stuck)}.")
    return changed_result(before, after, drivers=after)


def _addresses(module: SafeModule) -> tuple[list[str], list[str]]:
    """Return the devices to bind and to release by their full addresses."""
    try:
        wanted, freed = (list(dict.fromkeys(map(pci_address, module.params[name]))) for name in ("bind", "release"))
    except ValueError as error:
        module.fail_json(msg=f"{error}.")
    both = [address for address in wanted if address in freed]
    if both:
        module.fail_json(msg=f"{both[0]} is both in bind and in release.")
    return wanted, freed


def main() -> None:
    """Run the module."""
    module = SafeModule(
        argument_spec={
            "bind": {"type": "list", "elements": "str", "default": []},
            "release": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    module.run(lambda: change(module))


if __name__ == "__main__":
    main()
