# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One service: its document, its roles, its log, and the virtual machines it makes and ends."""

from __future__ import annotations

import copy
import logging
import re

from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import TemplateSyntaxError
from ansible_collections.opennebula.flower.plugins.module_utils.one.template import parse, render
from ansible_collections.opennebula.flower.plugins.module_utils.one.xml import section, to_dict
from lab.core import OneError
from lab.oneflow_documents import Documents
from lab.oneflow_schema import deep_merge, substituted
from lab.oneflow_states import ROLE_HOLD, SCALE_DOWN, SCALE_UP, State

LOG = logging.getLogger(__name__)

DEFAULT_COOLDOWN = 300
LOG_ENTRIES = 50
#: operations of one.vm.recover
RECOVER_RETRY, RECOVER_DELETE = 2, 3
NODE_KEYS = ("ID", "UID", "GID", "UNAME", "GNAME", "NAME")


class Service:
    """A service as stored. Changes live in memory until save()."""

    def __init__(self, core, documents: Documents, document: dict):
        self.core = core
        self.schema = core.config.release.flow
        self.documents = documents
        self.id = int(document["ID"])
        self.owner = core.session_for(int(document["UID"]))
        self.body = document["TEMPLATE"]["BODY"]
        self._stored = copy.deepcopy(self.body)

    @property
    def state(self) -> State:
        """The service's state."""
        return State(self.body["state"])

    @property
    def roles(self) -> list[dict]:
        """The roles, in the order of the template."""
        return self.body["roles"]

    @property
    def gated(self) -> bool:
        """Whether READY=YES decides instead of RUNNING."""
        return bool(self.body.get("ready_status_gate"))

    @property
    def straight(self) -> bool:
        """Whether roles wait for their parents."""
        return self.body["deployment"] == "straight"

    def role(self, name: str) -> dict | None:
        """The role of that name."""
        return next((role for role in self.roles if role["name"] == name), None)

    def roles_in(self, *states: int) -> list[dict]:
        """The roles in one of these states."""
        return [role for role in self.roles if role["state"] in states]

    def set_state(self, state: State) -> None:
        """Change the state and log it."""
        self.body["state"] = int(state)
        self.log(f"New state: {state.name}")

    def resume_state(self, state: State) -> None:
        """Go back to a state after recover, which OneFlow does without logging it."""
        self.body["state"] = int(state)

    def log(self, message: str, severity: str = "I") -> None:
        """Add to the service's log, which keeps the newest entries only."""
        entry = {"timestamp": self.core.now(), "severity": severity, "message": message}
        self.body["log"] = [*self.body.get("log", []), entry][-LOG_ENTRIES:]

    def save(self) -> None:
        """Store the body if it changed; raises OneError."""
        if self.body != self._stored:
            self.documents.save(self.owner, self.id, self.body)
            self._stored = copy.deepcopy(self.body)

    def delete(self) -> None:
        """Remove the service's document; raises OneError."""
        self.documents.delete(self.owner, self.id)

    def prepare_roles(self) -> None:
        """What OneFlow adds to the roles of a new service when it first works on them."""
        for role in self.roles:
            role.setdefault("nodes", [])
            role.setdefault("on_hold", bool(self.body.get("on_hold")))
            if role.get("cooldown") is None:
                role["cooldown"] = DEFAULT_COOLDOWN

    def reserve_networks(self) -> None:
        """Make the networks the service has of its own. Raises OneError."""
        for name, network in self._networks():
            if "reserve_from" in network and "id" not in network:
                given = network.get("extra")
                network["extra"] = (f"{given}\n" if given else "") + f'NAME="{name}-{self.id}"\n'
                source = int(network["reserve_from"] or 0)
                network["id"] = self.core.call(self.owner, "one.vn.reserve", source, network["extra"])

    def delete_networks(self) -> None:
        """Remove the networks the service has of its own. Raises OneError."""
        for _name, network in self._networks():
            if "reserve_from" in network and "id" in network:
                self.core.call(self.owner, "one.vn.delete", network["id"])
                del network["id"]

    def _networks(self) -> list[tuple[str, dict]]:
        return [item for value in self.body.get("networks_values") or [] for item in value.items()]

    def resolve_networks(self) -> None:
        """Replace $NETWORK in the contents of the roles by that network's id."""
        ids = {name: str(network["id"] or "") for name, network in reversed(self._networks()) if "id" in network}
        for role in self.roles:
            if self.schema.contents in role:
                paste = substituted if self.schema.text else _substituted
                role[self.schema.contents] = paste(role[self.schema.contents], ids)

    def deployable(self) -> list[dict]:
        """Pending roles whose turn it is."""
        running = {role["name"] for role in self.roles_in(State.RUNNING)}
        return [role for role in self.roles_in(State.PENDING)
                if not self.straight or set(role.get("parents", [])) <= running]

    def shuttable(self) -> list[dict]:
        """Roles to end next: with straight deployment those without living children."""
        living = [role for role in self.roles if role["state"] != State.DONE]
        needed = {parent for role in living for parent in role.get("parents", [])} if self.straight else set()
        waiting = [role for role in living if role["state"] != State.UNDEPLOYING]
        free = [role for role in waiting if role["name"] not in needed]
        # Roles that are each other's parents would otherwise wait for ever.
        return free if free or len(waiting) < len(living) else waiting

    def deploy(self, role: dict, state: State, failure: State) -> bool:
        """Make the role's missing VMs. Returns False, with role and service in the failure state, if one fails."""
        role["state"] = int(state)
        try:
            self._make_vms(role)
        except (OneError, TemplateSyntaxError) as error:
            self.log(f"Role {role['name']} : Instantiate failed for template {role[self.schema.template]}; {error}", "E")
            self.fail(role, failure)
            return False
        if role["on_hold"] and state == State.DEPLOYING:
            role["state"] = ROLE_HOLD
        return True

    def fail(self, role: dict, failure: State) -> None:
        """Role and service failed."""
        role["state"] = int(failure)
        self.set_state(failure)

    def end_vms(self, role: dict, count: int, failure: State) -> bool:
        """End the role's oldest VMs. Returns False, with role and service in the failure state, if one refuses."""
        for node in role["nodes"][:count]:
            try:
                self._terminate(role, node["deploy_id"])
            except OneError as error:
                self.log(f"Role {role['name']} : Delete failed for VM {node['deploy_id']}; {error}", "E")
                self.fail(role, failure)
                return False
        return True

    def act(self, role: dict, action: str) -> None:
        """Ask every VM of the role for a one.vm.action; OneFlow only schedules it, so a refusal is nobody's error."""
        for node in role["nodes"]:
            try:
                self.core.call(self.owner, "one.vm.action", action, node["deploy_id"])
            except OneError as error:
                LOG.info("service %d, role %s: %s", self.id, role["name"], error)

    def give(self, session: str, owner: int, group: int) -> None:
        """Give the VMs of all roles to another user and group; raises OneError."""
        for node in (node for role in self.roles for node in role.get("nodes", [])):
            self.core.call(session, "one.vm.chown", node["deploy_id"], owner, group)

    def retry(self, role: dict, vms: dict) -> None:
        """Boot the role's failed VMs again."""
        for node in role["nodes"]:
            vm = vms.get(node["deploy_id"])
            if vm and vm.failed:
                try:
                    self.core.call(self.owner, "one.vm.recover", node["deploy_id"], RECOVER_RETRY)
                except OneError as error:
                    self.log(f"Role {role['name']} : Retry failed for VM {node['deploy_id']}; {error}", "E")

    def drop_gone(self, role: dict, vms: dict) -> int:
        """Forget nodes whose VM is gone. Returns how many."""
        left = [node for node in role["nodes"] if node["deploy_id"] in vms]
        gone = len(role["nodes"]) - len(left)
        role["nodes"] = left
        return gone

    def shrink(self, role: dict, gone: int) -> None:
        """Take over that some of the role's VMs were ended by somebody else."""
        if gone:
            old = role["cardinality"]
            self.log(f"Role {role['name']} scaling down from {old} to {old - gone} nodes")
            role["cardinality"] = old - gone

    def start_scaling(self, role: dict, cardinality: int) -> None:
        """Bring the role to another number of VMs; the service is SCALING or FAILED_SCALING afterwards."""
        old = role["cardinality"]
        up = cardinality > old
        self.log(f"Role {role['name']} scaling {'up' if up else 'down'} from {old} to {cardinality} nodes")
        role["cardinality"] = cardinality
        role["scale_way"] = SCALE_UP if up else SCALE_DOWN
        role["state"] = int(State.SCALING)
        for policy in role.get("elasticity_policies", []):
            policy.pop("true_evals", None)
        if (
            self.deploy(role, State.SCALING, State.FAILED_SCALING)
            if up else self.end_vms(role, old - cardinality, State.FAILED_SCALING)
        ):
            self.set_state(State.SCALING)

    def _make_vms(self, role: dict) -> None:
        if not self.schema.text:
            role["template_contents"] = self._contents_with_inputs(role)
        missing = range(role["cardinality"] - len(role["nodes"]))
        role.setdefault("last_vmname", 0)
        for _number in missing:
            name = f"{role['name']}_{role['last_vmname']}_(service_{self.id})"
            role["last_vmname"] += 1
            extra = render({**self._extra(role), "SERVICE_ID": self.id, "ROLE_NAME": role["name"]})
            vm_id = self.core.call(
                self.owner, "one.template.instantiate", role[self.schema.template], name, role["on_hold"], extra, False
            )
            vm = self._vm(vm_id)
            role["nodes"].append({"deploy_id": vm_id, "vm_info": {"VM": {key: vm[key] for key in NODE_KEYS}}})

    def _contents_with_inputs(self, role: dict) -> dict:
        """template_contents with every user input as an attribute and as a reference to it in CONTEXT."""
        values = {**self.body.get("user_inputs_values", {}), **role.get("user_inputs_values", {})}
        context = {"CONTEXT": {name: f"${name}" for name in values}} if values else {}
        return deep_merge(role.get("template_contents", {}), {**context, **values})

    def _extra(self, role: dict) -> dict:
        """What is added to the VM template for a VM of the role."""
        if self.schema.text:
            text = _substituted(role.get("vm_template_contents", ""), {}, self._role_reference)
            extra = parse(_without_strays(text))
            # What is to be appended to stays as the VM template has it.
            kept = extra.get("APPEND", "").split(",")
            return {name: value for name, value in extra.items() if name not in kept}
        extra = _substituted(role["template_contents"], {}, self._role_reference)
        if "CONTEXT" in extra:
            template = to_dict(self.core.call(self.owner, "one.template.info", role["template_id"], False, False))
            extra["CONTEXT"] = {**section(template, "TEMPLATE", "CONTEXT"), **extra["CONTEXT"]}
        return extra

    def _role_reference(self, path: str) -> str | None:
        """${role.template.context.eth0_ip}: an attribute of the first VM of another role."""
        role_name, _separator, attribute = path.partition(".")
        role = self.role(role_name)
        if not role or not role["nodes"]:
            return None
        *sections, name = attribute.upper().split(".")
        return section(self._vm(role["nodes"][0]["deploy_id"]), *sections).get(name)

    def _vm(self, vm_id: int) -> dict:
        return to_dict(self.core.call(self.owner, "one.vm.info", vm_id, False))

    def _terminate(self, role: dict, vm_id: int) -> None:
        action = role.get("shutdown_action") or self.body.get("shutdown_action") or "terminate"
        action = "terminate-hard" if action.endswith("-hard") else "terminate"
        try:
            self.core.call(self.owner, "one.vm.action", action, vm_id)
        except OneError as error:
            self.log(f"Role {role['name']} : Terminate failed for VM {vm_id}, will perform a Delete; {error}", "E")
            self.core.call(self.core.session_for(0), "one.vm.recover", vm_id, RECOVER_DELETE)


def _substituted(value, names: dict, reference=None):
    """value with every $NAME of names and every ${path} the reference function knows replaced, at any depth."""
    if isinstance(value, dict):
        return {key: _substituted(item, names, reference) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, names, reference) for item in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"\$(\w+)", lambda found: str(names.get(found.group(1), found.group(0))), value)
    if reference:
        text = re.sub(r"\$\{(\w+\.[\w.]+)\}", lambda found: reference(found.group(1)) or found.group(0), text)
    return text


def _without_strays(text: str) -> str:
    """The text without what follows a quoted value on its line: a quote in a pasted value does not make it wrong."""
    return re.sub(r'^(\s*\w+\s*=\s*"(?:\\.|[^"\\\n])*")[^\n]+$', r"\1", text, flags=re.MULTILINE)
