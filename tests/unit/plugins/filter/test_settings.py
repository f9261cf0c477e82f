# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The settings of an inventory are checked together, and every problem is said at once."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.filter.settings import image_errors, role_settings, setting_errors, setting_names, settings


def check(nodes=2, least=2, most=4, **given):
    return settings(given, nodes, least, most)


def test_without_settings_the_defaults_hold():
    checked = check()
    assert checked["errors"] == []
    assert checked["values"]["flower_num_rounds"] == 3
    assert checked["values"]["flower_ml_framework"] == "sklearn"


@pytest.mark.parametrize("text", [False, "false", "no", "NO", "0"])
def test_booleans_are_taken_as_ansible_writes_them(text):
    assert check(flower_tls_enabled=text)["values"]["flower_tls_enabled"] is False


def test_every_problem_names_variable_and_value():
    errors = "\n".join(check(nodes=7, flower_num_rounds=0, flower_strategy="Mean")["errors"])
    assert "flower_supernodes: 7" in errors
    assert "flower_num_rounds: '0'" in errors
    assert "flower_strategy: 'Mean'" in errors
    assert "ONEAPP_" not in errors


def test_problem_of_both_roles_is_said_once():
    assert len(check(flower_log_level="LOUD")["errors"]) == 1


def test_more_minimum_clients_than_nodes_are_refused():
    (error,) = check(nodes=2, flower_min_available_clients=3)["errors"]
    assert "flower_min_available_clients is 3" in error and "only 2 SuperNodes" in error


@pytest.mark.parametrize("count", [0, -1, "two", ""])
def test_number_of_nodes_is_a_positive_number(count):
    assert any(error.startswith(f"flower_supernodes: '{count}'") for error in check(nodes=count)["errors"])


@pytest.mark.parametrize(
    ("use_case", "framework", "possible"),
    [("image-classification", "sklearn", "pytorch, tensorflow"), ("digits", "pytorch", "sklearn"), ("anomaly-detection", "base", "sklearn, pytorch")],
)
def test_a_use_case_that_does_not_run_on_the_framework_is_refused(use_case, framework, possible):
    assert check(flower_use_case=use_case, flower_ml_framework=framework)["errors"] == [
        f"flower_ml_framework: '{framework}' is not valid, expected one of: {possible}, because flower_use_case is '{use_case}'"
    ]


def test_an_app_of_ones_own_runs_on_every_framework():
    assert [check(flower_ml_framework=name)["errors"] for name in ("sklearn", "pytorch", "tensorflow", "base")] == [[]] * 4


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("flower_num_rounds", 7),
        ("flower_proximal_mu", 1),
        ("flower_image_channels", 3),
        ("flower_node_config", {"rate": 0.5, "note": "two 'words'", "truth": True, "text": "007", "empty": ""}),
        ("flower_cert_extra_san", ["IP:10.0.0.1", "DNS:a.example.org"]),
        ("flower_app_config", {}),
        ("flower_image_classes", "cat,dog"),
    ],
)
def test_a_typed_value_stays_what_it_is(name, typed):
    checked = check(**{name: typed})
    assert checked["errors"] == []
    assert checked["values"][name] == typed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("flower_num_rounds", 2.5, "'2.5' is not valid, expected a whole number of at least 1"),
        ("flower_num_rounds", True, "'True' is not valid"),
        ("flower_num_rounds", [3], "'[3]' is not valid"),
        ("flower_proximal_mu", -1, "'-1' is not valid, expected a number of at least 0"),
        ("flower_proximal_mu", float("nan"), "'nan' is not valid"),
        ("flower_image_channels", 2, "'2' is not valid, expected one of: 1, 3"),
        ("flower_strategy", ["FedAvg"], "is not valid, expected one of: FedAvg"),
        ("flower_version", 1.42, "'1.42' is not valid, expected one of:"),
        ("flower_tls_enabled", "perhaps", "'perhaps' is not valid, expected YES or NO"),
        ("flower_node_config", {"a b": 1}, "is not valid, expected space separated key=value pairs"),
        ("flower_node_config", {"a": [1]}, "is not valid, expected space separated key=value pairs"),
        ("flower_node_config", {"a": "b\nc"}, "is not valid, expected space separated key=value pairs"),
        ("flower_node_config", {"a": float("inf")}, "is not valid, expected space separated key=value pairs"),
        ("flower_cert_extra_san", ["10.0.0.1"], "is not valid, expected entries IP:<address> or DNS:<name>"),
        ("flower_cert_extra_san", [7], "is not valid, expected entries IP:<address> or DNS:<name>"),
        ("flower_ssl_keyfile", {"a": 1}, "the given value is not valid"),
    ],
)
def test_a_value_of_another_type_or_out_of_bounds_is_refused_with_its_variable(name, value, words):
    (error,) = check(**{name: value})["errors"]
    assert error.startswith(f"{name}: ") and words in error


def test_only_parameters_are_settings():
    assert setting_names(["flower_service_name", "flower_num_rounds", "flower_network"]) == ["flower_num_rounds"]


def test_what_is_ignored_or_unwise_is_said_with_the_names_of_the_variables():
    checked = check(flower_strategy="FedProx", flower_proximal_mu=0, flower_trim_beta=0.1, flower_node_config={"a": 1})
    assert checked["notes"] == [
        "flower_trim_beta is ignored: flower_strategy is FedProx",
        "flower_proximal_mu is 0: FedProx is FedAvg then",
    ]


def test_all_problems_of_a_strategy_are_said():
    errors = check(flower_strategy="Bulyan", flower_num_malicious=1)["errors"]
    assert errors == [
        f"flower_min_{which}_clients: 2 is not valid, expected at least 7 for Bulyan with flower_num_malicious 1" for which in ("fit", "available")
    ]


def test_the_problems_of_one_role_are_those_of_its_own_variables():
    given = {"flower_database": "--help", "flower_superlink_address": "0.0.0.0:9092", "flower_log_level": "INFO"}
    (superlink,), (supernode,) = setting_errors(given, "superlink"), setting_errors(given, "supernode")
    assert superlink.startswith("flower_database: '--help' is not valid, expected a file below state/")
    assert supernode.startswith("flower_superlink_address: '0.0.0.0:9092' is not valid, expected host:port")
    assert setting_errors({}, "superlink") == setting_errors({}, "supernode") == []


@pytest.mark.parametrize("text", ["-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t"])
def test_a_role_takes_pem_only_as_it_is_written_to_the_file(text):
    assert "has not the line ends of PEM" in setting_errors({"flower_ssl_ca_certfile": text}, "supernode")[0]


def test_a_role_gets_typed_values_without_secrets() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    checked = role_settings({"flower_num_rounds": "7", "flower_metrics_keyfile": "", "flower_s3_secret_key": "", "one_api_password": key}, "superlink")
    assert checked["errors"] == []
    assert checked["values"]["flower_num_rounds"] == 7
    assert checked["values"]["flower_strategy"] == "FedAvg"
    assert not {"flower_metrics_keyfile", "flower_s3_secret_key", "one_api_password"} & checked["values"].keys()


def test_a_role_gets_no_values_with_errors() -> None:
    checked = role_settings({"flower_num_rounds": "ten"}, "superlink")
    assert checked == {"values": {}, "errors": ["flower_num_rounds: 'ten' is not valid, expected a whole number of at least 1"]}


DIGEST = f"sha256:{'0123456789abcdef' * 4}"


@pytest.mark.parametrize(
    "name", ["flwr/superlink:1.42.0-py3.13-ubuntu24.04", f"flwr/superlink@{DIGEST}", f"registry.example.org:5000/a/superlink:1.42.0@{DIGEST}", "superlink"]
)
def test_an_image_is_named_by_tag_by_digest_or_by_both(name):
    assert image_errors({"flower_superlink_image": name}) == []


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:0123", DIGEST.upper(), f"md5:{DIGEST[-32:]}", f"{DIGEST}0", f"{DIGEST}\n", f"{DIGEST}@{DIGEST}"])
def test_what_is_no_digest_is_refused(digest):
    (error,) = image_errors({"flower_superlink_image": f"flwr/superlink:1.42.0@{digest}"})
    assert error.startswith("flower_superlink_image has no digest of an image after its @, expected sha256: and 64 hexadecimal digits: ")
    assert error.isprintable()


@pytest.mark.parametrize("name", ["", "--privileged", "a b", "a\nb", f"@{DIGEST}", "a" * 1000 + "$"])
def test_each_name_that_is_none_is_said(name):
    errors = image_errors({"flower_superlink_image": name, "flower_superexec_image": "flwr/superexec", "flower_dcgm_image": name})
    assert [error.partition(" is not a valid name of an image: ")[0] for error in errors] == ["flower_superlink_image", "flower_dcgm_image"]
    assert all(error.isprintable() and len(error) < 200 for error in errors)
