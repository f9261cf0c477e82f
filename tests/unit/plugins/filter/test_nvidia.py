# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters for NVIDIA GPUs."""

from __future__ import annotations

from ansible_collections.opennebula.flower.plugins.filter.nvidia import check_table, mig_command, missing_packages

CHECKS = [
    {"name": "gpu", "state": "ok", "finding": "NVIDIA GPU at 0000:06:00.0", "fix": ""},
    {"name": "device_nodes", "state": "error", "finding": "/dev/nvidia-uvm missing", "fix": "nvidia-modprobe --create-nvidia-device-file=0 --unified-memory"},
]


def test_a_table_has_a_line_for_each_finding_and_one_for_what_to_do() -> None:
    assert check_table(CHECKS) == [
        "OK     gpu           NVIDIA GPU at 0000:06:00.0",
        "ERROR  device_nodes  /dev/nvidia-uvm missing",
        "                     -> nvidia-modprobe --create-nvidia-device-file=0 --unified-memory",
    ]


def test_a_narrow_table_wraps_within_its_columns() -> None:
    lines = check_table(CHECKS, 60)
    assert lines[2:] == ["                     -> nvidia-modprobe --create-nvidia-", "                        device-file=0 --unified-memory"]
    assert max(len(line) for line in lines) <= 60


def test_no_checks_are_an_empty_table() -> None:
    assert check_table([]) == []


def test_the_largest_instance_is_made_first() -> None:
    assert mig_command(["1g.10gb", "3g.40gb"], 1) == ["nvidia-smi", "mig", "-i", "1", "-cgi", "3g.40gb,1g.10gb", "-C"]


LINES = ["installed nvidia-container-toolkit=1.17.0-1", "not-installed libnvidia-container1=", "config-files libnvidia-container-tools=1.16.0-1"]


def test_packages_are_missing_that_are_not_installed_or_have_another_version() -> None:
    names = ["nvidia-container-toolkit", "libnvidia-container1"]
    assert missing_packages(LINES, names) == ["libnvidia-container1"]
    assert missing_packages(LINES, names, "1.17.0-1") == ["libnvidia-container1=1.17.0-1"]
    assert missing_packages(LINES, names, "1.18.0-1") == ["nvidia-container-toolkit=1.18.0-1", "libnvidia-container1=1.18.0-1"]
