# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Errors: those that the XML-RPC API answers with, their codes, and how objects keep what went wrong with them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.core.api import Core

AUTHENTICATION = 256
AUTHORIZATION = 512
NO_EXISTS = 1024
ACTION = 2048
REQUEST = 4096
INTERNAL = 8192
ALLOCATE = 16384

#: codes of XML-RPC faults
NO_SUCH_METHOD = -506
WRONG_PARAMETERS = -501


class OneError(Exception):
    """An error answer of the API: a code, a sentence, and the id of the object it is about (-1: none)."""

    def __init__(self, code: int, message: str, object_id: int = -1) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.object_id = object_id

    def __str__(self) -> str:
        return self.message


def timestamped(core: Core, message: str) -> str:
    """Return a message with the time in front, as OpenNebula writes them into VMs."""
    return f"{time.asctime(time.gmtime(core.now()))}: {message}"


def failure(core: Core, message: str) -> str:
    """Return a message with the time in front, as OpenNebula writes them into everything but VMs."""
    return f"{time.asctime(time.gmtime(core.now()))} : {message}"
