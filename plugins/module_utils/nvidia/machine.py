# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks of GPUs share: their results, and the machine they look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..vfio.pci import Device, devices

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"
NVIDIA = "10de"


@dataclass
class Check:
    """The result of one check. ``fix`` says what to do and is empty when there is nothing to do."""

    name: str
    state: str
    finding: str
    fix: str = ""


class Machine:
    """A machine: its files below a root, and its programs.

    ``run`` takes an argument list and returns status, standard output and standard error; status 127 is for a program that is not there.
    """

    def __init__(self, run: Callable[[Sequence[str]], tuple[int, str, str]], root: str = "/") -> None:
        self.run = run
        self._root = Path(root)

    def path(self, name: str) -> Path:
        """Return where a file of the machine is."""
        return self._root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        return self.path(name).exists()

    def text(self, name: str) -> str:
        """Return the content of a file, empty if there is none that can be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def files(self, directory: str, pattern: str) -> list[Path]:
        """Return the files of a directory that match, sorted."""
        return sorted(self.path(directory).glob(pattern))

    def gpus(self) -> list[Device]:
        """Return the NVIDIA GPUs on the PCI bus; the audio function of one is none."""
        return [device for device in self.pci_devices() if device.vendor == NVIDIA and device.is_display]

    def pci_devices(self) -> list[Device]:
        """Return all PCI devices."""
        return list(devices(self._root).values())
