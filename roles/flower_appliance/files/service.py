# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Life cycle of the appliance: `service configure` or `service bootstrap`, which configures first. `service rehearse` is part of making it.

Runs the baked playbook on this machine with what the VM's context says, and leaves in /etc/one-appliance/status
configure_success, bootstrap_success or failure, and in /var/log/one-appliance the seconds of each stage
(flower-boot.log) and everything Ansible said (flower-ansible.log). After a bootstrap it reports READY to OneGate itself
when the context asks for that: the guest agent gives up after three tries, which a long boot outlasts. A restart in which
nothing changed runs no playbook; `service configure` makes the next bootstrap run it. A rehearsal runs the modules of a boot to no effect, so that what
Ansible has to prepare for them is there when a VM boots.

The context is read and checked here, once for each try: the playbook gets what was found in it, and roles and units the token, in files of /run.

A node at the edge, and any with a given address, waits for its SuperLink, without Ansible and for as long as it takes, and flower-boot.log says what for.
"""

import fcntl
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import link
import unchanged

from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import BY_NAME, EDGE, SUPERNODE, Checked, ContextError, check
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import AUTHENTICATION, AUTHORIZATION, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import ContextMissing, read_context, read_token
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import state_file

COLLECTIONS = Path("/usr/share/ansible/collections")
PLAYBOOK = COLLECTIONS / "ansible_collections/opennebula/flower/playbooks/appliance.yml"
APPLIANCE = Path("/etc/one-appliance")
LOGS = Path("/var/log/one-appliance")
# Runs the modules of Ansible, see there.
RUNNER = APPLIANCE / "runner.py"
# What Ansible would compile again in every task; see bytecode/sitecustomize.py.
BYTECODE = Path("/var/cache/one-appliance")
BOOT_LOG = LOGS / "flower-boot.log"
HEALTH_CHECK = "/opt/flower/bin/health-check"
# The tunnel to another zone: what looks after it, and its interface; see tunnel.py.
TUNNEL = "ONEAPP_FL_TUNNEL_NETWORK"
TUNNEL_UNITS = ("one-appliance-tunnel.service", "one-appliance-tunnel.timer")
TUNNEL_LINK = Path("/sys/class/net/flower0")
TUNNEL_INTERFACE = "wg-quick@flower0.service"
LOCK = Path("/run/one-appliance.lock")
# Root's alone, and gone with the machine. What the playbook gets of the context, while it runs:
FOUND = Path("/run/one-appliance-context.json")
# and the token of this VM, for roles and units.
TOKEN = Path("/run/one-appliance-token")
# Of the context as it stands there, only what describes the machine.
PLATFORM = re.compile(r"VMID|ONEGATE_ENDPOINT|ETH\d+_IP")
# The guest agent exports the whole context to its hooks; what would steer Ansible or Python is not taken from there.
FOREIGN = re.compile(r"ANSIBLE_.*|PYTHON.*|LD_.*")
# A SuperLink or SuperNode that was healthy a moment ago, and an OneGate that is restarted.
READY_SECONDS = 300
READY_PAUSE = 5
# What the status says after a step that failed.
FAILURE = "failure\n"
REHEARSAL = "rehearse"
# Stages of the boot that need a link.
LINK_STAGES = ("discovery", "health")

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


class Context:
    """The context of this VM as it is now, which is not read again, nor checked or looked through for the token twice."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.missing = ""
        try:
            self.texts = read_context()[0]
        except ContextMissing as problem:
            self.texts, self.missing = {}, str(problem)

    @functools.cached_property
    def _outcome(self) -> Checked | ContextError:
        try:
            return check(self.texts, self.role)
        except ContextError as problem:
            return problem

    @property
    def checked(self) -> Checked:
        """What it says. Raises ContextError, ContextMissing."""
        if self.missing:
            raise ContextMissing(self.missing)
        if isinstance(self._outcome, ContextError):
            raise self._outcome
        return self._outcome

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """The texts with the token among them; whoever needs one that is not there says so."""
        try:
            return {**self.texts, "ONEGATE_TOKEN": read_token(self.texts)}
        except ContextMissing:
            return self.texts

    def found(self) -> dict[str, Any]:
        """Return what module one_context takes in place of a context: what it says, or why it says nothing."""
        try:
            return asdict(self.checked)
        except ContextError as problem:
            return {"errors": problem.errors}
        except ContextMissing as problem:
            return {"missing": str(problem)}


def machine_context() -> dict[str, str]:
    """Return the texts of the VM's context; nothing without a usable one, which the boot then reports."""
    try:
        return read_context()[0]
    except ContextMissing:
        return {}


def hand_over_token(context: Context) -> None:
    """Leave the token of this VM where roles and units find it."""
    token = context.identity.get("ONEGATE_TOKEN")
    if token:
        state_file.write(TOKEN, token, 0o600)
    else:
        TOKEN.unlink(missing_ok=True)


def run_playbook(step: str, context: Context) -> int:
    """Run the playbook up to ``step`` and return its exit status."""
    venv = Path(sys.executable).parent
    hand_over_token(context)
    environment = {
        **{name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)},
        **{name: value for name, value in context.texts.items() if PLATFORM.fullmatch(name)},
        "PATH": f"{venv}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_CALLBACKS_ENABLED": "opennebula.flower.boot_log,opennebula.flower.prepared",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        # Nothing uses them, and arguments out of a variable are safe without.
        "ANSIBLE_INJECT_FACT_VARS": "false",
        # Saves three processes for every task.
        "ANSIBLE_PIPELINING": "true",
        "PYTHONPATH": str(APPLIANCE / "bytecode"),
        "KEPT_BYTECODE": str(BYTECODE),
        "FLOWER_BOOT_MODULES": str(prepared_modules()),
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "FLOWER_BOOT_LOG": str(BOOT_LOG) if step != REHEARSAL else os.devnull,
        "FLOWER_CONTEXT": str(FOUND),
        "FLOWER_STEP": step,
        # Without one the roles look for it themselves, and say what is missing.
        "FLOWER_TOKEN_FILE": str(TOKEN) if TOKEN.exists() else "",
    }
    state_file.write(FOUND, json.dumps(context.found()), 0o600)
    try:
        with open(LOGS / "flower-ansible.log", "a", encoding="utf-8") as log:
            command = [sys.executable, str(RUNNER), str(venv / "ansible-playbook"), str(PLAYBOOK)]
            return subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode
    finally:
        FOUND.unlink(missing_ok=True)


def prepared_modules() -> Path:
    """Return where modules are that Ansible has prepared of the files that are there now."""
    digest = hashlib.sha256(sys.version.encode())
    for place in sorted([*COLLECTIONS.glob("ansible_collections/*/*/plugins/mod*"), *Path(sys.prefix).glob("lib/python3*/site-packages/ansible_core-*")]):
        for directory, subdirectories, names in os.walk(place):
            subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
            for name in sorted(names):
                facts = os.stat(os.path.join(directory, name))
                # An archive knows no parts of seconds.
                digest.update(f"{directory}/{name}\0{facts.st_size}\0{facts.st_mtime_ns // 10**9}\0".encode())
    return BYTECODE / f"modules-{digest.hexdigest()[:16]}"


def rehearse() -> int:
    """Run the modules of a boot once, unless that was done with the files that are there now; say so, and return the exit status."""
    if prepared_modules().exists():
        return 0
    print("rehearsed")
    return run_playbook(REHEARSAL, Context((APPLIANCE / "role").read_text(encoding="utf-8").strip()))


def run_node(step: str, context: Context) -> tuple[int, Context]:
    """Run the playbook of a node once its SuperLink can be used, and again if the link broke meanwhile; return exit status and context.

    In a service the SuperLink boots with its nodes, so that the playbook waits for it, and says what is wrong after a while. That of a given address
    may come days later, as any at the edge may.
    """
    attempt, edge = 0, context.role == EDGE
    while True:
        waits_for, seconds = link.too_early(context.texts) if edge or is_given(context.texts) else "", link.FIRST_PAUSE
        open_own = functools.partial(open_gate, context.identity)
        if not waits_for:
            try:
                values = context.checked.values
            except (ContextError, ContextMissing):
                return run_playbook(step, context), context
            if not edge and not values["flower_superlink_address"]:
                return run_playbook(step, context), context
            waits_for = link.missing(values, open_own)
            if not waits_for:
                code = run_playbook(step, context)
                if code == 0 or failed_stage() not in LINK_STAGES:
                    return code, context
                # Elsewhere than at the edge, a SuperLink that is there and refuses the node is a failure that is told.
                if not edge and not link.missing(values, open_own):
                    return code, context
                publish_failure(context.identity, "FL_RETRYING")
                waits_for = f"stage {failed_stage()} to succeed"
            law, longest = (values.get(BY_NAME[name].variable, BY_NAME[name].typed_default) for name in ("FL_EDGE_BACKOFF", "FL_EDGE_MAX_BACKOFF"))
            seconds = link.pause(attempt, law, longest)
            attempt += 1
        shown = "".join(character if character.isprintable() else "?" for character in waits_for)
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} waiting for {shown}; looking again in {seconds:.0f} s"
        with open(BOOT_LOG, "a", encoding="utf-8") as log:
            log.write(f"{line}\n")
        print(line, flush=True)
        time.sleep(seconds)
        # Address and backoff may be others by now.
        context = Context(context.role)


def is_given(context: dict[str, str]) -> bool:
    """Say whether a context has the address of a SuperLink, valid or not."""
    return bool(context.get(BY_NAME["FL_SUPERLINK_ADDRESS"].context_name, "").strip())


def failed_stage() -> str:
    """Return the stage in which the last run of the playbook failed, nothing when it did not."""
    lines = BOOT_LOG.read_text(encoding="utf-8").splitlines()  # none if Ansible itself did not start
    failed = re.match(r"failed in stage (\w+)", lines[-1]) if lines else None
    return failed.group(1) if failed else ""


def publish_failure(context: dict[str, str], attribute: str = "FL_ERROR") -> None:
    """Tell OneGate in which stage this boot failed; without OneGate, the log has to do.

    attribute: FL_ERROR when the boot has ended, which ends the wait of whoever deployed this VM, or FL_RETRYING.
    """
    role = (APPLIANCE / "role").read_text(encoding="utf-8").strip()
    attributes = {
        "FL_READY" if role == "superlink" else "FL_NODE_READY": "NO",
        attribute: ERRORS.get(failed_stage(), "boot_failed"),
    }
    try:
        open_gate(context).put(attributes)
    except (ContextMissing, OneException) as problem:
        print(f"the failure could not be published: {problem}", file=sys.stderr)


def withdraw_failure(context: dict[str, str]) -> None:
    """Take back what the last boot said of its failure: this one is another try."""
    try:
        open_gate(context).delete(["FL_ERROR"])
    except (ContextMissing, OneException) as problem:
        print(f"the failure of the last boot could not be withdrawn: {problem}", file=sys.stderr)


def report_ready(context: dict[str, str]) -> None:
    """Tell OneGate READY=YES as soon as the health check passes, when the context asks for that.

    A context with another check than the appliance's own leaves the report to the guest agent.
    """
    if context.get("REPORT_READY") != "YES":
        return
    if context.get("READY_SCRIPT_PATH", HEALTH_CHECK) != HEALTH_CHECK or context.get("READY_SCRIPT"):
        print("the context has a check of its own, so that READY is left to the guest agent")
        return
    deadline = time.monotonic() + READY_SECONDS
    while True:
        checked = subprocess.run([HEALTH_CHECK], capture_output=True, text=True, check=False)
        problem = f"{HEALTH_CHECK}: {checked.stdout.strip() or checked.stderr.strip()}"
        if checked.returncode == 0:
            try:
                open_gate(context).put({"READY": "YES"})
            except (ContextMissing, OneException) as reason:
                problem = str(reason)
                if getattr(reason, "kind", None) in (AUTHENTICATION, AUTHORIZATION):
                    break
            else:
                print("reported READY")
                return
        if time.monotonic() > deadline:
            break
        time.sleep(READY_PAUSE)
    print(f"READY could not be reported: {problem}", file=sys.stderr)


def look_after_tunnel(context: dict[str, str]) -> None:
    """Have the tunnel that the context asks for looked after, the first time at once: a node that waits for its SuperLink may need it.

    It is not waited for, since it may watch for a while. A tunnel that is not wanted any more goes. Without a usable context nobody knows.
    """
    if context.get(TUNNEL, "").strip():
        subprocess.run(["systemctl", "start", "--no-block", *TUNNEL_UNITS], check=False)
    elif context and TUNNEL_LINK.exists():
        subprocess.run(["systemctl", "stop", TUNNEL_UNITS[1], TUNNEL_INTERFACE], check=False)


def open_gate(context: dict[str, str]) -> OneGate:
    """Return OneGate with the identity of this VM. Raises ContextMissing."""
    for name in ("ONEGATE_ENDPOINT", "VMID"):
        if not context.get(name):
            raise ContextMissing(f"the context of this VM has no {name}")
    return OneGate(context["ONEGATE_ENDPOINT"], context["VMID"], read_token(context))


def restart_unchanged(context: Context) -> bool:
    """Start what is configured already when nothing changed since the last bootstrap; return whether that was enough."""
    role = (APPLIANCE / "role").read_text(encoding="utf-8").strip()
    begin = time.monotonic()
    hand_over_token(context)
    try:
        changed = unchanged.difference(context.texts, role, open_gate(context.identity), lambda: context.checked.values)
    except ContextMissing as problem:
        changed = str(problem)
    if not changed:
        changed = unchanged.start(role)
    if changed:
        print(f"this VM is configured: {changed}")
        return False
    with open(BOOT_LOG, "a", encoding="utf-8") as log:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        log.write(f"{now} nothing changed, units started\ntotal {time.monotonic() - begin:.1f}\nsucceeded\n")
    return True


def main() -> int:
    """Run one step of the life cycle and return the exit status."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("configure", "bootstrap", REHEARSAL):
        print("usage: service configure|bootstrap|rehearse", file=sys.stderr)
        return 2
    step = sys.argv[1]
    os.umask(0o022)
    LOGS.mkdir(parents=True, exist_ok=True)
    if step == REHEARSAL:
        return rehearse()
    BOOT_LOG.touch()
    status = APPLIANCE / "status"
    with open(LOCK, "w", encoding="utf-8") as lock:
        # A changed context calls this again while the boot may still be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        failed_before = status.exists() and status.read_text(encoding="utf-8") == FAILURE
        status.unlink(missing_ok=True)
        role = (APPLIANCE / "role").read_text(encoding="utf-8").strip()
        edge = role == SUPERNODE and json.loads((APPLIANCE / "baked.json").read_text(encoding="utf-8")).get("edge", False)
        context = Context(EDGE if edge else role)
        if failed_before:
            withdraw_failure(context.identity)
        if step == "bootstrap":
            look_after_tunnel(context.texts)
        if step == "bootstrap" and unchanged.RECORD.exists() and restart_unchanged(context):
            code = 0
        else:
            unchanged.forget()
            if role == SUPERNODE:
                code, context = run_node(step, context)
            else:
                code = run_playbook(step, context)
            if code == 0 and step == "bootstrap":
                unchanged.remember(context.texts)
        state_file.write(status, f"{step}_success\n" if code == 0 else FAILURE, 0o644)
        if code:
            print(f"{step} failed, see flower-boot.log and flower-ansible.log in {LOGS}", file=sys.stderr)
            publish_failure(context.identity)
        elif step == "bootstrap":
            report_ready(context.identity)
    return code


if __name__ == "__main__":
    sys.exit(main())
