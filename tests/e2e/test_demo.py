# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""`make demo` as a new user runs it, and what must hold of the federation that it leaves. The tests build on each other."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lab_checkout import NOTHING, ONE_AUTH, REPORT, inside, leftovers, make, objects, playbook, recap, vm_of_role, vms, zone

from ansible_collections.opennebula.flower.tests.support.waiting import wait_until

# Whom a VM or a container in it begins to talk to.
RECORDER = """
table inet seen {
  set calls { typeof ip daddr . meta l4proto . th dport; flags dynamic; size 65535; }
  set calls6 { typeof ip6 daddr . meta l4proto . th dport; flags dynamic; size 65535; }
  chain out {
    type filter hook postrouting priority -300;
    oifname "lo" return
    oifname "docker*" return
    ct state new meta l4proto { tcp, udp } add @calls { ip daddr . meta l4proto . th dport }
    ct state new meta l4proto { tcp, udp } add @calls6 { ip6 daddr . meta l4proto . th dport }
  }
}
"""
THREE_NODES = ("-e", "flower_supernodes=3", "-e", "flower_supernodes_min=3", "-e", "flower_supernodes_max=5")


@pytest.fixture(scope="module")
def demo(empty_zone: None) -> str:
    """Output of `make demo` from a zone without state, after a dry run in it."""
    before = objects()
    dry_run = playbook("site", "--check", "--diff")
    assert objects() == before, "the dry run made something"
    assert "flower-superlink" in dry_run and recap(dry_run)["changed"] > 0, "the dry run did not show what would be made"
    return make("demo")


@pytest.fixture(scope="module")
def superlink(demo) -> dict[str, str]:
    """What the SuperLink published of itself."""
    (vm,) = vm_of_role("superlink")
    return dict(vm.USER_TEMPLATE)


@pytest.fixture(scope="module")
def fleet(superlink) -> tuple[str, int]:
    host, port = superlink["FL_ENDPOINT"].rsplit(":", 1)
    return host, int(port)


@pytest.fixture(scope="module")
def published_ca(superlink) -> str:
    encoded = superlink["FL_CA_CERT"]
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


@pytest.fixture(scope="module")
def token(superlink) -> str:
    """What opens the files of the first training."""
    encoded = superlink["FL_ARTIFACTS"]
    return json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))["initial"]["token"]


def foreign_ca() -> str:
    """A fresh CA with the subject that appliances use."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Flower FL"), x509.NameAttribute(NameOID.COMMON_NAME, "Flower CA")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def get(fleet: tuple[str, int], path: str, ca: str, headers: dict[str, str] | None = None) -> int:
    """HTTP status of a GET over TLS that trusts `ca` only."""
    context = ssl.create_default_context(cadata=ca)
    request = urllib.request.Request(f"https://{fleet[0]}:{fleet[1]}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, context=context, timeout=300) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def recorded(demo) -> None:
    """Every VM remembers its connections from here on, and every node connects once more."""
    for vm in vms():
        inside(vm, "nft", "-f", "-", stdin=RECORDER)
    for vm in vm_of_role("supernode"):
        inside(vm, "systemctl", "restart", "flower-supernode.service")


def calls(vm: object) -> set[tuple[str, str, int]]:
    """Whom a VM has begun to talk to: address, protocol, port."""
    listed = json.loads(inside(vm, "nft", "--json", "list", "table", "inet", "seen"))["nftables"]
    elements = [element for item in listed for element in item.get("set", {}).get("elem", [])]
    return {tuple((element.get("elem", {}).get("val", element) if isinstance(element, dict) else element)["concat"]) for element in elements}


def test_demo_trains_a_model(demo):
    last = demo.strip().splitlines()[-1]
    result = re.fullmatch(r"RESULT accuracy=(\d\.\d+) rounds=(\d+) nodes=(\d+) seconds=(\d+)", last)
    assert result, f"the last line is {last!r}"
    assert float(result[1]) > 0.85
    assert (result[2], result[3]) == ("3", "2")


def test_demo_prints_a_line_for_each_round(demo):
    assert re.findall(r"round (\d)/3 accuracy \d\.\d+", demo) == ["1", "2", "3"]


def test_report_holds_the_convergence_curves(demo):
    page = (REPORT / "index.html").read_text()
    result = json.loads((REPORT / "result.json").read_text())
    assert "<svg" in page and "http-equiv" not in page
    assert [entry["round"] for entry in result["history"]] == [1, 2, 3]


def test_model_lies_beside_the_report(demo):
    result = json.loads((REPORT / "result.json").read_text())
    files = {file["name"]: file["sha256"] for file in result["files"]}
    assert files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (REPORT / "initial").iterdir()}
    assert 'href="initial/model.npz"' in (REPORT / "index.html").read_text()
    with np.load(REPORT / "initial/model.npz", allow_pickle=False) as model:
        assert model.files and all(np.isfinite(model[name]).all() for name in model.files)


def test_fleet_answers_who_trusts_the_published_ca(fleet, published_ca):
    assert get(fleet, "/health", published_ca) == 200


def test_fleet_is_refused_under_a_foreign_ca(fleet):
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        get(fleet, "/health", foreign_ca())


def test_fleet_refuses_a_plain_connection(fleet):
    with socket.create_connection(fleet, timeout=300) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: superlink\r\n\r\n")
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert b"200" not in answer.split(b"\r\n", 1)[0]


def test_control_is_not_reachable_through_the_fleet_port(fleet, published_ca):
    assert get(fleet, "/v1/control/list-runs", published_ca) == 404
    assert get(fleet, "/v1/runtime/anything", published_ca) == 404
    assert get(fleet, "/docs", published_ca) == 404
    assert get(fleet, "/v1/fleet/../control/list-runs", published_ca) == 404


def test_model_is_offered_to_who_has_its_token_only(fleet, published_ca, token):
    assert get(fleet, "/artifacts/initial/model.npz", published_ca, {"X-Artifact-Token": token}) == 200
    assert get(fleet, "/artifacts/initial/model.npz", published_ca) == 404
    assert get(fleet, "/artifacts/initial/run-config.toml", published_ca, {"X-Artifact-Token": token}) == 404
    assert get(fleet, "/artifacts/../v1/control/list-runs", published_ca, {"X-Artifact-Token": token}) == 404


@pytest.mark.parametrize("port", [9093, 18000, 18001, 8405])
def test_no_other_port_of_the_superlink_is_open(fleet, port):
    with pytest.raises(OSError):
        socket.create_connection((fleet[0], port), timeout=300)


def test_second_run_changes_nothing_and_credentials_are_never_printed(demo, token):
    before, trained = {vm.ID for vm in vms()}, (REPORT / "result.json").read_text()
    again = playbook("site", "-vvvv")
    assert recap(again)["changed"] == 0
    assert {vm.ID for vm in vms()} == before
    assert json.loads((REPORT / "result.json").read_text()) == json.loads(trained)
    assert ONE_AUTH.read_text().strip().split(":", 1)[1] not in demo + again
    assert token not in demo + again


def test_nodes_say_how_they_are(demo):
    wait_until(lambda: {vm.USER_TEMPLATE.get("FL_CLIENT_STATUS") for vm in vm_of_role("supernode")} == {"1"}, "both nodes to be connected and idle")


def test_bounds_of_the_running_service_follow_more_nodes(demo):
    playbook("site", *THREE_NODES)
    assert len(vm_of_role("supernode")) == 3


def test_scaled_up_node_trains_in_the_next_run(demo, recorded):
    playbook("train", "-e", "flower_run_name=three", "-e", "flower_num_rounds=1", "-e", "flower_min_available_clients=3", "-e", "flower_supernodes=3")
    result = json.loads((REPORT / "result.json").read_text())
    assert (result["nodes"], result["rounds"]) == (3, 1)


def test_a_federation_talks_to_its_own_superlink_and_onegate_alone(fleet, recorded):
    """docs/decisions/network.md: at run time nothing else is contacted."""
    for role in ("superlink", "supernode"):
        for vm in vm_of_role(role):
            onegate = urlsplit(vm.TEMPLATE["CONTEXT"]["ONEGATE_ENDPOINT"])
            expected = {(onegate.hostname, "tcp", onegate.port)} | ({(fleet[0], "tcp", fleet[1])} if role == "supernode" else set())
            assert calls(vm) == expected, vm.NAME


def test_run_is_not_trained_twice_under_one_name(demo):
    settings = ("-e", "flower_run_name=three", "-e", "flower_num_rounds=1", "-e", "flower_min_available_clients=3", "-e", "flower_supernodes=3")
    assert recap(playbook("train", *settings))["changed"] == 0


def test_lab_survives_a_restart(demo):
    before = {vm.ID for vm in vms()}
    make("lab-down", "lab-up")
    assert {vm.ID for vm in vms()} == before
    assert recap(playbook("site", *THREE_NODES))["changed"] == 0


def test_nodes_that_go_leave_first(demo):
    oldest, *others = sorted(vm.ID for vm in vm_of_role("supernode"))
    playbook("site")
    assert sorted(vm.ID for vm in vm_of_role("supernode")) == others
    assert zone().vm.info(oldest).USER_TEMPLATE["DRAINED"] == "YES"


def test_teardown_removes_the_federation(demo):
    playbook("teardown")
    assert objects() == {"vms": 0, "templates": 0, "images": 0, "networks": 0, "service templates": 0, "services": 0}
    assert leftovers() == NOTHING
    assert recap(playbook("teardown"))["changed"] == 0
