# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What systemd judges each unit that a role ships able to do beyond its work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from jinja2 import ChainableUndefined, Environment

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.tests.support.rendered_roles import OWNERS, ROLES, rendered

RUNTIMES = ("container", "native")
SANDBOX = ROLES / "_flower_runtime/files/sandbox.conf"
MOST_EXPOSURE = 3.0
# How much more a unit needs, and why.
EXCEPTIONS = {
    "one-appliance-node.service": (4.6, "configures the node anew when its SuperLink moved: writes to the system, makes users, uses the GPU"),
    "nvidia-cdi-refresh.service": (9.6, "NVIDIA's programs load the driver and make its devices"),
    "nvidia-mig-layout.service": (9.6, "NVIDIA's programs load the driver, make its devices and divide the GPU"),
    "vfio-host.service": (9.6, "takes devices from their drivers and loads modules before the system is up"),
    "wireguard-failover@.service": (9.0, "changes the peers of an interface of the kernel, and keeps what it knows of them"),
}
# Which units of Flower are root's, with which capabilities, and why. The others have a user of their own.
CLIENT = ("", "is the client of the container engine, whose socket is root's; the container has another user")
AS_ROOT = {
    "flower-catch-up.service": ("", "restarts a unit"),
    "flower-certificates.service": ("", "the keys are root's, and so is the gateway's reload"),
    "flower-checkpoint-restore.service": ("CAP_CHOWN CAP_DAC_OVERRIDE", "fills the directory of the app's user, who must not read the keys of the storage"),
    "flower-firewall.service": ("CAP_NET_ADMIN", "loads rules into the kernel"),
    "flower-superexec-watch.service": ("", "restarts a unit"),
    "flower-uplink.service": ("CAP_NET_ADMIN", "sets limits in the kernel"),
}
AS_ROOT_OF = {
    "container": {**AS_ROOT, **dict.fromkeys((f"flower-{name}.service" for name in ("dcgm", "superexec", "superlink", "supernode")), CLIENT)},
    "native": {**AS_ROOT, "flower-dcgm.service": ("CAP_SYS_ADMIN", "NVIDIA's exporter reads counters of the GPU")},
}
# Of a user of its own, what it may do beyond that.
AS_OTHERS = {"flower-supervisor.service": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER"}
# What keeps one of these from taking the memory or the processes of the machine, on which Flower itself runs.
LIMITED = ("flower-supervisor", "flower-artifacts", "flower-registrar", "flower-certificates", "flower-checkpoint-upload", "flower-checkpoint-restore")
# Settings that templates take apart.
TAKEN_APART = {"flower_superexec_environment": {}, "flower_superexec_volumes": [], "nvidia_container_toolkit_mig_wanted": [{}]}
SHIPPED = {path.name.removesuffix(".j2"): path for path in ROLES.glob("*/*/*") if re.search(r"\.service(\.j2)?$", path.name)}


class _Setting(ChainableUndefined):
    """What stands in the place of each other setting."""

    def __str__(self) -> str:
        return "/x"


@cache
def units(runtime: str) -> dict[str, str]:
    """Return all units by name. Those of Flower are as the appliances have them; the sandbox of the others depends on no setting but the runtime."""
    made = {}
    for role in OWNERS:
        made |= {name: text for name, text in rendered(role, table.validate({}, role), runtime).items() if name in SHIPPED}
    for name in SHIPPED.keys() - made.keys():
        text = SHIPPED[name].read_text()
        environment = Environment(undefined=_Setting, trim_blocks=True)
        environment.filters |= dict.fromkeys(re.findall(r"\| *([a-z_.]+)", text), lambda *_arguments: "x")
        made[name] = environment.from_string(text).render(flower_runtime=runtime, **TAKEN_APART)
    return made


@pytest.fixture(scope="module", params=RUNTIMES)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units as a machine has them, with what the runtime lays over those of Flower."""
    directory = tmp_path_factory.mktemp(request.param)
    for name, text in units(request.param).items():
        (directory / name).write_text(text)
    sandbox = directory / "flower-.service.d"
    sandbox.mkdir()
    shutil.copy(SANDBOX, sandbox)
    return directory


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_unit_may_do_little_else_than_its_work(installed: Path, name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed / name)]
    judged = subprocess.run(command, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{installed}:"}, capture_output=True, text=True, check=False)
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", judged.stdout)
    assert exposure, judged.stderr
    most, _reason = EXCEPTIONS.get(name, (MOST_EXPOSURE, ""))
    assert float(exposure[1]) <= most, judged.stdout


def test_every_exception_is_one_of_a_unit() -> None:
    assert EXCEPTIONS.keys() <= SHIPPED.keys()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", LIMITED)
def test_what_stands_beside_flower_leaves_it_memory_and_processes(runtime: str, name: str) -> None:
    lines = units(runtime)[f"{name}.service"].splitlines()
    assert [limit for limit in ("MemoryMax=", "TasksMax=") if not any(line.startswith(limit) for line in lines)] == []


def settings(text: str, name: str) -> list[str]:
    return [line.removeprefix(f"{name}=") for line in text.splitlines() if line.startswith(f"{name}=")]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_few_units_of_flower_are_root_and_each_has_what_it_needs(runtime: str) -> None:
    mine = {name: text for name, text in units(runtime).items() if name in SHIPPED and name.startswith("flower-")}
    as_root = {name: settings(text, "CapabilityBoundingSet") for name, text in mine.items() if not settings(text, "User")}
    assert as_root == {name: [capabilities] for name, (capabilities, _reason) in AS_ROOT_OF[runtime].items()}
    others = {name: text for name, text in mine.items() if settings(text, "User")}
    assert {name: settings(text, "CapabilityBoundingSet") for name, text in others.items()} == {name: [AS_OTHERS.get(name, "")] for name in others}
    # Others would have them without being told to.
    assert {name for name, text in others.items() if settings(text, "AmbientCapabilities")} == AS_OTHERS.keys()


@pytest.mark.parametrize("name", ["flower-dcgm.service", "flower-supernode.service"])
def test_what_uses_a_gpu_without_a_container_sees_its_devices(name: str) -> None:
    lines = units("native")[name].splitlines() + SANDBOX.read_text().splitlines()
    # ProtectClock=, too: its documentation says that it allows the devices of the clock, which hides all others where systemd takes that literally.
    hiding = ("PrivateDevices=", "DevicePolicy=", "DeviceAllow=", "ProtectClock=", "RootDirectory=", "RootImage=")
    assert [line for line in lines if line.startswith(hiding)] == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", sorted(name for name in SHIPPED if name.startswith("flower-")))
def test_no_unit_of_flower_sets_the_clock(installed: Path, name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--json=short", str(installed / name)]
    judged = subprocess.run(command, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{installed}:"}, capture_output=True, text=True, check=True)
    may = {test["json_field"] for test in json.loads(judged.stdout) if not test["set"]}
    assert may & {"CapabilityBoundingSet_CAP_SYS_TIME", "SystemCallFilter_clock"} == set()
