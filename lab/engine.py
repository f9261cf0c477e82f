# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The Docker engine under the lab: calling it, and on Debian and Ubuntu installing and starting one.

``python -m lab.engine ensure`` leaves an engine that answers, ``status`` says whether one does, and ``stop`` ends the
engine that ``ensure`` started for this checkout, unless it still has containers (one run by systemd or by somebody else is left alone).
"""
from __future__ import annotations

import argparse
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab.checkout import CHECKOUT

INSTALL_HINT = "install and start Docker, or run `python -m lab.engine ensure` as root on Debian or Ubuntu"
# docker commands whose second word says what is done: docker network create
MANAGED_OBJECTS = ("container", "image", "network", "volume")
START_SECONDS = 60
STOP_SECONDS = 30
DAEMON_LOG = Path("/var/log/opennebula-lab-dockerd.log")
DAEMON_PID = Path("/run/opennebula-lab-dockerd.pid")
# program that must be there -> Debian packages that bring it (the first one known to apt is taken)
TOOLS = {
    "dockerd": ("docker.io",),
    "docker": ("docker-cli", "docker.io"),
    "iptables": ("iptables",),
    "debootstrap": ("debootstrap",),
    "ssh-keygen": ("openssh-client",),
}


class EngineError(Exception):
    """A docker command failed or no engine answers; the message is one sentence without secrets."""


def docker(*args: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Run ``docker ARGS`` and return its output without the last newline.

    :raises EngineError: with the client's own reason, when it fails or takes longer than timeout seconds.
    """
    what = f"docker {' '.join(args[:2] if args[0] in MANAGED_OBJECTS else args[:1])}"
    try:
        result = subprocess.run(
            ["docker", *args], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise EngineError(f"There is no docker command: {INSTALL_HINT}.") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{what} did not end within {timeout:g} seconds.") from error
    if result.returncode:
        raise EngineError(f"{what} failed: {_reason(result.stderr)}")
    return result.stdout.rstrip("\n")


def version() -> str:
    """Return the version of the engine that answers.

    :raises EngineError: saying what to do, when none does.
    """
    try:
        return docker("version", "--format", "{{.Server.Version}}", timeout=20)
    except EngineError as error:
        raise EngineError(f"No Docker engine answers: {INSTALL_HINT}. ({error})") from error


def host_address() -> str:
    """Return the address at which containers of every network reach this machine: that of the default bridge.

    :raises EngineError: when the engine does not answer or has no default bridge.
    """
    bridge = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
    # Some engines leave the gateway out when they chose it themselves; then it is the first address.
    return bridge.get("Gateway") or str(next(ipaddress.ip_network(bridge["Subnet"]).hosts()))


def ensure() -> None:
    """Install what is missing and start an engine, unless one answers already.

    :raises EngineError: saying what to do, when this machine or this user cannot.
    """
    missing = [tool for tool in TOOLS if not _which(tool)]
    answering = _answers()
    if answering:
        missing = [tool for tool in missing if tool in ("debootstrap", "ssh-keygen")]
    if missing:
        install({tool: TOOLS[tool] for tool in missing})
    if answering:
        return
    if os.geteuid() != 0:
        raise EngineError(f"No Docker engine answers and only root can start one: {INSTALL_HINT}.")
    _start()


def stop() -> None:
    """End the engine that ensure() started in the background; do nothing when there is none.

    :raises EngineError: when it has not ended after STOP_SECONDS.
    """
    pid = _background_daemon()
    if pid and docker("ps", "--all", "--quiet"):
        _say(f"the Docker engine (process {pid}) goes on: it has containers of others")
        return
    if pid:
        _say(f"stopping the Docker engine (process {pid})")
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _background_daemon():
        if time.monotonic() > deadline:
            raise EngineError(f"The Docker engine (process {pid}) did not end within {STOP_SECONDS} seconds.")
        time.sleep(0.2)
    if pid:
        DAEMON_PID.unlink(missing_ok=True)


def _background_daemon() -> int | None:
    """Return the process id of the engine that ensure() started for this checkout, if it still runs."""
    try:
        pid, checkout = DAEMON_PID.read_text(encoding="ascii").split()
        # Empty for a process that has ended and that nobody has waited for.
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return int(pid) if checkout == CHECKOUT and b"dockerd" in command else None


def install(tools: dict[str, tuple[str, ...]]) -> None:
    """Install what is missing, of each the first package that apt knows, by what it brings.

    :raises EngineError: saying what to do, when this machine or this user cannot.
    """
    if os.geteuid() != 0 or not _which("apt-get"):
        raise EngineError(f"{', '.join(tools)} missing on this machine: {INSTALL_HINT}.")
    _say("apt-get update")
    _apt("update")
    packages = sorted({_package(tool, names) for tool, names in tools.items()})
    _say(f"apt-get install {' '.join(packages)}")
    _apt("install", "--yes", "--no-install-recommends", *packages)


def _package(tool: str, names: tuple[str, ...]) -> str:
    for name in names:
        if subprocess.run(["apt-cache", "show", name], capture_output=True, check=False).returncode == 0:
            return name
    raise EngineError(f"apt knows no package with {tool} (tried {', '.join(names)}).")


def _apt(*args: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(["apt-get", "-q", *args], env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise EngineError(f"apt-get {args[0]} failed: {_reason(result.stderr)}")


def _start() -> None:
    # A package installed a moment ago may have started its engine itself, so ask again before starting another one.
    if not _answers():
        if Path("/run/systemd/system").exists():
            _say("systemctl start docker")
            subprocess.run(["systemctl", "start", "docker"], check=False)
        else:
            _say(f"starting dockerd in the background, log in {DAEMON_LOG}")
            with DAEMON_LOG.open("ab") as log:
                daemon = subprocess.Popen(
                    ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            DAEMON_PID.write_text(f"{daemon.pid} {CHECKOUT}\n", encoding="ascii")
    begin = time.monotonic()
    while not _answers():
        if time.monotonic() - begin > START_SECONDS:
            raise EngineError(f"The Docker engine did not answer within {START_SECONDS} seconds; see {DAEMON_LOG}.")
        time.sleep(0.3)
    _say(f"the Docker engine answers after {time.monotonic() - begin:.1f} s")


def _answers() -> bool:
    try:
        version()
    except EngineError:
        return False
    return True


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and "--help'" not in line]
    if not lines:
        return "no reason given"
    return lines[-1].removeprefix("docker: ").removeprefix("Error response from daemon: ").removeprefix("E: ").rstrip(".") + "."


def _say(text: str) -> None:
    print(f"engine: {text}", flush=True)


def main() -> int:
    """Command line of ``python -m lab.engine``."""
    parser = argparse.ArgumentParser(prog="python -m lab.engine", description="The Docker engine under the lab.")
    parser.add_argument("action", choices=("ensure", "status", "stop"))
    action = parser.parse_args().action
    try:
        if action == "stop":
            stop()
            return 0
        if action == "ensure":
            ensure()
        _say(f"Docker engine {version()} answers")
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
