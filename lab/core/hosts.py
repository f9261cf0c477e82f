# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Hosts: capacity, usage, monitoring."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from lab.core.call import Call
from lab.core.errors import ACTION, OneError
from lab.core.markup import Data, attributes, element, ids
from lab.core.pools import BODIES, DELETERS, POOL_BODIES
from lab.core.registry import method
from lab.core.states import HostState

if TYPE_CHECKING:
    from lab.core.api import Core

_STATUS = {0: HostState.INIT, 1: HostState.DISABLED, 2: HostState.OFFLINE}
_ENABLED = (HostState.INIT, HostState.MONITORED)
_DISK = {"DISK_USAGE": "0", "FREE_DISK": "0", "MAX_DISK": "0", "USED_DISK": "0"}
_KB = 1024


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


def is_enabled(host: dict) -> bool:
    return host["state"] in _ENABLED


def monitor(core: Core) -> None:
    """See the enabled hosts, new ones included, and keep a sample of each when it is due."""
    for host in core.store.all("host"):
        if host["state"] == HostState.INIT:
            host["state"] = HostState.MONITORED
            host["cpu"] = round(core.config.host_cpu * 100)
            host["memory"] = core.config.host_memory * _KB
            host["template"] = _seen(core, host) | host["template"]
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


def _body(core: Core, host: dict) -> dict:
    machines = machines_on(core, host["id"])
    cpu, memory = usage(core, host["id"])
    return {
        "ID": host["id"], "NAME": host["name"], "STATE": int(host["state"]), "PREV_STATE": int(host["state"]),
        "IM_MAD": Data(host["template"]["IM_MAD"]), "VM_MAD": Data(host["template"]["VM_MAD"]),
        "CLUSTER_ID": host["clusters"][0], "CLUSTER": core.store.get("cluster", host["clusters"][0])["name"],
        "HOST_SHARE": {
            "MEM_USAGE": memory, "CPU_USAGE": cpu, "TOTAL_MEM": host["memory"], "TOTAL_CPU": host["cpu"],
            "MAX_MEM": host["memory"], "MAX_CPU": host["cpu"], "RUNNING_VMS": len(machines), "VMS_THREAD": 1,
            "DATASTORES": attributes(_DISK), "PCI_DEVICES": {}, "NUMA_NODES": {},
        },
        "VMS": ids([vm["id"] for vm in machines]), "TEMPLATE": attributes(host["template"]),
        "MONITORING": core.lifecycle.samples.last("host", host["id"]),
    }


def _delete(call: Call, host: dict) -> bool:
    if machines_on(call.core, host["id"]):
        raise OneError(ACTION, "Cannot delete host. Can not remove a host with running VMs")
    return True


def _pool_body(core: Core, host: dict) -> dict:
    return _body(core, host) | {"MONITORING": None}


BODIES["host"] = _body
POOL_BODIES["host"] = _pool_body
DELETERS["host"] = _delete


@method("one.host.allocate", "s s s i?")
def _allocate(call: Call, name: str, im_mad: str, vm_mad: str, cluster_id: int = -1) -> int:
    cluster = call.find("cluster", max(cluster_id, 0))
    call.authorize(("CREATE", "host", None), ("ADMIN", "cluster", cluster))
    call.check_name("host", name, *call.core.config.release.taken_host)
    return new_host(call.core, name, im_mad, vm_mad, cluster["id"])


@method("one.host.status", "i i")
def _status(call: Call, host_id: int, status: int) -> int:
    """Enable (0), disable (1) or take offline (2)."""
    host = call.get("host", host_id, "ADMIN")
    if status not in _STATUS:
        raise OneError(ACTION, f"Wrong status code [{status}]")
    host["state"] = _STATUS[status]
    call.core.store.save("host", host)
    return host_id


@method("one.host.monitoring", "i")
def _monitoring(call: Call, host_id: int) -> str:
    call.get("host", host_id)
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.all("host", host_id)})


@method("one.hostpool.monitoring", "i?")
def _pool_monitoring(call: Call, seconds: int = -1) -> str:
    """Samples of all hosts: all kept (-1), the newest of each (0), or those of the last seconds."""
    hosts = [host["id"] for host in call.core.store.all("host") if call.is_admin]
    return element("MONITORING_DATA", {"MONITORING": call.core.lifecycle.samples.recent("host", hosts, seconds)})
