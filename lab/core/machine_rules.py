# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Attributes of VMs: which oned refuses, and how it writes the others.

Functions change the attributes they are given and raise OneError, with oned's words and the code INTERNAL, for what cannot
be; who calls them knows the code and the words in front.
"""

from __future__ import annotations

import re
import secrets
import struct

from lab.core import devices
from lab.core.call import as_list
from lab.core.errors import INTERNAL, OneError

_SWITCHES = ("PAE", "ACPI", "APIC", "HYPERV", "LOCALTIME", "GUEST_AGENT", "RAS", "MIGRATE_COMPRESSED")
_LONGEST_PASSWORDS = {"spice": 59, "vnc": 8}
_VIDEO_TYPES = ("none", "vga", "cirrus", "virtio")
_LEAST_VIDEO_MEMORY = 1024
_NOT_BY_DEFAULT = ("NETWORK_ID", "NETWORK", "NETWORK_UID", "NETWORK_UNAME")
_IOMMU_MODELS = ("intel", "virtio", "smmuv3", "amd")
_PINNED = ("CORE", "THREAD", "SHARED")
_OWN_NAME = re.compile(r"NIC\d+(_ALIAS\d+)?")
_HIGHEST_PORT = 65535


def whole(text: object) -> int | None:
    """Return the whole number a text is for oned, None if it is none."""
    return int(text) if isinstance(text, str) and re.fullmatch(r"\s*[+-]?\d+", text) else None


def real(text: object) -> float | None:
    """Return the number a text is for oned, None if it is none."""
    return float(text) if isinstance(text, str) and re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) else None


def written(number: float) -> str:
    """Return a number as oned writes one in single precision."""
    return f"{struct.unpack('f', struct.pack('f', number))[0]:g}"


def switch(text: str) -> str:
    """Return what is on or off as oned writes it: only YES is on."""
    return "YES" if text.upper() == "YES" else "NO"


def capacity(template: dict) -> None:
    """Check and write CPU, MEMORY and what belongs to them."""
    _positive(template, "MEMORY", "integer")
    if template.get("MEMORY_RESIZE_MODE"):
        template["MEMORY_RESIZE_MODE"] = template["MEMORY_RESIZE_MODE"].upper()
        if template["MEMORY_RESIZE_MODE"] not in ("BALLOONING", "HOTPLUG"):
            raise OneError(INTERNAL, f"Unknown MEMORY_RESIZE_MODE: {template['MEMORY_RESIZE_MODE']}")
    _positive(template, "CPU", "float or integer")
    if template.get("VCPU"):
        _positive(template, "VCPU", "integer")
    for name in ("MEMORY_MAX", "MEMORY_SLOTS", "VCPU_MAX"):
        if (whole(template.get(name)) or 0) > 0:
            template[name] = str(whole(template[name]))
    for name in ("CPU_COST", "MEMORY_COST", "DISK_COST"):
        cost = real(template.get(name))
        if cost is not None and cost < 0:
            raise OneError(INTERNAL, f"{name} attribute must be a positive float or integer value.")
        if cost is not None:
            template[name] = written(cost)


def _positive(template: dict, name: str, words: str) -> None:
    number = (real if name == "CPU" else whole)(template.get(name))
    if number is None or number <= 0:
        raise OneError(INTERNAL, f"{name} attribute must be a positive {words} value.")
    template[name] = written(number) if name == "CPU" else str(number)


def configuration(template: dict) -> None:
    """Check and write what updateconf can change, too: FEATURES, OS, GRAPHICS, VIDEO and the like."""
    _features(template.get("FEATURES"))
    if len(as_list(template.get("OS"))) > 1:
        raise OneError(INTERNAL, "Only one OS attribute can be defined.")
    if "OS" in template and not isinstance(template["OS"], dict):
        raise OneError(INTERNAL, "Internal error parsing OS attribute.")
    for name in ("GRAPHICS", "VIDEO", "CPU_MODEL", "IOMMU"):
        vectors = [vector for vector in as_list(template.get(name)) if isinstance(vector, dict)]
        if vectors:
            template[name] = vectors[0]
    _iommu(template)
    for name, needed in (("TPM", "MODEL"), ("MEMORY_ENCRYPTION", "TYPE")):
        for vector in as_list(template.get(name)):
            if not isinstance(vector, dict) or not vector.get(needed):
                raise OneError(INTERNAL, f"{name} attribute is missing required key: {needed}")
    _graphics(template.get("GRAPHICS"))
    _video(template.get("VIDEO"))


def _features(features: object) -> None:
    if not isinstance(features, dict):
        return
    features |= {name: switch(features[name]) for name in _SWITCHES if features.get(name)}
    if features.get("GIC") and features["GIC"] not in ("2", "3"):
        features["GIC"] = "host"
    rates = features.get("MIGRATE_AUTO_CONVERGE")
    if rates:
        parts = [part.strip() for part in rates.split(",") if part]
        wrong = f'Wrong FEATURES/MIGRATE_AUTO_CONVERGE value: "{rates}". '
        if not 0 < len(parts) < 3 or not all(part.isascii() and part.isdigit() for part in parts):
            raise OneError(INTERNAL, f"{wrong}Expected initial[,increment]")
        if any(int(part) > 100 for part in parts):
            raise OneError(INTERNAL, f"{wrong}Initial and increment values must be between 0 and 100")
        features["MIGRATE_AUTO_CONVERGE"] = ",".join(parts)


def _iommu(template: dict) -> None:
    iommu, system = template.get("IOMMU"), template.get("OS", {})
    if not isinstance(iommu, dict):
        return
    model, mode = iommu.get("MODEL", "").lower(), iommu.get("MODE", "").lower()
    if model not in _IOMMU_MODELS:
        raise OneError(INTERNAL, "Unknown IOMMU model; must be intel, virtio, smmuv3 or amd")
    if model == "smmuv3" and system.get("ARCH") != "aarch64":
        raise OneError(INTERNAL, "IOMMU model smmuv3 requires ARM guests")
    if not is_modern(system):
        raise OneError(INTERNAL, "IOMMU device requires a Q35/virt guest")
    if mode not in ("single", "device"):
        raise OneError(INTERNAL, "Unknown IOMMU mode; must be single or device")
    iommu |= {"MODEL": model, "MODE": mode}


def is_modern(system: dict) -> bool:
    """Whether an OS attribute names a machine type that has its CD-ROM on another bus than IDE."""
    return any(kind in system.get("MACHINE", "") for kind in ("q35", "virt"))


def _graphics(graphics: object) -> None:
    if not isinstance(graphics, dict):
        return
    if graphics.get("PORT") and not 0 <= (-1 if whole(graphics["PORT"]) is None else whole(graphics["PORT"])) <= _HIGHEST_PORT:
        raise OneError(INTERNAL, "Wrong PORT number in GRAPHICS attribute")
    if switch(graphics.get("RANDOM_PASSWD", "")) == "YES" and not graphics.get("PASSWD"):
        graphics["PASSWD"] = secrets.token_hex(32)
    longest = _LONGEST_PASSWORDS.get(graphics.get("TYPE", "").lower())
    if longest and len(graphics.get("PASSWD", "")) > longest:
        graphics["PASSWD"] = graphics["PASSWD"][:longest]


def _video(video: object) -> None:
    if not isinstance(video, dict):
        return
    kind = video.get("TYPE", "").lower()
    if not kind:
        raise OneError(INTERNAL, "Video TYPE is required")
    if kind not in _VIDEO_TYPES:
        raise OneError(INTERNAL, "Invalid video TYPE, should be either: none, vga, cirrus, or virtio")
    video["TYPE"] = kind
    if kind != "virtio" and any(switch(video.get(name, "")) == "YES" for name in ("IOMMU", "ATS")):
        raise OneError(INTERNAL, "IOMMU and ATS are only available for virtio TYPE")
    if video.get("VRAM") and (whole(video["VRAM"]) or 0) < _LEAST_VIDEO_MEMORY:
        raise OneError(INTERNAL, "Invalid VRAM value in VIDEO attribute, must be >= 1024")
    if video.get("RESOLUTION") and not re.fullmatch(r"[0-9]+x[0-9]+", video["RESOLUTION"]):
        raise OneError(INTERNAL, "Invalid RESOLUTION string format")


def pci(request: dict) -> None:
    """Check and write a PCI attribute."""
    wrong = devices.problem(request)
    if wrong:
        raise OneError(INTERNAL, wrong)


def nic_default(template: dict) -> None:
    """Check NIC_DEFAULT."""
    defaults = as_list(template.get("NIC_DEFAULT"))
    if len(defaults) > 1:
        raise OneError(INTERNAL, "Only one NIC_DEFAULT attribute can be defined.")
    if defaults and not isinstance(defaults[0], dict):
        raise OneError(INTERNAL, "Wrong format for NIC_DEFAULT attribute.")
    for name in _NOT_BY_DEFAULT:
        if defaults and defaults[0].get(name):
            raise OneError(INTERNAL, f"Attribute {name} is not allowed inside NIC_DEFAULT.")


def nic_name(name: str, fallback: str) -> str:
    """Return the name of an interface: one that looks like oned's own gets a mark in front."""
    return f"_{name}" if _OWN_NAME.fullmatch(name) else name or fallback


def boot_order(machine: dict) -> None:
    """Note in disks and interfaces the order in which OS/BOOT names them."""
    for device in (*machine["DISK"], *machine["NIC"]):
        device.pop("ORDER", None)
    order = machine.get("OS", {}).get("BOOT", "")
    for place, name in enumerate(filter(None, order.split(",")), 1):
        match = re.fullmatch(r"(DISK|NIC)(\d+)", name, re.IGNORECASE)
        if not match:
            raise OneError(
                INTERNAL, f'Wrong OS/BOOT value: "{order}" should be a comma-separated list of disk# or nic#'
            )
        kind = match.group(1).upper()
        found = [device for device in machine[kind] if int(device[f"{kind}_ID"]) == int(match.group(2))]
        if not found:
            raise OneError(
                INTERNAL, f"Wrong OS/BOOT value. Device with {kind}_ID {int(match.group(2))} not found"
            )
        found[0]["ORDER"] = str(place)


def backup(known: dict, wanted: object, append: bool) -> dict:
    """Return the BACKUP_CONFIG of a VM after a wish; the disks here can only be backed up as a whole."""
    if wanted is None:
        return known
    if not isinstance(wanted, dict):
        raise OneError(INTERNAL, "Internal error parsing BACKUP_CONFIG attribute.")
    config = dict(known)
    kept = whole(wanted.get("KEEP_LAST"))
    if kept is not None:
        config["KEEP_LAST"] = str(max(kept, 0))
    elif not append:
        config.pop("KEEP_LAST", None)
    for name in ("BACKUP_VOLATILE", "INTERACTIVE"):
        if wanted.get(name) or not append:
            config[name] = switch(wanted.get(name, ""))
    if wanted.get("FS_FREEZE") or not append:
        freeze = wanted.get("FS_FREEZE", "").upper()
        config["FS_FREEZE"] = freeze if freeze in ("AGENT", "SUSPEND") else "NONE"
    return config | {"INCREMENTAL_BACKUP_ID": "-1", "LAST_INCREMENT_ID": "-1", "MODE": "FULL"}


def topology(template: dict) -> None:
    """Check TOPOLOGY and NUMA_NODE, and fill in what follows from them."""
    nodes = [node for node in as_list(template.get("NUMA_NODE")) if isinstance(node, dict)]
    wanted = next((vector for vector in as_list(template.get("TOPOLOGY")) if isinstance(vector, dict)), None)
    if wanted is None and not nodes:
        return
    shape = template["TOPOLOGY"] = wanted if wanted is not None else {}
    pinned = shape.get("PIN_POLICY", "").upper() in _PINNED
    if shape.get("NODE_AFFINITY") is not None and whole(shape["NODE_AFFINITY"]) is None:
        del shape["NODE_AFFINITY"]
    if pinned and "NODE_AFFINITY" in shape:
        raise OneError(INTERNAL, "NUMA node affinity cannot be set for pinned VMs")
    memory = whole(template.get("MEMORY"))
    if memory is None:
        raise OneError(INTERNAL, "VM has not MEMORY set")
    cores = whole(template.get("VCPU"))
    if cores is None:
        cores, template["VCPU"] = 1, "1"
    if pinned:
        template["CPU"] = str(cores)
    if whole(template.get("VCPU_MAX")) is not None:
        raise OneError(INTERNAL, "VM with TOPOLOGY does not support CPU hotplug (VCPU_MAX)")
    if pinned:
        _pinned_topology(template, shape, nodes, cores, memory)
    else:
        _plain_topology(template, shape, cores, memory)


def _numbers(shape: dict) -> tuple[int, int, int]:
    return tuple(max(whole(shape.get(name)) or 0, 0) for name in ("SOCKETS", "CORES", "THREADS"))


def _plain_topology(template: dict, shape: dict, cores: int, memory: int) -> None:
    numbers = _numbers(shape)
    if not any(numbers):
        shape |= {"SOCKETS": "1", "CORES": str(cores), "THREADS": "1"}
    elif not all(numbers):
        raise OneError(
            INTERNAL, "Non-pinned VMs with a virtual topology needs to set  SOCKETS, CORES and THREADS numbers."
        )
    elif numbers[0] * numbers[1] * numbers[2] != cores:
        raise OneError(INTERNAL, "Total threads per core and socket needs to match VCPU")
    shape["PIN_POLICY"] = "NONE"
    template.pop("NUMA_NODE", None)
    if "NODE_AFFINITY" in shape or whole(shape.get("HUGEPAGE_SIZE")):
        template["NUMA_NODE"] = {"TOTAL_CPUS": str(cores), "MEMORY": str(memory * 1024)}


def _pinned_topology(template: dict, shape: dict, nodes: list[dict], cores: int, memory: int) -> None:
    sockets, per_socket, threads = _numbers(shape)
    if not sockets:
        sockets = len(nodes) or 1
        shape["SOCKETS"] = str(sockets)
    if per_socket and threads and sockets * per_socket * threads != cores:
        raise OneError(INTERNAL, "Total threads per core and socket needs to match VCPU")
    if per_socket and not threads:
        if cores % (per_socket * sockets):
            raise OneError(INTERNAL, "VCPU is not multiple of the total number of cores")
        threads = cores // (per_socket * sockets)
        if threads & (threads - 1):
            raise OneError(INTERNAL, "Computed number of threads is not power of 2")
        shape["THREADS"] = str(threads)
    template["NUMA_NODE"] = _nodes(nodes, cores, memory) if nodes else _even_nodes(sockets, cores, memory)


def _even_nodes(count: int, cores: int, memory: int) -> list[dict]:
    for what, amount in (("VCPU", cores), ("MEMORY", memory)):
        if amount % count:
            raise OneError(INTERNAL, f"{what} is not multiple of the number of NUMA nodes")
    return [{"TOTAL_CPUS": str(cores // count), "MEMORY": str(memory // count * 1024)}] * count


def _nodes(nodes: list[dict], cores: int, memory: int) -> list[dict]:
    amounts = [(max(whole(node.get("TOTAL_CPUS")) or 0, 0), max(whole(node.get("MEMORY")) or 0, 0)) for node in nodes]
    if any(bool(cpus) != bool(size) for cpus, size in amounts):
        raise OneError(INTERNAL, "NUMA_NODE capacity cannot be MEMORY or CPU only")
    if sum(cpus for cpus, _size in amounts) != cores:
        raise OneError(INTERNAL, "Total CPUS of NUMA nodes is different from VM VCPU")
    if sum(size for _cpus, size in amounts) != memory:
        raise OneError(INTERNAL, "Total MEMORY of NUMA nodes is different from VM MEMORY")
    return [{"TOTAL_CPUS": str(cpus), "MEMORY": str(size * 1024)} for cpus, size in amounts]
