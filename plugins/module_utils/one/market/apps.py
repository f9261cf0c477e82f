# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marketplace apps: reading their documents, and the templates that are encoded in them."""

from __future__ import annotations

import base64
import json

from ..core import lookup, states
from ..transport import xml
from ..transport.answers import of_json
from ..transport.client import Client
from ..transport.errors import INVALID, WRONG_STATE, OneException, TemplateSyntaxError
from ..transport.template import parse, render
from ..transport.values import text, words

# Attributes of an app's template that hold a template: for what the app is, and for a VM with its image.
OWN_TEMPLATE, VM_TEMPLATE = "APPTEMPLATE64", "VMTEMPLATE64"


def state(app: dict) -> str:
    """Return the name of the app's state."""
    return states.name(states.APP, app["STATE"])


def kind(app: dict) -> str:
    """Return what the app is made of."""
    return states.name(states.APP_TYPE, app["TYPE"])


def broken(app: dict) -> OneException:
    """Return the exception for an app in state ERROR, with the driver's reason."""
    reason = words(xml.section(app, "TEMPLATE").get("ERROR"), "the server gives no reason")
    return OneException(
        WRONG_STATE, f"Marketplace app {app['NAME']!r} (id {app['ID']}) is in state ERROR: {reason}."
    )


def disk_apps(client: Client, app: dict) -> list[dict]:
    """Return the apps that are the disks of one that is a VM template. Raises OneException of kind missing."""
    label = lookup.KINDS["marketplace_app"].label
    there = [
        item for item in lookup.pool(client, "marketplace_app") if item["MARKETPLACE_ID"] == app["MARKETPLACE_ID"]
    ]
    found = []
    for disk in xml.vectors(xml.section(app, "TEMPLATE"), "DISK"):
        image = lookup.named(client, label, there, text(disk.get("APP")), app["UNAME"])
        if image is None:
            raise lookup.missing(client, label, text(disk.get("APP")))
        found.append(image)
    return found


def decoded(app: dict, attribute: str) -> dict:
    """Return the template that is encoded in an attribute of the app, empty if it has none.

    Raises OneException of kind invalid for one that cannot be read.
    """
    try:
        template = _plain(app, attribute)
        found = parse(template)
        if found or not template.strip():
            return found
        problem = "it has no attributes"
    except (ValueError, TemplateSyntaxError) as error:
        problem = str(error).rstrip(".")
    raise OneException(INVALID, f"{attribute} of marketplace app {app['NAME']!r} (id {app['ID']}) is not a readable template: {problem}.")


def _plain(app: dict, attribute: str) -> str:
    """Return the text that an attribute of the app holds in base 64, empty if it has none. Raises ValueError for one that is not."""
    value = xml.section(app, "TEMPLATE").get(attribute, "")
    if not isinstance(value, str):
        raise ValueError("it is there twice, or no text")
    # OpenNebula's tools break lines and do without the padding.
    packed = "".join(value.split()).rstrip("=")
    return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode()


def service(app: dict) -> dict:
    """Return the service template of an app that is one. Raises OneException of kind invalid for one that cannot be read."""
    try:
        found = of_json(_plain(app, OWN_TEMPLATE))
        if isinstance(found, dict):
            return found
        problem = "it is not an object"
    except ValueError as error:
        problem = str(error)
    raise OneException(INVALID, f"{OWN_TEMPLATE} of marketplace app {app['NAME']!r} (id {app['ID']}) is not a readable service template: {problem}.")


def service_roles(app: dict) -> dict[str, str]:
    """Return the app whose VM template each role of an app that is a service template has, by the role's name."""
    return {text(role.get("NAME")): text(role.get("APP")) for role in xml.vectors(xml.section(app, "TEMPLATE"), "ROLE")}


def encoded_service(template: dict) -> str:
    """Return a service template as the value of an attribute."""
    return base64.b64encode(json.dumps(template).encode()).decode()


def encoded(template: dict) -> str:
    """Return a template as the value of an attribute."""
    return base64.b64encode(render(template).encode()).decode()
