# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a task wants of a VM's configuration, against documents as OpenNebula 7.4 shows them."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm.attributes import DesiredAttributes

ENCRYPTED = base64.b64encode(bytes(32)).decode()


class Server:
    """Shows a VM's password to administrators."""

    version = (7, 4, 0)

    def __init__(self, password: str = "") -> None:
        self.password = password

    def call(self, method: str, number: int, decrypt: bool) -> dict:
        assert (method, number, decrypt) == ("one.vm.info", 5, True)
        return {"TEMPLATE": {"CONTEXT": {"PASSWORD": self.password}}}


def told(template: dict, vm: dict, server: Server | None = None) -> dict:
    """What updateconf is told for desired attributes."""
    return DesiredAttributes(server or Server(), template).configuration({"ID": "5", "NAME": "web", **vm})[2]


def backups(**config: str) -> dict:
    return {"BACKUPS": {"BACKUP_CONFIG": config, "BACKUP_IDS": ""}, "TEMPLATE": {}}


@pytest.mark.parametrize(("wanted", "there", "expected"), [
    ({"KEEP_LAST": 2}, {"KEEP_LAST": "2", "MODE": "FULL"}, {}),
    ({"KEEP_LAST": -3}, {"KEEP_LAST": "0"}, {}),
    ({"BACKUP_VOLATILE": "yes", "FS_FREEZE": "agent"}, {"BACKUP_VOLATILE": "YES", "FS_FREEZE": "AGENT"}, {}),
    ({"DISK_IDS": "3, 1,1"}, {"DISK_IDS": "1,3"}, {}),
    ({"DISK_IDS": [3, 1]}, {"DISK_IDS": "1"}, {"DISK_IDS": "1,3"}),
    ({"KEEP_LAST": 4, "MODE": "full"}, {"KEEP_LAST": "2", "MODE": "FULL", "LAST_INCREMENT_ID": "-1"}, {"KEEP_LAST": "4"}),
    ({"INCREMENT_MODE": "cbt"}, {"MODE": "FULL"}, {}),
    ({"INCREMENT_MODE": "snapshot"}, {"MODE": "INCREMENT", "INCREMENT_MODE": "CBT"},
     {"MODE": "INCREMENT", "INCREMENT_MODE": "SNAPSHOT"}),
])
def test_the_configuration_of_backups_is_compared_as_the_server_keeps_it(wanted, there, expected):
    assert told({"BACKUP_CONFIG": wanted}, backups(**there)) == ({"BACKUP_CONFIG": expected} if expected else {})


def test_a_vm_without_a_configuration_of_backups_gets_one():
    assert told({"BACKUP_CONFIG": {"keep_last": 2}}, {"BACKUPS": {"BACKUP_CONFIG": ""}}) == {"BACKUP_CONFIG": {"KEEP_LAST": "2"}}


def test_what_the_server_notes_about_backups_cannot_be_set():
    with pytest.raises(OneException, match="BACKUP_CONFIG/LAST_INCREMENT_ID -1, which cannot become 3"):
        told({"BACKUP_CONFIG": {"LAST_INCREMENT_ID": 3}}, backups(LAST_INCREMENT_ID="-1"))


@pytest.mark.parametrize(("shown", "known", "expected"), [
    # An administrator is told, anybody else is not; older servers do not encrypt.
    (ENCRYPTED, "one", {}), (ENCRYPTED, "two", {"PASSWORD": "one"}), (ENCRYPTED, ENCRYPTED, {}), ("two", "two", {"PASSWORD": "one"}),
])
def test_a_password_is_compared_as_far_as_the_user_may_know_it(shown, known, expected):
    vm = {"TEMPLATE": {"CONTEXT": {"PASSWORD": shown}}}
    assert told({"CONTEXT": {"PASSWORD": "one"}}, vm, Server(known)) == ({"CONTEXT": expected} if expected else {})


def test_numa_nodes_are_kept_in_kilobytes():
    vm = {"TEMPLATE": {"TOPOLOGY": {"PIN_POLICY": "CORE"}, "NUMA_NODE": {"TOTAL_CPUS": "2", "MEMORY": "1048576"}}}
    assert told({"NUMA_NODE": {"TOTAL_CPUS": 2, "MEMORY": 1024}}, vm) == {}
    with pytest.raises(OneException, match="NUMA_NODE"):
        told({"NUMA_NODE": {"TOTAL_CPUS": 2, "MEMORY": 2048}}, vm)
