# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""edge.yml makes a SuperNode of an existing machine without an OpenNebula. The machine is real, systemd in a container, and so is the SuperLink that it
connects to; the zone of the coordinator boots nothing, so that its VM is a stand-in for where that SuperLink runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.opennebula.flower.tests.app.conftest import make_flower_venv
from ansible_collections.opennebula.flower.tests.support.ports import free_port
from ansible_collections.opennebula.flower.tests.support.zones import open_zones
from lab.machine import container, down, up

ROOT = Path(__file__).parents[2]
NAME = "test-tower"
MACHINE = container(NAME)
NODE_LOG = "journalctl --unit flower-supernode --no-pager --lines 20"


def certificates(directory: Path, address: str) -> tuple[Path, Path, Path]:
    """A CA, and the certificate and key of the SuperLink at this address."""
    now = datetime.now(UTC)
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, subject = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("edge", "superlink"))

    def certificate(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        dated = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(days=30))
        named = dated.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        named = named.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        return named.add_extension(x509.BasicConstraints(ca=key is authority, path_length=None), critical=True)

    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    first = certificate(issuer, authority).add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
    second = certificate(subject, own).add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
    files = directory / "ca.crt", directory / "server.crt", directory / "server.key"
    for path, builder in zip(files, (first, second), strict=False):
        path.write_bytes(builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files[2].write_bytes(own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


def docker(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check).stdout


def on_machine(command: str) -> str:
    return docker("exec", MACHINE, "sh", "-c", command, check=False)


@pytest.fixture
def machine() -> Iterator[None]:
    """A machine of Debian 13 whose systemd runs."""
    try:
        up(NAME)
        yield
    finally:
        down(NAME)


@pytest.fixture
def superlink(machine: None, tmp_path: Path) -> Iterator[tuple[str, tuple[Path, Path, Path]]]:
    """Flower's own SuperLink on this machine, as the other one sees it: its address and its certificates."""
    host = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", MACHINE).strip()
    files = certificates(tmp_path, host)
    port = free_port(host)
    options = [item for pair in zip(("--ssl-ca-certfile", "--ssl-certfile", "--ssl-keyfile"), files, strict=True) for item in pair]
    command = [make_flower_venv() / "flower-superlink", *options, "--host", host, "--port", str(port), "--database", tmp_path / "state.db"]
    environment = {"PATH": f"{make_flower_venv()}:/usr/bin:/bin", "FLWR_HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    with (tmp_path / "superlink.log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        yield f"{host}:{port}", files
        process.terminate()


def test_a_machine_becomes_a_supernode_and_one_that_does_not_answer_is_named(superlink: tuple[str, tuple[Path, Path, Path]], tmp_path: Path) -> None:
    address, (authority, certificate, key) = superlink
    machines = {
        "tower": {
            "ansible_connection": "community.docker.docker", "ansible_host": MACHINE, "ansible_become": False, "flower_site_addresses": ["203.0.113.8"],
            "flower_runtime": "native", "flower_wheelhouse": "/mnt/wheels", "flower_ml_framework": "base", "flower_uplink_limit": "2mbit",
        },
        "quay": {"ansible_host": "127.0.0.1", "ansible_port": 9, "flower_site_addresses": ["203.0.113.9"]},
    }  # fmt: skip
    cloud = {
        "flower_firewall": {}, "flower_advertise_address": address, "flower_ssl_ca_certfile": authority.read_text(),
        "flower_ssl_certfile": certificate.read_text(), "flower_ssl_keyfile": key.read_text(),
    }  # fmt: skip
    # The registrar of the stand-in tells this SuperLink no keys.
    shared = {"flower_superlink_address": address, "flower_node_auth_enabled": False, "flower_min_available_clients": 2}
    with open_zones(tmp_path / "zones", {"cloud": "7.4"}) as zones:
        _status, output = zones.play(playbook="edge", shared=shared, machines=machines, cloud=cloud)
        assert "edge site tower: its SuperNode is connected" in output, output[-5000:] + on_machine(NODE_LOG)
        assert "edge site quay is missing, and the next run takes it over: Failed to connect to the host via ssh" in output
        assert zones.may_join("cloud") == ["tower/machine"]
        assert "rate 2Mbit" in on_machine("tc class show dev eth0")
        # Of the machine, its name is the zone; quoted for Flower, and for systemd.
        assert r'zone=\"tower\"' in on_machine("systemctl cat flower-supernode")

        machines["tower"]["zone_state"] = "absent"
        _status, output = zones.play(playbook="edge", shared=shared, machines=machines, cloud=cloud)
        assert "edge site quay is missing" in output and "edge site tower is missing" not in output, output[-5000:]
        assert zones.may_join("cloud") == []
        assert on_machine("systemctl is-active flower-supernode").strip() == "inactive"
