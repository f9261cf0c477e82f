# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the documents of hosts."""

from __future__ import annotations

from ..core import states
from ..transport import xml
from ..transport.values import words

# What OpenNebula writes into a host's template when it monitors it, with KVM and LXC.
MONITORED_ATTRIBUTES = frozenset({
    "ARCH", "CGROUPS_VERSION", "CPUSPEED", "ERROR", "FREECPU", "FREEMEMORY", "HOSTNAME", "HYPERVISOR",
    "KVM_CPU_FEATURES", "KVM_CPU_MODEL", "KVM_CPU_MODELS", "KVM_MACHINES", "LXC_PROFILES", "MEMORY_ENCRYPTION",
    "MODELNAME", "NETRX", "NETTX", "TOTALCPU", "TOTALMEMORY", "TOTAL_WILDS", "TOTAL_ZOMBIES", "USEDCPU", "USEDMEMORY",
    "VERSION", "VM", "VM_POLL", "WILDS", "ZOMBIES",
})
# Reservations that the server makes empty with every host and cluster; a host's come from its cluster then.
RESERVATIONS = ("RESERVED_CPU", "RESERVED_MEM")
_DISABLED = ("DISABLED", "MONITORING_DISABLED")
_FAILED = ("ERROR", "MONITORING_ERROR")
_MONITORED = ("MONITORED", "MONITORING_MONITORED")
_NEW = ("INIT", "MONITORING_INIT")


def state(host: dict) -> str:
    """Return the name of the host's state."""
    return states.name(states.HOST, host["STATE"])


def status(host: dict) -> str:
    """Return what the administrator set: enabled, disabled or offline."""
    if state(host) == "OFFLINE":
        return "offline"
    return "disabled" if state(host) in _DISABLED else "enabled"


def is_new(host: dict) -> bool:
    """Tell whether the host waits to be monitored for the first time."""
    return state(host) in _NEW


def is_monitored(host: dict) -> bool:
    """Tell whether the host is enabled and was seen."""
    return state(host) in _MONITORED


def has_failed(host: dict) -> bool:
    """Tell whether monitoring the host fails."""
    return state(host) in _FAILED


def reason(host: dict) -> str:
    """Return the server's words about what is wrong with the host, empty if nothing is."""
    if not has_failed(host):
        return ""
    return words(xml.section(host, "TEMPLATE").get("ERROR"), "the server gives no reason")
