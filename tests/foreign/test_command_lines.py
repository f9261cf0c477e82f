# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The command lines of the package opennebula-cli work against the zone. The tests build on each other."""

from __future__ import annotations

import pytest

IMAGE = 'NAME="disk"\nPATH="/x"\nSIZE="10"\n'
NETWORK = 'NAME="private"\nVN_MAD="bridge"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="9"]\n'
TEMPLATE = 'NAME="small"\nCPU="0.1"\nMEMORY="64"\nDISK=[IMAGE="disk"]\nNIC=[NETWORK="private"]\nCONTEXT=[NETWORK="YES"]\n'
RUNNING, OFF, DONE = (3, 3), (8, 0), (6, 0)


def test_things_are_made_from_files(foreign) -> None:
    foreign.run("oneimage", "create", "-d", "1", text=IMAGE)
    foreign.run("onevnet", "create", text=NETWORK)
    foreign.run("onetemplate", "create", text=TEMPLATE)
    assert [template["name"] for template in foreign.shown("template", "list")] == ["small"]


def test_what_is_refused_says_why(foreign) -> None:
    assert "NAME is already taken by TEMPLATE 0" in foreign.fails("onetemplate", "create", text=TEMPLATE)
    assert "char '&' is not allowed" in foreign.fails("onetemplate", "create", text='NAME="a&b"\n')


@pytest.mark.parametrize(("command", "pool"), [
    ("onehost", "host"), ("onecluster", "cluster"), ("onedatastore", "datastore"), ("oneuser", "user"), ("onegroup", "group"),
    ("onevnet", "vnet"), ("oneimage", "image"),
])
def test_pools_and_their_first_object_are_shown(foreign, command: str, pool: str) -> None:
    first = foreign.shown(pool, "list")[0]
    assert str(first["name"]) in foreign.run(command, "show", str(first["id"]))


def test_a_vm_is_started_changed_and_ended(foreign) -> None:
    foreign.run("onetemplate", "instantiate", "0")
    foreign.wait(lambda: foreign.state(0) == RUNNING, "VM 0 to run")
    assert foreign.shown("vm", "list")[0]["ips"] == ["10.1.0.10"]
    for words, state in (
        (("poweroff",), OFF), (("resume",), RUNNING), (("undeploy",), (9, 0)), (("resume",), RUNNING), (("stop",), (4, 0)),
        (("resume",), RUNNING),
    ):
        foreign.run("onevm", words[0], "0")
        foreign.wait(lambda state=state: foreign.state(0) == state, f"VM 0 in state {state} after {words[0]}")
    assert "operations failed" in foreign.fails("onevm", "release", "0")
    foreign.run("onevm", "rename", "0", "web")
    foreign.run("onevm", "snapshot-create", "0", "before")
    foreign.wait(lambda: foreign.state(0) == RUNNING, "VM 0 to run after its snapshot")
    foreign.run("onevm", "terminate", "0")
    foreign.wait(lambda: foreign.state(0) == DONE, "VM 0 to be done")


def test_locks_and_copies(foreign) -> None:
    foreign.run("onetemplate", "chown", "0", "0", "0")
    foreign.run("onetemplate", "lock", "0")
    assert "TEMPLATE is locked" in foreign.fails("onetemplate", "delete", "0")
    foreign.run("onetemplate", "unlock", "0")
    foreign.run("onetemplate", "clone", "0", "copy")
    foreign.run("onetemplate", "delete", "1")
