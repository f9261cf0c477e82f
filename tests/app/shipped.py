# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The app as it ships: its directory, its default run configuration, and the program that starts its ServerApps and ClientApps."""

from __future__ import annotations

import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
APP = REPOSITORY / "apps" / "federation"
APP_PROGRAM = REPOSITORY / "roles" / "_flower_runtime" / "files" / "flwr-app"
DEFAULTS = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
