# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Harmless values in the place of those of a context, and the way back.

Files rendered with harmless values show where each value belongs. With the real value in each of these places, and nowhere else, they have
to be the files rendered with the real values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table

_PARAMETERS = {parameter.variable: parameter for parameter in table.PARAMETERS if parameter.variable}
_STAND_IN = re.compile(r"-----BEGIN ZQ-----\nzq\d{3}qz\n-----END ZQ-----|zq\d{3}qz(?:\.invalid|::)?|10\.1\d\d\.177\.77|2001:db8::77:1\d\d")
# The roles treat these in another way than other addresses.
_KEPT_HOSTS = re.compile(r"0\.0\.0\.0|\[::\]|127(\.[0-9]{1,3}){3}|localhost|\[::1\]")
# Numbers, truth values and members of sets, of which the value is checked to be one.
_PLAIN: Mapping[str, Callable[[Any, table.Parameter], bool]] = {
    "number": lambda value, parameter: type(value) is int and parameter.limits.hold(value),
    "float": lambda value, parameter: value is None or (type(value) is float and parameter.limits.hold(value)),
    "boolean": lambda value, _parameter: type(value) is bool,
    "list": lambda value, parameter: value in parameter.limits.choices,
    "version": lambda value, parameter: value in parameter.limits.choices,
}


class StandIns:
    """``values``: typed, by role variable, harmless. ``back`` puts what they stand for into what was read from a file."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._real: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self.values = {variable: self._of_parameter(_PARAMETERS[variable], value) for variable, value in values.items()}

    def back(self, found: Any) -> Any:
        """Return what was read from a file with each harmless value replaced by the one that it stands for."""
        if isinstance(found, str):
            return _STAND_IN.sub(lambda match: self._real.get(match[0], match[0]), found)
        if isinstance(found, (list, tuple)):
            return type(found)(self.back(item) for item in found)
        if isinstance(found, dict):
            return {self.back(key): self.back(item) for key, item in found.items()}
        return found

    def _of_parameter(self, parameter: table.Parameter, value: Any) -> Any:
        kind = parameter.kind
        if kind in _PLAIN:
            assert _PLAIN[kind](value, parameter), (parameter.name, value)
            return value
        if value in ("", [], {}) or (kind == "gpus" and value == "all"):
            return value
        return _OF_KIND.get(kind, StandIns._text)(self, value)

    def _new(self, real: str, form: str) -> str:
        stand_in = form.format(100 + len(self._real))
        self._real[stand_in] = real
        return stand_in

    def _text(self, real: str, form: str = "zq{}qz") -> str:
        """The same one for the same text: the roles name nothing twice."""
        if real not in self._known:
            self._known[real] = self._new(real, form)
        return self._known[real]

    def _address(self, real: str) -> str:
        host, _colon, port = real.rpartition(":")
        if _KEPT_HOSTS.fullmatch(host):
            return real
        if host.startswith("["):
            return f"[{self._new(host[1:-1], '2001:db8::77:{}')}]:{port}"
        form = "10.{}.177.77" if re.fullmatch(r"[0-9.]+", host) else "zq{}qz.invalid"
        return f"{self._new(host, form)}:{port}"

    def _networks(self, real: list[str]) -> list[str]:
        return [self._text(entry, "zq{}qz::" if ":" in entry else "zq{}qz") for entry in real]

    def _ports(self, real: list[str]) -> list[str]:
        pairs = [entry.partition("/") for entry in real]
        return [f"{self._text(number)}/{protocol}" for number, _slash, protocol in pairs]

    def _texts(self, real: list[str]) -> list[str]:
        return [self._text(entry) for entry in real]

    def _pairs(self, real: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self._new(value, "zq{}qz") if isinstance(value, str) else value for key, value in real.items()}

    def _user_and_hash(self, real: str) -> str:
        user, _colon, password = real.partition(":")
        return f"{self._text(user)}:{self._text(password)}"

    def _pem(self, real: str) -> str:
        return self._text(real.strip(), "-----BEGIN ZQ-----\nzq{}qz\n-----END ZQ-----") + "\n"


_OF_KIND: Mapping[str, Callable[[StandIns, Any], Any]] = {
    "address": StandIns._address,
    "remote_address": StandIns._address,
    "networks": StandIns._networks,
    "ports": StandIns._ports,
    "alternative_names": StandIns._texts,
    "node_keys": StandIns._texts,
    "tunnel_peers": StandIns._texts,
    "node_config": StandIns._pairs,
    "basic_auth": StandIns._user_and_hash,
    "certificate": StandIns._pem,
    "private_key": StandIns._pem,
}
