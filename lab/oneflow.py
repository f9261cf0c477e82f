# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OneFlow's REST interface, with the answers and the oddities of the real server."""

from __future__ import annotations

import copy
import json
from contextlib import suppress

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import UnicodeConverter

from lab.core.errors import AUTHENTICATION, AUTHORIZATION, NO_EXISTS, OneError
from lab.oneflow_documents import Documents
from lab.oneflow_engine import Flow, FlowError
from lab.oneflow_schema import Invalid, instantiate, ruby_type, validate_role, validate_template
from lab.onegate_actions import Stumble, bits_of, to_i

__all__ = ["Flow", "create_app"]

HTML = "text/html;charset=utf-8"
HTTP_CODES = {AUTHENTICATION: 403, AUTHORIZATION: 401, NO_EXISTS: 404}
IMMUTABLE_TEMPLATE = ("registration_time",)
VM_ACTIONS = (
    "terminate", "terminate-hard", "undeploy", "undeploy-hard", "hold", "release", "stop", "suspend", "resume", "reboot",
    "reboot-hard", "poweroff", "poweroff-hard", "snapshot-create", "snapshot-revert", "snapshot-delete",
    "disk-snapshot-create", "disk-snapshot-revert", "disk-snapshot-delete",
)
#: what an action on a service is told to do it with, and how the server calls that
NEEDS = {"chown": ("owner_id", "UID"), "chgrp": ("group_id", "GID"), "chmod": ("octet", "OCTET"), "rename": ("name", "name")}
NO_PARAMS = "undefined method `[]' for nil:NilClass\n\n    opts['period'] ||= conf[:action_period]\n        ^^^^^^^^^^"


class _Number(UnicodeConverter):
    """A part of an address that is read as Ruby reads numbers: what does not begin with digits is 0."""

    def to_python(self, value: str) -> int:
        return to_i(value)


class BadJson(Exception):
    """The request's body is not a JSON object; str() is the JSON parser's complaint."""


def create_app(core, flow: Flow) -> Flask:
    """The web application of a zone's OneFlow."""
    app = Flask(__name__)
    app.url_map.strict_slashes = False
    app.url_map.converters["number"] = _Number
    _add_common(app, core)
    _add_templates(app, core, flow)
    _add_services(app, flow)
    _add_service_actions(app, flow)
    return app


def _add_common(app: Flask, core) -> None:
    """Authentication before, headers after, and errors as the server words them."""

    @app.before_request
    def authenticate():
        credentials = request.authorization
        if credentials is None or credentials.type != "basic":
            return _text("A username and password must be provided", 401)
        g.session = f"{credentials.username}:{credentials.password}"
        try:
            core.authenticate(g.session)
        except OneError:
            return _text("Invalid credentials", 401)
        return None

    @app.after_request
    def complete(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.status_code != 204:
            response.headers["X-XSS-Protection"] = "1; mode=block"
            response.headers["X-Frame-Options"] = "SAMEORIGIN"
        else:
            del response.headers["Content-Type"]
        return response

    app.register_error_handler(OneError, lambda error: _text(str(error), HTTP_CODES.get(error.code, 500)))
    app.register_error_handler(FlowError, lambda error: _text(str(error), 500))
    app.register_error_handler(Invalid, lambda error: _text(str(error), error.status))
    app.register_error_handler(BadJson, lambda error: _text(str(error), 400))
    app.register_error_handler(HTTPException, _unknown_route)
    app.register_error_handler(Exception, _internal_error)


def _add_templates(app: Flask, core, flow: Flow) -> None:
    templates, schema = flow.templates, flow.schema

    @app.get("/service_template")
    def list_templates():
        return _pool(templates.pool(g.session))

    @app.post("/service_template")
    def create_template():
        body = validate_template(schema, _json_body())
        return _created(templates, _register(body["name"], body))

    @app.get("/service_template/<number:template_id>")
    def show_template(template_id: int):
        return _document(templates.get(g.session, template_id))

    @app.put("/service_template/<number:template_id>")
    def update_template(template_id: int):
        old = templates.get(g.session, template_id)["TEMPLATE"]["BODY"]
        _replace(template_id, old, _json_body())
        return _document(templates.get(g.session, template_id))

    @app.delete("/service_template/<number:template_id>")
    def delete_template(template_id: int):
        try:
            with_templates = json.loads(request.get_data(as_text=True))["delete_type"]
        except (ValueError, TypeError, KeyError):
            with_templates = None
        document = templates.get(g.session, template_id)
        if with_templates not in (None, "none"):
            for number in dict.fromkeys(int(role[schema.template]) for role in document["TEMPLATE"]["BODY"]["roles"]):
                core.call(g.session, "one.template.delete", number, with_templates == "all")
        templates.delete(g.session, template_id)
        return _text("", 204)

    @app.post("/service_template/<number:template_id>/action")
    def act_on_template(template_id: int):
        action, params = _action()
        params = params or {}
        if action == "instantiate":
            body = templates.get(g.session, template_id)["TEMPLATE"]["BODY"]
            service = instantiate(schema, body, params.get("merge_template") or {}, core.now())
            return _document(flow.instantiate(g.session, service), 201)
        if action == "clone":
            try:
                copy_id = templates.clone(g.session, template_id, params.get("name"), params.get("recursive"), schema.template)
            except OneError as error:
                raise FlowError(str(error)) from error
            return _created(templates, copy_id)
        # Of what goes wrong from here on the real server says nothing.
        if action == "update" and (params.get("template_json") or params.get("template_raw")):
            with suppress(OneError):
                _update(template_id, params)
            return _text("", 204)
        if _has_needs(action, params):
            with suppress(OneError):
                if action == "chown":
                    # Without a group it takes that of number 0.
                    params = {"group_id": 0, **params}
                _document_action(core, template_id, action, params)
            return _text("", 204)
        # Nor does it of an action it does not know.
        return _text("", 200)

    def _update(template_id: int, params: dict) -> None:
        append = params.get("append") is True
        if not params.get("template_json"):
            templates.get(g.session, template_id)
            core.call(g.session, "one.document.update", template_id, _required_text(params["template_raw"]), int(append))
            return
        body = templates.get(g.session, template_id)["TEMPLATE"]["BODY"]
        new = _parsed(_required_text(params["template_json"]))
        # What may not change is left as it is without a word.
        if all(new.get(key) in (None, body.get(key)) and not (append and key in new) for key in IMMUTABLE_TEMPLATE):
            _replace(template_id, body, {**body, **new} if append else new)

    def _register(name: str, body: dict) -> int:
        return templates.create(g.session, name, {**body, "registration_time": core.now()})

    def _replace(template_id: int, old: dict, new: dict) -> None:
        for key in IMMUTABLE_TEMPLATE:
            # One that was written as a plain document has none.
            if key in old and new.setdefault(key, old[key]) != old[key]:
                raise FlowError(f"Immutable value: `service_template/{key}` can not be changed")
        templates.save(g.session, template_id, validate_template(schema, new))


def _add_services(app: Flask, flow: Flow) -> None:
    services = flow.services

    @app.get("/service")
    def list_services():
        return _pool(services.pool(g.session))

    @app.get("/service/<number:service_id>")
    def show_service(service_id: int):
        return _document(services.get(g.session, service_id))

    @app.put("/service/<number:service_id>")
    def update_service(service_id: int):
        new = _json_body()
        append = new.get("append") if "append" in new else None
        if "append" in new:
            if "template" not in new:
                raise Invalid("Missing template to append")
            new = _parsed(_required_text(new["template"]))
        if not append:
            validate_template(flow.schema, copy.deepcopy(new))
        flow.update(g.session, service_id, new, bool(append))
        return _text("", 204)

    @app.delete("/service/<number:service_id>")
    def delete_service(service_id: int):
        flow.undeploy(g.session, service_id)
        return _text("", 204)

    @app.post("/service_pool/purge_done")
    def purge_done():
        # Services that are done are gone already.
        return _text("", 204)

    def delete_sched_action(service_id: int, sched_id: str, role_name: str = ""):
        if not sched_id.isdigit():
            raise Invalid("Sched action ID must be an integer number")
        flow.forget_action(g.session, service_id, role_name or None, int(sched_id))
        return _text("", 204)

    if flow.core.config.release.forgets_actions:
        for place in ("", "/role/<role_name>"):
            app.delete(f"/service/<number:service_id>{place}/sched_action/<sched_id>")(delete_sched_action)

    @app.post("/service/<number:service_id>/scale")
    def scale(service_id: int):
        try:
            body = _json_body()
        except BadJson as error:
            raise ValueError(str(error)) from error
        role_name = "" if body.get("role_name") is None else body["role_name"]
        flow.scale(g.session, service_id, role_name, to_i(body.get("cardinality")), body.get("force"))
        return _text("", 204)


def _add_service_actions(app: Flask, flow: Flow) -> None:
    schema = flow.schema

    @app.post("/service/<number:service_id>/action")
    def act_on_service(service_id: int):
        action, params = _action()
        if action == "recover":
            if (params or {}).get("delete"):
                flow.undeploy(g.session, service_id, force=True)
            else:
                flow.recover(g.session, service_id)
        elif action == "release":
            flow.release(g.session, service_id)
        elif action in VM_ACTIONS:
            if params is None:
                raise ValueError(NO_PARAMS)
            flow.act(g.session, service_id, None, action, params)
        else:
            key, called = NEEDS.get(action, ("", ""))
            if key and not _is_given(params or {}, key):
                raise FlowError(f"Action {action}: You have to specify {'an' if action == 'chmod' else 'a'} {called}")
            if not key:
                raise FlowError(f"Action {action} not supported")
            service = flow.get(g.session, service_id)
            if action in ("chown", "chgrp"):
                params = params if action == "chown" else {"group_id": params["group_id"]}
                service.give(g.session, to_i(params.get("owner_id", -1)), to_i(params.get("group_id", -1)))
            _document_action(flow.core, service_id, action, params)
        return _text("", 204)

    @app.post("/service/<number:service_id>/role/<role_name>/action")
    def act_on_role(service_id: int, role_name: str):
        action, params = _action()
        if params is None:
            raise ValueError(NO_PARAMS)
        flow.act(g.session, service_id, role_name, action, params)
        return _text("", 204)

    @app.post("/service/<number:service_id>/role_action")
    def act_on_roles(service_id: int):
        action, params = _action()
        if action in ("add_role", "remove_role") and params is None:
            raise ValueError("undefined method `[]' for nil:NilClass")
        if action == "add_role":
            role = params.get("role")
            # The command line sends a text, Sunstone an object.
            role = role if isinstance(role, dict) else _parsed(_required_text(role))
            flow.add_role(g.session, service_id, validate_role(schema, role))
        elif action == "remove_role":
            flow.remove_role(g.session, service_id, "" if params.get("role") is None else params["role"])
        else:
            raise FlowError(f"Action {action} not supported")
        return _text("", 204)


def _has_needs(action: str, params: dict) -> bool:
    """Whether a service template is told what an action is to be done with."""
    return action == "rename" or (action in NEEDS and _is_given(params, NEEDS[action][0]))


def _is_given(params: dict, name: str) -> bool:
    """Whether a parameter counts in Ruby, where 0 and an empty text do."""
    return params.get(name) is not None and params[name] is not False


def _document_action(core, document_id: int, action: str, params: dict) -> None:
    """Do one of the actions that every document can do."""
    if action == "rename":
        core.call(g.session, "one.document.rename", document_id, params["name"])
    elif action in ("chown", "chgrp"):
        owner, group = to_i(params.get("owner_id", -1)) if action == "chown" else -1, to_i(params.get("group_id", -1))
        core.call(g.session, "one.document.chown", document_id, owner, group)
    else:
        core.call(g.session, "one.document.chmod", document_id, *bits_of(str(params["octet"])))


def _action() -> tuple[str, dict | None]:
    try:
        action = _json_body().get("action")
    except BadJson as error:
        # Where a document is expected, the server minds; here it stumbles.
        raise ValueError(str(error)) from error
    if not isinstance(action, dict):
        raise ValueError(f"undefined method `[]' for {ruby_type(action)}")
    return action.get("perform") or "", action.get("params")


def _json_body() -> dict:
    return _parsed(request.get_data(as_text=True))


def _parsed(text: str) -> dict:
    try:
        value = json.loads(text)
    except ValueError:
        raise BadJson(f"unexpected token at '{text}'") from None
    if not isinstance(value, dict):
        raise BadJson(f"unexpected token at '{text}'")
    return value


def _required_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no implicit conversion of {ruby_type(value)} into String")
    return value


def _text(text: str, status: int) -> Response:
    return Response(text, status, content_type=HTML)


def _json(value: dict, status: int = 200) -> Response:
    return _text(json.dumps(value, indent=2, ensure_ascii=False), status)


def _document(document: dict, status: int = 200) -> Response:
    return _json({"DOCUMENT": document}, status)


def _created(documents: Documents, document_id: int) -> Response:
    return _document(documents.get(g.session, document_id), 201)


def _pool(documents: list[dict]) -> Response:
    return _json({"DOCUMENT_POOL": {"DOCUMENT": documents} if documents else {}})


def _unknown_route(error: HTTPException) -> Response:
    page = "<!DOCTYPE html>\n<html>\n<body>\n  <h2>Sinatra doesn’t know this ditty.</h2>\n</body>\n</html>\n"
    return _text(page, 404 if error.code in (404, 405) else error.code)


def _internal_error(error: Exception) -> Response:
    reason = str(error) if isinstance(error, (TypeError, ValueError, Stumble)) else f"{type(error).__name__}: {error}"
    return _json_line({"message": "Internal server error", "reason": reason})


def _json_line(value: dict) -> Response:
    return _text(json.dumps(value, separators=(",", ":")), 500)
