# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Prints what Python packages the appliances of a framework consist of, as pip requirements: ``python -m scripts.baked FRAMEWORK``."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import FRAMEWORKS
from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION

APPLIANCE = Path(__file__).parents[1] / "roles/flower_appliance/defaults/main.yml"


def requirements(framework: str) -> list[str]:
    """Return the requirements of Flower, of a framework and of the guest's own Ansible. Raises KeyError where there is no such framework."""
    found = FRAMEWORKS[framework]
    guest = yaml.safe_load(APPLIANCE.read_text(encoding="utf-8"))["flower_appliance_python_packages"]
    return [f"flwr=={DEFAULT_VERSION}", *found.packages, *found.image_packages, *guest]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
