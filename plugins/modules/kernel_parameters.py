#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set kernel parameters in the configuration of the boot loader."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_parameters
short_description: Set kernel parameters in the configuration of the boot loader
version_added: 0.2.0
description:
  - Configures the boot loader to pass parameters to the kernel, from the next boot on, and removes those that were set under the same name before.
    Parameters that somebody else set stay.
  - Knows GRUB as Debian and Ubuntu have it (a file in C(/etc/default/grub.d)), as the Red Hat family has it (grubby), as SUSE has it (a block in
    C(/etc/default/grub)), and systemd-boot (C(/etc/kernel/cmdline), and kernel-install or sdbootutil).
  - Restores the files that it wrote when the boot loader's own tool fails.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  name:
    description: What the parameters are for. Sets with different names do not touch each other.
    type: str
    required: true
  parameters:
    description: The parameters, in this order. An empty list takes all of them back.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Switch the IOMMU on from the next boot on
  opennebula.flower.kernel_parameters:
    name: vfio-host
    parameters: [intel_iommu=on, iommu=pt]
"""

RETURN = r"""
boot_loader:
  description: Which boot loader was found, V(grub-debian), V(grubby), V(grub2) or V(systemd-boot).
  returned: success
  type: str
  sample: grub-debian
commands:
  description: What was run to bring the change to the boot loader, or in check mode would be.
  returned: success
  type: list
  elements: list
  sample: [["update-grub"]]
"""

import os
import re
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule
from ansible_collections.opennebula.flower.plugins.module_utils.vfio import boot_loaders

_ROOT = Path("/")


def change(module: SafeModule) -> dict:
    """Set the parameters and return the module's result."""

    def run(argv: list[str]) -> str:
        status, output, error = module.run_command(argv)
        if status:
            restore()
            module.fail_json(msg=f"{argv[0]} failed, nothing was changed: {(error or output).strip()}.")
        return output

    def restore() -> None:
        for path, text in written.items():
            _write(module, path, text)

    name = module.params["name"]
    if not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        module.fail_json(msg=f"{name!r} is not a name for a set of parameters, expected letters, digits, '_' and '-'.")
    written: dict[Path, str | None] = {}
    loader = boot_loaders.detect(_ROOT)
    try:
        wanted = boot_loaders.plan_change(_ROOT, loader, name, module.params["parameters"], run)
    except ValueError as problem:
        module.fail_json(msg=f"{problem}.")
    if not module.check_mode:
        try:
            for path, text in wanted.files.items():
                former = path.read_text(encoding="utf-8") if path.exists() else None
                _write(module, path, text)
                written[path] = former
        except OSError:
            restore()
            raise
        for command in wanted.commands:
            run(command)
    return {
        "changed": bool(wanted.files or wanted.commands),
        "diff": {"before": {"parameters": wanted.before}, "after": {"parameters": wanted.after}},
        "boot_loader": loader,
        "commands": wanted.commands,
    }


def _write(module: SafeModule, path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(module.tmpdir) / path.name
    temporary.write_text(text, encoding="utf-8")
    os.chmod(temporary, 0o644)
    module.atomic_move(str(temporary), str(path))


def main() -> None:
    """Run the module."""
    module = SafeModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "parameters": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    module.run(lambda: change(module))


if __name__ == "__main__":
    main()
