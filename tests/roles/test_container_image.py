# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The role flower_container_image on this machine: from packages where no registry answers, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.checkout import IMAGE_PREFIX, ROOT
from lab.engine import EngineError, docker
from lab.images import FLOWER_VERSION, SUITES, SUPERLINK_IMAGE, WHEELS, build

NO_REGISTRY = "127.0.0.1:9/flwr/superlink:none"
IMAGE = f"{IMAGE_PREFIX}/role-superlink:{FLOWER_VERSION}"


@pytest.fixture(scope="module", autouse=True)
def parent() -> Iterator[None]:
    """The role builds on an image with Flower's packages in it, so that nothing is installed twice."""
    build("flower", SUITES["bookworm"])
    yield
    try:
        docker("image", "rm", "--force", IMAGE)
    except EngineError as problem:
        assert "No such image" in str(problem), problem


def role(directory: Path, *arguments: str, **variables: object) -> tuple[int, str, int]:
    """Run the role; return the exit status, the output with its lines joined, and how many tasks changed something."""
    given = {"flower_container_image_upstream": NO_REGISTRY, "flower_container_image_name": IMAGE, "flower_container_image_work": str(directory)}
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "adhoc", "localhost", "-c", "local", "-m", "ansible.builtin.include_role",
         "-a", "name=opennebula.flower.flower_container_image", "-e", json.dumps(given | variables), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    return done.returncode, re.sub(r"\s+", " ", output), output.count("CHANGED")


def test_where_no_registry_answers_the_image_is_made_from_packages_once(tmp_path: Path) -> None:
    archive = tmp_path / "superlink.tar"
    settings = {
        "flower_container_image_base": SUPERLINK_IMAGE, "flower_container_image_wheelhouse": str(WHEELS), "flower_container_image_archive": str(archive),
    }  # fmt: skip
    status, output, changed = role(tmp_path, "--check", **settings)
    assert status == 0 and "would make" in output, output
    assert not archive.exists()
    status, output, changed = role(tmp_path, **settings)
    assert status == 0, output
    assert json.loads(docker("image", "inspect", IMAGE))[0]["Config"]["Entrypoint"] == ["flower-superlink"]
    assert f"Flower version: {FLOWER_VERSION}" in docker("run", "--rm", "--network", "none", IMAGE, "--version")
    with tarfile.open(archive) as saved:
        assert [entry["RepoTags"] for entry in json.load(saved.extractfile("manifest.json"))] == [[IMAGE]]
    made = docker("image", "inspect", "--format", "{{.Id}}", IMAGE)
    status, output, changed = role(tmp_path, **settings)
    assert (status, changed) == (0, 0), output
    assert docker("image", "inspect", "--format", "{{.Id}}", IMAGE) == made


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"flower_container_image_source": "registry"}, "127.0.0.1:9/flwr/superlink:none cannot be pulled: "),
        ({"flower_container_image_source": "hub"}, "value of flower_container_image_source must be one of: auto, registry, packages, got: hub"),
        ({"flower_container_image_program": "supernode", "flower_ml_framework": "abacus"}, "there is no framework 'abacus', expected one of: sklearn"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path, settings: dict[str, str], sentence: str) -> None:
    status, output, _changed = role(tmp_path, **settings)
    assert status != 0
    assert sentence in output
