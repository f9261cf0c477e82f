# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The CONTEXT of a VM: variables filled in, network values added."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.core.call import as_list
from lab.core.errors import ALLOCATE, OneError

if TYPE_CHECKING:
    from lab.core.api import Core

_VARIABLE = re.compile(r"\$(\w+)(?:\[\s*(\w+)\s*(?:,\s*(\w+)\s*=\s*\\?\"?([^\"\\\]]*)\\?\"?\s*)?\])?")
#: ETHn_ values, and the attributes of NIC or network they come from; the others stay empty
_ETHERNET = {
    "DNS": "DNS", "EXTERNAL": "EXTERNAL", "GATEWAY": "GATEWAY", "IP": "IP", "IP6": "IP6_GLOBAL",
    "IP6_GATEWAY": "GATEWAY6", "IP6_METHOD": "IP6_METHOD", "IP6_METRIC": "IP6_METRIC",
    "IP6_PREFIX_LENGTH": "PREFIX_LENGTH", "IP6_ULA": "IP6_ULA", "MAC": "MAC", "MASK": "NETWORK_MASK",
    "METHOD": "METHOD", "METRIC": "METRIC", "MTU": "GUEST_MTU", "NETWORK": "NETWORK_ADDRESS", "ROUTES": "ROUTES",
    "SEARCH_DOMAIN": "SEARCH_DOMAIN", "VLAN_ID": "VLAN_ID", "VROUTER_IP": "VROUTER_IP",
    "VROUTER_IP6": "VROUTER_IP6_GLOBAL", "VROUTER_MANAGEMENT": "VROUTER_MANAGEMENT",
}


def render_context(core: Core, vm: dict, context: dict) -> dict:
    """Return the CONTEXT a VM boots with. Raises OneError when it asks for a token and there is no OneGate."""
    release = core.config.release
    result = {name: _VARIABLE.sub(lambda match: _value(core, vm, match), text) for name, text in context.items()}
    if context.get("NETWORK", "").upper() == "YES":
        for number, nic in enumerate(vm["template"]["NIC"]):
            network = core.store.get("vn", int(nic["NETWORK_ID"])) if "NETWORK_ID" in nic else None
            known = (network["template"] if network else {}) | nic
            # A NIC's NETWORK is a name; the value here is the network's address.
            result |= {f"ETH{number}_{name}": known.get(source, "") for name, source in _ETHERNET.items()
                       if name not in release.without_ethernet}
    if context.get("TOKEN", "").upper() == "YES":
        if not core.config.onegate_endpoint:
            raise OneError(
                ALLOCATE, "Error allocating a new virtual machine template. "
                          "TOKEN set, but onegate endpoint was not defined in oned.conf."
            )
        result |= {"ONEGATE_ENDPOINT": core.config.onegate_endpoint, "VMID": str(vm["id"])}
    disks = len(vm["template"]["DISK"])
    target = f"{release.context_bus}a" if release.context_bus else f"sd{chr(ord('a') + disks)}"
    return result | {"DISK_ID": str(disks), "TARGET": target}


def _value(core: Core, vm: dict, match: re.Match) -> str:
    """Return what $NAME, $VECTOR[NAME], $VECTOR[NAME, KEY="value"] or $USER[NAME] stands for, empty if unknown."""
    name, attribute, key, wanted = match.groups()
    user = core.store.get("user", vm["uid"])
    if attribute is None:
        fixed = {
            "NAME": vm["name"], "VMID": str(vm["id"]), "UID": str(vm["uid"]), "GID": str(vm["gid"]),
            "UNAME": user["name"], "GNAME": core.store.get("group", vm["gid"])["name"],
        }
        value = fixed.get(name, vm["user_template"].get(name, vm["template"].get(name, "")))
        return value if isinstance(value, str) else ""
    if name == "USER":
        return user["template"].get(attribute, "")
    if name == "NETWORK":
        vectors = _networks(core, vm)
    else:
        vectors = as_list(vm["template"].get(name, vm["user_template"].get(name)))
    for vector in vectors:
        if isinstance(vector, dict) and (key is None or vector.get(key) == wanted):
            return vector.get(attribute, "")
    return ""


def _networks(core: Core, vm: dict) -> list[dict]:
    used = [core.store.get("vn", int(nic["NETWORK_ID"])) for nic in vm["template"]["NIC"] if "NETWORK_ID" in nic]
    return [network["template"] | {"NAME": network["name"]} for network in used]
