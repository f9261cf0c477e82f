# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The disks of the machines that vfio_host is tested on: Debian, a kernel, and GRUB. They are built once, in build/vfio."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build" / "vfio"
SUITE = "bookworm"
# Program -> Debian package that brings it.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "debootstrap": "debootstrap", "grub-mkimage": "grub-common",
    "ssh-keygen": "openssh-client", "mke2fs": "e2fsprogs",
}
# Not a program, therefore apart from the others.
GRUB_FILES = ("/usr/lib/grub/i386-pc/lnxboot.img", "grub-pc-bin")
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "udev", "python3-minimal", "python3-apt", "iproute2", "kmod", "openssh-server", "grub2-common",
    "grub-pc-bin", "netbase",
)
GRUB_MODULES = (
    "biosdisk", "ext2", "part_gpt", "part_msdos", "normal", "configfile", "linux", "search", "search_fs_file", "search_label", "echo", "test",
    "serial", "terminal", "minicmd", "reboot", "halt", "gzio", "loadenv", "true",
)
GRUB_START = """\
search --no-floppy --set=root --file /boot/grub/grub.cfg
set prefix=($root)/boot/grub
configfile /boot/grub/grub.cfg
"""
# Only good for the first boot: update-grub replaces it.
GRUB_FIRST = """\
linux {kernel} root=/dev/nvme0n1 ro {parameters}
{initrd}
boot
"""
NETWORK = "[Match]\nName=en*\n[Network]\nDHCP=yes\n"
# The units that a machine of minutes does not need, and that make its boot longer.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "getty@tty1.service",
    "systemd-timesyncd.service", "systemd-networkd-wait-online.service", "systemd-update-utmp.service", "systemd-tmpfiles-clean.timer",
)


@dataclass(frozen=True)
class Platform:
    """What tells an Intel machine from an AMD one.

    kernel: Debian package of the kernel. packages: more packages in it. iommu: QEMU's device. parameters: on the kernel command line
    before anything is configured. early_modules: what its initramfs has to hold; without them it has no initramfs. spare: where QEMU plugs
    the spare disk in.
    """

    name: str
    kernel: str
    packages: tuple[str, ...]
    iommu: str
    parameters: str
    early_modules: tuple[str, ...]
    spare: str


# The cloud kernel has everything for its disk built in, and takes the spare NVMe disk before any program runs.
INTEL = Platform("intel", "linux-image-cloud-amd64", (), "intel-iommu,intremap=on,caching-mode=on", "intel_iommu=off", (), "bus=rp1")
# Only the full kernel has AMD's IOMMU; it needs an initramfs. QEMU's IOMMU does not translate for what is behind a bridge.
AMD = Platform("amd", "linux-image-amd64", ("initramfs-tools", "zstd", "driverctl"), "amd-iommu", "", ("nvme", "ext4"), "addr=8")


class Unavailable(Exception):
    """This machine cannot run the tests; the message is one sentence."""


def need_tools() -> None:
    """Install what is missing.

    :raises Unavailable: when that cannot be done here.
    """
    missing = {package for tool, package in TOOLS.items() if not _which(tool)}
    if not Path(GRUB_FILES[0]).exists():
        missing.add(GRUB_FILES[1])
    if os.geteuid() != 0:
        raise Unavailable("only root can build the disk of the machine")
    if not missing:
        return
    if not _which("apt-get"):
        raise Unavailable(f"{', '.join(sorted(missing))} are missing and there is no apt-get to install them with")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-qq", "update"], env=environment, check=False)
    command = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *sorted(missing)]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        raise Unavailable(f"{', '.join(sorted(missing))} could not be installed")


def built(platform: Platform) -> Path:
    """Return the directory with the platform's disk, the loader and the SSH key, building it if need be."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    directory = BUILD / f"{platform.name}-{digest}"
    if directory.is_dir():
        return directory
    for outdated in BUILD.glob(f"{platform.name}-*"):
        shutil.rmtree(outdated)
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vfio-", dir=memory_directory()) as scratch, tempfile.TemporaryDirectory(dir=BUILD) as made:
        root, target = Path(scratch, "root"), Path(made, "machine")
        target.mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(target / "key"))
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES + platform.packages)}", SUITE, str(root))
        _install_kernel(platform, root)
        _configure(root, (target / "key.pub").read_text())
        run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(target / "disk.img"), "3G")
        _loader(Path(scratch), target / "grub.krn")
        target.rename(directory)
    return directory


def _install_kernel(platform: Platform, root: Path) -> None:
    chroot = ("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
    run(*chroot, "apt-get", "-qq", "update")
    depends = run(*chroot, "apt-cache", "depends", platform.kernel)
    package = next(line.split()[1] for line in depends.splitlines() if "Depends: linux-image-" in line)
    version = package.removeprefix("linux-image-")
    # Unpacked, not installed: its own scripts want to write a boot loader's configuration for the disk that / is on.
    run(*chroot, "sh", "-c", f"cd /tmp && apt-get -qq download {package} && dpkg -x {package}_*.deb kernel")
    for directory, target in (("boot", "boot"), ("lib/modules", "usr/lib/modules")):
        shutil.copytree(root / "tmp/kernel" / directory, root / target, dirs_exist_ok=True)
    run(*chroot, "sh", "-c", "rm -r /tmp/*")
    run(*chroot, "depmod", version)
    initrd = ""
    if platform.early_modules:
        root.joinpath("etc/initramfs-tools/modules").write_text("\n".join(platform.early_modules) + "\n")
        root.joinpath("etc/initramfs-tools/conf.d/small").write_text("MODULES=list\n")
        run("chroot", str(root), "update-initramfs", "-c", "-k", version)
        initrd = f"initrd /boot/initrd.img-{version}"
    parameters = f"console=ttyS0 {platform.parameters}".strip()
    root.joinpath("etc/default/grub").write_text(
        f'GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="{parameters}"\n'
        'GRUB_TERMINAL=serial\nGRUB_DISABLE_OS_PROBER=true\nGRUB_DISABLE_RECOVERY=true\n'
    )
    root.joinpath("boot/grub").mkdir(exist_ok=True)
    first = GRUB_FIRST.format(kernel=f"/boot/vmlinuz-{version}", parameters=parameters, initrd=initrd)
    root.joinpath("boot/grub/grub.cfg").write_text(first)


def _configure(root: Path, public_key: str) -> None:
    for path in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / path)
    for path in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        root.joinpath(path).mkdir(parents=True)
    root.joinpath("etc/hostname").write_text("hypervisor\n")
    root.joinpath("etc/fstab").write_text("/dev/nvme0n1 / ext4 errors=remount-ro 0 1\n")
    root.joinpath("etc/systemd/network/lan.network").write_text(NETWORK)
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / "authorized_keys").write_text(public_key)
    run("chroot", str(root), "systemctl", "enable", "systemd-networkd", "ssh")
    run("chroot", str(root), "systemctl", "mask", *MASKED)


def _loader(scratch: Path, target: Path) -> None:
    """Write GRUB as a file that QEMU boots like a kernel; it reads /boot/grub/grub.cfg, as after an installation to a disk."""
    (scratch / "early.cfg").write_text(GRUB_START)
    run(
        "grub-mkimage", "-O", "i386-pc", "-c", str(scratch / "early.cfg"), "-p", "/boot/grub", "-o", str(scratch / "core.img"), *GRUB_MODULES
    )
    target.write_bytes(Path(GRUB_FILES[0]).read_bytes() + (scratch / "core.img").read_bytes())


def memory_directory() -> str | None:
    """Return a directory in memory if there is room: debootstrap waits for the disk more than it computes."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 3 << 30 else None


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    if done.returncode:
        raise AssertionError(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout
