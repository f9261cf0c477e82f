# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP with a deadline: whatever a server does, a request ends in an answer or in one sentence."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from .errors import INVALID, PROTOCOL, TIMEOUT, OneException

try:
    import urllib3
except ImportError:
    URLLIB3_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    URLLIB3_IMPORT_ERROR = None

Answer = TypeVar("Answer")

# A day; sockets count milliseconds in 32 bits.
_LONGEST = 86_400

# Pauses before a read is sent again after a connection fault, in seconds.
_RETRY_PAUSES = (0.2, 0.8)
# Bytes of an answer after which the server is taken to be broken; 2,000 VMs with long contexts have a quarter of it.
_MOST_BYTES = 128 << 20
_BLOCK = 1 << 20
_TRUST_HINT = "set ca_path to the certificate that signed it, or validate_certs to false"


class Http:
    """A session with one server.

    timeout: seconds after which a request ends, repetitions included, whatever the server does meanwhile.
    ca_path: file with the certificates to trust instead of the system's.
    trust_hint: what to do about a certificate that is not trusted.
    most_bytes: of an answer, if it cannot be as long as those of OpenNebula itself.
    """

    def __init__(
        self, timeout: float, validate_certs: bool = True, ca_path: str | None = None, trust_hint: str = _TRUST_HINT, most_bytes: int | None = None
    ) -> None:
        self._timeout = timeout
        self._validate_certs = validate_certs
        self._ca_path = ca_path
        self._trust_hint = trust_hint
        self._most_bytes = most_bytes or _MOST_BYTES
        self._pool: urllib3.PoolManager | None = None

    def send(
        self, method: str, url: str, body: bytes | None = None, *, headers: dict, retry: bool = False
    ) -> tuple[int, bytes]:
        """Return status and body of the answer.

        retry: send again after a connection fault; only for requests that change nothing.
        Raises OneException of kind network, timeout, invalid, or protocol for a body without end.
        """
        pauses = list(_RETRY_PAUSES) if retry else []
        deadline = time.monotonic() + self._timeout

        def request() -> tuple[int, bytes]:
            with self._request(method, url, body=body, headers=headers, preload_content=False) as response:
                return response.status, _body(url, response, self._most_bytes)

        while True:
            try:
                return until(deadline, request)
            except queue.Empty:
                # The pool's connection is still at work.
                self._pool = None
                raise self._late(url) from None
            # Files with certificates, and what http.client thinks of addresses and headers, are the other two.
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                from .faults import is_connection_fault

                if not pauses or not is_connection_fault(error) or time.monotonic() + pauses[0] > deadline:
                    raise self._explained(url, error) from None
            time.sleep(pauses.pop(0))

    def _request(self, method: str, url: str, **options: object) -> urllib3.BaseHTTPResponse:
        if self._pool is None:
            self._pool = self._new_pool(url)
        return self._pool.request(method, url, timeout=self._timeout, retries=False, redirect=False, **options)

    def _new_pool(self, url: str) -> urllib3.PoolManager:
        trust = self._trust()
        if any(name.lower().endswith("_proxy") for name in os.environ):
            from .proxy import proxy_for

            proxy = proxy_for(url)
            if proxy:
                return urllib3.ProxyManager(proxy[0], proxy_headers=urllib3.make_headers(proxy_basic_auth=proxy[1]), **trust)
        return urllib3.PoolManager(**trust)

    def _trust(self) -> dict:
        if not self._validate_certs:
            # The user asked for it; a warning per request would only bury the module's output.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            return {"cert_reqs": "CERT_NONE"}
        if self._ca_path and not os.path.exists(self._ca_path):
            raise OneException(INVALID, f"There are no certificates to trust at {self._ca_path}, which ca_path names.")
        return {"cert_reqs": "CERT_REQUIRED", "ca_certs": self._ca_path}

    def _late(self, url: str) -> OneException:
        return OneException(TIMEOUT, f"{without_credentials(url)} did not answer within {self._timeout:g} seconds.")

    def _explained(self, url: str, error: Exception) -> OneException:
        from .faults import explained, is_timeout

        return self._late(url) if is_timeout(error) else explained(without_credentials(url), error, self._trust_hint)


def check_timeout(timeout: float, name: str = "api_timeout") -> None:
    """Refuse a time that is no deadline for a request. name: of the option. Raises OneException of kind invalid."""
    if not 0 < timeout <= _LONGEST:
        raise OneException(INVALID, f"{name} is {timeout:.10g}, it must be more than 0 and at most {_LONGEST} seconds.")


def until(deadline: float, request: Callable[[], Answer]) -> Answer:
    """Return what the request returns, or raise what it raises; raises queue.Empty at the deadline.

    The time-outs of sockets bound the silence between two bytes only, and not the look-up of a name at all, so the
    request has a thread of its own, which is left behind when it is late.
    """
    outcome: queue.SimpleQueue = queue.SimpleQueue()

    def send() -> None:
        try:
            outcome.put((request(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=send, daemon=True).start()
    answer, error = outcome.get(timeout=max(0.0, deadline - time.monotonic()))
    if error:
        raise error
    return answer


def _body(url: str, response: urllib3.BaseHTTPResponse, most_bytes: int) -> bytes:
    parts, left = [], most_bytes
    # Nothing packed was asked for, and a little of it can unpack to more than the memory holds.
    for part in response.stream(_BLOCK, decode_content=False):
        left -= len(part)
        if left < 0:
            raise OneException(PROTOCOL, f"{without_credentials(url)} answers with more than {most_bytes >> 20} MiB.")
        parts.append(part)
    return b"".join(parts)


def without_credentials(url: str) -> str:
    """Return the URL without a user name and password in it."""
    return re.sub(r"//[^/@]*@", "//", url)
