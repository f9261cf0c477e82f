# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Writes the lock files of what images are baked from: ``python -m scripts.locks``, which takes what Python's package index has today.

A lock file names every package that requirements lead to, with its version and the SHA-256 of its wheel. What cannot be resolved here keeps the lock file
that it has; the exit status is then 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import BASE, FRAMEWORKS
from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION
from ansible_collections.opennebula.flower.plugins.plugin_utils.locks import LOCKS, header

ROOT = Path(__file__).parents[1]
APPLIANCE = ROOT / "roles/flower_appliance/defaults/main.yml"
PYTHON = "3.13"
PYTORCH_INDEX = "https://download.pytorch.org/whl/cpu"
FLOWER = f"flwr=={DEFAULT_VERSION}"


def requirement_sets() -> Iterator[tuple[str, list[str], bool]]:
    """Yield for each virtual environment, or layer of one, the name of its lock file, its requirements, and whether these bring what they depend on."""
    yield "guest", yaml.safe_load(APPLIANCE.read_text(encoding="utf-8"))["flower_appliance_python_packages"], True
    yield "superlink", [FLOWER, "numpy"], True
    for each in FRAMEWORKS.values():
        packages = list(each.cpu_packages or each.packages)
        yield f"{each.name}-native", [FLOWER, *packages], True
        if each.name != BASE:
            yield f"{each.name}-container", [FLOWER, "numpy", *packages], True
        if each.image_packages:
            yield f"{each.name}-data", list(each.image_packages), False
        if each.cuda:
            yield f"{each.name}-cuda", [FLOWER, *each.cuda.packages], True


def lines(requirements: list[str], dependencies: bool) -> Iterator[str]:
    """Yield the lines of a lock file. Raises subprocess.CalledProcessError with the reason in ``stderr``."""
    options = ["--extra-index-url", PYTORCH_INDEX] if any(each.endswith("+cpu") for each in requirements) else []
    with tempfile.TemporaryDirectory() as directory:
        wanted, pins = Path(directory, "wanted"), Path(directory, "pins")
        wanted.write_text("\n".join(requirements), encoding="ascii")
        # uv judges markers for the Python release that is asked for; pip does so for the one that it runs on.
        run(
            "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28",
            "--only-binary", ":all:", *([] if dependencies else ["--no-deps"]), *options, "--output-file", str(pins), str(wanted),
        )  # fmt: skip
        found = run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed", "--target", directory,
            "--python-version", PYTHON, "--only-binary=:all:", "--no-deps", "--ignore-requires-python", *options, "--report", "-", "--requirement", str(pins),
        )  # fmt: skip
    for each in sorted(json.loads(found)["install"], key=lambda item: item["metadata"]["name"].lower()):
        digest = each["download_info"]["archive_info"]["hashes"]["sha256"]
        yield f"{each['metadata']['name']}=={each['metadata']['version']} --hash=sha256:{digest}"


def run(*command: str) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Write all lock files, and remove those that are for nothing any more."""
    directory = LOCKS / PYTHON
    directory.mkdir(parents=True, exist_ok=True)
    status, names = 0, set()
    for name, requirements, dependencies in requirement_sets():
        path = directory / f"{name}.txt"
        names.add(path.name)
        try:
            text = "".join(f"{line}\n" for line in [header(requirements), *lines(requirements, dependencies)])
        except subprocess.CalledProcessError as problem:
            print(f"{name}: {' '.join(problem.stderr.split())[-300:]}", file=sys.stderr)
            status = 1
            continue
        path.write_text(text, encoding="ascii")
        print(f"{path.relative_to(ROOT)}: {len(text.splitlines()) - 1} packages")
    for path in directory.glob("*.txt"):
        if path.name not in names:
            path.unlink()
    return status


if __name__ == "__main__":
    sys.exit(main())
