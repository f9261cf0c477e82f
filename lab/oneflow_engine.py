# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OneFlow's life cycle: one small step per service and tick, and the operations people ask for."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import items, to_dict
from lab.core.errors import OneError
from lab.oneflow_documents import SERVICE_TYPE, TEMPLATE_TYPE, Documents
from lab.oneflow_policies import wanted_cardinality
from lab.oneflow_service import FlowError, Service
from lab.oneflow_states import BUSY, CANNOT_UNDEPLOY, FAILED, ROLE_HOLD, SCALE_DOWN, SCALE_UP, State, Vm

LOG = logging.getLogger(__name__)

#: behind the READY gate OneFlow looks for failed VMs only this often
FAILURE_POLL_SECONDS = 30.0
#: how often policies are looked at
AUTOSCALER_SECONDS = 90

#: body keys a PUT or update may not change
IMMUTABLE_SERVICE = ("user_inputs", "user_inputs_values", "custom_attrs", "custom_attrs_values", "deployment", "log", "name", "networks", "networks_values",
                     "ready_status_gate", "state", "start_time", "registration_time")
IMMUTABLE_ROLE = ("cardinality", "nodes", "parents", "state", "template_id", "vm_template")


class Flow:
    """The services of a zone. tick() moves them on; operations raise FlowError or lab.core.OneError.

    Sessions are "user:password" texts; a service is looked up with the caller's rights and moved with its owner's.
    """

    def __init__(self, core):
        self.core = core
        self.schema = core.config.release.flow
        self.services = Documents(core, SERVICE_TYPE)
        self.templates = Documents(core, TEMPLATE_TYPE)
        self._lock = threading.RLock()
        self._failures_seen = 0.0
        self._autoscaled = 0
        self._autoscale = False
        self._look_for_failures = False
        # What OneFlow keeps in memory and a restart loses: after a recover, for the VMs of which roles of a service it
        # waits; and how it last saw the VMs of services that run, by service.
        self._recovering: dict[int, set[str]] = {}
        self._watched: dict[int, dict[int, Vm]] = {}
        self._steps = {
            State.PENDING: self._start,
            State.DEPLOYING_NETS: self._deploy_next,
            State.DEPLOYING: self._deploying,
            State.RUNNING: self._watch,
            State.WARNING: self._watch,
            State.SCALING: self._scaling,
            State.COOLDOWN: self._cooldown,
            State.UNDEPLOYING: self._undeploying,
            State.UNDEPLOYING_NETS: self._delete,
        }
        # A service that is recovered stays FAILED until its VMs are as they should be.
        self._recoveries = {
            State.FAILED_DEPLOYING: self._deploying,
            State.FAILED_SCALING: self._scaling,
            State.FAILED_UNDEPLOYING: self._undeploying,
            State.FAILED_DEPLOYING_NETS: self._start,
            State.FAILED_UNDEPLOYING_NETS: self._delete,
        }

    def tick(self) -> None:
        """Move every service one step on. A service that cannot be moved now is tried again in the next tick."""
        with self._lock:
            documents = self.services.readable(self.core.session_for(0))
            if not documents:
                return
            vms = self._vms()
            self._look_for_failures = time.monotonic() - self._failures_seen >= FAILURE_POLL_SECONDS
            if self._look_for_failures:
                self._failures_seen = time.monotonic()
            self._autoscale = self.core.now() >= self._autoscaled + AUTOSCALER_SECONDS
            if self._autoscale:
                self._autoscaled = self.core.now()
            for document in documents:
                self._step(document, vms)

    def get(self, session: str, service_id: int) -> Service:
        """The service, as the session may see it."""
        return Service(self.core, self.services, self.services.get(session, service_id))

    def instantiate(self, session: str, body: dict) -> dict:
        """Make a service from a checked body. Returns its document as it was before anything happened to it."""
        with self._lock:
            service_id = self.services.create(session, body["name"], body)
            document = self.services.get(session, service_id)
            service = self.get(session, service_id)
            self._start(service, {})
            service.save()
            return document

    def scale(self, session: str, service_id: int, role_name: str, cardinality: int, force: bool | None) -> None:
        """Change the number of a role's VMs. force None: the request lacks that key, over which OneFlow trips."""
        with self._lock:
            service = self.get(session, service_id)
            if service.state != State.RUNNING:
                raise FlowError(f"Service cannot be scaled in state: {service.state.name}")
            role = service.role(role_name)
            if role is None:
                raise FlowError(f"Role {role_name} not found")
            if force is None:
                raise ValueError(f"unexpected token at '{{ \"cardinality\" : {cardinality},\n  \"force\" :  }}'")
            self._check_bounds(service, role, cardinality, force)
            service.start_scaling(role, cardinality)
            service.save()

    def undeploy(self, session: str, service_id: int, force: bool = False) -> None:
        """Start ending a service; force in any state (recover with delete)."""
        with self._lock:
            service = self.get(session, service_id)
            if service.state in CANNOT_UNDEPLOY and not force:
                raise FlowError(f"Service cannot be undeployed in state: {service.state.name}")
            self._undeploy(service)

    def recover(self, session: str, service_id: int) -> None:
        """Try again what failed or hangs; ends a cooldown."""
        with self._lock:
            service = self.get(session, service_id)
            vms = self._vms()
            if service.state in (State.FAILED_DEPLOYING, State.DEPLOYING, State.PENDING):
                self._recovering[service.id] = self._recover_deploy(service, vms)
            elif service.state in (State.FAILED_UNDEPLOYING, State.UNDEPLOYING):
                self._recovering[service.id] = self._recover_undeploy(service, vms)
            elif service.state in (State.FAILED_SCALING, State.SCALING):
                self._recovering[service.id] = self._recover_scale(service, vms)
            elif service.state == State.COOLDOWN:
                self._end_cooldown(service)
            elif service.state in (State.FAILED_DEPLOYING_NETS, State.FAILED_UNDEPLOYING_NETS):
                self._recovering[service.id] = set()
            elif service.state not in (State.DEPLOYING_NETS, State.UNDEPLOYING_NETS):
                raise FlowError(f"Service cannot be recovered in state: {service.state.name}")
            service.save()

    def release(self, session: str, service_id: int) -> None:
        """Let the VMs of roles on hold go."""
        with self._lock:
            service = self.get(session, service_id)
            held = service.roles_in(ROLE_HOLD)
            if not held:
                raise FlowError("Service has no roles in HOLD")
            for role in held:
                service.release(role)
                role["state"] = int(State.DEPLOYING)
            service.set_state(State.DEPLOYING)
            service.save()

    def act(self, session: str, service_id: int, role_name: str | None, action: str, params: dict) -> None:
        """Schedule an action for the VMs of one role, or of all of them; of all, those that cannot are passed over."""
        with self._lock:
            service = self.get(session, service_id)
            if role_name is not None:
                service.act(self._role(service, role_name), action, params)
            for role in service.roles if role_name is None else ():
                with suppress(FlowError):
                    service.act(role, action, params)

    def forget_action(self, session: str, service_id: int, role_name: str | None, number: int) -> None:
        """Take a scheduled action from whichever VM has it, of one role or of all of them."""
        with self._lock:
            service = self.get(session, service_id)
            for role in service.roles if role_name is None else [self._role(service, role_name)]:
                service.forget_action(role, number)

    @staticmethod
    def _role(service: Service, name: str) -> dict:
        role = service.role(name)
        if role is None:
            raise FlowError(f"Role '{name}' not found")
        return role

    def update(self, session: str, service_id: int, new: dict, append: bool) -> None:
        """Replace the body, or add to it, as far as it may be changed by hand."""
        with self._lock:
            service = self.get(session, service_id)
            if service.state in BUSY | FAILED:
                raise FlowError(f"Service cannot be updated in state: {service.state.name}")
            _check_immutable(service, new, append)
            service.body = {**service.body, **new} if append else new
            service.save()

    def add_role(self, session: str, service_id: int, role: dict) -> None:
        """Add a checked role to a running service and deploy it."""
        with self._lock:
            service = self._modifiable(session, service_id)
            if service.role(role["name"]):
                raise FlowError(f"Role {role['name']} already exists")
            service.roles.append({**role, "state": int(State.PENDING)})
            service.prepare_roles()
            service.resolve_networks()
            service.fill()
            if service.deploy(service.roles[-1], State.DEPLOYING, State.FAILED_DEPLOYING):
                service.set_state(State.DEPLOYING)
            service.save()

    def remove_role(self, session: str, service_id: int, role_name: str) -> None:
        """End a role of a running service and forget it."""
        with self._lock:
            service = self._modifiable(session, service_id)
            role = service.role(role_name)
            if role is None:
                raise FlowError(f"Role {role_name} does not exist")
            role["removed"] = True
            if self._shut(service, [role]):
                service.set_state(State.UNDEPLOYING)
            service.save()

    def _modifiable(self, session: str, service_id: int) -> Service:
        service = self.get(session, service_id)
        if service.state != State.RUNNING:
            raise FlowError(f"Cannot modify roles in state: {service.state.name}")
        return service

    def _vms(self) -> dict[int, Vm]:
        """Every VM of the zone that is not DONE, by id."""
        pool = self.core.call(self.core.session_for(0), "one.vmpool.infoextended", -2, -1, -1, -1)
        return {int(vm["ID"]): Vm.of(vm) for vm in items(to_dict(pool), "VM")}

    def _step(self, document: dict, vms: dict[int, Vm]) -> None:
        service = Service(self.core, self.services, document)
        try:
            if service.state not in (State.RUNNING, State.WARNING):
                self._watched.pop(service.id, None)
            step = self._steps.get(service.state)
            if step is None and service.id in self._recovering:
                step = self._recoveries.get(service.state)
            if step is None:
                return
            step(service, vms)
            if service.state != State.DONE:
                service.save()
        except OneError as error:
            LOG.warning("service %d stays %s: %s", service.id, service.state.name, error)
        except Exception:  # one service must not stop the others
            LOG.exception("service %d cannot go on", service.id)

    def _start(self, service: Service, _vms: dict) -> None:
        service.prepare_roles()
        service.set_state(State.DEPLOYING_NETS)
        try:
            service.reserve_networks()
        except OneError as error:
            service.log(f"Error deploying networks: {error}", "E")
            service.set_state(State.FAILED_DEPLOYING_NETS)
            return
        service.resolve_networks()

    def _waited_for(self, service: Service, *states: State) -> list[dict]:
        """The roles in one of the states, and those whose recovery is awaited whatever their states are."""
        recovering = self._recovering.get(service.id, ())
        return [role for role in service.roles if role["state"] in states or role["name"] in recovering]

    def _arrived(self, service: Service, role: dict, state: State) -> None:
        role["state"] = int(state)
        self._recovering.get(service.id, set()).discard(role["name"])

    def _fail(self, service: Service, role: dict, failure: State) -> None:
        """Role and service failed; OneFlow waits for nothing of the service any more."""
        service.fail(role, failure)
        self._recovering.pop(service.id, None)

    def _deploy_next(self, service: Service, _vms: dict) -> None:
        if service.state == State.FAILED_DEPLOYING and not service.straight:
            roles = []
        else:
            recovering = self._recovering.get(service.id, ())
            roles = [role for role in service.deployable() if role["name"] not in recovering]
        if service.state == State.DEPLOYING_NETS and not service.has_networks():
            return
        if roles and service.state == State.DEPLOYING_NETS and not service.fill():
            service.set_state(State.FAILED_DEPLOYING)
            return
        if not roles and len(service.roles_in(State.RUNNING)) == len(service.roles):
            service.set_state(State.RUNNING)
            return
        for role in roles:
            if not service.deploy(role, State.DEPLOYING, State.FAILED_DEPLOYING):
                return
        if roles and service.state == State.DEPLOYING_NETS:
            service.set_state(State.HOLD if service.body.get("on_hold") else State.DEPLOYING)

    def _deploying(self, service: Service, vms: dict[int, Vm]) -> None:
        for role in self._waited_for(service, State.DEPLOYING):
            if self._boot_failed(service, role, vms):
                self._fail(service, role, State.FAILED_DEPLOYING)
                return
            if self._all_up(service, role, vms):
                self._arrived(service, role, State.RUNNING)
        self._deploy_next(service, vms)

    def _scaling(self, service: Service, vms: dict[int, Vm]) -> None:
        for role in self._waited_for(service, State.SCALING):
            if role["scale_way"] == SCALE_DOWN:
                service.drop_gone(role, vms)
                ending = role["nodes"][:len(role["nodes"]) - role["cardinality"]]
                if _any_failed(ending, vms):
                    self._fail(service, role, State.FAILED_SCALING)
                    return
                finished = not ending
            elif self._boot_failed(service, role, vms):
                self._fail(service, role, State.FAILED_SCALING)
                return
            else:
                finished = self._all_up(service, role, vms)
            if finished:
                del role["scale_way"]
                self._arrived(service, role, State.COOLDOWN)
                service.set_state(State.COOLDOWN)

    def _all_up(self, service: Service, role: dict, vms: dict[int, Vm]) -> bool:
        """Whether the role's VMs are up, or READY behind the gate. VMs ended by hand lower the cardinality."""
        role["cardinality"] -= service.drop_gone(role, vms)
        return all(vms[node["deploy_id"]].settled(service.gated) for node in role["nodes"])

    def _boot_failed(self, service: Service, role: dict, vms: dict[int, Vm]) -> bool:
        if service.gated and not self._look_for_failures:
            return False
        return _any_failed(role["nodes"], vms)

    def _cooldown(self, service: Service, _vms: dict) -> None:
        # The log's last entry says when the cooldown began; nothing else survives a restart of the zone.
        since = service.body["log"][-1]["timestamp"]
        cooldown = max((role["cooldown"] for role in service.roles_in(State.COOLDOWN)), default=0)
        if self.core.now() >= since + cooldown:
            self._end_cooldown(service)

    def _end_cooldown(self, service: Service) -> None:
        for role in service.roles_in(State.COOLDOWN):
            role["state"] = int(State.RUNNING)
        service.set_state(State.RUNNING)

    def _watch(self, service: Service, vms: dict[int, Vm]) -> None:
        """Follow the VMs as OneFlow does: it looks at those that changed, one after the other, each for its role."""
        seen = self._watched.setdefault(service.id, {})
        changed = []
        for role in service.roles:
            service.shrink(role, service.drop_gone(role, vms))
            for node in role["nodes"]:
                vm, before = vms[node["deploy_id"]], seen.get(node["deploy_id"])
                seen[node["deploy_id"]] = vm
                if not before or (before.state, before.lcm_state) != (vm.state, vm.lcm_state):
                    changed.append((vm.troubled, role, vm))
        # Which of them was first is not known; what troubles is not to be missed.
        for troubled, role, vm in sorted(changed, key=lambda change: change[0]):
            if troubled:
                role["state"] = int(State.WARNING)
                self._enter(service, State.WARNING)
            elif vm.running:
                role["state"] = int(State.RUNNING)
                if len(service.roles_in(State.RUNNING)) == len(service.roles):
                    self._enter(service, State.RUNNING)
        if service.body.get("automatic_deletion") and not any(role["nodes"] for role in service.roles):
            self._undeploy(service)
        elif self._autoscale and service.state == State.RUNNING:
            self._follow_policies(service, vms)

    @staticmethod
    def _enter(service: Service, state: State) -> None:
        if service.state != state:
            service.set_state(state)

    def _follow_policies(self, service: Service, vms: dict[int, Vm]) -> None:
        for role in service.roles:
            running = [vms[node["deploy_id"]] for node in role["nodes"]]
            wanted = wanted_cardinality(role, [vm.document for vm in running if vm.running], self.core.now())
            if wanted != role["cardinality"]:
                service.start_scaling(role, wanted)
                return

    def _undeploy(self, service: Service) -> None:
        """Start ending the roles in their order; a service with nothing to end disappears at once."""
        service.prepare_roles()
        for role in service.roles_in(State.UNDEPLOYING, State.FAILED_UNDEPLOYING):
            role["state"] = int(State.RUNNING)
        roles = service.shuttable()
        if not roles:
            self._delete(service, {})
            return
        if self._shut(service, roles):
            service.set_state(State.UNDEPLOYING)
        service.save()

    def _shut(self, service: Service, roles: list[dict]) -> bool:
        for role in roles:
            role["state"] = int(State.UNDEPLOYING)
            if not service.end_vms(role, len(role["nodes"]), State.FAILED_UNDEPLOYING):
                return False
        return True

    def _undeploying(self, service: Service, vms: dict[int, Vm]) -> None:
        for role in self._waited_for(service, State.UNDEPLOYING):
            service.drop_gone(role, vms)
            if _any_failed(role["nodes"], vms):
                self._fail(service, role, State.FAILED_UNDEPLOYING)
                return
            if not role["nodes"]:
                self._arrived(service, role, State.DONE)
        if any(role.get("removed") for role in service.roles):
            self._finish_removal(service)
        elif all(role["state"] == State.DONE for role in service.roles):
            service.set_state(State.UNDEPLOYING_NETS)
        elif service.straight:
            self._shut(service, service.shuttable())

    def _finish_removal(self, service: Service) -> None:
        left = [role for role in service.roles if not (role.get("removed") and role["state"] == State.DONE)]
        if len(left) < len(service.roles):
            service.body["roles"] = left
            service.set_state(State.RUNNING)

    def _delete(self, service: Service, _vms: dict) -> None:
        try:
            service.delete_networks()
        except OneError as error:
            service.log(f"Error undeploying networks: {error}", "E")
            service.set_state(State.FAILED_UNDEPLOYING_NETS)
            service.save()
            return
        service.delete()
        self._recovering.pop(service.id, None)
        service.body["state"] = int(State.DONE)

    def _recover_deploy(self, service: Service, vms: dict[int, Vm]) -> set[str]:
        """Try the VMs of roles that are not up again. Returns the names of the roles."""
        service.prepare_roles()
        running = {role["name"] for role in service.roles_in(State.RUNNING)}
        roles = [
            role for role in service.roles
            if role["state"] in (State.DEPLOYING, State.FAILED_DEPLOYING)
            or (role["state"] == State.PENDING and set(role.get("parents", [])) <= running)
        ]
        return self._redeploy(service, roles, vms)

    @staticmethod
    def _redeploy(service: Service, roles: list[dict], vms: dict[int, Vm]) -> set[str]:
        for role in roles:
            service.retry(role, vms)
        # What cannot be made is in the log; for the VMs of such a role nobody waits.
        return {role["name"] for role in roles if service.complete(role)}

    def _recover_scale(self, service: Service, vms: dict[int, Vm]) -> set[str]:
        roles = service.roles_in(State.SCALING, State.FAILED_SCALING)
        growing = [role for role in roles if role["scale_way"] == SCALE_UP]
        shrinking = [role for role in roles if role["scale_way"] == SCALE_DOWN]
        for role in shrinking:
            service.terminate(role, len(role["nodes"]) - role["cardinality"], vms)
        return self._redeploy(service, growing, vms) | {role["name"] for role in shrinking}

    @staticmethod
    def _recover_undeploy(service: Service, vms: dict[int, Vm]) -> set[str]:
        living = [role for role in service.roles if role["state"] != State.DONE]
        needed = {parent for role in living for parent in role.get("parents", [])}
        roles = [
            role for role in living
            if role["state"] in (State.UNDEPLOYING, State.FAILED_UNDEPLOYING) or role["name"] not in needed
        ]
        for role in roles:
            service.terminate(role, len(role["nodes"]), vms)
        return {role["name"] for role in roles}

    @staticmethod
    def _check_bounds(service: Service, role: dict, cardinality: int, force: bool) -> None:
        fixed = role["cardinality"] if role.get("type") == "vr" else None
        lowest, highest = (role.get("min_vms") or 0, role.get("max_vms")) if fixed is None else (fixed, fixed)
        if not force and cardinality < lowest:
            shown = "" if fixed is None and role.get("min_vms") is None else lowest
            raise FlowError(f"Can't scale service {service.id}: Minimum cardinality is {shown}")
        if not force and highest is not None and cardinality > highest:
            raise FlowError(f"Can't scale service {service.id}: Maximum cardinality is {highest}")
        if cardinality == role["cardinality"]:
            raise FlowError(f"Cardinality of {role['name']} is already at {cardinality}")


def _any_failed(nodes: list[dict], vms: dict[int, Vm]) -> bool:
    return any(vms[node["deploy_id"]].failed for node in nodes if node["deploy_id"] in vms)


def _check_immutable(service: Service, new: dict, append: bool) -> None:
    """Raises FlowError naming the first value that may not be changed."""
    if not append and len(new.get("roles", [])) != len(service.roles):
        raise FlowError("Immutable value: `service/roles size` can not be changed")
    for key in IMMUTABLE_SERVICE:
        if new.get(key) is not None if append else new.get(key) != service.body.get(key):
            raise FlowError(f"Immutable value: `service/{key}` can not be changed")
    if append:
        return
    for role in new["roles"]:
        old = service.role(role.get("name"))
        if old is None:
            raise FlowError("To change `service/name` use rename operation")
        for key in IMMUTABLE_ROLE:
            if role.get(key) != old.get(key):
                raise FlowError(f"Immutable value: `role/{key}` can not be changed")
