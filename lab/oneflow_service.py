# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One service: its document, its roles, its log, and the virtual machines it makes and ends."""

from __future__ import annotations

import copy
import logging
import re

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import TemplateSyntaxError
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import render
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import items, section, to_dict
from lab.core.errors import NO_EXISTS, OneError
from lab.core.states import NetworkState
from lab.oneflow_documents import Documents
from lab.oneflow_schema import deep_merge, substituted
from lab.oneflow_states import ROLE_HOLD, SCALE_DOWN, SCALE_UP, State

LOG = logging.getLogger(__name__)

DEFAULT_COOLDOWN = 300
LOG_ENTRIES = 50
#: operations of one.vm.recover
RECOVER_RETRY, RECOVER_DELETE = 2, 3
NODE_KEYS = ("ID", "UID", "GID", "UNAME", "GNAME", "NAME")


class FlowError(Exception):
    """A request OneFlow refuses; str() is its answer, with status 500."""


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
            if "template_id" in network and "id" not in network:
                network["id"] = self.core.call(
                    self.owner, "one.vntemplate.instantiate", int(network["template_id"] or 0), f"{name}-{self.id}",
                    network.get("extra") or "",
                )
            elif "reserve_from" in network and "id" not in network:
                given = network.get("extra")
                network["extra"] = (f"{given}\n" if given else "") + f'NAME="{name}-{self.id}"\n'
                source = int(network["reserve_from"] or 0)
                network["id"] = self.core.call(self.owner, "one.vn.reserve", source, network["extra"])

    def has_networks(self) -> bool:
        """Whether all networks the service has of its own can be used by now. Raises OneError."""
        own = [network["id"] for _name, network in self._networks() if "template_id" in network]
        shown = [to_dict(self.core.call(self.owner, "one.vn.info", number, False)) for number in own]
        return all(int(network["STATE"]) == NetworkState.READY for network in shown)

    def delete_networks(self) -> None:
        """Remove the networks the service has of its own. Raises OneError."""
        for _name, network in self._networks():
            if network.keys() & {"reserve_from", "template_id"} and "id" in network:
                self.core.call(self.owner, "one.vn.delete", network["id"])
                del network["id"]

    def _networks(self) -> list[tuple[str, dict]]:
        return [item for value in self.body.get("networks_values") or [] for item in value.items()]

    def resolve_networks(self) -> None:
        """What 6.x does: replace $NETWORK in the contents of the roles by that network's id."""
        ids = {name: str(network["id"] or "") for name, network in reversed(self._networks()) if "id" in network}
        for role in self.roles:
            if self.schema.text and self.schema.contents in role:
                role[self.schema.contents] = substituted(role[self.schema.contents], ids)

    def deployable(self) -> list[dict]:
        """Pending roles whose turn it is."""
        running = {role["name"] for role in self.roles_in(State.RUNNING)}
        return [role for role in self.roles_in(State.PENDING)
                if not self.straight or set(role.get("parents", [])) <= running]

    def shuttable(self) -> list[dict]:
        """Roles to end next: with straight deployment those without living children."""
        living = [role for role in self.roles if role["state"] != State.DONE]
        needed = {parent for role in living for parent in role.get("parents", [])} if self.straight else set()
        waiting = [role for role in living if role["state"] not in (State.UNDEPLOYING, State.FAILED_UNDEPLOYING)]
        free = [role for role in waiting if role["name"] not in needed]
        # Roles that are each other's parents would otherwise wait for ever.
        return free if free or len(waiting) < len(living) else waiting

    def deploy(self, role: dict, state: State, failure: State) -> bool:
        """Make the role's missing VMs. Returns False, with role and service in the failure state, if one fails."""
        role["state"] = int(state)
        if not self.complete(role):
            self.fail(role, failure)
            return False
        if role["on_hold"] and state == State.DEPLOYING:
            role["state"] = ROLE_HOLD
        return True

    def complete(self, role: dict) -> bool:
        """Make the role's missing VMs. Returns False, with the reason in the log, if one fails."""
        try:
            self._make_vms(role)
        except (OneError, TemplateSyntaxError) as error:
            self.log(f"Role {role['name']} : Instantiate failed for template {role[self.schema.template]}; {error}", "E")
            return False
        return True

    def fail(self, role: dict, failure: State) -> None:
        """Role and service failed."""
        role["state"] = int(failure)
        self.set_state(failure)

    def end_vms(self, role: dict, count: int, failure: State) -> bool:
        """End the role's oldest VMs. Returns False, with role and service in the failure state, if one refuses."""
        if not self.terminate(role, count, {}):
            self.fail(role, failure)
            return False
        return True

    def terminate(self, role: dict, count: int, vms: dict) -> bool:
        """End the role's oldest VMs, and try those that failed to end again. Returns False if one refuses."""
        if "vrouter_id" in role:
            return self._end_router(role)
        ended = True
        for node in role["nodes"][:count]:
            vm = vms.get(node["deploy_id"])
            try:
                if vm and vm.failed:
                    self.core.call(self.owner, "one.vm.recover", node["deploy_id"], RECOVER_RETRY)
                else:
                    self._terminate(role, node["deploy_id"])
            except OneError as error:
                self.log(f"Role {role['name']} : Delete failed for VM {node['deploy_id']}; {error}", "E")
                ended = False
        return ended

    def act(self, role: dict, action: str, params: dict) -> None:
        """Schedule an action for every VM of the role, a number of them at once and the next ones a period later.

        Raises FlowError for roles without VMs that could; what a VM refuses is nobody's error.
        """
        if role.get("type") == "vr":
            raise FlowError(f"Virtual Router role {role['name']} does not support schedule actions")
        if role["state"] == State.DONE:
            raise FlowError(f"Role {role['name']} is in DONE state")
        period, number = _to_i(params.get("period")), _to_i(params.get("number"))
        arguments = f'ARGS="{params["args"]}",' if params.get("args") else ""
        now = self.core.now()
        for place, node in enumerate(role["nodes"]):
            later = place // number * period if period > 0 and number > 0 else 0
            text = f"SCHED_ACTION=[ACTION={action},{arguments}TIME={now + later}]"
            try:
                self.core.call(self.owner, "one.vm.schedadd", node["deploy_id"], text)
            except (OneError, TemplateSyntaxError) as error:
                LOG.info("service %d, role %s: VM %s error scheduling action; %s", self.id, role["name"], node["deploy_id"], error)

    def release(self, role: dict) -> None:
        """Let the VMs of a role go that wait on hold; one that does not is nobody's error."""
        for node in role["nodes"]:
            try:
                self.core.call(self.owner, "one.vm.action", "release", node["deploy_id"])
            except OneError as error:
                LOG.info("service %d, role %s: %s", self.id, role["name"], error)

    def forget_action(self, role: dict, number: int) -> None:
        """Take a scheduled action from the VM of the role that has it; that none has it is no error. Raises FlowError."""
        for node in role["nodes"] if role.get("type") != "vr" else ():
            actions = items(section(self._vm(node["deploy_id"]), "TEMPLATE"), "SCHED_ACTION")
            if str(number) in [action["ID"] for action in actions]:
                try:
                    self.core.call(self.owner, "one.vm.scheddelete", node["deploy_id"], number)
                except OneError as error:
                    reason = f"VM {node['deploy_id']} error deleting sched action {number}; {error}"
                    raise FlowError(f"Role {role['name']} : {reason}") from error
                return

    def give(self, session: str, owner: int, group: int) -> None:
        """Give the VMs of all roles to another user and group; raises OneError."""
        for role in self.roles:
            if "vrouter_id" in role:
                self.core.call(session, "one.vrouter.chown", role["vrouter_id"], owner, group)
            for node in role.get("nodes", []) if role.get("type") != "vr" else ():
                self.core.call(session, "one.vm.chown", node["deploy_id"], owner, group)

    def retry(self, role: dict, vms: dict) -> None:
        """Boot the role's failed VMs again, and resume the others that do not run, whatever they say to that."""
        for node in role["nodes"]:
            vm = vms.get(node["deploy_id"])
            try:
                if vm and vm.failed:
                    self.core.call(self.owner, "one.vm.recover", node["deploy_id"], RECOVER_RETRY)
                elif vm and not vm.running:
                    self.core.call(self.owner, "one.vm.action", "resume", node["deploy_id"])
            except OneError as error:
                if vm.failed:
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

    def fill(self) -> bool:
        """What 7.x puts into the contents of all roles before it deploys the first: user inputs and ids of networks.

        Returns False for contents it cannot work on.
        """
        for role in () if self.schema.text else self.roles:
            contents = role.setdefault("template_contents", {})
            nics = contents.get("NIC") or []
            if not isinstance(nics, list) or not isinstance(contents.get("CONTEXT", {}), dict):
                return False
            self._resolve_nics(nics)
            values = {**(self.body.get("user_inputs_values") or {}), **(role.get("user_inputs_values") or {})}
            if values:
                contents["CONTEXT"] = {**contents.get("CONTEXT", {}), **{name: f"${name}" for name in values}}
                contents.update(values)
        return True

    def _resolve_nics(self, nics: list[dict]) -> None:
        networks = dict(reversed(self._networks()))
        for nic in nics:
            found = re.search(r"\$(\w+)", str(nic.get("NETWORK_ID", "")))
            if found and found[1] in networks:
                nic["NETWORK_ID"] = networks[found[1]].get("id")

    def _make_vms(self, role: dict) -> None:
        missing = range(role["cardinality"] - len(role["nodes"]))
        role.setdefault("last_vmname", 0)
        extra = self._extra(role) if missing else ""
        if role.get("type") == "vr":
            self._make_router(role, len(missing), extra)
            return
        for _number in missing:
            name = f"{role['name']}_{role['last_vmname']}_(service_{self.id})"
            role["last_vmname"] += 1
            vm_id = self.core.call(
                self.owner, "one.template.instantiate", role[self.schema.template], name, role["on_hold"], extra, False
            )
            self._add_node(role, vm_id)

    def _add_node(self, role: dict, vm_id: int) -> None:
        vm = self._vm(vm_id)
        role["nodes"].append({"deploy_id": vm_id, "vm_info": {"VM": {key: vm[key] for key in NODE_KEYS}}})

    def _make_router(self, role: dict, count: int, extra: str) -> None:
        """Make the virtual router of a role with all its VMs. Raises OneError."""
        if not count:
            return
        name = f"{role['name']}(service_{self.id})"
        number = self.core.call(self.owner, "one.vrouter.allocate", f'NAME="{name}"\n{extra}')
        vm_name = f"{role['name']}_%i_(service_{self.id})"
        self.core.call(
            self.owner, "one.vrouter.instantiate", number, count, role[self.schema.template], vm_name, role["on_hold"], extra
        )
        router = to_dict(self.core.call(self.owner, "one.vrouter.info", number, False))
        for vm_id in items(section(router, "VMS"), "ID"):
            self._add_node(role, int(vm_id))
        role["vrouter_id"] = number
        role["vrouter_ips"] = [
            {"NETWORK_ID": int(nic["NETWORK_ID"]), "VROUTER_IP": nic["VROUTER_IP"]}
            for nic in items(section(router, "TEMPLATE"), "NIC") if "VROUTER_IP" in nic
        ]

    def _end_router(self, role: dict) -> bool:
        """End the virtual router of a role, and its VMs with it. Returns False, with the reason in the log, if it refuses."""
        try:
            self.core.call(self.owner, "one.vrouter.delete", role["vrouter_id"])
        except OneError as error:
            if error.code != NO_EXISTS:
                self.log(f"Role {role['name']} : Delete failed for VR {role['vrouter_id']}: {error}", "E")
                return False
        return True

    def _extra(self, role: dict) -> str:
        """What is added to the VM template for a VM of the role, as OneFlow writes it: not all of it can be read."""
        own = {"SERVICE_ID": self.id, "ROLE_NAME": role["name"]}
        if self.schema.text:
            text = self._appended(role, role.get("vm_template_contents") or "") + f"\n{raw_template(own)}"
        else:
            contents = role.get("template_contents") or {}
            # What the VM template has goes along, because OpenNebula does not merge its CONTEXT.
            merged = deep_merge(self._vm_template(role), contents, join=False) if contents else {}
            text = raw_template({**merged, **own})
        for path in set(re.findall(r"\$\{(.*?)\}", text)):
            text = text.replace(f"${{{path}}}", self._parent_value(role, path))
        return text

    def _appended(self, role: dict, text: str) -> str:
        """The text after the attributes of the VM template that it wants to add to (APPEND) instead of replacing them."""
        wanted = re.search(r'^\s*APPEND="?(.*?)"?\s*$', text, re.MULTILINE)
        names = wanted[1].split(",") if wanted else []
        there = {name: value for name, value in self._vm_template(role).items() if name in names} if names else {}
        return f"{render(there)}\n{text}" if there else text

    def _vm_template(self, role: dict) -> dict:
        document = self.core.call(self.owner, "one.template.info", role[self.schema.template], False, False)
        return section(to_dict(document), "TEMPLATE")

    def _parent_value(self, role: dict, path: str) -> str:
        """What ${parent.template.context.eth0_ip} stands for in a role: nothing if no VM of that parent has it."""
        parent, *names = path.split(".")
        nodes = self.role(parent)["nodes"] if parent in role.get("parents", []) and self.role(parent) else []
        found = (_search(self._vm(node["deploy_id"]), [name.upper() for name in names]) for node in nodes)
        return next((value for value in found if value is not None), "")

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


def _to_i(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) or (isinstance(value, str) and value.isdigit()) else 0


def raw_template(attributes: dict) -> str:
    """Attributes as OneFlow 7.x writes them: it parts the lines of a vector with commas, in values as well."""
    text = ""
    for name, value in attributes.items():
        if isinstance(value, dict):
            lines = raw_template(value).rstrip("\n").split("\n")
            text += f"{name} = [\n" + ",\n".join(lines) + "\n]\n"
        elif isinstance(value, list):
            text += "".join(raw_template({name: item}) for item in value)
        else:
            written = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            escaped = written.replace('"', '\\"')
            text += f'{name} = "{escaped}"\n'
    return text


def _search(document: object, path: list[str]) -> str | None:
    """The first value at the path, wherever in the document that begins."""
    if isinstance(document, list):
        return next((found for item in document if (found := _search(item, path)) is not None), None)
    if not isinstance(document, dict) or not path:
        return None
    value: object = document
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value
    return _search(list(document.values()), path)
