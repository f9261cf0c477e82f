# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""An API method: what it takes and which function answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from xmlrpc.client import Fault

from lab.core.errors import WRONG_PARAMETERS

_TYPES = {"i": (int, "integer"), "s": (str, "a string"), "b": (bool, "boolean"), "a": (list, "an array")}
#: integers beyond are of a type of their own
_INTEGERS = range(-2**31, 2**31)


@dataclass(frozen=True)
class Method:
    """A function that gets a Call and the parameters after the session, and their types: a letter each, with ? where one may be left out."""

    handler: Callable
    signature: str = ""

    def arguments(self, params: tuple) -> tuple:
        """Return the parameters the function takes; surplus ones are ignored, as the server does.

        Raises xmlrpc.client.Fault when one is missing or has the wrong type.
        """
        accepted = []
        for position, letter in enumerate(self.signature.split()):
            if position >= len(params):
                if not letter.endswith("?"):
                    raise Fault(WRONG_PARAMETERS, "Not enough parameters")
                break
            python_type, noun = _TYPES[letter[0]]
            value = params[position]
            # A boolean is an int in Python, but not in XML-RPC.
            if type(value) is not python_type or (python_type is int and value not in _INTEGERS):
                raise Fault(WRONG_PARAMETERS, f"Parameter that is supposed to be {noun} is not")
            accepted.append(value)
        return tuple(accepted)
