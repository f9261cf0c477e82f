# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Command line of the lab: start, stop and remove zones."""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from lab import engine, pid_file
from lab.addresses import free_port, free_subnet
from lab.checkout import CHECKOUT, ROOT
from lab.driver import DRIVERS, DriverError, load_driver
from lab.releases import NEWEST, RELEASES
from lab.zone import Zone, ZoneConfig, ZoneError

_START_SECONDS = 60
_STOP_SECONDS = 60
_POLL_SECONDS = 0.1
_LOG_LINES = 15
_NOT_RUNNING = 3
# Of the zone, where nobody else has them; a zone keeps what it got when it first started.
_WANTED_PORTS = {"port": 2633, "oneflow_port": 2474, "onegate_port": 5030}
_SUBNET_PREFIX = "10.88"
# CPU that hosts offer for each core: as with KVM, it is a weight among VMs that want more than there is, not a ceiling.
_CPU_PER_CORE = 4


class ZoneFiles:
    """The files of a zone in its state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.pid = state_dir / "zone.pid"
        self.log = state_dir / "zone.log"
        self.auth = state_dir / "one_auth"
        self.endpoints = state_dir / "endpoints"
        self.settings = state_dir / "settings.json"

    def running_pid(self) -> int | None:
        """Return the id of the zone's process."""
        return pid_file.running_pid(self.pid)

    def hold_pid(self) -> TextIO:
        """Make this process the zone's; it is until the returned file is closed. Raises ZoneError."""
        try:
            return pid_file.hold(self.pid)
        except BlockingIOError as error:
            raise ZoneError(f"The zone in {self.state_dir} runs already.") from error

    def password(self, wanted: str) -> str:
        """Return oneadmin's password: the wanted one, else the one kept, else a new one; it is kept for next time."""
        kept = self.auth.read_text().strip().partition(":")[2] if self.auth.exists() else ""
        password = wanted or kept or secrets.token_urlsafe(24)
        if password != kept:
            self.auth.touch(mode=0o600)
            self.auth.write_text(f"oneadmin:{password}\n")
        return password

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]) if self.log.exists() else ""


def up(args: argparse.Namespace) -> int:
    """Start a zone in the background and print its endpoints; one that runs is left as it is."""
    files = ZoneFiles(args.state_dir)
    files.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    process = None
    if not files.running_pid():
        files.password(args.password)
        files.endpoints.unlink(missing_ok=True)
        process = _start_in_background(args, files)
    _wait_for_start(args.name, files, process)
    print(files.endpoints.read_text(), end="")
    return 0


def foreground(args: argparse.Namespace) -> int:
    """Run a zone until SIGTERM or SIGINT."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    files = ZoneFiles(args.state_dir)
    files.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_args: stopped.set())
    with files.hold_pid():
        settings = _settings(args, files)
        zone = Zone(_zone_config(args, files, settings))
        try:
            zone.start()
            _write_endpoints(zone, files, settings["subnet"])
            logging.info("zone %s runs", args.name)
            stopped.wait()
            logging.info("zone %s stops", args.name)
        finally:
            zone.stop()
            files.endpoints.unlink(missing_ok=True)
    return 0


def down(args: argparse.Namespace) -> int:
    """Stop a zone's process; its state and its VMs stay."""
    files = ZoneFiles(args.state_dir)
    pid = files.running_pid()
    if not pid:
        print(f"Zone {args.name} does not run.")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while files.running_pid():
        if time.monotonic() > deadline:
            raise ZoneError(f"Zone {args.name} (process {pid}) did not stop within {_STOP_SECONDS} seconds; "
                            f"its log is {files.log}.")
        time.sleep(_POLL_SECONDS)
    print(f"Zone {args.name} is stopped.")
    return 0


def status(args: argparse.Namespace) -> int:
    """Say whether a zone runs, and where."""
    files = ZoneFiles(args.state_dir)
    pid = files.running_pid()
    if not pid:
        print(f"Zone {args.name} does not run.")
        return _NOT_RUNNING
    print(f"Zone {args.name} runs (process {pid}).")
    print(files.endpoints.read_text() if files.endpoints.exists() else "It has not opened its ports yet.\n", end="")
    return 0


def clean(args: argparse.Namespace) -> int:
    """Stop a zone and remove everything it made."""
    files = ZoneFiles(args.state_dir)
    down(args)
    known = files.settings.exists()
    driver = json.loads(files.settings.read_text())["driver"] if known else args.driver
    try:
        load_driver(driver, args.name, files.state_dir).clean()
    except DriverError as error:
        if known:
            raise
        print(f"Zone {args.name} is unknown here. {error}")
    shutil.rmtree(files.state_dir, ignore_errors=True)
    print(f"Zone {args.name} is removed.")
    return 0


def _start_in_background(args: argparse.Namespace, files: ZoneFiles) -> subprocess.Popen:
    # The password is not passed on: arguments are for everybody to see, and the zone finds it in its file.
    options = {name: value for name, value in vars(args).items() if name not in ("command", "foreground", "password")}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    with files.log.open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lab", "up", "--foreground", *arguments],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )


def _wait_for_start(name: str, files: ZoneFiles, process: subprocess.Popen | None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not files.endpoints.exists():
        if process and process.poll() is not None:
            reason = files.log_tail().splitlines()[-1:] or ["no reason given"]
            raise ZoneError(f"Zone {name} did not start: {reason[0]} (log: {files.log})")
        if time.monotonic() > deadline:
            raise ZoneError(f"Zone {name} did not start within {_START_SECONDS} seconds.\n{files.log_tail()}")
        time.sleep(_POLL_SECONDS)


def _write_endpoints(zone: Zone, files: ZoneFiles, subnet: str) -> None:
    """Write the endpoints in one step: the file says the zone has started."""
    unfinished = files.endpoints.with_suffix(".new")
    unfinished.write_text(
        f"ONE_XMLRPC={zone.xmlrpc_url}\nONEFLOW_URL={zone.oneflow_url}\n"
        f"ONEGATE_ENDPOINT={zone.onegate_url}\nONE_AUTH={files.auth.resolve()}\n"
        f"LAB_SUBNET={subnet}\n"
    )
    unfinished.rename(files.endpoints)


def _settings(args: argparse.Namespace, files: ZoneFiles) -> dict:
    """Return and keep the driver, ports and subnet of a zone: those asked for, else those it had, else free ones."""
    kept = json.loads(files.settings.read_text()) if files.settings.exists() else {}
    if kept.get("driver", args.driver) != args.driver:
        raise ZoneError(f"Zone {args.name} was made with the driver {kept['driver']}; remove it before you start it with {args.driver}.")
    onegate_host = args.onegate_host or load_driver(args.driver, args.name, files.state_dir).host_address()
    hosts = {"port": args.host or ZoneConfig.host, "oneflow_port": args.host or ZoneConfig.host, "onegate_port": onegate_host}
    for name, wanted in _WANTED_PORTS.items():
        asked = getattr(args, name)
        kept[name] = asked if asked is not None else kept.get(name) or free_port(hosts[name], wanted)
    try:
        subnet = kept.get("subnet") or free_subnet(_SUBNET_PREFIX, int(CHECKOUT, 16), _subnets_beside(files))
    except OSError as error:
        raise ZoneError(f"Zone {args.name} has no network for its VMs: {error}.") from error
    kept |= {"driver": args.driver, "onegate_host": onegate_host, "subnet": subnet}
    files.settings.write_text(json.dumps(kept))
    return kept


def _subnets_beside(files: ZoneFiles) -> set[str]:
    """Return the subnets of the zones beside this one, whose networks may not be made yet."""
    settings = files.state_dir.parent.glob("*/settings.json")
    return {json.loads(path.read_text()).get("subnet", "") for path in settings if path != files.settings}


def _zone_config(args: argparse.Namespace, files: ZoneFiles, settings: dict) -> ZoneConfig:
    chosen = {
        name: value for name in ("host", "host_cpu", "host_memory") if (value := getattr(args, name)) is not None
    }
    if args.driver != "dummy":
        chosen.setdefault("host_cpu", _CPU_PER_CORE * (os.cpu_count() or 1))
    return ZoneConfig(
        name=args.name, state_dir=files.state_dir, password=files.password(args.password), driver=args.driver,
        version=args.version, port=settings["port"], oneflow_port=settings["oneflow_port"], onegate_port=settings["onegate_port"],
        onegate_host=settings["onegate_host"], interval=args.interval, **chosen,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="A zone in a box.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--name", required=True, help="name of the zone")
    parser.add_argument("--state-dir", type=Path, help="where the zone keeps its state (build/lab/NAME)")
    parser.add_argument("--driver", choices=sorted(DRIVERS), default="docker", help="what runs the VMs (%(default)s)")
    parser.add_argument("--version", choices=tuple(RELEASES), default=NEWEST, help="release it answers as (%(default)s)")
    parser.add_argument("--host", help="address of XML-RPC and OneFlow (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port of XML-RPC (2633, or a free one)")
    parser.add_argument("--oneflow-port", type=int, help="port of OneFlow (2474, or a free one)")
    parser.add_argument("--onegate-host", help="address of OneGate, which VMs must reach")
    parser.add_argument("--onegate-port", type=int, help="port of OneGate (5030, or a free one)")
    parser.add_argument("--host-cpu", type=float, help="CPU that VMs may take in all (the cores of this machine; four times as much where VMs boot)")
    parser.add_argument("--host-memory", type=int, help="MB VMs may take in all (those of this machine)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks at everything (%(default)s)")
    parser.add_argument("--password", default=os.environ.get("LAB_PASSWORD", ""),
                        help="of oneadmin; better in the environment as LAB_PASSWORD (random)")
    parser.add_argument("--foreground", action="store_true", help="up: stay, and log to the terminal")
    return parser


COMMANDS = {"up": up, "down": down, "status": status, "clean": clean}


def main(arguments: list[str]) -> int:
    """Run a command; errors people can do something about are one sentence, without a traceback."""
    args = _parser().parse_args(arguments)
    args.state_dir = (args.state_dir or ROOT / "build" / "lab" / args.name).resolve()
    command = foreground if args.command == "up" and args.foreground else COMMANDS[args.command]
    try:
        return command(args)
    except (ZoneError, DriverError, engine.EngineError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
