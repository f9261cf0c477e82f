# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What every image that `make appliance-images` made has to be, without a boot."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from conftest import MIB, Image, run
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# Bytes that the compressed image of an appliance may have.
LIMITS = {
    "flower-superlink": 450_000_000, "flower-supernode-sklearn": 300_000_000, "flower-supernode-pytorch": 750_000_000,
    "flower-supernode-edge-sklearn": 400_000_000, "flower-supernode-edge-base": 300_000_000,
}  # fmt: skip
# Bytes that its root file system may have in use.
USED_LIMITS = {"flower-supernode-edge": 1_000_000_000}
# Those for the edge have one runtime, which their names leave out.
NAME = re.compile(r"flower-(superlink|supernode)(-edge)?(?:(?<=-edge)-(\w+)|(?<!-edge)(?:-(\w+))?-(\w+))")
BIOS_BOOT, EFI_SYSTEM = "21686148-6449-6E6F-744E-656564454649", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
ENABLED = "etc/systemd/system/{target}.target.wants/{unit}.service"
# Where the image, its agent or its user may keep something; packages of Python bring keys for their own tests.
PRIVATE_PLACES = ("etc", "root", "home", "opt/flower/ca", "opt/flower/certs", "opt/flower/config", "opt/flower/state", "var/lib", "var/log", "srv")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def test_the_table_has_places_for_both_kinds_of_firmware_and_lets_the_root_grow(image: Image) -> None:
    kinds = [partition["type"] for partition in image.table["partitions"]]
    assert image.table["label"] == "gpt"
    assert kinds[:2] == [BIOS_BOOT, EFI_SYSTEM] and len(kinds) == 3
    last = image.table["partitions"][-1]
    end = (last["start"] + last["size"]) * image.table["sectorsize"]
    assert image.disk.stat().st_size - end <= 2 * MIB


def test_firmware_finds_a_loader(image: Image) -> None:
    with image.disk.open("rb") as disk:
        record = disk.read(512)
        disk.seek(image.table["partitions"][0]["start"] * 512)
        core = disk.read(512)
    assert record[510:] == b"\x55\xaa" and b"GRUB" in record
    # The rest of the loader begins where the master boot record says that its beginning is.
    assert int.from_bytes(record[0x5C:0x64], "little") == image.table["partitions"][0]["start"]
    assert int.from_bytes(core[0x1F4:0x1FC], "little") == image.table["partitions"][0]["start"] + 1
    assert "BOOTX64" in run("mdir", "-i", f"{image.disk}@@{image.table['partitions'][1]['start'] * 512}", "::EFI/BOOT")


def test_the_root_file_system_is_whole(image: Image) -> None:
    run("e2fsck", "-f", "-n", f"{image.disk}?offset={image.root_offset}")


def test_menu_and_mounts_name_the_root_file_system(image: Image) -> None:
    said = run("dumpe2fs", "-h", f"{image.disk}?offset={image.root_offset}")
    identity = re.search(r"UUID: +(\S+)", said).group(1)
    menu = image.read("boot/grub/grub.cfg")
    assert f"UUID={identity} / ext4" in image.read("etc/fstab")
    assert f"root=UUID={identity}" in menu
    assert "console=tty0 console=ttyS0" in menu
    for link in ("vmlinuz", "initrd.img"):
        assert (image.root / os.readlink(image.root / link)).is_file()


def test_size_is_within_its_limit(image: Image) -> None:
    limit = next((limit for name, limit in LIMITS.items() if image.name.startswith(name)), None)
    if limit:
        assert image.path.stat().st_size <= limit


def test_what_is_used_of_the_disk_is_within_its_limit(image: Image) -> None:
    limit = next((limit for name, limit in USED_LIMITS.items() if image.name.startswith(name)), None)
    if limit:
        said = run("dumpe2fs", "-h", f"{image.disk}?offset={image.root_offset}")
        count, free, size = (int(re.search(rf"^{what}: +(\d+)$", said, re.MULTILINE).group(1)) for what in ("Block count", "Free blocks", "Block size"))
        assert (count - free) * size <= limit


@pytest.mark.parametrize(("name", "parts"), [
    ("flower-superlink-container", ("superlink", None, False, "container")), ("flower-supernode-sklearn-native", ("supernode", "sklearn", False, "native")),
    ("flower-supernode-pytorch-cuda", ("supernode", "pytorch", False, "cuda")), ("flower-supernode-edge-sklearn", ("supernode", "sklearn", True, "native")),
    ("flower-supernode-edge-base", ("supernode", "base", True, "native")),
])
def test_a_name_says_what_the_image_is(name: str, parts: tuple[str, str | None, bool, str]) -> None:
    assert parts_of(name) == parts


def test_manifest_says_what_the_image_is(image: Image) -> None:
    manifest, baked = image.manifest, image.manifest["baked"]
    role, framework, edge, runtime = parts_of(image.name)
    with image.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert (manifest["sha256"], manifest["size"]) == (digest, image.path.stat().st_size)
    assert image.path.with_suffix(".qcow2.sha256").read_text() == f"{digest}  {image.path.name}\n"
    assert (baked["role"], baked["flower_runtime"]) == (role, "native" if runtime == "cuda" else runtime)
    assert ({"cuda", "driver"} <= baked.keys()) == (runtime == "cuda")
    assert framework is None or baked["ml_framework"] == framework
    assert baked.get("edge", False) == edge
    assert baked["kernel"] in os.readlink(image.root / "vmlinuz")


def test_bill_of_materials_is_valid_and_names_what_is_inside(image: Image) -> None:
    text = (image.path.parent / image.manifest["sbom"]["file"]).read_text()
    assert hashlib.sha256(text.encode()).hexdigest() == image.manifest["sbom"]["sha256"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    names = {item["name"] for item in json.loads(text)["components"]}
    assert {"systemd", "one-context", "flwr", "ansible-core", "opennebula.flower"} <= names
    assert f"linux-image-{image.manifest['baked']['kernel']}" in names


def test_no_identity_and_no_secret_is_baked_in(image: Image) -> None:
    assert image.read("etc/machine-id") == ""
    assert list((image.root / "etc/ssh").glob("ssh_host_*")) == []
    found = [
        path for place in PRIVATE_PLACES for path in (image.root / place).rglob("*")
        if path.is_file() and not path.is_symlink() and "/var/lib/docker/" not in str(path)
        and (path.name in ("authorized_keys", "random-seed", "token.txt", "one_env", ".bash_history") or PRIVATE_KEY.search(path.read_bytes()))
    ]
    assert found == []
    hashes = [line.split(":")[1] for line in image.read("etc/shadow").splitlines()]
    assert {value for value in hashes if not value.startswith(("!", "*"))} == set()


def test_nothing_of_the_build_is_left(image: Image) -> None:
    left = [".dockerenv", "usr/sbin/policy-rc.d", "tmp/one-context.deb", "mnt/flower-wheels", "mnt/flower-image.tar", "root/.ansible"]
    assert [name for name in left if (image.root / name).exists()] == []
    assert [path for path in (image.root / "var/log").rglob("*") if path.is_file()] == []
    assert os.readlink(image.root / "etc/resolv.conf") == "../run/systemd/resolve/stub-resolv.conf"
    assert "localhost" in image.read("etc/hosts") and "build" not in image.read("etc/hosts")


def test_what_a_first_boot_imports_is_compiled(image: Image) -> None:
    collections = image.root / "usr/share/ansible/collections/ansible_collections"
    places = [image.root / "etc/one-appliance", *collections.glob("*/*/plugins"), *(image.root / "opt/flower").glob("*/lib/python3*/site-packages/*")]
    sources = [path for place in places if place.is_dir() for path in place.rglob("*.py") if path.stat().st_size]
    # Templates of Python files are none.
    left = [path for path in sources if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc")) and "{" not in path.name]
    assert len(sources) > 1000 and left == []
    prepared = image.root / "var/cache/one-appliance"
    assert len(list(prepared.glob("modules-*/*"))) > 10 and len(list(prepared.glob("*.cpython-*"))) > 50


@pytest.mark.parametrize("unit", ["ssh", "systemd-networkd", "one-context"])
def test_units_start_with_the_machine(image: Image, unit: str) -> None:
    assert (image.root / ENABLED.format(target="multi-user", unit=unit)).is_symlink()


def test_flower_is_started_by_the_boot_alone(image: Image) -> None:
    started = {path.name for path in (image.root / "etc/systemd/system").glob("*.wants/*")}
    assert not {"haproxy.service", "flower-superlink.service", "flower-supernode.service", "flower-supervisor.service", "flower-artifacts.service"} & started
    assert image.mode("etc/one-context.d/net-90-service-appliance") == 0o755
    assert image.mode("opt/flower/bin/health-check") == 0o755


def test_a_driver_is_there_for_the_kernel_of_an_image_for_gpus(image: Image) -> None:
    drivers = [path.name for path in (image.root / "usr/lib/modules" / image.manifest["baked"]["kernel"]).rglob("nvidia*.ko*")]
    nouveau = image.root / "etc/modprobe.d/no-nouveau.conf"
    if image.name.endswith("-cuda"):
        assert any(name.startswith(("nvidia.ko", "nvidia-current.ko")) for name in drivers)
        assert "blacklist nouveau" in nouveau.read_text()
    else:
        assert drivers == [] and not nouveau.exists()


def test_host_keys_are_made_when_there_are_none(image: Image) -> None:
    assert (image.root / "etc/systemd/system/ssh.service.wants/sshd-keygen.service").is_symlink()
    assert "ssh-keygen" in image.read("etc/systemd/system/sshd-keygen.service.d/host-keys.conf")


def test_no_time_server_on_the_internet_is_asked(image: Image) -> None:
    assert re.search(r"(?m)^FallbackNTP=$", image.read("etc/systemd/timesyncd.conf.d/servers.conf"))
    assert b"pool.ntp.org" in (image.root / "usr/lib/systemd/systemd-timesyncd").read_bytes()


def test_logs_are_limited(image: Image) -> None:
    assert "SystemMaxUse=200M" in image.read("etc/systemd/journald.conf.d/size.conf")
    assert "/var/log/one-appliance/*.log" in image.read("etc/logrotate.d/one-appliance")


def test_only_root_may_change_what_runs(image: Image) -> None:
    loose = [path for path in _walk(image.root) if not path.is_symlink() and path.lstat().st_mode & 0o002 and not path.is_char_device()]
    assert {str(path.relative_to(image.root)) for path in loose} <= {"tmp", "var/tmp", "run/lock"}
    # The copy has lost the bits for other users and the like, the disk has not.
    for name, mode in {"/tmp": "01777", "/var/tmp": "01777", "/usr/bin/sudo": "04755"}.items():
        assert f"Mode:  {mode}" in run("debugfs", "-R", f"stat {name}", f"{image.disk}?offset={image.root_offset}")


def parts_of(name: str) -> tuple[str, str | None, bool, str]:
    """Return role, framework, whether it is for the edge, and runtime of the image with a name."""
    role, edge, edge_framework, framework, runtime = NAME.fullmatch(name).groups()
    return role, edge_framework or framework, bool(edge), runtime or "native"


def _walk(root: Path) -> list[Path]:
    found = []
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if not Path(directory, name).is_relative_to(root / "var/lib/docker")]
        found += [Path(directory, name) for name in names + files]
    return found
