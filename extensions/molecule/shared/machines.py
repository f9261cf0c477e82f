# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The machines of a scenario: one systemd container for each platform.

``python machines.py create``     starts them, waits for systemd, and remembers which files they wrote until then
``python machines.py remember``   remembers it anew, after more was prepared
``python machines.py unchanged``  fails if they wrote others since
``python machines.py destroy``    removes them

Keys of a platform: name, image (one of this checkout's), mounts (docker's --volume syntax), network (made when missing), helper (true for a
machine that is not under test). Not tasks of a playbook, which took a process each. The driver plug-ins of Molecule cannot pass the flags
that a nested engine needs.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import yaml
from testing import container, on

from lab.checkout import CHECKOUT, CHECKOUT_LABEL, IMAGE_PREFIX, ROOT
from lab.engine import EngineError, docker

LONGEST = 600  # seconds for a machine to start on a busy engine
FLAGS = yaml.safe_load((ROOT / "playbooks/vars/systemd_container.yml").read_text())["systemd_container_flags"]
# systemd's own files, the storage that Podman's units make at their own time, and the directories that Ansible copies its modules to.
WRITTEN_BY_ITSELF = re.compile(
    "^. /("
    "etc|root|run|tmp|var|var/log|var/lib"
    "|(root/.ansible|run|tmp|var/log|var/lib/systemd|var/lib/containers|var/tmp)(/.*)?"
    r"|etc/(machine-id|hostname|resolv.conf|\..*)"
    ")$"
)


def create(platforms: list[dict]) -> None:
    for network in networks(platforms):
        with suppress(EngineError):  # it is there
            docker("network", "create", network)
    for platform in platforms:
        bytecode = (f"{ROOT}/tests/support/bytecode:/opt/bytecode:ro", f"{ROOT}/roles/flower_appliance/files/bytecode:/opt/bytecode-keeper:ro")
        options = [f"--volume={mount}" for mount in (*platform.get("mounts", ()), "/var/lib/docker", *bytecode)]
        if "network" in platform:
            options += ["--network", f"{platform['network']}-{CHECKOUT}", "--network-alias", platform["name"]]
        docker(
            "run", "--detach", "--name", container(platform["name"]), "--hostname", platform["name"], "--label", CHECKOUT_LABEL,
            *options, *FLAGS, f"{IMAGE_PREFIX}/{platform['image']}", "/sbin/init", timeout=LONGEST,
        )  # fmt: skip
    for platform in platforms:
        wait_for_systemd(platform["name"])
    remember(platforms)


def wait_for_systemd(machine: str) -> None:
    deadline = time.monotonic() + LONGEST
    while on(machine, "systemctl", "is-system-running", "--wait").stdout.strip() not in ("running", "degraded"):
        if time.monotonic() > deadline:
            sys.exit(f"systemd is not up on {machine} after {LONGEST} s")
        time.sleep(1)


def destroy(platforms: list[dict]) -> None:
    docker("rm", "--force", "--volumes", *(container(platform["name"]) for platform in platforms), timeout=LONGEST)
    for network in networks(platforms):
        with suppress(EngineError):  # there is none
            docker("network", "rm", network)


def remember(platforms: list[dict]) -> None:
    for machine in under_test(platforms):
        kept(machine).write_text("\n".join(written(machine)))


def unchanged(platforms: list[dict]) -> None:
    for machine in under_test(platforms):
        if others := set(written(machine)) ^ set(kept(machine).read_text().splitlines()):
            sys.exit(f"the dry run wrote files in {machine}: {', '.join(sorted(others))}")


def networks(platforms: list[dict]) -> set[str]:
    return {f"{platform['network']}-{CHECKOUT}" for platform in platforms if "network" in platform}


def under_test(platforms: list[dict]) -> list[str]:
    return [platform["name"] for platform in platforms if not platform.get("helper")]


def written(machine: str) -> list[str]:
    """Return the files that a machine wrote since it was created."""
    return [line for line in docker("diff", container(machine), timeout=LONGEST).splitlines() if not WRITTEN_BY_ITSELF.match(line)]


def kept(machine: str) -> Path:
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], f"{machine}.written")


if __name__ == "__main__":
    action = {"create": create, "remember": remember, "unchanged": unchanged, "destroy": destroy}[sys.argv[1]]
    try:
        action(yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())["platforms"])
    except EngineError as problem:
        sys.exit(str(problem))
