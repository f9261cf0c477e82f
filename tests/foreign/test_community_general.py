# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The OpenNebula modules of community.general work against the zone."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import CLIENTS


@pytest.fixture
def module(foreign):
    """Run a module of community.general on this machine and return its result."""
    def run(module_name: str, /, **options: object) -> dict:
        arguments = {
            "api_url": foreign.zone.xmlrpc_url, "api_username": "oneadmin", "api_password": foreign.session.partition(":")[2],
            **options,
        }
        program = (
            "import json, sys; from ansible.module_utils.testing import patch_module_args\n"
            f"from ansible_collections.community.general.plugins.modules import {module_name}\n"
            f"with patch_module_args(json.loads(sys.argv[1])): {module_name}.main()\n"
        )
        words = ("env", f"PYTHONPATH={CLIENTS / 'collections'}", sys.executable, "-c", program, json.dumps(arguments))
        return json.loads(foreign.run(*words).splitlines()[-1])

    return run


def test_templates_are_made_once_and_removed(module) -> None:
    wanted = {"name": "small", "template": 'CPU="0.1"\nMEMORY="64"'}
    assert module("one_template", **wanted)["changed"] is True
    assert module("one_template", **wanted)["changed"] is False
    assert module("one_template", name="small", state="absent")["changed"] is True


def test_hosts_and_networks(module) -> None:
    assert module("one_host", name="host02", state="present")["changed"] is True
    network = {"name": "private", "template": 'VN_MAD="bridge"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="9"]'}
    assert module("one_vnet", **network)["changed"] is True
    # The module replaces the whole template at its second run, where oned leaves the range in it and no security group.
    assert module("one_vnet", **network)["changed"] is True
    assert module("one_vnet", **network)["changed"] is False


def test_images_and_vms(module) -> None:
    image = {"name": "disk", "create": True, "datastore_id": 1, "template": 'PATH="/x"\nSIZE="10"'}
    assert module("one_image", **image)["changed"] is True
    assert [each["name"] for each in module("one_image_info", name="disk")["images"]] == ["disk"]
    module("one_template", name="web", template='CPU="0.1"\nVCPU="1"\nMEMORY="64"\nDISK=[IMAGE="disk"]')
    made = module("one_vm", template_name="web", exact_count=1, count_attributes={"name": "web1"}, attributes={"name": "web1"})
    assert made["changed"] is True and len(made["instances_ids"]) == 1
    again = module("one_vm", template_name="web", exact_count=1, count_attributes={"name": "web1"}, attributes={"name": "web1"})
    assert again["changed"] is False
    gone = module("one_vm", state="absent", instance_ids=made["instances_ids"])
    assert gone["changed"] is True
