# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Appliances in a private marketplace: put there by marketplace.yml, deployed from there by a user without Ansible."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.opennebula.flower.plugins.module_utils import appliances, contextualization
from ansible_collections.opennebula.flower.tests.support.appliance_manifests import manifest
from ansible_collections.opennebula.flower.tests.support.marketplace_user import MarketplaceUser
from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, changes, module_zone

ROOT = Path(__file__).parents[2]
FACTS = {"publisher": "Example", "version": "1", "logo": "flower.png", "image_url": "https://images.example.org"}
IMAGES = {"superlink": manifest("superlink"), "supernode": manifest("supernode", "sklearn")}
SERVICE = "Flower federated learning - scikit-learn"
DEADLINE = 300.0


@pytest.fixture
def zone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone"), version=getattr(request, "param", "7.4")) as zone:
        zone.call("one.market.allocate", 'NAME="ours"\nMARKET_MAD="http"\nBASE_URL="http://market"\nPUBLIC_DIR="/srv"')
        zone.call("one.vn.allocate", 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="10.0.0.10",SIZE="9"]', 0)
        yield zone


def user_of(zone: ModuleZone) -> MarketplaceUser:
    return MarketplaceUser(zone.options["api_url"], zone.options["oneflow_url"], zone.session)


def vms(user: MarketplaceUser, role: str) -> list:
    return [vm for vm in user.one.vmpool.infoextended(-2, -1, -1, -1).VM if vm.USER_TEMPLATE.get("ROLE_NAME") == role]


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE:g} s in vain for: {what}"
        time.sleep(0.05)


def context(vm: object) -> dict[str, str]:
    return {name: value or "" for name, value in vm.TEMPLATE["CONTEXT"].items()}


@pytest.mark.parametrize("zone", ["7.4", "6.10"], indirect=True)
def test_a_user_deploys_the_service_from_the_marketplace_without_ansible(zone: ModuleZone) -> None:
    for app in appliances.appliances(IMAGES.values(), FACTS):
        if app["role"]:
            zone.changed("one_image", name=app["role"], path=f"/images/{app['role']}", size=1200, wait_timeout=600)
            origin = {"image": app["role"], "image_template": {"DEV_PREFIX": "vd"}, "vm_attributes": app["vm_attributes"]}
        else:
            origin = {"service": app["service"], "service_roles": app["service_roles"]}
        wanted = {"name": app["name"], "marketplace": "ours", "template": app["template"], "wait_timeout": 600, **origin}
        zone.changed("one_marketplace_app", **wanted)
        zone.unchanged("one_marketplace_app", **wanted)

    user = user_of(zone)
    network = user.one.vnpool.info(-2, -1, -1).VNET[0].ID
    exported = user.export(SERVICE, "mine", "default")
    assert [user.one.template.info(number).NAME for number in exported.vm_templates] == ["mine-superlink-0", "mine-supernode-1"]
    user.instantiate(exported.service_template, network, ONEAPP_FL_USE_CASE="digits", ONEAPP_FL_NUM_ROUNDS="7", ONEAPP_FL_NODE_CONFIG="site=a")
    wait(lambda: vms(user, "superlink"), "a VM of the SuperLink")
    assert not vms(user, "supernode"), "they wait for the SuperLink"
    (superlink,) = vms(user, "superlink")
    wait(lambda: user.one.vm.info(superlink.ID).LCM_STATE == 3, "a SuperLink that runs")
    user.one.vm.update(superlink.ID, "READY=YES", 1)
    wait(lambda: len(vms(user, "supernode")) == 2, "two SuperNodes")

    said = contextualization.validate(context(superlink), "superlink")
    assert (said["flower_num_rounds"], said["flower_use_case"], said["flower_strategy"]) == (7, "digits", "FedAvg")
    for node in vms(user, "supernode"):
        said = contextualization.validate(context(node), "supernode")
        assert (said["flower_ml_framework"], said["flower_use_case"], said["flower_node_config"]) == ("sklearn", "digits", {"site": "a"})
        assert context(node)["TOKEN"] == "YES" and node.TEMPLATE["NIC"]["NETWORK_ID"] == str(network)


@pytest.fixture
def play(zone: ModuleZone, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run marketplace.yml on the manifests of two images; returns exit status and output with its lines joined."""
    paths = []
    for each in IMAGES.values():
        paths.append(str(tmp_path / f"{each['name']}.json"))
        Path(paths[-1]).write_text(json.dumps(each))
    settings = {
        "flower_image_datastore": "default", "flower_superlink_image_name": "superlink", "flower_superlink_image_path": "/images/superlink",
        "flower_supernode_image_name": "supernode", "flower_supernode_image_path": "/images/supernode",
        "marketplace_output": str(tmp_path / "shelf"), "marketplace_manifests": paths, "marketplace_image_url": "https://images.example.org",
        **{f"one_{name}": value for name, value in zone.options.items()},
    }  # fmt: skip
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": {"coordinator": {"hosts": {"zone0": {}}}}, "vars": {"lab": True}}}))

    def run(*arguments: str, **more: object) -> tuple[int, str]:
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.json"), str(ROOT / "playbooks/marketplace.yml")]
        done = subprocess.run(
            [*command, "-e", json.dumps({**settings, **more}), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    return run


@pytest.mark.long
def test_the_playbook_writes_the_descriptions_and_fills_a_marketplace_once(zone: ModuleZone, play: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    zone.calls.clear()
    status, output = play("--check", marketplace_name="ours")
    assert status == 0, output
    assert zone.writes == [] and not (tmp_path / "shelf").exists()

    status, output = play(marketplace_name="ours")
    assert status == 0, output
    files = sorted(path for path in (tmp_path / "shelf").glob("appliances/*/*.yaml") if path.name != "metadata.yaml")
    described = {text["name"]: text for text in map(yaml.safe_load, (path.read_text() for path in files))}
    assert set(described) == {"Flower SuperLink", "Flower SuperNode - scikit-learn", SERVICE}
    assert all(appliances.errors(each, appliances.SCHEMA) == [] for each in described.values())
    assert {path.parent.name for path in files} == {"flower-superlink-native", "flower-supernode-sklearn-native", "flower-service-sklearn"}
    for path in files:
        assert described[yaml.safe_load(path.read_text())["name"]]["version"] in path.with_name("CHANGELOG.md").read_text()
        assert path.with_name("README.md").exists()
    tested = [yaml.safe_load(path.read_text()) for path in (tmp_path / "shelf").glob("appliances/*/metadata.yaml")]
    assert len(tested) == len(IMAGES) and all(appliances.errors(each, appliances.METADATA_SCHEMA) == [] for each in tested)
    assert (tmp_path / "shelf/logos/flower.png").read_bytes().startswith(b"\x89PNG")
    assert {app.NAME for app in user_of(zone).one.marketapppool.info(-2, -1, -1).MARKETPLACEAPP} == set(described)

    zone.calls.clear()
    status, output = play(marketplace_name="ours")
    assert status == 0 and changes(output) == 0 and zone.writes == [], output


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"marketplace_image_url": "/srv/images"}, "marketplace_image_url is '/srv/images', expected the http(s) URL of the directory"),
        ({"marketplace_manifests": []}, "there is no manifest of an image in build/appliances of this directory"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(play: Callable[..., tuple[int, str]], tmp_path: Path, settings: dict[str, object], sentence: str) -> None:
    status, output = play(**settings)
    assert status != 0
    assert sentence in output
    assert not (tmp_path / "shelf").exists()


def test_a_service_app_and_an_image_app_are_not_turned_into_each_other(zone: ModuleZone) -> None:
    service = {"service": {"name": "s", "roles": [{"name": "a", "cardinality": 1}]}, "service_roles": {"a": "x"}}
    zone.changed("one_marketplace_app", name="app", marketplace="ours", **service)
    zone.changed("one_image", name="disk", path="/images/disk")
    failed = zone.fails("one_marketplace_app", name="app", image="disk")
    assert failed["error"]["kind"] == "conflict" and "is of type SERVICE_TEMPLATE, which cannot be changed" in failed["msg"]
    changed = zone.changed("one_marketplace_app", name="app", **{**service, "service_roles": {"a": "y"}})
    assert changed["diff"]["after"] == {"service_roles": {"a": "y"}}
    zone.unchanged("one_marketplace_app", name="app", template={})
    failed = zone.fails("one_marketplace_app", name="other", marketplace="ours", **{**service, "service_roles": {}})
    assert "service and service_roles need the same roles, a is in one of them" in failed["msg"]
    assert "image cannot be given with service" in zone.fails("one_marketplace_app", name="other", image="disk", **service)["msg"]
