# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A training out of a private marketplace: an operator fills it with marketplace.yml, a user gets along with the calls of OpenNebula's own tools.

The tests build on each other.
"""

from __future__ import annotations

import configparser
import json
import secrets
from typing import Any

import pytest
from lab_checkout import ALL, ANY, ROOT, ZONE, endpoint, objects, playbook, zone

from ansible_collections.opennebula.flower.plugins.module_utils.one.core import states
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import protocol
from ansible_collections.opennebula.flower.tests.support.appliance_manifests import manifest
from ansible_collections.opennebula.flower.tests.support.marketplace_user import Exported, MarketplaceUser
from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

pytestmark = pytest.mark.long

MARKETPLACE, NETWORK = "ours", "private"
SERVICE = "Flower federated learning - scikit-learn"
ROUNDS = 2  # not the default
USERS = 1
# What a form of the marketplace asks for is more than two cores have three times.
SMALL = 'CPU="0.5"\nVCPU="1"\nMEMORY="1536"\n'
READY, ERROR = 1, 5  # states of an image
SECONDS = 3600  # the VMs share the processors of one machine, which may have other things to do
# What the user puts in; all else has its default.
FORM = {
    "ONEAPP_FL_USE_CASE": "digits", "ONEAPP_FL_NUM_ROUNDS": str(ROUNDS), "ONEAPP_FL_NODES_TIMEOUT": str(SECONDS), "ONEAPP_FL_ROUND_TIMEOUT": str(SECONDS),
}  # fmt: skip


@pytest.fixture(scope="module")
def marketplace(empty_zone: None) -> None:
    """What the operator does: the appliances in a private marketplace of the zone, and a network for everybody's VMs."""
    playbook("build_appliance")
    one = zone()
    one.market.allocate({"NAME": MARKETPLACE, "MARKET_MAD": "http", "BASE_URL": "http://market.example.org", "PUBLIC_DIR": "/srv"})
    endpoints = configparser.ConfigParser()
    endpoints.read_string("[zone]\n" + (ZONE / "endpoints").read_text())
    prefix = endpoints["zone"]["LAB_SUBNET"].removesuffix(".0/24")
    one.vn.allocate(
        f'NAME="{NETWORK}"\nVN_MAD="bridge"\nBRIDGE="flower1"\nNETWORK_ADDRESS="{prefix}.0"\nNETWORK_MASK="255.255.255.0"\nGATEWAY="{prefix}.1"\n'
        f'AR=[TYPE="IP4",IP="{prefix}.10",SIZE="40"]\n', 0,
    )  # fmt: skip
    (ROOT / "build/appliances").mkdir(exist_ok=True)
    for each in (manifest("superlink", runtime="container"), manifest("supernode", "sklearn", "container")):
        (ROOT / f"build/appliances/{each['name']}.json").write_text(json.dumps(each))
    playbook("marketplace", "-e", "marketplace_image_url=https://images.example.org/flower", "-e", f"marketplace_name={MARKETPLACE}")


@pytest.fixture(scope="module")
def user(marketplace: None) -> MarketplaceUser:
    """Somebody whom the operator lets in, with the rights of everybody."""
    name, password = "ana", secrets.token_urlsafe(16)
    zone().user.allocate(name, password, "core", [USERS])
    flow = (ZONE / "endpoints").read_text().partition("ONEFLOW_URL=")[2].partition("\n")[0]
    return MarketplaceUser(endpoint(), flow, f"{name}:{password}")


@pytest.fixture(scope="module")
def exported(user: MarketplaceUser) -> Exported:
    """The service, its VM templates and images, as the user exported them from the marketplace."""
    exported = user.export(SERVICE, "federation", "default")

    def ready() -> bool:
        made = [user.one.image.info(number) for number in exported.images]
        assert all(image.STATE != ERROR for image in made), [image.TEMPLATE.get("ERROR") for image in made]
        return all(image.STATE == READY for image in made)

    wait_until(ready, f"images {exported.images} that are READY", SECONDS)
    for number in exported.vm_templates:
        user.one.template.update(number, SMALL, 1)
    return exported


@pytest.fixture(scope="module")
def service(user: MarketplaceUser, exported: Exported) -> int:
    """A service that runs, instantiated with what the user put into the form."""
    network = next(net.ID for net in user.one.vnpool.info(ALL, ANY, ANY).VNET if net.NAME == NETWORK)
    number = user.instantiate(exported.service_template, network, **FORM)
    wait_until(lambda: state(user, number) == "RUNNING", f"service {number} to be RUNNING;", SECONDS, lambda: str(seen(user, number)))
    return number


def state(user: MarketplaceUser, service: int) -> str:
    """The state of a service, which must not be one that nothing follows, nor may a VM of it have failed to boot."""
    body = user.service(service)
    name = states.name(states.SERVICE, body["state"]) if body else "gone"
    said = seen(user, service)
    assert not name.startswith("FAILED") and not any("FL_ERROR" in each for each in said.values()), f"service {service} is {name}: {said}"
    return name


def machines(user: MarketplaceUser, service: int, role: str) -> list[Any]:
    """The VMs of a role, as the user sees them."""
    nodes = [node for part in user.service(service).get("roles", []) if part["name"] == role for node in part["nodes"]]
    return [user.one.vm.info(int(node["deploy_id"])) for node in nodes]


def seen(user: MarketplaceUser, service: int) -> dict[str, dict[str, Any]]:
    """What the VMs of a service say of themselves."""
    told = ("READY", "FL_READY", "FL_NODE_READY", "FL_ERROR", "ERROR")
    return {
        f"VM {vm.ID} of role {role}": {"state": (vm.STATE, vm.LCM_STATE)} | {key: vm.USER_TEMPLATE[key] for key in told if key in vm.USER_TEMPLATE}
        for role in ("superlink", "supernode")
        for vm in machines(user, service, role)
    }  # fmt: skip


def test_the_training_of_the_form_is_completed(user: MarketplaceUser, service: int) -> None:
    (superlink,) = machines(user, service, "superlink")

    def runs() -> list[dict[str, Any]]:
        return protocol.published_runs(user.one.vm.info(superlink.ID).USER_TEMPLATE)

    wait_until(lambda: any(run["status"] in protocol.ENDED for run in runs()), "a training that has ended;", SECONDS, lambda: json.dumps(runs()))
    (run,) = runs()
    assert (run["status"], run["round"], run["rounds"]) == (protocol.COMPLETED, ROUNDS, ROUNDS), run["message"]
    assert [each["round"] for each in run["history"]] == list(range(1, ROUNDS + 1))
    assert run["nodes"] == len(machines(user, service, "supernode"))
    assert run["metrics"]["accuracy"] > 0.8


def test_oneflow_deletes_the_service_and_what_was_exported(user: MarketplaceUser, service: int, exported: Exported) -> None:
    user.delete_service(service)
    wait_until(lambda: state(user, service) == "gone", f"service {service} to be gone", SECONDS)
    assert user.one.vmpool.info(ALL, ANY, ANY, -1).VM == []
    user.delete_template(exported.service_template)
    # What the operator made: an image for each appliance, and the network.
    there = {"vms": 0, "templates": 0, "images": 2, "networks": 1, "service templates": 0, "services": 0}
    wait_until(lambda: objects() == there, "what the user exported to be gone;", SECONDS, lambda: str(objects()))
