# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The releases a zone can answer as, and everything in which their answers differ. No other file names a release."""

from __future__ import annotations

from dataclasses import dataclass

from lab.oneflow_schema import SCHEMA_6, SCHEMA_7, Schema


@dataclass(frozen=True)
class Release:
    """What one release of OpenNebula does in its own way."""

    #: what one.system.version answers
    number: str
    #: elements it does not write, as paths from the element of the object
    absent: frozenset[str] = frozenset()
    #: values of a NIC it does not put into CONTEXT
    without_ethernet: frozenset[str] = frozenset()
    #: the transfer driver of the datastores a zone begins with
    transfer: str = "local"
    #: methods it does not have
    without_methods: frozenset[str] = frozenset()
    #: whether it looks at a disk, and says of what type it is, before it asks who wants something with its snapshots
    checks_disk_first: bool = True
    #: whether a VM that runs is moved to another host or another datastore only
    moves_one_at_a_time: bool = True
    #: what its refusals call the driver of a datastore, and how it refuses to move a VM that runs
    transfer_noun: str = "driver"
    no_live_transfer: str = "Live system datastore migration not supported by driver"
    #: what it says of images that cannot be copied
    no_clone: str = "{type} images cannot be cloned."
    #: the right to change a group
    group_right: str = "ADMIN"
    #: whether quotas of a group that is not there are not authorized, instead of the group not being found
    hides_groups: bool = True
    #: OS attributes it adds to every VM
    vm_os: tuple[tuple[str, str], ...] = ()
    #: where the CONTEXT goes: on a bus of its own, or after the disks
    context_bus: str = ""
    #: requirements it writes into a VM of cluster 0
    requirements: str = "(CLUSTER_ID = 0) & !(PIN_POLICY = PINNED)"
    #: characters it allows in no name, besides those no release allows
    not_in_names: str = "\t\n\v\f\r"
    #: whether hosts are named as computers are, and groups without spaces
    strict_names: bool = True
    #: kinds of objects that it names when it cannot make one, and whether it names those that it cannot copy
    names_new: frozenset[str] = frozenset(("cluster", "host", "market", "marketapp"))
    names_copies: bool = False
    #: the right on an object that copying it demands, besides that to make one
    clone_right: str = "CREATE"
    #: why a VM stays pending: no host is enabled, no host has room; {resource} is the scarce one, {hosts} their ids
    no_host: str = "[HOST] No enabled hosts"
    no_room: str = "[HOST] Not enough {resource} on hosts: {hosts}"
    #: the same for hosts without the PCI devices it asks for
    no_device: str = "[HOST] Unavailable PCI devices on hosts: {hosts}"
    #: the same for hosts that it or its owner may not use; {wanted} is its SCHED_REQUIREMENTS
    unmet: str = "Cannot dispatch VM: No host meets SCHED_REQUIREMENTS"
    no_right: str = "Cannot dispatch VM: User is not authorized to use any host"
    #: the same for hosts where its group does not let it be
    no_affinity: str = "[HOST] Cannot fulfill affinity constraints on hosts: {hosts}"
    #: whether SCHED_MESSAGE stays in a VM, empty, once it has a host
    keeps_message: bool = False
    #: metrics of quotas it does not know
    without_quotas: frozenset[str] = frozenset()
    #: whether OneFlow can take a scheduled action from a role
    forgets_actions: bool = True
    #: the format of OneFlow's documents
    flow: Schema = SCHEMA_7
    #: the text of OneGate's answer when a request fails; {reason} is what went wrong
    gate_failure: str = "Internal server error"


RELEASES = {
    "7.4": Release(number="7.4.0", vm_os=(("MACHINE", "q35"),)),
    "6.10": Release(
        number="6.10.5",
        absent=frozenset((
            "DATASTORE/TEMPLATE/DS_LIVE_MIGRATE", "DATASTORE/TEMPLATE/DS_MIGRATE_SNAP",
            "DATASTORE/TEMPLATE/PERSISTENT_SNAPSHOTS",
            "HOST/HOST_SHARE/PCI_DEVICES/PCI/IFNAME", "HOST/HOST_SHARE/PCI_DEVICES/PCI/SRIOV",
            "HOST/TEMPLATE/MEMORY_ENCRYPTION", "HOST/TEMPLATE/TOTALCPU",
            "HOST/TEMPLATE/TOTALMEMORY",
            "IMAGE/MODTIME",
            "VM/HISTORY_RECORDS/HISTORY/ACTION_ID", "VM/HISTORY_RECORDS/HISTORY/PLAN_ID",
            "VM/TEMPLATE/DISK/PERSISTENT_SNAPSHOTS",
            "VNET/AR_POOL/AR/NEXT_INDEX", "VNET/AR_POOL/AR/SHARED", "VNET/TEMPLATE_ID",
            "ZONE/TEMPLATE/ENDPOINT_GRPC",
        )),
        without_methods=frozenset(("one.vm.vmgroupadd", "one.vm.vmgroupdel")),
        checks_disk_first=False,
        moves_one_at_a_time=False,
        transfer_noun="TM driver",
        no_live_transfer="A migration to a different system datastore cannot be performed live.",
        no_clone="KERNEL, RAMDISK, BACKUP and CONTEXT cannot be cloned.",
        group_right="MANAGE",
        hides_groups=False,
        without_ethernet=frozenset(("ROUTES",)),
        transfer="ssh",
        context_bus="hd",
        requirements="(CLUSTER_ID = 0) & !(PUBLIC_CLOUD = YES) & !(PIN_POLICY = PINNED)",
        not_in_names="",
        strict_names=False,
        names_new=frozenset(),
        names_copies=True,
        no_host="Cannot dispatch VM: No hosts enabled to run VMs",
        no_room="Cannot dispatch VM: No host with enough capacity to deploy the VM",
        no_device="Cannot dispatch VM: No host with enough capacity to deploy the VM",
        unmet="Cannot dispatch VM: No host meets capacity and SCHED_REQUIREMENTS: {wanted}",
        no_affinity="Cannot dispatch VM: No host with enough capacity to deploy the VM",
        clone_right="USE",
        keeps_message=True,
        without_quotas=frozenset(("PCI_DEV", "PCI_NIC", "RUNNING_PCI_DEV", "RUNNING_PCI_NIC")),
        forgets_actions=False,
        flow=SCHEMA_6,
        gate_failure="{reason}",
    ),
}
NEWEST = "7.4"
