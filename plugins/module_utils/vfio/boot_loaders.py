# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters in the configuration of the boot loader, whichever a machine has. No Ansible.

root: the directory that has etc and boot in it, / but for tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

# GRUB of Debian and Ubuntu reads drop-ins. Red Hat's has grubby, SUSE's neither.
GRUB_DEBIAN, GRUBBY, GRUB2, SYSTEMD_BOOT = "grub-debian", "grubby", "grub2", "systemd-boot"
_SYSTEMD_BOOT_FILES = ("boot/loader/loader.conf", "boot/efi/loader/loader.conf", "efi/loader/loader.conf")
_LOADER_VARIABLE = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_PARAMETER = re.compile(r"[A-Za-z0-9_.,:=/@+-]+")
# What the boot loader adds to the command line by itself.
_LOADERS_OWN = ("BOOT_IMAGE=", "initrd=")

Run = Callable[[list[str]], str]


@dataclass
class Change:
    """What makes the boot loader pass parameters.

    before, after: parameters of ours in its configuration. files: new content by path, none for a file that goes. commands: run then.
    """

    before: list[str]
    after: list[str]
    files: dict[Path, str | None] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)


def detect(root: Path) -> str:
    """Return which boot loader the machine has, empty for one that is not known here."""
    if _booted_by_systemd_boot(root):
        return SYSTEMD_BOOT
    if _has(root, "grubby"):
        return GRUBBY
    if _has(root, "update-grub") and root.joinpath("boot/grub/grub.cfg").exists():
        return GRUB_DEBIAN
    if _has(root, "grub2-mkconfig") and root.joinpath("boot/grub2/grub.cfg").exists():
        return GRUB2
    if any(root.joinpath(path).exists() for path in _SYSTEMD_BOOT_FILES):
        return SYSTEMD_BOOT
    return ""


def plan_change(root: Path, loader: str, name: str, parameters: list[str], run: Run) -> Change:
    """Return what makes the loader pass the parameters, in this order, and none that were passed under the name before.

    run: runs a command that changes nothing and returns its output.

    :raises ValueError: when a parameter cannot be written, or there is no such loader.
    """
    for parameter in parameters:
        if not _PARAMETER.fullmatch(parameter):
            raise ValueError(f"{parameter!r} is not a kernel parameter, expected one such as intel_iommu=on")
    if loader not in _LOADERS:
        raise ValueError("no boot loader was found: neither GRUB with update-grub, grubby or grub2-mkconfig, nor systemd-boot")
    return _LOADERS[loader](root, name, parameters, run)


def _grub_debian(root: Path, name: str, parameters: list[str], _run: Run) -> Change:
    # Late in the order: files of cloud images set the variable anew.
    path = root / f"etc/default/grub.d/90-{name}.cfg"
    before = _text(path)
    after = f"# Managed by Ansible\n{_appended(parameters)}" if parameters else ""
    return _generated(
        path, before, after, _assigned(before), parameters, root / "boot/grub/grub.cfg", [["update-grub"]]
    )


def _grub2(root: Path, name: str, parameters: list[str], _run: Run) -> Change:
    path, menu = root / "etc/default/grub", root / "boot/grub2/grub.cfg"
    begin, end = f"# BEGIN {name}, managed by Ansible\n", f"# END {name}\n"
    before = _text(path)
    block = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", before, re.DOTALL)
    rest = before.replace(block.group(0), "") if block else before
    after = f"{rest.rstrip(chr(10))}\n{begin}{_appended(parameters)}{end}" if parameters else rest
    return _generated(
        path, before, after, _assigned(block.group(1) if block else ""), parameters, menu, [["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]]
    )


def _grubby(root: Path, name: str, parameters: list[str], run: Run) -> Change:
    kernels = [line.split("=", 1)[1].strip().strip('"').split() for line in run(["grubby", "--info=ALL"]).splitlines() if line.startswith("args=")]
    everywhere = [word for word in kernels[0] if all(word in words for words in kernels)] if kernels else []
    record, ours = _record(root, name)
    gone = [parameter for parameter in ours if parameter not in parameters]
    added = [parameter for parameter in parameters if parameter not in everywhere]
    commands = []
    if gone:
        commands.append(["grubby", "--update-kernel=ALL", f"--remove-args={' '.join(gone)}"])
    if added:
        commands.append(["grubby", "--update-kernel=ALL", f"--args={' '.join(added)}"])
    return _recorded(Change(ours, []), record, ours, gone, added, parameters, commands)


def _systemd_boot(root: Path, name: str, parameters: list[str], _run: Run) -> Change:
    path = root / "etc/kernel/cmdline"
    # kernel-install takes the running kernel's command line where there is no such file.
    text = _text(path) or " ".join(word for word in _text(root / "proc/cmdline").split() if not word.startswith(_LOADERS_OWN))
    words = text.split()
    record, ours = _record(root, name)
    gone = [parameter for parameter in ours if parameter not in parameters]
    added = [parameter for parameter in parameters if parameter not in words]
    change = _recorded(Change(ours, []), record, ours, gone, added, parameters, [])
    if gone or added:
        change.files[path] = " ".join([word for word in words if word not in gone] + added) + "\n"
        change.commands = _new_entries(root)
    return change


def _new_entries(root: Path) -> list[list[str]]:
    if _has(root, "sdbootutil"):
        return [["sdbootutil", "update-all-entries"]]
    commands = []
    for modules in sorted(root.glob("lib/modules/*")):
        images = [modules / "vmlinuz", root / f"boot/vmlinuz-{modules.name}"]
        image = next((image for image in images if image.exists()), None)
        if image:
            commands.append(["kernel-install", "add", modules.name, f"/{image.relative_to(root)}"])
    return commands


def _generated(path: Path, before: str, after: str, ours: list[str], parameters: list[str], menu: Path, commands: list[list[str]]) -> Change:
    change = Change(ours, parameters)
    if before != after:
        change.files[path] = after or None
    passed = _text(menu).split()
    # An earlier run may have ended between the two.
    if change.files or any(parameter not in passed for parameter in parameters):
        change.commands = commands
    return change


def _recorded(
    change: Change, record: Path, ours: list[str], gone: list[str], added: list[str], parameters: list[str], commands: list[list[str]]
) -> Change:
    """Keep which parameters are ours: those that somebody else passes anyway stay when ours go."""
    change.after = [parameter for parameter in parameters if parameter in ours or parameter in added]
    change.commands = commands
    if change.after != ours:
        change.files[record] = "".join(f"{parameter}\n" for parameter in change.after) or None
    return change


def _record(root: Path, name: str) -> tuple[Path, list[str]]:
    path = root / f"etc/{name}.parameters"
    return path, _text(path).split()


def _appended(parameters: Iterable[str]) -> str:
    return f'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {" ".join(parameters)}"\n'


def _assigned(text: str) -> list[str]:
    """Return the parameters that _appended() wrote."""
    match = re.search(r'^GRUB_CMDLINE_LINUX_DEFAULT="\$GRUB_CMDLINE_LINUX_DEFAULT (.*)"$', text, re.MULTILINE)
    return match.group(1).split() if match else []


def _booted_by_systemd_boot(root: Path) -> bool:
    try:
        # Four bytes of attributes come first.
        return root.joinpath(_LOADER_VARIABLE).read_bytes()[4:].decode("utf-16-le", "replace").startswith("systemd-boot")
    except OSError:
        return False


def _has(root: Path, program: str) -> bool:
    return any(root.joinpath(directory, program).exists() for directory in ("usr/sbin", "usr/bin", "sbin", "bin"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None


_LOADERS = {GRUB_DEBIAN: _grub_debian, GRUBBY: _grubby, GRUB2: _grub2, SYSTEMD_BOOT: _systemd_boot}
