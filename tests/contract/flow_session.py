# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The recorded session played again on a zone under test: the same situations in the same order."""

from __future__ import annotations

from dataclasses import dataclass, field

from flow_recordings import Answer, load, names
from flow_world import ALICE, World, answer

DEPLOYING, RUNNING, WARNING, FAILED_DEPLOYING, FAILED_SCALING, COOLDOWN, DEPLOYING_NETS, HOLD = 1, 2, 4, 7, 9, 10, 11, 15


@dataclass
class Played:
    """What the zone under test answered, by recording name, and the documents of VMs that OneFlow made."""

    oneflow: dict[str, Answer] = field(default_factory=dict)
    onegate: dict[str, Answer] = field(default_factory=dict)
    vms: dict[str, dict] = field(default_factory=dict)


class Session:
    """The session that was recorded on 7.4."""

    def __init__(self, world: World):
        self.world = world
        self.answers = Played()

    def play(self) -> None:
        self.errors_and_templates()
        self.federation()
        self.without_gate()
        self.failed_boot()
        self.bad_templates()
        self.user_inputs()
        self.hold()
        self.failed_scaling()
        self.deployment_none()
        self.quoting()
        self.login_token()

    def flow(self, name: str, path: str | None = None, **options: object) -> None:
        self.answers.oneflow[name] = self.world.replay(name, path, **options)

    def gate(self, name: str, vm_id: int, path: str | None = None, headers: dict | None = None) -> None:
        self.answers.onegate[name] = self.world.replay_gate(name, vm_id, path, headers)

    def see(self, name: str, service_id: int) -> None:
        self.flow(name, f"/service/{service_id}")

    def see_vm(self, name: str, vm_id: int) -> None:
        self.world.wait(f"VM {vm_id} to run", lambda: self.world.running(vm_id))
        self.answers.vms[name] = self.world.vm(vm_id)

    def errors_and_templates(self, first: int = 3, unwanted: tuple[int, ...] = (1, 2)) -> None:
        self.flow("err.401.noauth", session=None)
        self.flow("err.401.badpw", session="oneadmin:bad")
        for name in ("err.404.service_template", "err.404.route", "err.400.badjson", "err.400.noroles",
                     "err.400.card_gt_max", "POST.service_template.template_id_string", "err.400.deployment_enum",
                     "POST.role_without_type", "POST.ghost_parent", "POST.parent_cycle"):
            self.flow(name)
        for template_id in unwanted:
            self.world.flow("DELETE", f"/service_template/{template_id}")
        federation = load(self.world.release, "oneflow", "err.PUT.404").body
        for _copy in range(2):
            self.world.flow("POST", "/service_template", federation)
        for name in ("GET.service_template", "GET.service_template.id", "err.PUT.immutable", "err.PUT.400.badjson",
                     "err.PUT.404", "err.instantiate.404"):
            self.flow(name)
        updated = federation.replace('"two roles"', '"updated"')
        assert self.world.flow("PUT", f"/service_template/{first}", updated).status_code == 200
        self.flow("POST.clone")
        self.flow("DELETE.service_template")

    def federation(self) -> None:
        world = self.world
        service = world.instantiate(3, name="svc1")
        path = f"/service/{service}"
        world.wait_state(service, DEPLOYING)
        self.see("GET.service.02_DEPLOYING", service)
        self.flow("GET.service.pool")
        superlink = world.vms(service, "superlink")[0]
        self.see_vm("one.vm.info.service_master_running", superlink)
        for name in ("GET.service.gated", "GET.root", "PUT.vm.custom"):
            self.gate(name, superlink)
        world.ready(superlink)
        world.wait("the SuperNodes", lambda: len(world.vms(service, "supernode")) == 2)
        self.see("GET.service.03_DEPLOYING", service)
        nodes = world.vms(service, "supernode")
        self.see_vm("one.vm.info.service_worker_running", nodes[0])
        world.ready(*nodes)
        world.wait_state(service, RUNNING)
        self.gates_of_running_service(superlink, nodes[0])
        self.scaling(service, path, superlink)
        self.changes(service, path)
        self.roles(service, path)
        self.flow("DELETE.service", path)
        world.wait_gone(service)
        for name in ("GET.service.40_UNDEPLOYING", "GET.service.41_http404", "err.DELETE.again"):
            self.flow(name, path)
        self.flow("GET.service.after_delete")
        self.gate("GET.vm.done_vm", superlink)

    def gates_of_running_service(self, superlink: int, node: int) -> None:
        world = self.world
        for name in ("GET.service.running.extended", "GET.service.running.extended_false"):
            self.gate(name, superlink)
        self.gate("GET.vms.id", superlink, f"/vms/{node}")
        self.gate("PUT.vms.id", superlink, f"/vms/{node}")
        world.gate("PUT", "/vm?type=2", superlink, "FOO")
        self.gate("GET.vm.after", superlink)
        token = world.core.vm_token(superlink)
        self.gate("err.401.noheaders", superlink, headers={})
        self.gate("err.401.novmid", superlink, headers={"X-ONEGATE-TOKEN": token})
        headers = {"X-ONEGATE-TOKEN": token, "X-ONEGATE-VMID": str(node)}
        self.gate("err.401.token_of_other_vm", superlink, headers=headers)
        self.gate("err.unknown_route", superlink)

    def scaling(self, service: int, path: str, superlink: int) -> None:
        world = self.world
        for name in ("err.scale.no_force_key", "err.scale.above_max", "err.scale.unknown_role", "err.scale.no_role",
                     "err.scale.badjson"):
            self.flow(name, f"{path}/scale")
        self.flow("err.scale.404")
        self.evaluate_policies(service)
        self.see("GET.service.11_RUNNING", service)
        self.flow("POST.scale.up", f"{path}/scale")
        self.see("GET.service.12_SCALING", service)
        self.flow("err.scale.while_scaling", f"{path}/scale")
        world.ready(world.vms(service, "supernode")[-1])
        world.wait_state(service, COOLDOWN)
        self.flow("err.scale.while_cooldown", f"{path}/scale")
        self.flow("err.DELETE.while_cooldown", path)
        self.cool_down(service)
        self.see("GET.service.14_RUNNING", service)
        self.flow("POST.scale.down", f"{path}/scale")
        world.wait_state(service, COOLDOWN)
        self.cool_down(service)
        self.gate("PUT.service.role", superlink)
        self.gate("err.PUT.service.role.while_scaling", superlink)
        world.ready(world.vms(service, "supernode")[-1])
        world.wait_state(service, COOLDOWN)
        self.cool_down(service)

    def cool_down(self, service: int) -> None:
        self.world.advance(300)
        self.world.wait_state(service, RUNNING)

    def changes(self, service: int, path: str) -> None:
        world = self.world
        for name in ("POST.action.rename", "POST.action.chmod", "err.action.unknown_service",
                     "err.action.release_not_hold"):
            self.flow(name, f"{path}/action")
        changed = {**world.body(service), "description": "changed"}
        self.flow("PUT.service", path, body=changed)
        self.flow("err.PUT.service.immutable", path, body={**changed, "ready_status_gate": False})
        world.flow("PUT", path, {"append": True, "template": '{"description": "appended"}'})
        self.see("GET.service.after_update", service)

    def roles(self, service: int, path: str) -> None:
        world = self.world
        self.flow("err.role.action.ghost", f"{path}/role/ghost/action")
        for name in ("err.role.action.unknown", "err.role.action.noparams", "POST.role.action.poweroff"):
            self.flow(name, f"{path}/role/supernode/action")
        world.wait_state(service, WARNING)
        nodes = world.vms(service, "supernode")
        world.wait("all SuperNodes off", lambda: all(world.vm(node)["STATE"] == "8" for node in nodes))
        self.see("GET.service.21_WARNING", service)
        self.flow("err.scale.while_warning", f"{path}/scale")
        world.act(f"{path}/role/supernode", "resume")
        world.wait_state(service, RUNNING)
        self.see("GET.service.22_RUNNING", service)
        self.evaluate_policies(service)
        self.see("GET.service.31_RUNNING", service)
        self.elasticity(service)
        self.see("GET.service.35_RUNNING", service)
        self.flow("POST.role_action.add_role", f"{path}/role_action")
        self.see("GET.service.36_DEPLOYING", service)
        world.ready(*world.vms(service, "extra"))
        world.wait_state(service, RUNNING)
        self.see("GET.service.37_RUNNING", service)
        self.flow("err.role_action.remove_ghost", f"{path}/role_action")
        world.flow("POST", f"{path}/role_action", {"action": {"perform": "remove_role", "params": {"role": "extra"}}})
        world.wait_state(service, RUNNING)
        for name in ("GET.service.38_UNDEPLOYING", "GET.service.39_RUNNING"):
            self.see(name, service)

    def evaluate_policies(self, service: int) -> None:
        """Let the policy of the SuperNodes be evaluated once."""
        def policy() -> dict:
            return self.world.role(service, "supernode")["elasticity_policies"][0]

        before = policy().get("last_eval")
        self.world.advance(6)
        with self.world.policies():
            self.world.wait("an evaluation", lambda: policy().get("last_eval") != before)

    def elasticity(self, service: int) -> None:
        """One VM is ended by hand, and the load of the others makes the policy fire."""
        world = self.world
        world.call("one.vm.action", "terminate-hard", world.vms(service, "supernode")[0])
        world.wait("one VM less", lambda: len(world.vms(service, "supernode")) == 2)
        for node in world.vms(service, "supernode"):
            world.gate("PUT", "/vm", node, "LOAD=90")
        for _time in range(2):
            self.evaluate_policies(service)
        world.ready(world.vms(service, "supernode")[-1])
        world.wait_state(service, COOLDOWN)
        world.advance(8)
        world.wait_state(service, RUNNING)

    def without_gate(self) -> None:
        world = self.world
        role = world.vm_role(context=True)
        template = world.create(name="nogate", roles=[role])
        service = world.instantiate(template)
        path = f"/service/{service}"
        world.wait_state(service, RUNNING)
        self.see("GET.service.73_RUNNING", service)
        self.flow("err.403or401.service_of_other_user", path, session=ALICE)
        self.flow("err.DELETE.service_of_other_user", path, session=ALICE)
        self.flow("GET.service.as_other_user", session=ALICE)
        self.flow("err.instantiate.denied", f"/service_template/{template}/action", session=ALICE)
        self.flow("err.scale.denied", f"{path}/scale", session=ALICE)
        self.flow("POST.scale.to_zero", f"{path}/scale")
        world.wait_state(service, COOLDOWN)
        self.see("GET.service.74_COOLDOWN", service)
        self.flow("POST.action.recover_cooldown", f"{path}/action")
        self.see("GET.service.75_RUNNING", service)
        self.flow("DELETE.service_template.with_live_service", f"/service_template/{template}")

    def failed_boot(self) -> None:
        world = self.world
        role = world.vm_role(context=True)
        template = world.create(name="fail", roles=[role], ready_status_gate=True)
        with world.broken("deploy"):
            service = world.instantiate(template)
            world.wait_state(service, FAILED_DEPLOYING)
        self.see("GET.service.102_FAILED_DEPLOYING", service)
        self.flow("err.DELETE.failed_deploying", f"/service/{service}")
        with world.held("shutdown"):
            self.flow("POST.action.recover_delete", f"/service/{service}/action")
            self.see("GET.service.104_UNDEPLOYING", service)
        world.wait_gone(service)
        service = world.instantiate(template)
        world.wait_state(service, DEPLOYING)
        for name in ("GET.service.131_DEPLOYING_NETS", "GET.service.132_DEPLOYING"):
            self.see(name, service)
        self.delete_anyhow("GET.service.135_http404", service)

    def delete_anyhow(self, name: str, service: int) -> None:
        self.world.act(f"/service/{service}", "recover", delete=True)
        self.world.wait_gone(service)
        self.see(name, service)

    def bad_templates(self) -> None:
        world = self.world
        template = world.create(name="badtpl", roles=[world.vm_role(template=999)])
        self.flow("POST.instantiate.bad_vm_template", f"/service_template/{template}/action")
        service = self.created("POST.instantiate.bad_vm_template")
        world.wait_state(service, FAILED_DEPLOYING)
        self.see("GET.service.161_DEPLOYING_NETS", service)
        self.delete_anyhow("GET.service.164_http404", service)
        template = world.create(name="ghost", roles=[world.vm_role(parents=["nobody"])])
        service = world.instantiate(template)
        world.wait_state(service, DEPLOYING_NETS)
        self.see("GET.service.191_DEPLOYING_NETS", service)
        self.delete_anyhow("GET.service.192_http404", service)

    def created(self, name: str) -> int:
        text = self.answers.oneflow[name].text
        return int(text.split('"ID": "', 1)[1].split('"', 1)[0])

    def user_inputs(self) -> None:
        world = self.world
        role = world.vm_role(cardinality=2)
        template = world.create(name="inputs", roles=[role], user_inputs={"ATT": "M|text|desc| |x"})
        self.flow("err.instantiate.user_inputs_missing", f"/service_template/{template}/action")
        with world.held("deploy"):
            service = world.instantiate(template, name="renamed", user_inputs_values={"ATT": "hello"})
            world.wait_state(service, DEPLOYING)
            self.see("GET.service.222_DEPLOYING", service)
        self.see_vm("one.vm.info.service_user_inputs", world.vms(service, "a")[0])
        self.delete_anyhow("GET.service.225_http404", service)

    def hold(self) -> None:
        world = self.world
        role = world.vm_role(context=True)
        service = world.instantiate(world.create(name="hold", roles=[role], on_hold=True))
        world.wait_state(service, HOLD)
        self.see("GET.service.251_HOLD", service)
        self.flow("POST.action.release", f"/service/{service}/action")
        world.wait_state(service, RUNNING)
        self.see("GET.service.252_RUNNING", service)
        self.delete_anyhow("GET.service.225_http404", service)

    def failed_scaling(self) -> None:
        world = self.world
        role = world.vm_role(cooldown=3, min_vms=1, max_vms=4)
        template = world.create(name="fs", roles=[role], ready_status_gate=False)
        with world.held("deploy"):
            self.flow("POST.instantiate.noparams", f"/service_template/{template}/action")
            service = self.created("POST.instantiate.noparams")
            world.wait_state(service, DEPLOYING)
            self.see("GET.service.301_DEPLOYING", service)
        path = f"/service/{service}"
        world.wait_state(service, RUNNING)
        self.see("GET.service.302_RUNNING", service)
        with world.held("deploy", fail=True) as has_begun:
            world.flow("POST", f"{path}/scale", {"role_name": "a", "cardinality": 2, "force": False})
            self.see("GET.service.303_SCALING", service)
            world.wait("the deployment of the new VM to begin", has_begun)
        world.wait_state(service, FAILED_SCALING)
        self.see("GET.service.304_FAILED_SCALING", service)
        self.flow("POST.action.recover_failed_scaling", f"{path}/action")
        world.wait_state(service, COOLDOWN)
        self.see("GET.service.305_COOLDOWN", service)
        self.cool_down(service)
        self.see("GET.service.306_RUNNING", service)
        with world.held("deploy"):
            self.flow("POST.scale.force_above_max", f"{path}/scale")
            self.see("GET.service.307_SCALING", service)
        world.wait_state(service, COOLDOWN)
        self.see("GET.service.308_COOLDOWN", service)
        self.cool_down(service)
        self.see("GET.service.309_RUNNING", service)
        world.call("one.vm.action", "poweroff-hard", world.vms(service, "a")[0])
        world.wait_state(service, WARNING)
        self.see("GET.service.310_WARNING", service)
        with world.held("shutdown"):
            self.flow("DELETE.service.in_warning", path)
            self.see("GET.service.311_UNDEPLOYING", service)
        world.wait_gone(service)
        self.see("GET.service.312_UNDEPLOYING_NETS", service)

    def deployment_none(self) -> None:
        world = self.world
        roles = [world.vm_role(cooldown=0), world.vm_role("b", parents=["a"])]
        template = world.create(name="none", roles=roles, ready_status_gate=True, deployment="none")
        service = world.instantiate(template)
        world.wait_state(service, DEPLOYING)
        for name in ("GET.service.405_DEPLOYING_NETS", "GET.service.406_DEPLOYING"):
            self.see(name, service)
        b = world.vms(service, "b")[0]
        world.gate("PUT", "/vm", b, "NOTREADY=YES")
        world.wait("role b to run", lambda: world.role(service, "b")["state"] == RUNNING)
        self.see("GET.service.407_DEPLOYING", service)
        world.act(f"/service/{service}", "recover", delete=True)
        world.wait_gone(service)
        for name in ("GET.service.403_UNDEPLOYING", "GET.service.404_http404", "GET.service.408_UNDEPLOYING",
                     "GET.service.409_http404"):
            self.see(name, service)

    def quoting(self) -> None:
        vm_id = self.world.call("one.template.instantiate", 0, "alone", False, "", False)
        quoted = [name for name in names(self.world.release, "onegate") if name.startswith("PUT.vm.quoting.")]
        for name in (*quoted, "PUT.vm.form_content_type", "err.GET.service.not_in_service"):
            self.gate(name, vm_id)

    def login_token(self) -> None:
        token = self.world.core.call(ALICE, "one.user.login", "alice", "", 3600)
        response = self.world.flow("GET", "/service", session=f"alice:{token}")
        self.answers.oneflow["GET.service.login_token"] = answer(response)
