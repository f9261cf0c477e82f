# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Restart of a VM in which nothing changed since its last bootstrap: its units are started and checked, and that is all.

Whatever could make a difference has to be as it was: context, programs, settings, certificates, what OneGate says about this
VM and, for a SuperNode, about its SuperLink. Of GPUs and of checkpoints on other disks nobody remembers how they were, so that
such VMs, and all in doubt, are configured as at their first boot.
"""

import base64
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import link

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import ContextError
from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import read_key
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import ContextMissing
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import state_file

# Who has the directory may decide what boots: root alone.
RECORD = Path("/var/lib/one-appliance/bootstrap")
PROGRAMS = (
    Path("/usr/share/ansible/collections/ansible_collections/opennebula/flower"),
    Path("/etc/one-appliance/baked.json"),
    Path("/etc/one-appliance/role"),
    Path("/etc/one-appliance/link.py"),
    Path("/etc/one-appliance/node.py"),
    Path("/etc/one-appliance/runner.py"),
    Path("/etc/one-appliance/service.py"),
    Path("/etc/one-appliance/tunnel.py"),
    Path("/etc/one-appliance/unchanged.py"),
)
SYSTEMD = Path("/etc/systemd/system")
SETTINGS = (
    (SYSTEMD, "flower-*"),
    (Path("/etc/haproxy"), "haproxy.cfg"),
    (Path("/opt/flower/config"), "*.json"),
    (Path("/opt/flower/config/metrics"), "*"),
    (Path("/opt/flower/flwr"), "config.toml"),
    # All but the server's, which a timer renews; it is looked at by itself.
    (Path("/opt/flower/certs"), "[!s.]*"),
    (Path("/opt/flower/loopback"), "*"),
)
CERTIFICATES = Path("/opt/flower/certs")
NODE_UNIT = Path("/etc/systemd/system/flower-supernode.service")
UNITS = {
    "superlink": (
        "haproxy.service", "flower-superlink.service", "flower-supervisor.service", "flower-artifacts.service", "flower-certificates.timer",
    ),
    "supernode": ("flower-supernode.service",),
}
# Where they are set up.
METRICS = ("flower-metrics.service", "flower-node-metrics.timer")
# There is one unless everybody may join.
REGISTRAR_UNIT = Path("/etc/systemd/system/flower-registrar.service")
# Where the SuperLink's registrar says which keys of nodes were revoked.
REVOKED_ATTRIBUTE = "FL_NODE_KEYS_REVOKED"
HEALTHY = "/opt/flower/bin/flower-healthy"
HEALTH_SECONDS = 120
PAUSE = 1


def remember(context: dict[str, str]) -> None:
    """Write down what this VM was bootstrapped with."""
    RECORD.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    state_file.write(RECORD, fingerprint(context), 0o600)


def forget() -> None:
    """Have the next bootstrap configure this VM as at its first boot."""
    RECORD.unlink(missing_ok=True)


def fingerprint(context: dict[str, str]) -> str:
    """Return a digest of the context, of the programs by name, size and time, and of the settings by what they hold."""
    digest = hashlib.sha256(json.dumps(context, sort_keys=True).encode())
    for place in PROGRAMS:
        for directory, subdirectories, names in os.walk(place) if place.is_dir() else [(place.parent, [], [place.name])]:
            subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
            for name in sorted(names):
                facts = os.stat(os.path.join(directory, name))
                digest.update(f"{directory}/{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    for directory, pattern in SETTINGS:
        for file in sorted(directory.glob(pattern)):
            if file.is_file():
                digest.update(f"{file}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def difference(context: dict[str, str], role: str, gate: OneGate, checked: Callable[[], dict[str, Any]]) -> str:
    """Return why this VM has to be configured anew, nothing when it is as it was. checked: returns what the context says, or raises why it says nothing."""
    try:
        if RECORD.read_text(encoding="ascii") != fingerprint(context):
            return "the context, the programs or the settings changed"
        values = checked()
        return _beyond_memory(values) or _certificate(role, values) or _published(context, role, gate, values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        return f"{type(problem).__name__}: {problem}"
    except (ContextError, ContextMissing, OneException) as problem:
        return str(problem)


def start(role: str) -> str:
    """Start the units and wait until Flower is healthy; return what is wrong, nothing when all is well."""
    there = [*(unit for unit in METRICS if (SYSTEMD / unit).exists()), *([REGISTRAR_UNIT.name] if REGISTRAR_UNIT.exists() else [])]
    started = subprocess.run(["systemctl", "start", *UNITS[role], *there], capture_output=True, text=True, check=False)
    if started.returncode:
        return started.stderr.strip() or "the units cannot be started"
    deadline = time.monotonic() + HEALTH_SECONDS
    while True:
        healthy = subprocess.run([HEALTHY], capture_output=True, text=True, check=False)
        if healthy.returncode == 0:
            return ""
        if time.monotonic() > deadline:
            return f"not healthy within {HEALTH_SECONDS} s: {healthy.stdout.strip() or healthy.stderr.strip()[-200:]}"
        time.sleep(PAUSE)


def _beyond_memory(values: dict) -> str:
    for name in ("flower_gpu_enabled", "flower_checkpoint_disk", "flower_checkpoint_nfs", "flower_s3_bucket"):
        if values.get(name):
            return f"{name} is set"
    return ""


def _certificate(role: str, values: dict) -> str:
    if role != "superlink" or not values["flower_tls_enabled"]:
        return ""
    command = ["openssl", "x509", "-noout", "-checkend", "86400", "-in", str(CERTIFICATES / "server.pem")]
    valid = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return "" if valid else "the server certificate ends within a day"


def _published(context: dict[str, str], role: str, gate: OneGate, values: dict) -> str:
    """Compare with OneGate: any VM of the service may write there."""
    mine = gate.get_vm()["USER_TEMPLATE"]
    if mine.get("FL_READY" if role == "superlink" else "FL_NODE_READY") != "YES" or "FL_ERROR" in mine:
        return "OneGate does not say that this VM was ready"
    if role == "superlink":
        addresses = [value for name, value in context.items() if name.startswith("ETH") and name.endswith("_IP")]
        told = values["flower_advertise_address"]
        as_told = mine["FL_ENDPOINT"] == told if told else mine["FL_ENDPOINT"].rpartition(":")[0] in addresses
        if not as_told or not _same_authority(mine, values):
            return "OneGate says something else about this VM"
        return ""
    if values["flower_node_auth_enabled"] and not _same_key(context, values, mine):
        return "OneGate says something else about the key of this VM"
    if values["flower_superlink_address"]:
        return ""
    superlink = link.superlink(gate.get_service())
    if not superlink:
        return "no SuperLink is ready"
    if values["flower_node_auth_enabled"] and is_revoked(context, values, superlink):
        return "the SuperLink says that the key of this VM was revoked"
    words = NODE_UNIT.read_text(encoding="utf-8").replace('"', " ").split()
    if superlink["FL_ENDPOINT"] not in words or superlink.get("FL_VERSION") != mine.get("FL_VERSION"):
        return "the SuperLink is another one"
    return "" if values["flower_ssl_ca_certfile"] or _same_authority(superlink, values) else "the SuperLink has another CA"


def is_revoked(context: Mapping[str, str], values: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Say whether the SuperLink published that the key of this VM is of no use any more. Any VM of the service may write that."""
    revoked = published.get(REVOKED_ATTRIBUTE)
    try:
        return isinstance(revoked, str) and read_key(_key(context, values)).fingerprint in revoked.split()
    except (OSError, ValueError):
        return False


def _same_key(context: Mapping[str, str], values: Mapping[str, Any], mine: dict) -> bool:
    return mine.get("FL_NODE_KEY") == " ".join(_key(context, values).split()[:2])


def _key(context: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """Return the public key that the context asks for, which is not in use yet while the node replaces its key."""
    renewal = f"-{values['flower_node_key_renewal']}" if values["flower_node_key_renewal"] else ""
    return (CERTIFICATES / f"node-vm-{context['VMID']}{renewal}.key.pub").read_text(encoding="ascii")


def _same_authority(published: dict, values: dict) -> bool:
    if not values["flower_tls_enabled"]:
        return True
    wanted = base64.b64decode(published["FL_CA_CERT"]).strip()
    return wanted == (CERTIFICATES / "ca.crt").read_bytes().strip()
