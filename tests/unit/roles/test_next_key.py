# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""How a node replaces its key: the role's own steps, with Ansible, on files of a directory and with a small OneGate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key
from ansible_collections.opennebula.flower.tests.support.superlink import TOKEN, OneGateServer, SuperLink, serve

ROLE = Path(__file__).parents[3] / "roles/flower_supernode"
STEPS = ("Look which key this node uses", "Set up the key of this node", "Replace the key of this node")
SHOWN = ("flower_supernode_key_file", "flower_supernode_key_number", "flower_supernode_old_key")


class Node:
    """VM 7, whose SuperLink is in another zone: what OneGate says of its own VM is what it is told."""

    def __init__(self, root: Path, onegate: OneGateServer, url: str) -> None:
        self.root = root
        self.onegate = onegate
        self._url = url
        (root / "token").write_text(TOKEN)

    def key(self, name: str) -> str:
        """Make a key; return its public line."""
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "", "-f", self.root / name], check=True)
        return (self.root / f"{name}.pub").read_text().strip()

    def uses(self, name: str) -> None:
        (self.root / "flower-supernode.service").write_text(f"ExecStart=x \\\n  --volume {self.root}/{name}:/app/node.key:ro \\\n")

    def configure(self, renewal: int) -> dict[str, Any]:
        """Configure the key of the node, and give up the others; return what the unit would be written with."""
        variables = {name: value for name, value in yaml.safe_load((ROLE / "vars/main.yml").read_text()).items() if "key" in name or "superlinks" in name}
        given = {
            "ansible_python_interpreter": sys.executable, "flower_node_auth_enabled": True, "flower_node_key_renewal": renewal, "flower_onegate_vm_id": "7",
            "flower_onegate_endpoint": self._url, "flower_onegate_token_file": str(self.root / "token"), "flower_superlink_address": "10.0.0.5:9092",
            "flower_supernode_discovery_timeout": 1,
        }
        tasks = [task for task in yaml.safe_load((ROLE / "tasks/configure.yml").read_text()) if task["name"] in STEPS]
        assert len(tasks) == len(STEPS)
        shown = {name: f"{{{{ {name} }}}}" for name in (*SHOWN, "flower_supernode_key")}
        tasks.append({"ansible.builtin.copy": {"dest": f"{self.root}/shown", "content": shown}})
        tasks.append({"ansible.builtin.include_tasks": "old_keys.yml"})
        for name in ("key", "next_key", "old_keys"):
            (self.root / f"{name}.yml").write_text(self._here(yaml.safe_load((ROLE / f"tasks/{name}.yml").read_text())))
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables | given, "tasks": tasks}
        (self.root / "play.yml").write_text(self._here([play]))
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", self.root / "play.yml"]
        done = subprocess.run(command, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads((self.root / "shown").read_text())
        return {name: str(found[name]).replace(f"{self.root}/", "") for name in SHOWN} | {"key": found["flower_supernode_key"]["public_key"]}

    @property
    def keys(self) -> set[str]:
        return {path.name for path in self.root.glob("node-*.key*")}

    def _here(self, content: Any) -> str:
        text = yaml.safe_dump(self._without(content))
        return text.replace("/opt/flower/certs", str(self.root)).replace("/etc/systemd/system", str(self.root))

    def _without(self, content: Any) -> Any:
        if isinstance(content, list):
            return [self._without(item) for item in content]
        if isinstance(content, dict):
            return {name: self._without(value) for name, value in content.items() if name not in ("owner", "group", "notify")}
        return content


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    onegate = OneGateServer()
    with serve(SuperLink(tmp_path / "flwr.json"), onegate) as url:
        yield Node(tmp_path, onegate, url)


def test_a_first_key_is_made_and_stays(node: Node) -> None:
    found = node.configure(0)
    assert (found["flower_supernode_key_file"], found["flower_supernode_key_number"]) == ("node-vm-7.key", "0")
    node.uses("node-vm-7.key")
    assert node.configure(0) == found
    assert node.onegate.attributes == {}


def test_the_old_key_stays_until_the_superlink_knows_the_next_one_which_is_made_once(node: Node) -> None:
    old = node.key("node-vm-7.key")
    node.uses("node-vm-7.key")
    waits = node.configure(2)
    assert (waits["flower_supernode_key_file"], waits["flower_supernode_key_number"], waits["key"]) == ("node-vm-7.key", "0", old)
    following = node.onegate.attributes["FL_NODE_KEY_NEXT"]
    assert node.keys == {"node-vm-7.key", "node-vm-7.key.pub", "node-vm-7-2.key", "node-vm-7-2.key.pub"}

    node.onegate.attributes["FL_NODE_KEYS_REGISTERED"] = f"SHA256:other {read_key(following).fingerprint}"
    goes = node.configure(2)
    assert (goes["flower_supernode_key_file"], goes["flower_supernode_key_number"], goes["key"]) == ("node-vm-7-2.key", "2", following)
    assert goes["flower_supernode_old_key"] == "node-vm-7.key"
    assert node.keys == {"node-vm-7-2.key", "node-vm-7-2.key.pub"}


def test_what_an_interrupted_replacement_left_goes(node: Node) -> None:
    """The unit has the next key already: there is no way back."""
    for name in ("node-vm-7.key", "node-vm-7-1.key", "node-vm-7-2.key", "node-vm-71.key", "node.key"):
        node.key(name)
    node.uses("node-vm-7-2.key")
    assert node.configure(2)["flower_supernode_old_key"] == ""
    assert {name for name in node.keys if not name.endswith(".pub")} == {"node-vm-7-2.key", "node-vm-71.key"}
    assert (node.root / "node.key").exists()


def test_the_key_of_the_vm_whose_disk_this_was_is_none_to_go_on_with(node: Node) -> None:
    node.key("node-vm-6.key")
    node.uses("node-vm-6.key")
    found = node.configure(1)
    assert (found["flower_supernode_key_file"], found["flower_supernode_old_key"]) == ("node-vm-7-1.key", "")
    assert "FL_NODE_KEY_NEXT" not in node.onegate.attributes
