# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""`make demo` as a new user runs it, and what must hold of the federation that it leaves. The tests build on each other.

The user's checkout is a copy of this one: what somebody tries out here goes on meanwhile. Of that copy only the zone in a box is used: appliances,
federation, trainings and teardown come from the collection's archive, installed elsewhere, by the names of its playbooks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pyone
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = pathlib.Path(__file__).resolve().parents[2]
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="flower-e2e-")).resolve() / "checkout"
INSTALLED = ROOT.with_name("collections")
REPORT = ROOT / "build/report"
ZONE = ROOT / "build/lab/zone0"
ONE_AUTH = ZONE / "one_auth"
ALL, ANY = -2, -1
# Of the copy; what belongs to this checkout carries its own name.
ENVIRONMENT = os.environ | {
    "PATH": f"{ROOT}/.venv/bin{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT}/tests/support/bytecode", "ANSIBLE_CONFIG": f"{ROOT}/ansible.cfg",
    "ANSIBLE_COLLECTIONS_PATH": f"{INSTALLED}:{ROOT}/build/collections", "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false",
    "PWD": str(ROOT),  # where reports go, as after `cd`
}  # fmt: skip


def identity(checkout: pathlib.Path) -> str:
    return hashlib.sha256(str(checkout).encode()).hexdigest()[:6]


@pytest.fixture(scope="session", autouse=True)
def checkout() -> Iterator[None]:
    """The files of this checkout in another place, with what was downloaded for it, and the collection installed from its archive."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=HERE, text=True)
    for name in filter(None, listed.split("\0")):
        if (HERE / name).is_symlink() or (HERE / name).exists():
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, ROOT / name, follow_symlinks=False)
    galaxy = ("ansible-galaxy", "collection")
    subprocess.run([*galaxy, "build", "--output-path", str(ROOT.parent)], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    (archive,) = ROOT.parent.glob("opennebula-flower-*.tar.gz")
    subprocess.run([*galaxy, "install", str(archive), "--no-deps", "-p", str(INSTALLED)], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    shutil.rmtree(ROOT / "playbooks")
    (ROOT / "build").mkdir()
    (ROOT / ".venv").symlink_to((HERE / ".venv").resolve())
    (ROOT / "build/collections").symlink_to((HERE / "build/collections").resolve())
    shutil.copytree(HERE / "build/wheels", ROOT / "build/wheels", copy_function=os.link)
    try:
        yield
    finally:  # a test that failed leaves its zone running
        subprocess.run([sys.executable, "-m", "lab", "clean", "--name", "zone0"], cwd=ROOT, env=ENVIRONMENT, check=False)
        shutil.rmtree(ROOT.parent)


def run(*argv: str, timeout: int = 3600) -> str:
    """Run a command in the checkout, show its output as it comes and return it; fails the test unless it succeeds."""
    lines = []
    with subprocess.Popen(argv, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = process.wait(timeout)
    output = "".join(lines)
    assert code == 0, f"{' '.join(argv)} ended with {code}:\n{output[-4000:]}"
    return output


def make(*targets: str) -> str:
    """The Makefile names this checkout as the place of the collection; what is given to make counts more."""
    return run("make", f"ANSIBLE_COLLECTIONS_PATH={ENVIRONMENT['ANSIBLE_COLLECTIONS_PATH']}", *targets)


def playbook(name: str, *extra: str) -> str:
    return run("ansible-playbook", "-i", "inventories/lab", f"opennebula.flower.{name}", *extra)


def recap(output: str) -> dict[str, int]:
    """The counts that ansible-playbook printed for zone0."""
    (line,) = re.findall(r"^zone0 +: (.*)$", output, re.MULTILINE)
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}


def endpoint() -> str:
    """Where the zone answers; its ports are free ones."""
    return re.search("^ONE_XMLRPC=(.*)$", (ZONE / "endpoints").read_text(), re.MULTILINE)[1]


def zone() -> pyone.OneServer:
    return pyone.OneServer(endpoint(), session=ONE_AUTH.read_text().strip())


def vms() -> list:
    return zone().vmpool.infoextended(ALL, ANY, ANY, -1).VM


def vm_of_role(role: str) -> list:
    return [vm for vm in vms() if vm.USER_TEMPLATE.get("ROLE_NAME") == role]


def objects() -> dict[str, int]:
    """How many objects of each kind the zone holds."""
    one = zone()
    return {
        "vms": len(one.vmpool.info(ALL, ANY, ANY, ANY).VM),
        "templates": len(one.templatepool.info(ALL, ANY, ANY).VMTEMPLATE),
        "images": len(one.imagepool.info(ALL, ANY, ANY).IMAGE),
        "networks": len(one.vnpool.info(ALL, ANY, ANY).VNET),
        "service templates": len(one.documentpool.info(ALL, ANY, ANY, 101).DOCUMENT),
        "services": len(one.documentpool.info(ALL, ANY, ANY, 100).DOCUMENT),
    }


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout


def leftovers() -> dict[str, str]:
    """What of the zone the Docker engine holds."""
    labels = ("--filter", "label=opennebula.zone=zone0", "--filter", f"label=opennebula.checkout={identity(ROOT)}")
    return {
        "containers": docker("ps", "--all", "--quiet", *labels),
        "networks": docker("network", "ls", "--quiet", *labels),
        "volumes": docker("volume", "ls", "--quiet", *labels),
    }


def images(checkout: pathlib.Path) -> list[str]:
    """The images that the Docker engine holds for a checkout."""
    return sorted(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "--filter", f"reference=onelab-{identity(checkout)}/*").splitlines())


NOTHING = {"containers": "", "networks": "", "volumes": ""}


@pytest.fixture(scope="module")
def demo() -> str:
    """Output of `make demo` from a zone without state, after a dry run in it."""
    make("engine", "lab-reset", "images", "lab-up")
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


def test_credentials_are_never_printed(demo, token):
    output = demo + playbook("site", "-vvvv")
    assert ONE_AUTH.read_text().strip().split(":", 1)[1] not in output
    assert token not in output


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


def test_second_run_changes_nothing(demo):
    before, trained = {vm.ID for vm in vms()}, (REPORT / "result.json").read_text()
    again = playbook("site")
    assert recap(again)["changed"] == 0
    assert {vm.ID for vm in vms()} == before
    assert json.loads((REPORT / "result.json").read_text()) == json.loads(trained)


def test_bounds_of_the_running_service_follow_more_nodes_and_fewer(demo):
    playbook("site", "-e", "flower_supernodes=5", "-e", "flower_supernodes_max=6")
    assert len(vm_of_role("supernode")) == 5
    playbook("site", "-e", "flower_supernodes=3")
    assert len(vm_of_role("supernode")) == 3


def test_scaled_up_node_trains_in_the_next_run(demo):
    playbook("train", "-e", "flower_run_name=three", "-e", "flower_num_rounds=1", "-e", "flower_min_available_clients=3", "-e", "flower_supernodes=3")
    result = json.loads((REPORT / "result.json").read_text())
    assert (result["nodes"], result["rounds"]) == (3, 1)


def test_run_is_not_trained_twice_under_one_name(demo):
    settings = ("-e", "flower_run_name=three", "-e", "flower_num_rounds=1", "-e", "flower_min_available_clients=3", "-e", "flower_supernodes=3")
    assert recap(playbook("train", *settings))["changed"] == 0


def test_lab_survives_a_restart(demo):
    before = {vm.ID for vm in vms()}
    make("lab-down", "lab-up")
    assert {vm.ID for vm in vms()} == before
    assert recap(playbook("site", "-e", "flower_supernodes=3"))["changed"] == 0


def test_teardown_removes_the_federation(demo):
    playbook("teardown")
    assert objects() == {"vms": 0, "templates": 0, "images": 0, "networks": 0, "service templates": 0, "services": 0}
    assert leftovers() == NOTHING
    assert recap(playbook("teardown"))["changed"] == 0


def test_reset_zone_leaves_no_machine_and_no_process(demo):
    port = int(re.search(r":(\d+)/", endpoint())[1])
    make("lab-reset")
    assert leftovers() == NOTHING
    assert not ONE_AUTH.parent.exists()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=300)


def test_clean_lab_leaves_no_image_and_no_file_and_what_is_not_its_own_alone(demo):
    others = images(HERE)
    make("clean-lab")
    assert not (ROOT / "build/images").exists()
    assert not (ROOT / "build/wheels").exists()
    # An engine that was started for the demo is gone by now, and one that was there before holds nothing of it.
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0:
        assert images(ROOT) == []
        assert identity(ROOT) not in docker("volume", "ls", "--format", "{{.Name}} {{.Labels}}")
        assert images(HERE) == others
