# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The XML-RPC endpoint: one WSGI application in front of Core.call."""

from __future__ import annotations

import logging
import xmlrpc.client
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

from werkzeug.wrappers import Request, Response

from lab.core.errors import INTERNAL, WRONG_PARAMETERS, OneError

if TYPE_CHECKING:
    from lab.core.api import Core

_LOG = logging.getLogger(__name__)
_PATH = "/RPC2"


def create_app(core: Core):
    """Return the WSGI application of a zone's XML-RPC API."""
    @Request.application
    def application(request: Request) -> Response:
        if request.path != _PATH:
            return Response("Not found\n", 404)
        if request.method != "POST":
            return Response("POST is the only HTTP method this server understands\n", 405)
        return Response(_answer(core, request.get_data()), content_type="text/xml; charset=utf-8")

    return application


def _answer(core: Core, body: bytes) -> str:
    try:
        params, method = xmlrpc.client.loads(body)
        result: object = _call(core, method, params)
    except xmlrpc.client.Fault as fault:
        result = fault
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError) as error:
        result = xmlrpc.client.Fault(-503, f"Call XML not a proper XML-RPC call: {error}")
    if not isinstance(result, xmlrpc.client.Fault):
        result = (result,)
    return xmlrpc.client.dumps(result, methodresponse=True, encoding="UTF-8")


def _call(core: Core, method: str, params: tuple) -> list:
    if not params:
        raise xmlrpc.client.Fault(WRONG_PARAMETERS, "Not enough parameters")
    try:
        # A session of another type is one that nobody has.
        return [True, core.call(str(params[0]), method, *params[1:]), 0]
    except OneError as error:
        return [False, error.message, error.code, error.object_id, -1]
    except xmlrpc.client.Fault:
        raise
    except Exception as error:  # a client gets an answer whatever goes wrong here; the log has the rest
        _LOG.exception("%s failed", method)
        return [False, f"[{method}] Internal error: {type(error).__name__}", INTERNAL, -1, -1]
