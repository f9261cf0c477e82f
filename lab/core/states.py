# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""State numbers of OpenNebula and their names."""

from __future__ import annotations

from enum import IntEnum


class VmState(IntEnum):
    INIT = 0
    PENDING = 1
    HOLD = 2
    ACTIVE = 3
    STOPPED = 4
    SUSPENDED = 5
    DONE = 6
    POWEROFF = 8
    UNDEPLOYED = 9
    CLONING = 10
    CLONING_FAILURE = 11


class LcmState(IntEnum):
    LCM_INIT = 0
    PROLOG = 1
    BOOT = 2
    RUNNING = 3
    SAVE_STOP = 5
    SAVE_SUSPEND = 6
    SAVE_MIGRATE = 7
    EPILOG_STOP = 10
    EPILOG = 11
    SHUTDOWN = 12
    CLEANUP_RESUBMIT = 15
    UNKNOWN = 16
    HOTPLUG = 17
    SHUTDOWN_POWEROFF = 18
    BOOT_POWEROFF = 20
    BOOT_SUSPENDED = 21
    BOOT_STOPPED = 22
    CLEANUP_DELETE = 23
    HOTPLUG_SNAPSHOT = 24
    HOTPLUG_NIC = 25
    HOTPLUG_SAVEAS = 26
    HOTPLUG_SAVEAS_POWEROFF = 27
    HOTPLUG_SAVEAS_SUSPENDED = 28
    SHUTDOWN_UNDEPLOY = 29
    EPILOG_UNDEPLOY = 30
    BOOT_UNDEPLOY = 32
    HOTPLUG_PROLOG_POWEROFF = 33
    HOTPLUG_EPILOG_POWEROFF = 34
    BOOT_MIGRATE = 35
    BOOT_FAILURE = 36
    EPILOG_FAILURE = 40
    DISK_SNAPSHOT_POWEROFF = 51
    DISK_SNAPSHOT_REVERT_POWEROFF = 52
    DISK_SNAPSHOT_DELETE_POWEROFF = 53
    DISK_SNAPSHOT_SUSPENDED = 54
    DISK_SNAPSHOT_DELETE_SUSPENDED = 56
    DISK_SNAPSHOT = 57
    DISK_SNAPSHOT_DELETE = 59
    DISK_RESIZE = 62
    DISK_RESIZE_POWEROFF = 63
    HOTPLUG_NIC_POWEROFF = 65
    HOTPLUG_RESIZE = 66
    BACKUP = 69
    BACKUP_POWEROFF = 70


class HostState(IntEnum):
    INIT = 0
    MONITORED = 2
    ERROR = 3
    DISABLED = 4
    OFFLINE = 8


class ImageState(IntEnum):
    READY = 1
    USED = 2
    DISABLED = 3
    LOCKED = 4
    ERROR = 5
    DELETE = 7
    USED_PERS = 8
    LOCKED_USED = 9
    LOCKED_USED_PERS = 10


class AppState(IntEnum):
    READY = 1
    LOCKED = 2
    ERROR = 3
    DISABLED = 4


class NetworkState(IntEnum):
    READY = 1
    LOCK_CREATE = 2
    LOCK_DELETE = 3
    ERROR = 5


#: numbers in HISTORY/ACTION
VM_ACTIONS = {
    "none": 0, "migrate": 1, "live-migrate": 2, "undeploy": 5, "undeploy-hard": 6, "stop": 9, "suspend": 10, "resume": 11,
    "delete": 13, "delete-recreate": 14, "poweroff": 19, "poweroff-hard": 20, "terminate": 27, "terminate-hard": 28,
    "attachpci": 58, "detachpci": 59,
}


def vm_state_name(vm: dict) -> str:
    """Return the state as OpenNebula's messages name it: that of the life cycle for an active machine."""
    return LcmState(vm["lcm"]).name if vm["state"] == VmState.ACTIVE else VmState(vm["state"]).name
