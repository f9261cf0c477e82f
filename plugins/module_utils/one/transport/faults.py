# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it means when there is no answer: the exceptions of urllib3, as one sentence."""

from __future__ import annotations

import re
from contextlib import suppress

from .errors import INVALID, NETWORK, OneException

# Without urllib3 there is no request that could fail, see http.py.
with suppress(ImportError):
    from urllib3 import exceptions


def is_timeout(error: Exception) -> bool:
    """Tell whether the server was silent for too long."""
    # urllib3 1.26 has a refused connection among the time-outs.
    return isinstance(error, exceptions.TimeoutError) and not isinstance(error, exceptions.NewConnectionError)


def is_connection_fault(error: Exception) -> bool:
    """Tell whether the same request may get an answer a moment later."""
    return _is_unreachable(error) and not _is_broken_off(error)


def explained(place: str, error: Exception, trust_hint: str) -> OneException:
    """Return the exception for a request that failed other than by a time-out, of kind network or invalid."""
    if isinstance(error, exceptions.SSLError):
        return OneException(NETWORK, f"{place} {_tls_problem(error, trust_hint)}.")
    if _is_broken_off(error):
        return OneException(NETWORK, f"{place} broke off its answer.")
    if _is_unreachable(error):
        return OneException(NETWORK, f"{place} cannot be reached: {_root_cause(error)}.")
    return OneException(INVALID, f"{place} cannot be asked: {error}.")


def _is_unreachable(error: Exception) -> bool:
    return isinstance(error, (exceptions.NewConnectionError, exceptions.ProtocolError, exceptions.ProxyError))


def _is_broken_off(error: Exception) -> bool:
    """Tell whether the answer had begun. The words are urllib3's for that, in its lines 1.26 and 2."""
    return isinstance(error, exceptions.DecodeError) or "Connection broken" in str(error)


def _tls_problem(error: Exception, trust_hint: str) -> str:
    reason = re.search(r"certificate verify failed: (.+?) \(_ssl", str(error))
    if reason:
        return f"has a certificate that is not trusted ({reason.group(1)}): {trust_hint}"
    return f"cannot be reached over TLS: {_root_cause(error)}"


def _root_cause(error: Exception) -> str:
    text = str(error)
    reason = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text) or re.search(r"\[SSL[^\]]*\] ([^(]+?) \(", text)
    if reason:
        return reason.group(1)
    return "the connection was closed without an answer" if "closed connection" in text else text
