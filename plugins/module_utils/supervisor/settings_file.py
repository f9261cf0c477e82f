# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a unit, in a JSON file that its role writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def read_settings(kind: type[T], path: str) -> T:
    """Return the settings in a file as a data class; ValueError names unknown and missing keys. Raises OSError."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        return kind(**content)
    except TypeError as problem:
        raise ValueError(f"{path}: {problem}") from None
