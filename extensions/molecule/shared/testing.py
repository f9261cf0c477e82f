# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of several scenarios need."""

import time


def wait_until(condition, seconds=60):
    """Return whether the condition came true in time; it has to take a moment itself, as commands on a machine do."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


def unit_property(host, unit, name):
    """Return a property of a systemd unit as text."""
    return host.check_output(f"systemctl show --property {name} --value {unit}")
