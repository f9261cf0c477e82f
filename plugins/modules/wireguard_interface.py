#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a running WireGuard interface to a wanted state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wireguard_interface
short_description: Bring a running WireGuard interface to a wanted state
version_added: 0.2.0
description:
  - Changes key, port, MTU, addresses, routes and peers of an interface that is up, without taking it down. Peers that stay as they are
    notice nothing.
  - Peers, addresses and routes that are not named are removed.
  - What survives a reboot is the configuration file of the interface, which this module does not touch.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  name:
    description: Name of the interface.
    type: str
    required: true
  private_key_file:
    description: File with the private key, on the machine itself.
    type: path
    required: true
  public_key:
    description: Public key of that private key, see M(opennebula.flower.wireguard_key).
    type: str
    required: true
  port:
    description: UDP port to listen on.
    type: int
    required: true
  mtu:
    description: MTU of the interface, in bytes.
    type: int
    required: true
  addresses:
    description:
      - Addresses of the interface, with prefix length; one without stands alone. Those that Linux gives by itself stay.
    type: list
    elements: str
    required: true
  routes:
    description: Networks that are routed into the interface. V(default) stands for V(0.0.0.0/0).
    type: list
    elements: str
    default: []
  floating:
    description: Networks that stay in the O(peers[].allowed_ips) of the peer that has them now, as a failover leaves them.
    type: list
    elements: str
    default: []
  peers:
    description: All peers of the interface.
    type: list
    elements: dict
    required: true
    suboptions:
      site:
        description: Name of the peer, for the diff.
        type: str
        required: true
      public_key:
        description: Public key of the peer.
        type: str
        required: true
      preshared_key_file:
        description: File with the secret shared with the peer, empty for none.
        type: str
        default: ""
      preshared_key_changed:
        description: Whether that file holds another secret than the interface was given before.
        type: bool
        default: false
      endpoint:
        description:
          - Where the peer is reached, as host:port. A peer that answered within 180 seconds keeps the address it was found at.
        type: str
        default: ""
      allowed_ips:
        description: Networks of the peer. No two peers have the same one.
        type: list
        elements: str
        default: []
      keepalive:
        description: Seconds between two keepalives, 0 for none.
        type: int
        default: 0
requirements:
  - wg, of wireguard-tools
  - ip, of iproute2
"""

EXAMPLES = r"""
- name: Add a new site to the peers of the hub
  opennebula.flower.wireguard_interface:
    name: wg0
    private_key_file: /etc/wireguard/wg0.key
    public_key: "{{ own_key.public_key }}"
    port: 51820
    mtu: 1420
    addresses: [10.10.9.1/24]
    routes: [10.10.11.0/24]
    peers:
      - site: zone-b
        public_key: "{{ keys['zone-b'] }}"
        allowed_ips: [10.10.9.2/32, 10.10.11.0/24]
        keepalive: 25
"""

RETURN = r"""
commands:
  description: What was run, or in check mode would be.
  returned: success
  type: list
  elements: list
  sample: [["wg", "set", "wg0", "peer", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "remove"]]
"""

import time
from collections.abc import Sequence

from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule, changed_result
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard import interface


def bring(module: SafeModule) -> dict:
    """Bring the interface to the wanted state and return the module's result."""

    def run(argv: Sequence[str]) -> str:
        status, output, error = module.run_command(list(argv))
        if status:
            module.fail_json(msg=f"{' '.join(argv[:3])} on interface {wanted['name']} failed: {error.strip() or output.strip()}.")
        return output

    try:
        wanted = interface.checked(module.params, keys_may_lack=module.check_mode)
    except ValueError as error:
        module.fail_json(msg=f"Interface {module.params['name']!r} cannot be brought to that: {error}.")
    state = interface.read_state(run, wanted["name"])
    commands = interface.commands(state, wanted["name"], wanted, time.time())
    if not module.check_mode:
        for command in commands:
            run(command)
    labels = {peer["public_key"]: peer["site"] for peer in wanted["peers"]}
    result = changed_result(interface.shown(state, labels), interface.shown(interface.predicted(state, wanted), labels), commands=commands)
    return {**result, "changed": bool(commands)}


def main() -> None:
    """Run the module."""
    peer = {
        "site": {"type": "str", "required": True},
        "public_key": {"type": "str", "required": True, "no_log": False},
        "preshared_key_file": {"type": "str", "default": "", "no_log": False},
        "preshared_key_changed": {"type": "bool", "default": False, "no_log": False},
        "endpoint": {"type": "str", "default": ""},
        "allowed_ips": {"type": "list", "elements": "str", "default": []},
        "keepalive": {"type": "int", "default": 0, "no_log": False},
    }
    module = SafeModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "private_key_file": {"type": "path", "required": True, "no_log": False},
            "public_key": {"type": "str", "required": True, "no_log": False},
            "port": {"type": "int", "required": True},
            "mtu": {"type": "int", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "routes": {"type": "list", "elements": "str", "default": []},
            "floating": {"type": "list", "elements": "str", "default": []},
            "peers": {"type": "list", "elements": "dict", "required": True, "options": peer},
        },
        supports_check_mode=True,
    )
    module.run(lambda: bring(module))


if __name__ == "__main__":
    main()
