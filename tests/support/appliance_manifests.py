# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Manifests of appliance images, as build_appliance.yml writes them beside images."""

from __future__ import annotations

from typing import Any


def manifest(role: str, framework: str = "base", runtime: str = "native") -> dict[str, Any]:
    """Return the manifest of an image of a role."""
    name = f"flower-{role}-{runtime}" if role == "superlink" else f"flower-{role}-{framework}-{runtime}"
    return {
        "name": name, "file": f"{name}.qcow2", "sha256": "1" * 64, "md5": "2" * 32, "size": 280_000_000, "virtual_size": 1_150_000_000,
        "created": "2026-11-20T10:00:00Z", "inputs": "3" * 64,
        "baked": {
            "flower_version": "1.42.0", "flower_runtime": runtime, "ml_framework": framework, "image": "", "role": role, "debian": "trixie",
            "kernel": "6.12.1-cloud-amd64", "architecture": "x86_64", "guest_agent": "one-context 7.2.1", "guest_agent_sha256": "4" * 64,
            "python_packages": "locked",
        },
        "sbom": {"file": f"{name}.cdx.json", "sha256": "5" * 64, "components": 300},
    }  # fmt: skip
