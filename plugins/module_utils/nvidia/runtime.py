# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the settings of container engines say about the NVIDIA runtime. nvidia-ctk adds it; only undoing that is left to us."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

NAME = "nvidia"
PROGRAM = "nvidia-container-runtime"
_BYTE_ORDER_MARK = "\ufeff"


def docker_settings(text: str) -> dict[str, Any]:
    """Return what daemon.json says; nothing, null and empty sections say nothing, as for Docker.

    Raises:
        ValueError: the text is not JSON, or its parts are of other kinds than Docker's; the sentence has no full stop.
    """
    try:
        settings = json.loads(text.removeprefix(_BYTE_ORDER_MARK).strip() or "{}", parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("is not readable JSON: it is nested too deeply") from None
    except ValueError as problem:
        raise ValueError(f"is not valid JSON: {problem}") from None
    settings = _object(settings, "")
    runtimes = _object(settings.pop("runtimes", None), " in runtimes")
    runtimes[NAME] = _object(runtimes.get(NAME), f" in runtimes.{NAME}")
    runtimes = {name: value for name, value in runtimes.items() if name != NAME or value}
    return {**settings, "runtimes": runtimes} if runtimes else settings


def docker_has(settings: Mapping[str, Any], default: bool) -> bool:
    """Say whether daemon.json names the runtime, and as the default one just if it should be."""
    runtime = settings.get("runtimes", {}).get(NAME, {})
    return _is_runtime(str(runtime.get("path", ""))) and (settings.get("default-runtime") == NAME) == default


def docker_not_default(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return daemon.json without the runtime as the default one."""
    return {key: value for key, value in settings.items() if (key, value) != ("default-runtime", NAME)}


def docker_without(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return daemon.json without the runtime."""
    rest = docker_not_default(settings)
    runtimes = {name: value for name, value in rest.pop("runtimes", {}).items() if name != NAME}
    return {**rest, "runtimes": runtimes} if runtimes else rest


def containerd_has(config: str, drop_in: str, imports: str, default: bool) -> bool:
    """Say whether containerd reads the drop-in (``imports``: the pattern that does it), and whether that names the runtime as it should."""
    binary = re.search(rf"runtimes\.{NAME}\.options\]\s(?:[^\[]*\s)?BinaryName\s*=\s*[\"']([^\"']+)", drop_in)
    is_default = re.search(rf"default_runtime_name\s*=\s*[\"']{NAME}[\"']", drop_in) is not None
    return imports in _imports(config) and binary is not None and _is_runtime(binary.group(1)) and is_default == default


def containerd_without(config: str, imports: str) -> str:
    """Return config.toml without the import of the drop-in, empty if nothing but its version is left."""
    if _imports(config) != [imports]:
        return config
    rest = re.sub(r"^[ \t]*imports\s*=\s*\[[^\]]*\][ \t]*(#.*)?\r?(\n|\Z)", "", config, count=1, flags=re.MULTILINE)
    return rest if re.sub(r"^version\s*=.*$", "", rest, flags=re.MULTILINE).strip() else ""


def _imports(config: str) -> list[str]:
    # Below the first table, a key of that name is the table's own.
    found = re.search(r"^[ \t]*imports\s*=\s*\[([^\]]*)\]", re.split(r"^[ \t]*\[", config, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE)
    return re.findall(r"[\"']([^\"']+)[\"']", found.group(1)) if found else []


def _is_runtime(path: str) -> bool:
    return path.rpartition("/")[2] == PROGRAM


def _object(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"has {json.dumps(value)[:60]}{where}, expected an object in braces")
    return dict(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a valid JSON number")
