# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images, and a VM template that uses them, made of a marketplace app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import lookup
from ..core.compare import Transition
from ..image import states as image_states
from ..transport import xml
from ..transport.errors import CONFLICT, INVALID, WRONG_STATE, OneException
from . import apps

if TYPE_CHECKING:
    from ...module import OneModule

# The datastore says these, whatever the app's image had.
_OF_THE_DATASTORE = ("DRIVER", "FORMAT")


class AppExport:
    """What a task wants to have of an app. app: the app's document."""

    def __init__(self, module: OneModule, app: dict) -> None:
        self._module = module
        self._params = module.params
        self._client = module.client
        self._app = app
        self._image_name = module.params["image_name"] or app["NAME"]
        self._template_name = module.params["vm_template_name"] or self._image_name

    def transition(self) -> Transition:
        """Return the way from what there is to all that the task wants of the app. Raises OneException."""
        sources = self._sources()
        there = {name: self._find_image(name, app) for name, app in sources.items()}
        usable = [name for name, image in there.items() if image and image_states.state(image) != "ERROR"]
        before: dict = {"images": usable} if usable else {}
        after: dict = {"images": list(sources)}
        template = None
        if self._params["vm_template"] and self._vm_attributes():
            template = lookup.find(self._client, "template", self._template_name)
            before |= {"vm_template": self._template_name} if template else {}
            after["vm_template"] = self._template_name
        datastore = self._datastore() if len(usable) < len(sources) else {}

        def facts(images: list[dict | None], template: dict | None) -> dict:
            return {
                "images": [_facts(name, image) for name, image in zip(sources, images, strict=True)],
                "vm_template": _facts(self._template_name, template) if "vm_template" in after else {},
            }

        def apply() -> dict:
            images = [self._image(name, app, there[name], datastore) for name, app in sources.items()]
            if "vm_template" in after and template is None:
                return facts(images, self._create_template([int(image["ID"]) for image in images]))
            return facts(images, template)

        return Transition(before, after, lambda: facts(list(there.values()), template), apply)

    def _sources(self) -> dict[str, dict]:
        """Return the apps whose images are wanted, by the name the image gets. Raises OneException."""
        self._check(self._app)
        kind = apps.kind(self._app)
        if kind == "IMAGE":
            return {self._image_name: self._app}
        if kind != "VMTEMPLATE":
            raise OneException(INVALID, f"{_label(self._app)} is of type {kind}, which cannot be exported.")
        disks = apps.disk_apps(self._client, self._app)
        for disk in disks:
            self._check(disk)
            if apps.kind(disk) != "IMAGE":
                raise OneException(INVALID, f"{_label(disk)} is a disk, but of type {apps.kind(disk)}.")
        single = len(disks) == 1
        return {self._image_name if single else f"{self._image_name}-{n}": disk for n, disk in enumerate(disks)}

    def _check(self, app: dict) -> None:
        if apps.state(app) == "ERROR":
            raise apps.broken(app)
        if apps.state(app) != "READY":
            raise OneException(WRONG_STATE, f"{_label(app)} is in state {apps.state(app)}, it has to be READY.")
        # One that cannot be read stops the export before anything is made.
        apps.decoded(app, apps.OWN_TEMPLATE)

    def _vm_attributes(self) -> dict:
        return apps.decoded(self._app, apps.VM_TEMPLATE if apps.kind(self._app) == "IMAGE" else apps.OWN_TEMPLATE)

    def _find_image(self, name: str, app: dict) -> dict | None:
        """Return the image if it is there. Raises OneException when it was made of something else."""
        image = lookup.find(self._client, "image", name)
        if image and xml.section(image, "TEMPLATE").get("FROM_APP", "") != app["ID"]:
            raise OneException(
                CONFLICT,
                f"Image {image['NAME']!r} (id {image['ID']}) is there and was not made of marketplace app "
                f"{app['NAME']!r} (id {app['ID']}); remove it first or choose another name.",
            )
        return image

    def _datastore(self) -> dict:
        if self._params["datastore"] is None:
            raise OneException(INVALID, f"Image {self._image_name!r} does not exist: its datastore is needed.")
        return lookup.require(self._client, "datastore", self._params["datastore"])

    def _image(self, name: str, app: dict, image: dict | None, datastore: dict) -> dict:
        """Return the image, made if there is none and made again if it failed, once it can be used."""
        if image and image_states.is_settled(image):
            return image
        timeout, progress = self._params["wait_timeout"], self._module.progress
        if image and image_states.state(image) == "ERROR":
            self._client.call("one.image.delete", int(image["ID"]))
            image_states.wait_gone(self._client, name, int(image["ID"]), timeout, progress)
            image = None
        number = int(image["ID"]) if image else self._make_image(name, app, datastore)
        if not self._params["wait"]:
            return lookup.require(self._client, "image", number)
        return image_states.wait_settled(self._client, name, number, timeout, progress)

    def _make_image(self, name: str, app: dict, datastore: dict) -> int:
        attributes = {
            key: value for key, value in apps.decoded(app, apps.OWN_TEMPLATE).items() if key not in _OF_THE_DATASTORE
        }
        attributes |= {"NAME": name, "FROM_APP": app["ID"]}
        return self._client.call("one.image.allocate", attributes, int(datastore["ID"]), False)

    def _create_template(self, disks: list[int]) -> dict:
        attributes = {
            **self._vm_attributes(), "NAME": self._template_name, "DISK": [{"IMAGE_ID": number} for number in disks],
        }
        number = self._client.call("one.template.allocate", attributes)
        return lookup.require(self._client, "template", number)


def _label(app: dict) -> str:
    return f"Marketplace app {app['NAME']!r} (id {app['ID']})"


def _facts(name: str, document: dict | None) -> dict:
    return lookup.identity(document) if document else {"name": name}
