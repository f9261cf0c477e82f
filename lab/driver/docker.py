# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The driver that boots a virtual machine as a systemd container with its own address, context and Docker engine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from lab.checkout import CHECKOUT, CHECKOUT_LABEL
from lab.driver import PUBLISHED, Driver, DriverError, ImageSpec, NetSpec, NicSpec, PollResult, VmSpec
from lab.driver.context import context_files
from lab.driver.usage import CpuShare
from lab.engine import EngineError, docker, host_address, version

# On a baked appliance: PATH=VOLUME, the volume that belongs to the image.
VOLUME_LABEL = "opennebula.volume"
# On the image of a saved disk; its volume has the same name.
SAVED_LABEL = "opennebula.saved"
ZONE_LABEL = "opennebula.zone"
VM_LABEL = "opennebula.vm"
ENGINE_DIRECTORY = "/var/lib/docker"
# A container has no CD-ROM; the guest agent looks for its files here when there is no device labelled CONTEXT.
CONTEXT_DIRECTORY = "/context"
IMAGE_SCHEME = "container:"
SHUTDOWN_SECONDS = 30
CLONE_SECONDS = 300

# A systemd that manages units, cgroups, sysctls and a Docker engine of its own. All capabilities but the one that a
# machine without it could not grant.
MACHINE_FLAGS = (
    "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
    "--device-cgroup-rule", "a *:* rwm", "--device", "/dev/net/tun",
    "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec",
)  # fmt: skip

# The layers of the inner engine's images never change, so clones share them through hard links; everything else is
# copied. Both volumes lie below /volumes.
CLONE_SCRIPT = """
set -eu
cd "/volumes/$1"
mkdir -p "/volumes/$2/overlay2"
for layer in image/overlay2/layerdb/sha256/*/cache-id; do
    [ ! -f "$layer" ] || cp -al "overlay2/$(cat "$layer")" "/volumes/$2/overlay2/"
done
cp -an . "/volumes/$2/"
"""


class DockerDriver(Driver):
    """Machines are containers one-CHECKOUT-ZONE-ID, their disks volumes one-CHECKOUT-ZONE-ID-N, networks bridges one-CHECKOUT-ZONE-net-ID."""

    name = "docker"

    def __init__(self, zone: str, state_dir: str) -> None:
        """Raises DriverError when no Docker engine answers."""
        self._zone = zone
        self._prefix = machine_prefix(zone)
        self._contexts = Path(state_dir, "context").resolve()
        self._labels = ("--label", CHECKOUT_LABEL, "--label", f"{ZONE_LABEL}={zone}")
        self._ours = ("--filter", f"label={CHECKOUT_LABEL}", "--filter", f"label={ZONE_LABEL}={zone}")
        self._usage = CpuUsage()
        try:
            version()
        except EngineError as error:
            raise DriverError(str(error)) from error

    def host_address(self) -> str:
        """Return the address of the engine's default bridge."""
        try:
            return host_address()
        except EngineError as error:
            raise DriverError(str(error)) from error

    def deploy(self, vm: VmSpec) -> None:
        """Clone the disks and start the container; nothing is left of it when that fails."""
        if not vm.image:
            raise DriverError(f"VM {vm.id} cannot boot: it has no disk with an image.")
        name = self._machine(vm.id)
        context = self._write_context(vm)
        try:
            mount = self._clone_disk(vm)
            first, *others = vm.nics or [None]
            _docker(
                f"VM {vm.id} cannot boot",
                "run", "--detach", "--name", name, "--hostname", name,
                *self._labels, "--label", f"{VM_LABEL}={vm.id}",
                *MACHINE_FLAGS, *_limits(vm), *self._network_flags(first),
                "--volume", f"{context}:{CONTEXT_DIRECTORY}:ro", "--volume", mount,
                vm.image,
            )  # fmt: skip
            for nic in others:
                _docker(f"VM {vm.id} cannot boot", "network", "connect", *_address(nic), self._network(nic.network_id), name)
        except DriverError:
            self._remove(vm.id)
            raise

    def shutdown(self, vm: VmSpec, hard: bool) -> None:
        """Remove the container, its volumes and its context; without `hard` the guest shuts down first."""
        if not hard and self._exists(vm.id):
            self._stop(vm.id)
        self._remove(vm.id)

    def poweroff(self, vm: VmSpec, hard: bool) -> None:
        """Stop the container."""
        if hard:
            _docker(f"VM {vm.id} cannot be powered off", "kill", self._machine(vm.id))
        else:
            self._stop(vm.id)

    def resume(self, vm: VmSpec) -> None:
        """Start the container again, with the context as it is now."""
        self._write_context(vm)
        _docker(f"VM {vm.id} cannot be resumed", "start", self._machine(vm.id))

    def change_context(self, vm: VmSpec) -> None:
        """Rewrite the files that are the CD of the container."""
        self._write_context(vm)

    def poll(self) -> dict[int, PollResult]:
        """Ask the engine for all containers of the zone at once; load comes from the kernel's own counters."""
        listed = _docker(
            "The machines of the zone cannot be monitored",
            # What clones a disk is no machine.
            "ps", "--all", "--no-trunc", *self._ours, "--filter", f"label={VM_LABEL}",
            "--format", f'{{{{.Label "{VM_LABEL}"}}}}\t{{{{.ID}}}}\t{{{{.State}}}}\t{{{{.Status}}}}',
        )  # fmt: skip
        found = {}
        for line in listed.splitlines():
            vm_id, container, state, status = line.split("\t")
            if state == "running":
                cpu, memory_kb = self._usage.of(container)
                found[int(vm_id)] = PollResult("running", cpu, memory_kb)
            elif state == "exited":
                found[int(vm_id)] = PollResult("poweroff", message=status)
            elif state != "created":  # created: deploy() is just at it
                found[int(vm_id)] = PollResult("failed", message=status)
        return found

    def create_network(self, net: NetSpec) -> None:
        """Make a bridge without masquerading: its machines reach this host and each other, nothing else."""
        name = self._network(net.id)
        if _docker("Networks cannot be listed", "network", "ls", "--quiet", "--filter", f"name=^{name}$"):
            return
        subnet = ("--subnet", net.subnet) if net.subnet else ()
        gateway = ("--gateway", net.gateway) if net.subnet and net.gateway else ()
        _docker(
            f"Network {net.name} {net.subnet} cannot be made",
            "network", "create", *self._labels, *subnet, *gateway,
            "--opt", "com.docker.network.bridge.enable_ip_masquerade=false", name,
        )  # fmt: skip

    def delete_network(self, net: NetSpec) -> None:
        """Remove the bridge."""
        name = self._network(net.id)
        if _docker("Networks cannot be listed", "network", "ls", "--quiet", "--filter", f"name=^{name}$"):
            _docker(f"Network {net.name} cannot be removed", "network", "rm", name)

    def register_image(self, image: ImageSpec) -> int:
        """Pin container:NAME:TAG, or what was published, to the id it has now; return its size in MB, with the volume's when it names one."""
        published = PUBLISHED.fullmatch(image.path)
        if not image.path.startswith(IMAGE_SCHEME) and not published:
            raise DriverError(f"Image {image.name}: PATH {image.path} does not begin with {IMAGE_SCHEME}.")
        reference = self._published(published[1]) if published else image.path.removeprefix(IMAGE_SCHEME)
        facts = _inspect_image(f"Image {image.name} cannot be registered", reference)
        volume = _prepared_volume(facts)
        if volume:
            _docker(f"Image {image.name} cannot be registered", "volume", "inspect", volume[1])
        image.source = facts["Id"]
        return max(1, facts["Size"] >> 20)

    def publish_image(self, image: ImageSpec) -> str:
        """Give the engine's image a name of the marketplace; a container image has no MD5 sum, so that half of its own digest stands for it."""
        what = f"Image {image.name} cannot be published"
        digest = _inspect_image(what, image.source)["Id"].removeprefix("sha256:")[:32]
        _docker(what, "tag", image.source, self._published(digest))
        return digest

    def save_disk(self, vm: VmSpec, disk_id: int, image: ImageSpec) -> int:
        """Make an image of the container and of the volume of its inner engine; return their size in MB."""
        what = f"Disk {disk_id} of VM {vm.id} cannot be saved"
        if disk_id != 0:
            raise DriverError(f"{what}: a machine of the driver {self.name} has no other disk than 0.")
        (volume, path), saved = self._mounted(what, vm.id), self._saved(image.id)
        _docker(what, "volume", "create", *self._labels, saved)
        self._clone_volume(what, vm.image, volume, saved)
        label = f"LABEL {SAVED_LABEL}={saved} {VOLUME_LABEL}={path}={saved}"
        _docker(what, "commit", "--change", label, self._machine(vm.id), f"{saved}:latest", timeout=CLONE_SECONDS)
        facts = _inspect_image(what, saved)
        image.source = facts["Id"]
        return max(1, facts["Size"] >> 20)

    def delete_image(self, image: ImageSpec) -> None:
        """Forget the image; but for a saved disk, the engine's image and volume belong to whoever made them."""
        what, saved = f"Image {image.name} cannot be removed", self._saved(image.id)
        if _docker(what, "image", "ls", "--quiet", "--filter", f"reference={saved}"):
            _docker(what, "image", "rm", "--force", saved)
        _docker(what, "volume", "rm", "--force", saved)

    def clean(self) -> None:
        """Remove every container, volume, network and context of the zone, known to it or not."""
        what = f"The zone {self._zone} cannot be cleaned"
        for listing, removal in (
            (("ps", "--all"), ("rm", "--force", "--volumes")),
            (("volume", "ls"), ("volume", "rm", "--force")),
            (("network", "ls"), ("network", "rm")),
        ):
            names = _docker(what, *listing, "--quiet", *self._ours).split()
            if names:
                _docker(what, *removal, *names)
        names = ("--filter", f"reference={self._published('*')}"), ("--filter", f"label={SAVED_LABEL}", *self._ours)
        for selection in names:
            images = _docker(what, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *selection).split()
            if images:
                _docker(what, "image", "rm", "--force", *images)
        shutil.rmtree(self._contexts, ignore_errors=True)

    def _machine(self, vm_id: int) -> str:
        return f"{self._prefix}-{vm_id}"

    def _disk(self, vm_id: int) -> str:
        return f"{self._prefix}-{vm_id}-0"

    def _published(self, digest: str) -> str:
        return f"{self._prefix}-app:{digest}"

    def _saved(self, image_id: int) -> str:
        return f"{self._prefix}-image-{image_id}"

    def _network(self, network_id: int) -> str:
        return f"{self._prefix}-net-{network_id}"

    def _network_flags(self, nic: NicSpec | None) -> list[str]:
        # No hardware address: clients from 28 on refuse it for older engines, so the guest agent sets it.
        if nic is None:
            return ["--network", "none"]
        return ["--network", self._network(nic.network_id), *_address(nic)]

    def _write_context(self, vm: VmSpec) -> Path:
        """Write what OpenNebula puts on the context CD-ROM; return its directory."""
        files = context_files(vm)
        directory = self._contexts / str(vm.id)
        directory.mkdir(parents=True, exist_ok=True)
        if "token.txt" not in files:
            (directory / "token.txt").unlink(missing_ok=True)
        # context.sh is the last one, and in one step: a machine that runs takes its change for a changed CD.
        for name in sorted(files, reverse=True):
            _write_private(directory / name, files[name])
        return directory

    def _clone_disk(self, vm: VmSpec) -> str:
        """Make the volume for the inner engine, from the image's prepared one if it has one; return VOLUME:PATH."""
        what = f"VM {vm.id} cannot boot"
        prepared = _prepared_volume(_inspect_image(what, vm.image))
        disk = self._disk(vm.id)
        _docker(what, "volume", "create", *self._labels, "--label", f"{VM_LABEL}={vm.id}", disk)
        if prepared is None:
            return f"{disk}:{ENGINE_DIRECTORY}"
        path, source = prepared
        self._clone_volume(what, vm.image, source, disk)
        return f"{disk}:{path}"

    def _clone_volume(self, what: str, image: str, source: str, target: str) -> None:
        """Fill an empty volume from another one, with the shell of an image."""
        points = _docker(what, "volume", "inspect", "--format", "{{.Mountpoint}}", source, target).splitlines()
        root = os.path.commonpath(points)
        _docker(
            what,
            "run", "--rm", *self._labels, "--network", "none", "--user", "root", "--entrypoint", "/bin/sh",
            "--volume", f"{root}:/volumes", image,
            "-c", CLONE_SCRIPT, "clone", *(os.path.relpath(point, root) for point in points),
            timeout=CLONE_SECONDS,
        )  # fmt: skip

    def _mounted(self, what: str, vm_id: int) -> tuple[str, str]:
        """Return the name of the volume of a machine's inner engine and where it is mounted."""
        mounts = json.loads(_docker(what, "container", "inspect", "--format", "{{json .Mounts}}", self._machine(vm_id)))
        return next((mount["Name"], mount["Destination"]) for mount in mounts if mount.get("Name") == self._disk(vm_id))

    def _exists(self, vm_id: int) -> bool:
        return bool(_docker("Machines cannot be listed", "ps", "--all", "--quiet", "--filter", f"name=^{self._machine(vm_id)}$"))

    def _stop(self, vm_id: int) -> None:
        _docker(
            f"VM {vm_id} cannot be shut down", "stop", "--time", str(SHUTDOWN_SECONDS), self._machine(vm_id), timeout=2 * SHUTDOWN_SECONDS
        )

    def _remove(self, vm_id: int) -> None:
        what = f"VM {vm_id} cannot be removed"
        if self._exists(vm_id):
            _docker(what, "rm", "--force", "--volumes", self._machine(vm_id))
        _docker(what, "volume", "rm", "--force", self._disk(vm_id))
        shutil.rmtree(self._contexts / str(vm_id), ignore_errors=True)


def machine_prefix(zone: str) -> str:
    """Return what the names of everything begin with that the driver makes for a zone of this checkout."""
    return f"one-{CHECKOUT}-{zone}"


class CpuUsage:
    """CPU and memory of containers, read from the control groups (version 1 or 2) of this machine."""

    # directories of a container's CPU and memory counters, as the engine's two cgroup drivers name them
    GROUPS = (
        ("cpuacct/docker/{id}", "memory/docker/{id}"),
        ("cpuacct/system.slice/docker-{id}.scope", "memory/system.slice/docker-{id}.scope"),
        ("system.slice/docker-{id}.scope", "system.slice/docker-{id}.scope"),
        ("docker/{id}", "docker/{id}"),
    )

    def __init__(self, root: str = "/sys/fs/cgroup") -> None:
        self._root = Path(root)
        self._share = CpuShare()

    def of(self, container: str) -> tuple[float, int]:
        """Return percent of one core since the last call for this container, and KiB in use; zeros when unknown."""
        counted = self._counted(container)
        return (self._share.of(container, counted[0]), counted[1] >> 10) if counted else (0.0, 0)

    def seconds(self, container: str) -> float:
        """Return the processor time that a container took since it was started, zero when unknown."""
        return (self._counted(container) or (0.0, 0))[0]

    def _counted(self, container: str) -> tuple[float, int] | None:
        """Return processor seconds and bytes in use."""
        for cpu, memory in self.GROUPS:
            try:
                return _cpu_seconds(self._root / cpu.format(id=container)), _memory_bytes(self._root / memory.format(id=container))
            except OSError:
                continue
        return None


def _cpu_seconds(group: Path) -> float:
    version_1 = group / "cpuacct.usage"
    if version_1.exists():
        return int(version_1.read_text(encoding="ascii")) / 1e9
    return _counters(group / "cpu.stat")["usage_usec"] / 1e6


def _memory_bytes(group: Path) -> int:
    """Memory in use without the page cache that the kernel would give back at once."""
    version_1 = group / "memory.usage_in_bytes"
    used = version_1 if version_1.exists() else group / "memory.current"
    counters = _counters(group / "memory.stat")
    reclaimable = counters.get("total_inactive_file", counters.get("inactive_file", 0))
    return max(0, int(used.read_text(encoding="ascii")) - reclaimable)


def _counters(file: Path) -> dict[str, int]:
    pairs = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {name: int(value) for name, value in pairs}


def _limits(vm: VmSpec) -> list[str]:
    # As with KVM, CPU is a weight among machines that want more than there is, not a ceiling.
    return ["--memory", f"{vm.memory_mb}m", "--cpu-shares", str(max(2, int(1024 * vm.cpu)))]


def _address(nic: NicSpec) -> list[str]:
    return ["--ip", nic.ip] if nic.ip else []


def _inspect_image(what: str, reference: str) -> dict:
    return json.loads(_docker(what, "image", "inspect", reference))[0]


def _prepared_volume(image: dict) -> tuple[str, str] | None:
    """Return path and name of the volume that is cloned for every VM, as a datastore does with a disk image."""
    label = (image["Config"].get("Labels") or {}).get(VOLUME_LABEL)
    if label is None:
        return None
    path, _separator, volume = label.partition("=")
    return path, volume


def _write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner can read, unless it says the same already."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="utf-8", newline="") as file:
        file.write(text)
    new.replace(path)


def _docker(what: str, *args: str, timeout: float = 120) -> str:
    try:
        return docker(*args, timeout=timeout)
    except EngineError as error:
        raise DriverError(f"{what}: {error}") from error
