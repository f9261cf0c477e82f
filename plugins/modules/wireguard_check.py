#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that a WireGuard overlay connects what it should and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wireguard_check
short_description: Check that a WireGuard overlay connects what it should and nothing else
version_added: 0.2.0
description:
  - Sends packets as large as the tunnel carries to every address that should answer, and packets to every address that should not.
  - Then looks at the age of each peer's last handshake.
  - All checks run side by side. The module fails when one of them does, after all are done, and names each.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
  - opennebula.flower.attributes.info
options:
  name:
    description: Name of the interface.
    type: str
    required: true
  addresses:
    description: Addresses to try.
    type: list
    elements: dict
    required: true
    suboptions:
      site:
        description: Name of the site the address belongs to.
        type: str
        required: true
      address:
        description: The address.
        type: str
        required: true
      reachable:
        description: Whether it has to answer; otherwise it must not.
        type: bool
        required: true
  peers:
    description: Names of the peers whose handshakes count, by public key.
    type: dict
    default: {}
  handshake_age:
    description: Seconds since a peer's last handshake above which its tunnel counts as broken.
    type: int
    default: 180
  timeout:
    description: Seconds until an address that should answer has failed.
    type: int
    default: 10
requirements:
  - wg, of wireguard-tools
  - ip, of iproute2
  - ping, of iputils
"""

EXAMPLES = r"""
- name: Check that the spoke reaches the hub, and not the other spoke
  opennebula.flower.wireguard_check:
    name: wg0
    addresses:
      - {site: zone-a, address: 10.10.9.1, reachable: true}
      - {site: zone-c, address: 10.10.9.3, reachable: false}
"""

RETURN = r"""
results:
  description: What was found, one entry for each check.
  returned: always
  type: list
  elements: dict
  contains:
    site:
      description: Name of the site.
      type: str
      sample: zone-a
    check:
      description: What was checked, V(traffic), V(refusal), V(size) or V(handshake).
      type: str
      sample: traffic
    ok:
      description: Whether it is as it should be.
      type: bool
      sample: true
    finding:
      description: What was found.
      type: str
      sample: 10.10.9.1 answers
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.opennebula.flower.plugins.module_utils.addresses import ip_address
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.interface import parse_dump
from ansible_collections.opennebula.flower.plugins.module_utils.wireguard.values import interface_name

_SIDE_BY_SIDE = 32
# Bytes that an echo request adds to its payload.
_HEADERS = {4: 20 + 8, 6: 40 + 8}


class Checks:
    """The checks of one interface."""

    def __init__(self, module: SafeModule) -> None:
        self._module = module
        self._name = module.params["name"]
        self._timeout = module.params["timeout"]
        self._ping = module.get_bin_path("ping", required=True)
        self._mtu = json.loads(self._output(["ip", "-json", "link", "show", "dev", self._name]))[0]["mtu"]

    def all(self) -> list[dict]:
        """Run every check."""
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            results = [result for found in pool.map(self._address, self._module.params["addresses"]) for result in found]
        return results + self._handshakes()

    def _address(self, entry: dict) -> list[dict]:
        site, address = entry["site"], entry["address"]
        if not entry["reachable"]:
            answers = self._answers(address, 2)
            return [_result(site, "refusal", not answers, f"{address} answers" if answers else f"{address} does not answer")]
        if not self._answers(address, self._timeout):
            return [_result(site, "traffic", False, f"{address} does not answer within {self._timeout} s")]
        size = self._mtu - _HEADERS[6 if ":" in address else 4]
        fits = self._answers(address, self._timeout, ["-M", "do", "-s", str(size)])
        finding = f"packets of {self._mtu} bytes {'pass' if fits else 'do not pass'} to {address}"
        return [_result(site, "traffic", True, f"{address} answers"), _result(site, "size", fits, finding)]

    def _answers(self, address: str, seconds: int, options: list[str] | None = None) -> bool:
        """Say whether one packet was answered in time; another one is sent each half second."""
        # -w ends with the first answer only together with -c 1; until then packets go on.
        command = [self._ping, "-n", "-q", "-c", "1", "-i", "0.5", "-w", str(seconds), "-I", self._name, *(options or []), address]
        status, _output, _error = self._module.run_command(command)
        return status == 0

    def _handshakes(self) -> list[dict]:
        peers = parse_dump(self._output(["wg", "show", self._name, "dump"])).peers
        return [self._handshake(site, peers.get(key)) for key, site in self._module.params["peers"].items()]

    def _handshake(self, site: str, peer: object) -> dict:
        if peer is None:
            return _result(site, "handshake", False, "the interface does not have this peer")
        if not peer.handshake:
            return _result(site, "handshake", False, "there was none yet")
        age = int(time.time()) - peer.handshake
        return _result(site, "handshake", age <= self._module.params["handshake_age"], f"the last one was {age} s ago")

    def _output(self, argv: list[str]) -> str:
        status, output, error = self._module.run_command(argv)
        if status:
            self._module.fail_json(msg=f"Interface {self._name} cannot be looked at: {error.strip()}.", results=[])
        return output


def _check_options(module: SafeModule) -> None:
    params = module.params
    try:
        interface_name(params["name"])
        for entry in params["addresses"]:
            entry["address"] = ip_address(entry["address"])
    except ValueError as error:
        module.fail_json(msg=f"{error}.", results=[])
    for name in ("timeout", "handshake_age"):
        if params[name] < 1:
            module.fail_json(msg=f"{name} is {params[name]}, it must be 1 or more.", results=[])


def _result(site: str, check: str, good: bool, finding: str) -> dict:
    return {"site": site, "check": check, "ok": good, "finding": finding}


def judged(module: SafeModule) -> dict:
    """Run the checks and return the module's result, or fail when one of them does."""
    _check_options(module)
    results = Checks(module).all()
    wrong = [f"{result['check']} of site '{result['site']}': {result['finding']}" for result in results if not result["ok"]]
    if wrong:
        module.fail_json(msg=f"{len(wrong)} of {len(results)} checks of {module.params['name']} failed: {'; '.join(wrong)}.", results=results)
    return {"changed": False, "results": results}


def main() -> None:
    """Run the module."""
    address = {
        "site": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "reachable": {"type": "bool", "required": True},
    }
    module = SafeModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "dict", "required": True, "options": address},
            "peers": {"type": "dict", "default": {}},
            "handshake_age": {"type": "int", "default": 180},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    module.run(lambda: judged(module))


if __name__ == "__main__":
    main()
