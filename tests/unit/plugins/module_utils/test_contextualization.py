# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of contextualization parameters and what is derived from it."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.plugins.module_utils.flower import strategies

REPOSITORY = Path(__file__).parents[4]
OWN = [p for p in table.PARAMETERS if not p.platform]


def errors(raw: dict[str, str], role: str = "superlink") -> list[str]:
    with pytest.raises(table.ContextError) as caught:
        table.validate(raw, role)
    return caught.value.errors


class TestTable:
    # The names of the specification, in its order, and those that this collection adds.
    SPECIFIED = (
        "FLOWER_VERSION", "FL_NUM_ROUNDS", "FL_STRATEGY", "FL_MIN_FIT_CLIENTS", "FL_MIN_EVALUATE_CLIENTS",
        "FL_MIN_AVAILABLE_CLIENTS", "FL_FLEET_API_ADDRESS", "FL_CONTROL_API_ADDRESS", "FL_ISOLATION",
        "FL_DATABASE", "FL_LOG_LEVEL", "FL_SUPERLINK_ADDRESS", "FL_NODE_CONFIG", "FL_MAX_RETRIES",
        "FL_MAX_WAIT_TIME", "TOKEN", "NETWORK", "REPORT_READY", "READY_SCRIPT_PATH", "SSH_PUBLIC_KEY",
        "START_SCRIPT_BASE64", "FL_TLS_ENABLED", "FL_SSL_CA_CERTFILE", "FL_SSL_CERTFILE", "FL_SSL_KEYFILE",
        "ML_FRAMEWORK", "FL_USE_CASE", "FL_PROXIMAL_MU", "FL_SERVER_LR", "FL_CLIENT_LR", "FL_NUM_MALICIOUS",
        "FL_TRIM_BETA", "FL_CHECKPOINT_ENABLED", "FL_CHECKPOINT_INTERVAL", "FL_CHECKPOINT_PATH",
        "FL_GPU_ENABLED", "FL_CUDA_VISIBLE_DEVICES", "FL_GPU_MEMORY_FRACTION", "FL_GRPC_KEEPALIVE_TIME",
        "FL_GRPC_KEEPALIVE_TIMEOUT", "FL_CERT_EXTRA_SAN", "FL_LOG_FORMAT", "FL_METRICS_ENABLED",
        "FL_METRICS_PORT", "FL_DCGM_ENABLED", "FL_EDGE_BACKOFF", "FL_EDGE_MAX_BACKOFF",
    )  # fmt: skip
    ADDED = (
        "FL_UPLINK_LIMIT",
        "FL_ROUND_TIMEOUT", "FL_NODES_TIMEOUT", "FL_MAX_FAILED_ROUNDS",
        "FL_LOCAL_EPOCHS", "FL_LOCAL_BATCH_SIZE", "FL_LOCAL_LEARNING_RATE",
        "FL_SERVER_MOMENTUM", "FL_BETA_1", "FL_BETA_2", "FL_TAU", "FL_NODES_TO_SELECT", "FL_QFED_Q",
        "FL_FRACTION_FIT", "FL_FRACTION_EVALUATE", "FL_ROUND_COMPLETION", "FL_REPLY_COMPRESSION", "FL_DP_MODE", "FL_DP_NOISE_MULTIPLIER", "FL_DP_CLIPPING_NORM",
        "FL_DP_TARGET_QUANTILE", "FL_DP_CLIP_LR", "FL_DP_COUNT_STDDEV", "FL_PARTITION_ALPHA",
        "FL_APP_SOURCE", "FL_APP_CONFIG", "FL_APP_REQUESTS",
        "FL_CHECKPOINT_KEEP", "FL_INITIAL_MODEL", "FL_CHECKPOINT_DISK", "FL_CHECKPOINT_FORMAT_DISK", "FL_CHECKPOINT_NFS",
        "FL_S3_ENDPOINT", "FL_S3_BUCKET", "FL_S3_PREFIX", "FL_S3_REGION", "FL_S3_ACCESS_KEY", "FL_S3_SECRET_KEY", "FL_S3_CA_CERTFILE",
        "FL_ARTIFACTS_DAYS", "FL_CERT_DAYS", "FL_CA_DAYS", "FL_CERT_RENEWAL", "FL_CA_NUMBER", "FL_CA_ALSO_TRUSTED",
        "FL_CONTROL_CLIENT_CA", "FL_CONTROL_WITHOUT_CLIENT_CERTIFICATES", "FL_ADVERTISE_ADDRESS",
        "FL_NODE_AUTH_ENABLED", "FL_NODE_KEY_RENEWAL", "FL_NODE_KEYS", "FL_LISTED_NODES_ONLY",
        "FL_IMAGE_SIZE", "FL_IMAGE_CHANNELS", "FL_IMAGE_CLASSES", "FL_ANOMALY_QUANTILE",
        "FL_LLM_LORA_RANK", "FL_LLM_LORA_ALPHA", "FL_LLM_SEQUENCE_LENGTH",
        "FL_METRICS_FROM", "FL_METRICS_CERTFILE", "FL_METRICS_KEYFILE", "FL_METRICS_AUTH",
        "FL_HOST_FIREWALL_ENABLED", "FL_HOST_FIREWALL_SSH_FROM", "FL_HOST_FIREWALL_OPEN", "FL_HOST_FIREWALL_OUTBOUND",
        "FL_GATEWAY_MAX_BODY", "FL_GATEWAY_MAX_CONNECTIONS",
        "FL_TUNNEL_NETWORK", "FL_TUNNEL_PORT", "FL_TUNNEL_PEERS", "FL_TUNNEL_SUPERLINK_PUBLIC_KEY", "FL_TUNNEL_ENDPOINT", "FL_TUNNEL_KEEPALIVE",
        "FL_TUNNEL_NUMBER", "FL_TUNNEL_NEXT_NUMBER", "FL_TUNNEL_NEXT_PEERS", "FL_TUNNEL_SUPERLINK_NEXT_PUBLIC_KEY",
    )  # fmt: skip

    def test_holds_every_specified_name_in_order(self) -> None:
        names = [p.name for p in table.PARAMETERS]
        assert names == [*self.SPECIFIED, *self.ADDED]

    def test_counts_add_up_as_in_the_specification(self) -> None:
        specified = [p for p in table.PARAMETERS if p.name in self.SPECIFIED]
        # The specification has the keepalive for nodes too, whose HTTP client takes none.
        both = {"FLOWER_VERSION", "FL_ISOLATION", "FL_LOG_LEVEL"}
        tls = {"FL_TLS_ENABLED", "FL_SSL_CA_CERTFILE", "FL_SSL_CERTFILE", "FL_SSL_KEYFILE"}
        superlink = {p.name for p in specified if "superlink" in p.applies and not p.platform} - tls
        assert len(specified) == 47
        assert len([p for p in specified if not p.platform]) == 41
        # 24 of the SuperLink alone, the format of the log and the use case, which are given for a whole service.
        assert len(superlink) == 26
        assert both <= {p.name for p in specified if {"superlink", "supernode", "edge"} <= set(p.applies)}

    def test_no_name_of_an_input_is_the_beginning_of_another(self) -> None:
        # OpenNebula 6.10 replaces $NAME inside $NAME_LONGER too.
        names = sorted(p.context_name for p in OWN if p.level)
        assert [(a, b) for a in names for b in names if a != b and b.startswith(a)] == []

    def test_variables_are_unique(self) -> None:
        variables = [p.variable for p in table.PARAMETERS if p.variable]
        assert len(set(variables)) == len(variables)

    @pytest.mark.parametrize("parameter", OWN, ids=lambda p: p.name)
    def test_default_is_valid_and_survives_the_way_through_a_context(self, parameter: table.Parameter) -> None:
        (text,) = table.context_values({parameter.variable: parameter.typed_default}).values()
        assert parameter.parse(text) == parameter.typed_default

    def test_a_default_in_another_spelling(self) -> None:
        table.validate({"ONEAPP_FL_GPU_MEMORY_FRACTION": ".80", "ONEAPP_FL_GPU_ENABLED": "no"}, "superlink")

    def test_help_texts_fit_into_the_user_input_grammar(self) -> None:
        assert [p.name for p in OWN if p.user_input.count("|") != 4] == []

    def test_a_parameter_says_which_release_brought_it(self) -> None:
        released = yaml.safe_load((REPOSITORY / "changelogs" / "changelog.yaml").read_text())["releases"]
        assert {p.since for p in table.PARAMETERS} <= set(released)
        assert {p.name for p in table.PARAMETERS if p.since == "0.1.0"} == {*self.SPECIFIED, "FL_ROUND_TIMEOUT", "FL_NODES_TIMEOUT"}

    def test_page_in_the_documentation_is_up_to_date(self) -> None:
        assert (REPOSITORY / "docs" / "parameters.md").read_text() == table.reference_page()


class TestValidation:
    @pytest.mark.parametrize("role", table.ROLES)
    def test_empty_context_gives_the_defaults(self, role: str) -> None:
        blank = {p.context_name: " " for p in table.PARAMETERS}
        assert table.validate({}, role) == table.validate(blank, role) == table.role_defaults(role)

    def test_values_are_typed(self) -> None:
        raw = {
            "ONEAPP_FL_NUM_ROUNDS": " 7 ",
            "ONEAPP_FL_TLS_ENABLED": "no",
            "ONEAPP_FL_CERT_EXTRA_SAN": "IP:10.0.0.1, DNS:a.example.org,IP:fd00::1",
            "ONEAPP_FL_FLEET_API_ADDRESS": "[::]:9092",
        }
        values = table.validate(raw, "superlink")
        assert values["flower_num_rounds"] == 7
        assert values["flower_tls_enabled"] is False
        assert values["flower_cert_extra_san"] == ["IP:10.0.0.1", "DNS:a.example.org", "IP:fd00::1"]
        assert values["flower_fleet_api_address"] == "[::]:9092"

    def test_all_problems_are_reported_at_once_with_name_value_and_expectation(self) -> None:
        found = errors({"ONEAPP_FL_NUM_ROUNDS": "0", "ONEAPP_FL_LOG_LEVEL": "LOUD"})
        assert found == [
            "ONEAPP_FL_NUM_ROUNDS: '0' is not valid, expected a whole number of at least 1",
            "ONEAPP_FL_LOG_LEVEL: 'LOUD' is not valid, expected one of: DEBUG, INFO, WARNING, ERROR",
        ]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("FLOWER_VERSION", "1.41"),
            ("FLOWER_VERSION", "1.25.0"),
            ("FLOWER_VERSION", "latest; rm -rf /"),
            ("FL_NUM_ROUNDS", "-1"),
            ("FL_NUM_ROUNDS", "3.0"),
            ("FL_NUM_ROUNDS", "٣"),
            ("FL_NUM_ROUNDS", "1" * 30),
            ("FL_IMAGE_CHANNELS", "2"),
            ("FL_STRATEGY", "fedavg"),
            ("FL_STRATEGY", "5"),
            ("FL_TLS_ENABLED", "true"),
            ("FL_FLEET_API_ADDRESS", "9092"),
            ("FL_FLEET_API_ADDRESS", "0.0.0.0"),
            ("FL_FLEET_API_ADDRESS", "0.0.0.0:0"),
            ("FL_FLEET_API_ADDRESS", "0.0.0.0:65536"),
            ("FL_FLEET_API_ADDRESS", "256.0.0.1:9092"),
            ("FL_FLEET_API_ADDRESS", "::1:9092"),
            ("FL_FLEET_API_ADDRESS", "host name:9092"),
            ("FL_FLEET_API_ADDRESS", "$(id):9092"),
            ("FL_DATABASE", "/etc/passwd"),
            ("FL_DATABASE", "../state.db"),
            ("FL_DATABASE", "state/../../state.db"),
            ("FL_DATABASE", "state/$(id)"),
            ("FL_DATABASE", "--help"),
            ("FL_DATABASE", "state/--help"),
            ("FL_DATABASE", "certs/server.key"),
            ("FL_DATABASE", "state"),
            ("FL_DATABASE", "state/runs/first/events.jsonl"),
            ("FL_DATABASE", "state/flwr/config.toml"),
            ("FL_FLEET_API_ADDRESS", "[::1%x\nfrontend evil\n]:9092"),
            ("FL_FLEET_API_ADDRESS", "[::1%a b]:9092"),
            ("FL_FLEET_API_ADDRESS", "[10.0.0.1]:9092"),
            ("FL_FLEET_API_ADDRESS", "[ff02::1]:9092"),
            ("FL_FLEET_API_ADDRESS", "224.0.0.1:9092"),
            ("FL_FLEET_API_ADDRESS", "0.0.0.0:18000"),
            ("FL_CONTROL_API_ADDRESS", "127.0.0.1:8405"),
            ("FL_CERT_EXTRA_SAN", "IP:::1%x\nDNS:evil"),
            ("FL_CERT_EXTRA_SAN", "DNS:10.0.0.1"),
            ("FL_CERT_EXTRA_SAN", "IP:10.0.0.0/24"),
            ("FL_CHECKPOINT_PATH", "/"),
            ("FL_CHECKPOINT_PATH", "/etc"),
            ("FL_CHECKPOINT_PATH", "/etc/cron.d"),
            ("FL_CHECKPOINT_PATH", "/app"),
            ("FL_CHECKPOINT_PATH", "/app/state"),
            ("FL_CHECKPOINT_PATH", "/app/state/x"),
            ("FL_CHECKPOINT_PATH", "/app/federation/x"),
            ("FL_CHECKPOINT_PATH", "/opt/flower/certs"),
            ("FL_CHECKPOINT_PATH", "/opt/flower/checkpoints/x"),
            ("FL_CHECKPOINT_PATH", "/opt"),
            ("FL_CHECKPOINT_PATH", "/home"),
            ("FL_CHECKPOINT_PATH", "/var/lib/docker"),
            ("FL_CHECKPOINT_PATH", "/data/-x"),
            ("FL_INITIAL_MODEL", "--help"),
            ("FL_INITIAL_MODEL", "/app/../etc/shadow"),
            ("FL_CHECKPOINT_NFS", "10.0.0.256:/x"),
            ("FL_CHECKPOINT_NFS", "[::1%x]:/x"),
            ("FL_S3_ENDPOINT", "https://10.0.0.256:9000"),
            ("FL_S3_ENDPOINT", "https://s3:99999"),
            ("FL_S3_ENDPOINT", "https://[::::]:9000"),
            ("FL_S3_BUCKET", "../x"),
            ("FL_S3_PREFIX", "a/../b"),
            ("FL_S3_REGION", "x\ry"),
            ("FL_S3_ACCESS_KEY", "a b"),
            ("FL_IMAGE_CLASSES", "a\u2028b"),
            ("FL_IMAGE_CLASSES", "a" * 2000),
            ("FL_APP_CONFIG", "-x=1"),
            ("FL_CERT_EXTRA_SAN", "example.org"),
            ("FL_CERT_EXTRA_SAN", "DNS:*.example.org"),
            ("FL_CERT_DAYS", "0"),
            ("FL_CA_DAYS", "36501"),
            ("FL_ADVERTISE_ADDRESS", "superlink.example.org"),
            ("FL_ADVERTISE_ADDRESS", "0.0.0.0:9092"),
            ("FL_CERT_EXTRA_SAN", "IP:10.0.0.300"),
            ("FL_CERT_EXTRA_SAN", "DNS:a b"),
            ("FL_CERT_EXTRA_SAN", "DNS:a,,DNS:b"),
            ("FL_SSL_CA_CERTFILE", "not a certificate"),
            ("FL_CUDA_VISIBLE_DEVICES", "0,"),
            ("FL_CUDA_VISIBLE_DEVICES", "all,0"),
            ("FL_CUDA_VISIBLE_DEVICES", "0 --privileged"),
            ("FL_GPU_MEMORY_FRACTION", "0"),
            ("FL_GPU_MEMORY_FRACTION", "1.1"),
            ("FL_UPLINK_LIMIT", "512"),
            ("FL_UPLINK_LIMIT", "0kbit"),
            ("FL_UPLINK_LIMIT", "7kbit"),
            ("FL_UPLINK_LIMIT", "101gbit"),
            ("FL_UPLINK_LIMIT", "1.5mbit"),
            ("FL_UPLINK_LIMIT", "512kbit burst 1"),
            ("FL_UPLINK_LIMIT", "--off"),
            ("FL_GRPC_KEEPALIVE_TIME", "0"),
            ("FL_GRPC_KEEPALIVE_TIME", "32768"),
            ("FL_GRPC_KEEPALIVE_TIMEOUT", "60"),
            ("FL_GRPC_KEEPALIVE_TIMEOUT", "1s"),
        ],
    )
    def test_refuses(self, name: str, value: str) -> None:
        (error,) = errors({f"ONEAPP_{name}": value})
        assert error.startswith(f"ONEAPP_{name}: ")
        assert "expected" in error

    def test_a_probe_is_answered_before_the_next_is_due(self) -> None:
        (error,) = errors({"ONEAPP_FL_GRPC_KEEPALIVE_TIME": "20"})
        assert error == "ONEAPP_FL_GRPC_KEEPALIVE_TIMEOUT: '20' is not valid, expected less than ONEAPP_FL_GRPC_KEEPALIVE_TIME, which is '20'"
        assert table.validate({"ONEAPP_FL_GRPC_KEEPALIVE_TIME": "2", "ONEAPP_FL_GRPC_KEEPALIVE_TIMEOUT": "1"}, "superlink")

    @pytest.mark.parametrize("rate", ["", "8kbit", "512kbit", "20mbit", "100gbit"])
    def test_a_rate_is_a_number_with_a_unit(self, rate: str) -> None:
        assert table.validate({"ONEAPP_FL_UPLINK_LIMIT": rate}, "edge")["flower_uplink_limit"] == rate

    @pytest.mark.parametrize("address", ["0.0.0.0:9092", "[::]:9092", "224.0.0.1:9092", "[ff02::1]:9092", "255.255.255.255:1"])
    def test_a_node_connects_to_the_address_of_one_machine(self, address: str) -> None:
        assert "of one machine" in errors({"ONEAPP_FL_SUPERLINK_ADDRESS": address}, "supernode")[0]

    @pytest.mark.parametrize(
        ("name", "written", "value"),
        [
            ("FL_FLEET_API_ADDRESS", "[0::0]:09092", "[::]:9092"),
            ("FL_FLEET_API_ADDRESS", "010.000.000.001:9092", "10.0.0.1:9092"),
            ("FL_FLEET_API_ADDRESS", "[FE80::0:1%eth0]:9092", "[fe80::1%eth0]:9092"),
            ("FL_CERT_EXTRA_SAN", "IP:FD00:0::1,IP:010.0.0.1", ["IP:fd00::1", "IP:10.0.0.1"]),
            ("FL_CHECKPOINT_PATH", "/opt/flower/checkpoints", "/opt/flower/checkpoints"),
            ("FL_CHECKPOINT_PATH", "/mnt/models", "/mnt/models"),
            ("FL_DATABASE", "state/other.db", "state/other.db"),
            ("FL_S3_PREFIX", "team-a/superlink_1/", "team-a/superlink_1/"),
            ("FL_S3_ENDPOINT", "https://[fd00::1]:9000", "https://[fd00::1]:9000"),
        ],
    )
    def test_a_value_has_one_form(self, name: str, written: str, value: object) -> None:
        others = {"FL_S3_ENDPOINT": "http://s3", "FL_S3_BUCKET": "abc", "FL_S3_ACCESS_KEY": "a", "FL_S3_SECRET_KEY": "b"} if "S3" in name else {}
        raw = {f"ONEAPP_{key}": text for key, text in {**others, name: written}.items()}
        assert table.validate(raw, "superlink")[table.BY_NAME[name].variable] == value

    def test_an_error_is_one_line_of_bounded_length(self) -> None:
        (error,) = errors({"ONEAPP_FL_LOG_LEVEL": "a\nb\u2028c\x1b[31m" + "x" * 100_000})
        assert error.isprintable()
        assert len(error) < 300

    def test_minimum_of_a_phase_above_the_minimum_of_connected_nodes(self) -> None:
        found = errors({"ONEAPP_FL_MIN_FIT_CLIENTS": "3", "ONEAPP_FL_MIN_EVALUATE_CLIENTS": "4"})
        assert [error.split(":")[0] for error in found] == [
            "ONEAPP_FL_MIN_FIT_CLIENTS",
            "ONEAPP_FL_MIN_EVALUATE_CLIENTS",
        ]
        raised = {"ONEAPP_FL_MIN_FIT_CLIENTS": "3", "ONEAPP_FL_MIN_AVAILABLE_CLIENTS": "3"}
        assert table.validate(raised, "superlink")["flower_min_fit_clients"] == 3

    def test_both_addresses_on_one_port(self) -> None:
        (error,) = errors({"ONEAPP_FL_CONTROL_API_ADDRESS": "127.0.0.1:9092"})
        assert "another port" in error

    @pytest.mark.parametrize("gpus", ["all", "0", "0,1", "GPU-9c73eb7b-8d6d-6c0e-dc13-97873e2ede40", "MIG-a686709d-6dc2,MIG-b8479d6e-d08f"])
    def test_gpus_are_all_or_numbers_or_uuids(self, gpus: str) -> None:
        assert table.validate({"ONEAPP_FL_CUDA_VISIBLE_DEVICES": gpus}, "supernode")["flower_cuda_visible_devices"] == gpus

    def test_unknown_name_is_an_error_with_a_hint(self) -> None:
        assert errors({"ONEAPP_FL_NUM_ROUND": "3"}) == ["ONEAPP_FL_NUM_ROUND: there is no such parameter, expected perhaps ONEAPP_FL_NUM_ROUNDS"]
        assert "ONEAPP_FL_LOG_LEVEL" in errors({"FL_LOG_LEVEL": "DEBUG"})[0]
        assert errors({"FL_" + "A" * 5000: "1"}) == [f"FL_{'A' * 97}...: there is no such parameter, see the list of parameters"]

    def test_names_of_others_are_left_alone(self) -> None:
        raw = {"ETH0_IP": "10.0.0.1", "ONEAPP_OTHER": "x", "FLAVOUR": "y", "TOKEN": "YES"}
        assert table.validate(raw, "superlink") == table.role_defaults("superlink")

    def test_parameter_of_another_role_is_reported_as_ignored(self) -> None:
        checked = table.check({"ONEAPP_FL_NUM_ROUNDS": "9", "ONEAPP_FL_USE_CASE": "digits"}, "supernode")
        assert checked.ignored == ["ONEAPP_FL_NUM_ROUNDS is ignored: it does not apply to a supernode"]

    def test_parameter_of_another_role_is_checked_all_the_same(self) -> None:
        assert errors({"ONEAPP_FL_NUM_ROUNDS": "x"}, "supernode")

    def test_unknown_role(self) -> None:
        with pytest.raises(ValueError, match="there is no role 'chef'"):
            table.validate({}, "chef")


class TestStrategies:
    def check(self, **given: object) -> table.Checked:
        return table.check({f"ONEAPP_FL_{name.upper()}": str(value) for name, value in given.items()}, "superlink")

    def nodes(self, count: int) -> dict[str, int]:
        return {"min_available_clients": count, "min_fit_clients": count}

    def test_an_unknown_strategy_is_an_error_that_lists_the_known_ones(self) -> None:
        (error,) = errors({"ONEAPP_FL_STRATEGY": "FedMagic"})
        assert error == f"ONEAPP_FL_STRATEGY: 'FedMagic' is not valid, expected one of: {', '.join(strategies.STRATEGIES)}"

    @pytest.mark.parametrize(("strategy", "malicious", "fewest"), [("FedMedian", 2, 5), ("Krum", 0, 3), ("MultiKrum", 1, 5), ("Bulyan", 1, 7)])
    def test_too_few_nodes_for_the_malicious_ones(self, strategy: str, malicious: int, fewest: int) -> None:
        self.check(strategy=strategy, num_malicious=malicious, **self.nodes(fewest))
        with pytest.raises(table.ContextError) as caught:
            self.check(strategy=strategy, num_malicious=malicious, **self.nodes(fewest - 1))
        assert caught.value.errors == [
            f"ONEAPP_FL_MIN_{which}_CLIENTS: {fewest - 1} is not valid, expected at least {fewest} for {strategy} with "
            f"ONEAPP_FL_NUM_MALICIOUS {malicious}"
            for which in ("FIT", "AVAILABLE")
        ]

    @pytest.mark.parametrize(("share", "malicious", "fewest", "cut"), [(0.2, 2, 10, 1), (0.25, 2, 8, 1), (0.29, 29, 101, 28)])
    def test_a_share_that_does_not_cut_the_malicious_ones(self, share: float, malicious: int, fewest: int, cut: int) -> None:
        given = {"strategy": "FedTrimmedAvg", "num_malicious": malicious, "trim_beta": share, "min_available_clients": fewest}
        assert self.check(**given, min_fit_clients=fewest).ignored == []
        with pytest.raises(table.ContextError) as caught:
            self.check(**given, min_fit_clients=fewest - 1)
        assert caught.value.errors == [
            f"ONEAPP_FL_MIN_FIT_CLIENTS: {fewest - 1} is not valid, expected at least {fewest} for FedTrimmedAvg with "
            f"ONEAPP_FL_NUM_MALICIOUS {malicious} and ONEAPP_FL_TRIM_BETA {share:g}, which cuts {cut} of {fewest - 1} values at each end"
        ]

    @pytest.mark.parametrize(("share", "malicious"), [(1e-25, 1), (1e-300, 10**17), (0.0009, 1)])
    def test_a_share_that_cuts_nothing_of_any_number_of_nodes(self, share: float, malicious: int) -> None:
        with pytest.raises(table.ContextError) as caught:
            self.check(strategy="FedTrimmedAvg", num_malicious=malicious, trim_beta=f"{share:.320f}", **self.nodes(5))
        assert caught.value.errors[0].endswith("is not valid, expected a number of at least 0.001 and below 0.5")

    def test_more_malicious_nodes_than_can_be_counted(self) -> None:
        with pytest.raises(table.ContextError, match="expected at least 1000000000000000000000 for"):
            self.check(strategy="FedTrimmedAvg", num_malicious=10**18 - 1, trim_beta=0.001, **self.nodes(5))

    def test_enough_connected_nodes_do_not_make_up_for_few_that_train(self) -> None:
        with pytest.raises(table.ContextError, match="ONEAPP_FL_MIN_FIT_CLIENTS: 2 .* at least 3"):
            self.check(strategy="Krum", min_available_clients=9)

    def test_more_nodes_selected_than_are_honest(self) -> None:
        with pytest.raises(table.ContextError, match="ONEAPP_FL_NODES_TO_SELECT: 5 .* less ONEAPP_FL_NUM_MALICIOUS, which is 4"):
            self.check(strategy="MultiKrum", num_malicious=1, nodes_to_select=5, **self.nodes(5))

    def test_less_noise_on_the_count_than_the_rest_allows(self) -> None:
        self.check(dp_mode="adaptive")
        with pytest.raises(table.ContextError, match="ONEAPP_FL_DP_NOISE_MULTIPLIER: 1 .* twice ONEAPP_FL_DP_COUNT_STDDEV, which is 0.5"):
            self.check(dp_mode="adaptive", dp_count_stddev=0.5)

    def test_parameters_of_another_strategy_are_named_and_ignored(self) -> None:
        checked = self.check(strategy="FedProx", trim_beta=0.1, dp_clip_lr=1, proximal_mu=0.1)
        assert checked.ignored == [
            "ONEAPP_FL_TRIM_BETA is ignored: ONEAPP_FL_STRATEGY is FedProx",
            "ONEAPP_FL_DP_CLIP_LR is ignored: ONEAPP_FL_DP_MODE is none",
        ]

    def test_parameters_of_another_strategy_are_checked_all_the_same(self) -> None:
        assert errors({"ONEAPP_FL_TRIM_BETA": "0.5"}) == [
            "ONEAPP_FL_TRIM_BETA: '0.5' is not valid, expected a number of at least 0.001 and below 0.5"
        ]

    @pytest.mark.parametrize(
        ("given", "warning"),
        [
            ({"strategy": "FedProx", "proximal_mu": 0}, "ONEAPP_FL_PROXIMAL_MU is 0: FedProx is FedAvg then"),
            ({"strategy": "FedAvgM"}, "FedAvgM is FedAvg then"),
            ({"strategy": "MultiKrum", "min_available_clients": 3, "min_fit_clients": 3}, "MultiKrum is Krum then"),
            ({"strategy": "FedTrimmedAvg"}, "with 2 nodes FedTrimmedAvg cuts nothing"),
            ({"strategy": "FedMedian"}, "the median of 2 nodes is their mean"),
            ({"strategy": "FedMedian", "dp_mode": "fixed", "min_available_clients": 3, "min_fit_clients": 3}, "holds for FedAvg and FedProx"),
            ({"dp_mode": "adaptive", "dp_noise_multiplier": 0}, "nothing is private"),
        ],
    )
    def test_what_looks_unwise_is_a_warning(self, given: dict[str, object], warning: str) -> None:
        (found,) = self.check(**given).warnings
        assert found.endswith(warning)

    @pytest.mark.parametrize("given", [{}, {"strategy": "FedProx"}, {"strategy": "FedAvgM", "server_lr": 0.5}, {"dp_mode": "fixed"}])
    def test_what_is_all_right_is_no_warning(self, given: dict[str, object]) -> None:
        assert self.check(**given).warnings == []

    def test_only_what_has_an_effect_or_was_given_is_in_the_run_configuration(self) -> None:
        config = table.run_config(self.check(strategy="FedAdam", num_malicious=1).values)
        assert config["tau"] == 0.001
        assert config["num-malicious"] == 1  # for a run that asks for Krum
        assert not {"server-lr", "client-lr", "trim-beta", "dp-noise-multiplier"} & set(config)


class TestDcgm:
    @pytest.mark.parametrize(
        ("given", "ignored"),
        [
            ({}, []),
            ({"DCGM": "YES", "GPU": "YES", "METRICS": "YES"}, []),
            ({"DCGM": "YES", "METRICS": "YES"}, ["ONEAPP_FL_DCGM_ENABLED is ignored: ONEAPP_FL_GPU_ENABLED is NO"]),
            ({"DCGM": "YES", "GPU": "YES"}, ["ONEAPP_FL_DCGM_ENABLED is ignored: ONEAPP_FL_METRICS_ENABLED is NO"]),
        ],
    )
    def test_there_are_none_without_a_gpu_or_without_metrics(self, given: dict[str, str], ignored: list[str]) -> None:
        assert table.check({f"ONEAPP_FL_{name}_ENABLED": value for name, value in given.items()}, "supernode").ignored == ignored


class TestNodeConfig:
    def value(self, text: str) -> dict[str, Any]:
        return table.validate({"ONEAPP_FL_NODE_CONFIG": text}, "supernode")["flower_node_config"]

    def test_pairs_are_typed(self) -> None:
        text = """partition-id=0  ratio=1e-3 site=berlin gpu=false name="two words" id="7" path='C:\\x "y"'"""
        assert self.value(text) == {
            "partition-id": 0,
            "ratio": 0.001,
            "site": "berlin",
            "gpu": False,
            "name": "two words",
            "id": "7",
            "path": 'C:\\x "y"',
        }

    @pytest.mark.parametrize(
        "text",
        [
            "alone",
            "=1",
            "a=",
            "a=1,b=2",
            "a=1 a=2",
            'a="x',
            "a=$(id)",
            "a=x;y",
            "a.b=1",
            'a="x\ny"',
            'a="x"b=1',
            "a=[1]",
        ],
    )
    def test_refuses(self, text: str) -> None:
        (error,) = errors({"ONEAPP_FL_NODE_CONFIG": text}, "supernode")
        assert error.startswith("ONEAPP_FL_NODE_CONFIG: ")

    @pytest.mark.parametrize("value", ["x", "two words", "7", "1.5", "true", 'a "quoted" word', "a=b", "", "it's"])
    def test_a_text_keeps_its_type_on_the_way_through_a_context(self, value: str) -> None:
        context = table.context_values({"flower_node_config": {"key": value, "next": 1}})
        assert table.validate(context, "supernode")["flower_node_config"] == {"key": value, "next": 1}


NAMES = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


CA_TRUE, CA_FALSE = (x509.BasicConstraints(ca=ca, path_length=None) for ca in (True, False))
SIGNS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


def _extensions(name: str, key: Any, issuer_key: Any) -> tuple:
    """Return what a CA, or a server, has to have in its certificate; critical ones first."""
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    if name == "server":
        return (), (NAMES, issuer)
    return (CA_TRUE, SIGNS), (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), issuer)


def _certificate(
    name: str, key: Any, issuer: str, issuer_key: Any, days: int = 10, lasts: int = 100, extensions: tuple | None = None, digest: Any = None
) -> str:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=lasts))
        .not_valid_after(end)
    )
    critical, others = _extensions(name, key, issuer_key) if extensions is None else ((), extensions)
    for extension in (*critical, *others):
        builder = builder.add_extension(extension, critical=extension in critical)
    edwards = isinstance(issuer_key, ed25519.Ed25519PrivateKey)
    certificate = builder.sign(issuer_key, None if edwards else digest or hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _pem(key: Any) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


CA_KEY, MIDDLE_KEY, SERVER_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _key in range(4))
AKI = x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key())
CA = _certificate("ca", CA_KEY, "ca", CA_KEY)
SERVER = _certificate("server", SERVER_KEY, "ca", CA_KEY)


def _tls(ca: str = CA, certificate: str = SERVER, key: str | None = None) -> dict[str, str]:
    return {
        "ONEAPP_FL_SSL_CA_CERTFILE": ca,
        "ONEAPP_FL_SSL_CERTFILE": certificate,
        "ONEAPP_FL_SSL_KEYFILE": _pem(SERVER_KEY) if key is None else key,
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestTls:
    @pytest.mark.parametrize(
        "encode",
        [str, _base64, lambda text: _base64(_base64(text)), lambda text: base64.encodebytes(text.encode()).decode()],
        ids=["pem", "base64", "double-base64", "base64-in-lines"],
    )
    def test_operator_certificates_in_every_encoding(self, encode: Callable[[str], str]) -> None:
        values = table.validate({name: encode(text) for name, text in _tls().items()}, "superlink")
        assert values["flower_ssl_certfile"] == SERVER
        assert values["flower_ssl_keyfile"] == _pem(SERVER_KEY)

    def test_intermediate_certificates_after_the_server_certificate(self) -> None:
        middle = _certificate("middle", MIDDLE_KEY, "ca", CA_KEY)
        server = _certificate("server", SERVER_KEY, "middle", MIDDLE_KEY)
        assert table.validate(_tls(certificate=server + middle), "superlink")["flower_ssl_certfile"] == server + middle
        assert "not signed by" in errors(_tls(certificate=server))[0]

    @pytest.mark.parametrize("missing", ["FL_SSL_CA_CERTFILE", "FL_SSL_CERTFILE", "FL_SSL_KEYFILE"])
    def test_all_three_or_none(self, missing: str) -> None:
        (error,) = errors(_tls() | {f"ONEAPP_{missing}": ""})
        assert error.startswith(f"ONEAPP_{missing}: nothing was given")

    def test_key_of_another_certificate(self) -> None:
        (error,) = errors(_tls(key=_pem(OTHER_KEY)))
        assert error.startswith("ONEAPP_FL_SSL_KEYFILE: the given value does not belong to")

    def _metrics(self, certificate: str, key: str) -> list[str]:
        given = {"ONEAPP_FL_METRICS_ENABLED": "YES", "ONEAPP_FL_METRICS_CERTFILE": certificate, "ONEAPP_FL_METRICS_KEYFILE": key}
        return [error for role in ("superlink", "supernode") for error in errors(given, role)]

    def test_certificate_and_key_of_the_metrics(self) -> None:
        given = {"ONEAPP_FL_METRICS_ENABLED": "YES", "ONEAPP_FL_METRICS_CERTFILE": SERVER, "ONEAPP_FL_METRICS_KEYFILE": _pem(SERVER_KEY)}
        assert table.validate(given, "supernode")["flower_metrics_certfile"] == SERVER

    @pytest.mark.parametrize(
        ("certificate", "key", "said"),
        [
            (SERVER, _pem(OTHER_KEY), "METRICS_KEYFILE: the given value does not belong to the certificate"),
            (_certificate("client", SERVER_KEY, "ca", CA_KEY, extensions=(AKI,)), _pem(SERVER_KEY), "METRICS_CERTFILE: the given value names no server"),
            (SERVER, _pem(dsa.generate_private_key(2048)), "METRICS_KEYFILE: the given value "),
            (SERVER, "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----", "METRICS_KEYFILE: the given value is not a usable private key"),
        ],
    )
    def test_certificate_and_key_that_no_metrics_can_be_served_with(self, certificate: str, key: str, said: str) -> None:
        found = self._metrics(certificate, key)
        assert len(found) >= 2 and all(error.startswith(f"ONEAPP_FL_{said}") for error in found)

    def test_certificate_of_another_authority(self) -> None:
        (error,) = errors(_tls(ca=_certificate("ca", OTHER_KEY, "ca", OTHER_KEY)))
        assert error.startswith("ONEAPP_FL_SSL_CERTFILE: the given value is not signed by")

    def test_expired_certificate(self) -> None:
        (error,) = errors(_tls(certificate=_certificate("server", SERVER_KEY, "ca", CA_KEY, days=-1)))
        assert "expired on" in error

    def test_certificate_that_is_not_valid_yet(self) -> None:
        (error,) = errors(_tls(certificate=_certificate("server", SERVER_KEY, "ca", CA_KEY, days=100, lasts=50)))
        assert error.startswith("ONEAPP_FL_SSL_CERTFILE: the given value is not valid before ")
        early = _certificate("ca", CA_KEY, "ca", CA_KEY, days=100, lasts=50)
        assert "is not valid before" in errors({"ONEAPP_FL_SSL_CA_CERTFILE": early}, "supernode")[0]

    @pytest.mark.parametrize(
        ("extensions", "said"),
        [
            ((AKI,), "names no server"),
            ((AKI, x509.SubjectAlternativeName([x509.RFC822Name("a@example.org")])), "names no server"),
            ((AKI, NAMES, x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])), "is not for servers"),
            ((AKI, NAMES, x509.KeyUsage(False, False, True, False, False, False, False, False, False)), "may not sign"),
            ((NAMES,), "has no authority key identifier"),
        ],
    )
    def test_certificate_that_no_client_takes_for_a_servers(self, extensions: tuple, said: str) -> None:
        (error,) = errors(_tls(certificate=_certificate("server", SERVER_KEY, "ca", CA_KEY, extensions=extensions)))
        assert error.startswith(f"ONEAPP_FL_SSL_CERTFILE: the given value {said}")

    def test_certificate_for_servers_and_clients(self) -> None:
        both = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH])
        table.validate(_tls(certificate=_certificate("server", SERVER_KEY, "ca", CA_KEY, extensions=(AKI, NAMES, both))), "superlink")

    @pytest.mark.parametrize("extensions", [(CA_FALSE, SIGNS), (SIGNS,), (CA_TRUE,), ()])
    def test_authority_that_may_not_sign_certificates(self, extensions: tuple) -> None:
        identifier = x509.SubjectKeyIdentifier.from_public_key(CA_KEY.public_key())
        leaf = _certificate("ca", CA_KEY, "ca", CA_KEY, extensions=(identifier, *extensions))
        for given, role in ((_tls(ca=leaf), "superlink"), ({"ONEAPP_FL_SSL_CA_CERTFILE": leaf}, "supernode")):
            (error,) = errors(given, role)
            assert error.startswith("ONEAPP_FL_SSL_CA_CERTFILE: the given value may not sign certificates")

    def test_intermediate_that_may_not_sign_certificates(self) -> None:
        middle = _certificate("middle", MIDDLE_KEY, "ca", CA_KEY, extensions=(NAMES, AKI))
        (error,) = errors(_tls(certificate=_certificate("server", SERVER_KEY, "middle", MIDDLE_KEY) + middle))
        assert error.startswith("ONEAPP_FL_SSL_CERTFILE: the given value may not sign certificates")

    def test_what_passes_and_what_does_not_is_what_the_strictest_clients_say(self, tmp_path: Path) -> None:
        """Python 3.13 checks as ``openssl verify -x509_strict`` does."""
        bare = _certificate("ca", CA_KEY, "ca", CA_KEY, extensions=(SIGNS,))
        middle = _certificate("middle", MIDDLE_KEY, "ca", CA_KEY)
        by_middle = _certificate("server", SERVER_KEY, "middle", MIDDLE_KEY)
        no_identifier = _certificate("server", SERVER_KEY, "ca", CA_KEY, extensions=(NAMES,))
        cases = [(CA, SERVER), (bare, SERVER), (CA, by_middle + middle), (CA, by_middle), (CA, no_identifier), (CA + bare, SERVER)]
        for number, (authority, certificate) in enumerate(cases):
            for name, text in (("ca", authority), ("server", certificate)):
                (tmp_path / name).write_text(text)
            command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca", "-untrusted", "server", "server"]
            strict = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
            try:
                table.validate(_tls(ca=authority, certificate=certificate), "superlink")
                passed = True
            except table.ContextError:
                passed = False
            # A CA that clients would only trip over when it signs is refused beside a good one too.
            assert passed == (strict and number != 5), (number, strict)

    def test_every_problem_of_three_bad_values_is_said_at_once(self) -> None:
        bare = _certificate("ca", OTHER_KEY, "ca", OTHER_KEY, extensions=())
        expired = _certificate("server", SERVER_KEY, "ca", CA_KEY, days=-1)
        said = errors(_tls(ca=bare, certificate=expired, key=_pem(MIDDLE_KEY)))
        beginnings = ["ONEAPP_FL_SSL_CA_CERTFILE: the given value may not sign certificates", "ONEAPP_FL_SSL_CERTFILE: the given value expired on"]
        beginnings += ["ONEAPP_FL_SSL_KEYFILE: the given value does not belong to", "ONEAPP_FL_SSL_CERTFILE: the given value is not signed by"]
        assert len(said) == 4 and all(map(str.startswith, said, beginnings)), said
        for_clients = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])
        assert len(errors(_tls(certificate=_certificate("server", SERVER_KEY, "ca", CA_KEY, extensions=(for_clients,))))) == 3

    def test_several_authorities_are_trusted_and_any_of_them_may_have_signed(self) -> None:
        other = _certificate("other", OTHER_KEY, "other", OTHER_KEY)
        for bundle in (CA + other, other + CA):
            assert table.validate(_tls(ca=bundle), "superlink")["flower_ssl_ca_certfile"] == bundle
            assert table.validate({"ONEAPP_FL_SSL_CA_CERTFILE": bundle}, "supernode")["flower_ssl_ca_certfile"] == bundle

    def test_the_certificate_has_to_name_the_address_that_nodes_are_told(self) -> None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("10.0.0.5")), x509.DNSName("*.example.org")])
        given = _tls(certificate=_certificate("server", SERVER_KEY, "ca", CA_KEY, extensions=(AKI, names)))
        for told in ({}, {"ETH0_IP": "10.0.0.5"}, {"ETH0_IP": "10.0.0.6", "ONEAPP_FL_ADVERTISE_ADDRESS": "fl.example.org:9092"}):
            table.validate(given | told, "superlink")
        for told in ("fl.a.example.org:9092", "example.org:9092", "[fd00::1]:9092"):
            (error,) = errors(given | {"ETH0_IP": "10.0.0.5", "ONEAPP_FL_ADVERTISE_ADDRESS": told})
            assert error.startswith("ONEAPP_FL_SSL_CERTFILE: the given value is for *.example.org, 10.0.0.5, expected one that names"), error
        (error,) = errors(given | {"ETH0_IP": "10.0.0.6"})
        assert "names 10.0.0.6 too, which the nodes are told, or another address in ONEAPP_FL_ADVERTISE_ADDRESS" in error

    def test_what_a_certificate_and_a_context_say_stays_on_one_line(self) -> None:
        names = x509.SubjectAlternativeName([x509.DNSName("a\nb"), x509.DNSName("x" * 300)])
        given = _tls(certificate=_certificate("server", SERVER_KEY, "ca", CA_KEY, extensions=(AKI, names)))
        (error,) = errors(given | {"ETH0_IP": "10.0.0.1\nc"})
        assert f"is for a\\nb, {'x' * 195}..., expected one that names 10.0.0.1\\nc too" in error

    def test_pem_is_ascii_also_where_it_is_not_base64(self) -> None:
        encrypted = "-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END PRIVATE KEY-----\n"
        assert table.validate({"ONEAPP_FL_METRICS_KEYFILE": encrypted}, "supernode")["flower_metrics_keyfile"] == encrypted
        (error,) = errors({"ONEAPP_FL_METRICS_KEYFILE": encrypted.replace("AAAA", "AAé-")}, "supernode")
        assert error == "ONEAPP_FL_METRICS_KEYFILE: the given value is not valid, expected a private key in PEM or base64 of it"

    def test_a_certificate_of_a_version_that_there_is_not_is_none(self) -> None:
        content = base64.b64decode("".join(CA.splitlines()[1:-1]))
        version = content.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
        pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(version).decode()}-----END CERTIFICATE-----\n"
        (error,) = errors({"ONEAPP_FL_SSL_CA_CERTFILE": pem}, "supernode")
        assert error == "ONEAPP_FL_SSL_CA_CERTFILE: the given value does not hold a certificate, expected X.509 in PEM"

    def test_chain_in_another_order_is_called_that(self) -> None:
        middle = _certificate("middle", MIDDLE_KEY, "ca", CA_KEY)
        server = _certificate("server", SERVER_KEY, "middle", MIDDLE_KEY)
        for chain in (middle + server, server + CA + middle):
            (error,) = errors(_tls(certificate=chain))
            assert error.startswith("ONEAPP_FL_SSL_CERTFILE: the given value has its certificates in another order")

    @pytest.mark.parametrize(
        "make",
        [
            lambda: rsa.generate_private_key(65537, 1024), lambda: dsa.generate_private_key(1024), lambda: ec.generate_private_key(ec.SECP256K1()),
            lambda: ec.generate_private_key(ec.SECP192R1()),
        ],
        ids=["rsa-1024", "dsa", "secp256k1", "secp192r1"],
    )
    def test_key_that_tls_does_not_take(self, make: Callable[[], Any]) -> None:
        key = make()
        (error,) = errors(_tls(certificate=_certificate("server", key, "ca", CA_KEY), key=_pem(key)))
        assert error.startswith("ONEAPP_FL_SSL_CERTFILE: the given value has a key of a kind that TLS does not take, expected RSA of 2048 bits")

    @pytest.mark.parametrize("command", [["genrsa", "-traditional", "512"], ["ecparam", "-name", "prime239v1", "-genkey", "-noout"]])
    def test_key_that_cannot_even_be_read(self, command: list[str], tmp_path: Path) -> None:
        key = subprocess.run(["openssl", *command], check=True, capture_output=True, text=True).stdout
        request = ["openssl", "req", "-new", "-x509", "-key", "/dev/stdin", "-subj", "/CN=server", "-addext", "subjectAltName=DNS:server"]
        certificate = subprocess.run(request, check=True, capture_output=True, text=True, input=key).stdout
        assert "TLS does not take" in errors(_tls(certificate=certificate, key=key))[0]
        assert errors(_tls(key=key))[0].startswith("ONEAPP_FL_SSL_KEYFILE: the given value ")

    @pytest.mark.parametrize("make", [lambda: rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate], ids=["rsa-2048", "ed25519"])
    def test_key_of_another_kind_that_tls_takes(self, make: Callable[[], Any]) -> None:
        key = make()
        table.validate(_tls(certificate=_certificate("server", key, "ca", CA_KEY), key=_pem(key)), "superlink")

    @pytest.mark.parametrize("flatten", [
        lambda text: text.replace("\n", ""), lambda text: text.replace("\n", " "), lambda text: text.replace("\n", "\\n"),
        lambda text: text.replace("\n", "\r\n"), lambda text: f"Bag Attributes\n  friendlyName: x\n{text}",
    ], ids=["nothing", "blanks", "backslash-n", "crlf", "with-text-around"])
    def test_line_ends_that_were_lost_are_restored(self, flatten: Callable[[str], str]) -> None:
        values = table.validate({name: flatten(text) for name, text in _tls().items()}, "superlink")
        assert (values["flower_ssl_ca_certfile"], values["flower_ssl_certfile"], values["flower_ssl_keyfile"]) == (CA, SERVER, _pem(SERVER_KEY))

    def test_a_key_beside_a_certificate_is_left_out_of_it(self) -> None:
        assert table.validate(_tls(certificate=_pem(SERVER_KEY) + SERVER), "superlink")["flower_ssl_certfile"] == SERVER

    def test_damaged_certificate(self) -> None:
        damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        assert "does not hold a certificate" in errors({"ONEAPP_FL_SSL_CA_CERTFILE": damaged}, "supernode")[0]

    @pytest.mark.parametrize("address", ["0.0.0.0:9093", "[::]:9093", "10.0.0.5:9093", "control.example.org:9093"])
    def test_control_beyond_loopback_needs_certificates_of_operators(self, address: str) -> None:
        given = {"ONEAPP_FL_CONTROL_API_ADDRESS": address}
        (error,) = errors(given)
        assert error.startswith(f"ONEAPP_FL_CONTROL_API_ADDRESS: '{address}' is not valid, expected a loopback address, the CA of")
        assert table.validate(given | {"ONEAPP_FL_CONTROL_CLIENT_CA": CA}, "superlink")["flower_control_client_ca"] == CA
        (warning,) = table.check(given | {"ONEAPP_FL_CONTROL_WITHOUT_CLIENT_CERTIFICATES": "YES"}, "superlink").warnings
        assert f"whoever reaches {address} can run code" in warning

    @pytest.mark.parametrize("address", ["127.0.0.1:9093", "127.1.2.3:9093", "[::1]:9093", "localhost:9093"])
    def test_control_on_loopback_needs_none(self, address: str) -> None:
        table.validate({"ONEAPP_FL_CONTROL_API_ADDRESS": address}, "superlink")

    def test_certificates_of_operators_need_tls_a_ca_and_no_contradiction(self) -> None:
        given = {"ONEAPP_FL_CONTROL_CLIENT_CA": CA}
        assert "expected none because ONEAPP_FL_TLS_ENABLED is NO" in errors(given | {"ONEAPP_FL_TLS_ENABLED": "NO"})[0]
        assert "expected NO because a CA is given" in errors(given | {"ONEAPP_FL_CONTROL_WITHOUT_CLIENT_CERTIFICATES": "YES"})[0]
        assert "may not sign certificates" in errors({"ONEAPP_FL_CONTROL_CLIENT_CA": SERVER})[0]

    def test_the_ca_that_is_trusted_as_well_is_another_one(self) -> None:
        (error,) = errors({"ONEAPP_FL_CA_NUMBER": "2", "ONEAPP_FL_CA_ALSO_TRUSTED": "2"})
        assert error == "ONEAPP_FL_CA_ALSO_TRUSTED: '2' is not valid, expected another number than ONEAPP_FL_CA_NUMBER, or 0 for none"

    def test_a_node_needs_only_the_authority(self) -> None:
        assert table.validate({"ONEAPP_FL_SSL_CA_CERTFILE": CA}, "supernode")["flower_ssl_ca_certfile"] == CA

    def test_messages_never_hold_the_key(self) -> None:
        secret = "hunter2" * 4
        damaged = f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----"
        for key in (secret, damaged, _pem(OTHER_KEY)):
            assert all(part not in " ".join(errors(_tls(key=key))) for part in key.split("\n")[1:-2] or [key])

    def test_without_tls_everything_about_it_is_ignored_and_said_so(self) -> None:
        raw = _tls() | {"ONEAPP_FL_TLS_ENABLED": "NO", "ONEAPP_FL_CERT_EXTRA_SAN": "DNS:a"}
        checked = table.check(raw, "superlink")
        assert len(checked.ignored) == 4
        assert "not encrypted" in checked.warnings[0]


class TestFirewall:
    def test_ports_and_networks_have_one_form_each(self) -> None:
        raw = {"ONEAPP_FL_HOST_FIREWALL_OPEN": "51820/udp, 443/tcp", "ONEAPP_FL_HOST_FIREWALL_SSH_FROM": "10.0.0.0/8,FD00:0::/8"}
        values = table.validate(raw, "supernode")
        assert values["flower_host_firewall_open"] == ["51820/udp", "443/tcp"]
        assert values["flower_host_firewall_ssh_from"] == ["10.0.0.0/8", "fd00::/8"]

    @pytest.mark.parametrize("port", ["22", "0/tcp", "65536/udp", "22/sctp", "22/tcp/", "22/tcp accept", "22-30/tcp", "-1/udp", "22/tcp\n", "٢٢/tcp"])
    def test_what_is_no_port_of_a_protocol_is_refused(self, port: str) -> None:
        if port != "22/tcp\n":  # blanks around a value mean nothing in a context
            (error,) = errors({"ONEAPP_FL_HOST_FIREWALL_OPEN": f"443/tcp,{port}"})
            assert error.endswith("is not valid, expected ports as 51820/udp or 443/tcp, separated by commas")
        with pytest.raises(table.ContextError, match="flower_host_firewall_open"):
            table.check_variables({"flower_host_firewall_open": [port]}, "superlink")

    def test_a_node_that_could_not_reach_its_superlink_is_refused(self) -> None:
        raw = {"ONEAPP_FL_SUPERLINK_ADDRESS": "10.0.0.5:9092", "ONEAPP_FL_HOST_FIREWALL_OUTBOUND": "192.168.0.0/16,fd00::/8"}
        assert errors(raw, "supernode") == [
            "ONEAPP_FL_HOST_FIREWALL_OUTBOUND: '192.168.0.0/16,fd00::/8' is not valid, expected a network with the SuperLink 10.0.0.5 in it"
        ]
        for outbound in ("10.0.0.0/24", "192.168.0.0/16,10.0.0.5", ""):
            table.validate({**raw, "ONEAPP_FL_HOST_FIREWALL_OUTBOUND": outbound}, "supernode")
        # Nobody knows here what a name means on the VM.
        table.validate({**raw, "ONEAPP_FL_SUPERLINK_ADDRESS": "superlink.example.org:9092"}, "supernode")
        table.validate({**raw, "ONEAPP_FL_HOST_FIREWALL_ENABLED": "NO"}, "supernode")

    def test_what_a_firewall_that_is_off_would_do_is_ignored_and_said_so(self) -> None:
        checked = table.check({"ONEAPP_FL_HOST_FIREWALL_ENABLED": "NO", "ONEAPP_FL_HOST_FIREWALL_OPEN": "443/tcp"}, "superlink")
        assert checked.ignored == ["ONEAPP_FL_HOST_FIREWALL_OPEN is ignored: ONEAPP_FL_HOST_FIREWALL_ENABLED is NO"]


class TestDerived:
    def test_user_input_grammar(self) -> None:
        assert table.user_inputs("superlink")["ONEAPP_FL_NUM_ROUNDS"] == "O|number|Number of training rounds||3"
        assert table.user_inputs("service")["ONEAPP_FL_LOG_LEVEL"] == "O|list|Verbosity of Flower; a SuperNode logs at least INFO|DEBUG,INFO,WARNING,ERROR|INFO"

    def test_each_user_input_is_declared_at_one_level_only(self) -> None:
        names = [name for level in table.LEVELS for name in table.user_inputs(level)]
        assert len(names) == len(set(names))
        none = {p.context_name for p in OWN if p.name.startswith("FL_TUNNEL_")} | {"ONEAPP_FL_SUPERLINK_ADDRESS", "ONEAPP_FL_GRPC_KEEPALIVE_TIMEOUT"}
        none.add("ONEAPP_FL_NODE_KEY_RENEWAL")
        assert set(names) == {p.context_name for p in OWN} - none

    def test_context_section_refers_to_every_parameter_of_the_role(self) -> None:
        section = table.context_section("supernode")
        assert section["TOKEN"] == section["NETWORK"] == section["REPORT_READY"] == "YES"
        assert section["READY_SCRIPT_PATH"] == "/opt/flower/bin/health-check"
        assert section["ONEAPP_FL_NODE_CONFIG"] == "$ONEAPP_FL_NODE_CONFIG"
        assert "ONEAPP_FL_NUM_ROUNDS" not in section

    def test_context_values_of_one_level(self) -> None:
        variables = {"flower_num_rounds": 5, "flower_tls_enabled": True, "unrelated": 1, "flower_node_config": None}
        assert table.context_values(variables, "superlink") == {"ONEAPP_FL_NUM_ROUNDS": "5"}
        assert table.context_values(variables, "service") == {"ONEAPP_FL_TLS_ENABLED": "YES"}
        assert table.context_values(variables, "supernode") == {"ONEAPP_FL_NODE_CONFIG": ""}

    def test_certificates_are_one_line_in_a_context(self) -> None:
        (text,) = table.context_values({"flower_ssl_ca_certfile": CA}).values()
        assert "\n" not in text
        assert table.validate({"ONEAPP_FL_SSL_CA_CERTFILE": text}, "supernode")["flower_ssl_ca_certfile"] == CA

    def test_run_configuration_of_the_defaults_names_no_use_case(self) -> None:
        values = table.validate({}, "superlink")
        assert table.run_config(values) == {
            "num-server-rounds": 3,
            "strategy": "FedAvg",
            "min-fit-clients": 2,
            "min-evaluate-clients": 2,
            "min-available-clients": 2,
            "fraction-fit": 1.0,
            "fraction-evaluate": 1.0,
            "dp-mode": "none",
            "partition-alpha": 0.0,
            "round-timeout": 600,
            "round-completion": 1.0,
            "reply-compression": "none",
            "nodes-timeout": 600,
            "max-failed-rounds": 3,
            "local-epochs": 0,
            "local-batch-size": 0,
            "local-learning-rate": 0.0,
            "checkpoint-enabled": False,
            "checkpoint-interval": 5,
            "checkpoint-keep": 3,
            "checkpoint-path": "/app/checkpoints",
            "initial-model": "",
            "image-size": 28,
            "image-channels": 1,
            "image-classes": "0,1,2,3,4,5,6,7,8,9",
            "anomaly-quantile": 0.99,
            "llm-lora-rank": 8,
            "llm-lora-alpha": 16,
            "llm-sequence-length": 256,
        }
        assert table.initial_run(values) is None

    def test_a_use_case_makes_an_initial_run(self) -> None:
        run = table.initial_run(table.validate({"ONEAPP_FL_USE_CASE": "digits"}, "superlink"))
        assert run["name"] == "initial"
        assert run["config"]["use-case"] == "digits"

    def test_an_own_app_makes_an_initial_run_without_settings_of_the_shipped_one(self) -> None:
        context = {"ONEAPP_FL_APP_SOURCE": "/srv/apps/mine", "ONEAPP_FL_APP_CONFIG": "rate=0.5 note='two words'"}
        values = table.validate(context, "superlink")
        assert table.initial_run(values) == {"name": "initial", "config": {}, "app": "/srv/apps/mine"}
        assert values["flower_app_config"] == {"rate": 0.5, "note": "two words"}

    def test_an_own_app_and_a_use_case_exclude_each_other(self) -> None:
        with pytest.raises(table.ContextError, match="expected 'none' because an app of your own is given"):
            table.validate({"ONEAPP_FL_APP_SOURCE": "/srv/apps/mine", "ONEAPP_FL_USE_CASE": "digits"}, "superlink")

    def test_a_source_that_is_none_is_refused(self) -> None:
        with pytest.raises(table.ContextError, match="ONEAPP_FL_APP_SOURCE: 'mine' is not valid, expected an absolute path"):
            table.validate({"ONEAPP_FL_APP_SOURCE": "mine"}, "superlink")

    def test_the_configuration_of_an_own_app_without_one_is_named_and_ignored(self) -> None:
        checked = table.check({"ONEAPP_FL_APP_CONFIG": "rate=0.5"}, "superlink")
        assert checked.ignored == ["ONEAPP_FL_APP_CONFIG is ignored: no app of your own is given in ONEAPP_FL_APP_SOURCE"]

    def test_argument_options_follow_the_types(self) -> None:
        options = table.role_argument_options("superlink")
        assert options["flower_num_rounds"]["type"] == "int"
        assert options["flower_log_level"]["choices"] == ["DEBUG", "INFO", "WARNING", "ERROR"]
        assert options["flower_ssl_keyfile"]["no_log"] is True

    @pytest.mark.parametrize("role", ["superlink", "supernode"])
    def test_argument_specifications_of_the_roles_agree_with_the_table(self, role: str) -> None:
        path = REPOSITORY / "roles" / f"flower_{role}" / "meta" / "argument_specs.yml"
        specified = yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
        for name, option in table.role_argument_options(role).items():
            expected = {key: value for key, value in option.items() if key != "description"}
            assert {key: specified[name].get(key) for key in expected} == expected, name

    @pytest.mark.parametrize("role", ["superlink", "supernode"])
    def test_defaults_of_the_roles_are_those_of_the_table(self, role: str) -> None:
        defaults = yaml.safe_load((REPOSITORY / "roles" / f"flower_{role}" / "defaults" / "main.yml").read_text())
        # Without one, the app has a default that differs by strategy.
        expected = {name: value for name, value in table.role_defaults(role).items() if value is not None}
        assert {name: defaults.get(name) for name in expected} == expected

    S3 = {
        "ONEAPP_FL_S3_ENDPOINT": "https://objects.example.org:9000",
        "ONEAPP_FL_S3_BUCKET": "models",
        "ONEAPP_FL_S3_ACCESS_KEY": "key",
        "ONEAPP_FL_S3_SECRET_KEY": "secret",
    }

    def test_object_storage_needs_all_of_its_settings(self) -> None:
        assert table.validate(self.S3, "superlink")["flower_s3_bucket"] == "models"
        for name in self.S3:
            rest = {other: value for other, value in self.S3.items() if other != name}
            assert errors(rest) == [f"{name}: nothing was given, expected a value because {', '.join(rest)} was given"]

    def test_the_secret_key_does_not_show_in_an_error(self) -> None:
        secret = {"ONEAPP_FL_S3_SECRET_KEY": "hunter2\nhunter2"}
        assert "hunter2" not in " ".join(errors(secret))

    def test_object_storage_without_tls_is_a_warning(self) -> None:
        checked = table.check(self.S3 | {"ONEAPP_FL_S3_ENDPOINT": "http://objects.example.org"}, "superlink")
        assert any("not encrypted" in warning for warning in checked.warnings)

    def test_checkpoints_lie_on_a_disk_or_an_export(self) -> None:
        (error,) = errors({"ONEAPP_FL_CHECKPOINT_DISK": "/dev/vdb", "ONEAPP_FL_CHECKPOINT_NFS": "nas:/models"})
        assert error == "ONEAPP_FL_CHECKPOINT_NFS: 'nas:/models' is not valid, expected nothing because ONEAPP_FL_CHECKPOINT_DISK is '/dev/vdb'"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("FL_CHECKPOINT_DISK", "vdb"),
            ("FL_CHECKPOINT_DISK", "/dev/../etc"),
            ("FL_CHECKPOINT_DISK", "LABEL=a b"),
            ("FL_CHECKPOINT_NFS", "nas"),
            ("FL_CHECKPOINT_NFS", "nas:/models -o x"),
            ("FL_CHECKPOINT_PATH", "checkpoints"),
            ("FL_CHECKPOINT_PATH", "/app/../etc"),
            ("FL_S3_ENDPOINT", "objects.example.org"),
            ("FL_S3_ENDPOINT", "ftp://objects.example.org"),
        ],
    )
    def test_a_place_for_checkpoints_that_has_not_the_form_is_named(self, name: str, value: str) -> None:
        assert any(f"ONEAPP_{name}: '{value}' is not valid" in error for error in errors({f"ONEAPP_{name}": value}))

    def test_more_nodes_needed_than_there_are(self) -> None:
        table.check_topology({"flower_min_available_clients": 2}, 2)
        with pytest.raises(table.ContextError, match="minimum clients above the number of nodes.* is 3.*only 2"):
            table.check_topology({"flower_min_available_clients": 3}, 2)


class TestRunOverrides:
    def test_keys_of_both_kinds_become_run_configuration(self) -> None:
        given = {"num-server-rounds": "5", "flower_min_fit_clients": 1, "strategy": "FedAvg", "round-timeout": None}
        assert table.run_overrides(given) == {"num-server-rounds": 5, "min-fit-clients": 1, "strategy": "FedAvg"}

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"num-server-rounds": 0}, "num-server-rounds: '0' is not valid, expected a whole number of at least 1"),
            ({"num-server-rounds": True}, "'True' is not valid"),
            ({"num-server-rounds": [3]}, "is not valid"),
            ({"strategy": 5}, "strategy: '5' is not valid, expected one of: FedAvg"),
            ({"flower_strategy": "Krum", "min-fit-clients": 2}, "min-fit-clients: 2 is not valid, expected at least 3 for Krum"),
            ({"min-fit-clients": 4, "min-available-clients": 3}, "min-fit-clients: 4 is not valid, expected at most min-available-clients"),
            ({"strategy": "MultiKrum", "nodes-to-select": 4, "flower_min_fit_clients": 3}, "nodes-to-select: 4 is not valid, expected at most"),
            ({"trim-beta": 0.5}, "trim-beta: '0.5' is not valid, expected a number of at least 0.001 and below 0.5"),
            ({"output-directory": "/etc"}, "'output-directory' is not part of the run configuration"),
            ({"flower_log_level": "INFO"}, "'flower_log_level' is not part of the run configuration"),
            ({"flower_num_rounds": 1, "num-server-rounds": 2}, "given twice"),
            ({"use-case": "none"}, "use-case: 'none' is not valid"),
        ],
    )
    def test_refuses(self, config: dict[str, Any], words: str) -> None:
        with pytest.raises(table.ContextError) as caught:
            table.run_overrides(config)
        assert words in str(caught.value)


def test_a_request_may_hold_the_typed_values_of_a_playbook():
    typed = {"flower_checkpoint_enabled": False, "flower_num_rounds": 2}
    texts = {"flower_checkpoint_enabled": "NO", "flower_num_rounds": "2"}
    assert table.run_overrides(typed) == table.run_overrides(texts)


@pytest.mark.parametrize("number", [10**18, 10**19, -(10**20)])
def test_a_number_that_toml_cannot_hold_may_not_be_requested(number):
    with pytest.raises(table.ContextError, match="num-server-rounds: .* is not valid"):
        table.run_overrides({"num-server-rounds": number})


def test_every_default_of_the_run_configuration_may_be_requested():
    assert table.run_overrides({**table.run_config(table.role_defaults("superlink")), "use-case": "digits"})
