# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes the image of a machine that was installed in a container, with its manifest and bill of materials beside it.

``python image.py make MACHINE IMAGE FACTS``   FACTS: JSON object; what it says goes into the manifest, ``inputs`` and ``uuid`` are needed
``python image.py current IMAGE INPUTS``       exit status 0 if IMAGE is whole and was made from INPUTS, 1 otherwise

The manifest is written last: an image without one is not whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import contents
import disk

# What a container has and a machine has not.
CONTAINER_FILES = (".dockerenv", "run/systemd/container")
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
RESOLVER = "../run/systemd/resolve/stub-resolv.conf"
MOUNTS = "mnt/flower-wheels", "mnt/flower-image.tar"


def make(machine: str, image: Path, facts: dict[str, Any], scratch: Path) -> dict[str, object]:
    """Make the image of a stopped container and return its manifest.

    :raises disk.DiskError: the image cannot be made.
    """
    identity = uuid.UUID(facts["uuid"])
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        root = scratch / "root"
        root.mkdir()
        _say("unpacking the machine")
        _export(machine, root)
        _tidy(root)
        kernel = disk.check_kernel(root)
        sbom = image.with_suffix(".cdx.json")
        bill = contents.bill(root, image.stem, identity)
        _write_json(sbom, bill)
        _say("making the disk")
        disk.make(root, image, identity, facts["compression"], scratch)
        baked = json.loads((root / "etc/one-appliance/baked.json").read_text(encoding="utf-8"))
        agent = next(item for item in bill["components"] if item["name"].startswith("one-context"))
        manifest = {
            "name": image.stem,
            "file": image.name,
            "sha256": _digest(image, "sha256"),
            # What OpenNebula's datastores can check.
            "md5": _digest(image, "md5"),
            "size": image.stat().st_size,
            "virtual_size": json.loads(disk.run("qemu-img", "info", "--output=json", str(image)))["virtual-size"],
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "inputs": facts["inputs"],
            "baked": {
                **baked, "role": (root / "etc/one-appliance/role").read_text(encoding="utf-8").strip(), "debian": facts["suite"],
                "kernel": kernel, "architecture": "x86_64", "guest_agent": f"{agent['name']} {agent['version']}",
                "guest_agent_sha256": facts["agent_sha256"], "python_packages": facts["python_packages"], **facts.get("gpu", {}),
            },
            "sbom": {"file": sbom.name, "sha256": _digest(sbom, "sha256"), "components": len(bill["components"])},
        }
        image.with_suffix(".qcow2.sha256").write_text(f"{manifest['sha256']}  {image.name}\n", encoding="ascii")
        _write_json(manifest_of(image), manifest)
        return manifest
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def is_current(image: Path, inputs: str) -> bool:
    """Whether the image is whole and was made from these inputs."""
    try:
        manifest = json.loads(manifest_of(image).read_text(encoding="utf-8"))
        return manifest["inputs"] == inputs and manifest["sha256"] == _digest(image, "sha256") and (image.parent / manifest["sbom"]["file"]).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def manifest_of(image: Path) -> Path:
    """Where the manifest of an image is."""
    return image.with_suffix(".json")


def _export(machine: str, root: Path) -> None:
    # Extended attributes are capabilities of programs.
    unpack = ["tar", "--extract", "--directory", str(root), "--numeric-owner", "--xattrs", "--xattrs-include=*", "--preserve-permissions"]
    with subprocess.Popen(["docker", "export", machine], stdout=subprocess.PIPE) as source:
        unpacked = subprocess.run(unpack, stdin=source.stdout, capture_output=True, text=True, check=False)
    if unpacked.returncode or source.returncode:
        raise disk.DiskError(f"{machine} cannot be unpacked: {unpacked.stderr.strip() or 'docker export failed'}")
    template = '{{ range .Mounts }}{{ if eq .Destination "/var/lib/docker" }}{{ .Source }}{{ end }}{{ end }}'
    volume = disk.run("docker", "inspect", "--format", template, machine).strip()
    if volume and (root / "var/lib/docker").is_dir() and any(Path(volume).iterdir()):
        disk.run("cp", "--archive", f"{volume}/.", str(root / "var/lib/docker"))


def _tidy(root: Path) -> None:
    for name in CONTAINER_FILES:
        (root / name).unlink(missing_ok=True)
    for name in MOUNTS:
        path = root / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    for directory in ("run", "tmp", "dev", "proc", "sys"):
        for path in (root / directory).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # What the machine wrote while it was stopped.
    for path in (root / "var/log").rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.unlink()
    for path in (root / "var/log/journal").glob("*"):
        path.rmdir()
    for name, text in (("hosts", HOSTS), ("hostname", "localhost\n"), ("machine-id", "")):
        path = root / "etc" / name
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="ascii")
        path.chmod(0o644)
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to(RESOLVER)
    # The unpacked layers of a container image, not the engine's own identity or networks.
    for name in ("network/files", "engine-id", "containers", "runtimes", "tmp"):
        path = root / "var/lib/docker" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _write_json(path: Path, content: dict[str, object]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Command line."""
    command, *arguments = sys.argv[1:]
    if command == "current":
        return 0 if is_current(Path(arguments[0]), arguments[1]) else 1
    machine, image, facts = arguments
    settings = json.loads(facts)
    try:
        made = make(machine, Path(image), settings, Path(settings["scratch"]))
    except disk.DiskError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{made['file']}: {made['size'] / 1e6:.0f} MB, SHA-256 {made['sha256']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
