# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Making a virtual machine from a template's attributes, and what it holds while it lives."""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING

from lab.core import devices, images, networks, quotas
from lab.core.call import Call, as_list
from lab.core.context import render_context
from lab.core.errors import ALLOCATE, OneError
from lab.core.states import LcmState, VmState
from lab.core.system import TRANSFER_DRIVERS
from lab.driver import NicSpec, VmSpec
from lab.releases import Release

if TYPE_CHECKING:
    from lab.core.api import Core

_FAILED = "Error allocating a new virtual machine template. "
#: attributes that describe the machine; all others are its user's and go to USER_TEMPLATE
_MACHINE = frozenset((
    "CONTEXT", "CPU", "CPU_MODEL", "DISK", "EMULATOR", "FEATURES", "GRAPHICS", "INPUT", "MEMORY", "MEMORY_MAX",
    "NIC", "NIC_ALIAS", "NIC_DEFAULT", "NUMA_NODE", "OS", "PCI", "RAW", "SCHED_ACTION", "SUBMIT_ON_HOLD", "TEMPLATE_ID",
    "TOPOLOGY", "VCPU", "VCPU_MAX", "VIDEO", "VMGROUP",
))
_INHERITED_BY_NICS = ("BRIDGE", "BRIDGE_TYPE", "DNS", "GATEWAY", "SECURITY_GROUPS", "VN_MAD")


def allocate(call: Call, template: dict, name: str, hold: bool, fallback_name: str) -> int:
    """Make a VM of a template's attributes and return its id; the scheduler takes it from there.

    Raises OneError; nothing is kept then but the id, which is not used again.
    """
    core = call.core
    call.authorize(("CREATE", "vm", None))
    _check_capacity(template)
    disks = [_find_image(call, number, disk) for number, disk in enumerate(as_list(template.get("DISK")))]
    nics = [_find_network(call, nic) for nic in as_list(template.get("NIC"))]
    quotas.check_vm(
        call, float(template["CPU"]), int(template["MEMORY"]),
        [_disk(core, number, *found) for number, found in enumerate(disks)],
        [{"NETWORK_ID": str(network["id"])} for _attribute, network in nics if network],
    )

    vm = call.new("vm", name, state=VmState.PENDING, lcm=LcmState.LCM_INIT, host=None, stime=core.now(), etime=0,
                  deploy_id="", history=[], token=secrets.token_hex(32))
    vm["name"] = vm["name"] or f"{fallback_name}-{vm['id']}"
    call.check_name("vm", vm["name"], ALLOCATE, _FAILED)
    vm["user_template"] = {key: value for key, value in template.items() if key not in _MACHINE | {"NAME"}}
    vm["template"] = _machine(core.config.release, template, vm, hold)
    try:
        vm["template"]["NIC"] = [_nic(core, vm, number, *found) for number, found in enumerate(nics)]
        vm["template"]["SECURITY_GROUP_RULE"] = networks.rules(core, vm["template"]["NIC"])
        vm["template"]["DISK"] = [_disk(core, number, *found) for number, found in enumerate(disks)]
        if "CONTEXT" in template:
            vm["template"]["CONTEXT"] = render_context(core, vm, template["CONTEXT"])
    except OneError:
        _release_leases(core, vm["id"], nics)
        raise
    if hold:
        vm["state"] = VmState.HOLD
    for _disk_attribute, image in disks:
        if image:
            images.acquire(core, image, vm["id"])
    core.store.save("vm", vm)
    return vm["id"]


def new_nic(call: Call, vm: dict, attribute: dict) -> dict:
    """Return one more NIC for a VM, with its lease. Raises OneError."""
    number = 1 + max((int(nic["NIC_ID"]) for nic in vm["template"]["NIC"]), default=-1)
    return _nic(call.core, vm, number, *_find_network(call, attribute))


def new_disk(call: Call, vm: dict, attribute: dict) -> dict:
    """Return one more DISK for a VM, with its image in use. Raises OneError."""
    # The context has the number after the disks the VM began with.
    taken = [int(disk["DISK_ID"]) for disk in (*vm["template"]["DISK"], vm["template"].get("CONTEXT", {})) if disk]
    number = 1 + max(taken, default=-1)
    _attribute, image = _find_image(call, number, attribute)
    if image:
        images.acquire(call.core, image, vm["id"])
    return _disk(call.core, number, attribute, image)


def release_resources(core: Core, vm: dict) -> None:
    """Give back what a VM held: leases, images, capacity."""
    _release_leases(core, vm["id"], [(nic, {"id": int(nic["NETWORK_ID"])}) for nic in vm["template"]["NIC"]
                                     if "NETWORK_ID" in nic])
    for disk in vm["template"]["DISK"]:
        if "IMAGE_ID" in disk:
            images.release(core, int(disk["IMAGE_ID"]), vm["id"])
    vm["host"] = None


def spec(core: Core, vm: dict) -> VmSpec:
    """Return a VM as drivers see it."""
    def network_id(nic: dict) -> int:
        # A reservation has no network of its own at the driver.
        network = core.store.get("vn", int(nic["NETWORK_ID"]))
        return int(nic["NETWORK_ID"]) if network is None or network.get("parent") is None else network["parent"]

    template = vm["template"]
    return VmSpec(
        id=vm["id"], name=vm["name"], cpu=float(template["CPU"]), memory_mb=int(template["MEMORY"]),
        image=template["DISK"][0].get("SOURCE", "") if template["DISK"] else "",
        nics=[NicSpec(network_id(nic), nic.get("IP", ""), nic["MAC"])
              for nic in template["NIC"] if "NETWORK_ID" in nic],
        context={name: value for name, value in template.get("CONTEXT", {}).items() if value != ""},
        token=vm["token"],
    )


def _check_capacity(template: dict) -> None:
    def number(name: str, convert: type, words: str) -> None:
        try:
            valid = convert(template.get(name, "")) > 0
        except ValueError:
            valid = False
        if not valid:
            raise OneError(ALLOCATE, f"{_FAILED}{name} attribute must be a positive {words} value.")

    number("MEMORY", int, "integer")
    number("CPU", float, "float or integer")
    if "VCPU" in template:
        number("VCPU", int, "integer")
    for request in as_list(template.get("PCI")):
        if wrong := devices.problem(request):
            raise OneError(ALLOCATE, f"{_FAILED}{wrong}")


def _find_image(call: Call, number: int, disk: dict) -> tuple[dict, dict | None]:
    """Return a DISK with its image, None for a volatile disk. Raises OneError."""
    where = f"{_FAILED}DISK {number}: "
    image = _find(call, "image", disk, "IMAGE", "an image", "DISK", where)
    if image:
        call.authorize(("USE", "image", image))
        try:
            images.check_usable(image)
        except OneError as error:
            raise OneError(ALLOCATE, f"{where}{error}") from error
    return disk, image


def _find_network(call: Call, nic: dict) -> tuple[dict, dict | None]:
    """Return a NIC with its network, None when it names none. Raises OneError."""
    network = _find(call, "vn", nic, "NETWORK", "a network", "NIC", _FAILED)
    if network:
        call.authorize(("USE", "vn", network))
    return nic, network


def _find(call: Call, kind: str, attribute: dict, key: str, noun: str, vector: str, where: str) -> dict | None:
    store = call.core.store
    labels = {"image": "Image", "vn": "Virtual network"}
    if key in attribute:
        owner = call.user["id"]
        if f"{key}_UID" in attribute:
            owner = int(attribute[f"{key}_UID"])
        elif f"{key}_UNAME" in attribute:
            named = [user["id"] for user in store.all("user") if user["name"] == attribute[f"{key}_UNAME"]]
            if not named:
                raise OneError(ALLOCATE, f"{where}User set in {key}_UNAME does not exist")
            owner = named[0]
        for item in store.all(kind):
            if item["name"] == attribute[key] and item["uid"] == owner:
                return item
        raise OneError(ALLOCATE, f"{where}User {owner} does not own {noun} with name: {attribute[key]} . "
                                 f"Set {key}_UNAME or {key}_UID of owner in {vector}.")
    wanted = attribute.get(f"{key}_ID", "")
    if wanted == "":
        return None
    item = store.get(kind, int(wanted)) if wanted.isdigit() else None
    if item is None:
        raise OneError(ALLOCATE, f"{where}{labels[kind]} with ID: {wanted} does not exist")
    return item


def _machine(release: Release, template: dict, vm: dict, hold: bool) -> dict:
    machine = {
        "AUTOMATIC_DS_REQUIREMENTS": '("CLUSTERS/ID" @> 0)', "AUTOMATIC_NIC_REQUIREMENTS": '("CLUSTERS/ID" @> 0)',
        "AUTOMATIC_REQUIREMENTS": release.requirements, "CREATED_BY": str(vm["uid"]),
    }
    machine |= {key: value for key, value in template.items() if key in _MACHINE}
    machine["OS"] = {**dict(release.vm_os), "UUID": str(uuid.uuid4())} | template.get("OS", {})
    if "PCI" in machine:
        machine["PCI"] = [{**pci, "PCI_ID": str(number)} for number, pci in enumerate(as_list(machine["PCI"]))]
    return machine | {"VMID": str(vm["id"])} | ({"SUBMIT_ON_HOLD": "YES"} if hold else {})


def _nic(core: Core, vm: dict, number: int, nic: dict, network: dict | None) -> dict:
    """Return a NIC of a VM with its lease. Raises OneError when the network has no address left."""
    complete = {"NAME": f"NIC{number}"} | nic | {"NIC_ID": str(number), "TARGET": f"one-{vm['id']}-{number}"}
    if network is None:
        return {name: value for name, value in complete.items() if (name, value) != ("NETWORK_ID", "")}
    given = networks.lease(core, network, vm["id"], nic.get("IP", ""))
    if given is None:
        raise OneError(ALLOCATE, f"{_FAILED}Cannot get IP/MAC lease from virtual network {network['id']}.")
    inherited = {key: network["template"][key] for key in _INHERITED_BY_NICS if key in network["template"]}
    groups = networks.security_groups(nic, network["template"])
    return inherited | complete | given | ({"SECURITY_GROUPS": groups} if groups else {}) | {
        "CLUSTER_ID": "0", "NETWORK": network["name"], "NETWORK_ID": str(network["id"]),
    }


def _disk(core: Core, number: int, disk: dict, image: dict | None) -> dict:
    prefix = disk.get("DEV_PREFIX") or (image["template"].get("DEV_PREFIX", "hd") if image else "sd")
    common = {"TARGET": f"{prefix}{chr(ord('a') + number)}"} | disk | {"DISK_ID": str(number), "DEV_PREFIX": prefix}
    if image is None:
        return {"SIZE": "0"} | common
    datastore = core.store.get("datastore", image["datastore"])
    transfer = datastore["template"]
    persistent = image["persistent"]
    targets = TRANSFER_DRIVERS.get(transfer["TM_MAD"], {})
    return {"SIZE": str(image["size"])} | common | {
        "ALLOW_ORPHANS": transfer["ALLOW_ORPHANS"],
        "CLONE": "NO" if persistent else "YES", "CLONE_TARGET": targets.get("CLONE_TARGET", "NONE"), "CLUSTER_ID": "0",
        "DATASTORE": datastore["name"], "DATASTORE_ID": str(datastore["id"]), "DISK_SNAPSHOT_TOTAL_SIZE": "0",
        "DISK_TYPE": "FILE", "DRIVER": image["format"], "FORMAT": image["format"], "IMAGE": image["name"],
        "IMAGE_ID": str(image["id"]), "IMAGE_STATE": "8" if persistent else "2",
        "LN_TARGET": targets.get("LN_TARGET", "NONE"), "ORIGINAL_SIZE": str(image["size"]),
        "PERSISTENT_SNAPSHOTS": "YES", "READONLY": "NO", "SAVE": "YES" if persistent else "NO",
        "SOURCE": image["source"], "TM_MAD": transfer["TM_MAD"], "TYPE": "FILE",
    } | ({"PERSISTENT": "YES"} if persistent else {})


def _release_leases(core: Core, vm_id: int, nics: list[tuple[dict, dict | None]]) -> None:
    for _nic_attribute, network in nics:
        if network:
            networks.release(core, network["id"], vm_id)
