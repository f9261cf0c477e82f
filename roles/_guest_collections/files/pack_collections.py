# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Pack what a guest needs of collections installed on the control node: pack_collections.py ARCHIVE NAMESPACE.NAME...

The same files always make the same archive, so that unpacking it again changes nothing.
"""

import importlib
import sys
import tarfile
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

# Everything else (tests, documentation, a checkout's own virtual environment) stays behind.
DIRECTORIES = ("apps", "LICENSES", "meta", "playbooks", "plugins", "roles")
UNWANTED = {"__pycache__", ".pytest_cache", ".ansible"}


def collection_path(name: str) -> Path:
    """Return where the collection is installed; ImportError when it is not."""
    return Path(next(iter(importlib.import_module(f"ansible_collections.{name}").__path__))).resolve()


def wanted_files(root: Path) -> list[Path]:
    """Return the collection's files that a guest needs, relative to its root."""
    files = [path.relative_to(root) for directory in DIRECTORIES for path in (root / directory).rglob("*")]
    files += [path.relative_to(root) for path in root.iterdir() if path.name in ("MANIFEST.json", "galaxy.yml", "LICENSE")]
    return sorted(path for path in files if (root / path).is_file() and not UNWANTED.intersection(path.parts))


def reproducible(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out of an archive member what differs between machines and points in time."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member


def main() -> None:
    """Pack the collections named on the command line."""
    archive, *names = sys.argv[1:]
    init_plugin_loader()
    with tarfile.open(archive, "w", dereference=True) as tar:
        for name in names:
            root = collection_path(name)
            inside = Path("ansible_collections", *name.split("."))
            for path in wanted_files(root):
                tar.add(root / path, str(inside / path), filter=reproducible)


if __name__ == "__main__":
    main()
