# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node tells its app, and the environment in which both run."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import node_environment, node_settings


def settings(framework: str = "sklearn", given: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return node_settings(given or {}, framework, **{"vm_id": "", "native": False, "gpu": False, "memory_fraction": 0.8, **more})


def test_an_app_learns_the_framework_whatever_the_operator_says() -> None:
    assert settings(given={"rate": 1, "ml-framework": "other"}) == {"rate": 1, "ml-framework": "sklearn"}


@pytest.mark.parametrize(("facts", "more"), [
    ({"vm_id": "0"}, {"vm-id": 0}),
    ({"vm_id": "not a number"}, {}),
    ({"native": True}, {"data-directory": "/opt/flower/data"}),
    ({"gpu": True}, {}),
    ({"framework": "pytorch", "memory_fraction": "0.5"}, {}),
    ({"framework": "pytorch", "gpu": True, "memory_fraction": "0.5"}, {"gpu-memory-fraction": 0.5}),
])  # fmt: skip
def test_an_app_learns_of_its_machine_what_it_has_to_know(facts: dict[str, Any], more: dict[str, Any]) -> None:
    told = settings(**facts)
    assert told == {"ml-framework": facts.get("framework", "sklearn"), **more}


@pytest.mark.parametrize(("framework", "gpu", "devices", "more"), [
    ("sklearn", False, "0", {}),
    ("pytorch", True, "all", {}),
    ("pytorch", True, "0,1", {"CUDA_VISIBLE_DEVICES": "0,1"}),
    ("tensorflow", True, "all", {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}),
    ("tensorflow", False, "all", {}),
])  # fmt: skip
def test_frameworks_share_gpus_and_see_those_that_they_may(framework: str, gpu: bool, devices: str, more: dict[str, str]) -> None:
    environment = node_environment(framework, log_level="INFO", gpu=gpu, devices=devices)
    assert {name: value for name, value in environment.items() if not name.startswith("FLWR_")} == more


@pytest.mark.parametrize(("asked", "level"), [("DEBUG", "DEBUG"), ("INFO", "INFO"), ("WARNING", "INFO"), ("ERROR", "INFO")])
def test_a_node_always_says_that_it_is_connected(asked: str, level: str) -> None:
    assert node_environment("sklearn", log_level=asked, gpu=False, devices="all")["FLWR_LOG_LEVEL"] == level
