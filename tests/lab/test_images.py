# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's images: Flower's keep the contract of the upstream ones, and nothing is made twice."""

from __future__ import annotations

import json
import tarfile

import pytest

from lab.engine import docker
from lab.images import DEMO_VARIANT, FLOWER_VERSION, SUITES, SUPERLINK_IMAGE, archive_path, build, variant_image

pytestmark = pytest.mark.docker

SUPERLINK = SUPERLINK_IMAGE
SUPERNODE = variant_image(DEMO_VARIANT)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    build("all", SUITES["bookworm"])


def python(image: str, program: str) -> str:
    return docker("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", program)


def test_second_build_makes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = docker("image", "inspect", "--format", "{{.Id}}", SUPERLINK, SUPERNODE, SUITES["bookworm"].vm_image)
    build("all", SUITES["bookworm"])
    assert capsys.readouterr().out == ""
    assert docker("image", "inspect", "--format", "{{.Id}}", SUPERLINK, SUPERNODE, SUITES["bookworm"].vm_image) == before


@pytest.mark.parametrize(("image", "command"), [(SUPERLINK, "flower-superlink"), (SUPERNODE, "flower-supernode")])
def test_flower_image_keeps_the_upstream_contract(image: str, command: str) -> None:
    facts = json.loads(docker("image", "inspect", image))[0]
    assert facts["Config"]["Entrypoint"] == [command]
    assert facts["Config"]["WorkingDir"] == "/app"
    assert "PYTHONUNBUFFERED=1" in facts["Config"]["Env"]
    program = "import os, sys; print(os.getuid(), os.getgid(), os.environ['HOME'], os.stat('/app').st_uid, sys.prefix)"
    assert python(image, program) == "49999 49999 /app 49999 /python/venv"
    assert f"Flower version: {FLOWER_VERSION}" in docker("run", "--rm", "--network", "none", image, "--version")


@pytest.mark.parametrize("image", [SUPERLINK, SUPERNODE])
def test_flower_image_is_a_single_layer_and_its_archive_too(image: str) -> None:
    assert len(json.loads(docker("image", "inspect", image))[0]["RootFS"]["Layers"]) == 1
    with tarfile.open(archive_path(image)) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))
    assert [(entry["RepoTags"], len(entry["Layers"])) for entry in manifest] == [([image], 1)]


def test_supernode_has_its_framework_with_data_and_compiled_modules() -> None:
    program = "import sklearn.datasets as d, sklearn.linear_model as m; print(d.load_digits().data.shape, m.__cached__)"
    shape, cached = python(SUPERNODE, program).rsplit(" ", 1)
    assert shape == "(1797, 64)"
    assert docker("run", "--rm", "--network", "none", "--entrypoint", "ls", SUPERNODE, cached) == cached
