# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image, and a VM template that uses it, made of a marketplace app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import apps, images, resources, xml
from .errors import CONFLICT, INVALID, WRONG_STATE, OneException
from .template import render

if TYPE_CHECKING:
    from ..module import OneModule

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

    def ensure(self) -> dict:
        """Make what is not there yet and return the module's result. Raises OneException."""
        self._check()
        image = resources.find(self._client, "image", self._image_name)
        if image:
            self._check_origin(image)
        template = None
        wanted = {"image": self._image_name}
        if apps.decoded(self._app, apps.VM_TEMPLATE) and self._params["vm_template"]:
            template = resources.find(self._client, "template", self._template_name)
            wanted["vm_template"] = self._template_name
        failed = image is not None and images.state(image) == "ERROR"
        there = {"image": image and not failed, "vm_template": template}
        before = {name: value for name, value in wanted.items() if there[name]}
        datastore = None if before.get("image") else self._datastore()
        if not self._module.check_mode:
            if failed:
                self._remove(int(image["ID"]))
            image = self._image(None if failed else image, datastore)
            if "vm_template" in wanted and template is None:
                template = self._make_template(int(image["ID"]))
        return self._module.result(before, wanted, **self._facts(image, template, wanted))

    def _check(self) -> None:
        label = f"Marketplace app {self._app['NAME']!r} (id {self._app['ID']})"
        if apps.state(self._app) == "ERROR":
            raise apps.broken(self._app)
        if apps.state(self._app) != "READY":
            raise OneException(WRONG_STATE, f"{label} is in state {apps.state(self._app)}, it has to be READY.")
        if apps.kind(self._app) != "IMAGE":
            raise OneException(INVALID, f"{label} is of type {apps.kind(self._app)}; only apps of an IMAGE are exported.")

    def _check_origin(self, image: dict) -> None:
        origin = xml.section(image, "TEMPLATE").get("FROM_APP", "")
        if origin != self._app["ID"]:
            raise OneException(
                CONFLICT,
                f"Image {image['NAME']!r} (id {image['ID']}) is there and was not made from marketplace app "
                f"{self._app['NAME']!r} (id {self._app['ID']}); remove it first or choose another name.",
            )

    def _datastore(self) -> dict:
        if self._params["datastore"] is None:
            raise OneException(INVALID, f"Image {self._image_name!r} does not exist: its datastore is needed.")
        return resources.require(self._client, "datastore", self._params["datastore"])

    def _remove(self, number: int) -> None:
        self._client.call("one.image.delete", number)
        images.wait_gone(self._client, number, self._params["wait_timeout"], self._module.progress)

    def _image(self, image: dict | None, datastore: dict | None) -> dict:
        """Return the image, made if there is none, once it can be used."""
        if image is None:
            attributes = {
                name: value for name, value in apps.decoded(self._app, apps.IMAGE_TEMPLATE).items()
                if name not in _OF_THE_DATASTORE
            }
            text = render({**attributes, "NAME": self._image_name, "FROM_APP": self._app["ID"]})
            number = self._client.call("one.image.allocate", text, int(datastore["ID"]), False)
        else:
            number = int(image["ID"])
        if image and images.is_available(image):
            return image
        if not self._params["wait"]:
            return resources.require(self._client, "image", number)
        return images.wait_available(self._client, number, self._params["wait_timeout"], self._module.progress)

    def _make_template(self, image: int) -> dict:
        attributes = apps.decoded(self._app, apps.VM_TEMPLATE)
        text = render({**attributes, "NAME": self._template_name, "DISK": {"IMAGE_ID": image}})
        return resources.require(self._client, "template", self._client.call("one.template.allocate", text))

    def _facts(self, image: dict | None, template: dict | None, wanted: dict) -> dict:
        made = {"image": image, "vm_template": template}
        return {
            name: resources.identity(made[name]) if made[name] else {"name": wanted[name]} if name in wanted else {}
            for name in made
        }
