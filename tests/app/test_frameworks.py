# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the collection knows of the app's use cases is what they say of themselves."""

from __future__ import annotations

from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import FRAMEWORKS, USE_CASES
from federation import usecases


def test_use_cases_run_on_the_same_frameworks_in_the_collection_and_in_the_app() -> None:
    assert {name: usecases.load(name).FRAMEWORKS for name in usecases.NAMES} | {"none": tuple(FRAMEWORKS)} == USE_CASES
