# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a node can use its SuperLink now, and how long it waits before it looks again.

At the edge a link may be missing for days and a clock wrong until the link is there: neither is a reason to fail, both are said.
"""

import base64
import binascii
import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.opennebula.flower.plugins.module_utils import pem
from ansible_collections.opennebula.flower.plugins.module_utils.context_values import split_address
from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import BY_NAME
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import AUTHENTICATION, AUTHORIZATION, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.onegate import client
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.client import OneGate
from ansible_collections.opennebula.flower.plugins.module_utils.onegate.context_files import ContextMissing

FIRST_PAUSE = 10
# More doublings than the longest pause that can be set has, and few enough for any number of attempts.
MOST_DOUBLINGS = 14
TIMEOUT = 10
# What OpenSSL says of certificates that begin later or ended before.
NOT_YET_VALID = 9
EXPIRED = 10


def pause(attempt: int, law: str, longest: float, draw: Callable[[], float] = random.random) -> float:
    """Return the seconds until the attempt after this one, the first being 0.

    Up to half of it is left out by chance, so nodes that lost their link together do not all come back in the same second.
    """
    seconds = FIRST_PAUSE if law == "fixed" else min(FIRST_PAUSE * 2 ** min(attempt, MOST_DOUBLINGS), longest)
    return seconds * (1 - draw() / 2)


def too_early(context: Mapping[str, str]) -> str:
    """Return that a node waits for the right time, nothing unless its clock stands before the CA certificate of its context was made."""
    parameter = BY_NAME["FL_SSL_CA_CERTFILE"]
    try:
        begin = pem.begin(parameter.parse(context.get(parameter.context_name, "")))
    except ValueError:
        return ""
    if begin is None or time.time() >= begin.timestamp():
        return ""
    return f"{_right_time()}, before the certificate of the CA was made on {begin:%Y-%m-%d %H:%M:%S} UTC"


def missing(values: Mapping[str, Any], open_gate: Callable[[], OneGate]) -> str:
    """Return what a node waits for, nothing when it can use its SuperLink.

    values: of its context. open_gate: returns OneGate. What no waiting mends is nothing to wait for: the boot goes on, and says it.
    """
    address, published = values["flower_superlink_address"], {}
    if not address:
        try:
            published = superlink(open_gate().get_service())
        except ContextMissing:
            return ""
        except OneException as problem:
            return "" if problem.kind in (AUTHENTICATION, AUTHORIZATION) else f"OneGate: {problem}"
        try:
            address = BY_NAME["FL_SUPERLINK_ADDRESS"].parse(str(published.get("FL_ENDPOINT", "")))
        except ValueError:
            address = ""
        if not address:
            return "the SuperLink of this service: none has published that it is ready, and its address"
    if not values["flower_tls_enabled"]:
        return unreachable(address, None)
    try:
        return unreachable(address, values["flower_ssl_ca_certfile"] or base64.b64decode(str(published["FL_CA_CERT"])).decode())
    except (KeyError, binascii.Error, ValueError):
        return ""


def superlink(service: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the first SuperLink of a service that is ready published, nothing without one. Any VM of the service may write there."""
    return next((attributes for attributes in client.published(service, "superlink") if attributes.get("FL_READY") == "YES"), {})


def unreachable(address: str, authority: str | None) -> str:
    """Return why nothing at an address says that it is healthy. authority: the CA certificate to trust, None without TLS.

    Names are looked up each time: the address behind one may change. Nothing is returned for a certificate that no waiting makes right.
    """
    host, port = split_address(address)
    where = f"the SuperLink at {address}"
    try:
        if authority is None:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        else:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trust.load_verify_locations(cadata=authority)
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=trust)
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as problem:
        if problem.verify_code not in (NOT_YET_VALID, EXPIRED):
            return ""
        state = "is not valid yet" if problem.verify_code == NOT_YET_VALID else "has expired"
        return f"{_right_time()}, when the certificate of {where} {state}"
    except socket.gaierror as problem:
        return f"{where}: its name cannot be looked up ({problem.strerror})"
    except (OSError, http.client.HTTPException) as problem:
        return f"{where}: {getattr(problem, 'strerror', None) or problem or type(problem).__name__}"
    return "" if status == 200 else f"{where}: it answers with status {status}"


def _right_time() -> str:
    return f"the right time: the clock of this machine says {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}"
