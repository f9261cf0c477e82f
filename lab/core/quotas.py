# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Quotas of users and groups: limits that are kept, and use that is counted when somebody asks."""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING

from lab.core.call import Call, as_list, parse_template, vectors_of
from lab.core.errors import ACTION, AUTHORIZATION, OneError
from lab.core.markup import attributes, element
from lab.core.states import LcmState, VmState

if TYPE_CHECKING:
    from lab.core.api import Core

#: what is limited, in the order oned checks it
_METRICS = {
    "NETWORK": ("LEASES",),
    "VM": (
        "VMS", "RUNNING_VMS", "CPU", "RUNNING_CPU", "MEMORY", "RUNNING_MEMORY", "PCI_DEV", "RUNNING_PCI_DEV", "PCI_NIC",
        "RUNNING_PCI_NIC", "SYSTEM_DISK_SIZE",
    ),
    "IMAGE": ("RVMS",),
    "DATASTORE": ("SIZE", "IMAGES"),
}
_SECTIONS = ("DATASTORE", "NETWORK", "VM", "IMAGE")
_DEFAULT, _UNLIMITED = -1, -2
_ADMIN = 0
#: states of machines that are changed while powered off
_NOT_RUNNING = (LcmState.HOTPLUG_NIC_POWEROFF, LcmState.HOTPLUG_PROLOG_POWEROFF, LcmState.HOTPLUG_EPILOG_POWEROFF)

#: section, object ("" for VMs), metric
Key = tuple[str, str, str]


def sections(core: Core, kind: str, owner: dict) -> dict:
    """Return the quotas of a user or group as its document shows them: all with a limit or any use."""
    used = _usage(core, kind, owner["id"])
    result: dict = {f"{section}_QUOTA": {} for section in _SECTIONS}
    for section in _SECTIONS:
        numbers = {name for name in owner["quotas"].get(section, {})} | {key[1] for key in used if key[0] == section}
        shown = [_shown(core, owner, used, section, number) for number in sorted(numbers)]
        if shown:
            result[f"{section}_QUOTA"] = {section: shown}
    return result


def defaults(core: Core, kind: str) -> dict:
    """Return the limits of users or groups that have none of their own, as documents show them."""
    limits = core.store.get("default_quota", kind) or {"quotas": {}}
    return {
        f"{section}_QUOTA": {section: [
            attributes(({"ID": number} if number else {}) | values)
            for number, values in sorted(limits["quotas"].get(section, {}).items())
        ]} if limits["quotas"].get(section) else {}
        for section in _SECTIONS
    }


def set_defaults(call: Call, kind: str, text: str) -> str:
    """Take over default limits from a template and return them as a document. Raises OneError."""
    if call.user["gid"] != _ADMIN:
        raise OneError(
            AUTHORIZATION, f"User [{call.user['id']}] : The default quotas can only be updated by users in the oneadmin group."
        )
    owner = call.core.store.get("default_quota", kind) or {"id": kind, "quotas": {}}
    if len(as_list(parse_template(text, ACTION).get("VM"))) > 1:
        raise OneError(ACTION, "Only one default VM quota can be defined")
    set_limits(call, owner, text)
    call.core.store.save("default_quota", owner)
    return element(f"DEFAULT_{kind.upper()}_QUOTAS", defaults(call.core, kind))


def set_limits(call: Call, owner: dict, text: str) -> None:
    """Take over limits from a template. Raises OneError; a metric that is not named goes back to the default."""
    template = parse_template(text, ACTION)
    limits = {section: dict(known) for section, known in owner["quotas"].items()}
    for section in _SECTIONS:
        for quota in vectors_of(template, section):
            if "CLUSTER_IDS" in quota:
                raise OneError(ACTION, "Quotas of clusters are not supported")
            number = quota.get("ID", "") if section != "VM" else ""
            new = {metric: _limit(section, quota, metric) for metric in _metrics(call.core, section)}
            if section != "VM" and not number.isdigit():
                raise _malformed(section, quota)
            limits.setdefault(section, {})[number] = new
            if all(limit == _text(_DEFAULT) for limit in new.values()):
                del limits[section][number]
    owner["quotas"] = limits


def check_vm(call: Call, cpu: float, memory: int, disks: list[dict], nics: list[dict]) -> None:
    """Refuse one more VM of the caller's above a limit. Raises OneError.

    disks: with CLONE_TARGET and SIZE as the VM would have them; nics: with NETWORK_ID.
    """
    own = {"VMS": 1, "CPU": cpu, "MEMORY": memory}
    _check(call, call.user["id"], call.user["gid"], _request(own, disks, nics, running=True))


def check_nic(call: Call, vm: dict, network_id: int) -> None:
    """Refuse one more lease of a VM. Raises OneError."""
    _check(call, vm["uid"], vm["gid"], Counter({("NETWORK", str(network_id), "LEASES"): 1}))


def check_leases(call: Call, user_id: int, group_id: int, network_id: int, number: int) -> None:
    """Refuse so many more leases of a network. Raises OneError."""
    _check(call, user_id, group_id, Counter({("NETWORK", str(network_id), "LEASES"): number}))


def check_disk(call: Call, vm: dict, disk: dict) -> None:
    """Refuse one more disk of a VM. Raises OneError."""
    _check(call, vm["uid"], vm["gid"], _request({}, [disk], [], running=False))


def check_resize(call: Call, vm: dict, more: dict[str, float]) -> None:
    """Refuse a VM so much more CPU and MEMORY. Raises OneError."""
    _check(call, vm["uid"], vm["gid"], _request(more, [], [], _runs(vm)))


def check_running(call: Call, vm: dict) -> None:
    """Refuse one more running VM. Raises OneError."""
    every = _vm_request(vm) if _runs(vm) else _vm_request({**vm, "state": VmState.PENDING})
    running = {key: amount for key, amount in every.items() if key[2].startswith("RUNNING_")}
    _check(call, vm["uid"], vm["gid"], Counter(running))


def check_image(call: Call, datastore_id: int, size_mb: int) -> None:
    """Refuse one more image of the caller's. Raises OneError."""
    _check(call, call.user["id"], call.user["gid"], _image_request(datastore_id, size_mb))


def check_new_owner(call: Call, kind: str, item: dict, user_id: int, group_id: int) -> None:
    """Refuse to give a VM or image to a user or group (-1: stays) that may not have it. Raises OneError."""
    if kind == "vm" and item["etime"] == 0:
        _check(call, user_id, group_id, _vm_request(item))
    elif kind == "image":
        _check(call, user_id, group_id, _image_request(item["datastore"], item["size"]))
    elif kind == "vn" and item.get("parent") is not None:
        _check(call, user_id, group_id, _reserved(item))


def _check(call: Call, user_id: int, group_id: int, request: Counter) -> None:
    for kind, owner_id in (("user", user_id), ("group", group_id)):
        owner = call.core.store.get(kind, owner_id)
        # oneadmin, user and group, are never limited.
        if owner_id == _ADMIN or owner is None:
            continue
        used = _usage(call.core, kind, owner_id)
        for section, metrics in _METRICS.items():
            for key in sorted(request, key=lambda key: (key[1], metrics.index(key[2]) if key[2] in metrics else 0)):
                if key[0] != section:
                    continue
                limit = float(owner["quotas"].get(section, {}).get(key[1], {}).get(key[2], _DEFAULT))
                if limit == _DEFAULT:
                    general = call.core.store.get("default_quota", kind) or {"quotas": {}}
                    limit = float(general["quotas"].get(section, {}).get(key[1], {}).get(key[2], _DEFAULT))
                if limit not in (_DEFAULT, _UNLIMITED) and used[key] + request[key] > limit:
                    where = f" with ID: {key[1]}" if key[1] else ""
                    raise OneError(
                        AUTHORIZATION,
                        f"User [{call.user['id']}] : {kind} [{owner_id}] limit of {limit:g} reached for {key[2]} "
                        f"quota in {section}{where}.",
                    )


def _usage(core: Core, kind: str, owner_id: int) -> Counter:
    if owner_id == _ADMIN:
        return Counter()
    field = {"user": "uid", "group": "gid"}[kind]
    used: Counter = Counter()
    for vm in core.store.all("vm"):
        if vm[field] == owner_id and vm["etime"] == 0:
            used.update(_vm_request(vm))
    for image in core.store.all("image"):
        if image[field] == owner_id:
            used.update(_image_request(image["datastore"], image["size"]))
    for network in core.store.all("vn"):
        if network[field] == owner_id and network.get("parent") is not None:
            used.update(_reserved(network))
    return used


def _reserved(network: dict) -> Counter:
    """What a reservation takes of the network it is of."""
    return Counter({("NETWORK", str(network["parent"]), "LEASES"): sum(int(row["SIZE"]) for row in network["ranges"])})


def _vm_request(vm: dict) -> Counter:
    template = vm["template"]
    own = {"VMS": 1, "CPU": float(template["CPU"]), "MEMORY": int(template["MEMORY"])}
    return _request(own, template["DISK"], template["NIC"], _runs(vm))


def _request(own: dict[str, float], disks: list[dict], nics: list[dict], running: bool) -> Counter:
    amounts = Counter()
    amounts.update({("VM", "", metric): amount for metric, amount in own.items()})
    if running:
        amounts.update({("VM", "", f"RUNNING_{metric}"): amount for metric, amount in own.items()})
    amounts[("VM", "", "SYSTEM_DISK_SIZE")] = sum(int(disk.get("SIZE") or 0) for disk in disks if _in_system(disk))
    amounts.update(("IMAGE", disk["IMAGE_ID"], "RVMS") for disk in disks if "IMAGE_ID" in disk)
    amounts.update(("NETWORK", nic["NETWORK_ID"], "LEASES") for nic in nics if "NETWORK_ID" in nic)
    return amounts


def _in_system(disk: dict) -> bool:
    """Whether a disk takes room in the system datastore: volatile ones do, copies and links of images may."""
    if "IMAGE_ID" not in disk:
        return True
    return disk.get("LN_TARGET" if disk.get("CLONE") == "NO" else "CLONE_TARGET") == "SYSTEM"


def _image_request(datastore_id: int, size_mb: int) -> Counter:
    return Counter({("DATASTORE", str(datastore_id), "SIZE"): size_mb, ("DATASTORE", str(datastore_id), "IMAGES"): 1})


def _runs(vm: dict) -> bool:
    """Whether a VM counts as running; one that waits for its host does."""
    active = vm["state"] == VmState.ACTIVE and vm["lcm"] not in _NOT_RUNNING
    return active or vm["state"] in (VmState.PENDING, VmState.HOLD)


def _shown(core: Core, owner: dict, used: Counter, section: str, number: str) -> dict:
    limits = owner["quotas"].get(section, {}).get(number, {})
    result = {"ID": number} if number else {}
    for metric in _metrics(core, section):
        result[metric] = limits.get(metric, _text(_DEFAULT))
        result[f"{metric}_USED"] = _text(used[(section, number, metric)])
    return attributes(result)


def _metrics(core: Core, section: str) -> list[str]:
    return [metric for metric in _METRICS[section] if metric not in core.config.release.without_quotas]


def _limit(section: str, quota: dict, metric: str) -> str:
    try:
        limit = float(quota.get(metric) or _DEFAULT)
    except ValueError:
        raise _malformed(section, quota) from None
    if limit < 0 and limit not in (_DEFAULT, _UNLIMITED):
        raise _malformed(section, quota)
    return _text(limit)


def _text(number: float) -> str:
    """Return a number as oned keeps it: in single precision, and with two digits after the point if any."""
    single = struct.unpack("f", struct.pack("f", number))[0]
    return f"{single:.0f}" if single == int(single) else f"{single:.2f}"


def _malformed(section: str, quota: dict) -> OneError:
    text = ",".join(f'{name}="{value}"' for name, value in quota.items())
    return OneError(ACTION, f"Negative limits or bad format in quota {section} = [ {text} ]")
