# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads over HTTP, of files that may be too large to be kept in memory."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from .errors import INVALID, PROTOCOL, TIMEOUT, OneException
from .http import Http, until, without_credentials

# Without urllib3 there is no request that could fail, see http.py.
with suppress(ImportError):
    from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_BLOCK = 1 << 20
# Bytes per second; who is slower holds up a play for longer than anybody waits.
_LEAST_RATE = 64 << 10


class DownloadHttp(Http):
    """A session with one server that files are fetched from."""

    def download(self, url: str, sink: BinaryIO, *, headers: dict, limit: int) -> int:
        """Write the body of an answer with status 200 to a file as it comes; return the status.

        All of it has to be there after the timeout and a second for each 64 KiB of the limit. limit: bytes after which
        the server is taken to be broken. Raises OneException of kind network, timeout, invalid or protocol.
        """
        seconds = self._timeout + limit / _LEAST_RATE

        def request() -> int:
            with self._request("GET", url, headers=headers, preload_content=False) as response:
                if response.status == 200:
                    self._copy(url, response, sink, limit)
                return response.status

        try:
            return until(time.monotonic() + seconds, request)
        except queue.Empty:
            # The pool's connection is still at work.
            self._pool = None
            raise OneException(TIMEOUT, f"{without_credentials(url)} did not send all within {seconds:.3g} seconds.") from None
        except (HTTPError, OSError, ValueError) as error:
            raise self._explained(url, error) from None

    def _copy(self, url: str, response: BaseHTTPResponse, sink: BinaryIO, limit: int) -> None:
        for block in response.stream(_BLOCK, decode_content=False):
            limit -= len(block)
            if limit < 0:
                raise OneException(PROTOCOL, f"{without_credentials(url)} sends more than was announced.")
            try:
                sink.write(block)
            except OSError as problem:
                raise OneException(INVALID, f"What {without_credentials(url)} sends cannot be kept: {problem.strerror}.") from None
