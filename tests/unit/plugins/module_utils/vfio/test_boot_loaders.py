# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters on machines with different boot loaders: what is written, what is run, and what is left alone."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.vfio import boot_loaders

WANTED = ["intel_iommu=on", "iommu=pt"]


def change(tree, loader: str, parameters: list[str], run=None) -> boot_loaders.Change:
    return boot_loaders.plan_change(tree.root, loader, "vfio-host", parameters, run)


def apply(made: boot_loaders.Change) -> None:
    for path, text in made.files.items():
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def in_a_shell(*files) -> str:
    """What GRUB's own tool takes from files of settings, in this order."""
    script = "".join(f". {file}; " for file in files) + 'echo "$GRUB_CMDLINE_LINUX_DEFAULT"'
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(("files", "loader"), [
    (("usr/sbin/update-grub", "boot/grub/grub.cfg"), "grub-debian"),
    (("usr/sbin/grub2-mkconfig", "boot/grub2/grub.cfg"), "grub2"),
    (("usr/sbin/grub2-mkconfig", "boot/grub2/grub.cfg", "usr/sbin/grubby"), "grubby"),
    (("boot/efi/loader/loader.conf",), "systemd-boot"),
    (("usr/sbin/update-grub",), ""),
])
def test_the_boot_loader_is_found(tree, files: tuple[str, ...], loader: str) -> None:
    for file in files:
        tree.file(file)
    assert boot_loaders.detect(tree.root) == loader


def test_what_the_machine_was_booted_by_counts_more_than_what_is_installed(tree) -> None:
    tree.file("usr/sbin/update-grub")
    tree.file("boot/grub/grub.cfg")
    variable = tree.file("sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
    variable.write_bytes(b"\x06\0\0\0" + "systemd-boot 252\0".encode("utf-16-le"))
    assert boot_loaders.detect(tree.root) == "systemd-boot"
    variable.write_bytes(b"\x06\0\0\0" + "GRUB 2.12\0".encode("utf-16-le"))
    assert boot_loaders.detect(tree.root) == "grub-debian"


def test_grub_of_debian_gets_a_file_that_adds_to_what_others_set(tree) -> None:
    settings = tree.file("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet intel_iommu=off"\n')
    made = change(tree, "grub-debian", WANTED)
    apply(made)
    added = tree.root / "etc/default/grub.d/90-vfio-host.cfg"
    assert in_a_shell(settings, added) == "quiet intel_iommu=off intel_iommu=on iommu=pt"
    assert (made.before, made.after, made.commands) == ([], WANTED, [["update-grub"]])
    tree.file("boot/grub/grub.cfg", "linux /vmlinuz ro quiet intel_iommu=off intel_iommu=on iommu=pt\n")
    assert change(tree, "grub-debian", WANTED) == boot_loaders.Change(WANTED, WANTED)
    gone = change(tree, "grub-debian", [])
    assert (gone.files, gone.before, gone.after, gone.commands) == ({added: None}, WANTED, [], [["update-grub"]])
    apply(gone)
    assert change(tree, "grub-debian", []) == boot_loaders.Change([], [])


def test_a_menu_that_an_earlier_run_did_not_come_to_write_is_written(tree) -> None:
    apply(change(tree, "grub-debian", WANTED))
    made = change(tree, "grub-debian", WANTED)
    assert (made.files, made.commands) == ({}, [["update-grub"]])


def test_grub_of_suse_gets_a_block_that_goes_without_a_trace(tree) -> None:
    original = 'GRUB_TIMEOUT=8\nGRUB_CMDLINE_LINUX_DEFAULT="splash=silent"\n'
    settings = tree.file("etc/default/grub", original)
    made = change(tree, "grub2", WANTED)
    apply(made)
    assert in_a_shell(settings) == "splash=silent intel_iommu=on iommu=pt"
    assert made.commands == [["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]]
    tree.file("boot/grub2/grub.cfg", "linux /vmlinuz splash=silent intel_iommu=on iommu=pt\n")
    assert change(tree, "grub2", WANTED) == boot_loaders.Change(WANTED, WANTED)
    apply(change(tree, "grub2", ["iommu=pt"]))
    assert in_a_shell(settings) == "splash=silent iommu=pt"
    apply(change(tree, "grub2", []))
    assert settings.read_text() == original


class Grubby:
    """grubby --info=ALL for kernels with these parameters."""

    def __init__(self, *kernels: str) -> None:
        self.kernels = kernels

    def __call__(self, argv: list[str]) -> str:
        assert argv == ["grubby", "--info=ALL"]
        return "".join(f'index={number}\nkernel="/boot/vmlinuz-{number}"\nargs="{text}"\n' for number, text in enumerate(self.kernels))


def test_grubby_is_asked_for_what_some_kernel_lacks(tree) -> None:
    made = change(tree, "grubby", WANTED, Grubby("ro iommu=pt intel_iommu=on", "ro iommu=pt"))
    assert made.commands == [["grubby", "--update-kernel=ALL", "--args=intel_iommu=on"]]
    apply(made)
    assert change(tree, "grubby", WANTED, Grubby("ro iommu=pt intel_iommu=on")) == boot_loaders.Change(["intel_iommu=on"], ["intel_iommu=on"])


def test_grubby_takes_back_what_was_added_and_not_what_was_there(tree) -> None:
    apply(change(tree, "grubby", WANTED, Grubby("ro iommu=pt")))
    gone = change(tree, "grubby", [], Grubby("ro iommu=pt intel_iommu=on"))
    assert gone.commands == [["grubby", "--update-kernel=ALL", "--remove-args=intel_iommu=on"]]
    apply(gone)
    assert change(tree, "grubby", [], Grubby("ro iommu=pt")) == boot_loaders.Change([], [])


def test_systemd_boot_keeps_the_command_line_in_a_file_and_makes_new_entries(tree) -> None:
    tree.file("usr/lib/modules/6.1.0/vmlinuz")
    tree.link("lib", "usr/lib")
    tree.file("etc/kernel/cmdline", "root=UUID=1 ro iommu=pt\n")
    made = change(tree, "systemd-boot", WANTED)
    apply(made)
    line = tree.root / "etc/kernel/cmdline"
    assert line.read_text() == "root=UUID=1 ro iommu=pt intel_iommu=on\n"
    assert made.commands == [["kernel-install", "add", "6.1.0", "/lib/modules/6.1.0/vmlinuz"]]
    assert change(tree, "systemd-boot", WANTED) == boot_loaders.Change(["intel_iommu=on"], ["intel_iommu=on"])
    apply(change(tree, "systemd-boot", []))
    assert line.read_text() == "root=UUID=1 ro iommu=pt\n"


def test_systemd_boot_starts_from_the_running_kernel_s_command_line(tree) -> None:
    tree.file("proc/cmdline", "initrd=\\initrd root=UUID=1 ro BOOT_IMAGE=/vmlinuz\n")
    apply(change(tree, "systemd-boot", ["iommu=pt"]))
    assert tree.root.joinpath("etc/kernel/cmdline").read_text() == "root=UUID=1 ro iommu=pt\n"


def test_opensuse_s_systemd_boot_has_a_tool_of_its_own(tree) -> None:
    tree.file("usr/bin/sdbootutil")
    assert change(tree, "systemd-boot", WANTED).commands == [["sdbootutil", "update-all-entries"]]


@pytest.mark.parametrize("parameter", ["quiet splash", 'a="b"', "$(reboot)", ""])
def test_what_could_be_more_than_a_parameter_is_refused(tree, parameter: str) -> None:
    with pytest.raises(ValueError, match="is not a kernel parameter, expected one such as intel_iommu=on"):
        change(tree, "grub-debian", [parameter])


def test_a_machine_without_a_known_boot_loader_is_refused(tree) -> None:
    with pytest.raises(ValueError, match="no boot loader was found"):
        change(tree, boot_loaders.detect(tree.root), WANTED)
