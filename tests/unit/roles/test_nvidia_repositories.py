# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The repository files of role nvidia_container_toolkit, rendered for each family of distributions and read as package managers do."""

from __future__ import annotations

import configparser
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule

ROLE = Path(__file__).parents[3] / "roles" / "nvidia_container_toolkit"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())


def rendered(template: str, family: str, **more: object) -> str:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROLE / "templates"), undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(FilterModule().filters())
    key = VARIABLES["nvidia_container_toolkit_key_files"][family]
    values = {**DEFAULTS, **VARIABLES, "nvidia_container_toolkit_key_file": key, "ansible_facts": {"os_family": family}, **more}
    return environment.get_template(template).render(values)


@pytest.mark.parametrize("family", ["RedHat", "Suse"])
def test_rpm_repositories_are_nvidias_and_their_lists_are_signed(family: str) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(rendered("nvidia-container-toolkit.repo.j2", family))
    repository = parser["nvidia-container-toolkit"]
    assert repository["baseurl"] == "https://nvidia.github.io/libnvidia-container/stable/rpm/$basearch"
    assert repository["repo_gpgcheck"] == repository["enabled"] == "1"
    assert repository["gpgkey"] == "file:///etc/pki/rpm-gpg/RPM-GPG-KEY-nvidia-container-toolkit"


def test_dnf_sees_no_other_version_than_the_wanted_one() -> None:
    parser = configparser.ConfigParser()
    parser.read_string(rendered("nvidia-container-toolkit.repo.j2", "RedHat", nvidia_container_toolkit_version="1.20.0-1"))
    assert parser["nvidia-container-toolkit"]["includepkgs"].split(",") == [
        "nvidia-container-toolkit-1.20.0-1.*",
        "nvidia-container-toolkit-base-1.20.0-1.*",
        "libnvidia-container-tools-1.20.0-1.*",
        "libnvidia-container1-1.20.0-1.*",
    ]


def test_zypper_knows_no_such_option() -> None:
    assert "includepkgs" not in rendered("nvidia-container-toolkit.repo.j2", "Suse")


def test_a_mirror_takes_nvidias_place() -> None:
    text = rendered("nvidia-container-toolkit.sources.j2", "Debian", nvidia_container_toolkit_url="https://mirror.example.org/nvidia")
    lines = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines == {
        "Types": "deb",
        "URIs": "https://mirror.example.org/nvidia/stable/deb/$(ARCH)",
        "Suites": "/",
        "Signed-By": "/etc/apt/keyrings/nvidia-container-toolkit.asc",
    }
