# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Existing machines without an OpenNebula, which edge.yml makes SuperNodes of: systemd in a container, each in a network of its own.

``python -m lab.machine up NAME...`` starts them, ``down NAME...`` removes them. lab/router.py joins their networks as it does those of zones.
"""

from __future__ import annotations

import argparse
import sys
import time

from lab import images
from lab.addresses import free_subnet
from lab.checkout import CHECKOUT_LABEL, ROOT
from lab.driver.docker import MACHINE_FLAGS, ZONE_LABEL, machine_prefix
from lab.engine import EngineError, docker
from lab.router import OWN_HOST, WORLD

SUITE = images.SUITES["trixie"]
_OWN_HOST = 10
_START_SECONDS, _PAUSE = 300, 0.5


def container(name: str) -> str:
    """Return the name of a machine's container."""
    return f"{machine_prefix(name)}-machine"


def up(name: str) -> None:
    """Start a machine of Debian 13 with the wheels of the lab in /mnt/wheels, and wait for its systemd; one that runs is left as it is."""
    if docker("ps", "--quiet", "--filter", f"name=^{container(name)}$"):
        return
    down(name)
    images.build("base", SUITE)
    images.build("wheels", SUITE)
    subnet = free_subnet("10.89")
    prefix = subnet.rpartition(".")[0]
    network, labels = f"{machine_prefix(name)}-net-0", ("--label", CHECKOUT_LABEL, "--label", f"{ZONE_LABEL}={name}")
    docker("network", "create", *labels, "--subnet", subnet, network)
    docker(
        "run", "--detach", "--name", container(name), "--hostname", name, *labels, *MACHINE_FLAGS, "--network", network, "--ip", f"{prefix}.{_OWN_HOST}",
        "--volume", f"{ROOT}/build/wheels:/mnt/wheels:ro", SUITE.vm_image, "/sbin/init",
    )  # fmt: skip
    deadline = time.monotonic() + _START_SECONDS
    while (state := _state(name)) not in ("running", "degraded"):
        if time.monotonic() > deadline:
            raise EngineError(f"Machine {name}: its systemd is {state or 'not there'} after {_START_SECONDS} s.")
        time.sleep(_PAUSE)
    for world in WORLD:
        docker("exec", container(name), "ip", "route", "add", world, "via", f"{prefix}.{OWN_HOST}")


def down(name: str) -> None:
    """Remove a machine and its network."""
    ours = ("--quiet", "--filter", f"label={CHECKOUT_LABEL}", "--filter", f"label={ZONE_LABEL}={name}")
    for machine in docker("ps", "--all", *ours).split():
        docker("rm", "--force", "--volumes", machine)
    for network in docker("network", "ls", *ours).split():
        docker("network", "rm", network)


def _state(name: str) -> str:
    try:
        return docker("exec", container(name), "sh", "-c", "systemctl is-system-running || true").strip()
    except EngineError:
        return ""


def main() -> int:
    """Command line of ``python -m lab.machine``."""
    parser = argparse.ArgumentParser(prog="python -m lab.machine", description="Existing machines without an OpenNebula.")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("names", nargs="+")
    args = parser.parse_args()
    try:
        for name in args.names:
            (up if args.action == "up" else down)(name)
            print(f"Machine {name} is {'up' if args.action == 'up' else 'removed'}.", flush=True)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
