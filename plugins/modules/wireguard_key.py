#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a WireGuard key on the machine it is for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wireguard_key
short_description: Make a WireGuard key on the machine it is for
version_added: 0.2.0
description:
  - Makes a private key or a pre-shared key in a file that only its owner reads, unless one is there.
  - Returns the public key of a private key. The private key itself is never returned and never leaves the machine.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  path:
    description: File of the key. Its directory must exist.
    type: path
    required: true
  kind:
    description: V(private) for the key of an interface, V(preshared) for a secret that two peers share.
    type: str
    choices: [private, preshared]
    default: private
requirements:
  - wg, of wireguard-tools
"""

EXAMPLES = r"""
- name: Make the key of the tunnel
  opennebula.flower.wireguard_key:
    path: /etc/wireguard/wg0.key
  register: own_key
"""

RETURN = r"""
public_key:
  description: The public key, empty for a key that check mode merely would have made.
  returned: when O(kind=private)
  type: str
  sample: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
"""

from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule, changed_result
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard import key_files
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.key_files import MODE
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.values import is_key


def ensure(module: SafeModule) -> dict:
    """Make the key unless it is there and return the module's result."""
    path, kind = Path(module.params["path"]), module.params["kind"]
    exists = path.exists()
    before = {"exists": exists, "mode": oct(path.stat().st_mode & 0o777) if exists else None}
    if exists and not path.is_file():
        module.fail_json(msg=f"{path} is not a file that could hold a key.")
    if not path.parent.is_dir() and not module.check_mode:
        module.fail_json(msg=f"The directory {path.parent} of key {path} does not exist.")
    if not module.check_mode:
        if not exists:
            key_files.write(path, _wg(module, "genkey" if kind == "private" else "genpsk"))
        elif path.stat().st_mode & 0o777 != MODE:
            path.chmod(MODE)
    result = changed_result(before, {"exists": True, "mode": oct(MODE)})
    if kind == "private":
        result["public_key"] = _wg(module, "pubkey", _key(module, path)) if path.exists() else ""
    return result


def _key(module: SafeModule, path: Path) -> str:
    text = key_files.read(path)
    module.no_log_values.add(text)
    if not is_key(text):
        module.fail_json(msg=f"{path} holds something else than a WireGuard key; move it away to have a new one made.")
    return text


def _wg(module: SafeModule, command: str, data: str | None = None) -> str:
    _status, output, _error = module.run_command([module.get_bin_path("wg", required=True), command], data=data, check_rc=True)
    return output.strip()


def main() -> None:
    """Run the module."""
    module = SafeModule(
        argument_spec={
            "path": {"type": "path", "required": True, "no_log": False},
            "kind": {"type": "str", "choices": ["private", "preshared"], "default": "private"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: ensure(module))


if __name__ == "__main__":
    main()
