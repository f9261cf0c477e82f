# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of an image: the marketplace app or the VM's disk it comes from, its checksum, and which build it is."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from ..core import lookup
from ..market import apps
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import CONFLICT, INVALID, WRONG_STATE, OneException
from ..transport.values import text
from . import states as image_states

# Attributes of an image that say which build it is, and what the datastore checked while it copied.
VERSION, BUILD_OF = "VERSION", "BUILD_OF"
ATTRIBUTES = frozenset({VERSION, BUILD_OF, "MD5", "SHA1"})
# The datastore's programs know no others.
_DIGITS = {"MD5": 32, "SHA1": 40}
# Drivers of datastores that keep to RESTRICTED_DIRS and SAFE_DIRS.
_WITH_RESTRICTIONS = ("fs", "ceph", "virtiofs")
# The datastore says these, whatever the app's image had.
_OF_THE_DATASTORE = ("DRIVER", "FORMAT")


class Build:
    """What a task says of the content of an image. Raises OneException of kind invalid for what cannot be."""

    def __init__(self, client: Client, params: dict) -> None:
        self._client = client
        self._name = params["name"]
        self._algorithm, self._checksum = _checksum(params["checksum"]) if params["checksum"] else ("", "")
        self.version = params["version"]
        self._app = params["app"]
        self._vm, self._disk = params["vm"], str(params["vm_disk"])
        given = [name for name in ("path", "size", "format", "fs", "app", "checksum") if params[name] is not None]
        if self._vm and given:
            raise OneException(INVALID, f"vm {self._vm!r}: {' and '.join(given)} cannot be given with it, the content is that of the VM's disk.")
        if self._app and (params["path"] or params["size"]):
            raise OneException(INVALID, f"app {self._app!r}: path and size cannot be given with it, an app has its own.")
        if self.version is not None and not (self.version.isprintable() and self.version.strip() == self.version != ""):
            raise OneException(INVALID, f"version {self.version!r}: expected a text of one line without white space around it.")
        if self.version is not None and lookup.is_id(self._name):
            raise OneException(INVALID, f"name {self._name!r}: with version the image's name is needed, as another build gets another id.")

    @property
    def staged(self) -> str:
        """The name that a build has before it takes the image's place."""
        return f"{self._name} ({self.version})"

    def attributes(self) -> dict:
        """Return the attributes that a new image gets. Raises OneException when the app cannot be used or has another checksum."""
        given = {VERSION: self.version, BUILD_OF: self._name} if self.version is not None else {}
        if self._checksum:
            given[self._algorithm] = self._checksum
        if not self._app:
            return given
        app = lookup.require(self._client, "marketplace_app", self._app)
        label = f"Marketplace app {app['NAME']!r} (id {app['ID']})"
        if apps.state(app) == "ERROR":
            raise apps.broken(app)
        if apps.state(app) != "READY":
            raise OneException(WRONG_STATE, f"{label} is in state {apps.state(app)}, it has to be READY.")
        if apps.kind(app) != "IMAGE":
            raise OneException(INVALID, f"{label} is of type {apps.kind(app)}, no image.")
        self._compare(label, {"MD5": text(app.get("MD5"))})
        of_app = {name: value for name, value in apps.decoded(app, apps.OWN_TEMPLATE).items() if name not in _OF_THE_DATASTORE}
        return {**of_app, **given, "FROM_APP": app["ID"]}

    def datastore(self, unresolved: Callable[[OneException], None]) -> str | None:
        """Return the id of the datastore that a saved disk goes to.

        unresolved: called with the exception if there is no such VM; unless it raises it, None is returned.
        """
        vm = self._machine()
        if vm is None:
            unresolved(lookup.missing(self._client, "VM", self._vm))
            return None
        disk = next((disk for disk in xml.vectors(xml.section(vm, "TEMPLATE"), "DISK") if disk.get("DISK_ID") == self._disk), None)
        if disk is None or "IMAGE_ID" not in disk:
            why = "there is no such disk" if disk is None else "it has no image"
            raise OneException(INVALID, f"Disk {self._disk} of VM {vm['NAME']!r} (id {vm['ID']}) cannot be saved: {why}.")
        return disk["DATASTORE_ID"]

    def save(self, name: str, kind: str, template: dict) -> int:
        """Make an image of the VM's disk and return its id."""
        vm = self._machine()
        if vm is None:
            raise lookup.missing(self._client, "VM", self._vm)
        number = self._client.call("one.vm.disksaveas", int(vm["ID"]), int(self._disk), name, kind, -1)
        if template:
            self._client.call("one.image.update", number, template, 1)
        return number

    def is_other(self, image: dict) -> bool:
        """Tell whether an image holds another build than the task wants."""
        return self.version is not None and text(xml.section(image, "TEMPLATE").get(VERSION)) != self.version

    def check(self, image: dict) -> None:
        """Refuse an image that is not what the task says. Raises OneException of kind conflict."""
        label, template = f"Image {image['NAME']!r} (id {image['ID']})", xml.section(image, "TEMPLATE")
        if self._app:
            app = lookup.require(self._client, "marketplace_app", self._app)
            if text(template.get("FROM_APP")) != app["ID"]:
                raise OneException(
                    CONFLICT,
                    f"{label} was not made of marketplace app {app['NAME']!r} (id {app['ID']}); remove it first, choose another name, or say "
                    "with version that it is another build.",
                )
        if self._vm and self.version is None:
            self._check_disk(label, template)
        self._compare(label, {"MD5": text(template.get("MD5") or template.get("FROM_APP_MD5")), "SHA1": text(template.get("SHA1"))})

    def replaced(self, everything: list[dict]) -> list[dict]:
        """Return those of all images that were replaced by another build of this one and that nothing uses."""
        return [
            image for image in everything
            if text(xml.section(image, "TEMPLATE").get(BUILD_OF)) == self._name and image["NAME"] not in (self._name, self.staged)
            and not in_use(image) and (image_states.is_settled(image) or image_states.state(image) == "ERROR")
        ]

    def _machine(self) -> dict | None:
        # Only to save a disk.
        from ..vm import facts

        if lookup.is_id(self._vm):
            return facts.by_id(self._client, [int(self._vm)]).get(int(self._vm))
        return lookup.named(self._client, "VM", facts.listing(self._client), self._vm)

    def _check_disk(self, label: str, template: dict) -> None:
        saved, vm = text(template.get("SAVED_VM_ID")), self._machine()
        if not saved or vm and (saved, text(template.get("SAVED_DISK_ID"))) != (vm["ID"], self._disk):
            raise OneException(
                CONFLICT,
                f"{label} was not saved from disk {self._disk} of VM {self._vm!r}; remove it first, choose another name, or say with version which "
                "build it is.",
            )

    def _compare(self, label: str, reported: dict[str, str]) -> None:
        if not self._checksum or reported.get(self._algorithm, "").lower() == self._checksum:
            return
        there = f"{self._algorithm} {reported[self._algorithm]}" if reported.get(self._algorithm) else f"no {self._algorithm}"
        raise OneException(
            CONFLICT,
            f"OpenNebula reports {there} for {label}, expected {self._checksum}; remove it first, choose another name, or say with version "
            "that it is another build.",
        )


def check_path(name: str, path: str, datastore: dict) -> None:
    """Refuse a file of the front end that the driver of a datastore may not read. Raises OneException of kind invalid."""
    template = xml.section(datastore, "TEMPLATE")
    restricted, safe = (text(template.get(attribute)) for attribute in ("RESTRICTED_DIRS", "SAFE_DIRS"))
    if not path.startswith("/") or datastore.get("DS_MAD") not in _WITH_RESTRICTIONS:
        return
    written = posixpath.normpath(path)
    if not written.startswith(tuple(restricted.split())) or written.startswith(tuple(safe.split())):
        return
    raise OneException(
        INVALID,
        f"Image {name!r} cannot be made from {path}: datastore {datastore['NAME']!r} (id {datastore['ID']}) reads nothing below {restricted} (RESTRICTED_DIRS)"
        + (f" but what is below {safe} (SAFE_DIRS)" if safe.split() else "") + "; move the file, or change the datastore.",
    )


def in_use(image: dict) -> bool:
    """Tell whether a VM has the image or another image is being cloned from it."""
    return int(image.get("RUNNING_VMS") or 0) > 0 or int(image.get("CLONING_OPS") or 0) > 0


def name_of_replaced(image: dict) -> str:
    """Return the name of an image whose place another build takes."""
    return f"{image['NAME']} ({text(xml.section(image, 'TEMPLATE').get(VERSION)) or 'without version, id ' + image['ID']})"


def _checksum(given: str) -> tuple[str, str]:
    """Return algorithm and digits of a checksum. Raises OneException of kind invalid."""
    algorithm, _colon, digits = given.strip().partition(":")
    algorithm, digits = algorithm.upper(), digits.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{_DIGITS.get(algorithm, 0)}}}", digits) or not digits:
        raise OneException(INVALID, f"checksum {given!r}: expected md5: and 32 or sha1: and 40 hexadecimal digits, which is what datastores check.")
    return algorithm, digits
