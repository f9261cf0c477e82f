# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the zone in a box leaves when it is removed, after all other tests. The tests build on each other."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest
from lab_checkout import HERE, NOTHING, ONE_AUTH, ROOT, docker, endpoint, identity, images, leftovers, make


def test_reset_zone_leaves_no_machine_and_no_process(empty_zone):
    port = int(re.search(r":(\d+)/", endpoint())[1])
    make("lab-reset")
    assert leftovers() == NOTHING
    assert not ONE_AUTH.parent.exists()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=300)


def test_clean_lab_leaves_no_image_and_no_file_and_what_is_not_its_own_alone(empty_zone):
    others = images(HERE)
    make("clean-lab")
    assert not (ROOT / "build/images").exists()
    assert not (ROOT / "build/wheels").exists()
    # An engine that was started for the demo is gone by now, and one that was there before holds nothing of it.
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0:
        assert images(ROOT) == []
        assert identity(ROOT) not in docker("volume", "ls", "--format", "{{.Name}} {{.Labels}}")
        assert images(HERE) == others
