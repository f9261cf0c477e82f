# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OneGate: what a virtual machine may ask about itself and its service, and tell the zone."""

from __future__ import annotations

import json
import logging
import re
from functools import partial
from urllib.parse import parse_qs
from xmlrpc.client import Fault

from flask import Flask, Response, abort, g, request
from werkzeug.exceptions import HTTPException

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import render
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import items, section, to_dict
from lab.core.errors import NO_EXISTS, OneError
from lab.oneflow_engine import Flow, FlowError
from lab.onegate_actions import RESTRICTED, Stumble, perform, to_i

LOG = logging.getLogger(__name__)

JSON = "application/json;charset=utf-8"
NIC_KEYS = {"IP", "IP6_LINK", "IP6_SITE", "IP6_GLOBAL", "NETWORK", "MAC", "NAME", "PARENT", "EXTERNAL", "EXTERNAL_IP"}
HIDDEN_ATTRIBUTES = {"SCHED_MESSAGE"}
RESTRICTED_ATTRIBUTES = {"SCHED_REQUIREMENTS", "SERVICE_ID", "ROLE_NAME"}
#: without content these are sections, everything else without content is an empty text
SECTIONS = {"MONITORING", "SCHED_ACTIONS", "TEMPLATE", "USER_TEMPLATE", "HISTORY_RECORDS", "BACKUPS", "BACKUP_CONFIG",
            "BACKUP_IDS", "SNAPSHOTS"}
FORM = "application/x-www-form-urlencoded"
NETWORK_ATTRIBUTES = ("NETWORK_ADDRESS", "NETWORK_MASK", "GATEWAY", "GATEWAY6", "DNS", "GUEST_MTU", "METRIC", "IP6_METRIC", "SEARCH_DOMAIN")
NO_SIBLINGS = "This VM does not belong to any Virtual Router or Service, so it cannot retrieve information from other VMs"


def create_app(core, flow: Flow) -> Flask:
    """The web application of a zone's OneGate."""
    app = Flask(__name__)
    app.url_map.strict_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    _add_common(app, core)
    _add_vms(app, core, flow)
    _add_service(app, core, flow)
    _add_routers(app, core)
    return app


def _add_common(app: Flask, core) -> None:
    @app.before_request
    def authenticate():
        if request.url_rule is None:
            # What the server has no route for, it refuses without asking who wants it.
            return None
        vm_id, token = request.headers.get("X-ONEGATE-VMID", ""), request.headers.get("X-ONEGATE-TOKEN", "")
        if not vm_id.isdigit() or not core.vm_of_token(int(vm_id), token):
            return _text("Not authorized", 401)
        owner = to_dict(core.call(core.session_for(0), "one.vm.info", int(vm_id), False))["UID"]
        g.vm_id, g.session = int(vm_id), core.session_for(int(owner))
        return None

    @app.after_request
    def complete(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.status_code == 204:
            del response.headers["Content-Type"]
        return response

    @app.errorhandler(HTTPException)
    def unknown_route(error: HTTPException):
        return error.response or _text("OneGate server doesn't support this feature", 400)

    @app.errorhandler(OneError)
    def refused(error: OneError):
        return _text(str(error), 404) if error.code == NO_EXISTS else _stumble(error)

    @app.errorhandler(Stumble)
    def stumbled(error: Stumble):
        return _text(str(error), 500)

    @app.errorhandler(Exception)
    def _stumble(error: Exception):
        LOG.info("request of VM %s failed: %s", g.get("vm_id"), error)
        return _text(core.config.release.gate_failure.format(reason=error), 500)

    @app.get("/")
    def root():
        base = request.host_url.rstrip("/")
        return _json({"vm_info": f"{base}/vm", "service_info": f"{base}/service"})


def _add_vms(app: Flask, core, flow: Flow) -> None:
    @app.get("/vm")
    def show_self():
        return _json(_vm_summary(_vm(core, g.vm_id)))

    @app.get("/vms/<vm_id>")
    def show_sibling(vm_id: str):
        return _json(_vm_summary(_sibling(core, flow, vm_id)))

    @app.put("/vm")
    def update_self():
        return _update(g.vm_id)

    @app.put("/vms/<vm_id>")
    def update_sibling(vm_id: str):
        return _update(int(_sibling(core, flow, vm_id)["ID"]))

    @app.post("/vms/<vm_id>/action")
    def act_on_sibling(vm_id: str):
        number = int(_sibling(core, flow, vm_id)["ID"])
        try:
            body = json.loads(request.get_data(as_text=True))
        except ValueError:
            _halt(f"unexpected token at '{request.get_data(as_text=True)}'", 400)
        if not isinstance(body, dict) or not isinstance(body.get("action", {}), dict):
            raise Stumble(f"undefined method `has_key?' for {json.dumps(body)}")
        if "action" not in body:
            _halt("Error parsing JSON: Wrong resource type", 400)
        action = body["action"].get("perform")
        if action is not None and not isinstance(action, str):
            raise Stumble(f"undefined method `downcase' for {json.dumps(action)}")
        if (action or "").lower() in RESTRICTED:
            _halt(f"Action ({action}) is not allowed on this resource", 403)
        try:
            perform(partial(core.call, g.session), number, action, body["action"].get("params"))
        except (OneError, Fault) as error:
            reason = error.faultString if isinstance(error, Fault) else str(error)
            _halt(core.config.release.gate_failure.format(reason=reason), 500)
        return _text("", 204)

    def _update(vm_id: int) -> Response:
        kind, text = _update_request()
        text = escaped(text)
        verb = "modified" if kind == 1 else "deleted"
        for name in (line.split("=")[0] for line in text.split("\n")):
            if name.upper() in RESTRICTED_ATTRIBUTES:
                _halt(f"Attribute ({name}) cannot be {verb}", 403)
        if kind == 1:
            core.call(g.session, "one.vm.update", vm_id, text, 1)
        else:
            attributes = section(_vm(core, vm_id), "USER_TEMPLATE")
            kept = _without(attributes, text)
            if kind == 2 and kept == attributes:
                raise ValueError("attribute not found")
            if kind == 2:
                # oned can only replace a user template as a whole.
                core.call(g.session, "one.vm.update", vm_id, render(kept), 0)
        return _text("", 200)


def _update_request() -> tuple[int, str]:
    """What a PUT is to do, and the text it is to do it with: the parameter data, of a form or the address, or the body."""
    body = request.get_data(as_text=True)
    form = parse_qs(body, keep_blank_values=True) if request.mimetype == FORM else {}
    given = {name: values[-1] for name, values in form.items()} | request.args.to_dict()
    kind = given.get("type")
    digits = re.match(r"\s*\d+", kind or "")
    return (1 if kind is None else int(digits[0]) if digits else 0), given.get("data", body)


def _without(attributes: dict, path: str) -> dict:
    """The attributes without what a path names, in which * stands for every name."""
    if not re.fullmatch(r"(\w+|\*)(/(\w+|\*))?", path):
        raise Stumble(f"Invalid expression: USER_TEMPLATE/{path}")
    name, _slash, inner = path.partition("/")
    kept = {}
    for key, value in attributes.items():
        if name not in ("*", key):
            kept[key] = value
        elif inner and isinstance(value, dict):
            kept[key] = {part: item for part, item in value.items() if inner not in ("*", part)}
        elif inner:
            kept[key] = value
    return kept


def _add_service(app: Flask, core, flow: Flow) -> None:
    @app.get("/service")
    def show_service():
        # Any value of `extended` counts, also "false".
        return _json(_service_summary(core, _own_service(core, flow), "extended" in request.args))

    @app.put("/service/role/<role_name>")
    def scale(role_name: str):
        service_id = int(_own_service(core, flow)["ID"])
        text = request.get_data(as_text=True)
        try:
            cardinality = json.loads(text).get("cardinality")
        except (ValueError, AttributeError) as error:
            raise Stumble(f"unexpected token at '{text}'") from error
        try:
            flow.scale(g.session, service_id, role_name, to_i(cardinality), False)
        except (FlowError, OneError, Stumble) as error:
            LOG.info("VM %d cannot scale service %d: %s", g.vm_id, service_id, error)
            return _text(f"Error performing action on service {service_id} role {role_name}", 400)
        return _text("", 200)


def _add_routers(app: Flask, core) -> None:
    """What a VM of a virtual router may ask."""

    @app.get("/vrouter")
    def show_router():
        return _json({"VROUTER": _own_router(core)})

    @app.get("/vnet/<vnet_id>")
    def show_network(vnet_id: str):
        if not re.fullmatch(r"[+-]?\d+", vnet_id):
            _halt(f"Invalid id format (ID: {vnet_id}). ID must be an integer.", 400)
        if not section(_vm(core, g.vm_id), "TEMPLATE").get("VROUTER_ID"):
            _halt("Virtual networks information can only be retrieved from Virtual Routers.", 400)
        router = _own_router(core)
        network = _network(core, int(vnet_id))
        if not _is_near(core, network, router):
            _halt(f"Virtual Network {network['ID']} cannot be retrieved from Virtual router {router['ID']}.", 400)
        shown = _network_summary(network)
        if request.args.get("extended", "").lower() == "true":
            _extend(core, shown)
        return _json({"VNET": shown})


def _network(core, number: int) -> dict:
    try:
        return to_dict(core.call(g.session, "one.vn.info", number, False))
    except OneError:
        _halt(f"Virtual network {number} not found", 404)


def _is_near(core, network: dict, router: dict) -> bool:
    """Whether a network is one of a router's, a parent or a reservation of one, or has the same parent."""
    reached = set()
    for number in {nic.get("NETWORK_ID"): None for nic in router["TEMPLATE"]["NIC"]}:
        own = _network(core, to_i(number))
        leases = [lease for row in items(section(own, "AR_POOL"), "AR") for lease in items(section(row, "LEASES"), "LEASE")]
        reached |= {own["ID"], own.get("PARENT_NETWORK_ID"), *(lease["VNET"] for lease in leases if "VNET" in lease)}
        if network["ID"] in reached or (network.get("PARENT_NETWORK_ID") or None) in reached - {"", None}:
            return True
    return False


def _extend(core, network: dict) -> None:
    """Add to the leases of a network what OneGate knows of the VMs that have them."""
    leases = [lease for row in network["AR_POOL"]["AR"] for lease in row["LEASES"]["LEASE"]]
    for lease in leases:
        if not lease.get("VM", "-1").isdigit():
            continue
        vm = _vm(core, int(lease["VM"]))
        template = section(vm, "TEMPLATE")
        nics = items(template, "NIC")
        nic = next((nic for nic in nics if nic.get("MAC") == lease.get("MAC")), None)
        if nic is None:
            nic = next(alias for alias in items(template, "NIC_ALIAS") if alias.get("MAC") == lease.get("MAC"))
            parent = next(other for other in nics if other["NIC_ID"] == nic["PARENT_ID"])
            lease |= {"PARENT": nic.get("PARENT"), "PARENT_NETWORK_ID": parent["NETWORK_ID"],
                      "EXTERNAL": nic.get("EXTERNAL", "").lower() == "yes"}
        lease["NIC_NAME"] = nic.get("NAME")
        if section(template, "CONTEXT").get("BACKEND", "").lower() == "yes":
            lease["BACKEND"] = "YES"
            attributes = section(vm, "USER_TEMPLATE")
            lease |= {name: value for name, value in attributes.items() if name.startswith("ONEGATE_")}


def _own_router(core) -> dict:
    number = section(_vm(core, g.vm_id), "TEMPLATE").get("VROUTER_ID", "")
    if not number.isdigit():
        _halt("Empty or invalid VROUTER_ID", 400)
    try:
        router = to_dict(core.call(g.session, "one.vrouter.info", int(number), False))
    except OneError:
        _halt(f"Virtual router {number} not found", 404)
    members = items(section(router, "VMS"), "ID")
    if str(g.vm_id) not in members:
        _halt(f"Virtual Router {number} does not contain VM {g.vm_id}.", 400)
    template = section(router, "TEMPLATE")
    return {"NAME": router["NAME"], "ID": router["ID"], "VMS": {"ID": members},
            "TEMPLATE": {**template, "NIC": items(template, "NIC")}}


def _network_summary(network: dict) -> dict:
    ranges = [{**item, "LEASES": {"LEASE": items(section(item, "LEASES"), "LEASE")}}
              for item in items(section(network, "AR_POOL"), "AR")]
    template = section(network, "TEMPLATE")
    return {
        **{key: network.get(key, "") for key in ("ID", "NAME", "USED_LEASES")},
        "VROUTERS": {"ID": items(section(network, "VROUTERS"), "ID")},
        "PARENT_NETWORK_ID": network.get("PARENT_NETWORK_ID", ""), "AR_POOL": {"AR": ranges},
        "TEMPLATE": {key: template[key] for key in NETWORK_ATTRIBUTES if key in template},
    }


def escaped(text: str) -> str:
    """A PUT's text as OneGate hands it to oned: it puts quotes where it supposes values to begin and end."""
    parts, quoting = [], False
    for place, sign in enumerate(text):
        # Before the first character it looks at the last one.
        before, after = text[place - 1], text[place + 1:place + 2]
        if sign == "=" and not quoting and after not in ("[", '"'):
            parts.append('="')
            quoting = True
        elif (sign in ",\\\n" and before != '"') or (sign in "[]" and before not in ("=", '"')):
            parts.append(f'"{sign}')
            quoting = quoting and sign in ",["
        else:
            parts.append(sign)
    result = "".join(parts).replace("\\n", "\n")
    return result + '"' if quoting and result[-1] not in ("]", '"') else result


def _own_service(core, flow: Flow) -> dict:
    """The document of the calling VM's service."""
    service_id = section(_vm(core, g.vm_id), "USER_TEMPLATE").get("SERVICE_ID", "")
    if not service_id.isdigit():
        _halt("Empty or invalid SERVICE_ID", 400)
    try:
        document = flow.services.get(g.session, int(service_id))
    except OneError:
        _halt(f"Service {service_id} not found", 404)
    _require_member(document, g.vm_id)
    return document


def _sibling(core, flow: Flow, vm_id: str) -> dict:
    """The VM that is asked for: the calling one, or another of its service or virtual router."""
    number = to_i(vm_id)
    own = _vm(core, g.vm_id)
    if number == g.vm_id:
        return own
    if "SERVICE_ID" in section(own, "USER_TEMPLATE"):
        _require_member(_own_service(core, flow), number)
    elif "VROUTER_ID" in section(own, "TEMPLATE"):
        router = _own_router(core)
        if str(number) not in router["VMS"]["ID"]:
            _halt(f"Virtual Router {router['ID']} does not contain VM {number}.", 400)
    else:
        _halt(NO_SIBLINGS, 400)
    return _vm(core, number)


def _require_member(document: dict, vm_id: int) -> None:
    roles = document["TEMPLATE"]["BODY"]["roles"]
    if vm_id not in [node["deploy_id"] for role in roles for node in role.get("nodes", [])]:
        _halt(f"Service {document['ID']} does not contain VM {vm_id}.", 400)


def _vm(core, vm_id: int) -> dict:
    return to_dict(core.call(g.session, "one.vm.info", vm_id, False))


def _vm_summary(vm: dict) -> dict:
    attributes = section(vm, "USER_TEMPLATE")
    template = section(vm, "TEMPLATE")
    return {
        "VM": {
            **{key: vm[key] for key in ("NAME", "ID", "STATE", "LCM_STATE")},
            "USER_TEMPLATE": {name: value for name, value in attributes.items() if name not in HIDDEN_ATTRIBUTES},
            "TEMPLATE": {kind: [_nic_summary(nic) for nic in items(template, kind)] for kind in ("NIC", "NIC_ALIAS")},
        }
    }


def _nic_summary(nic: dict) -> dict:
    return {key: value for key, value in nic.items() if key in NIC_KEYS}


def _service_summary(core, document: dict, extended: bool) -> dict:
    body = document["TEMPLATE"]["BODY"]
    roles = [
        {
            "name": role["name"],
            "cardinality": role["cardinality"],
            "state": role["state"],
            "nodes": [_node_summary(core, node, extended) for node in role.get("nodes", [])],
        }
        for role in body["roles"]
    ]
    return {"SERVICE": {"name": document["NAME"], "id": document["ID"], "state": body["state"], "roles": roles}}


def _node_summary(core, node: dict, extended: bool) -> dict:
    info = {"VM": _with_sections(_vm(core, node["deploy_id"]))} if extended else node["vm_info"]
    return {"deploy_id": node["deploy_id"], "running": None, "vm_info": info}


def _with_sections(value: dict) -> dict:
    return {
        key: _with_sections(item) if isinstance(item, dict) else {} if item == "" and key in SECTIONS else item
        for key, item in value.items()
    }


def _halt(message: str, status: int) -> None:
    abort(_text(message, status))


def _json(value: dict) -> Response:
    return _text(json.dumps(value, separators=(",", ":"), ensure_ascii=False), 200)


def _text(text: str, status: int) -> Response:
    return Response(text, status, content_type=JSON)
