#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register the NVIDIA runtime with a container engine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_runtime
short_description: Register the NVIDIA runtime with a container engine
version_added: 0.2.0
description:
  - Has C(nvidia-ctk runtime configure) add the runtime C(nvidia) to the settings of Docker or containerd, if they do not name it yet.
  - Other settings stay as they are. Where the settings are a symbolic link, what it leads to is changed. The engine has to be told to read its settings again.
  - Podman and other engines that read specifications of the Container Device Interface need no runtime.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.attributes
options:
  engine:
    description: The container engine.
    type: str
    choices: [docker, containerd]
    required: true
  state:
    description: Whether the engine knows the runtime.
    type: str
    choices: [present, absent]
    default: present
  default:
    description: Whether containers get the runtime unless they ask for another one.
    type: bool
    default: false
  config:
    description: Settings of the engine. By default C(/etc/docker/daemon.json) or C(/etc/containerd/config.toml).
    type: path
  drop_in:
    description: File for the runtime of containerd, which O(config) is made to import.
    type: path
    default: /etc/containerd/conf.d/99-nvidia.toml
requirements:
  - nvidia-ctk, of the NVIDIA Container Toolkit, 1.18 or newer for containerd
"""

EXAMPLES = r"""
- name: Register the NVIDIA runtime with Docker
  opennebula.flower.nvidia_runtime:
    engine: docker
  notify: Restart Docker
"""

RETURN = r""" # """

import json
import tempfile
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import runtime
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule

CONFIG = {"docker": "/etc/docker/daemon.json", "containerd": "/etc/containerd/config.toml"}


def docker(module: SafeModule) -> dict:
    """Bring daemon.json to the wanted state and return the module's result."""
    path, default = _file(module, module.params["config"] or CONFIG["docker"]), module.params["default"]
    text = _read(module, path)
    try:
        settings = runtime.docker_settings(text)
    except ValueError as problem:
        module.fail_json(msg=f"{path} {problem}.")
    wanted = settings
    if module.params["state"] == "absent":
        wanted = runtime.docker_without(settings)
    elif not runtime.docker_has(settings, default):
        proposed = _proposed(module, settings)
        wanted = proposed if default else runtime.docker_not_default(proposed)
    if wanted == settings:
        return {"changed": False}
    # What a link leads to is somebody's file: it stays, with nothing in it.
    after = json.dumps(wanted, indent=4, sort_keys=True) + "\n" if wanted or path.is_symlink() else ""
    if not module.check_mode:
        _write(module, path, after)
    return _result([(path, text, after)])


def _proposed(module: SafeModule, settings: dict) -> dict:
    """Return daemon.json as nvidia-ctk would have it, which takes neither null nor a byte order mark in the file itself."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=module.tmpdir, suffix=".json") as stream:
        json.dump(settings, stream)
        stream.flush()
        output = _configure(module, [f"--config={stream.name}", "--dry-run"])
    try:
        return runtime.docker_settings(output)
    except ValueError as problem:
        module.fail_json(msg=f"What nvidia-ctk proposes for Docker {problem}.")


def containerd(module: SafeModule) -> dict:
    """Bring containerd's settings to the wanted state and return the module's result."""
    path, drop_in = _file(module, module.params["config"] or CONFIG["containerd"]), _file(module, module.params["drop_in"])
    before, before_drop_in = _read(module, path), _read(module, drop_in)
    imports = f"{drop_in.parent}/*.toml"
    if module.params["state"] == "absent":
        others = [other for other in drop_in.parent.glob("*.toml") if other != drop_in]
        after = before if others or not before_drop_in else runtime.containerd_without(before, imports)
        if not module.check_mode:
            _write(module, drop_in, "")
            if after != before:
                _write(module, path, after)
        return _result([(path, before, after), (drop_in, before_drop_in, "")])
    if runtime.containerd_has(before, before_drop_in, imports, module.params["default"]):
        return {"changed": False}
    arguments = [f"--config={path.resolve()}", f"--drop-in-config={drop_in}"]
    proposed = _configure(module, [*arguments, "--dry-run"] if module.check_mode else arguments)
    if module.check_mode:
        return {"changed": True, "diff": {"before": before_drop_in + before, "after": proposed}}
    return _result([(path, before, _read(module, path)), (drop_in, before_drop_in, _read(module, drop_in))])


def _configure(module: SafeModule, arguments: list[str]) -> str:
    engine = module.params["engine"]
    default = ["--nvidia-set-as-default"] if module.params["default"] else []
    command = [module.get_bin_path("nvidia-ctk", required=True), "runtime", "configure", f"--runtime={engine}", *arguments, *default]
    status, output, error = module.run_command(command)
    if status:
        module.fail_json(msg=f"nvidia-ctk cannot configure {engine}: {error.strip() or output.strip()}.")
    return output


def _file(module: SafeModule, name: str) -> Path:
    """Return the path of a file that is there or can be made."""
    path = Path(name)
    try:
        target = path.resolve()
    except (OSError, RuntimeError):
        module.fail_json(msg=f"{path} is a symbolic link that leads to itself.")
    if target.exists() and not target.is_file():
        module.fail_json(msg=f"{path} is not a file that could hold settings.")
    return path


def _read(module: SafeModule, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig") if path.is_file() else ""
    except UnicodeDecodeError:
        module.fail_json(msg=f"{path} is not text in UTF-8.")


def _write(module: SafeModule, path: Path, text: str) -> None:
    """Write a file, or remove it when nothing is left to write. A symbolic link stays: what it leads to is written."""
    target = path.resolve()
    if not text and not path.is_symlink():
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = not target.exists()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=module.tmpdir, delete=False) as stream:
        stream.write(text)
    module.atomic_move(stream.name, str(target))
    if new:
        module.set_mode_if_different(str(target), "0644", True)


def _result(files: list[tuple[Path, str, str]]) -> dict:
    changed = [(path, before, after) for path, before, after in files if before != after]
    diff = [{"before_header": str(path), "after_header": str(path), "before": before, "after": after} for path, before, after in changed]
    return {"changed": bool(changed), "diff": diff}


def main() -> None:
    """Run the module."""
    module = SafeModule(
        argument_spec={
            "engine": {"type": "str", "choices": ["docker", "containerd"], "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "default": {"type": "bool", "default": False},
            "config": {"type": "path"},
            "drop_in": {"type": "path", "default": "/etc/containerd/conf.d/99-nvidia.toml"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: {"docker": docker, "containerd": containerd}[module.params["engine"]](module))


if __name__ == "__main__":
    main()
