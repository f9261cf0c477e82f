# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in of OpenNebula's guest agent as a Debian package, to bake images with where the real one cannot be had.

``python -m lab.agent_package DIRECTORY`` makes ``one-context_<version>_all.deb`` in that directory and prints its path. It consists of lab/guest,
but for what only a container needs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What containers need in the place of events and control groups that a VM has.
CONTAINER_ONLY = "etc/systemd"
UNITS = ("one-context-local.service", "one-context-online.service", "one-context.service")
CONTROL = """\
Package: one-context
Version: {version}
Architecture: all
Maintainer: opennebula.flower contributors <noreply@opennebula.io>
Depends: bash, cloud-guest-utils, e2fsprogs, openssh-client, python3, systemd
Description: Stand-in of OpenNebula's guest agent, for tests alone
"""
ENABLE = "#!/bin/sh\nset -e\nsystemctl --quiet enable {units}\n"


def build(directory: Path) -> Path:
    """Make the package in ``directory`` and return its path. The same files make the same package."""
    with tempfile.TemporaryDirectory(prefix="agent-") as scratch:
        tree = Path(scratch, "tree")
        shutil.copytree(HERE / "guest", tree)
        shutil.rmtree(tree / CONTAINER_ONLY)
        files = sorted(path for path in tree.rglob("*") if path.is_file())
        digest = hashlib.sha256(b"".join(str(path.relative_to(tree)).encode() + path.read_bytes() for path in files)).hexdigest()
        version = f"0.0.{int(digest[:8], 16)}"
        control = tree / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(CONTROL.format(version=version), encoding="ascii")
        (control / "postinst").write_text(ENABLE.format(units=" ".join(UNITS)), encoding="ascii")
        (control / "postinst").chmod(0o755)
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        package = directory / f"one-context_{version}_all.deb"
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)],
            env={**os.environ, "SOURCE_DATE_EPOCH": "0"}, check=True, stdout=subprocess.DEVNULL,
        )
        return package


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
