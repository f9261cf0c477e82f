# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The filters that know Flower."""

from __future__ import annotations

import re

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.opennebula.flower.plugins.filter.flower import FilterModule

FILTERS = FilterModule().filters()


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("--host", "--host"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ("a\\b", '"a\\\\b"'),
        ("two\nlines", '"two\\nlines"'),
        (";", '";"'),
        ("a\rb", '"a\\rb"'),
        ("a\x0bb\x85c\u2028d", '"a\\U0000000bb\\U00000085c\\U00002028d"'),
        (9092, "9092"),
    ],
)
def test_systemd_quote(argument: object, quoted: str) -> None:
    assert FILTERS["systemd_quote"]([argument]) == quoted


def test_a_unit_of_systemd_holds_no_nul() -> None:
    with pytest.raises(AnsibleFilterError, match="NUL"):
        FILTERS["systemd_quote"](["a\0b"])


def test_command_lines_come_as_lists() -> None:
    assert FILTERS["flower_superlink_command"]("1.42.0", port=18000)[0] == "flower-superlink"
    assert FILTERS["flower_supernode_command"]("1.42.0", "10.0.0.1:9092")[0] == "flower-supernode"


def test_what_templates_need() -> None:
    assert "ONEAPP_FL_NUM_ROUNDS" in FILTERS["flower_user_inputs"]("superlink")
    assert FILTERS["flower_context_section"]("superlink")["TOKEN"] == "YES"
    assert FILTERS["flower_context_values"]({"flower_num_rounds": 5}) == {"ONEAPP_FL_NUM_ROUNDS": "5"}


def test_a_framework_is_its_pinned_packages_and_the_module_that_shows_it_is_there() -> None:
    assert FILTERS["flower_framework"]("sklearn") == {
        "name": "sklearn", "title": "scikit-learn", "module": "sklearn", "packages": ["scikit-learn==1.9.1"],
        "image_packages": ["river==0.26.1"], "cpu_packages": ["scikit-learn==1.9.1"], "cuda": {},
    }  # fmt: skip
    assert FILTERS["flower_framework"]("base")["module"] == ""


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_builds_for_cpu_and_gpu_are_of_the_same_release(name: str) -> None:
    found = FILTERS["flower_framework"](name)
    builds = [found["packages"], found["cpu_packages"], found["cuda"]["packages"]]
    assert len({re.search(r"\d[^+]*", build[0])[0] for build in builds}) == 1
    assert builds[0][1:] == builds[1][1:] == builds[2][1:]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("flower_image", ("1.25.0", "superlink"), "not supported"),
        ("flower_image", ("1.42.0", "chef"), "no upstream image"),
        ("flower_framework", ("abacus",), "no framework 'abacus', expected one of: sklearn, pytorch, tensorflow, base"),
        ("flower_user_inputs", ("chef",), "no level 'chef'"),
        ("flower_supernode_command", ("1.42.0",), "superlink"),
    ],
)
def test_problems_are_errors_of_the_filter(name: str, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        FILTERS[name](*arguments)


def test_ports_are_open_unless_their_address_is_of_this_machine_alone() -> None:
    addresses = ["0.0.0.0:9092", "127.0.0.1:9093", "localhost:9094", "[::1]:9095", "[::]:9096", "fl.example.org:9097"]
    assert FILTERS["flower_open_ports"](addresses) == [9092, 9096, 9097]


@pytest.mark.parametrize(("advertised", "more"), [
    ("", []), ("10.0.0.9:443", ["IP:10.0.0.9"]), ("[2001:db8::9]:443", ["IP:2001:db8::9"]), ("fl.example.org:443", ["DNS:fl.example.org"]),
    ("10.0.0.5:443", []),
])  # fmt: skip
def test_a_certificate_has_the_names_of_the_machine_and_of_what_nodes_are_told(advertised: str, more: list[str]) -> None:
    own = ["DNS:localhost", "IP:127.0.0.1", "IP:::1", "DNS:vm", "IP:10.0.0.5"]
    assert FILTERS["flower_certificate_names"](["10.0.0.5"], "vm", advertised, ["DNS:more", "DNS:vm"]) == [*own, *more, "DNS:more"]


@pytest.mark.parametrize("service", [
    {}, {"roles": None}, {"roles": [{"name": "superlink", "nodes": [None]}]},
    {"roles": [{"name": "superlink", "nodes": [{"vm_info": {"VM": {"USER_TEMPLATE": 7}}}]}]},
])  # fmt: skip
def test_a_service_of_another_shape_published_nothing(service: dict) -> None:
    assert FILTERS["flower_published"](service, "superlink") == []


def test_what_vms_of_a_role_published() -> None:
    nodes = [{"vm_info": {"VM": {"USER_TEMPLATE": {"FL_READY": "YES"}}}}, {"vm_info": {"VM": {"USER_TEMPLATE": ""}}}, {"vm_info": {"VM": {}}}]
    service = {"roles": [{"name": "superlink", "nodes": nodes}, {"name": "supernode", "nodes": nodes}, {"name": "none"}]}
    assert FILTERS["flower_published"](service, "superlink") == [{"FL_READY": "YES"}, {}, {}]
