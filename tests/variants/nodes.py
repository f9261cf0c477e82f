# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""SuperNodes in containers on the network of this machine, and programs in their images."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import supernode_command
from ansible_collections.opennebula.flower.tests.app.shipped import APP
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from lab.engine import docker
from lab.images import FLOWER_VERSION, variant_image

INSIDE = Path(__file__).with_name("inside")
PROGRAM_DEADLINE = 120  # seconds


class Nodes:
    """Two SuperNodes of one framework, started as the appliance starts them."""

    def __init__(self, superlink: str) -> None:
        self._superlink = superlink
        self._running: tuple[str, tuple[Path, ...]] | None = None
        self.containers: list[str] = []

    def use(self, framework: str, data: tuple[Path, ...] = ()) -> None:
        """Make the nodes those of a framework, with a data directory of its own for each, or with bundled data."""
        if self._running == (framework, data):
            return
        self.stop()
        for number in range(2):
            port = free_port()
            name = f"flower-variant-{port}"
            command = supernode_command(
                FLOWER_VERSION, self._superlink, node_config={"ml-framework": framework, "partition-id": number}, port=port
            )
            volume = ("--volume", f"{data[number]}:/app/data:ro") if data else ()
            docker(
                "run", "--detach", "--init", "--name", name, "--network", "host", *volume,
                "--env", "OMP_NUM_THREADS=1", "--env", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL=0.1", "--env", "FLWR_TELEMETRY_ENABLED=0",
                variant_image(framework), *command[1:],
            )  # fmt: skip
            self.containers.append(name)
        self._running = (framework, data)

    def users(self) -> set[str]:
        """Return the numbers of the users that processes of the nodes have."""
        listed = [line.split() for name in self.containers for line in docker("top", name, "-eo", "pid,uid").splitlines()[1:]]
        return {user for _process, user in listed}

    def stop(self) -> None:
        """Stop the nodes cleanly, so that the SuperLink forgets them, and remove them."""
        if self.containers:
            docker("stop", *self.containers)
            docker("rm", "--force", *self.containers)
        self.containers.clear()
        self._running = None


def run_inside(framework: str, program: str, *arguments: str, content: bytes = b"", volume: str = "", user: str = "app") -> str:
    """Run a program of the directory inside in the image of a framework; return what it prints. It may import the app."""
    volumes = [f"{INSIDE}:/inside:ro", f"{APP}:/shipped:ro", *([volume] if volume else [])]
    result = subprocess.run(
        [
            "docker", "run", "--rm", "--interactive", "--network", "none", "--user", user, "--entrypoint", "python",
            "--env", "PYTHONPATH=/shipped", "--env", "OMP_NUM_THREADS=1", *(part for one in volumes for part in ("--volume", one)),
            variant_image(framework), f"/inside/{program}", *arguments,
        ],
        input=content,
        capture_output=True,
        timeout=PROGRAM_DEADLINE,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()
