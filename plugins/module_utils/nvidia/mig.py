# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts of MIG (Multi-Instance GPU): read from nvidia-smi, compared with what is wanted, and the commands between the two."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Runs an argument list; returns status, standard output and standard error.
Run = Callable[[Sequence[str]], "tuple[int, str, str]"]

_SMI = "nvidia-smi"
_QUERY = "index,uuid,name,memory.total,mig.mode.current,mig.mode.pending"
# | GPU  MIG name  profile ID  ... of the tables that `nvidia-smi mig` prints.
_ROW = re.compile(r"^\|\s+(\d+)\s+MIG\s+(\S+)\s+(\d+)\s+(\S+)", re.MULTILINE)
_PROFILE = re.compile(r"(\d{1,2})g\.(\d{1,4})gb(\+\w+(?:\.\w+)*|-me)?", re.ASCII)
_SLICES = 7
ENABLED, DISABLED = "Enabled", "Disabled"


@dataclass
class Gpu:
    """A GPU as nvidia-smi shows it. Memory in MiB; ``mode`` is Enabled, Disabled, or something else where there is no MIG."""

    index: int
    uuid: str
    name: str
    memory: int
    mode: str
    pending: str
    instances: list[str] = field(default_factory=list)
    # Most instances by profile; empty while MIG is off, when the driver does not tell.
    profiles: dict[str, int] = field(default_factory=dict)
    processes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"GPU {self.index} ({self.name})"


class MigError(Exception):
    """A layout that cannot be had; the message is one sentence."""


def parse_gpus(text: str) -> list[Gpu]:
    """Return the GPUs in nvidia-smi's answer to the query above, as CSV without header and units."""
    gpus = []
    for line in text.strip().splitlines():
        index, uuid, name, memory, mode, pending = (part.strip() for part in line.split(","))
        gpus.append(Gpu(int(index), uuid, name, int(memory) if memory.isdigit() else 0, mode, pending))
    return gpus


def parse_profiles(text: str) -> dict[str, int]:
    """Return how many instances of each profile fit, from `nvidia-smi mig -lgip`."""
    return {name: int(free_and_total.rpartition("/")[2]) for _gpu, name, _id, free_and_total in _ROW.findall(text)}


def parse_instances(text: str) -> list[str]:
    """Return the profiles of the instances in `nvidia-smi mig -lgi`, sorted."""
    return sorted(name for _gpu, name, _id, _instance in _ROW.findall(text))


def parse_processes(text: str) -> dict[str, list[str]]:
    """Return programs by GPU uuid, from `--query-compute-apps=gpu_uuid,pid,process_name`. Those on MIG instances count for their GPU."""
    found: dict[str, list[str]] = {}
    for line in text.strip().splitlines():
        uuid, pid, name = (part.strip() for part in line.split(",", 2))
        found.setdefault(uuid, []).append(f"{name} (process {pid})")
    return found


def answers(run: Run) -> bool:
    """Say whether the driver is there and drives a GPU."""
    return run([_SMI, "--list-gpus"])[0] == 0


def read(run: Run, indices: Iterable[int]) -> list[Gpu]:
    """Return the GPUs of these numbers. Raises MigError."""
    gpus = parse_gpus(_output(run, [_SMI, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]))
    processes = parse_processes(_output(run, [_SMI, "--query-compute-apps=gpu_uuid,pid,process_name", "--format=csv,noheader"]))
    found = []
    for index in indices:
        gpu = next((gpu for gpu in gpus if gpu.index == index), None)
        if gpu is None:
            raise MigError(f"there is no GPU {index}, nvidia-smi shows {', '.join(str(gpu.index) for gpu in gpus) or 'none'}")
        if gpu.mode == ENABLED:
            # With status 6 nvidia-smi says that there is nothing to list.
            gpu.instances = parse_instances(run([_SMI, "mig", "-i", str(index), "-lgi"])[1])
            gpu.profiles = offered(run, gpu)
        gpu.processes = processes.get(gpu.uuid, [])
        found.append(gpu)
    return found


def offered(run: Run, gpu: Gpu) -> dict[str, int]:
    """Return how many instances of each profile fit on a GPU in MIG mode. Raises MigError."""
    profiles = parse_profiles(_output(run, [_SMI, "mig", "-i", str(gpu.index), "-lgip"]))
    if not profiles:
        raise MigError(f"nvidia-smi lists no MIG profiles of {gpu.label}")
    return profiles


def check_layout(layout: Sequence[Mapping[str, Any]]) -> None:
    """Check what needs no GPU: numbers that come twice, and profiles that are none. Raises MigError."""
    numbers = Counter(entry["gpu"] for entry in layout)
    twice = [number for number, times in numbers.items() if times > 1]
    if twice:
        raise MigError(f"GPU {twice[0]} is listed twice in the MIG layout")
    for entry in layout:
        for profile in entry["profiles"]:
            if not _PROFILE.fullmatch(profile):
                raise MigError(f"GPU {entry['gpu']}: '{profile}' is not a valid MIG profile, expected a name such as 1g.10gb")
        slices = sum(int(profile.partition("g")[0]) for profile in entry["profiles"])
        if slices > _SLICES:
            raise MigError(f"GPU {entry['gpu']}: the profiles {', '.join(entry['profiles'])} need {slices} slices, a GPU has {_SLICES}")


def check_profiles(gpu: Gpu, profiles: Sequence[str]) -> None:
    """Check profiles against what a GPU offers. While MIG is off, only their memory can be judged. Raises MigError."""
    if profiles and gpu.mode not in (ENABLED, DISABLED):
        raise MigError(f"{gpu.label} has no MIG")
    if not gpu.profiles:
        for profile in profiles:
            memory = int(_PROFILE.fullmatch(profile).group(2))
            if memory * 1000 > gpu.memory * 1.1:
                raise MigError(f"{gpu.label} does not offer the MIG profile '{profile}': it has {gpu.memory} MiB of memory in all")
        return
    for profile, wanted in Counter(profiles).items():
        if profile not in gpu.profiles:
            raise MigError(f"{gpu.label} does not offer the MIG profile '{profile}'; it offers {', '.join(sorted(gpu.profiles))}")
        if wanted > gpu.profiles[profile]:
            raise MigError(f"{gpu.label} takes {gpu.profiles[profile]} of the MIG profile '{profile}', {wanted} are wanted")


def differs(gpu: Gpu, profiles: Sequence[str]) -> bool:
    """Say whether a GPU has another layout; without profiles MIG is wanted to be off."""
    if not profiles:
        return gpu.mode == ENABLED
    return gpu.mode != ENABLED or gpu.instances != sorted(profiles)


def check_idle(gpu: Gpu) -> None:
    """Refuse to touch a GPU that something runs on. Raises MigError."""
    if gpu.processes:
        raise MigError(f"{gpu.label} is in use by {', '.join(gpu.processes)}, its MIG layout is changed only when nothing runs on it")


def commands(gpu: Gpu, profiles: Sequence[str]) -> list[list[str]]:
    """Return the commands that give an idle GPU another layout, from its mode on."""
    on_gpu = ["-i", str(gpu.index)]
    clear = [[_SMI, "mig", *on_gpu, "-dci"], [_SMI, "mig", *on_gpu, "-dgi"]] if gpu.instances else []
    if not profiles:
        return [*clear, mode_command(gpu, False)]
    return [*clear, *([] if gpu.mode == ENABLED else [mode_command(gpu, True)]), create_command(gpu.index, profiles)]


def mode_command(gpu: Gpu, on: bool) -> list[str]:
    """Return the command that switches MIG on or off."""
    return [_SMI, "-i", str(gpu.index), "-mig", "1" if on else "0"]


def create_command(index: int, profiles: Sequence[str]) -> list[str]:
    """Return the command that makes the instances, the largest first: small ones may leave no place where a large one may begin."""
    largest_first = sorted(profiles, key=lambda profile: [-int(number) for number in _PROFILE.fullmatch(profile).groups()[:2]])
    return [_SMI, "mig", "-i", str(index), "-cgi", ",".join(largest_first), "-C"]


def apply(run: Run, gpu: Gpu, profiles: Sequence[str]) -> None:
    """Give an idle GPU another layout. If MIG was off and a profile turns out to be unknown, it is switched off again. Raises MigError."""
    for command in commands(gpu, profiles):
        _output(run, command)
        if command == mode_command(gpu, True):
            _check_mode(run, gpu)
            try:
                gpu.profiles = offered(run, gpu)
                check_profiles(gpu, profiles)
            except MigError:
                _output(run, mode_command(gpu, False))
                raise


def _check_mode(run: Run, gpu: Gpu) -> None:
    """Refuse to go on when the GPU has to be reset first, which the driver cannot do for every GPU."""
    now = next(other for other in parse_gpus(_output(run, [_SMI, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"])) if other.index == gpu.index)
    if now.mode != ENABLED:
        raise MigError(f"{gpu.label} switches MIG on only when it is reset: run nvidia-smi -i {gpu.index} --gpu-reset or reboot, then run this again")
    gpu.mode = now.mode


def _output(run: Run, command: Sequence[str]) -> str:
    status, output, error = run(command)
    if status:
        said = "; ".join((error.strip() or output.strip()).splitlines())
        raise MigError(f"{' '.join(command)} failed: {said or f'status {status}'}")
    return output
