# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from, and taken out of, the settings of container engines."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.nvidia import runtime

IMPORTS = "/etc/containerd/conf.d/*.toml"
DROP_IN = """version = 2

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]

    [plugins."io.containerd.grpc.v1.cri".containerd]

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
"""
DEFAULT = DROP_IN.replace("cri\".containerd]\n", "cri\".containerd]\n      default_runtime_name = \"nvidia\"\n")
CONFIG = f'imports = ["{IMPORTS}"]\nversion = 2\n'


@pytest.mark.parametrize("path", ["nvidia-container-runtime", "/usr/bin/nvidia-container-runtime"])
def test_docker_that_names_the_runtime_is_left_alone(path: str) -> None:
    assert runtime.docker_has({"runtimes": {"nvidia": {"path": path}}}, default=False)


@pytest.mark.parametrize("settings", [{}, {"runtimes": {}}, {"runtimes": {"nvidia": {"path": "/opt/other"}}}])
def test_docker_without_the_runtime_is_noticed(settings: dict) -> None:
    assert not runtime.docker_has(settings, default=False)


@pytest.mark.parametrize("default", [True, False])
def test_another_default_than_the_wanted_one_is_noticed(default: bool) -> None:
    settings = {"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}, **({} if default else {"default-runtime": "nvidia"})}
    assert not runtime.docker_has(settings, default)


def test_docker_loses_the_runtime_and_nothing_else() -> None:
    settings = {"runtimes": {"nvidia": {}, "kata": {}}, "default-runtime": "nvidia", "live-restore": True}
    assert runtime.docker_without(settings) == {"runtimes": {"kata": {}}, "live-restore": True}
    assert runtime.docker_without({"default-runtime": "kata", "runtimes": {"nvidia": {}}}) == {"default-runtime": "kata"}


def test_containerd_with_the_drop_in_is_left_alone() -> None:
    assert runtime.containerd_has(CONFIG, DROP_IN, IMPORTS, default=False)
    assert runtime.containerd_has(CONFIG, DEFAULT, IMPORTS, default=True)


@pytest.mark.parametrize(
    ("config", "drop_in", "default"),
    [
        ("", DROP_IN, False),
        (CONFIG, "", False),
        (CONFIG, DROP_IN, True),
        (CONFIG, DEFAULT, False),
        (CONFIG, DROP_IN.replace("-runtime", "-old"), False),
        (f'version = 2\n[plugins.own]\nimports = ["{IMPORTS}"]\n', DROP_IN, False),
    ],
)
def test_containerd_that_lacks_something_is_noticed(config: str, drop_in: str, default: bool) -> None:
    assert not runtime.containerd_has(config, drop_in, IMPORTS, default)


def test_containerd_loses_the_import_and_a_file_that_held_nothing_else() -> None:
    assert runtime.containerd_without(CONFIG, IMPORTS) == ""
    assert runtime.containerd_without(CONFIG + "[grpc]\n  uid = 0\n", IMPORTS) == "version = 2\n[grpc]\n  uid = 0\n"


@pytest.mark.parametrize("line", ['  imports = ["%s"]\n', 'imports = ["%s"] # drop-ins\n', 'imports = [\n  "%s",\n]\r\n', 'imports = ["%s"]'])
def test_the_import_is_found_and_goes_however_toml_writes_it(line: str) -> None:
    config = "version = 2\n" + line % IMPORTS
    assert runtime.containerd_has(config, DROP_IN, IMPORTS, default=False)
    assert runtime.containerd_without(config, IMPORTS) == ""


def test_an_import_list_of_somebody_else_stays() -> None:
    own = f'imports = ["/etc/own/*.toml", "{IMPORTS}"]\n'
    assert runtime.containerd_without(own, IMPORTS) == own
