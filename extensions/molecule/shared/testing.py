# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of several scenarios need."""

import re
import subprocess
import time

from lab.checkout import CHECKOUT

_PAUSE = 1  # seconds


def container(machine):
    """Return the container that a machine of the scenario is."""
    return f"{machine}-{CHECKOUT}"


def on(machine, *command):
    """Run a command on a machine and return what it said and its status."""
    return subprocess.run(["docker", "exec", container(machine), *command], capture_output=True, text=True, check=False)


def output(machine, *command):
    """Run a command on a machine, which has to succeed, and return what it said."""
    done = on(machine, *command)
    assert done.returncode == 0, f"{command} on {machine}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(condition, seconds=600):
    """Return whether the condition came true in time. Whoever asks machines without a pause takes the processor that they need to answer."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def unit_property(host, unit, name):
    """Return a property of a systemd unit as text."""
    return host.check_output(f"systemctl show --property {name} --value {unit}")


def exposure(host, unit):
    """Return how much systemd judges a unit able to do beyond its work, from 0 for nothing to 10."""
    judged = host.check_output(f"systemd-analyze security --no-pager {unit}.service")
    return float(re.search(r"Overall exposure level for .*: ([0-9.]+)", judged)[1])
