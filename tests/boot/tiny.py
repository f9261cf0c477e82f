# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A disk with a Linux that boots in seconds even when it is emulated: a kernel of Debian for clouds, and BusyBox.

It takes its address from the context CD, runs what it is sent by HTTP as a shell script, and obeys its power button. It is made once, in
build/boot.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from ansible_collections.opennebula.flower.roles._appliance_image.files import disk

BUILD = Path(__file__).resolve().parents[2] / "build" / "boot"
KERNEL, BUSYBOX = "linux-image-cloud-amd64", "busybox-static"
# With what they need, and in this order. A CD is on IDE: machine type pc.
MODULES = (
    "virtio_pci", "ata_piix", "sr_mod", "isofs", "virtio_scsi", "sd_mod", "virtio_blk", "virtio_net", "evdev", "button",
)
DIRECTORIES = ("bin", "cd", "dev", "lib/modules", "proc", "sys", "tmp", "www/cgi-bin")
INIT = """\
#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in {modules}; do
    insmod /lib/modules/$module
done
until mount -t iso9660 -o ro /dev/sr0 /cd 2>/dev/null; do
    sleep 0.2
done
. /cd/context.sh
until ip link set eth0 up 2>/dev/null; do
    sleep 0.2
done
ip link set lo up
ip address add "$ETH0_IP/24" dev eth0
ip route add default via "$ETH0_GATEWAY"
for buttons in /dev/input/event*; do
    head -c 1 $buttons >/dev/null && poweroff -f &
done
httpd -p 80 -h /www
exec cat
"""
SHELL = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec sh 2>&1\n"


def image() -> Path:
    """Return the disk, made if it is not there."""
    made = BUILD / f"tiny-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}.qcow2"
    if not made.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tiny-", dir=BUILD) as scratch:
            _make(made, Path(scratch))
    return made


def _make(made: Path, scratch: Path) -> None:
    files, ram, root = (scratch / name for name in ("files", "ram", "root"))
    for package in (_newest_kernel(), BUSYBOX):
        _run("apt-get", "download", "--quiet", package, directory=scratch)
    for package in scratch.glob("*.deb"):
        _run("dpkg-deb", "--extract", str(package), str(files))
    (kernel,) = (files / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    for name in DIRECTORIES:
        (ram / name).mkdir(parents=True)
    shutil.copy(files / "bin/busybox", ram / "bin/busybox")
    (ram / "bin/sh").symlink_to("busybox")
    modules = _modules(files, version)
    for module in modules:
        shutil.copy(module, ram / "lib/modules")
    for name, text in (("init", INIT.format(modules=" ".join(module.name for module in modules))), ("www/cgi-bin/sh", SHELL)):
        (ram / name).write_text(text)
        (ram / name).chmod(0o755)
    (root / "boot").mkdir(parents=True)
    shutil.copy(kernel, root / "boot/vmlinuz")
    names = "\n".join(str(path.relative_to(ram)) for path in sorted(ram.rglob("*")))
    packed = subprocess.run([files / "bin/busybox", "cpio", "-o", "-H", "newc"], cwd=ram, input=names.encode(), stdout=subprocess.PIPE, check=True)
    (root / "boot/initrd").write_bytes(packed.stdout)
    for link, target in (("vmlinuz", "boot/vmlinuz"), ("initrd.img", "boot/initrd")):
        (root / link).symlink_to(target)
    disk.make(root, made, uuid.uuid4(), "zstd", scratch)


def _newest_kernel() -> str:
    said = _run("apt-cache", "depends", KERNEL)
    return next(line.split()[-1] for line in said.splitlines() if line.strip().startswith("Depends: linux-image-"))


def _modules(files: Path, version: str) -> list[Path]:
    """Return the modules with those they need before them."""
    _run(str(files / "bin/busybox"), "depmod", "-b", str(files), version)
    directory = files / "lib/modules" / version
    needs = dict(line.split(":") for line in (directory / "modules.dep").read_text().splitlines())
    paths = {Path(path).name.partition(".")[0]: path for path in needs}
    found: dict[str, None] = {}
    for name in MODULES:
        # What modprobe has to load last is named first.
        found |= dict.fromkeys([*reversed(needs[paths[name]].split()), paths[name]])
    return [directory / path for path in found]


def _run(*command: str, directory: Path | None = None) -> str:
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout
