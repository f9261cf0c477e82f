# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""bundle.yml and import_bundle.yml: one archive, from which a zone that reaches nothing gets its images and a control node its collections."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.appliance_manifests import manifest
from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, changes, module_zone

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str]]


def image(directory: Path, **more: str) -> Path:
    """Write a small image with its manifest and bill of materials, as build_appliance.yml does; return the manifest's path."""
    said = manifest(**more)
    content = said["name"].encode() * 100
    directory.joinpath(said["file"]).write_bytes(content)
    said |= {"sha256": hashlib.sha256(content).hexdigest(), "md5": hashlib.md5(content).hexdigest()}
    directory.joinpath(said["sbom"]["file"]).write_text("{}")
    said["sbom"]["sha256"] = hashlib.sha256(b"{}").hexdigest()
    path = directory / f"{said['name']}.json"
    path.write_text(json.dumps(said))
    return path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the operator starts playbooks; the paths that he names are relative to it."""
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module")
def run(directory: Path) -> Run:
    """Run a playbook with settings; return exit status and output with its lines joined."""
    (directory / "hosts.json").write_text(json.dumps({"all": {"children": {"coordinator": {"hosts": {"zone0": {}}}}}}))

    def run(playbook: str, *arguments: str, **settings: object) -> tuple[int, str]:
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(directory / "hosts.json"), str(ROOT / f"playbooks/{playbook}.yml")]
        # A proxy that answers nothing stands for a network that leads nowhere.
        nowhere = os.environ | dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9") | {"no_proxy": "127.0.0.1"}
        done = subprocess.run(
            [*command, "-e", json.dumps(settings), *arguments], cwd=directory, env=nowhere, capture_output=True, text=True, check=False, timeout=900
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    return run


@pytest.fixture(scope="module")
def bundle(run: Run, directory: Path) -> Path:
    """A bundle of two images, made twice: the second time nothing changes."""
    (directory / "wheels").mkdir()
    (directory / "wheels/urllib3-0-py3-none-any.whl").write_bytes(b"wheel")
    settings = {
        "marketplace_manifests": [image(directory, role="superlink").name, image(directory, role="supernode", framework="sklearn").name],
        "bundle_output": "flower-bundle.tar", "bundle_wheelhouse": "wheels",
    }  # fmt: skip
    status, output = run("bundle", **settings)
    assert status == 0 and changes(output) == 1, output
    status, output = run("bundle", **settings)
    assert status == 0 and changes(output) == 0, output
    return directory / "flower-bundle.tar"


@pytest.fixture
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        yield zone


def settings(zone: ModuleZone, bundle: Path, directory: Path) -> dict[str, object]:
    return {
        "bundle_archive": os.path.relpath(bundle, bundle.parent) if bundle.name == "flower-bundle.tar" else str(bundle),
        "bundle_directory": str(directory / "unpacked"), "flower_image_datastore": "default",
        "flower_superlink_image_name": "superlink", "flower_supernode_image_name": "supernode",
        **{f"one_{name}": value for name, value in zone.options.items()},
    }  # fmt: skip


def test_a_bundle_holds_all_with_checksums_and_its_collections_install_without_a_network(bundle: Path, tmp_path: Path) -> None:
    with tarfile.open(bundle) as tar:
        assert tar.getnames()[:2] == ["SHA256SUMS", "README.md"]
    shutil.unpack_archive(bundle, tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", f"{bundle.name}.sha256"], cwd=bundle.parent, check=True)
    archives = sorted(map(str, (tmp_path / "collections").glob("*.tar.gz")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))}
    environment |= {"HOME": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "installed"), "ANSIBLE_GALAXY_SERVER": "http://127.0.0.1:9"}
    subprocess.run(["ansible-galaxy", "collection", "install", "--offline", *archives], cwd=tmp_path, env=environment, check=True, capture_output=True)
    installed = {path.parent.name: path.name for path in (tmp_path / "installed/ansible_collections").glob("*/*")}
    assert installed.keys() == {"opennebula", "community"}
    assert (tmp_path / "installed/ansible_collections/opennebula/flower/playbooks/import_bundle.yml").exists()


def test_images_are_registered_from_the_bundle_once(run: Run, zone: ModuleZone, bundle: Path, tmp_path: Path) -> None:
    given = settings(zone, bundle, tmp_path)
    zone.calls.clear()
    status, output = run("import_bundle", "--check", **given)
    assert status == 0 and zone.writes == [] and not (tmp_path / "unpacked").exists(), output
    status, output = run("import_bundle", **given)
    assert status == 0, output
    pool = zone.call("one.imagepool.info", -2, -1, -1)
    assert sorted(re.findall(r"<NAME>(.*?)</NAME>", pool)) == ["superlink", "supernode"]
    content = (tmp_path / "unpacked/images/flower-superlink-native.qcow2").read_bytes()
    assert f"<MD5><![CDATA[{hashlib.md5(content).hexdigest()}]]></MD5>" in pool
    zone.calls.clear()
    status, output = run("import_bundle", **given)
    assert status == 0 and changes(output) == 0 and zone.writes == [], output


@pytest.mark.parametrize(("damage", "sentence"), [("content", "; the archive is damaged"), ("foreign", "which is not among its checksums")])
def test_a_bundle_that_is_not_whole_leaves_nothing(run: Run, zone: ModuleZone, bundle: Path, tmp_path: Path, damage: str, sentence: str) -> None:
    damaged = tmp_path / "damaged.tar"
    if damage == "content":
        damaged.write_bytes(bundle.read_bytes().replace(b"flower-superlink-native" * 3, b"flower-superlink-hacked" * 3))
    else:
        damaged.write_bytes(bundle.read_bytes())
        (tmp_path / "x").write_text("x")
        with tarfile.open(damaged, "a") as tar:
            tar.add(tmp_path / "x", "../../etc/x")
    zone.calls.clear()
    status, output = run("import_bundle", **settings(zone, damaged, tmp_path))
    assert status != 0 and sentence in output, output
    assert zone.calls == [] and not list(tmp_path.glob("unpacked*"))


def test_what_is_missing_is_said_in_a_sentence(run: Run, zone: ModuleZone, bundle: Path, tmp_path: Path) -> None:
    given = settings(zone, bundle, tmp_path)
    zone.calls.clear()
    _status, output = run("import_bundle", **{**given, "bundle_archive": "/nowhere.tar"})
    assert "bundle_archive is /nowhere.tar, but there is no such file" in output
    _status, output = run("import_bundle", **given, flower_ml_framework="pytorch")
    assert "holds no image of supernode with the framework pytorch; it holds flower-superlink-native, flower-supernode-sklearn-native" in output
    assert zone.writes == []
