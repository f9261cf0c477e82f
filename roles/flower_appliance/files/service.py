# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Life cycle of the appliance: `service configure` or `service bootstrap`, which configures first.

Runs the baked playbook on this machine with what the VM's context says, and leaves in /etc/one-appliance/status
configure_success, bootstrap_success or failure, and in /var/log/one-appliance the seconds of each stage
(flower-boot.log) and everything Ansible said (flower-ansible.log).
"""

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "/usr/share/ansible/collections")

from ansible_collections.opennebula.flower.plugins.module_utils.context_files import ContextMissing, read_context
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.onegate import OneGate

COLLECTIONS = Path("/usr/share/ansible/collections")
PLAYBOOK = COLLECTIONS / "ansible_collections/opennebula/flower/playbooks/appliance.yml"
APPLIANCE = Path("/etc/one-appliance")
LOGS = Path("/var/log/one-appliance")
BOOT_LOG = LOGS / "flower-boot.log"
# Of the context, only what describes the machine; the playbook reads and validates the rest itself.
PLATFORM = re.compile(r"VMID|ONEGATE_ENDPOINT|ETH\d+_IP")


# What FL_ERROR says, by the stage of the boot that failed.
ERRORS = {
    "context": "config_validation_failed",
    "discovery": "superlink_not_found",
    "tls": "tls_setup_failed",
    "gateway": "gateway_setup_failed",
    "container": "docker_start_failed",
    "health": "health_check_timeout",
    "publish": "publication_failed",
}


def platform_context() -> dict[str, str]:
    """Return what the context says about this machine; nothing without a context, which the playbook then reports."""
    try:
        values, _source = read_context("/run/one-context/context.sh", "/run/one-context/one_env")
    except ContextMissing:
        return {}
    return {name: value for name, value in values.items() if PLATFORM.fullmatch(name)}


def run_playbook(step: str, context: dict[str, str]) -> int:
    """Run the playbook up to ``step`` and return its exit status."""
    venv = Path(sys.executable).parent
    environment = {
        **os.environ,
        **context,
        "PATH": f"{venv}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_CALLBACKS_ENABLED": "opennebula.flower.boot_log",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "FLOWER_BOOT_LOG": str(BOOT_LOG),
        "FLOWER_STEP": step,
    }
    with open(LOGS / "flower-ansible.log", "a", encoding="utf-8") as log:
        return subprocess.run(
            [str(venv / "ansible-playbook"), str(PLAYBOOK)], env=environment, stdout=log, stderr=log, check=False
        ).returncode


def publish_failure(context: dict[str, str]) -> None:
    """Tell OneGate that this boot failed and in which stage; without OneGate, the log has to do."""
    failed = re.match(r"failed in stage (\w+)", BOOT_LOG.read_text(encoding="utf-8").splitlines()[-1])
    role = (APPLIANCE / "role").read_text(encoding="utf-8").strip()
    attributes = {
        "FL_READY" if role == "superlink" else "FL_NODE_READY": "NO",
        "FL_ERROR": ERRORS.get(failed.group(1), "boot_failed") if failed else "boot_failed",
    }
    try:
        token = Path("/run/one-context/token.txt").read_text(encoding="ascii").strip()
        OneGate(context["ONEGATE_ENDPOINT"], context["VMID"], token).put(attributes)
    except (KeyError, OSError, OneException) as problem:
        print(f"the failure could not be published: {problem}", file=sys.stderr)


def main() -> int:
    """Run one step of the life cycle and return the exit status."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("configure", "bootstrap"):
        print("usage: service configure|bootstrap", file=sys.stderr)
        return 2
    step = sys.argv[1]
    os.umask(0o022)
    LOGS.mkdir(parents=True, exist_ok=True)
    BOOT_LOG.touch()
    status = APPLIANCE / "status"
    with open("/run/one-appliance.lock", "w", encoding="utf-8") as lock:
        # A changed context calls this again while the boot may still be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        status.unlink(missing_ok=True)
        context = platform_context()
        code = run_playbook(step, context)
        status.write_text(f"{step}_success\n" if code == 0 else "failure\n", encoding="utf-8")
        if code:
            print(f"{step} failed, see flower-boot.log and flower-ansible.log in {LOGS}", file=sys.stderr)
            publish_failure(context)
    return code


if __name__ == "__main__":
    sys.exit(main())
