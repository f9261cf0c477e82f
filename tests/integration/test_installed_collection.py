# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The collection as its archive installs it, without a checkout: playbooks by name, and what they say when something is missing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION
from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, changes, module_zone
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

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
    ("build_appliance", (), "appliance_guest_agent is not set: name the package of OpenNebula's guest agent"),
    ("build_appliance", ("-e", "appliance_target=opennebula"), "appliance_base_image"),
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


# The first step of a build that takes minutes, which is for a test to end.
LONG_STEP = """#!/bin/sh
for archive; do :; done
echo unfinished >"$archive"
echo $$ >{place}/reached.part
mv {place}/reached.part {place}/reached
{rest}
"""


class Build:
    """Builds of one image by the installed collection, as far as their first long step: a base that this machine does not have."""

    name = "flower-superlink-native"

    def __init__(self, installed: Path, place: Path) -> None:
        self._installed, self._place = installed, place
        self.output, self.reached, self.base = place / "images", place / "reached", f"flower-test-{place.name.lower()}:1"
        shipped = installed / "collections/ansible_collections/opennebula/flower"
        self.machine = f"build-{hashlib.sha256(str(shipped.resolve()).encode()).hexdigest()[:6]}-superlink-native"
        (place / "bin").mkdir()
        (place / "wheels").mkdir()
        guest = yaml.safe_load((shipped / "roles/flower_appliance/defaults/main.yml").read_text())["flower_appliance_python_packages"]
        for requirement in (*guest, f"flwr=={DEFAULT_VERSION}", "numpy==2"):
            self._wheel(*requirement.split("=="))

    def _wheel(self, name: str, version: str) -> None:
        """Make a Python package with nothing in it."""
        stem = f"{name.replace('-', '_')}-{version}"
        with zipfile.ZipFile(self._place / f"wheels/{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")

    def start(self, rest: str) -> subprocess.Popen[str]:
        """Start a build whose long step ends with a command."""
        program = self._place / "bin/mmdebstrap"
        program.write_text(LONG_STEP.format(place=self._place, rest=rest))
        program.chmod(0o755)
        self.reached.unlink(missing_ok=True)
        variables = {
            "appliance_guest_agent": str(self._agent()), "appliance_images": self.name, "appliance_image_output": str(self.output),
            "appliance_image_wheelhouse": str(self._place / "wheels"), "appliance_image_machine_image": self.base,
        }  # fmt: skip
        known = environment(self._installed)
        return subprocess.Popen(
            ["ansible-playbook", "opennebula.flower.build_appliance", "-e", json.dumps(variables)], cwd=self._place, text=True,
            env={**known, "PATH": f"{self._place / 'bin'}:{known['PATH']}"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _agent(self) -> Path:
        control = self._place / "agent/DEBIAN"
        control.mkdir(parents=True, exist_ok=True)
        (control / "control").write_text("Package: one-context\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: nothing\n")
        subprocess.run(["dpkg-deb", "--build", str(control.parent), str(self._place / "agent.deb")], check=True, capture_output=True)
        return self._place / "agent.deb"

    def left(self) -> dict[str, list[str]]:
        """What there is of a build: images with what belongs to them, mounts, containers and images of the engine."""

        def engine(*words: str) -> list[str]:
            return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.split()

        return {
            "images": sorted(path.name for path in self.output.glob("*") if path.is_file()),
            "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if str(self._place) in line],
            "containers": engine("ps", "--all", "--quiet", "--filter", f"name=^{self.machine}$"),
            "engine": engine("image", "ls", "--quiet", self.base),
        }  # fmt: skip


NOTHING = {"images": [], "mounts": [], "containers": [], "engine": []}


def family(process: int) -> list[int]:
    """A process and all that it started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


@pytest.fixture
def build(installed: Path, tmp_path: Path) -> Build:
    return Build(installed, tmp_path)


@pytest.mark.parametrize("interrupted", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_build_that_was_interrupted_leaves_nothing_that_works_and_the_next_one_goes_on(build: Build, interrupted: signal.Signals) -> None:
    with build.start("exec sleep 600") as process:
        wait_until(lambda: build.reached.exists() or process.poll() is not None, "the long step of the build", seconds=600)
        assert build.reached.exists(), process.stdout.read()
        for one in family(process.pid):
            os.kill(one, interrupted)
        assert process.wait() != 0
    assert build.left() == NOTHING
    with build.start("echo the mirror is gone >&2; exit 1") as process:
        output = process.communicate()[0]
    assert process.returncode == 2 and "the mirror is gone" in output and build.reached.exists(), output
    assert build.left() == NOTHING
    assert [path.name for path in build.output.rglob("*") if path.is_file()] == []
