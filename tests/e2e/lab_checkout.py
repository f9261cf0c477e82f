# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A copy of this checkout with a zone in a box, and commands in it as its user gives them.

What somebody tries out here goes on meanwhile. Of that copy only the zone in a box is used: appliances, federation, trainings and teardown come from
the collection's archive, installed elsewhere, by the names of its playbooks.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import subprocess
import tempfile

import pyone

HERE = pathlib.Path(__file__).resolve().parents[2]
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="flower-e2e-")).resolve() / "checkout"
INSTALLED = ROOT.with_name("collections")
REPORT = ROOT / "build/report"
ZONE = ROOT / "build/lab/zone0"
ONE_AUTH = ZONE / "one_auth"
ALL, ANY = -2, -1
# Of the copy; what belongs to this checkout carries its own name.
ENVIRONMENT = os.environ | {
    "PATH": f"{ROOT}/.venv/bin{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT}/roles/flower_appliance/files/bytecode",
    "ANSIBLE_CONFIG": f"{ROOT}/ansible.cfg",
    "ANSIBLE_COLLECTIONS_PATH": f"{INSTALLED}:{ROOT}/build/collections", "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false",
    "PWD": str(ROOT),  # where reports go, as after `cd`
}  # fmt: skip
NOTHING = {"containers": "", "networks": "", "volumes": ""}


def identity(checkout: pathlib.Path) -> str:
    return hashlib.sha256(str(checkout).encode()).hexdigest()[:6]


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


def inside(vm: object, *argv: str, stdin: str = "") -> str:
    """Run a command in a VM and return its output."""
    label = ("--filter", f"label=opennebula.vm={vm.ID}", "--filter", "label=opennebula.zone=zone0")
    (container,) = docker("ps", "--quiet", *label, "--filter", f"label=opennebula.checkout={identity(ROOT)}").split()
    return subprocess.run(["docker", "exec", "--interactive", container, *argv], check=True, capture_output=True, text=True, input=stdin).stdout


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
