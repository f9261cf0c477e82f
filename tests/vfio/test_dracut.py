# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the role writes for dracut, which makes the initramfs of the Red Hat and SUSE families, in a directory with a real dracut.

Nothing is booted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from disk import SUITE, Unavailable, memory_directory, need_tools, run
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROLE = Path(__file__).parents[2] / "roles/vfio_host"
SPARE_DISK = "0000:01:00.0"


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory with a system that has dracut."""
    try:
        need_tools()
    except Unavailable as reason:
        pytest.skip(f"vfio_host with dracut was not tested: {reason}")
    with tempfile.TemporaryDirectory(prefix="vfio-", dir=memory_directory()) as directory:
        run("debootstrap", "--variant=minbase", "--include=dracut-core", SUITE, directory)
        yield Path(directory)


def test_dracut_takes_the_udev_rules_into_the_initramfs(root: Path) -> None:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    rules = variables["vfio_host_udev_file"]
    templates = Environment(loader=FileSystemLoader(ROLE / "templates"), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    for name, path in (("vfio.rules.j2", rules), ("dracut.j2", variables["vfio_host_initramfs_files"]["dracut"])):
        text = templates.get_template(name).render(variables, vfio_host_group="kvm", vfio_host_bound=[SPARE_DISK])
        root.joinpath(path.lstrip("/")).write_text(text)

    run("chroot", str(root), "dracut", "--force", "--no-kernel", "/tmp/initramfs", "6.1.0")
    taken = run("chroot", str(root), "lsinitrd", "--file", rules.lstrip("/"), "/tmp/initramfs")
    assert f'ATTR{{[pci/{SPARE_DISK}]driver_override}}="vfio-pci"' in taken
    assert taken == root.joinpath(rules.lstrip("/")).read_text()
