# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How a machine of QEMU is put together; ``python -m lab.qemu ensure`` installs what that takes, on Debian and Ubuntu."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import engine

# Program -> Debian packages that bring it.
TOOLS = {
    "qemu-system-x86_64": ("qemu-system-x86",), "qemu-img": ("qemu-utils",), "xorriso": ("xorriso",), "ip": ("iproute2",),
    "nsenter": ("util-linux",),
}
# Firmware of machines that do not boot with BIOS. Not a program, therefore apart from the others.
UEFI = Path("/usr/share/OVMF")
UEFI_PACKAGE = "ovmf"
BIOS_MACHINE, UEFI_MACHINE = "pc", "q35"
KVM = Path("/dev/kvm")
ACCELERATION = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    # What NumPy and the like are built for.
    "tcg": ("-accel", "tcg,thread=multi", "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"),
}


class QemuError(Exception):
    """A tool failed or is not there; the message is one sentence."""


def accelerator() -> str:
    """Return what runs machines here: kvm, or tcg, which emulates them, in the place of what LAB_ACCELERATOR names.

    A machine in a cloud may have a /dev/kvm that boots no kernel but its own; its processor does not say that it can virtualise.
    """
    asked = os.environ.get("LAB_ACCELERATOR", "")
    if asked:
        if asked not in ACCELERATION:
            raise QemuError(f"LAB_ACCELERATOR is {asked}, expected one of: {', '.join(ACCELERATION)}")
        return asked
    flags = set(re.findall(r"\b(?:vmx|svm)\b", Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")))
    return "kvm" if flags and os.access(KVM, os.R_OK | os.W_OK) else "tcg"


def missing() -> list[str]:
    """Return which programs are not there."""
    return [tool for tool in TOOLS if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")]


def ensure() -> None:
    """Install what is missing; raises lab.engine.EngineError."""
    packages = {tool: TOOLS[tool] for tool in missing()} | ({} if UEFI.exists() else {"firmware for UEFI": (UEFI_PACKAGE,)})
    if packages:
        engine.install(packages)


def machine(directory: Path, kind: str, uefi: bool, cores: int, memory_mb: int) -> list[str]:
    """Return the command line of a machine without disks and network cards; what it keeps of its firmware is in ``directory``.

    :raises QemuError: there is no firmware.
    """
    return [
        "qemu-system-x86_64", *ACCELERATION[accelerator()], "-M", kind or (UEFI_MACHINE if uefi else BIOS_MACHINE),
        "-smp", str(cores), "-m", str(memory_mb), "-display", "none", "-no-user-config", *(_firmware(directory) if uefi else ()),
        # What it says is kept over a restart.
        "-chardev", f"file,id=console,append=on,path={directory / 'console.log'}", "-serial", "chardev:console",
    ]


def context_cd(files: dict[str, str], cd: Path) -> None:
    """Make the CD that OpenNebula attaches to a VM, from the text of its files; raises QemuError."""
    with tempfile.TemporaryDirectory(dir=cd.parent) as scratch:
        tree = Path(scratch, "cd")
        tree.mkdir()
        for name, text in files.items():
            (tree / name).write_text(text, encoding="utf-8", newline="")
        made = Path(scratch, "cd.iso")
        run("xorriso", "-as", "mkisofs", "-quiet", "-o", str(made), "-V", "CONTEXT", "-J", "-R", str(tree))
        made.replace(cd)


def run(*command: str, **options: object) -> str:
    """Run a program and return what it printed; raises QemuError with its own reason."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise QemuError(f"{command[0]} failed: {lines[-1] if lines else 'no reason given'}")
    return done.stdout


def _firmware(directory: Path) -> list[str]:
    code, template = UEFI / "OVMF_CODE_4M.fd", UEFI / "OVMF_VARS_4M.fd"
    if not code.exists():
        raise QemuError(f"there is no firmware for UEFI in {UEFI}: install the package {UEFI_PACKAGE}")
    variables = directory / "variables.fd"
    if not variables.exists():
        shutil.copyfile(template, variables)
    return ["-drive", f"if=pflash,format=raw,readonly=on,file={code}", "-drive", f"if=pflash,format=raw,file={variables}"]


def main() -> int:
    """Command line of ``python -m lab.qemu``."""
    parser = argparse.ArgumentParser(prog="python -m lab.qemu", description="QEMU under the lab.")
    parser.add_argument("action", choices=("ensure",))
    parser.parse_args()
    try:
        ensure()
        print(f"qemu: VMs run with {accelerator()}" + ("" if accelerator() == "kvm" else ", which emulates them and is slow"), flush=True)
    except (engine.EngineError, QemuError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
