#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a container engine know the NVIDIA runtime."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_runtime
short_description: Let a container engine know the NVIDIA runtime
version_added: 0.1.0
description:
  - Has C(nvidia-ctk runtime configure) add the runtime C(nvidia) to the settings of Docker or containerd, if they do not name it yet.
  - Other settings stay as they are. The engine has to be told to read its settings again.
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
- name: Let Docker know the NVIDIA runtime
  opennebula.flower.nvidia_runtime:
    engine: docker
  notify: Restart Docker
"""

RETURN = r""" # """

import json
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import runtime

CONFIG = {"docker": "/etc/docker/daemon.json", "containerd": "/etc/containerd/config.toml"}


def docker(module: AnsibleModule) -> dict:
    """Bring daemon.json to the wanted state and return the module's result."""
    path, default = Path(module.params["config"] or CONFIG["docker"]), module.params["default"]
    text = _read(path)
    try:
        settings = json.loads(text or "{}")
    except ValueError as problem:
        module.fail_json(msg=f"{path} is no JSON: {problem}.")
    wanted = settings
    if module.params["state"] == "absent":
        wanted = runtime.docker_without(settings)
    elif not runtime.docker_has(settings, default):
        proposed = json.loads(_configure(module, [f"--config={path}", "--dry-run"]))
        wanted = proposed if default else runtime.docker_not_default(proposed)
    if wanted == settings:
        return {"changed": False}
    after = json.dumps(wanted, indent=4, sort_keys=True) + "\n" if wanted else ""
    if not module.check_mode:
        _write(module, path, after)
    return _result([(path, text, after)])


def containerd(module: AnsibleModule) -> dict:
    """Bring containerd's settings to the wanted state and return the module's result."""
    path, drop_in = Path(module.params["config"] or CONFIG["containerd"]), Path(module.params["drop_in"])
    before, before_drop_in = _read(path), _read(drop_in)
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
    arguments = [f"--config={path}", f"--drop-in-config={drop_in}"]
    proposed = _configure(module, [*arguments, "--dry-run"] if module.check_mode else arguments)
    if module.check_mode:
        return {"changed": True, "diff": {"before": before_drop_in + before, "after": proposed}}
    return _result([(path, before, _read(path)), (drop_in, before_drop_in, _read(drop_in))])


def _configure(module: AnsibleModule, arguments: list[str]) -> str:
    engine = module.params["engine"]
    default = ["--nvidia-set-as-default"] if module.params["default"] else []
    command = [module.get_bin_path("nvidia-ctk", required=True), "runtime", "configure", f"--runtime={engine}", *arguments, *default]
    status, output, error = module.run_command(command)
    if status:
        module.fail_json(msg=f"nvidia-ctk cannot configure {engine}: {error.strip() or output.strip()}.")
    return output


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _write(module: AnsibleModule, path: Path, text: str) -> None:
    """Write a file, or remove it when nothing is left to write."""
    if not text:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = not path.exists()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=module.tmpdir, delete=False) as stream:
        stream.write(text)
    module.atomic_move(stream.name, str(path))
    if new:
        module.set_mode_if_different(str(path), "0644", True)


def _result(files: list[tuple[Path, str, str]]) -> dict:
    changed = [(path, before, after) for path, before, after in files if before != after]
    diff = [{"before_header": str(path), "after_header": str(path), "before": before, "after": after} for path, before, after in changed]
    return {"changed": bool(changed), "diff": diff}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "engine": {"type": "str", "choices": ["docker", "containerd"], "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "default": {"type": "bool", "default": False},
            "config": {"type": "path"},
            "drop_in": {"type": "path", "default": "/etc/containerd/conf.d/99-nvidia.toml"},
        },
        supports_check_mode=True,
    )
    module.exit_json(**{"docker": docker, "containerd": containerd}[module.params["engine"]](module))


if __name__ == "__main__":
    main()
