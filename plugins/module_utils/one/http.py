# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP with a deadline: whatever a server does, a request ends in an answer or in one sentence."""

from __future__ import annotations

import queue
import re
import threading
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO

from .errors import INVALID, NETWORK, PROTOCOL, TIMEOUT, OneException

try:
    import requests
    import urllib3
except ImportError:
    REQUESTS_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    REQUESTS_IMPORT_ERROR = None

# Pauses before a read is sent again after a connection fault, in seconds.
_RETRY_PAUSES = (0.2, 0.8)
_BLOCK = 1 << 20
_TRUST_HINT = "set ca_path to the certificate that signed it, or validate_certs to false"


class Http:
    """A session with one server.

    timeout: seconds after which a request ends, repetitions included, whatever the server does meanwhile.
    ca_path: file with the certificates to trust instead of the system's.
    trust_hint: what to do about a certificate that is not trusted.
    """

    def __init__(
        self, timeout: float, validate_certs: bool = True, ca_path: str | None = None, trust_hint: str = _TRUST_HINT
    ) -> None:
        self._timeout = timeout
        self._trust_hint = trust_hint
        self._verify: bool | str = (ca_path or True) if validate_certs else False
        self._session = requests.Session()
        if not validate_certs:
            # The user asked for it; a warning per request would only bury the module's output.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def send(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        *,
        headers: dict | None = None,
        auth: tuple[str, str] | None = None,
        retry: bool = False,
    ) -> tuple[int, bytes]:
        """Return status and body of the answer.

        retry: send again after a connection fault; only for requests that change nothing.
        Raises OneException of kind network, timeout or invalid.
        """
        session, pauses = self._session, list(_RETRY_PAUSES) if retry else []
        deadline = time.monotonic() + self._timeout

        def request() -> tuple[int, bytes]:
            response = session.request(
                method, url, data=body, headers=headers, auth=auth,
                timeout=self._timeout, verify=self._verify, allow_redirects=False,
            )
            return response.status_code, response.content

        while True:
            try:
                return _until(deadline, request)
            except queue.Empty:
                # The session is still at work.
                self._session = requests.Session()
                raise self._late(url) from None
            # requests' own exceptions are OSErrors, and a ca_path that does not exist is a plain one.
            except OSError as error:
                if not pauses or not _is_connection_fault(error) or time.monotonic() + pauses[0] > deadline:
                    raise self._explained(url, error) from None
            time.sleep(pauses.pop(0))

    def _late(self, url: str) -> OneException:
        return OneException(TIMEOUT, f"{without_credentials(url)} did not answer within {self._timeout:g} seconds.")

    def download(self, url: str, sink: BinaryIO, *, headers: dict, limit: int) -> int:
        """Write the body of an answer with status 200 to a file as it comes; return the status.

        A file may be large, so the timeout bounds the silence between two parts of it. limit: bytes after which the server is taken to be broken.
        Raises OneException of kind network, timeout, invalid or protocol.
        """
        try:
            with self._session.get(
                url, headers=headers, timeout=self._timeout, verify=self._verify, allow_redirects=False, stream=True
            ) as response:
                if response.status_code == 200:
                    self._copy(url, response, sink, limit)
                return response.status_code
        except OSError as error:
            raise self._explained(url, error) from None

    def _copy(self, url: str, response: requests.Response, sink: BinaryIO, limit: int) -> None:
        for block in response.iter_content(_BLOCK):
            limit -= len(block)
            if limit < 0:
                raise OneException(PROTOCOL, f"{without_credentials(url)} sends more than was announced.")
            try:
                sink.write(block)
            except OSError as problem:
                raise OneException(INVALID, f"What {without_credentials(url)} sends cannot be kept: {problem.strerror}.") from None

    def _explained(self, url: str, error: OSError) -> OneException:
        place = without_credentials(url)
        if _is_timeout(error):
            return self._late(url)
        if isinstance(error, requests.exceptions.SSLError):
            return OneException(NETWORK, f"{place} {_tls_problem(error, self._trust_hint)}.")
        if isinstance(error, requests.exceptions.ConnectionError):
            return OneException(NETWORK, f"{place} cannot be reached: {_root_cause(error)}.")
        if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
            return OneException(NETWORK, f"{place} broke off its answer.")
        return OneException(INVALID, f"{place} cannot be asked: {error}.")


def _until(deadline: float, request: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
    """Return what the request returns, or raise what it raises; raises queue.Empty at the deadline.

    The time-outs of sockets bound the silence between two bytes only, and not the look-up of a name at all, so the
    request has a thread of its own, which is left behind when it is late.
    """
    outcome: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((request(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    answer, error = outcome.get(timeout=max(0.0, deadline - time.monotonic()))
    if error:
        raise error
    return answer


def without_credentials(url: str) -> str:
    """Return the URL without a user name and password in it."""
    return re.sub(r"//[^/@]*@", "//", url)


def _is_timeout(error: OSError) -> bool:
    # While the body is read, requests wraps the time-out into a ConnectionError.
    return isinstance(error, requests.exceptions.Timeout) or any(
        isinstance(argument, urllib3.exceptions.ReadTimeoutError) for argument in error.args
    )


def _is_connection_fault(error: OSError) -> bool:
    return (
        isinstance(error, requests.exceptions.ConnectionError)
        and not isinstance(error, requests.exceptions.SSLError)
        and not _is_timeout(error)
    )


def _tls_problem(error: OSError, trust_hint: str) -> str:
    reason = re.search(r"certificate verify failed: (.+?) \(_ssl", str(error))
    if reason:
        return f"has a certificate that is not trusted ({reason.group(1)}): {trust_hint}"
    return f"cannot be reached over TLS: {_root_cause(error)}"


def _root_cause(error: OSError) -> str:
    text = str(error)
    reason = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text) or re.search(r"\[SSL[^\]]*\] ([^(]+?) \(", text)
    if reason:
        return reason.group(1)
    return "the connection was closed without an answer" if "closed connection" in text else text
