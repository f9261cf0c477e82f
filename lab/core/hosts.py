# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Hosts: capacity, usage, monitoring."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from lab.core import devices
from lab.core.call import Call
from lab.core.errors import ACTION, INTERNAL, OneError, failure
from lab.core.markup import Data, attributes, element, ids
from lab.core.method import Method
from lab.core.pools import generic_methods
from lab.core.states import HostState

if TYPE_CHECKING:
    from lab.core.api import Core

_ENABLED = (HostState.INIT, HostState.MONITORED)
_SEEN = (*_ENABLED, HostState.ERROR)
_DISK = {"DISK_USAGE": "0", "FREE_DISK": "0", "MAX_DISK": "0", "USED_DISK": "0"}
_KB = 1024
_LONGEST_NAME, _MARKS = 63, "-._"
#: codes of one.host.status
_ENABLE, _DISABLE, _OFFLINE = 0, 1, 2
#: what a host loses when it goes offline
_CAPACITY = ("TOTALCPU", "TOTALMEMORY")


def new_host(core: Core, name: str, im_mad: str, vm_mad: str, cluster_id: int) -> int:
    """Add a host, which is monitored from the next tick on, and return its id."""
    template = {"IM_MAD": im_mad, "VM_MAD": vm_mad, "RESERVED_CPU": "", "RESERVED_MEM": ""}
    host = {
        "id": core.store.new_id("host"), "name": name, "state": HostState.INIT, "clusters": [cluster_id],
        "cpu": 0, "memory": 0, "template": template,
    }
    core.store.save("host", host)
    return host["id"]


def machines_on(core: Core, host_id: int) -> list[dict]:
    """Return the VMs that take capacity of a host."""
    return [vm for vm in core.store.all("vm") if vm["host"] == host_id]


def usage(core: Core, host_id: int) -> tuple[int, int]:
    """Return what VMs take of a host: percent of CPU cores and KB of memory."""
    templates = [vm["template"] for vm in machines_on(core, host_id)]
    cpu = sum(round(float(template["CPU"]) * 100) for template in templates)
    return cpu, sum(int(template["MEMORY"]) * _KB for template in templates)


def lacking(core: Core, host: dict, template: dict, old: dict | None = None) -> str:
    """Return what a host has too little of for a VM, in oned's words; empty if there is room. old: what the VM has of it already."""
    cpu, memory = usage(core, host["id"])
    for part, sign in ((template, 1), (old, -1)):
        if part is not None:
            cpu += sign * round(float(part["CPU"]) * 100)
            memory += sign * int(part["MEMORY"]) * _KB
    wanted = round(float(template["CPU"]) * 100), int(template["MEMORY"]) * _KB
    for what, used, needed, most in (("CPU", cpu, wanted[0], host["cpu"]), ("memory", memory, wanted[1], host["memory"])):
        if used > most:
            return f"Not enough {what}: {needed}/{most - used + needed}"
    return ""


def is_enabled(host: dict) -> bool:
    return host["state"] in _ENABLED


def monitor(core: Core, seen: list[dict], error: str) -> None:
    """See the enabled hosts, new ones included, and keep a sample of each when it is due. Devices are seen of disabled hosts, too.

    seen: the attributes of the hosts' PCI devices. error: why the hosts cannot be seen, empty if they can.
    """
    for host in core.store.all("host"):
        if error and host["state"] in _SEEN:
            host["state"] = HostState.ERROR
            text = f"Error monitoring Host {host['name']} ({host['id']}): {error}"
            host["template"]["ERROR"] = failure(core, text)
            core.store.save("host", host)
        elif host["state"] in (HostState.INIT, HostState.ERROR) and not error:
            host["state"] = HostState.MONITORED
            host["cpu"] = round(core.config.host_cpu * 100)
            host["memory"] = core.config.host_memory * _KB
            host["devices"] = seen
            host["template"].pop("ERROR", None)
            host["template"] = _seen(core, host) | host["template"]
            core.store.save("host", host)
        if host["state"] in (HostState.MONITORED, HostState.DISABLED) and not error and host.get("devices", seen) != seen:
            host["devices"] = seen
            core.store.save("host", host)
        if host["state"] == HostState.MONITORED:
            cpu, memory = usage(core, host["id"])
            core.lifecycle.samples.add("host", host["id"], _sample(core, host, cpu, memory))


def _seen(core: Core, host: dict) -> dict:
    return {
        "ARCH": platform.machine(), "CPUSPEED": "0", "HOSTNAME": host["name"], "HYPERVISOR": core.driver.name,
        "MODELNAME": platform.processor() or platform.machine(), "TOTALCPU": str(host["cpu"]),
        "TOTALMEMORY": str(host["memory"]),
    }


def _sample(core: Core, host: dict, used_cpu: int, used_memory: int) -> dict:
    capacity = {
        "FREE_CPU": str(max(0, host["cpu"] - used_cpu)), "FREE_MEMORY": str(max(0, host["memory"] - used_memory)),
        "USED_CPU": str(used_cpu), "USED_MEMORY": str(used_memory),
    }
    return {
        "TIMESTAMP": core.now(), "ID": host["id"], "CAPACITY": attributes(capacity),
        "SYSTEM": attributes({"NETRX": "0", "NETTX": "0"}),
    }


def body(core: Core, host: dict) -> dict:
    """Return the children of a host's document."""
    machines = machines_on(core, host["id"])
    cpu, memory = usage(core, host["id"])
    return {
        "ID": host["id"], "NAME": host["name"], "STATE": int(host["state"]), "PREV_STATE": int(host["state"]),
        "IM_MAD": Data(host["template"]["IM_MAD"]), "VM_MAD": Data(host["template"]["VM_MAD"]),
        "CLUSTER_ID": host["clusters"][0], "CLUSTER": core.store.get("cluster", host["clusters"][0])["name"],
        "HOST_SHARE": {
            "MEM_USAGE": memory, "CPU_USAGE": cpu, "TOTAL_MEM": host["memory"], "TOTAL_CPU": host["cpu"],
            "MAX_MEM": host["memory"], "MAX_CPU": host["cpu"], "RUNNING_VMS": len(machines), "VMS_THREAD": 1,
            "DATASTORES": attributes(_DISK), "PCI_DEVICES": {"PCI": _devices(host, machines)}, "NUMA_NODES": {},
        },
        "VMS": ids([vm["id"] for vm in machines]), "TEMPLATE": attributes(host["template"]),
        "MONITORING": core.lifecycle.samples.last("host", host["id"]),
    }


def _devices(host: dict, machines: list[dict]) -> list[dict]:
    """Return the host's PCI devices, each with the VM that has it."""
    taken = devices.owners(machines)
    return [attributes(device | {"VMID": str(taken.get(device["ADDRESS"], -1))}) for device in host.get("devices", ())]


def _update(_call: Call, host: dict, template: dict) -> dict:
    """Keep the drivers whatever the new template says."""
    return {name: host["template"][name] for name in ("IM_MAD", "VM_MAD")} | template


def _delete(call: Call, host: dict) -> bool:
    if machines_on(call.core, host["id"]):
        raise OneError(ACTION, "Cannot delete host. Can not remove a host with running VMs")
    return True


def _pool_body(core: Core, host: dict) -> dict:
    return body(core, host) | {"MONITORING": None}


def _allocate(call: Call, name: str, im_mad: str, vm_mad: str, cluster_id: int) -> int:
    cluster = call.find("cluster", max(cluster_id, 0))
    call.authorize(("CREATE", "host", None), ("ADMIN", "cluster", cluster))
    with call.making("host"):
        problem = _name_problem(name) if call.core.config.release.strict_names else ""
        if problem:
            raise OneError(INTERNAL, problem)
        call.check_name("host", name, INTERNAL, unique=False)
        for driver, what in ((im_mad, "IM_MAD_NAME"), (vm_mad, "VMM_MAD_NAME")):
            if not driver:
                raise OneError(INTERNAL, f"{what} cannot be empty.")
        call.check_name("host", name, INTERNAL)
    return new_host(call.core, name, im_mad, vm_mad, cluster["id"])


def _name_problem(name: str) -> str:
    """Return why a name is none of a computer, empty if it is one."""
    if not 1 < len(name) <= _LONGEST_NAME:
        return "Invalid HOSTNAME, HOSTNAME length should be greater than 1, but smaller than 64 characters"
    if name[0] in _MARKS:
        return f"Invalid HOSTNAME, first character can't be '{name[0]}'"
    wrong = next((letter for letter in name if not (letter.isascii() and letter.isalnum()) and letter not in _MARKS), "")
    if wrong:
        return f"Invalid HOSTNAME, '{wrong}' is invalid character for a HOSTNAME"
    return f"Invalid HOSTNAME, last character can't be '{name[-1]}'" if name[-1] in _MARKS else ""


def _status(call: Call, host_id: int, status: int) -> int:
    """Enable (0), disable (1) or take offline (2)."""
    host = call.get("host", host_id, "ADMIN")
    if status == _ENABLE:
        known = host["state"] == HostState.DISABLED and host["cpu"]
        host["state"] = HostState.MONITORED if known else HostState.INIT
    elif status == _DISABLE:
        host["state"] = HostState.DISABLED
    elif status == _OFFLINE:
        host |= {"state": HostState.OFFLINE, "cpu": 0, "memory": 0}
        host["template"] = {name: value for name, value in host["template"].items() if name not in _CAPACITY}
    else:
        raise OneError(INTERNAL, "Wrong status code")
    call.core.store.save("host", host)
    return host_id


def _monitoring(call: Call, host_id: int) -> str:
    call.get("host", host_id)
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.all("host", host_id)})


def _pool_monitoring(call: Call, seconds: int = -1) -> str:
    """Samples of all hosts: all kept (-1), the newest of each (0), or those of the last seconds."""
    hosts = [host["id"] for host in call.core.store.all("host") if call.is_admin]
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.recent("host", hosts, seconds)})


METHODS = generic_methods("host", body, pool_body=_pool_body, updater=_update, deleter=_delete) | {
    "one.host.allocate": Method(_allocate, "s s s i"),
    "one.host.status": Method(_status, "i i"),
    "one.host.monitoring": Method(_monitoring, "i"),
    "one.hostpool.monitoring": Method(_pool_monitoring, "i?"),
}
