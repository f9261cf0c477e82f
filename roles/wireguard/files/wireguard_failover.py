# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Routes what lies behind the hubs through the first of them that answers: wireguard-failover INTERFACE.

The handshake of a dead hub stays young for minutes, so the hubs are asked by ping, each at its own tunnel address, which always
stays with it. An address that WireGuard gives to one peer is taken from the other in the same step.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def main(interface):
    """Watch the hubs until the unit is stopped."""
    with open(f"/etc/wireguard/{interface}.failover.json", encoding="utf-8") as stream:
        settings = json.load(stream)
    hubs, floating, misses = settings["hubs"], settings["floating"], settings["misses"]
    missed = dict.fromkeys(hubs, 0)
    # A hub that comes back is used again once it has answered as often as it may miss.
    answered = dict.fromkeys(hubs, misses)
    with ThreadPoolExecutor(len(hubs)) as pool:
        while True:
            for hub, good in zip(hubs, pool.map(lambda hub: answers(interface, hub), hubs), strict=True):
                missed[hub] = 0 if good else missed[hub] + 1
                answered[hub] = answered[hub] + 1 if good else 0
            used = holder(interface, hubs, floating)
            best = next((hub for hub in hubs if answered[hub] >= misses), None)
            lost = used is None or missed[used] >= misses
            if best and best != used and (lost or hubs.index(best) < hubs.index(used)):
                use(interface, best, floating)
                print(f"{interface}: {used or 'no hub'} {'does not answer' if lost else 'gives way'}, hub {best} is used now", flush=True)
            time.sleep(settings["interval"])


def answers(interface, address):
    """Return whether a hub answers within a second."""
    return subprocess.run(["ping", "-n", "-q", "-c", "1", "-W", "1", "-I", interface, address], check=False, capture_output=True).returncode == 0


def allowed_ips(interface):
    """Return the networks of each peer by public key."""
    lines = subprocess.run(["wg", "show", interface, "allowed-ips"], check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split("\t")[0]: line.split("\t")[1].replace("(none)", "").split() for line in lines}


def key_of(peers, address):
    """Return the public key of the hub with that tunnel address."""
    own = address + ("/128" if ":" in address else "/32")
    return next((key for key, networks in peers.items() if own in networks), None)


def holder(interface, hubs, floating):
    """Return the hub that the floating networks are routed to, None if there is none."""
    peers = allowed_ips(interface)
    return next((hub for hub in hubs if floating and floating[0] in peers.get(key_of(peers, hub), [])), None)


def use(interface, hub, floating):
    """Route the floating networks to a hub."""
    peers = allowed_ips(interface)
    key = key_of(peers, hub)
    if key:
        networks = list(dict.fromkeys(peers[key] + floating))
        subprocess.run(["wg", "set", interface, "peer", key, "allowed-ips", ",".join(networks)], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
