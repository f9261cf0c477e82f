# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Talking to a QEMU process: its machine protocol (QMP) on a socket."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType

_SECONDS = 60


class QmpError(Exception):
    """QEMU refused a command, or there is none to talk to; the message is QEMU's own reason."""


class Qmp:
    """A conversation with a QEMU process; there is one at a time, others wait for their turn."""

    def __init__(self, path: Path) -> None:
        """Raises QmpError when nobody listens there."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS)
        try:
            # The path of a socket has at most 107 bytes, that of a directory as many as it likes.
            directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
            self._lines = self._socket.makefile("rw", encoding="utf-8")
            self._lines.readline()
            self("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise QmpError(f"QEMU does not answer: {error.strerror or error}") from error

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: object) -> object:
        """Run a command and return its result. An argument's name has _ for -. Raises QmpError."""
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            self._lines.write(json.dumps({"execute": command, "arguments": names}) + "\n")
            self._lines.flush()
            for line in self._lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise QmpError(answer["error"]["desc"])
                if "return" in answer:
                    return answer["return"]
        except OSError as error:
            raise QmpError(f"QEMU does not answer: {error.strerror or error}") from error
        raise QmpError("QEMU has ended")
