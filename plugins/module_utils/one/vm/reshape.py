# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the size, configuration and devices of VMs, so that a step which fails takes nothing away.

What is new is attached before anything is detached. Where the server refuses that because of something that goes anyway,
such as an interface with the same address, that goes first, and comes back if the new one still cannot be attached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..core import states
from ..transport.client import Client
from ..transport.errors import QUOTA, WRONG_STATE, OneException
from ..transport.template import render
from . import facts as vm_facts
from .desired import Plan
from .devices import attribute_of, present
from .wait import VmsWait

_UPDATE_MERGE = 1
# By option of the task: the id of a device, and the methods that detach and attach one.
_CALLS = {
    "nics": ("NIC_ID", "one.vm.detachnic", "one.vm.attachnic"),
    "disks": ("DISK_ID", "one.vm.detach", "one.vm.attach"),
    "pcis": ("PCI_ID", "one.vm.detachpci", "one.vm.attachpci"),
}
# What says of a device that was detached how it has to be attached again.
_SAME_AGAIN = {
    "nics": ("NETWORK_ID", "IP", "IP6", "MODEL", "SECURITY_GROUPS", "TYPE", "SHORT_ADDRESS", "PROFILE"),
    "disks": ("IMAGE_ID", "DEV_PREFIX", "TARGET"),
    "pcis": ("SHORT_ADDRESS", "PROFILE"),
}
_LABELS = {"nics": "interface", "disks": "disk", "pcis": "PCI device"}
# More VMs than this in one message help nobody.
_NAMED = 3


class Step(NamedTuple):
    """One call. option and device: what it attaches, detaches or enlarges; gain: how many devices more there are then.

    told: the configuration that it gives to the VM.
    """

    call: tuple
    option: str = ""
    device: dict | None = None
    gain: int = 0
    told: dict | None = None


@dataclass
class Job:
    """What is left to do with one VM, what was asked of it last, and what has to come back if that fails."""

    vm: dict
    steps: list[Step]
    asked: Step | None = None
    undo: Step | None = None


class Reshaping:
    """The changes of size, configuration, interfaces, disks and PCI devices of VMs.

    plans: one for each VM. wait: makes a wait for VMs. Everything raises OneException.
    """

    def __init__(self, client: Client, plans: list[Plan], wait: Callable[[Iterable[dict]], VmsWait]) -> None:
        self._client = client
        self._wait = wait
        self._jobs = [Job(plan.vm, _steps(plan)) for plan in plans]

    def apply(self) -> None:
        """Do the first thing with each VM, then the second and so on: the server takes one at a time of each."""
        jobs = self._jobs
        while jobs := [job for job in jobs if job.steps]:
            before = self._current(jobs)
            for job in jobs:
                self._ask(job)
            self._check(jobs, before)
            for job in jobs:
                if job.asked.gain > 0:
                    job.undo = None

    def undo(self) -> None:
        """Attach again what was detached to make room for something that could not be attached."""
        jobs = [job for job in self._jobs if job.undo]
        if not jobs:
            return
        self._wait(self._current(jobs).values()).settle()
        before = self._current(jobs)
        for job in jobs:
            job.asked, job.undo = job.undo, None
            self._client.call(*job.asked.call)
        self._check(jobs, before)

    def standing(self) -> str:
        """Return how the VMs are now, as far as the server says so; nothing if none was to be changed."""
        if not self._jobs:
            return ""
        try:
            vms = list(self._current(self._jobs).values())
        except OneException:
            return " How it is now is not known; the next run goes on from there."
        named = "; ".join(_described(vm) for vm in vms[:_NAMED])
        more = f"; and {len(vms) - _NAMED} more" if len(vms) > _NAMED else ""
        return f" Now {named}{more}. The next run goes on from there."

    def _ask(self, job: Job) -> None:
        step = job.steps.pop(0)
        try:
            self._client.call(*step.call)
        except OneException as error:
            rival = _rival(step, job.steps, error)
            if job.undo or rival is None:
                raise
            self._client.call(*rival.call)
            job.steps.remove(rival)
            job.steps.insert(0, step)
            job.undo = _again(int(job.vm["ID"]), rival)
            step = rival
        job.asked = step

    def _check(self, jobs: list[Job], before: dict[int, dict]) -> None:
        """Wait until what was asked is done. before: the VMs from before, by id."""
        after = {int(vm["ID"]): vm for vm in self._wait(before.values()).rest()}
        for job in jobs:
            number = int(job.vm["ID"])
            _check_done(job.asked, before[number], after[number])

    def _current(self, jobs: list[Job]) -> dict[int, dict]:
        """Return the VMs as they are now, by id."""
        found = vm_facts.by_id(self._client, (int(job.vm["ID"]) for job in jobs))
        return {int(job.vm["ID"]): found.get(int(job.vm["ID"]), job.vm) for job in jobs}


def _steps(plan: Plan) -> list[Step]:
    """Return what has to be done to a VM: all that adds something comes before what takes something away."""
    number = int(plan.vm["ID"])
    changed, added, removed = [], [], []
    if plan.size:
        enforce_capacity = True
        changed.append(Step(("one.vm.resize", number, render(plan.size), enforce_capacity)))
    if plan.configuration:
        changed.append(Step(("one.vm.updateconf", number, render(plan.configuration), _UPDATE_MERGE), told=plan.configuration))
    for option, devices in plan.devices.items():
        changed += [
            Step(("one.vm.attachsg", number, nic, group)) for nic, groups in devices.groups.items() for group in groups
        ]
        changed += [_enlarge(number, disk, size) for disk, size in devices.sizes.items()]
        added += [_attach(number, option, device) for device in devices.attach]
        removed += [_detach(number, option, device) for device in devices.detach]
    return changed + added + removed


def _attach(number: int, option: str, device: dict) -> Step:
    _key, _detach_method, method = _CALLS[option]
    return Step((method, number, render({attribute_of(option, device): device})), option, device, 1)


def _detach(number: int, option: str, device: dict) -> Step:
    key, method, _attach_method = _CALLS[option]
    return Step((method, number, int(device[key])), option, device, -1)


def _enlarge(number: int, disk: int, size: int) -> Step:
    wanted = {"DISK_ID": str(disk), "SIZE": str(size)}
    return Step(("one.vm.diskresize", number, disk, wanted["SIZE"]), "disks", wanted)


def _rival(step: Step, left: list[Step], error: OneException) -> Step | None:
    """Return the step that detaches what may stand in the way of a device that could not be attached, None without one.

    A disk is none unless what is on it is kept.
    """
    if step.gain <= 0:
        return None
    leaving = [other for other in left if other.gain < 0 and other.option == step.option]
    if step.option == "disks":
        leaving = [other for other in leaving if other.device.get("PERSISTENT") == "YES"]
    names = {"nics": ("IP", "MAC", "NETWORK_ID"), "disks": ("TARGET",), "pcis": ("SHORT_ADDRESS",)}[step.option]
    for name in names:
        wanted = step.device.get(name)
        for other in leaving:
            if wanted and wanted == other.device.get(name):
                return other
    return leaving[0] if leaving and error.kind == QUOTA else None


def _again(number: int, detached: Step) -> Step:
    """Return the step that attaches a device as it was."""
    names = _SAME_AGAIN[detached.option]
    device = {name: detached.device[name] for name in names if detached.device.get(name)}
    return _attach(number, detached.option, device)


def _check_done(step: Step, before: dict, after: dict) -> None:
    """Raise OneException for a device that the driver did not attach, detach or enlarge, or what the server did not take."""
    if step.told:
        from .attributes import check_taken

        check_taken(after, step.told)
    if not step.option:
        return
    there = present(after, step.option)
    if step.gain:
        done = "attached" if step.gain > 0 else "detached"
        is_done = len(there) == _count(before, step.option) + step.gain
    else:
        done = "enlarged"
        is_done = any(all(device.get(name) == value for name, value in step.device.items()) for device in there)
    if not is_done:
        raise OneException(
            WRONG_STATE,
            f"{vm_facts.label(after)} is {states.vm_state(after)}, but its {_LABELS[step.option]} was not {done}; "
            "the logs of the VM and the server say why.",
        )


def _count(vm: dict, option: str) -> int:
    return len(present(vm, option))


def _described(vm: dict) -> str:
    counted = {label: _count(vm, option) for option, label in _LABELS.items()}
    devices = [f"{number} {label}{'' if number == 1 else 's'}" for label, number in counted.items()]
    return f"{vm_facts.label(vm)} is {states.vm_state(vm)} with {', '.join(devices)}"
