# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The CONTEXT of a VM: variables filled in, network values added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core.call import as_list
from lab.core.errors import INTERNAL, OneError
from lab.core.variables import VariableError, fill

if TYPE_CHECKING:
    from lab.core.api import Core

#: between the attributes of a context while its variables are filled in; messages show it
_SEPARATOR = "@^_^@"
#: ETHn_ values, and the attributes of NIC or network they come from; the others stay empty
_ETHERNET = {
    "DNS": "DNS", "EXTERNAL": "EXTERNAL", "GATEWAY": "GATEWAY", "IP": "IP", "IP6": "IP6_GLOBAL",
    "IP6_GATEWAY": "GATEWAY6", "IP6_METHOD": "IP6_METHOD", "IP6_METRIC": "IP6_METRIC",
    "IP6_PREFIX_LENGTH": "PREFIX_LENGTH", "IP6_ULA": "IP6_ULA", "MAC": "MAC", "MASK": "NETWORK_MASK",
    "METHOD": "METHOD", "METRIC": "METRIC", "MTU": "GUEST_MTU", "NETWORK": "NETWORK_ADDRESS", "ROUTES": "ROUTES",
    "SEARCH_DOMAIN": "SEARCH_DOMAIN", "VLAN_ID": "VLAN_ID", "VROUTER_IP": "VROUTER_IP",
    "VROUTER_IP6": "VROUTER_IP6_GLOBAL", "VROUTER_MANAGEMENT": "VROUTER_MANAGEMENT",
}


#: those of a NIC alone, never of its network
_OWN = ("EXTERNAL", "IP", "IP6_GLOBAL", "IP6_ULA", "MAC", "VROUTER_IP", "VROUTER_IP6_GLOBAL", "VROUTER_MANAGEMENT")
#: attributes of the VMs of a virtual router
_OF_ROUTER = ("VROUTER_ID", "VROUTER_KEEPALIVED_ID", "VROUTER_KEEPALIVED_PASSWORD")
_OTHERWISE = {"IP6_GLOBAL": "IP6", "VROUTER_IP6_GLOBAL": "VROUTER_IP6"}


def render_context(core: Core, vm: dict, context: dict, target: str = "") -> dict:
    """Return the CONTEXT a VM boots with. target: its name on its bus.

    Raises OneError for variables that are none, and when a token is asked for and there is no OneGate.
    """
    release = core.config.release
    result = _filled(core, vm, context)
    if context.get("NETWORK", "").upper() == "YES":
        for nic in (*vm["template"]["NIC"], *vm["template"].get("NIC_ALIAS", ())):
            result |= {f"{_interface(nic)}_{name}": _of_interface(core, nic, source)
                       for name, source in _ETHERNET.items() if name not in release.without_ethernet}
    if context.get("TOKEN", "").upper() == "YES":
        if not core.config.onegate_endpoint:
            raise OneError(INTERNAL, "TOKEN set, but onegate endpoint was not defined in oned.conf.")
        result |= {"ONEGATE_ENDPOINT": core.config.onegate_endpoint, "VMID": str(vm["id"])}
    result |= {name: vm["template"][name] for name in _OF_ROUTER if vm["template"].get(name)}
    return result | {"DISK_ID": str(len(vm["template"]["DISK"])), "TARGET": target}


def fill_in(core: Core, vm: dict, text: str) -> str:
    """Return a text with the variables of a VM filled in. Raises OneError for what is none."""
    try:
        return fill(text, lambda words: _value(core, vm, words))
    except VariableError as error:
        raise OneError(INTERNAL, f"Error parsing: {text}. {error}") from error


def _filled(core: Core, vm: dict, context: dict) -> dict:
    """Return a context with its variables filled in, all attributes at once as oned does it."""
    text = fill_in(core, vm, _SEPARATOR.join(f"{name}={context[name]}" for name in sorted(context)))
    return dict(part.split("=", 1) for part in text.split(_SEPARATOR) if "=" in part)


def _interface(nic: dict) -> str:
    alias = "ALIAS_ID" in nic
    return f"ETH{nic['PARENT_ID']}_ALIAS{nic['ALIAS_ID']}" if alias else f"ETH{nic['NIC_ID']}"


def _of_interface(core: Core, nic: dict, name: str) -> str:
    """Return an attribute of a NIC, of its address range or of its network."""
    value = nic.get(name) or nic.get(_OTHERWISE.get(name, ""), "")
    if value or name in _OWN or not nic.get("NETWORK_ID"):
        return value
    return _of_network(core, nic, name)


def _of_network(core: Core, nic: dict, name: str) -> str:
    network = core.store.get("vn", int(nic["NETWORK_ID"]))
    row = next((row for row in network["ranges"] if row["AR_ID"] == nic.get("AR_ID")), {}) if network else {}
    value = row.get(name) or (network["template"].get(name, "") if network else "")
    return value if isinstance(value, str) else ""


def _value(core: Core, vm: dict, words: list[str]) -> str:
    """Return what NAME, VECTOR NAME or VECTOR NAME KEY value stands for, empty if unknown."""
    name, attribute, key, wanted = (*words, "", "", "")[:4]
    user = core.store.get("user", vm["uid"])
    if not attribute:
        fixed = {
            "NAME": vm["name"], "UID": str(vm["uid"]), "GID": str(vm["gid"]),
            "UNAME": user["name"], "GNAME": core.store.get("group", vm["gid"])["name"],
        }
        value = fixed.get(name) or vm["template"].get(name) or vm["user_template"].get(name, "")
    elif name == "USER":
        value = user["template"].get(attribute, "")
    elif name == "NETWORK":
        nic = _vector(vm, ("NIC", "NIC_ALIAS"), key, wanted) if key in ("NETWORK", "NETWORK_ID", "NIC_ID") else {}
        value = _of_network(core, nic, attribute) if nic.get("NETWORK_ID") else ""
    elif name == "IMAGE":
        disk = _vector(vm, ("DISK",), key, wanted) if key in ("IMAGE", "IMAGE_ID") else {}
        image = core.store.get("image", int(disk["IMAGE_ID"])) if disk.get("IMAGE_ID") else None
        value = image["template"].get(attribute, "") if image else ""
    else:
        value = _vector(vm, (name,), key, wanted).get(attribute, "")
    return value if isinstance(value, str) else ""


def _vector(vm: dict, names: tuple[str, ...], key: str, wanted: str) -> dict:
    """Return the first vector of a VM that has a value, or the first if no key is given; empty if there is none."""
    vectors = [vector for name in names for vector in as_list(vm["template"].get(name)) if isinstance(vector, dict)]
    return next((vector for vector in vectors if not key or vector.get(key) == wanted), {})
