# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What happens to VMs over time: placement, work of the driver in the background, monitoring."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lab.core import backups, hosts, images, machines, networks, scheduler, schedules
from lab.core.errors import timestamped
from lab.core.markup import attributes
from lab.core.samples import Samples
from lab.core.states import VM_ACTIONS, ImageState, LcmState, NetworkState, VmState
from lab.driver import DriverError, PollResult, VmSpec

if TYPE_CHECKING:
    from lab.core.api import Core

_LOG = logging.getLogger(__name__)
_WORKERS = 4
#: states in which a VM has no host
_NEW = (VmState.INIT, VmState.PENDING, VmState.HOLD, VmState.CLONING, VmState.CLONING_FAILURE)
#: life-cycle states terminate takes a VM out of, besides RUNNING and UNKNOWN
_FAILURES = (LcmState.BOOT_FAILURE, LcmState.EPILOG_FAILURE)
#: life-cycle states in which a machine is given something else
_CHANGES = (
    LcmState.HOTPLUG, LcmState.HOTPLUG_NIC, LcmState.HOTPLUG_NIC_POWEROFF, LcmState.HOTPLUG_PROLOG_POWEROFF,
    LcmState.HOTPLUG_EPILOG_POWEROFF, LcmState.HOTPLUG_RESIZE, LcmState.HOTPLUG_SNAPSHOT, LcmState.HOTPLUG_SAVEAS,
    LcmState.HOTPLUG_SAVEAS_POWEROFF, LcmState.DISK_SNAPSHOT, LcmState.DISK_SNAPSHOT_DELETE,
    LcmState.DISK_SNAPSHOT_POWEROFF, LcmState.DISK_SNAPSHOT_REVERT_POWEROFF, LcmState.DISK_SNAPSHOT_DELETE_POWEROFF,
    LcmState.DISK_RESIZE, LcmState.DISK_RESIZE_POWEROFF, LcmState.BACKUP, LcmState.BACKUP_POWEROFF,
)
#: the same of a machine that is suspended
_OF_SUSPENDED = (LcmState.HOTPLUG_SAVEAS_SUSPENDED, LcmState.DISK_SNAPSHOT_SUSPENDED, LcmState.DISK_SNAPSHOT_DELETE_SUSPENDED)
#: states of a VM that is being resumed or moved, and where it is resumed from
_RESUMES = {
    LcmState.BOOT_POWEROFF: VmState.POWEROFF, LcmState.BOOT_SUSPENDED: VmState.SUSPENDED,
    LcmState.SAVE_MIGRATE: VmState.SUSPENDED, LcmState.BOOT_MIGRATE: VmState.SUSPENDED,
    LcmState.BOOT_STOPPED: VmState.STOPPED, LcmState.BOOT_UNDEPLOY: VmState.UNDEPLOYED,
}
#: states of a VM that leaves its host, and what it becomes
_LEAVES = {
    LcmState.SAVE_STOP: VmState.STOPPED, LcmState.EPILOG_STOP: VmState.STOPPED,
    LcmState.SHUTDOWN_UNDEPLOY: VmState.UNDEPLOYED, LcmState.EPILOG_UNDEPLOY: VmState.UNDEPLOYED,
}
#: what goes on in the states images and networks only pass through
_IMAGE_WORK = {ImageState.LOCKED: images.register, ImageState.DELETE: images.remove}
_NETWORK_WORK = {NetworkState.LOCK_CREATE: networks.create, NetworkState.LOCK_DELETE: networks.remove}
_COUNTERS = ("DISKRDBYTES", "DISKRDIOPS", "DISKWRBYTES", "DISKWRIOPS", "NETRX", "NETTX")


class Lifecycle:
    """Moves VMs, images and networks through their states. Methods are called with the core locked."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="driver")
        #: VMs the driver is at work on, by the number of the work
        self._busy: dict[int, int] = {}
        self._works = 0
        #: one work on a VM at a time
        self._turns: dict[int, threading.Lock] = {}
        #: number of the last work that began or ended with a VM: older polls say nothing about it
        self._changed: dict[int, int] = {}
        self.samples = Samples(core.config.monitor_interval)

    def close(self) -> None:
        """Let work that began end; called without the lock."""
        self._executor.shutdown(cancel_futures=True)

    def tick(self) -> None:
        """Watch hosts and VMs, place pending VMs; called without the lock."""
        core = self._core
        started = self._works
        try:
            seen = core.driver.poll()
        except DriverError as error:
            _LOG.warning("monitoring failed: %s", error)
            seen = None
        devices, reason = [], ""
        try:
            devices = core.driver.devices()
        except DriverError as error:
            reason = str(error)
        with core.locked():
            hosts.monitor(core, devices, reason)
            if seen is not None:
                for vm in core.store.all("vm"):
                    if vm["id"] not in self._busy and self._changed.get(vm["id"], 0) <= started:
                        self._observe(vm, seen.get(vm["id"]))
            schedules.tick(core)
            backups.tick(core)
            scheduler.place(core)

    def adopt(self) -> None:
        """Take up what an earlier process of this zone left: running VMs, and work it could not end."""
        core = self._core
        seen = core.driver.poll()
        with core.locked():
            for vm in core.store.all("vm"):
                self._take_up(vm, seen.get(vm["id"]))
            for image in core.store.all("image"):
                if image["state"] in _IMAGE_WORK:
                    _IMAGE_WORK[image["state"]](core, image["id"])
            for network in core.store.all("vn"):
                if network["state"] in _NETWORK_WORK:
                    _NETWORK_WORK[network["state"]](core, network["id"])

    def work(self, task: Callable[[], object], succeeded: Callable[[object], None],
             failed: Callable[[str], None]) -> None:
        """Run a task of the driver in the background, then one of the two others with the core locked."""
        def run() -> None:
            try:
                result = task()
            except DriverError as error:
                reason = str(error)
            except Exception as error:  # a bug in a driver must not leave an object in a passing state
                _LOG.exception("the driver failed")
                reason = f"{type(error).__name__}: {error}"
            else:
                with self._core.locked():
                    succeeded(result)
                return
            with self._core.locked():
                failed(reason)

        self._executor.submit(run)

    def set_state(self, vm: dict, state: VmState, lcm: LcmState = LcmState.LCM_INIT) -> None:
        vm["state"], vm["lcm"] = state, lcm
        self._core.store.save("vm", vm)

    def image_made(self, image: dict) -> None:
        """Let the VMs go on that wait for an image and for no other; one that could not be made fails them."""
        for vm in self._core.store.all("vm"):
            if vm["state"] != VmState.CLONING or vm["id"] not in image["vms"]:
                continue
            used = [disk for disk in vm["template"]["DISK"] if "IMAGE_ID" in disk]
            made = {disk["IMAGE_ID"]: self._core.store.get("image", int(disk["IMAGE_ID"])) for disk in used}
            for disk in used:
                source = made[disk["IMAGE_ID"]]
                if disk.get("CLONING") and not images.is_in_work(source):
                    del disk["CLONING"]
                    disk |= {"SOURCE": source["source"], "DRIVER": source["format"], "FORMAT": source["format"],
                             "IMAGE_STATE": str(int(source["state"]))}
            if image["state"] == ImageState.ERROR:
                self.set_state(vm, VmState.CLONING_FAILURE)
            elif not any(disk.get("CLONING") for disk in used):
                self.set_state(vm, VmState.HOLD if vm["template"].get("SUBMIT_ON_HOLD") == "YES" else VmState.PENDING)

    def note_action(self, vm: dict, user: dict, action: int) -> None:
        """Note in the VM's history who asked for what."""
        if vm["history"]:
            vm["history"][-1].update(ACTION=action, UID=user["id"], GID=user["gid"])

    def can_terminate(self, vm: dict, hard: bool) -> bool:
        if vm["state"] != VmState.ACTIVE:
            return True
        possible = (LcmState.RUNNING, LcmState.UNKNOWN, *_FAILURES)
        return vm["lcm"] in possible or (hard and vm["lcm"] == LcmState.SHUTDOWN)

    def place(self, vm: dict, host: dict, datastore_id: int = -1) -> None:
        """Put a pending VM on a host, in a datastore (-1: in the one it was in, or the default), and boot it."""
        system = self._system(vm, datastore_id)
        vm["template"]["TM_MAD_SYSTEM"] = system["template"]["TM_MAD"]
        if vm["user_template"].pop("SCHED_MESSAGE", None) is not None and self._core.config.release.keeps_message:
            vm["user_template"]["SCHED_MESSAGE"] = ""
        back = {VM_ACTIONS["stop"]: LcmState.BOOT_STOPPED, VM_ACTIONS["undeploy"]: LcmState.BOOT_UNDEPLOY,
                VM_ACTIONS["undeploy-hard"]: LcmState.BOOT_UNDEPLOY}
        left = back.get(vm["history"][-1]["ACTION"]) if vm["history"] else None
        self._enter(vm, host, system)
        if left is None:
            self.deploy(vm)
            return
        self.set_state(vm, VmState.ACTIVE, left)
        self._drive(vm, self._core.driver.resume, lambda: self._running(vm),
                    lambda reason: self._failed_boot(vm, f"RESTART: {reason}"))

    def leave(self, vm: dict, stopped: bool, hard: bool) -> None:
        """Take a VM off its host: stopped with what it has in memory, or shut down."""
        vm["resched"] = False
        self.set_state(vm, VmState.ACTIVE, LcmState.SAVE_STOP if stopped else LcmState.SHUTDOWN_UNDEPLOY)
        self._stop_clock(vm)

        def left() -> None:
            vm["host"] = None
            self.set_state(vm, VmState.STOPPED if stopped else VmState.UNDEPLOYED)

        self._drive(vm, lambda spec: self._core.driver.poweroff(spec, hard), left,
                    lambda reason: self._still_running(vm, reason))

    def recreate(self, vm: dict) -> None:
        """Throw a VM's machine away and let the scheduler place it anew."""
        had_machine = vm["state"] in (VmState.ACTIVE, VmState.POWEROFF, VmState.SUSPENDED, VmState.STOPPED, VmState.UNDEPLOYED)
        self._stop_clock(vm)

        def anew() -> None:
            vm["host"], vm["deploy_id"] = None, ""
            self.set_state(vm, VmState.PENDING)

        if not had_machine:
            anew()
            return
        self.set_state(vm, VmState.ACTIVE, LcmState.CLEANUP_RESUBMIT)
        self._drive(vm, lambda spec: self._core.driver.shutdown(spec, True), anew,
                    lambda reason: self._failed_boot(vm, f"CLEANUP: {reason}"))

    def _failed_boot(self, vm: dict, reason: str) -> None:
        vm["user_template"]["ERROR"] = timestamped(self._core, reason)
        self.set_state(vm, VmState.ACTIVE, LcmState.BOOT_FAILURE)

    def can_migrate(self, vm: dict) -> bool:
        return vm["state"] == VmState.POWEROFF or (
            vm["state"] == VmState.ACTIVE and vm["lcm"] in (LcmState.RUNNING, LcmState.UNKNOWN)
        )

    def migrate(self, vm: dict, host: dict, datastore_id: int = -1) -> None:
        """Move a VM to another host or datastore (not -1), cold: one that runs is saved on its host and goes on there."""
        core, system = self._core, self._system(vm, datastore_id)
        vm["resched"] = False

        def enter() -> None:
            vm["history"][-1]["ACTION"] = VM_ACTIONS["migrate"]
            self._stop_clock(vm)
            self._enter(vm, host, system)

        if vm["state"] == VmState.POWEROFF:
            enter()
            core.store.save("vm", vm)
            return
        self.set_state(vm, VmState.ACTIVE, LcmState.SAVE_MIGRATE)

        def move(spec: VmSpec) -> None:
            core.driver.suspend(spec)
            with core.locked():
                if vm["lcm"] == LcmState.SAVE_MIGRATE:
                    enter()
                    self.set_state(vm, VmState.ACTIVE, LcmState.BOOT_MIGRATE)
            core.driver.resume(spec)

        self._drive(vm, move, lambda: self._running(vm), lambda reason: self._still_running(vm, reason))

    def _system(self, vm: dict, datastore_id: int) -> dict:
        """Return the datastore a VM is to be in."""
        there = vm["history"][-1]["DS_ID"] if vm["history"] else 0
        return self._core.store.get("datastore", there if datastore_id == -1 else datastore_id)

    def _enter(self, vm: dict, host: dict, system: dict) -> None:
        """Note that a VM is on a host, in a datastore, from now on."""
        vm["host"] = host["id"]
        vm["history"].append({
            "HOSTNAME": host["name"], "HID": host["id"], "TM_MAD": system["template"]["TM_MAD"], "DS_ID": system["id"],
            "STIME": self._core.now(), "RSTIME": 0, "ETIME": 0, "ACTION": 0, "UID": -1, "GID": -1,
        })

    def deploy(self, vm: dict) -> None:
        """Boot a VM on its host: PROLOG, BOOT, then RUNNING, or BOOT_FAILURE with the driver's reason."""
        core = self._core
        self.set_state(vm, VmState.ACTIVE, LcmState.PROLOG)

        def boot(spec: VmSpec) -> None:
            with core.locked():
                vm["history"][-1]["RSTIME"] = core.now()
                if vm["lcm"] == LcmState.PROLOG:
                    self.set_state(vm, VmState.ACTIVE, LcmState.BOOT)
            core.driver.deploy(spec)

        def failed(reason: str) -> None:
            self._failed_boot(vm, f"DEPLOY: {reason}")

        def booted() -> None:
            vm["deploy_id"] = f"one-{vm['id']}"
            self._running(vm)

        self._drive(vm, boot, booted, failed)

    def terminate(self, vm: dict, hard: bool) -> None:
        """End a VM and give back what it held; it becomes DONE."""
        core = self._core
        if vm["state"] in _NEW:
            self._done(vm)
            return
        # Without a shutdown to wait for what takes time is clearing away.
        off = vm["state"] != VmState.ACTIVE
        self.set_state(vm, VmState.ACTIVE, LcmState.EPILOG if hard or off else LcmState.SHUTDOWN)
        self._stop_clock(vm)

        def failed(reason: str) -> None:
            vm["user_template"]["ERROR"] = timestamped(core, f"EPILOG: {reason}")
            self.set_state(vm, VmState.ACTIVE, LcmState.EPILOG_FAILURE)

        self._drive(vm, lambda spec: core.driver.shutdown(spec, hard), lambda: self._done(vm), failed)

    def delete(self, vm: dict) -> None:
        """End a VM whatever it is doing."""
        if vm["state"] not in (*_NEW, VmState.DONE):
            self.terminate(vm, hard=True)
        else:
            self._done(vm)

    def poweroff(self, vm: dict, hard: bool) -> None:
        vm["resched"] = False
        self.set_state(vm, VmState.ACTIVE, LcmState.SHUTDOWN_POWEROFF)
        self._drive(vm, lambda spec: self._core.driver.poweroff(spec, hard),
                    lambda: self.set_state(vm, VmState.POWEROFF), lambda reason: self._still_running(vm, reason))

    def suspend(self, vm: dict) -> None:
        vm["resched"] = False
        self.set_state(vm, VmState.ACTIVE, LcmState.SAVE_SUSPEND)
        self._drive(vm, self._core.driver.suspend, lambda: self.set_state(vm, VmState.SUSPENDED),
                    lambda reason: self._still_running(vm, reason))

    def resume(self, vm: dict) -> None:
        asleep = VmState.SUSPENDED if vm["state"] == VmState.SUSPENDED else VmState.POWEROFF
        self.set_state(
            vm, VmState.ACTIVE, LcmState.BOOT_SUSPENDED if asleep == VmState.SUSPENDED else LcmState.BOOT_POWEROFF
        )

        def failed(reason: str) -> None:
            vm["user_template"]["ERROR"] = timestamped(self._core, f"RESTART: {reason}")
            self.set_state(vm, asleep)

        self._drive(vm, self._core.driver.resume, lambda: self._running(vm), failed)

    def reboot(self, vm: dict, hard: bool) -> None:
        def cycle(spec: VmSpec) -> None:
            self._core.driver.poweroff(spec, hard)
            self._core.driver.resume(spec)

        self._drive(vm, cycle, lambda: self._running(vm), lambda reason: self._still_running(vm, reason))

    def pass_through(self, vm: dict, passing: LcmState, done: Callable[[], None]) -> None:
        """Let a VM pass through a state in which nothing is left for the driver to do."""
        asleep = vm["state"]
        self.set_state(vm, VmState.ACTIVE, passing)

        def ended() -> None:
            done()
            self.set_state(vm, asleep, LcmState.RUNNING if asleep == VmState.ACTIVE else LcmState.LCM_INIT)

        self._drive(vm, lambda _spec: None, ended, lambda _reason: ended())

    def save_disk(self, vm: dict, disk_id: int, image: dict) -> None:
        """Let the driver make an image of a disk of a VM, which is in no other work until that is done."""
        driver, wanted, asleep = self._core.driver, images.spec(image), vm["state"]
        states = {VmState.ACTIVE: LcmState.HOTPLUG_SAVEAS, VmState.POWEROFF: LcmState.HOTPLUG_SAVEAS_POWEROFF}
        self.set_state(vm, VmState.ACTIVE, states.get(asleep, LcmState.HOTPLUG_SAVEAS_SUSPENDED))

        def save(spec: VmSpec) -> None:
            try:
                size_mb = driver.save_disk(spec, disk_id, wanted)
            except DriverError as error:
                with self._core.locked():
                    images.broke(self._core, wanted.id, f"Error saving disk {disk_id} of VM {spec.id}: {error}")
            else:
                with self._core.locked():
                    images.made(self._core, wanted, size_mb)

        def ended() -> None:
            self.set_state(vm, asleep, LcmState.RUNNING if asleep == VmState.ACTIVE else LcmState.LCM_INIT)

        self._drive(vm, save, ended, lambda _reason: ended())

    def change(self, vm: dict, passing: LcmState, done: Callable[[], None], undo: Callable[[], None], context_only: bool = False) -> None:
        """Let the driver take over a change of a VM that runs or is powered off."""
        powered_off = vm["state"] == VmState.POWEROFF
        self.set_state(vm, VmState.ACTIVE, passing)

        def succeeded() -> None:
            done()
            self._back(vm, powered_off)

        def failed(reason: str) -> None:
            undo()
            vm["user_template"]["ERROR"] = timestamped(self._core, reason)
            self._back(vm, powered_off)

        driver = self._core.driver
        self._drive(vm, driver.change_context if context_only else driver.change, succeeded, failed)

    def _back(self, vm: dict, powered_off: bool) -> None:
        if powered_off:
            self.set_state(vm, VmState.POWEROFF)
        else:
            self.set_state(vm, VmState.ACTIVE, LcmState.RUNNING)

    def _drive(self, vm: dict, task: Callable[[VmSpec], None], succeeded: Callable[[], None],
               failed: Callable[[str], None]) -> None:
        """Let the driver work on a VM; only the newest work on it decides how it goes on."""
        spec = machines.spec(self._core, vm)
        self._works += 1
        number = self._busy[vm["id"]] = self._changed[vm["id"]] = self._works
        turn = self._turns.setdefault(vm["id"], threading.Lock())

        def in_turn() -> None:
            with turn:
                if self._busy.get(vm["id"]) == number:
                    task(spec)

        def finish(then: Callable[[], None]) -> None:
            if self._busy.get(vm["id"]) == number:
                self._works += 1
                self._changed[vm["id"]] = self._works
                del self._busy[vm["id"]]
                then()

        self.work(in_turn, lambda _result: finish(succeeded), lambda reason: finish(lambda: failed(reason)))

    def _running(self, vm: dict) -> None:
        vm["user_template"].pop("ERROR", None)
        self.set_state(vm, VmState.ACTIVE, LcmState.RUNNING)

    def _still_running(self, vm: dict, reason: str) -> None:
        vm["user_template"]["ERROR"] = timestamped(self._core, reason)
        self.set_state(vm, VmState.ACTIVE, LcmState.RUNNING)

    def _stop_clock(self, vm: dict) -> None:
        if vm["history"]:
            vm["history"][-1]["ETIME"] = self._core.now()

    def _done(self, vm: dict) -> None:
        machines.release_resources(self._core, vm)
        vm["etime"] = self._core.now()
        self.samples.forget("vm", vm["id"])
        self._turns.pop(vm["id"], None)
        self.set_state(vm, VmState.DONE)

    def _observe(self, vm: dict, result: PollResult | None) -> None:
        """Take over what the driver sees of a VM nobody is working on."""
        active = vm["state"] == VmState.ACTIVE and vm["lcm"] in (LcmState.RUNNING, LcmState.UNKNOWN)
        if not active and vm["state"] != VmState.POWEROFF:
            return
        state = result.state if result else "poweroff"
        if state == "running":
            if not active or vm["lcm"] == LcmState.UNKNOWN:
                self._running(vm)
            self.samples.add("vm", vm["id"], self._sample(vm, result))
        elif state == "failed" and active and vm["lcm"] == LcmState.RUNNING:
            vm["user_template"]["ERROR"] = timestamped(self._core, result.message)
            self.set_state(vm, VmState.ACTIVE, LcmState.UNKNOWN)
        elif state == "poweroff" and active:
            self.set_state(vm, VmState.POWEROFF)

    def _sample(self, vm: dict, result: PollResult) -> dict:
        values = dict.fromkeys(_COUNTERS, "0") | {
            "CPU": f"{result.cpu:g}", "ID": str(vm["id"]), "MEMORY": str(result.memory_kb),
            "TIMESTAMP": str(self._core.now()),
        }
        return attributes(values)

    def _take_up(self, vm: dict, result: PollResult | None) -> None:
        if vm["state"] != VmState.ACTIVE:
            return
        lcm = LcmState(vm["lcm"])
        if lcm in (LcmState.PROLOG, LcmState.BOOT, *_RESUMES):
            if result and result.state == "running":
                self._running(vm)
            elif lcm in _RESUMES:
                self.set_state(vm, _RESUMES[lcm])
            else:
                vm["user_template"]["ERROR"] = timestamped(self._core, "DEPLOY: the zone stopped during the boot")
                self.set_state(vm, VmState.ACTIVE, LcmState.BOOT_FAILURE)
        elif lcm in _LEAVES:
            self.leave(vm, stopped=_LEAVES[lcm] == VmState.STOPPED, hard=True)
        elif lcm == LcmState.CLEANUP_RESUBMIT:
            self.recreate(vm)
        elif lcm in _CHANGES:
            self._back(vm, powered_off=lcm.name.endswith("POWEROFF"))
        elif lcm in (LcmState.EPILOG, LcmState.SHUTDOWN):
            self.terminate(vm, hard=True)
        elif lcm == LcmState.SHUTDOWN_POWEROFF:
            self.poweroff(vm, hard=True)
        elif lcm in _OF_SUSPENDED or lcm == LcmState.SAVE_SUSPEND and result and result.state == "suspended":
            self.set_state(vm, VmState.SUSPENDED)
        elif lcm == LcmState.SAVE_SUSPEND:
            self.set_state(vm, VmState.ACTIVE, LcmState.RUNNING)
