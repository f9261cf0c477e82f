# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The session that was recorded on 6.10, as far as it went another way than that of 7.4."""

from __future__ import annotations

from flow_session import (
    COOLDOWN,
    DEPLOYING,
    FAILED_DEPLOYING,
    FAILED_SCALING,
    HOLD,
    RUNNING,
    WARNING,
    Session,
)
from flow_world import ALICE


class Session610(Session):
    """The session that was recorded on 6.10."""

    def play(self) -> None:
        self.errors_and_templates(first=4, unwanted=(2, 3))
        self.federation()
        self.without_gate()
        self.failed_boot()
        self.bad_templates()
        self.user_inputs()
        self.hold()
        self.failed_scaling()
        self.escaping()
        self.deployment_none()
        self.documents_of_7()
        self.documents()
        self.custom_attributes()
        self.role_attributes()
        self.plain()
        self.networks()
        self.routes()
        self.contexts()
        self.role_order()
        self.pasted_values()
        self.quoting()
        self.login_token()

    def federation(self) -> None:
        world = self.world
        service = world.instantiate(4, name="svc1")
        path = f"/service/{service}"
        world.wait_state(service, DEPLOYING)
        self.flow("GET.service.pool")
        superlink = world.vms(service, "superlink")[0]
        self.see_vm("one.vm.info.service_master_running", superlink)
        for name in ("GET.service.gated", "GET.root", "PUT.vm.custom"):
            self.gate(name, superlink)
        world.ready(superlink)
        world.wait("the SuperNodes", lambda: len(world.vms(service, "supernode")) == 2)
        self.see("GET.service.02_DEPLOYING", service)
        nodes = world.vms(service, "supernode")
        self.see_vm("one.vm.info.service_worker_running", nodes[0])
        world.ready(*nodes)
        world.wait_state(service, RUNNING)
        self.see("GET.service.03_RUNNING", service)
        self.gates_of_running_service(superlink, nodes[0])
        self.scaling(service, path, superlink)
        self.evaluate_policies(service)
        self.changes(service, path)
        self.roles(service, path)
        self.flow("DELETE.service", path)
        world.wait_gone(service)
        for name in ("GET.service.40_UNDEPLOYING", "GET.service.41_http404", "err.DELETE.again"):
            self.flow(name, path)
        self.flow("GET.service.after_delete")
        self.gate("GET.vm.done_vm", superlink)

    def scaling(self, service: int, path: str, superlink: int) -> None:
        world = self.world
        for name in ("err.scale.above_max", "err.scale.unknown_role", "err.scale.no_role", "err.scale.badjson"):
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
        self.see("GET.service.15_COOLDOWN", service)
        self.cool_down(service)
        self.see("GET.service.16_RUNNING", service)
        self.gate("PUT.service.role", superlink)
        self.gate("err.PUT.service.role.while_scaling", superlink)
        world.ready(world.vms(service, "supernode")[-1])
        world.wait_state(service, COOLDOWN)
        self.cool_down(service)
        self.see("GET.service.19_RUNNING", service)

    def roles(self, service: int, path: str) -> None:
        world = self.world
        self.flow("err.role.action.ghost", f"{path}/role/ghost/action")
        for name in ("err.role.action.unknown", "err.role.action.noparams", "POST.role.action.poweroff"):
            self.flow(name, f"{path}/role/supernode/action")
        world.wait_state(service, WARNING)
        nodes = world.vms(service, "supernode")
        world.wait("all SuperNodes off", lambda: all(world.vm(node)["STATE"] == "8" for node in nodes))
        self.see("GET.service.20_WARNING", service)
        self.flow("err.scale.while_warning", f"{path}/scale")
        world.act(f"{path}/role/supernode", "resume")
        world.wait_state(service, RUNNING)
        self.see("GET.service.31_RUNNING", service)
        self.elasticity(service)
        self.see("GET.service.35_RUNNING", service)
        self.flow("POST.role_action.add_role", f"{path}/role_action")
        self.see("GET.service.36_DEPLOYING", service)
        world.ready(*world.vms(service, "extra"))
        world.wait_state(service, RUNNING)
        for node in world.vms(service, "supernode"):
            world.gate("PUT", "/vm", node, "LOAD=10")
        self.evaluate_policies(service)
        self.see("GET.service.37_RUNNING", service)
        self.flow("err.role_action.remove_ghost", f"{path}/role_action")
        self.flow("err.role_action.unknown")
        world.flow("POST", f"{path}/role_action", {"action": {"perform": "remove_role", "params": {"role": "extra"}}})
        world.wait_state(service, RUNNING)
        for name in ("GET.service.38_UNDEPLOYING", "GET.service.39_RUNNING"):
            self.see(name, service)

    def without_gate(self) -> None:
        world = self.world
        template = world.create(name="nogate", roles=[world.vm_role(context=True)])
        service = world.instantiate(template)
        path = f"/service/{service}"
        world.wait_state(service, RUNNING)
        self.flow("err.403or401.service_of_other_user", path, session=ALICE)
        self.flow("err.DELETE.service_of_other_user", path, session=ALICE)
        self.flow("GET.service.as_other_user", session=ALICE)
        self.flow("err.instantiate.denied", f"/service_template/{template}/action", session=ALICE)
        self.flow("err.scale.denied", f"{path}/scale", session=ALICE)
        self.flow("POST.scale.to_zero", f"{path}/scale")
        world.wait_state(service, COOLDOWN)
        self.see("GET.service.73_COOLDOWN", service)
        self.flow("POST.action.recover_cooldown", f"{path}/action")
        self.see("GET.service.74_RUNNING", service)
        self.flow("DELETE.service_template.with_live_service", f"/service_template/{template}")
        self.delete_anyhow("GET.service.75_UNDEPLOYING", service)

    def failed_boot(self) -> None:
        world = self.world
        template = world.create(name="fail", roles=[world.vm_role(context=True)], ready_status_gate=True)
        with world.broken("deploy"):
            service = world.instantiate(template)
            world.wait_state(service, FAILED_DEPLOYING)
        self.see("GET.service.102_FAILED_DEPLOYING", service)
        self.flow("err.DELETE.failed_deploying", f"/service/{service}")
        self.flow("POST.action.recover_delete", f"/service/{service}/action")
        world.wait_gone(service)
        self.see("GET.service.104_UNDEPLOYING", service)
        service = world.instantiate(template)
        world.wait_state(service, DEPLOYING)
        self.see("GET.service.131_DEPLOYING", service)
        world.ready(*world.vms(service, "a"))
        world.wait_state(service, RUNNING)
        self.see("GET.service.132_RUNNING", service)
        with world.held("shutdown"):
            world.flow("DELETE", f"/service/{service}")
            self.see("GET.service.133_UNDEPLOYING", service)
        world.wait_gone(service)
        self.see("GET.service.134_http404", service)

    def bad_templates(self) -> None:
        world = self.world
        template = world.create(name="badtpl", roles=[world.vm_role(template=999)])
        self.flow("POST.instantiate.bad_vm_template", f"/service_template/{template}/action")
        service = self.created("POST.instantiate.bad_vm_template")
        world.wait_state(service, FAILED_DEPLOYING)
        self.see("GET.service.161_FAILED_DEPLOYING", service)
        self.delete_anyhow("GET.service.162_http404", service)
        template = world.create(name="ghost", roles=[world.vm_role(parents=["nobody"])])
        service = world.instantiate(template)
        self.see("GET.service.191_DEPLOYING_NETS", service)
        self.delete_anyhow("GET.service.192_http404", service)

    def user_inputs(self) -> None:
        world = self.world
        template = world.create(
            name="inputs", roles=[world.vm_role(cardinality=2)], custom_attrs={"ATT": "M|text|desc| |x"}
        )
        self.flow("err.instantiate.user_inputs_missing", f"/service_template/{template}/action")
        with world.held("deploy"):
            service = world.instantiate(template, name="renamed", custom_attrs_values={"ATT": "hello"})
            world.wait_state(service, DEPLOYING)
            self.see("GET.service.221_DEPLOYING", service)
        world.wait_state(service, RUNNING)
        self.see("GET.service.222_RUNNING", service)
        self.see_vm("one.vm.info.service_user_inputs", world.vms(service, "a")[0])
        self.delete_anyhow("GET.service.223_http404", service)

    def hold(self) -> None:
        world = self.world
        service = world.instantiate(world.create(name="hold", roles=[world.vm_role(context=True)], on_hold=True))
        world.wait_state(service, HOLD)
        for name in ("GET.service.251_DEPLOYING_NETS", "GET.service.252_HOLD"):
            self.see(name, service)
        self.flow("POST.action.release", f"/service/{service}/action")
        world.wait_state(service, RUNNING)
        self.see("GET.service.253_RUNNING", service)
        self.delete_anyhow("GET.service.223_http404", service)

    def failed_scaling(self) -> None:
        world = self.world
        role = world.vm_role(cooldown=3, min_vms=1, max_vms=4)
        template = world.create(name="fs", roles=[role], ready_status_gate=False)
        with world.held("deploy"):
            self.flow("POST.instantiate.noparams", f"/service_template/{template}/action")
            service = self.created("POST.instantiate.noparams")
            world.wait_state(service, DEPLOYING)
            for name in ("GET.service.301_DEPLOYING_NETS", "GET.service.302_DEPLOYING"):
                self.see(name, service)
        path = f"/service/{service}"
        world.wait_state(service, RUNNING)
        with world.held("deploy", fail=True) as has_begun:
            world.flow("POST", f"{path}/scale", {"role_name": "a", "cardinality": 2, "force": False})
            self.see("GET.service.304_SCALING", service)
            world.wait("the deployment of the new VM to begin", has_begun)
        world.wait_state(service, FAILED_SCALING)
        self.see("GET.service.305_FAILED_SCALING", service)
        self.flow("POST.action.recover_failed_scaling", f"{path}/action")
        world.wait_state(service, COOLDOWN)
        self.see("GET.service.306_COOLDOWN", service)
        self.cool_down(service)
        self.see("GET.service.307_RUNNING", service)
        with world.held("deploy"):
            self.flow("POST.scale.force_above_max", f"{path}/scale")
            self.see("GET.service.308_SCALING", service)
        world.wait_state(service, COOLDOWN)
        self.see("GET.service.309_COOLDOWN", service)
        self.cool_down(service)
        world.call("one.vm.action", "poweroff-hard", world.vms(service, "a")[0])
        world.wait_state(service, WARNING)
        self.see("GET.service.311_WARNING", service)
        with world.held("shutdown"):
            self.flow("DELETE.service.in_warning", path)
            self.see("GET.service.312_UNDEPLOYING", service)
        world.wait_gone(service)

    def escaping(self) -> None:
        world = self.world
        service = world.instantiate(world.create(name="esc", roles=[world.vm_role(cooldown=0)], ready_status_gate=False))
        world.wait_state(service, RUNNING)
        self.see("GET.service.403_RUNNING", service)
        self.delete_anyhow("GET.service.404_UNDEPLOYING", service)
        self.see("GET.service.405_http404", service)

    def deployment_none(self) -> None:
        world = self.world
        roles = [world.vm_role(cooldown=0), world.vm_role("b", parents=["a"])]
        template = world.create(name="none", roles=roles, ready_status_gate=True, deployment="none")
        with world.stopped():
            service = world.instantiate(template)
            self.see("GET.service.406_DEPLOYING_NETS", service)
        world.wait_state(service, DEPLOYING)
        self.see("GET.service.407_DEPLOYING", service)
        self.delete_anyhow("GET.service.409_UNDEPLOYING", service)
        self.see("GET.service.410_http404", service)

    def documents_of_7(self) -> None:
        """What comes of documents in the words of 7.x."""
        for name in ("err.7x.document", "POST.7x.plus_vm_template", "err.7x.contents_object", "POST.7x.type_weird",
                     "POST.7x.user_inputs"):
            self.flow(name)
        path = f"/service_template/{self.created('POST.7x.user_inputs')}/action"
        for name in ("POST.instantiate.7x.user_inputs_missing", "POST.instantiate.7x.user_inputs_values"):
            self.start(name, path)

    def documents(self) -> None:
        for name in ("err.400.no_vm_template", "POST.cardinality_string", "POST.defaults", "POST.vm_template_missing",
                     "POST.roles_empty", "err.400.custom_attrs_string"):
            self.flow(name)

    def custom_attributes(self) -> None:
        world = self.world
        self.flow("POST.custom_attrs")
        path = f"/service_template/{self.created('POST.custom_attrs')}/action"
        for name in ("err.instantiate.custom_attrs_noparams", "err.instantiate.custom_attrs_missing",
                     "err.instantiate.custom_attrs_empty", "err.instantiate.custom_attrs_partial",
                     "err.instantiate.custom_attrs_badtype", "err.instantiate.7x_names_for_values",
                     "err.instantiate.custom_attrs_number"):
            self.flow(name, path)
        with world.held("deploy"):
            service = self.start("POST.instantiate.custom_attrs_values", path)
            world.wait_state(service, DEPLOYING)
            self.see("GET.service.501_DEPLOYING_NETS", service)
        world.wait_state(service, RUNNING)
        self.see("GET.service.503_RUNNING", service)
        self.see_vm("one.vm.info.custom_attrs", world.vms(service, "a")[0])

    def role_attributes(self) -> None:
        self.flow("POST.role_custom_attrs")
        path = f"/service_template/{self.created('POST.role_custom_attrs')}/action"
        for name in ("err.instantiate.role_custom_attrs_missing", "err.instantiate.role_custom_attrs_norole",
                     "POST.instantiate.role_custom_attrs_wrong_index"):
            self.flow(name, path)
        self.start("POST.instantiate.role_custom_attrs_values", path)

    def plain(self) -> None:
        self.flow("POST.plain")
        path = f"/service_template/{self.created('POST.plain')}/action"
        self.start("POST.instantiate.role_user_inputs_values", path)
        self.flow("err.instantiate.badcard", path)

    def networks(self) -> None:
        world = self.world

        def template(default: str) -> str:
            role = {**world.vm_role(), "vm_template_contents": 'NIC=[NETWORK_ID="$Private"]'}
            declared = {"Private": f"M|network|Private network| |{default}"}
            return f"/service_template/{world.create(name='n', roles=[role], networks=declared, deployment='none')}/action"

        self.start("POST.instantiate.net_default", template("id:0"), "GET.service.504_DEPLOYING_NETS")
        with world.held("deploy"):
            service = self.start("POST.instantiate.net_empty_default", template("id:"))
            world.wait_state(service, DEPLOYING)
            self.see("GET.service.507_DEPLOYING", service)
        world.wait_state(service, RUNNING)
        self.see("GET.service.508_RUNNING", service)
        values = {"networks_values": [{"Private": {"id": "0"}}]}
        response = world.act(template("id:0").removesuffix("/action"), "instantiate", merge_template=values)
        service = int(response.json()["DOCUMENT"]["ID"])
        world.wait_state(service, RUNNING)
        self.see("GET.service.510_RUNNING", service)
        self.flow("err.instantiate.net_values_missing", template(""))
        service = self.start("POST.instantiate.net_missing_vnet", template("id:999"))
        world.wait_state(service, FAILED_DEPLOYING)
        for name in ("GET.service.511_DEPLOYING_NETS", "GET.service.512_FAILED_DEPLOYING"):
            self.see(name, service)
        values = {"networks_values": [{"Private": {"reserve_from": "0", "extra": "SIZE=2"}}]}
        with world.held("deploy"):
            path = template("reserve_from:0").removesuffix("/action")
            response = world.act(path, "instantiate", merge_template=values)
            service = int(response.json()["DOCUMENT"]["ID"])
            world.wait_state(service, DEPLOYING)
            for name in ("GET.service.513_DEPLOYING_NETS", "GET.service.514_DEPLOYING"):
                self.see(name, service)
        world.act(f"/service/{service}", "recover", delete=True)
        world.wait_gone(service)

    def routes(self) -> None:
        for name in ("err.PUT.role_old_endpoint", "POST.purge_done", "err.GET.service_pool", "err.GET.root"):
            self.flow(name)

    def contexts(self) -> None:
        world = self.world
        self.flow("POST.context_append")
        with world.held("deploy", ("seven",)):
            with world.held("deploy", ("app", "plain")):
                service = world.instantiate(self.created("POST.context_append"))
                world.wait("the first role", lambda: world.role(service, "repl")["state"] == RUNNING)
                for name in ("GET.service.701_DEPLOYING_NETS", "GET.service.702_DEPLOYING"):
                    self.see(name, service)
            world.wait("three roles", lambda: all(world.role(service, name)["state"] == RUNNING for name in ("app", "plain")))
            self.see("GET.service.703_DEPLOYING", service)
        world.wait_state(service, RUNNING)
        for role in ("repl", "app", "seven"):
            self.see_vm(f"one.vm.info.context_{role}", world.vms(service, role)[0])
        self.gate("err.vms_missing", world.vms(service, "repl")[0])
        self.flow("err.scale.no_force_key", f"/service/{service}/scale")
        self.delete_anyhow("GET.service.705_UNDEPLOYING", service)
        self.see("GET.service.706_http404", service)

    def role_order(self) -> None:
        world = self.world
        roles = [{**world.vm_role(name), "vm_template_contents": f'V="{name}"'} for name in "za"]
        path = f"/service_template/{world.create(name='ord', roles=roles, deployment='none')}/action"
        with world.held("deploy"):
            service = self.start("POST.instantiate.roles_swapped", path)
            world.wait_state(service, DEPLOYING)
            self.see("GET.service.801_DEPLOYING", service)
        self.see_vm("one.vm.info.roles_swapped", world.vms(service, "a")[0])
        with world.held("deploy", ("a",)):
            service = self.start("POST.instantiate.roles_first_only", path, "GET.service.804_DEPLOYING_NETS")
            world.wait("role z", lambda: world.role(service, "z")["state"] == RUNNING)
            self.see("GET.service.806_DEPLOYING", service)
        self.see_vm("one.vm.info.roles_first_only", world.vms(service, "a")[0])

    def pasted_values(self) -> None:
        world = self.world
        role = {**world.vm_role(), "vm_template_contents": 'V1="$ATT"\nV2="$ATT2"'}
        declared = {"ATT": "M|text|d| |", "ATT2": "M|text|d| |"}
        template = world.create(name="q", roles=[role], custom_attrs=declared, deployment="none")
        path = f"/service_template/{template}/action"
        with world.held("deploy"):
            prefix = self.start("POST.instantiate.custom_attrs_prefix", path)
            quote = self.start("POST.instantiate.custom_attrs_quote", path, "GET.service.810_DEPLOYING_NETS")
            world.wait_state(quote, DEPLOYING)
            self.see("GET.service.811_DEPLOYING", quote)
            escaped = self.start("POST.instantiate.custom_attrs_escaped_quote", path)
            world.wait_state(escaped, DEPLOYING)
            for name in ("GET.service.813_DEPLOYING_NETS", "GET.service.814_DEPLOYING"):
                self.see(name, escaped)
            values = {"ATT": r"a\\0b, c=[d] e", "ATT2": "x\ny"}
            specials = world.instantiate(template, custom_attrs_values=values)
            world.wait_state(specials, DEPLOYING)
            self.see("GET.service.817_DEPLOYING", specials)
        for name, service in (("prefix", prefix), ("escaped_quote", escaped), ("specials", specials)):
            self.see_vm(f"one.vm.info.custom_attrs_{name}", world.vms(service, "a")[0])

    def start(self, name: str, path: str, seen: str | None = None) -> int:
        """Make a service with a recorded request and look at it before anything happens to it."""
        with self.world.stopped():
            self.flow(name, path)
            service = self.created(name)
            if seen:
                self.see(seen, service)
        return service
