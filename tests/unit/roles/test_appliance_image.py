# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the role appliance_image finds out about a root file system before it makes a disk of it."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[3] / "roles" / "_appliance_image" / "files"
sys.path.insert(0, str(FILES))
contents, disk, image = (importlib.import_module(name) for name in ("contents", "disk", "image"))

VERSION = "6.12.1-cloud-amd64"
OPTIONS = "".join(f"{option}=m\n" for option in disk.KERNEL_NEEDS)


def root_with_kernel(root: Path, options: str) -> Path:
    boot = root / "boot"
    boot.mkdir()
    boot.joinpath(f"config-{VERSION}").write_text(options)
    for link, target in (("vmlinuz", f"boot/vmlinuz-{VERSION}"), ("initrd.img", f"boot/initrd.img-{VERSION}")):
        root.joinpath(link).symlink_to(target)
    return root


def test_a_kernel_with_all_that_a_vm_needs_is_taken(tmp_path: Path) -> None:
    assert disk.check_kernel(root_with_kernel(tmp_path, OPTIONS)) == VERSION


def test_a_kernel_that_never_finds_its_context_is_refused(tmp_path: Path) -> None:
    options = OPTIONS.replace("CONFIG_SATA_AHCI=m", "# CONFIG_SATA_AHCI is not set")
    with pytest.raises(disk.DiskError, match=rf"^kernel {VERSION} cannot use a context CD on SATA"):
        disk.check_kernel(root_with_kernel(tmp_path, options))


def test_a_root_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(disk.DiskError, match="cannot boot: it has no links"):
        disk.check_kernel(tmp_path)


def test_a_file_with_two_names_takes_its_room_once(tmp_path: Path) -> None:
    tmp_path.joinpath("once").write_bytes(bytes(64 << 20))
    before = disk.root_mib(tmp_path)
    tmp_path.joinpath("again").hardlink_to(tmp_path / "once")
    assert disk.root_mib(tmp_path) == before


def test_everything_installed_is_listed_once(tmp_path: Path) -> None:
    status = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2+b1\n\n" \
             "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    for directory in ("var/lib/dpkg", "var/lib/docker/overlay2/x/diff/var/lib/dpkg"):
        place = tmp_path / directory
        place.mkdir(parents=True)
        place.joinpath("status").write_text(status)
    for place, name in (("opt/flower/native/lib/python3.13/site-packages", "scikit_learn"), ("usr/lib/python3/dist-packages", "apt")):
        info = tmp_path / place / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Name: {name}\nVersion: 1.0\nLicense-Expression: MIT\n\nName: a description\n")
    collection = tmp_path / "usr/share/ansible/collections/ansible_collections/opennebula/flower"
    collection.mkdir(parents=True)
    collection.joinpath("galaxy.yml").write_text("namespace: opennebula\nname: flower\nversion: 0.1.0\n")
    assert [item["purl"] for item in contents.components(tmp_path)] == [
        "pkg:deb/debian/bash@5.2%2Bb1?arch=amd64", "pkg:generic/opennebula.flower@0.1.0", "pkg:pypi/scikit-learn@1.0",
    ]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """An image with a manifest that fits."""
    made = tmp_path / "flower.qcow2"
    made.write_bytes(b"disk")
    tmp_path.joinpath("flower.cdx.json").write_text("{}")
    manifest = {"inputs": "abc", "sha256": hashlib.sha256(b"disk").hexdigest(), "sbom": {"file": "flower.cdx.json"}}
    tmp_path.joinpath("flower.json").write_text(json.dumps(manifest))
    return made


def test_an_image_of_the_same_inputs_is_current(finished: Path) -> None:
    assert image.is_current(finished, "abc")


def test_an_image_of_other_inputs_is_not(finished: Path) -> None:
    assert not image.is_current(finished, "abd")


@pytest.mark.parametrize("damage", ["flower.qcow2", "flower.json"])
def test_an_image_that_is_not_whole_is_not(finished: Path, damage: str) -> None:
    finished.with_name(damage).write_text("[]")
    assert not image.is_current(finished, "abc")


@pytest.mark.parametrize("missing", ["flower.qcow2", "flower.json", "flower.cdx.json"])
def test_an_image_that_lacks_something_is_not(finished: Path, missing: str) -> None:
    finished.with_name(missing).unlink()
    assert not image.is_current(finished, "abc")
