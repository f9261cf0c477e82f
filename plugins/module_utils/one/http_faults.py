# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it means when there is no answer: the exceptions of requests, as one sentence."""

from __future__ import annotations

import re

from .errors import INVALID, NETWORK, OneException

try:
    import requests
    import urllib3
except ImportError:
    # Then there is no request that could fail, see http.py.
    pass


def is_timeout(error: OSError) -> bool:
    """Tell whether the server was silent for too long."""
    # While the body is read, requests wraps the time-out into a ConnectionError.
    return isinstance(error, requests.exceptions.Timeout) or any(
        isinstance(argument, urllib3.exceptions.ReadTimeoutError) for argument in error.args
    )


def is_connection_fault(error: OSError) -> bool:
    """Tell whether the same request may get an answer a moment later."""
    return (
        isinstance(error, requests.exceptions.ConnectionError)
        and not isinstance(error, requests.exceptions.SSLError)
        and not is_timeout(error)
    )


def explained(place: str, error: OSError, trust_hint: str) -> OneException:
    """Return the exception for a request that failed other than by a time-out, of kind network or invalid."""
    if isinstance(error, requests.exceptions.SSLError):
        return OneException(NETWORK, f"{place} {_tls_problem(error, trust_hint)}.")
    if isinstance(error, requests.exceptions.ConnectionError):
        return OneException(NETWORK, f"{place} cannot be reached: {_root_cause(error)}.")
    if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
        return OneException(NETWORK, f"{place} broke off its answer.")
    return OneException(INVALID, f"{place} cannot be asked: {error}.")


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
