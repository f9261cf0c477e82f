# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OneGate, as a VM sees it: its own attributes and its service."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from ..one.transport import errors
from ..one.transport.answers import not_understood, of_json
from ..one.transport.errors import OneException
from ..one.transport.http import Http, without_credentials

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A service with 2,000 VMs has a half of it; a VM that asks every few seconds must not have to read what others on its network answer without end.
_MOST_BYTES = 16 << 20
# No base64 is a single character.
_EMPTY = "-"
# OneGate's parser splits at commas, ends values at brackets and mangles quotes, even quoted ones.
_UNSAFE = re.compile(r"[,\[\]\"'\\\n\r]|^\s|\s$|^$|\]\]>")


def published(service: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """Return the attributes of each VM of a role of a service; none of any VM in a service of another shape. Any VM of the service may write there."""
    try:
        vms = [node["vm_info"]["VM"] for part in service["roles"] if part["name"] == role for node in part.get("nodes") or []]
        return [dict(vm.get("USER_TEMPLATE") or {}) for vm in vms]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


class OneGate:
    """A VM's access to OneGate.

    endpoint, vm_id, token: from the VM's context. timeout: seconds per request. asked: the last request.
    """

    def __init__(self, endpoint: str, vm_id: int | str, token: str, timeout: float = 10) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._headers = {"X-ONEGATE-VMID": str(vm_id), "X-ONEGATE-TOKEN": token}
        self._http = Http(timeout, most_bytes=_MOST_BYTES)
        self.asked = ""

    def get_vm(self, vm_id: int | str | None = None) -> dict:
        """Return this VM, or another one of its service."""
        vm = self._read("/vm" if vm_id is None else f"/vms/{vm_id}", "VM")
        if not (str(vm.get("ID")).isdigit() and isinstance(vm.get("USER_TEMPLATE"), dict)):
            raise self._not_understood("a VM without ID or USER_TEMPLATE")
        if vm_id is not None and str(vm["ID"]) != str(vm_id):
            raise self._not_understood(f"VM {vm['ID']} instead of {vm_id}")
        return vm

    def get_service(self, extended: bool = True) -> dict:
        """Return the VM's service; extended: with the user attributes of its VMs."""
        service = self._read("/service?extended=true" if extended else "/service", "SERVICE")
        roles = service.get("roles")
        if not (isinstance(roles, list) and all(isinstance(role, dict) and isinstance(role.get("name"), str) for role in roles)):
            raise self._not_understood("a SERVICE without roles")
        return service

    def put(self, attributes: dict[str, str]) -> None:
        """Publish attributes of this VM. Raises OneException for values that would not arrive as they are."""
        for name, value in attributes.items():
            check(name, value)
        self._write("/vm", "\n".join(f"{name}={value}" for name, value in attributes.items()))

    def delete(self, names: list[str]) -> None:
        """Remove attributes that this VM has; OneGate refuses others with an unspecific error."""
        for name in names:
            _check_name(name)
        for name in names:
            self._write("/vm?type=2", name.upper())

    def _read(self, path: str, element: str) -> dict:
        content = self._send("GET", path, None)
        try:
            document = of_json(content)
        except ValueError:
            raise self._not_understood("something that is not JSON") from None
        found = document.get(element) if isinstance(document, dict) else None
        if not isinstance(found, dict):
            raise self._not_understood(f"JSON that has no {element}")
        return found

    def _not_understood(self, what: str) -> OneException:
        return not_understood(f"OneGate at {self.place}", self.asked, what)

    def _write(self, path: str, body: str) -> None:
        # Of what it has done OneGate says nothing; a proxy or a portal on the way has more to say.
        if body and self._send("PUT", path, body.encode()).strip():
            raise self._not_understood("text, where OneGate says nothing")

    @property
    def place(self) -> str:
        """The endpoint as it may be shown."""
        return without_credentials(self.endpoint)

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        self.asked = f"{method} {path}"
        status, content = self._http.send(
            method, self.endpoint + path, body, headers=self._headers, retry=method == "GET"
        )
        if status in (200, 201, 204):
            return content
        reason = " ".join(content.decode(errors="replace").split())[:200].rstrip(".") or "no reason given"
        if status == 401:
            raise OneException(errors.AUTHENTICATION, f"OneGate at {self.place} does not accept this VM's token.")
        kind = {403: errors.AUTHORIZATION, 404: errors.MISSING, 400: errors.INVALID}.get(status, errors.PROTOCOL)
        raise OneException(kind, f"OneGate at {self.place} refused {method} {path} with status {status}: {reason}.")


def check(name: str, value: str) -> None:
    """Raise OneException when OneGate would change or refuse this attribute."""
    _check_name(name)
    found = _UNSAFE.search(value)
    if found:
        what = repr(found.group()) if found.group() else "nothing in it"
        raise OneException(
            errors.INVALID, f"The value of {name} cannot be published through OneGate: it has {what}; encode it first."
        )


def _check_name(name: str) -> None:
    if name.upper().startswith("XML"):
        raise OneException(errors.INVALID, f"{name!r} is not a valid attribute name: OpenNebula renames what begins with XML.")
    if not _NAME.fullmatch(name):
        wrong = "it begins with a digit" if name[:1].isdigit() else "it takes letters, digits and _"
        raise OneException(errors.INVALID, f"{name!r} is not a valid attribute name: {wrong}.")


def encode(text: str) -> str:
    """Return any text in an alphabet that survives OneGate: base64url without padding, - for no text at all."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=") or _EMPTY


def decode(text: str) -> str:
    """Return what encode was given. Raises OneException of kind invalid."""
    if text == _EMPTY:
        return ""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise OneException(errors.INVALID, f"{text[:40]!r} is not a valid encoded value.") from None
