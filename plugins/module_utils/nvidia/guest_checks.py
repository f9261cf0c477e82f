# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a machine whose containers use NVIDIA GPUs. None of them changes anything, but for an image that may be pulled."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import cuda_product as product_program
from . import memory_limit as limit_program
from .machine import ERROR, OK, SKIPPED, WARNING, Check, Machine
from .runtime import docker_has, docker_settings

_MISSING = 127
_CDI_SPECS = ("/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.yaml")
_CPU = "training runs on the CPU; for a GPU pass one through to this VM"


@dataclass
class Settings:
    """What to check with: container engines, an image for containers (empty for none), share of the GPU memory, seconds for each container."""

    engines: Sequence[str] = ("docker",)
    image: str = ""
    pull: bool = False
    memory_fraction: float = 0.8
    timeout: int = 120
    python: str = "python3"


@dataclass
class Guest:
    """A machine and what the checks of it found so far."""

    machine: Machine
    settings: Settings
    # Lines of nvidia-smi, one for each GPU.
    listed: list[str] = field(default_factory=list)
    smi: tuple[int, str, str] = (_MISSING, "", "")
    has_image: bool = False

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU, used or not."""
        return bool(self.listed) or bool(self.machine.gpus())


def gpu(guest: Guest) -> Check:
    """There is a GPU. Without one the machine trains on its CPU, which is no error."""
    devices = guest.machine.gpus()
    if devices:
        return Check("gpu", OK, f"NVIDIA GPU at {', '.join(device.address for device in devices)}")
    if guest.listed:
        return Check("gpu", OK, f"{len(guest.listed)} NVIDIA GPU")
    return Check("gpu", WARNING, "no NVIDIA GPU", _CPU)


def driver(guest: Guest) -> Check:
    """The kernel module of the driver is loaded."""
    version = re.search(r"Kernel Module(?:\s+for\s+\S+)?\s+(\d[\d.]*)", guest.machine.text("/proc/driver/nvidia/version"))
    if version:
        return Check("driver", OK, f"kernel module nvidia {version.group(1)} is loaded")
    if not guest.has_gpu:
        return _no_gpu("driver")
    nouveau = [device.address for device in guest.machine.gpus() if device.driver == "nouveau"]
    if nouveau:
        return Check("driver", ERROR, f"{nouveau[0]} is held by nouveau", "install NVIDIA's driver, which blacklists nouveau, and reboot")
    fix = "install the driver (nvidia_container_toolkit_driver_package), then reboot or: modprobe nvidia"
    return Check("driver", ERROR, "kernel module nvidia is not loaded", fix)


def nvidia_smi(guest: Guest) -> Check:
    """The driver answers; says which GPUs it drives."""
    status, output, error = guest.smi
    if guest.listed:
        return Check("nvidia_smi", OK, "; ".join(guest.listed))
    if not guest.has_gpu:
        return _no_gpu("nvidia_smi")
    said = _said(output, error)
    if status == _MISSING:
        return Check("nvidia_smi", ERROR, "there is no nvidia-smi", "install the driver's tools, a package such as nvidia-smi or nvidia-utils")
    if "version mismatch" in said:
        return Check("nvidia_smi", ERROR, said, "the driver was updated while its old kernel module was loaded: reboot")
    return Check("nvidia_smi", ERROR, said or f"nvidia-smi ends with status {status}", "see check driver, and: dmesg | grep -i nvrm")


def device_nodes(guest: Guest) -> Check:
    """The device files that CUDA opens are there."""
    if not guest.listed:
        return _no_gpu("device_nodes") if not guest.has_gpu else Check("device_nodes", SKIPPED, "the driver does not answer")
    names = [*(f"nvidia{number}" for number in range(len(guest.listed))), "nvidiactl", "nvidia-uvm"]
    missing = [f"/dev/{name}" for name in names if not guest.machine.exists(f"/dev/{name}")]
    if missing:
        return Check("device_nodes", ERROR, f"{', '.join(missing)} missing", "nvidia-modprobe --create-nvidia-device-file=0 --unified-memory")
    return Check("device_nodes", OK, ", ".join(f"/dev/{name}" for name in names))


def toolkit(guest: Guest) -> Check:
    """The NVIDIA Container Toolkit is installed."""
    status, output, _error = guest.machine.run(["nvidia-ctk", "--version"])
    version = re.search(r"version\s+(\d[\w.~-]*)", output)
    if status == 0:
        return Check("toolkit", OK, f"NVIDIA Container Toolkit {version.group(1) if version else 'of unknown version'}")
    if not guest.has_gpu:
        return _no_gpu("toolkit")
    return Check("toolkit", ERROR, "the NVIDIA Container Toolkit is not installed", "run role opennebula.flower.nvidia_container_toolkit")


def runtime(guest: Guest) -> Check:
    """Every container engine can give a GPU to a container."""
    wrong, right = [], []
    for engine in guest.settings.engines:
        (right if _engine_knows(guest, engine) else wrong).append(engine)
    if not wrong:
        return Check("runtime", OK, f"{', '.join(right)} can give GPUs to containers")
    if not guest.has_gpu:
        return _no_gpu("runtime")
    fix = "add it to nvidia_container_toolkit_engines, or: nvidia-ctk runtime configure --runtime=docker, and reload the engine"
    return Check("runtime", ERROR, f"{', '.join(wrong)} does not know the NVIDIA runtime", fix)


def cdi(guest: Guest) -> Check:
    """The CDI specification names files that exist; after an update of the driver an old one does not."""
    path = next((path for path in _CDI_SPECS if guest.machine.exists(path)), None)
    fix = "systemctl start nvidia-cdi-refresh.service, or: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    if path is None:
        if not guest.listed:
            return _no_gpu("cdi") if not guest.has_gpu else Check("cdi", SKIPPED, "the driver does not answer")
        needed = "podman" in guest.settings.engines
        return Check("cdi", ERROR if needed else WARNING, "there is no CDI specification", fix)
    mentioned = re.findall(r"hostPath:\s*[\"']?([^\s\"']+)|\bpath:\s*[\"']?(/dev/[^\s\"']+)", guest.machine.text(path))
    names = sorted({one or other for one, other in mentioned})
    gone = [name for name in names if not guest.machine.exists(name)]
    if gone:
        return Check("cdi", ERROR, f"{path} is out of date: {gone[0]} does not exist", fix)
    return Check("cdi", OK, f"{path} names {len(names)} files, all there")


def container(guest: Guest) -> Check:
    """A container sees the GPU."""
    why_not = _no_container(guest)
    if why_not:
        return Check("container", *why_not)
    results = []
    for engine in _engines_for_containers(guest):
        status, output, error = guest.machine.run(_in_container(guest, engine, "nvidia-smi", ["--list-gpus"]))
        seen = [line for line in output.splitlines() if line.startswith("GPU ")]
        if status or not seen:
            said = _said(output, error) or "nvidia-smi lists no GPU"
            return Check("container", ERROR, f"a container of {engine} does not see the GPU: {said}", "see checks runtime and cdi")
        results.append(f"a container of {engine} sees {len(seen)} GPU")
    return Check("container", OK, "; ".join(results))


def cuda_product(guest: Guest) -> Check:
    """CUDA computes a product whose result is known: in a container where that can be, else on the machine itself."""
    if not guest.listed:
        return _no_gpu("cuda_product") if not guest.has_gpu else Check("cuda_product", SKIPPED, "the driver does not answer")
    program = inspect.getsource(product_program)
    where, outcome = "a container", None
    if _no_container(guest) is None:
        outcome = _outcome(guest, _in_container(guest, _engines_for_containers(guest)[0], "python3", ["-c", program]))
    if outcome is None:
        where, outcome = "this machine", _outcome(guest, ["timeout", str(guest.settings.timeout), guest.settings.python, "-c", program])
    if outcome is None:
        return Check("cuda_product", ERROR, f"the program ended early or took longer than {guest.settings.timeout} s", "see: dmesg | grep -i nvrm")
    if outcome["ok"]:
        return Check("cuda_product", OK, f"{outcome['device']} in {where}: {outcome['detail']}")
    return Check("cuda_product", ERROR, f"in {where}: {outcome['detail']}", "see checks driver and nvidia_smi; a wrong result means broken hardware or memory")


def memory_limit(guest: Guest) -> Check:
    """PyTorch keeps to its share of the GPU memory."""
    why_not = _no_container(guest)
    if why_not:
        return Check("memory_limit", *why_not)
    share = str(guest.settings.memory_fraction)
    engine = _engines_for_containers(guest)[0]
    outcome = _outcome(guest, _in_container(guest, engine, "python3", ["-c", inspect.getsource(limit_program), share]))
    if outcome is None:
        return Check("memory_limit", SKIPPED, f"{guest.settings.image} has no python3, or the program took longer than {guest.settings.timeout} s")
    if outcome["ok"] is None:
        return Check("memory_limit", SKIPPED, f"{outcome['detail']} in {guest.settings.image}")
    fix = "" if outcome["ok"] else "use an image whose PyTorch is built with CUDA, and see docs/gpu.md about limits"
    return Check("memory_limit", OK if outcome["ok"] else ERROR, outcome["detail"], fix)


CHECKS = {
    check.__name__: check for check in (gpu, driver, nvidia_smi, device_nodes, toolkit, runtime, cdi, container, cuda_product, memory_limit)
}


def look(machine: Machine, settings: Settings) -> Guest:
    """Return a machine with what several checks need to know."""
    guest = Guest(machine, settings)
    guest.smi = machine.run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    guest.listed = [line.strip() for line in guest.smi[1].splitlines() if line.strip()] if guest.smi[0] == 0 else []
    return guest


def get_image(guest: Guest) -> None:
    """Find the image, and pull it if that is allowed."""
    if not guest.settings.image:
        return
    engines = _engines_for_containers(guest)
    if engines and guest.settings.pull and guest.has_gpu:
        guest.machine.run(["timeout", str(guest.settings.timeout), engines[0], "pull", "--quiet", guest.settings.image])
    guest.has_image = all(guest.machine.run([engine, "image", "inspect", guest.settings.image])[0] == 0 for engine in engines) and bool(engines)


def _no_gpu(name: str) -> Check:
    return Check(name, SKIPPED, "no NVIDIA GPU")


def _engine_knows(guest: Guest, engine: str) -> bool:
    machine = guest.machine
    if engine == "podman":
        return any(machine.exists(path) for path in _CDI_SPECS)
    if engine == "containerd":
        return "runtimes.nvidia" in machine.text("/etc/containerd/config.toml") + machine.text("/etc/containerd/conf.d/99-nvidia.toml")
    status, output, _error = machine.run(["docker", "info", "--format", "{{json .Runtimes}}"])
    try:
        if status == 0:
            return "nvidia" in (json.loads(output or "{}") or {})
        settings = docker_settings(machine.text("/etc/docker/daemon.json"))
    except ValueError:
        return False
    return docker_has(settings, settings.get("default-runtime") == "nvidia")


def _engines_for_containers(guest: Guest) -> list[str]:
    return [engine for engine in guest.settings.engines if engine != "containerd"]


def _no_container(guest: Guest) -> tuple[str, str, str] | None:
    """Return state, finding and fix of a check that no container can be run for, None if one can."""
    if not guest.has_gpu:
        return SKIPPED, "no NVIDIA GPU", ""
    if not guest.settings.image:
        return SKIPPED, "no image was named to run", "name one that is on this machine, best the one that trains"
    if not _engines_for_containers(guest):
        return SKIPPED, "containerd alone runs no container for a check", ""
    if not guest.has_image:
        fix = "load it, or let it be pulled"
        return WARNING, f"{guest.settings.image} is not on this machine{' and cannot be pulled' if guest.settings.pull else ''}", fix
    return None


def _in_container(guest: Guest, engine: str, program: str, arguments: Sequence[str]) -> list[str]:
    gpus = ["--device", "nvidia.com/gpu=all"] if engine == "podman" else ["--gpus", "all"]
    options = ["run", "--rm", "--pull", "never", "--network", "none", *gpus, "--entrypoint", program]
    return ["timeout", str(guest.settings.timeout), engine, *options, guest.settings.image, *arguments]


def _outcome(guest: Guest, command: Sequence[str]) -> dict | None:
    """Return what a program printed, None if it did not get that far."""
    _status, output, _error = guest.machine.run(command)
    lines = output.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def _said(output: str, error: str) -> str:
    """Return what a program said as one line."""
    return "; ".join(line.strip() for line in (error.strip() or output.strip()).splitlines())
