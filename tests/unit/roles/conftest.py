# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The programs of the role flower_appliance, which lie side by side on an appliance."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FILES = Path(__file__).parents[3] / "roles" / "flower_appliance" / "files"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FILES))
    return importlib.import_module("service")


@pytest.fixture
def unchanged(service: ModuleType) -> ModuleType:
    return service.unchanged
