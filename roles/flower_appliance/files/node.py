# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Looks after a node, started by one-appliance-node.timer: says how it is, lets it leave between two messages, and finds a SuperLink that moved, and gets a
new key for one whose key was revoked, and goes on with replacing one.

Published are numbers, which is all that OneFlow's policies read: FL_CLIENT_STATUS, FL_TRAINING_ACTIVE and FL_ROUND_NUMBER. DRAIN=YES in the
attributes of the VM asks the node to leave: it stops once it has sent what it trained, and says DRAINED=YES; without DRAIN it comes back. Any VM
of the service may write there, as it may remove this one. A node that is to leave is looked at every second: in a training that goes on and on, the
time between two messages is short.
"""

import logging
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import link
import service
import unchanged

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import ContextError, check
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import ContextMissing
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import unit_log

UNIT = "flower-supernode.service"
BOOTSTRAP = ("/etc/one-appliance/service", "bootstrap")
IDLE, TRAINING, DISCONNECTED = "1", "2", "3"
# What Flower says at the beginning and at the end of its work on a message; with DEBUG it also says when.
BEGIN = "Receiving: "
ENDS = (
    "Sent successfully", "Failed to send message ", "Failed to receive message ", "Failed to create task for run ID ", "is not in `RUNNING` status. Ignoring ",
)
# For people, and for programs: flower-log makes objects also of what apps print, so that there the words are at the beginning.
PEOPLE = r"(\x1b\[[0-9]+m)?(INFO|ERROR) ([-0-9]+ [0-9:,]+)?(\x1b\[0m)?: .*"
PROGRAMS = r'\{"timestamp": "[^"]*", "level": "(INFO|ERROR)", "unit": "[^"]*", "message": "(Run ID [0-9]+ )?'
MESSAGE = rf"^({PEOPLE}|{PROGRAMS})({'|'.join(re.escape(text) for text in (BEGIN, *ENDS))})"
# How long a node that is to leave is watched before OneGate is asked again whether it still is, and how long all together before the timer's next turn.
WATCH_SECONDS = 30
LEAVING_SECONDS = 600
PAUSE = 1
# When this last booted the node for a new key, by the clock that begins with the machine, as /run does; and the least time between two of these.
RENEWED = Path("/run/one-appliance-renewed")
RENEWAL_SECONDS = 600


def look_after(context: Mapping[str, str], gate: OneGate) -> None:
    """Look once, publish what changed and act on it; while the node is to leave and works, again and again. Raises OneException, ContextError."""
    deadline = time.monotonic() + LEAVING_SECONDS
    while look(context, gate) and time.monotonic() < deadline:
        pass


def look(context: Mapping[str, str], gate: OneGate) -> bool:
    """Look, publish what changed and act on it; return whether the node is to leave and still works."""
    values = check(context, "supernode").values
    mine = gate.get_vm()["USER_TEMPLATE"]
    leaving = mine.get("DRAIN") == "YES"
    busy = is_busy(WATCH_SECONDS if leaving else 0)
    drained = leaving and not busy
    found = {}
    if drained:
        systemctl("stop")
        found["DRAINED"] = "YES"
    elif not leaving and "DRAINED" in mine:
        systemctl("start")
        gate.delete(["DRAINED"])
    reached = not drained and is_reached(values)
    # Flower may be refused by a SuperLink that can be reached.
    connected = reached and is_healthy()
    found["FL_CLIENT_STATUS"] = TRAINING if busy else IDLE if connected else DISCONNECTED
    found |= {"FL_TRAINING_ACTIVE": str(int(busy)), **training(gate)}
    changed = {name: value for name, value in found.items() if mine.get(name) != value}
    if changed:
        gate.put(changed)
    if values["flower_node_auth_enabled"] and "FL_NODE_KEY_NEXT" in mine and not leaving and is_due():
        subprocess.run(BOOTSTRAP, check=False)
    elif not connected and not drained and not values["flower_superlink_address"]:
        published = link.superlink(gate.get_service())
        moved = not reached and has_moved(published)
        if moved or (values["flower_node_auth_enabled"] and unchanged.is_revoked(context, values, published) and is_due()):
            subprocess.run(BOOTSTRAP, check=False)
    return leaving and busy


def is_busy(seconds: float) -> bool:
    """Say whether Flower works on a message, and still does after so many seconds."""
    deadline = time.monotonic() + seconds
    while works():
        if time.monotonic() >= deadline:
            return True
        time.sleep(PAUSE)
    return False


def works() -> bool:
    """Say whether Flower works on a message now, from the last that it said of one in the present run of its unit, whatever an app said since."""
    show = ["systemctl", "show", "--property", "ActiveState", "--property", "InvocationID", UNIT]
    state = dict(line.partition("=")[::2] for line in subprocess.run(show, capture_output=True, text=True, check=False).stdout.splitlines())
    if state.get("ActiveState") != "active":
        return False
    journal = ["journalctl", "--quiet", "--output", "cat", "--reverse", "--lines", "1", "--grep", MESSAGE]
    command = [*journal, f"_SYSTEMD_INVOCATION_ID={state.get('InvocationID', '')}"]
    return BEGIN in subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout


def is_healthy() -> bool:
    """Say whether the SuperLink accepted the present run of the node."""
    return subprocess.run([unchanged.HEALTHY], stdout=subprocess.DEVNULL, check=False).returncode == 0


def is_reached(values: Mapping[str, Any]) -> bool:
    """Say whether the SuperLink that the unit names can be reached."""
    address = re.search(r'--superlink"?\s+"?([^\s"]+)', unchanged.NODE_UNIT.read_text(encoding="utf-8"))
    authority = (unchanged.CERTIFICATES / "ca.crt").read_text(encoding="ascii") if values["flower_tls_enabled"] else None
    return bool(address) and not link.unreachable(address.group(1), authority)


def training(gate: OneGate) -> dict[str, str]:
    """Return how the training of the SuperLink of this service goes, nothing where there is none."""
    try:
        roles = gate.get_service(extended=False)["roles"]
        superlinks = [node["vm_info"]["VM"]["ID"] for role in roles if role["name"] == "superlink" for node in role.get("nodes") or []]
        published = gate.get_vm(superlinks[0])["USER_TEMPLATE"] if superlinks else {}
    except (OneException, KeyError, TypeError, AttributeError):
        return {}
    numbers = {name: published.get(name) for name in ("FL_TRAINING_ACTIVE", "FL_ROUND_NUMBER")}
    return {name: text for name, text in numbers.items() if isinstance(text, str) and re.fullmatch(r"\d{1,9}", text, re.ASCII)}


def has_moved(published: Mapping[str, Any]) -> bool:
    """Say whether the SuperLink of this service that is ready is another one than the unit names. published: by it."""
    endpoint = published.get("FL_ENDPOINT")
    return isinstance(endpoint, str) and endpoint not in unchanged.NODE_UNIT.read_text(encoding="utf-8").replace('"', " ").split()


def is_due() -> bool:
    """Say whether the last boot for a new key is long enough ago, and take it that one follows: any VM of the service may call a key revoked."""
    now = time.monotonic()
    try:
        last = float(RENEWED.read_text(encoding="ascii"))
    except (OSError, ValueError):
        last = now - RENEWAL_SECONDS
    if now - last < RENEWAL_SECONDS:
        return False
    RENEWED.write_text(str(now), encoding="ascii")
    return True


def systemctl(action: str) -> None:
    """Start or stop the node."""
    subprocess.run(["systemctl", action, UNIT], check=True)


def main() -> int:
    """Look after the node once and return the exit status; without OneGate nobody listens or asks."""
    if not (service.APPLIANCE / "status").is_file() or (service.APPLIANCE / "status").read_text(encoding="utf-8").strip() != "bootstrap_success":
        return 0
    context = service.machine_context()
    unit_log.set_up("one-appliance-node", context.get("ONEAPP_FL_LOG_FORMAT"))
    try:
        look_after(context, service.open_gate(context))
    except (ContextMissing, ContextError, OneException, OSError, subprocess.CalledProcessError) as problem:
        logging.getLogger(__name__).error("the node is not looked after: %s", problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
