# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the interfaces and disks of VMs refer to: networks, security groups and images by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ..core import lookup
from ..transport.client import Client
from ..transport.errors import INVALID, OneException
from ..transport.values import joined


class References:
    """Names of networks, security groups and images, and their ids; each pool is asked for once, when needed.

    unresolved: called with the exception for a name that means nothing; it may raise it.
    """

    def __init__(self, client: Client, unresolved: Callable[[OneException], None]) -> None:
        self._client = client
        self._unresolved = unresolved
        self._pools: dict[str, list[dict]] = {}

    def nic(self, nic: dict) -> dict:
        """Return a wanted NIC with ids in the place of names: the server knows only the user's own by name."""
        return self._with_groups(self._with_id(nic, "NETWORK", "network"))

    def nic_template(self, nic: dict) -> dict:
        """Return a NIC for a VM template: with ids of security groups; its network can stay a name."""
        groups = next((name for name in nic if str(name).upper() == "SECURITY_GROUPS"), None)
        if groups is None:
            return nic
        rest = {name: value for name, value in nic.items() if name != groups}
        return {**rest, **self._with_groups({"SECURITY_GROUPS": joined(nic[groups])})}

    def _with_groups(self, nic: dict) -> dict:
        if "SECURITY_GROUPS" not in nic:
            return nic
        numbers = sorted(self.security_groups(nic))
        return {**nic, "SECURITY_GROUPS": ",".join(str(number) for number in numbers)}

    def disk(self, disk: dict) -> dict:
        """Return a wanted disk with the id in the place of its image's name."""
        return self._with_id(disk, "IMAGE", "image")

    def security_groups(self, nic: dict) -> set[int]:
        """Return the ids of the security groups of a wanted NIC."""
        names = [name.strip() for name in nic.get("SECURITY_GROUPS", "").split(",") if name.strip()]
        numbers = {int(name) for name in names if lookup.is_id(name)}
        for name in names:
            if not lookup.is_id(name):
                numbers |= self._found("security group", name, self._security_groups)
        return numbers

    def check_addresses(self, vm: dict, nic: dict, leaving: list[dict]) -> None:
        """Refuse the address of an interface to attach that its network cannot give the VM. Raises OneException.

        nic: with the id of its network. leaving: interfaces of the VM whose addresses become free.
        """
        from .lease_check import check_available

        network = lookup.get(self._client, "network", int(nic["NETWORK_ID"])) if "NETWORK_ID" in nic else None
        if network:
            check_available(network, nic, vm, leaving)

    @cached_property
    def _security_groups(self) -> list[dict]:
        return self._client.pool("one.secgrouppool.info", "SECURITY_GROUP")

    def _with_id(self, device: dict, key: str, kind: str) -> dict:
        # With an owner said, the name is for the server to resolve.
        if key not in device or device.keys() & {f"{key}_UNAME", f"{key}_UID"}:
            return dict(device)
        if kind not in self._pools:
            self._pools[kind] = lookup.pool(self._client, kind)
        label = lookup.KINDS[kind].label
        found = self._found(label, device[key], self._pools[kind])
        if not found <= {int(device.get(f"{key}_ID") or number) for number in found}:
            given = device[f"{key}_ID"]
            raise OneException(INVALID, f"{key} and {key}_ID name two of them: the {label} with the name {device[key]!r} has the id {min(found)}, not {given}.")
        return {f"{key}_ID": str(number) for number in found} | {name: device[name] for name in device if name != key}

    def _found(self, label: str, name: str, pool: list[dict]) -> set[int]:
        found = lookup.named(self._client, label, pool, name)
        if found is None:
            self._unresolved(lookup.missing(self._client, label, name))
            return set()
        return {int(found["ID"])}
