# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Zones that boot nothing, one federation over them, and what its VMs would say for themselves."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import NameOID

from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, module_zone
from ansible_collections.opennebula.flower.tests.support.waiting import repeating

ROOT = Path(__file__).parents[2]
FEDERATION = {
    "flower_service_name": "federation",
    "flower_superlink_address": "fl.example.org:9092",
    "flower_supernodes": 1,
    "flower_supernodes_min": 1,
    "flower_supernodes_max": 4,
    "flower_superlink_cpu": 0.1,
    "flower_superlink_memory": 64,
    "flower_supernode_cpu": 0.1,
    "flower_supernode_memory": 64,
    "flower_image_datastore": "default",
    "flower_superlink_image_name": "superlink",
    "flower_superlink_image_path": "/images/superlink",
    "flower_supernode_image_name": "supernode",
    "flower_supernode_image_path": "/images/supernode",
    "flower_deploy_timeout": 600,
}


def certificate_authority(name: str) -> str:
    """A CA's certificate in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def node_key() -> str:
    """A public key as a SuperNode publishes it."""
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def tunnel_key() -> str:
    """A public key as the end of a tunnel publishes it."""
    key = x25519.X25519PrivateKey.generate().public_key()
    return base64.b64encode(key.public_bytes_raw()).decode()


class Zones:
    """Zones by name, the first of which coordinates; their guests report as long as this is open."""

    def __init__(self, zones: Mapping[str, ModuleZone], directory: Path) -> None:
        self.zones = dict(zones)
        self.authority = certificate_authority("first")
        # What VMs say that fail to boot, by zone and number.
        self.errors: dict[tuple[str, int], str] = {}
        # By zone, number of the VM and number of the key.
        self._tunnel_keys: dict[tuple[str, int, int], str] = {}
        self._inventory = directory / "hosts.json"

    def play(
        self,
        *arguments: str,
        down: tuple[str, ...] = (),
        playbook: str = "site",
        shared: Mapping = {},  # noqa: B006
        machines: Mapping[str, Mapping] = {},  # noqa: B006
        groups: Mapping[str, Mapping[str, Mapping]] = {},  # noqa: B006
        **given: Mapping,
    ) -> tuple[int, str]:
        """Run a playbook; `down` are zones whose front end does not answer, `machines` the variables of edge sites by name, `groups` those of
        the hosts of other groups, other keywords variables of a zone. Returns status and output."""
        hosts = {}
        for number, (name, zone) in enumerate(self.zones.items()):
            options = {**zone.options, **({"api_url": "http://127.0.0.1:9/RPC2"} if name in down else {})}
            network = {
                "name": "private", "template": {"VN_MAD": "dummy", "BRIDGE": "br0"},
                "address_ranges": [{"TYPE": "IP4", "IP": f"10.{number}.0.10", "SIZE": 8}],
            }  # fmt: skip
            hosts[name] = {"flower_network": network, **{f"one_{option}": value for option, value in options.items()}, **given.get(name, {})}
            zone.calls.clear()
        children = {"coordinator": {"hosts": {next(iter(hosts)): {}}}, "training_sites": {"hosts": hosts}}
        if machines:
            children["edge_sites"] = {"hosts": dict(machines)}
        children |= {group: {"hosts": dict(hosts)} for group, hosts in groups.items()}
        self._inventory.write_text(json.dumps({"all": {"children": children, "vars": {**FEDERATION, **shared}}}))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(self._inventory), str(ROOT / f"playbooks/{playbook}.yml"), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)
        output = " ".join((done.stdout + done.stderr).split()).replace("''", "'")
        assert PASSWORD not in output
        return done.returncode, output

    def writes(self) -> dict[str, list[str]]:
        """What the last playbook wrote, by zone."""
        return {name: zone.writes for name, zone in self.zones.items() if zone.writes}

    def vms(self, name: str, role: str = "supernode") -> list[dict]:
        """The VMs of a role in a zone."""
        return [vm for vm in self.zones[name].zone.core.store.all("vm") if vm["state"] != 6 and vm["user_template"].get("ROLE_NAME") == role]

    def contexts(self, name: str, role: str = "supernode") -> list[dict[str, str]]:
        """The contexts of these VMs, as their guests read them."""
        found = []
        for vm in self.vms(name, role):
            section = re.search("<CONTEXT>(.*?)</CONTEXT>", self.zones[name].call("one.vm.info", vm["id"], False), re.DOTALL)[1]
            found.append(dict(re.findall(r"<(\w+)><!\[CDATA\[(.*?)\]\]></\1>", section, re.DOTALL)))
        return found

    def may_join(self, name: str) -> list[str]:
        """The names of the SuperNodes of other zones whose keys the SuperLink was given."""
        (context,) = self.contexts(name, "superlink")
        return sorted(line.rpartition(" ")[2] for line in context["ONEAPP_FL_NODE_KEYS"].split(",") if line)

    def tunnels(self, name: str) -> dict[str, tuple[str, str]]:
        """Key and address of each SuperNode of another zone that has a tunnel to the SuperLink, by name."""
        (context,) = self.contexts(name, "superlink")
        peers = [line.split(" ") for line in context.get("ONEAPP_FL_TUNNEL_PEERS", "").split(",") if line]
        return {peer: (key, address) for key, address, peer in peers}

    def security_group(self, name: str, role: str = "superlink") -> str:
        """The security group of a role."""
        pool = self.zones[name].call("one.secgrouppool.info", -2, -1, -1)
        return next(text for text in pool.split("<SECURITY_GROUP>") if f"federation-{role}" in text)

    def guests(self) -> AbstractContextManager[None]:
        """Say for every VM that runs that it is ready, and for a SuperLink which CA it has."""
        return repeating(lambda: [self._report(name, zone) for name, zone in self.zones.items()], 0.2)

    def _report(self, name: str, zone: ModuleZone) -> None:
        for vm in zone.zone.core.store.all("vm"):
            attributes = vm["user_template"]
            if (vm["state"], vm["lcm"]) != (3, 3):
                continue
            wanted = {"READY": "YES"}
            if (name, vm["id"]) in self.errors:
                wanted = {"FL_ERROR": self.errors[name, vm["id"]]}
            elif attributes.get("ROLE_NAME") == "superlink":
                wanted["FL_CA_CERT"] = base64.b64encode(self.authority.encode()).decode()
            else:
                wanted["FL_NODE_KEY"] = attributes.get("FL_NODE_KEY") or node_key()
            if vm["template"].get("CONTEXT", {}).get("ONEAPP_FL_TUNNEL_NETWORK"):
                wanted |= self._tunnel(name, vm)
            if wanted.items() - attributes.items():
                zone.call("one.vm.update", vm["id"], "\n".join(f'{name}="{value}"' for name, value in wanted.items()), 1)

    def _tunnel(self, name: str, vm: dict) -> dict[str, str]:
        """What roles/flower_appliance/files/tunnel.py would publish."""
        context, attributes = vm["template"]["CONTEXT"], vm["user_template"]

        def key(number: int) -> str:
            if number == 1:
                return attributes.get("FL_TUNNEL_PUBLIC_KEY") or tunnel_key()
            return self._tunnel_keys.setdefault((name, vm["id"], number), tunnel_key())

        def given(parameter: str) -> str:
            value = context.get(f"ONEAPP_FL_TUNNEL_{parameter}", "")
            return "" if value.startswith("$") else value

        following = int(given("NEXT_NUMBER") or 0)
        known = [line.split()[0] for line in given("NEXT_PEERS").split(",") if line] + [given("SUPERLINK_NEXT_PUBLIC_KEY")]
        known = sorted(filter(None, known))
        told = {
            "FL_TUNNEL_PUBLIC_KEY": key(int(given("NUMBER") or 1)),
            "FL_TUNNEL_NEXT_PUBLIC_KEY": key(following) if following else "",
            "FL_TUNNEL_NEXT_KNOWN": hashlib.sha256(",".join(known).encode()).hexdigest() if known else "",
        }
        return {attribute: value for attribute, value in told.items() if value or attributes.get(attribute)}


@contextmanager
def open_zones(directory: Path, releases: Mapping[str, str]) -> Iterator[Zones]:
    """Run zones of these releases, by name, with their guests."""
    with ExitStack() as stack:
        zones = Zones({name: stack.enter_context(module_zone(directory / name, version=version)) for name, version in releases.items()}, directory)
        stack.enter_context(zones.guests())
        yield zones
