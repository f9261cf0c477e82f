# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Descriptions of appliances for marketplaces, derived from manifests and the table of parameters."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils import appliances
from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import PARAMETERS, context_section
from ansible_collections.opennebula.flower.tests.support.appliance_manifests import manifest

FACTS = {"publisher": "Example", "publisher_email": "", "version": "1.42.0-20261120", "logo": "flower.png", "image_url": "https://images.example.org/flower/"}
IMAGES = [manifest("superlink"), manifest("supernode", "sklearn")]


@pytest.fixture(scope="module")
def described() -> dict[str, dict[str, Any]]:
    return {each["role"]: each for each in appliances.appliances(IMAGES, FACTS)}


def test_every_image_and_their_service_is_an_appliance(described: dict[str, dict[str, Any]]) -> None:
    assert [each["name"] for each in described.values()] == [
        "Flower SuperLink", "Flower SuperNode - scikit-learn", "Flower federated learning - scikit-learn",
    ]  # fmt: skip
    assert len({each["id"] for each in described.values()}) == 3
    assert [each["id"] for each in appliances.appliances(IMAGES, {**FACTS, "version": "2"})] == [each["id"] for each in described.values()]


def test_an_image_is_described_by_its_manifest(described: dict[str, dict[str, Any]]) -> None:
    assert described["superlink"]["description"]["images"] == [{
        "name": "flower-superlink-native", "url": "https://images.example.org/flower/flower-superlink-native.qcow2", "type": "OS", "dev_prefix": "vd",
        "driver": "qcow2", "size": 1_150_000_000, "checksum": {"md5": "2" * 32, "sha256": "1" * 64},
    }]  # fmt: skip
    assert described["superlink"]["description"]["creation_time"] == 1795168800


def changed(document: dict[str, Any], path: tuple, value: object) -> dict[str, Any]:
    """Return a copy with another value at a place."""
    copied = copy.deepcopy(document)
    where = copied
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = value
    return copied


@pytest.mark.parametrize("role", ["superlink", "supernode"])
def test_the_form_of_a_vm_has_an_input_for_each_name_that_its_context_uses(described: dict[str, dict[str, Any]], role: str) -> None:
    attributes = described[role]["vm_attributes"]
    assert attributes["CONTEXT"] == context_section(role)
    needs_no_input = {"ONEAPP_FL_SUPERLINK_ADDRESS", "ONEAPP_FL_GRPC_KEEPALIVE_TIMEOUT", "ONEAPP_FL_NODE_KEY_RENEWAL"}
    # Tunnels are made for a federation over zones, by site.yml.
    used = {name for name in re.findall(r"\$(ONEAPP_\w+)", " ".join(attributes["CONTEXT"].values())) if not name.startswith("ONEAPP_FL_TUNNEL_")}
    used -= needs_no_input
    assert used == set(attributes["USER_INPUTS"]) == set(attributes["INPUTS_ORDER"].split(","))


def test_a_node_for_the_edge_is_an_appliance_of_its_own_and_no_part_of_the_service() -> None:
    edge = manifest("supernode", "sklearn")
    edge["baked"]["edge"], edge["name"] = True, "flower-supernode-edge-sklearn"
    made = appliances.appliances([*IMAGES, edge], FACTS)
    assert [each["name"] for each in made] == [
        "Flower SuperLink", "Flower SuperNode - scikit-learn", "Flower SuperNode - Edge, scikit-learn", "Flower federated learning - scikit-learn",
    ]  # fmt: skip
    attributes = made[2]["vm_attributes"]
    assert (attributes["CPU"], attributes["MEMORY"]) == ("1", "1024")
    assert attributes["CONTEXT"] == context_section("edge")
    assert "ONEAPP_FL_EDGE_BACKOFF" in attributes["USER_INPUTS"]
    assert "ONEAPP_FL_GPU_ENABLED" not in attributes["USER_INPUTS"]


def test_the_service_has_every_input_once_and_hands_all_on_to_its_roles(described: dict[str, dict[str, Any]]) -> None:
    service = described[""]["service"]
    shared = set(service["custom_attrs"])
    for role in service["roles"]:
        own = set(role["custom_attrs"])
        assert not shared & own
        assert set(re.findall(r'^(\w+) = "\$\1"$', role["vm_template_contents"], re.MULTILINE)) == shared | own
        assert 'NETWORK_ID = "$Private"' in role["vm_template_contents"]
    declared = shared.union(*(role["custom_attrs"] for role in service["roles"]))
    in_table = {p.context_name for p in PARAMETERS if p.level}
    assert declared == in_table - {"ONEAPP_ML_FRAMEWORK"}, "the framework is that of the image"
    assert 'ONEAPP_ML_FRAMEWORK = "sklearn"' in service["roles"][1]["vm_template_contents"]
    assert described[""]["service_roles"] == {"superlink": "Flower SuperLink", "supernode": "Flower SuperNode - scikit-learn"}


def test_no_name_is_replaced_inside_a_longer_one(described: dict[str, dict[str, Any]]) -> None:
    for role in described[""]["service"]["roles"]:
        names = re.findall(r"\$(ONEAPP_\w+)", role["vm_template_contents"])
        assert all(len(longer) >= len(shorter) for longer, shorter in zip(names, names[1:], strict=False))


def test_the_page_names_every_input_with_its_default(described: dict[str, dict[str, Any]]) -> None:
    for each in described.values():
        assert "| `ONEAPP_FL_LOG_LEVEL` | `INFO` | Verbosity of Flower; " in each["readme"]
    assert "onemarketapp export 'Flower SuperLink' 'Flower SuperLink' --datastore default" in described["superlink"]["readme"]


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("images", 0, "checksum", "md5"), "abc", "images.0.checksum.md5: 'abc' does not match"),
        (("images", 0, "size"), "1 GB", "images.0.size: '1 GB' is not of type 'integer'"),
        (("images",), [], "images: "),
        (("logo",), "flower.svg", "logo: 'flower.svg' does not match"),
        (("opennebula_version",), 7.0, "opennebula_version: 7.0 is not of type 'string'"),
        (("opennebula_template", "memory"), 4096, "opennebula_template.memory: 4096 is not of type 'string'"),
        (("opennebula_template", "user_inputs", "x"), "text", "opennebula_template.user_inputs.x: 'text' does not match"),
        (("publisher_mail",), "a@example.org", "the description: Additional properties are not allowed"),
    ],
)
def test_what_marketplaces_would_not_take_is_named(described: dict[str, dict[str, Any]], path: tuple, value: object, place: str) -> None:
    (problem,) = appliances.errors(changed(described["superlink"]["description"], path, value), appliances.SCHEMA)
    assert problem.startswith(place)


def test_a_service_description_without_roles_is_named(described: dict[str, dict[str, Any]]) -> None:
    broken = {name: value for name, value in described[""]["description"].items() if name != "roles"}
    assert appliances.errors(broken, appliances.SCHEMA) == ["the description: 'roles' is a required property"]


def test_an_image_of_an_older_build_without_md5_is_refused() -> None:
    older = {name: value for name, value in manifest("superlink").items() if name != "md5"}
    with pytest.raises(ValueError, match="the manifest of flower-superlink-native has no md5; build the image again"):
        appliances.appliances([older], FACTS)


def test_each_framework_has_a_service_of_its_own() -> None:
    made = appliances.appliances([*IMAGES, manifest("supernode", "pytorch")], FACTS)
    services = [each for each in made if not each["role"]]
    assert [each["name"] for each in services] == ["Flower federated learning - scikit-learn", "Flower federated learning - PyTorch"]
    assert [each["service_roles"]["supernode"] for each in services] == ["Flower SuperNode - scikit-learn", "Flower SuperNode - PyTorch"]
    assert len({each["id"] for each in made}) == len(made) == 5


def test_two_images_of_the_same_part_are_no_service() -> None:
    message = "a service needs one image of a {}, but there are several: flower-{}-container, flower-{}-native"
    with pytest.raises(ValueError, match=message.format("SuperLink", "superlink", "superlink")):
        appliances.appliances([*IMAGES, manifest("superlink", runtime="container")], FACTS)
    with pytest.raises(ValueError, match=message.format("SuperNode with scikit-learn", "supernode-sklearn", "supernode-sklearn")):
        appliances.appliances([*IMAGES, manifest("supernode", "sklearn", "container")], FACTS)


def test_the_repository_is_told_how_to_test_an_image_with_the_inputs_of_its_form(described: dict[str, dict[str, Any]]) -> None:
    for role in ("superlink", "supernode"):
        metadata, attributes = described[role]["metadata"], described[role]["vm_attributes"]
        assert appliances.errors(metadata, appliances.METADATA_SCHEMA) == []
        assert metadata[":app"][":name"] == described[role]["directory"] == described[role]["description"]["images"][0]["name"]
        asked = {f":{name}": text.split("|")[4] for name, text in attributes["USER_INPUTS"].items()}
        assert metadata[":app"][":context"] == {":prefixed": False, ":params": asked}
        template = metadata[":one"][":template"]["TEMPLATE"]
        assert (template["CPU"], template["MEMORY"]) == (attributes["CPU"], attributes["MEMORY"])
        assert template["CONTEXT"]["TOKEN"] == "YES" and template["CONTEXT"].items() <= attributes["CONTEXT"].items()
    assert described[""]["metadata"] == {} and described[""]["directory"] == "flower-service-sklearn"


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ((":app", ":name"), "Flower SuperLink", ":app.:name: 'Flower SuperLink' does not match"),
        ((":app", ":type"), "vm", ":app.:type: 'vm' is not one of"),
        ((":app", ":context", ":params", ":ONEAPP_FL_NUM_ROUNDS"), 3, ":app.:context.:params.:ONEAPP_FL_NUM_ROUNDS: 3 is not of type 'string'"),
        ((":one", ":template", "TEMPLATE", "DISK"), {"IMAGE": "flower"}, ":one.:template.TEMPLATE: False schema does not allow"),
        ((":infra", ":disk"), "qcow2", ":infra: Additional properties are not allowed"),
    ],
)
def test_what_the_repository_would_not_take_is_named(described: dict[str, dict[str, Any]], path: tuple, value: object, place: str) -> None:
    (problem,) = appliances.errors(changed(described["superlink"]["metadata"], path, value), appliances.METADATA_SCHEMA)
    assert problem.startswith(place)


def test_a_changelog_keeps_former_versions_and_has_each_once(described: dict[str, dict[str, Any]]) -> None:
    def made(version: str, former: str) -> str:
        return appliances.appliances(IMAGES, {**FACTS, "version": version}, {"flower-superlink-native": former})[0]["changelog"]

    first = made("1.41.0-1", "")
    assert first.startswith("# Changelog of Flower SuperLink\n\n## [1.41.0-1] - 2026-11-20\n\n- ")
    edited = first + "- By hand.\n"
    both = made("1.42.0-1", edited)
    assert re.findall("^## .*$", both, re.MULTILINE) == ["## [1.42.0-1] - 2026-11-20", "## [1.41.0-1] - 2026-11-20"]
    assert both.endswith("- By hand.\n")
    assert made("1.42.0-1", both) == both
