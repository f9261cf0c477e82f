#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the signing key of a package repository whose fingerprint is known."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openpgp_key
short_description: Keep the signing key of a package repository whose fingerprint is known
version_added: 0.2.0
description:
  - Reads an ASCII-armoured OpenPGP public key, compares its fingerprint with the expected one, and only then writes it where the
    package manager looks for it.
  - A file that holds further keys is refused too, whoever they belong to.
  - Needs no GnuPG on the machine.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  path:
    description: File to keep the key in, such as C(/etc/apt/keyrings/example.asc). It belongs to root and everybody may read it.
    type: path
    required: true
  state:
    description: Whether the key is kept. With V(absent) the file is removed.
    type: str
    choices: [present, absent]
    default: present
  url:
    description: Where the key is read from, as C(https), C(http) or C(file) URL. Needed with O(state=present).
    type: str
  fingerprint:
    description: The fingerprint, 40 hexadecimal digits; spaces and colons may stand between them. Needed with O(state=present).
    type: str
  timeout:
    description: Seconds to wait for an answer.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Trust the key of a repository
  opennebula.flower.openpgp_key:
    path: /etc/apt/keyrings/nvidia-container-toolkit.asc
    url: https://nvidia.github.io/libnvidia-container/gpgkey
    fingerprint: C95B 321B 61E8 8C18 09C4 F759 DDCA E044 F796 ECB0
"""

RETURN = r"""
fingerprint:
  description: Fingerprint of the key, empty with O(state=absent).
  returned: success
  type: str
  sample: C95B321B61E88C1809C4F759DDCAE044F796ECB0
"""

import tempfile
from pathlib import Path

from ansible.module_utils.urls import fetch_url

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia.openpgp import fingerprints, normalized
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule, changed_result

MODE = "0644"


def keep(module: SafeModule) -> dict:
    """Bring the file to the wanted state and return the module's result."""
    path = Path(module.params["path"])
    before = path.read_text(encoding="ascii", errors="replace") if path.is_file() else ""
    if module.params["state"] == "absent":
        if before and not module.check_mode:
            path.unlink()
        return changed_result({"fingerprint": _shown(before)}, {"fingerprint": ""}, fingerprint="")
    try:
        expected = normalized(module.params["fingerprint"])
    except ValueError as problem:
        module.fail_json(msg=f"The expected fingerprint {problem}.")
    text = _fetch(module)
    try:
        found = fingerprints(text)
    except ValueError as problem:
        module.fail_json(msg=f"{module.params['url']} {problem}. Nothing was changed.")
    wrong = [fingerprint for fingerprint in found if fingerprint != expected]
    if wrong:
        module.fail_json(
            msg=f"The key at {module.params['url']} has the fingerprint {wrong[0]}, expected is {expected}. It is not trusted, and nothing was changed."
        )
    result = changed_result({"fingerprint": _shown(before)}, {"fingerprint": _shown(text)}, fingerprint=expected)
    if before == text and not module.set_mode_if_different(str(path), MODE, False):
        return {**result, "changed": False}
    if before != text and not module.check_mode:
        _write(module, path, text)
    return {**result, "changed": True}


def _fetch(module: SafeModule) -> str:
    url = module.params["url"]
    response, info = fetch_url(module, url, timeout=module.params["timeout"])
    # File URLs have no status.
    if response is None or info["status"] not in (200, None):
        module.fail_json(msg=f"The key at {url} cannot be read: {info['msg']}.")
    return response.read().decode("ascii", errors="replace")


def _shown(text: str) -> str:
    """Return what the diff says about a file."""
    try:
        return ", ".join(fingerprints(text)) if text else ""
    except ValueError as problem:
        return str(problem)


def _write(module: SafeModule, path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=module.tmpdir, delete=False) as stream:
        stream.write(text)
    module.atomic_move(stream.name, str(path))
    module.set_mode_if_different(str(path), MODE, True)


def main() -> None:
    """Run the module."""
    module = SafeModule(
        argument_spec={
            "path": {"type": "path", "required": True, "no_log": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "url": {"type": "str"},
            "fingerprint": {"type": "str", "no_log": False},
            "timeout": {"type": "int", "default": 30},
        },
        required_if=[("state", "present", ["url", "fingerprint"])],
        supports_check_mode=True,
    )
    module.run(lambda: keep(module))


if __name__ == "__main__":
    main()
