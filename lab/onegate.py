# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OneGate: what a virtual machine may ask about itself and its service, and tell the zone."""

from __future__ import annotations

import json
import logging
import re

from flask import Flask, Response, abort, g, request
from werkzeug.exceptions import HTTPException

from ansible_collections.opennebula.flower.plugins.module_utils.one.template import render
from ansible_collections.opennebula.flower.plugins.module_utils.one.xml import items, section, to_dict
from lab.core import OneError
from lab.core.errors import NO_EXISTS
from lab.oneflow_engine import Flow, FlowError

LOG = logging.getLogger(__name__)

JSON = "application/json;charset=utf-8"
NIC_KEYS = ("IP", "IP6_LINK", "IP6_ULA", "IP6_GLOBAL", "MAC", "NAME", "NETWORK")
HIDDEN_ATTRIBUTES = {"SCHED_MESSAGE"}
RESTRICTED_ATTRIBUTES = {"SCHED_REQUIREMENTS", "SERVICE_ID", "ROLE_NAME"}
#: without content these are sections, everything else without content is an empty text
SECTIONS = {"MONITORING", "SCHED_ACTIONS", "TEMPLATE", "USER_TEMPLATE", "HISTORY_RECORDS", "BACKUPS", "BACKUP_CONFIG",
            "BACKUP_IDS", "SNAPSHOTS"}


class Unreadable(Exception):
    """The body of a PUT is one the real server stumbles over; what oned's parser says about it."""

    def __init__(self, unexpected: str, expected: str) -> None:
        where = "at line 0, columns 0:0"
        super().__init__(f"[one.vm.update] Parse error: syntax error, unexpected {unexpected}, expecting {expected} {where}")


def create_app(core, flow: Flow) -> Flask:
    """The web application of a zone's OneGate."""
    app = Flask(__name__)
    app.url_map.strict_slashes = False
    _add_common(app, core)
    _add_vms(app, core, flow)
    _add_service(app, core, flow)
    return app


def _add_common(app: Flask, core) -> None:
    @app.before_request
    def authenticate():
        vm_id, token = request.headers.get("X-ONEGATE-VMID", ""), request.headers.get("X-ONEGATE-TOKEN", "")
        if not vm_id.isdigit() or not core.vm_of_token(int(vm_id), token):
            return _text("Not authorized", 401)
        owner = to_dict(core.call(core.session_for(0), "one.vm.info", int(vm_id), False))["UID"]
        g.vm_id, g.session = int(vm_id), core.session_for(int(owner))
        return None

    @app.after_request
    def complete(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.errorhandler(HTTPException)
    def unknown_route(error: HTTPException):
        return error.response or _text("OneGate server doesn't support this feature", 400)

    @app.errorhandler(OneError)
    def refused(error: OneError):
        return _text(str(error), 404) if error.code == NO_EXISTS else _stumble(error)

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

    @app.get("/vms/<int:vm_id>")
    def show_sibling(vm_id: int):
        _require_sibling(core, flow, vm_id)
        return _json(_vm_summary(_vm(core, vm_id)))

    @app.put("/vm")
    def update_self():
        return _update(g.vm_id)

    @app.put("/vms/<int:vm_id>")
    def update_sibling(vm_id: int):
        _require_sibling(core, flow, vm_id)
        return _update(vm_id)

    def _update(vm_id: int) -> Response:
        text = request.get_data(as_text=True)
        deleting = request.args.get("type") == "2"
        names = {name.upper() for name in re.findall(r"[^\s,]+", text)} if deleting else set(parse_attributes(text))
        for name in sorted(names & RESTRICTED_ATTRIBUTES):
            _halt(f"Attribute {name} is restricted", 403)
        if deleting:
            # oned can only replace a user template as a whole.
            attributes = section(_vm(core, vm_id), "USER_TEMPLATE")
            kept = {name: value for name, value in attributes.items() if name not in names}
            core.call(g.session, "one.vm.update", vm_id, render(kept), 0)
        else:
            core.call(g.session, "one.vm.update", vm_id, render(parse_attributes(text)), 1)
        return _text("", 200)


def _add_service(app: Flask, core, flow: Flow) -> None:
    @app.get("/service")
    def show_service():
        # Any value of `extended` counts, also "false".
        return _json(_service_summary(core, _own_service(core, flow), bool(request.args.get("extended"))))

    @app.put("/service/role/<role_name>")
    def scale(role_name: str):
        service_id = int(_own_service(core, flow)["ID"])
        try:
            cardinality = int(json.loads(request.get_data(as_text=True))["cardinality"])
            flow.scale(g.session, service_id, role_name, cardinality, False)
        except (FlowError, ValueError, KeyError, TypeError) as error:
            LOG.info("VM %d cannot scale service %d: %s", g.vm_id, service_id, error)
            return _text(f"Error performing action on service {service_id} role {role_name}", 400)
        return _text("", 200)


def parse_attributes(text: str) -> dict[str, str | dict[str, str]]:
    """The attributes of a PUT body as OneGate 7.4 ends up storing them, its mistakes included.

    Raises Unreadable where the real server answers with status 500 (no =, a comma, a stray bracket).
    """
    attributes = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"\w+", name.strip()):
            raise Unreadable("$end", "EQUAL or EQUAL_EMPTY")
        attributes[name.strip().upper()] = _stored_value(value.strip())
    return attributes


def _stored_value(value: str) -> str | dict[str, str]:
    if value.startswith("[") and value.endswith("]"):
        pairs = dict(item.strip().split("=", 1) for item in value[1:-1].split(","))
        last = list(pairs)[-1]
        return {**pairs, last: pairs[last] + '"'}
    wrong = re.search(r"[,\[\]]", value)
    if wrong:
        raise Unreadable({",": "COMMA", "[": "OBRACKET", "]": "CBRACKET"}[wrong.group()], "$end")
    if not value:
        return '"'
    quoted = re.fullmatch(r'"(.*)"', value)
    inner = quoted.group(1) if quoted else value
    if '"' not in inner:
        return inner
    escaped = inner.replace('\\"', '""')
    return f'"{escaped}"'


def _own_service(core, flow: Flow) -> dict:
    """The document of the calling VM's service."""
    service_id = section(_vm(core, g.vm_id), "USER_TEMPLATE").get("SERVICE_ID", "")
    if not service_id.isdigit():
        _halt("Empty or invalid SERVICE_ID", 400)
    document = flow.services.get(g.session, int(service_id))
    _require_member(document, g.vm_id)
    return document


def _require_sibling(core, flow: Flow, vm_id: int) -> None:
    _require_member(_own_service(core, flow), vm_id)


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
    return {key: nic[key] for key in NIC_KEYS if key in nic}


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
