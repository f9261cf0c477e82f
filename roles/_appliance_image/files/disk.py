# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Turns a directory that holds a Linux root file system into a disk image that boots with BIOS and UEFI.

``python disk.py ROOT IMAGE --uuid UUID [--compression zstd]``

Mounts nothing and needs no loop device: the file system is filled by mke2fs, the EFI system partition by mtools, and GRUB is
put into its places by hand, since grub-install wants a block device. Needs sfdisk, mke2fs, mkfs.vfat, mcopy, grub-mkimage with
the modules of i386-pc and x86_64-efi, and qemu-img.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

SECTOR = 512
MIB = 1 << 20
# First MiB and size in MiB of the partitions before the root file system, which is the last one so that it can grow.
BIOS_BOOT = (1, 1)
EFI_SYSTEM = (2, 32)
ROOT_START = 34
# The backup of the partition table is behind the last partition.
TAIL = 1
LABEL = "flower-root"
GRUB_DIRECTORY = Path("/usr/lib/grub")
GRUB_MODULES = (
    "normal", "configfile", "linux", "ext2", "part_gpt", "search", "search_fs_uuid", "search_label", "echo", "test", "serial", "terminal",
    "minicmd", "reboot", "halt", "gzio", "true", "sleep", "all_video",
)
BIOS_MODULES = ("biosdisk", "vga")
EFI_MODULES = ("efi_gop", "efi_uga", "fat")
GRUB_START = """\
search --no-floppy --fs-uuid --set=root {uuid}
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
"""
# The links are kept up by Debian's kernel packages, so an upgrade needs no GRUB in the image.
GRUB_MENU = """\
if serial --unit=0 --speed=115200; then
    terminal_input console serial
    terminal_output console serial
fi
set timeout=1
menuentry "Flower" {{
    linux /vmlinuz root=UUID={uuid} ro {parameters}
    initrd /initrd.img
}}
if [ -f /vmlinuz.old ]; then
    menuentry "Flower, with the kernel before" {{
        linux /vmlinuz.old root=UUID={uuid} ro {parameters}
        initrd /initrd.img.old
    }}
fi
"""
# Both consoles, without systemd's animation of what it waits for, which an emulated serial port makes expensive.
KERNEL_PARAMETERS = "console=tty0 console=ttyS0,115200n8 systemd.show_status=error"
FSTAB = """\
UUID={uuid} / ext4 errors=remount-ro 0 1
"""
# Said in full, because newer defaults hold features that older GRUBs and e2fsprogs do not know.
MKE2FS_CONF = """\
[fs_types]
    ext4 = {{
        features = {features}
        inode_size = 256
        inode_ratio = 8192
        blocksize = 4096
    }}
"""
FEATURES = (
    "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "flex_bg", "sparse_super", "large_file", "huge_file",
    "dir_nlink", "extra_isize", "metadata_csum", "64bit",
)
# What OpenNebula's disks, network cards and context CD are attached to, as options of the kernel. A CD is on SATA with q35.
KERNEL_NEEDS = {
    "CONFIG_VIRTIO_BLK": "virtio disks", "CONFIG_SCSI_VIRTIO": "virtio-scsi disks", "CONFIG_VIRTIO_NET": "virtio network cards",
    "CONFIG_SATA_AHCI": "a context CD on SATA (machine type q35)", "CONFIG_ATA_PIIX": "a context CD on IDE (machine type pc)",
    "CONFIG_ISO9660_FS": "a context CD", "CONFIG_EXT4_FS": "its root file system",
}


class DiskError(Exception):
    """The disk cannot be made; the message is one sentence."""


def check_kernel(root: Path) -> str:
    """Return the version of the kernel in ``root``.

    :raises DiskError: there is none, or it cannot boot a VM of OpenNebula.
    """
    if not all((root / name).is_symlink() for name in ("vmlinuz", "initrd.img")):
        raise DiskError(f"{root} cannot boot: it has no links /vmlinuz and /initrd.img to a kernel")
    version = os.readlink(root / "vmlinuz").rpartition("/vmlinuz-")[2]
    options = set(re.findall(r"^(CONFIG_\w+)=[ym]$", (root / "boot" / f"config-{version}").read_text(encoding="utf-8"), re.MULTILINE))
    for option, purpose in KERNEL_NEEDS.items():
        if option not in options:
            raise DiskError(f"kernel {version} cannot use {purpose}: it was built without {option}; choose another base")
    return version


def root_mib(root: Path) -> int:
    """Return how many MiB the root file system gets: what is in it, its own tables, and room to boot before it grows."""
    size, inodes, seen = 0, 0, set()
    for directory, names, files in os.walk(root):
        for name in names + files:
            state = os.lstat(os.path.join(directory, name))
            if state.st_nlink > 1 and (key := (state.st_dev, state.st_ino)) in seen:
                continue
            if state.st_nlink > 1:
                seen.add(key)
            inodes += 1
            size += -(-state.st_size // 4096) * 4096
    return int((size + inodes * 512) * 1.08) // MIB + 256


def make(root: Path, image: Path, identity: uuid.UUID, compression: str, directory: Path) -> None:
    """Make ``image`` (qcow2) of ``root``, into which the table of file systems and GRUB's menu are written, with room to work in ``directory``.

    :raises DiskError: a tool failed.
    """
    names = {"uuid": str(identity), "parameters": KERNEL_PARAMETERS}
    _write(root / "etc/fstab", FSTAB.format(**names))
    _write(root / "boot/grub/grub.cfg", GRUB_MENU.format(**names))
    with tempfile.TemporaryDirectory(prefix="disk-", dir=directory) as scratch:
        work = Path(scratch)
        disk = work / "disk.raw"
        size = root_mib(root)
        with disk.open("wb") as file:
            file.truncate((ROOT_START + size + TAIL) * MIB)
        _partition(disk, size, identity)
        _root_file_system(root, disk, size, identity, work)
        start = work / "start.cfg"
        start.write_text(GRUB_START.format(**names), encoding="ascii")
        _bios(disk, start, work)
        _efi(disk, start, work)
        made = image.with_name(image.name + ".part")
        run("qemu-img", "convert", "-c", "-W", "-f", "raw", "-O", "qcow2", "-o", f"compat=1.1,compression_type={compression}", str(disk), str(made))
        made.replace(image)


def _partition(disk: Path, size: int, identity: uuid.UUID) -> None:
    sectors = MIB // SECTOR
    lines = [
        "label: gpt",
        f"label-id: {uuid.uuid5(identity, 'disk')}",
        f"start={BIOS_BOOT[0] * sectors}, size={BIOS_BOOT[1] * sectors}, type=21686148-6449-6E6F-744E-656564454649, name=bios",
        f"start={EFI_SYSTEM[0] * sectors}, size={EFI_SYSTEM[1] * sectors}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=efi",
        f"start={ROOT_START * sectors}, size={size * sectors}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root",
    ]
    run("sfdisk", "--quiet", str(disk), text="\n".join(lines) + "\n")


def _root_file_system(root: Path, disk: Path, size: int, identity: uuid.UUID, work: Path) -> None:
    settings = work / "mke2fs.conf"
    settings.write_text(MKE2FS_CONF.format(features=",".join(FEATURES)), encoding="ascii")
    run(
        "mke2fs", "-q", "-t", "ext4", "-F", "-L", LABEL, "-U", str(identity), "-m", "1", "-d", str(root),
        "-E", f"offset={ROOT_START * MIB},root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1", str(disk), f"{size}m",
        environment={"MKE2FS_CONFIG": str(settings)},
    )


def _bios(disk: Path, start: Path, work: Path) -> None:
    """Put GRUB into the master boot record, and what that loads into the BIOS boot partition."""
    core = bytearray(_grub("i386-pc", BIOS_MODULES, start, work).read_bytes())
    if len(core) > BIOS_BOOT[1] * MIB:
        raise DiskError(f"GRUB has {len(core)} bytes and does not fit into its partition")
    core += bytes(-len(core) % SECTOR)
    first = BIOS_BOOT[0] * MIB // SECTOR
    # Where the rest of this is, and how long: the list of blocks at the end of its first sector.
    struct.pack_into("<Q", core, 0x1F4, first + 1)
    struct.pack_into("<H", core, 0x1FC, len(core) // SECTOR - 1)
    boot = bytearray((GRUB_DIRECTORY / "i386-pc" / "boot.img").read_bytes())
    struct.pack_into("<Q", boot, 0x5C, first)
    # The drive that the BIOS booted, and no correction of what it says that drive is.
    boot[0x64] = 0xFF
    boot[0x66:0x68] = b"\x90\x90"
    with disk.open("r+b") as file:
        # The partition table begins at 0x1b8.
        file.write(boot[:0x1B8])
        file.seek(first * SECTOR)
        file.write(core)


def _efi(disk: Path, start: Path, work: Path) -> None:
    """Fill the EFI system partition with GRUB where firmware looks on a disk that it does not know."""
    loader = _grub("x86_64-efi", EFI_MODULES, start, work)
    partition = work / "efi.img"
    run("mkfs.vfat", "-C", "-n", "EFI", str(partition), str(EFI_SYSTEM[1] * 1024))
    for directory in ("EFI", "EFI/BOOT"):
        run("mmd", "-i", str(partition), f"::{directory}")
    run("mcopy", "-i", str(partition), str(loader), "::EFI/BOOT/BOOTX64.EFI")
    with disk.open("r+b") as file:
        file.seek(EFI_SYSTEM[0] * MIB)
        file.write(partition.read_bytes())


def _grub(platform: str, modules: tuple[str, ...], start: Path, work: Path) -> Path:
    made = work / f"grub-{platform}"
    run(
        "grub-mkimage", "--directory", str(GRUB_DIRECTORY / platform), "--format", platform, "--output", str(made), "--prefix", "/boot/grub",
        "--config", str(start), *GRUB_MODULES, *modules,
    )
    return made


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="ascii")
    path.chmod(0o644)


def run(*command: str, text: str | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a tool and return what it printed.

    :raises DiskError: it failed.
    """
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
    )
    if done.returncode:
        reason = ([line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["no reason given"])[-1]
        raise DiskError(f"{command[0]} failed with exit status {done.returncode}: {reason.strip()}")
    return done.stdout


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="A bootable disk image of a root file system.")
    parser.add_argument("root", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--uuid", type=uuid.UUID, required=True, help="of the root file system")
    parser.add_argument("--compression", choices=("zlib", "zstd"), default="zstd")
    arguments = parser.parse_args()
    try:
        check_kernel(arguments.root)
        make(arguments.root, arguments.image, arguments.uuid, arguments.compression, arguments.image.parent)
    except DiskError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
