# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The collection as its archive installs it, without a checkout: playbooks by name, and what they say when something is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, changes, module_zone

CHECKOUT = Path(__file__).parents[2]
PARTS = ("apps", "changelogs", "docs", "inventories", "LICENSES", "meta", "playbooks", "plugins", "requirements", "roles")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path with the collection out of its archive alone; what it depends on lies where this checkout has it."""
    root = tmp_path_factory.mktemp("galaxy")
    source = root / "source"
    for part in PARTS:
        shutil.copytree(CHECKOUT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("galaxy.yml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, source / name)
    galaxy(root, "build", str(source), "--output-path", str(root))
    galaxy(root, "install", str(next(root.glob("opennebula-flower-*.tar.gz"))), "--no-deps", "-p", str(root / "collections"))
    shutil.rmtree(source)
    return root


def environment(installed: Path) -> dict[str, str]:
    """Nothing of the checkout's own settings, and no OpenNebula."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH", "ONE"))}
    return kept | {
        "ANSIBLE_COLLECTIONS_PATH": f"{installed / 'collections'}:{CHECKOUT / 'build' / 'collections'}",
        "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false", "ANSIBLE_NOCOLOR": "1", "HOME": str(installed),
    }  # fmt: skip


def galaxy(root: Path, *arguments: str) -> None:
    subprocess.run(["ansible-galaxy", "collection", *arguments], check=True, capture_output=True, cwd=root, env=environment(root))


def play(installed: Path, playbook: str, *arguments: str) -> tuple[int, str]:
    """Run a playbook by its name in a directory of its own; return status and output with its lines joined."""
    done = subprocess.run(
        ["ansible-playbook", f"opennebula.flower.{playbook}", *arguments],
        cwd=installed, env=environment(installed), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, " ".join(f"{done.stdout}{done.stderr}".split())


@pytest.mark.parametrize(("playbook", "arguments", "sentence"), [
    ("build_appliance", ("-e", "appliance_target=floppy"), "appliance_target is 'floppy', expected container, opennebula or qcow2"),
    ("build_appliance", ("-e", "appliance_target=container"), "appliance_base_image is not set"),
    ("marketplace", (), "there is no manifest of an image in build/appliances of this directory"),
    ("bundle", (), "there is no manifest of an image in build/appliances of this directory"),
    ("import_bundle", (), "The inventory group 'coordinator' has no hosts, expected the zone that gets the images"),
    ("plan", (), "The inventory group 'coordinator' has no hosts"),
    ("site", (), "The inventory group 'coordinator' has no hosts"),
    ("single_site", (), "The inventory group 'coordinator' has no hosts, expected the zone that runs the SuperLink"),
    ("train", (), "The inventory group 'coordinator' has no hosts"),
    ("teardown", (), "The inventory group 'coordinator' has no hosts"),
    ("tenant", (), "The inventory group 'tenants' has no hosts, expected one host for each tenant"),
    ("wireguard", (), "The inventory group 'wireguard' has no hosts"),
    ("gpu_hosts", (), "The inventory group 'gpu_hosts' has no hosts"),
])
def test_a_playbook_that_lacks_something_says_what_and_fails(installed: Path, playbook: str, arguments: tuple[str, ...], sentence: str) -> None:
    status, output = play(installed, playbook, *arguments)
    assert status == 2, output
    assert sentence in output
    assert "is undefined" not in output


@pytest.mark.parametrize(("playbook", "names"), [
    ("site", "zone0 lacks flower_service_name, flower_network, flower_image_datastore, flower_superlink_image_name"),
    ("train", "zone0 lacks flower_service_name, flower_supernodes, flower_supernodes_min, flower_supernodes_max; set them"),
    ("teardown", "zone0 lacks flower_service_name, flower_network, flower_superlink_image_name, flower_supernode_image_name; set them"),
])
def test_settings_without_a_default_are_named_all_at_once(installed: Path, playbook: str, names: str) -> None:
    (installed / "inventory").write_text("[coordinator]\nzone0\n")
    status, output = play(installed, playbook, "-i", "inventory")
    assert status == 2, output
    assert names in output


def test_one_missing_setting_is_one(installed: Path) -> None:
    (installed / "inventory").write_text("[coordinator]\nzone0\n")
    settings = "flower_service_name=a flower_supernodes=2 flower_supernodes_min=2"
    status, output = play(installed, "train", "-i", "inventory", "-e", settings)
    assert status == 2
    assert "zone0 lacks flower_supernodes_max; set it in the inventory" in output


def test_the_archive_holds_what_the_playbooks_need_and_nothing_of_the_workshop(installed: Path) -> None:
    shipped = installed / "collections/ansible_collections/opennebula/flower"
    top = {path.name for path in shipped.iterdir()}
    assert top == {*PARTS, "README.md", "LICENSE", "CHANGELOG.md", "FILES.json", "MANIFEST.json"}
    files = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.is_file()}
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PARTS]
    tracked = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split()
    requirements = (f"requirements/{name}.txt" for name in ("foreign", "lab", "locks", "site", "test"))
    workshop, sources = ("inventories/lab", "docs/site.css", *requirements), (".dot", ".puml", ".iuml")
    shown = {name for name in tracked if not name.startswith(workshop) and not name.endswith(sources)}
    assert shown == files - {"README.md", "LICENSE", "CHANGELOG.md", "FILES.json", "MANIFEST.json"}
    assert sum((shipped / name).stat().st_size for name in files) < 10_000_000


def test_nothing_that_is_shipped_needs_the_zone_in_a_box(installed: Path) -> None:
    shipped = installed / "collections/ansible_collections/opennebula/flower"
    files = [path for part in ("inventories", "playbooks", "plugins", "roles") for path in (shipped / part).rglob("*") if path.is_file()]
    assert len(files) > 300
    assert [str(path) for path in files if re.search(rb"inventories/lab\b|\blab/|python3? -m lab|from lab\b|import lab\b", path.read_bytes())] == []


@pytest.fixture
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        yield zone


def test_the_example_inventory_of_the_archive_plans_and_tears_down_a_federation(installed: Path, zone: ModuleZone) -> None:
    inventory = installed / "mine"
    shutil.copytree(installed / "collections/ansible_collections/opennebula/flower/inventories/single_site", inventory)
    zone.call("one.vn.allocate", 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="10.0.0.10",SIZE="9"]', 0)
    access = {"api_url": zone.options["api_url"], "oneflow_url": zone.options["oneflow_url"], "api_username": "oneadmin", "api_password": PASSWORD}
    (inventory / "access.json").write_text(json.dumps({f"one_{name}": value for name, value in access.items()}))
    given = ("-i", "mine/hosts.yml", "-e", "@mine/access.json")
    status, output = play(installed, "site", *given, "--check", "--diff")
    assert status == 0, output
    status, output = play(installed, "teardown", *given)
    assert status == 0, output
    assert changes(output) == 0


def test_a_zone_that_is_not_there_is_said_with_the_reason(installed: Path) -> None:
    inventory = installed / "nowhere"
    shutil.copytree(installed / "collections/ansible_collections/opennebula/flower/inventories/single_site", inventory)
    status, output = play(installed, "site", "-i", "nowhere", "--check", "-e", "one_api_url=http://127.0.0.1:9/RPC2", "-e", "one_api_password=x")
    assert status == 2, output
    assert re.search(r'fatal: \[zone0\]: FAILED! => \{"changed": false, "msg": "http://127.0.0.1:9/RPC2 cannot be reached: [^;]*"\}', output), output
