# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of several scenarios need."""

import json
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


def assert_limited(host, unit):
    """Check that what a unit of Flower starts takes neither the machine's memory nor its processes, and writes where it has to alone."""
    memory = int(host.check_output("awk '/^MemTotal:/ { print $2 }' /proc/meminfo")) * 1024
    if not host.exists("docker"):
        assert 0 < int(unit_property(host, unit, "MemoryMax")) < memory
        assert int(unit_property(host, unit, "TasksMax")) == 4096
        return
    limits = json.loads(host.check_output("docker inspect --format '{{json .HostConfig}}' " + unit))
    assert 0 < limits["Memory"] < memory
    assert limits["PidsLimit"] == 4096
    assert (limits["ReadonlyRootfs"], limits["CapDrop"], limits["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    host.check_output(f"docker exec {unit} touch /app/written /tmp/written")
    assert "Read-only" in host.run(f"docker exec --user root {unit} touch /written").stderr
