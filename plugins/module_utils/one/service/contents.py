# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OneFlow writes into the VM templates of a service, and cannot write.

OneFlow 7 hands the whole VM template of a role on as text when the role adds anything to it. In that text a value
that ends with a backslash never ends, and it puts a comma at the end of each line of a value in a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..core import lookup
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import INVALID, OneException
from . import dialect
from . import facts as service_facts


def check(client: Client, template: dict, merge: dict, warn: Callable[[str], None]) -> None:
    """Raise OneException of kind invalid for a service whose VMs OneFlow cannot make, and warn of changed values.

    template: the service template. merge: what is merged into it for the service, in the 7.x dialect.
    """
    if dialect.is_old(client):
        return
    shared = merge.get("user_inputs_values") or {}
    added = {role["name"]: {**shared, **(role.get("user_inputs_values") or {})} for role in merge["roles"]}
    for name, role in service_facts.roles(template).items():
        own = {**(role.get("template_contents") or {}), **added.get(name, {})}
        document = lookup.get(client, "template", int(role["template_id"])) if own else None
        of_template = xml.section(document or {}, "TEMPLATE")
        label = f"VM template {document['NAME']!r} (id {document['ID']})" if document else ""
        for place, part, attributes in ((label, label, of_template), (f"role {name!r}", "", own)):
            _check_values(place, attributes, warn if part else None)


def _check_values(place: str, attributes: dict, warn: Callable[[str], None] | None) -> None:
    for path, value in values(attributes):
        if value.endswith("\\"):
            raise OneException(INVALID, f"{path} of {place} ends with a backslash, with which OneFlow can make no VM.")
        if warn and "/" in path and "\n" in value.strip():
            warn(f"{path} of {place} has several lines: OneFlow puts a comma at the end of each.")


def values(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of each text in attributes, and the text."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from values(item, f"{path}/{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from values(item, path)
    elif isinstance(value, str):
        yield path, value
