# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes shared/testing.py importable for the tests of all scenarios."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "shared"))
