# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module kernel_parameters on a machine with GRUB as Debian has it, whose update-grub is a stand-in."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.modules import kernel_parameters
from ansible_collections.opennebula.flower.tests.support.module_arguments import patch_module_args

WANTED = {"name": "vfio-host", "parameters": ["iommu=pt"]}


class Machine:
    """A machine, and the module run on it."""

    def __init__(self, root: Path) -> None:
        self.menu = root / "boot/grub/grub.cfg"
        self.settings = root / "etc/default/grub.d/90-vfio-host.cfg"
        self.tool = root / "usr/sbin/update-grub"
        for path in (self.menu, self.tool):
            path.parent.mkdir(parents=True)
            path.touch()
        # Like the real one it writes the menu from the settings.
        self.provide(f'[ ! -e "{self.settings}" ] || . "{self.settings}"; echo "linux /vmlinuz $GRUB_CMDLINE_LINUX_DEFAULT" >"{self.menu}"')

    def provide(self, script: str) -> None:
        """Replace update-grub."""
        self.tool.write_text(f"#!/bin/sh\n{script}\n")
        self.tool.chmod(0o755)

    def run(self, check: bool = False, **options: object) -> dict:
        """Run the module and return its result."""
        output = io.StringIO()
        with patch_module_args({**options, "_ansible_check_mode": check}), redirect_stdout(output), suppress(SystemExit):
            kernel_parameters.main()
        return json.loads(output.getvalue())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(kernel_parameters, "_ROOT", tmp_path)
    monkeypatch.setenv("PATH", f"{made.tool.parent}:/usr/bin:/bin")
    return made


def test_parameters_come_and_go_and_a_second_run_changes_nothing(machine: Machine) -> None:
    done = machine.run(**WANTED)
    assert (done["changed"], done["diff"]) == (True, {"before": {"parameters": []}, "after": {"parameters": ["iommu=pt"]}})
    assert machine.menu.read_text().split() == ["linux", "/vmlinuz", "iommu=pt"]
    assert machine.run(**WANTED)["changed"] is False
    assert machine.run(**{**WANTED, "parameters": []})["changed"] is True
    assert machine.menu.read_text().split() == ["linux", "/vmlinuz"] and not machine.settings.exists()
    assert machine.run(**{**WANTED, "parameters": []})["changed"] is False


def test_check_mode_says_the_same_and_writes_nothing(machine: Machine) -> None:
    predicted = machine.run(check=True, **WANTED)
    assert (machine.menu.read_text(), machine.settings.exists()) == ("", False)
    done = machine.run(**WANTED)
    assert (predicted["changed"], predicted["diff"], predicted["commands"]) == (done["changed"], done["diff"], done["commands"])


def test_a_tool_that_fails_leaves_the_settings_as_they_were(machine: Machine) -> None:
    machine.run(**WANTED)
    before = machine.settings.read_text()
    machine.provide("echo no space left >&2; exit 1")
    failed = machine.run(name="vfio-host", parameters=["iommu=on"])
    assert failed["msg"] == "update-grub failed, nothing was changed: no space left."
    assert machine.settings.read_text() == before


@pytest.mark.parametrize(("options", "problem"), [
    ({"name": "../vfio", "parameters": []}, "'../vfio' is not a name for a set of parameters, expected letters, digits, '_' and '-'."),
    ({"name": "vfio", "parameters": ["a b"]}, "'a b' is not a kernel parameter, expected one such as intel_iommu=on."),
])
def test_what_cannot_be_written_is_refused(machine: Machine, options: dict, problem: str) -> None:
    assert machine.run(**options)["msg"] == problem
