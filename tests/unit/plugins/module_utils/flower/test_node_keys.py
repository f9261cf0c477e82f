# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Public keys of SuperNodes: what is taken for one, and what is not."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization
from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key


def line_of(curve: ec.EllipticCurve) -> str:
    return ec.generate_private_key(curve).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


LINE = line_of(ec.SECP384R1())
TYPE, BLOB = LINE.split()
RAW = base64.b64decode(BLOB)


def test_a_key_of_ssh_keygen_is_read_as_openssh_and_flower_write_it(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "zone0/vm-3", "-f", tmp_path / "key"], check=True)
    content = (tmp_path / "key.pub").read_bytes()
    shown = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], capture_output=True, text=True, check=True).stdout
    key = read_key(content.decode())
    assert key.pem.encode() == load_ssh_public_key(content).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert key.fingerprint == shown.split()[1]
    assert (key.line, key.name) == (" ".join(content.decode().split()[:2]), "zone0/vm-3")


@pytest.mark.parametrize("text", [
    "", "ecdsa", TYPE, f"{TYPE} ", f"{TYPE} AAAA", LINE[:-8], f"{LINE}\n{LINE}", f"{LINE} two names", f"{LINE} ../x\n", f"{LINE} {'n' * 65}", f"{LINE} -x",
    f"restrict {LINE}", f"{TYPE} {base64.b64encode(RAW[:-97] + bytes(97)).decode()}", f"{TYPE} {base64.b64encode(RAW + b'x').decode()}",
    f"{TYPE} {base64.b64encode(RAW[:-97] + bytes([2]) + RAW[-96:]).decode()}", line_of(ec.SECP256R1()), line_of(ec.SECP521R1()), "x" * 1_000_000,
    f"{TYPE} {base64.b64encode(RAW.replace(b'nistp384', b'nistp256')).decode()}", "-----BEGIN PUBLIC KEY-----", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI",
])  # fmt: skip
def test_anything_else_is_refused_in_a_few_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it|^what it|^its") as problem:
        read_key(text)
    assert len(str(problem.value)) < 200


@given(st.one_of(st.text(), st.binary(min_size=136, max_size=136).map(lambda raw: f"{TYPE} {base64.b64encode(raw).decode()}")))
def test_no_text_is_more_than_refused(text: str) -> None:
    try:
        key = read_key(text)
    except ValueError:
        return
    assert load_ssh_public_key(key.line.encode())


def test_a_list_of_keys_comes_through_a_context_as_it_is() -> None:
    keys = [f"{LINE} a", line_of(ec.SECP384R1())]
    text = contextualization.context_values({"flower_node_keys": keys})["ONEAPP_FL_NODE_KEYS"]
    assert contextualization.validate({"ONEAPP_FL_NODE_KEYS": text}, "superlink")["flower_node_keys"] == keys


@pytest.mark.parametrize(("given_keys", "reason"), [([LINE, f"{LINE} again"], "each key once"), (["no key"], "OpenSSH"), ([7], "OpenSSH")])
def test_a_bad_list_is_one_sentence(given_keys: list, reason: str) -> None:
    with pytest.raises(contextualization.ContextError, match=reason):
        contextualization.check_variables({"flower_node_keys": given_keys}, "superlink")


def test_only_listed_keys_without_a_list_is_refused_and_no_authentication_is_a_warning() -> None:
    with pytest.raises(contextualization.ContextError, match="ONEAPP_FL_NODE_KEYS: nothing was given"):
        contextualization.check({"ONEAPP_FL_LISTED_NODES_ONLY": "YES"}, "superlink")
    checked = contextualization.check({"ONEAPP_FL_NODE_AUTH_ENABLED": "NO", "ONEAPP_FL_NODE_KEYS": LINE}, "superlink")
    assert any("can join" in warning for warning in checked.warnings)
    assert any("ONEAPP_FL_NODE_KEYS is ignored" in line for line in checked.ignored)
