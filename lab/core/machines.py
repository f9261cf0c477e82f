# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Making a virtual machine from a template's attributes, and what it holds while it lives."""

from __future__ import annotations

import re
import secrets
import string
import uuid
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING

from lab.core import context, images, machine_rules, networks, quotas, schedules, vm_groups
from lab.core.call import Call, as_list, settle, text_of, vectors_of
from lab.core.datastores import TRANSFER_DRIVERS
from lab.core.errors import ALLOCATE, INTERNAL, OneError
from lab.core.states import LcmState, VmState
from lab.driver import DiskSpec, NicSpec, VmSpec

if TYPE_CHECKING:
    from lab.core.api import Core
    from lab.releases import Release

#: attributes that describe the machine; all others are its user's and go to USER_TEMPLATE
_MACHINE = frozenset((
    "CLONING_TEMPLATE_ID", "CONTEXT", "CPU", "CPU_COST", "CPU_MODEL", "DISK", "DISK_COST", "EMULATOR", "FEATURES",
    "GRAPHICS", "HYPERV_OPTIONS", "INPUT", "IOMMU", "MEMORY", "MEMORY_COST", "MEMORY_ENCRYPTION", "MEMORY_MAX",
    "MEMORY_RESIZE_MODE", "MEMORY_SLOTS", "NIC", "NIC_ALIAS", "NIC_DEFAULT", "NUMA_NODE", "OS", "PCI", "RAW",
    "SCHED_ACTION", "SPICE_OPTIONS", "SUBMIT_ON_HOLD", "TEMPLATE_ID", "TOPOLOGY", "TPM", "VCPU", "VCPU_MAX", "VIDEO",
    "VMGROUP", "VROUTER_ID", "VROUTER_KEEPALIVED_ID", "VROUTER_KEEPALIVED_PASSWORD",
))
#: attributes of networks that their NICs have too, unless they have their own
_INHERITED_BY_NICS = (
    "VLAN_TAGGED_ID", "FILTER", "FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING", "MTU", "METRIC", "IP6_METRIC", "METHOD",
    "IP6_METHOD", "INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB", "OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW",
    "OUTBOUND_PEAK_KB", "CONF", "BRIDGE_CONF", "OVS_BRIDGE_CONF", "IP_LINK_CONF", "EXTERNAL_IP", "GATEWAY", "DNS",
    "VXLAN_MODE", "VXLAN_TEP", "VXLAN_MC", "CVLANS", "QINQ_TYPE", "TRUST", "SPOOFCHK",
)
#: those that a NIC always has from its network
_GIVEN_TO_NICS = ("BRIDGE", "BRIDGE_TYPE", "VN_MAD", "PHYDEV", "VLAN_ID", "OUTER_VLAN_ID")
_DEFAULT_PREFIX = "sd"
_VOLATILE = ("SWAP", "FS")
#: what a VM can be asked of
TEMPLATE, VM, ROUTER = "virtual machine template", "virtual machine", "virtual router"
Demand = tuple[str, str, dict | None]


def allocate(
    call: Call, template: dict, name: str, hold: bool, fallback_name: str, demands: tuple[Demand, ...], asked: str = TEMPLATE
) -> int:
    """Make a VM of a template's attributes and return its id; the scheduler takes it from there.

    demands: the rights that are needed besides those to use its images and networks. asked: what kind of object the caller
    asked for it, which a refusal names. Raises OneError; nothing is kept then.
    """
    core = call.core
    settle(template, vectors=("DISK", "NIC", "NIC_ALIAS", "PCI"))
    failed = f"Error allocating a new {asked}. "
    _refused_as(ALLOCATE, failed, lambda: machine_rules.topology(template))
    # Who asks for a VM itself hears the mere reason.
    code, prefix = (INTERNAL, "") if asked == VM else (ALLOCATE, failed)
    call.authorize(*demands, *uses(call, template, by_name="TEMPLATE_ID" in template))
    disks, nics = as_list(template.get("DISK")), _all_nics(template)
    quotas.check_vm(
        call, machine_rules.real(template.get("CPU")) or 0, machine_rules.whole(template.get("MEMORY")) or 0,
        [_disk(core, vm_id=0, number=number, disk=disk, image=image_of(call, disk)) for number, disk in enumerate(disks)],
        [{"NETWORK_ID": str(network["id"])} for network in (_network_of(call, nic) for nic in nics) if network],
    )
    vm = call.new("vm", name, state=VmState.PENDING, lcm=LcmState.LCM_INIT, host=None, stime=core.now(), etime=0,
                  deploy_id="", history=[], token=secrets.token_hex(32))
    vm["name"] = vm["name"] or f"{fallback_name}-{vm['id']}"
    taken: list[dict] = []
    try:
        call.check_name("vm", vm["name"], code, prefix)
        _refused_as(code, prefix, lambda: _build(call, vm, template, hold, taken))
    except OneError:
        _release_leases(core, vm["id"], taken)
        for image in core.store.all("image"):
            images.release(core, image["id"], vm["id"])
        core.store.give_back_id("vm", vm["id"])
        raise
    if hold:
        vm["state"] = VmState.HOLD
    if any(disk.get("CLONING") == "YES" for disk in vm["template"]["DISK"]):
        vm["state"] = VmState.CLONING
    core.store.save("vm", vm)
    schedules.of_new_vm(call, vm, [action for action in as_list(template.get("SCHED_ACTION")) if isinstance(action, dict)])
    return vm["id"]


def _refused_as(code: int, prefix: str, build: Callable[[], None]) -> None:
    """Do something for a new VM. Raises OneError as oned says that there will be none."""
    try:
        build()
    except OneError as error:
        raise OneError(code, f"{prefix}{error.message}") from error


def _build(call: Call, vm: dict, template: dict, hold: bool, taken: list[dict]) -> None:
    """Fill a new VM, in the order in which oned looks at the parts. taken: gets the interfaces that have leases."""
    core = call.core
    machine_rules.capacity(template)
    system = template.get("OS")
    if system is None or isinstance(system, dict):
        template["OS"] = {**dict(core.config.release.vm_os), "UUID": str(uuid.uuid4())} | (system or {})
    machine_rules.configuration(template)
    for request in as_list(template.get("PCI")):
        machine_rules.pci(request)
    machine_rules.nic_default(template)
    vm["user_template"] = {key: value for key, value in template.items() if key not in _MACHINE | {"NAME", "BACKUP_CONFIG"}}
    machine = vm["template"] = _machine(core.config.release, template, vm, hold)
    machine["NIC"], machine["DISK"] = [], []
    _add_nics(call, vm, template, taken)
    machine["SECURITY_GROUP_RULE"] = networks.rules(core, machine["NIC"])
    for number, disk in enumerate(as_list(template.get("DISK"))):
        try:
            machine["DISK"].append(_acquire(call, vm["id"], number, disk, attach=False))
        except OneError as error:
            raise OneError(INTERNAL, f"DISK {number}: {error.message}") from error
    context_target = _assign_targets(core, machine)
    machine_rules.boot_order(machine)
    vm["backup"] = machine_rules.backup({}, template.get("BACKUP_CONFIG"), append=False)
    # Of several, the first counts.
    first = next(iter(as_list(template.get("CONTEXT"))), None)
    machine.pop("CONTEXT", None)
    if isinstance(first, dict):
        machine["CONTEXT"] = context.render_context(core, vm, first, context_target)
    vm_groups.join(call, vm, template)
    for name in ("SCHED_REQUIREMENTS", "REQUIREMENTS"):
        if isinstance(vm["user_template"].get(name), str):
            vm["user_template"]["SCHED_REQUIREMENTS"] = context.fill_in(core, vm, vm["user_template"].pop(name))
            vm["user_template"].pop("REQUIREMENTS", None)


def uses(call: Call, template: dict, by_name: bool = False) -> list[Demand]:
    """Return the rights a VM of a template needs for its images, networks and groups; what is missing needs none.

    by_name: whether images are looked for by their names, as oned does when it makes a VM of a template. One that is given
    by its id alone then counts only if the user, or who IMAGE_UNAME says, has one of its name.
    """
    found: list[Demand] = []
    for disk in as_list(template.get("DISK")):
        image = image_of(call, disk)
        if by_name and image:
            wanted = {name: value for name, value in disk.items() if name != "IMAGE_ID"} | {"IMAGE": image["name"]}
            image = image_of(call, wanted)
        found += [("USE", "image", image)] if image else []
    for nic in _all_nics(template):
        network = _network_of(call, nic)
        numbers = networks.security_groups(nic, network["template"] if network else {}).split(",")
        groups = [call.core.store.get("secgroup", int(number)) for number in numbers if number]
        found += [("USE", "vn", network)] if network else []
        found += [("USE", "secgroup", group) for group in groups if group]
    group = vm_groups.named(call.core, template, call.user["id"])
    return found + ([("USE", "vmgroup", group)] if group else [])


def _all_nics(template: dict) -> list[dict]:
    pcis = [request for request in as_list(template.get("PCI")) if isinstance(request, dict) and request.get("TYPE") == "NIC"]
    return [nic for nic in (*as_list(template.get("NIC")), *as_list(template.get("NIC_ALIAS")), *pcis) if isinstance(nic, dict)]


def _add_nics(call: Call, vm: dict, template: dict, taken: list[dict]) -> None:
    """Add the interfaces of a new VM, and then their aliases, with their leases."""
    machine, default = vm["template"], next(iter(vectors_of(template, "NIC_DEFAULT")), {})
    for nic in as_list(template.get("NIC")):
        named = nic | {"NAME": machine_rules.nic_name(nic.get("NAME", ""), f"NIC{len(machine['NIC'])}")}
        machine["NIC"].append(_nic(call, vm, len(machine["NIC"]), default | named))
        taken.append(machine["NIC"][-1])
    count = len(machine["NIC"])
    for position, request in enumerate(machine.get("PCI", ())):
        if request.get("TYPE") == "NIC":
            named = request | {"NAME": machine_rules.nic_name(request.get("NAME", ""), f"NIC{count}")}
            machine["PCI"][position] = _nic(call, vm, count, default | named)
            taken.append(machine["PCI"][position])
            count += 1
    aliases = as_list(template.get("NIC_ALIAS"))
    if aliases:
        machine["NIC_ALIAS"] = []
    for number, alias in enumerate(aliases, count):
        machine["NIC_ALIAS"].append(_alias(call, vm, number, alias, "NIC named {} not found for alias"))
        taken.append(machine["NIC_ALIAS"][-1])


def _alias(call: Call, vm: dict, number: int, alias: dict, missing: str) -> dict:
    """Return an alias of an interface with its lease, and note it in the interface."""
    parent = next((nic for nic in vm["template"]["NIC"] if nic.get("NAME") == alias.get("PARENT", "")), None)
    if parent is None:
        raise OneError(INTERNAL, missing.format(alias.get("PARENT", "")))
    there = [known for known in vm["template"].get("NIC_ALIAS", ()) if known["PARENT_ID"] == parent["NIC_ID"]]
    own = {"PARENT_ID": parent["NIC_ID"], "ALIAS_ID": str(1 + max((int(known["ALIAS_ID"]) for known in there), default=-1))}
    own["NAME"] = machine_rules.nic_name(alias.get("NAME", ""), f"NIC{parent['NIC_ID']}_ALIAS{number}")
    result = _nic(call, vm, number, alias | own)
    parent["ALIAS_IDS"] = ",".join(filter(None, (parent.get("ALIAS_IDS", ""), str(number))))
    return result


def new_nic(call: Call, vm: dict, attribute: dict, alias: bool = False) -> dict:
    """Return one more NIC or alias for a VM, with its lease. Raises OneError."""
    machine = vm["template"]
    number = 1 + max((int(nic["NIC_ID"]) for nic in interfaces(machine)), default=-1)
    if alias:
        return _alias(call, vm, number, attribute, "Alias not found.")
    named = attribute | {"NAME": machine_rules.nic_name(attribute.get("NAME", ""), f"NIC{number}")}
    return _nic(call, vm, number, next(iter(vectors_of(machine, "NIC_DEFAULT")), {}) | named)


def interfaces(machine: dict) -> list[dict]:
    """Return all that has an address in a VM's template: NICs, PCI devices that are ones, and aliases."""
    devices = [device for device in machine.get("PCI", ()) if "NIC_ID" in device]
    return [*machine["NIC"], *devices, *machine.get("NIC_ALIAS", ())]


def new_disk(call: Call, vm: dict, attribute: dict) -> dict:
    """Return one more DISK for a VM, with its image in use. Raises OneError."""
    # The context has the number after the disks the VM began with.
    taken = [int(disk["DISK_ID"]) for disk in (*vm["template"]["DISK"], vm["template"].get("CONTEXT", {})) if disk]
    number = 1 + max(taken, default=-1)
    disk = _acquire(call, vm["id"], number, attribute, attach=True)
    if not disk.get("TARGET"):
        used = {other.get("TARGET") for other in (*vm["template"]["DISK"], vm["template"].get("CONTEXT", {}))}
        disk["TARGET"] = _free_target(disk["DEV_PREFIX"], used)
    elif any(other.get("TARGET") == disk["TARGET"] for other in vm["template"]["DISK"]):
        images.release(call.core, int(disk.get("IMAGE_ID", -1)), vm["id"])
        raise OneError(INTERNAL, f"Target {disk['TARGET']} is already in use.")
    return disk


def release_resources(core: Core, vm: dict) -> None:
    """Give back what a VM held: leases, images, capacity."""
    _release_leases(core, vm["id"], interfaces(vm["template"]))
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
    system = template.get("OS", {})
    return VmSpec(
        id=vm["id"], name=vm["name"], cpu=float(template["CPU"]), memory_mb=int(template["MEMORY"]),
        disks=[DiskSpec(int(disk["DISK_ID"]), disk.get("SOURCE", ""), int(disk.get("SIZE") or 0), disk.get("TARGET", "")[:2] or _DEFAULT_PREFIX,
                        disk.get("PERSISTENT") == "YES") for disk in template["DISK"]],
        nics=[NicSpec(network_id(nic), nic.get("IP", ""), nic["MAC"])
              for nic in template["NIC"] if "NETWORK_ID" in nic],
        context={name: value for name, value in template.get("CONTEXT", {}).items() if value != ""},
        token=vm["token"], vcpu=int(template.get("VCPU") or 1), machine=system.get("MACHINE", ""),
        uefi=system.get("FIRMWARE", "BIOS").upper() != "BIOS",
    )


def _named(call: Call, kind: str, attribute: dict, key: str) -> tuple[dict | None, str]:
    """Return the object that an attribute names, and what oned says if there is none; None and nothing if it names none."""
    store = call.core.store
    noun, label, vector = {"image": ("an image", "Image", "DISK"), "vn": ("a network", "Virtual network", "NIC")}[kind]
    wanted = attribute.get(f"{key}_ID", "")
    if kind == "vn" and wanted or kind == "image" and machine_rules.whole(wanted) is not None:
        match = re.match(r"\s*[+-]?\d+", wanted)
        item = store.get(kind, int(match.group())) if match else None
        return item, "" if item else f"{label} with ID: {wanted if kind == 'vn' else int(wanted)} does not exist"
    name = attribute.get(key, "")
    if not name:
        return None, ""
    owner, problem = _owner(call, attribute, key)
    if problem and kind == "vn":
        return None, problem
    for item in store.all(kind):
        if item["name"] == name and item["uid"] == owner:
            return item, ""
    shown = call.user["id"] if owner is None else owner
    return None, (f"User {shown} does not own {noun} with name: {name} . "
                  f"Set {key}_UNAME or {key}_UID of owner in {vector}.")


def _owner(call: Call, attribute: dict, key: str) -> tuple[int | None, str]:
    """Return whose object an attribute names, and what is wrong if nobody's."""
    if attribute.get(f"{key}_UID"):
        match = re.match(r"\s*[+-]?\d+", attribute[f"{key}_UID"])
        return (int(match.group()), "") if match else (None, f"Cannot get user in {key}_UID")
    name = attribute.get(f"{key}_UNAME")
    if not name:
        return call.user["id"], ""
    user = next((user for user in call.core.store.all("user") if user["name"] == name), None)
    return (user["id"], "") if user else (None, f"User set in {key}_UNAME does not exist")


def image_of(call: Call, disk: dict) -> dict | None:
    """Return the image a DISK of a template means, None if it means none that there is."""
    return _named(call, "image", disk, "IMAGE")[0] if isinstance(disk, dict) else None


def extended_disk(call: Call, number: int, disk: dict) -> dict:
    """Return a DISK of a template with what its image and datastore say about it."""
    image = image_of(call, disk)
    return _disk(call.core, 0, number, disk, image) if image else disk | {"DISK_ID": str(number)}


def named_network(call: Call, nic: dict) -> tuple[dict | None, str]:
    """Return the network that a NIC names, and what oned says if there is none; None and nothing if it names none."""
    return _named(call, "vn", nic, "NETWORK")


def _network_of(call: Call, nic: dict) -> dict | None:
    return named_network(call, nic)[0]


def _acquire(call: Call, vm_id: int, number: int, disk: dict, attach: bool) -> dict:
    """Return a disk of a VM with its image in use. Raises OneError."""
    core = call.core
    image, problem = _named(call, "image", disk, "IMAGE")
    if problem:
        raise OneError(INTERNAL, problem)
    size = machine_rules.whole(disk.get("SIZE"))
    if image is None:
        kind = disk.get("TYPE", "").upper()
        if kind not in _VOLATILE:
            raise OneError(INTERNAL, f"Unknown disk type {kind}")
        if size is None or size <= 0:
            raise OneError(INTERNAL, "SIZE attribute must be a positive integer value.")
        return _disk(core, vm_id, number, disk, None)
    images.check_usable(image, attach)
    if size is not None and size != image["size"] and image["persistent"]:
        raise OneError(INTERNAL, f"SIZE attribute is not supported for persistent image [{image['id']}].")
    if size is not None and size != image["size"] and image["type"] == images.CDROM:
        raise OneError(INTERNAL, f"SIZE attribute is not supported for CDROM image [{image['id']}].")
    if size is not None and size < image["size"]:
        raise OneError(
            INTERNAL, f"SIZE of {size}MB is less than the image [{image['id']}] size of {image['size']}MB."
        )
    images.acquire(core, image, vm_id)
    return _disk(core, vm_id, number, disk, image)


def _machine(release: Release, template: dict, vm: dict, hold: bool) -> dict:
    machine = {
        "AUTOMATIC_DS_REQUIREMENTS": '("CLUSTERS/ID" @> 0)', "AUTOMATIC_NIC_REQUIREMENTS": '("CLUSTERS/ID" @> 0)',
        "AUTOMATIC_REQUIREMENTS": release.requirements, "CREATED_BY": str(vm["uid"]),
    }
    machine |= {
        key: value for key, value in template.items() if key in _MACHINE and key not in ("NIC", "NIC_ALIAS", "DISK", "SCHED_ACTION")
    }
    if "PCI" in machine:
        machine["PCI"] = [{**pci, "PCI_ID": str(number)} for number, pci in enumerate(as_list(machine["PCI"]))]
    return machine | {"VMID": str(vm["id"])} | ({"SUBMIT_ON_HOLD": "YES"} if hold else {})


def _nic(call: Call, vm: dict, number: int, nic: dict) -> dict:
    """Return a NIC of a VM with its lease. Raises OneError when there is no such network or address."""
    core = call.core
    complete = {"TARGET": f"one-{vm['id']}-{number}"} | nic | {"NIC_ID": str(number)}
    if nic.get("NETWORK_MODE", "").upper() in ("AUTO", "DUMMY"):
        return complete
    network, problem = named_network(call, nic)
    if problem:
        raise OneError(INTERNAL, problem)
    if network is None:
        return {name: value for name, value in complete.items() if (name, value) != ("NETWORK_ID", "")}
    given = _lease(core, network, vm["id"], nic)
    row = next((row for row in network["ranges"] if row["AR_ID"] == given.get("AR_ID")), {})
    template = network["template"] | network.get("segments", {})
    inherited = {key: template[key] for key in _INHERITED_BY_NICS if template.get(key)}
    inherited |= {key: row[key] for key in _INHERITED_BY_NICS if row.get(key)}
    own = {key: value for key, value in complete.items() if value or key not in inherited}
    always = {key: row.get(key) or template[key] for key in _GIVEN_TO_NICS if row.get(key) or template.get(key)}
    groups = networks.security_groups(nic, network["template"], row)
    parent = {"PARENT_NETWORK_ID": str(network["parent"])} if network.get("parent") is not None else {}
    return inherited | own | always | given | parent | ({"SECURITY_GROUPS": groups} if groups else {}) | {
        "CLUSTER_ID": ",".join(map(str, sorted(network["clusters"]))), "NETWORK": network["name"],
        "NETWORK_ID": str(network["id"]),
    }


def _lease(core: Core, network: dict, vm_id: int, nic: dict) -> dict:
    """Return the addresses of a NIC. Raises OneError when there are none."""
    if all(machine_rules.switch(nic.get(name, "")) == "YES" for name in ("FLOATING_IP", "FLOATING_ONLY")):
        # The VM of a virtual router that needs none but the router's has a hardware address by chance.
        return {"MAC": "02:01:" + secrets.token_bytes(4).hex(":")}
    given = networks.lease(core, network, vm_id, nic)
    if given is None:
        raise OneError(INTERNAL, f"Cannot get IP/MAC lease from virtual network {network['id']}.")
    return given


def _disk(core: Core, vm_id: int, number: int, disk: dict, image: dict | None) -> dict:
    """Return a disk of a VM without the name it gets on its bus."""
    serial = {"SERIAL": f"{vm_id}-{number}"} if disk.get("SERIAL") == "auto" else {}
    common = disk | {"DISK_ID": str(number)} | serial
    if image is None:
        return {"SIZE": "0"} | common | {"DEV_PREFIX": disk.get("DEV_PREFIX") or _DEFAULT_PREFIX}
    datastore = core.store.get("datastore", image["datastore"])
    transfer = datastore["template"]
    persistent, cdrom = image["persistent"], image["type"] == images.CDROM
    immutable = cdrom or text_of(image["template"], "PERSISTENT_TYPE").upper() == "IMMUTABLE"
    targets = TRANSFER_DRIVERS.get(transfer.get("TM_MAD"), {})
    prefix = disk.get("DEV_PREFIX") or ("" if cdrom else text_of(image["template"], "DEV_PREFIX") or _DEFAULT_PREFIX)
    read_only = "YES" if immutable else machine_rules.switch(disk.get("READONLY") or text_of(image["template"], "READONLY"))
    inherited = {key: text_of(image["template"], key) for key in ("SERIAL",) if text_of(image["template"], key)}
    format_ = {"DRIVER": image["format"].lower(), "FORMAT": image["format"].lower()} if image["format"] else {}
    return {"SIZE": str(image["size"])} | inherited | {
        "CLONE_TARGET": targets.get("CLONE_TARGET", "NONE"), "LN_TARGET": targets.get("LN_TARGET", "NONE"),
    } | common | format_ | ({"DEV_PREFIX": prefix} if prefix else {}) | {
        "ALLOW_ORPHANS": transfer.get("ALLOW_ORPHANS", "NO"),
        "CLONE": "NO" if persistent or immutable else "YES",
        "CLUSTER_ID": ",".join(map(str, sorted(datastore["clusters"]))),
        "DATASTORE": datastore["name"], "DATASTORE_ID": str(datastore["id"]), "DISK_SNAPSHOT_TOTAL_SIZE": "0",
        "DISK_TYPE": "FILE", "IMAGE": image["name"], "IMAGE_ID": str(image["id"]),
        "IMAGE_STATE": str(int(image["state"])), "ORIGINAL_SIZE": str(image["size"]),
        "PERSISTENT_SNAPSHOTS": transfer.get("PERSISTENT_SNAPSHOTS", "YES"), "READONLY": read_only,
        "SAVE": "YES" if persistent and not immutable else "NO",
        "SOURCE": image["source"], "TM_MAD": transfer.get("TM_MAD", "-"), "TYPE": "CDROM" if cdrom else "FILE",
    } | ({"PERSISTENT": "YES"} if persistent and not immutable else {}) | (
        {"CLONING": "YES"} if images.is_in_work(image) else {}
    )


def _assign_targets(core: Core, machine: dict) -> str:
    """Give the disks of a new VM their names on their buses: its system first, then CD-ROMs, the context, and data.

    Returns the name that the context gets. Raises OneError when two disks want the same one.
    """
    used: set[str] = set()
    cdrom_prefix = core.config.release.context_bus or ("sd" if machine_rules.is_modern(machine["OS"]) else "hd")
    for disk in machine["DISK"]:
        if disk.get("TARGET"):
            if disk["TARGET"] in used:
                raise OneError(INTERNAL, f"Two disks have defined the same target {disk['TARGET']}")
            used.add(disk["TARGET"])
    waiting = [disk for disk in machine["DISK"] if not disk.get("TARGET")]
    system = next((disk for disk in waiting if _is_system(core, disk)), None)
    cdroms = [disk for disk in waiting if disk.get("TYPE") == "CDROM"]
    for disk in cdroms:
        disk.setdefault("DEV_PREFIX", cdrom_prefix)
    for disk in ([system] if system else []) + cdroms:
        disk["TARGET"] = _free_target(disk["DEV_PREFIX"], used)
    of_context = _free_target(cdrom_prefix, used) if "CONTEXT" in machine else ""
    for disk in waiting:
        if not disk.get("TARGET"):
            disk["TARGET"] = _free_target(disk["DEV_PREFIX"], used)
    return of_context


def _is_system(core: Core, disk: dict) -> bool:
    image = core.store.get("image", int(disk["IMAGE_ID"])) if "IMAGE_ID" in disk else None
    return image is not None and image["type"] == images.SYSTEM


def _free_target(prefix: str, used: set[str]) -> str:
    """Return the first name on a bus that is not used, and use it: a to z, then aa to zz."""
    letters = string.ascii_lowercase
    names = (prefix + "".join(parts) for length in (1, 2) for parts in product(letters, repeat=length))
    name = next(name for name in names if name not in used)
    used.add(name)
    return name


def _release_leases(core: Core, vm_id: int, nics: list[dict]) -> None:
    for nic in nics:
        if "NETWORK_ID" in nic:
            networks.release(core, int(nic["NETWORK_ID"]), vm_id)
