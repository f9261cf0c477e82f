#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage marketplace apps."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_marketplace_app
short_description: Manage and export marketplace apps of OpenNebula
version_added: 0.2.0
description:
  - Makes apps of images and of service templates in your own marketplaces, changes and removes them, and exports apps of
    any marketplace to an image and a VM template.
  - An app in state C(ERROR), as a failed import leaves it, is imported again; an image in state C(ERROR), as a failed
    export leaves it, is exported again.
  - Attributes for O(template) are C(DESCRIPTION), C(VERSION) or C(PUBLISHER), for instance.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.attributes.wait
  - opennebula.flower.object
  - opennebula.flower.object.name
  - opennebula.flower.object.template
options:
  marketplace:
    description:
      - Name or id of the marketplace of a new app. Only your own marketplaces (C(http), C(s3)) take apps.
    type: str
  image:
    description:
      - Name or id of the image that a new app is made of.
      - The image of an app that exists cannot be exchanged; another one is an error.
    type: str
  image_template:
    description: Attributes in OpenNebula's terms that images made of the app get, such as C(DEV_PREFIX).
    type: dict
  vm_attributes:
    description:
      - Attributes in OpenNebula's terms of the VM template that comes with the app, such as C(CPU), C(MEMORY) and
        C(CONTEXT). The disk with the image is added when it is exported.
    type: dict
  service:
    description:
      - Template of a OneFlow service that a new app is made of, instead of O(image), in OneFlow's terms and without the VM
        templates of its roles.
      - For an app that exists it is taken as a whole.
    type: dict
  service_roles:
    description:
      - With O(service), the app of the same marketplace whose image and VM template each role has, by the role's name.
      - Whoever exports the app with OpenNebula's tools gets those, too.
    type: dict
  datastore:
    description: With O(state=exported), name or id of the datastore of a new image.
    type: str
  image_name:
    description:
      - With O(state=exported), name of the image. Without it the image is called as the app.
      - Several images, as an app that is a VM template can have, get V(-0), V(-1) and so on after it.
    type: str
  vm_template:
    description: With O(state=exported), whether the VM template that comes with the app is made, too.
    type: bool
    default: true
  vm_template_name:
    description: With O(state=exported), name of the VM template. Without it the template is called as the image.
    type: str
  state:
    description:
      - With V(present) the app should exist, with V(absent) it should not.
      - With V(exported) there should be an image made of it, and a VM template if one comes with it. An image of that
        name that was not made of the app is an error; a VM template of that name is left as it is.
      - Apps that are an image and apps that are a VM template can be exported, but not those that are a service template.
    type: str
    choices: [present, absent, exported]
    default: present
"""

EXAMPLES = r"""
- name: Offer the appliance to everybody
  opennebula.flower.one_marketplace_app:
    name: flower-superlink
    marketplace: ours
    image: flower-superlink
    image_template:
      DEV_PREFIX: vd
    vm_attributes:
      CPU: 1
      MEMORY: 2048
      CONTEXT:
        NETWORK: true
    template:
      VERSION: 1.42.0
      DESCRIPTION: The SuperLink of a Flower federation

- name: Export an appliance of the public marketplace, ready to use
  opennebula.flower.one_marketplace_app:
    name: Debian 12
    datastore: default
    image_name: debian-12
    state: exported

- name: Offer a whole federation to everybody who can use OneFlow
  opennebula.flower.one_marketplace_app:
    name: flower
    marketplace: ours
    service:
      name: flower
      deployment: straight
      roles:
        - {name: superlink, cardinality: 1}
        - {name: supernode, cardinality: 2, parents: [superlink]}
    service_roles:
      superlink: flower-superlink
      supernode: flower-supernode

- name: Remove the app
  opennebula.flower.one_marketplace_app:
    name: flower-superlink
    state: absent
"""

RETURN = r"""
app:
  description: The app as it is now, empty when it is absent.
  returned: success, unless O(state=exported)
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 42
    name:
      description: Its name.
      returned: always
      type: str
      sample: flower-superlink
    owner:
      description: The user it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    group:
      description: The group it belongs to.
      returned: when it exists
      type: str
      sample: oneadmin
    mode:
      description: Its permissions as three octal digits.
      returned: when it exists
      type: str
      sample: "640"
    state:
      description: Its state.
      returned: when it exists
      type: str
      sample: READY
    type:
      description: What it is made of.
      returned: when it exists
      type: str
      sample: IMAGE
    marketplace:
      description: The marketplace's name.
      returned: always
      type: str
      sample: ours
    size:
      description: Its size in MB.
      returned: when it exists
      type: int
      sample: 2048
    source:
      description: Where its image is.
      returned: when it exists
      type: str
      sample: http://market.example.com/5a7f
    image_template:
      description: Attributes that images made of it get, values as text.
      returned: unless it is a service template
      type: dict
      sample: {"DEV_PREFIX": "vd"}
    vm_attributes:
      description: Attributes of the VM template that comes with it, values as text.
      returned: unless it is a service template
      type: dict
      sample: {"CPU": "1", "MEMORY": "2048"}
    service:
      description: The service template it is made of.
      returned: for an app that is a service template, instead of C(image_template) and C(vm_attributes)
      type: dict
      sample: {"name": "flower", "roles": [{"name": "superlink", "cardinality": 1}]}
    service_roles:
      description: The app whose VM template each role has.
      returned: for an app that is a service template
      type: dict
      sample: {"superlink": "flower-superlink"}
    template:
      description: Its other attributes, values as text.
      returned: always
      type: dict
      sample: {"VERSION": "1.42.0"}
images:
  description: The images that are made of the app, in the order of the disks, with C(id), C(name), C(owner) and C(group).
  returned: when O(state=exported)
  type: list
  elements: dict
  sample: [{"id": 7, "name": "debian-12", "owner": "oneadmin", "group": "oneadmin"}]
vm_template:
  description: The VM template that uses the images, with the same keys, empty if none comes with the app.
  returned: when O(state=exported)
  type: dict
  sample: {"id": 4, "name": "debian-12", "owner": "oneadmin", "group": "oneadmin"}
"""

import json

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, WAIT_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import compare, lookup
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject, Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.market import apps
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import CONFLICT, INVALID, OneException

_SETTLED = ("READY", "DISABLED")
# Options that are templates, and the attributes of the app they are encoded in.
_ENCODED = {"image_template": apps.OWN_TEMPLATE, "vm_attributes": apps.VM_TEMPLATE}


class MarketplaceApp(ReconciledObject):
    """One app and what the task wants of it."""

    kind = "marketplace_app"
    fact = "app"
    owned = True
    own = {"ORIGIN_ID": "image", "ROLE": "service_roles", **{attribute: option for option, attribute in _ENCODED.items()}}
    server = read_only = frozenset({"ERROR", "FORMAT", "MD5", "REGTIME", "SIZE", "SOURCE", "TYPE", "ZONE_ID"})

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        # An app whose import failed, and whose place the new one takes once all is checked.
        self._failed: dict | None = None
        self._check_origin()

    def transition(self) -> Transition:
        """Return the way from what there is to what the task wants. Raises OneException."""
        if self.params["state"] == "exported":
            from ansible_collections.opennebula.flower.plugins.module_utils.one.market.export import AppExport

            app = lookup.require(self.client, self.kind, self.name)
            return AppExport(self.module, app).transition()
        return super().transition()

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        template = self.template(document)
        template.pop("ERROR", None)
        return {
            "name": document["NAME"],
            "marketplace": document["MARKETPLACE"],
            **({"state": "ERROR"} if self._is_replaced(document) else {}),
            **self._content(document),
            "template": template,
        }

    def _content(self, document: dict) -> dict:
        if apps.kind(document) == "SERVICE_TEMPLATE":
            return {"service": self._service(document), "service_roles": apps.service_roles(document)}
        return {option: self._decoded(document, option) for option in _ENCODED}

    def _service(self, document: dict) -> dict:
        """Return the service template of an app; of one that goes or gets another one, nothing if it cannot be read."""
        try:
            return apps.service(document)
        except OneException:
            if self.params["service"] is not None or self.params["state"] == "absent":
                return {}
            raise

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        return {
            "name": before.get("name", self.name),
            "marketplace": before["marketplace"] if before else self._marketplace(),
            **self._content_target(before),
            "template": self.desired_template(before),
        }

    def _content_target(self, before: dict) -> dict:
        if not before and self.params["service"] is None or before and "service" not in before:
            return {option: self._encoded_target(before.get(option, {}), option) for option in _ENCODED}
        service, roles = self.params["service"], self.params["service_roles"]
        return {
            # As it comes back.
            "service": before["service"] if service is None else json.loads(json.dumps(service)),
            "service_roles": before.get("service_roles", {}) if roles is None else {str(role): str(app) for role, app in roles.items()},
        }

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {
            **lookup.identity(document),
            "mode": mode(document),
            **self.attributes(document),
            "state": apps.state(document),
            "type": apps.kind(document),
            "size": int(document.get("SIZE") or 0),
            "source": document.get("SOURCE", ""),
        }

    def server_template(self, state: dict) -> dict:
        """Return what is compared as the server keeps it."""
        if "service" in state:
            roles = [{"NAME": role, "APP": app} for role, app in state["service_roles"].items()]
            return {**state["template"], apps.OWN_TEMPLATE: apps.encoded_service(state["service"]), "ROLE": roles}
        encoded = {
            attribute: apps.encoded(state[option]) for option, attribute in _ENCODED.items() if state[option]
        }
        return {**state["template"], **encoded}

    def create(self, after: dict) -> int:
        """Make the app and return its id."""
        if self._failed:
            self.remove(self._failed)
        # A template comes from no image.
        kind, origin = ("SERVICE_TEMPLATE", "-1") if "service" in after else ("IMAGE", self._image["ID"])
        attributes = {**self.server_template(after), "NAME": self.name, "TYPE": kind, "ORIGIN_ID": origin}
        return self.client.call("one.marketapp.allocate", attributes, int(self._market["ID"]))

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the app."""
        self.update_template(number, before, after)

    def settled(self, number: int, document: dict | None) -> dict:
        """Return the app, waiting until its image is in the marketplace if the task says so."""
        if not self.params["wait"] or (document and apps.state(document) in _SETTLED):
            return document or self.read(number)
        seen = {"document": document}

        def probe() -> dict | None:
            app = seen["document"] or self.read(number)
            # The next probe looks again.
            seen.update(document=None, state=apps.state(app))
            if seen["state"] == "ERROR":
                raise apps.broken(app)
            return app if seen["state"] in _SETTLED else None

        return self.wait(probe, lambda: f"its state is {seen['state']}", number, "READY")

    def change(self, current: dict) -> Transition:
        """Return the way from an app that there is to what it should be, or to one that is imported again. Raises OneException."""
        if self._is_replaced(current):
            self._failed = current
            return self.creation(self.compared(current))
        self._check_image(current)
        return super().change(current)

    def _decoded(self, document: dict, option: str) -> dict:
        """Return what is encoded for an option; of what goes anyway, nothing if it cannot be read."""
        try:
            return apps.decoded(document, _ENCODED[option])
        except OneException:
            replaced = self.params[option] is not None and self.params["update"] == "replace"
            if replaced or self.params["state"] == "absent":
                return {}
            raise

    def _encoded_target(self, before: dict, option: str) -> dict:
        wanted = self.params[option]
        return before if wanted is None else compare.wanted_template(before, wanted, self.params["update"] == "replace")

    def _is_replaced(self, app: dict) -> bool:
        return apps.state(app) == "ERROR" and bool(self.params["image"]) and self.params["state"] == "present"

    def _marketplace(self) -> str:
        """Return the name of the marketplace of a new app, and keep it and the image. Raises OneException."""
        for option in ("marketplace",) if self.params["service"] is not None else ("marketplace", "image"):
            if self.params[option] is None:
                raise OneException(INVALID, f"Marketplace app {self.name!r} does not exist: {option} is needed.")
        self._market = self.resolve("marketplace", self.params["marketplace"])
        if self.params["service"] is None:
            self._image = self.resolve("image", self.params["image"])
        return self._market["NAME"]

    def _check_origin(self) -> None:
        """Refuse options that say two things."""
        if self.params["service"] is None:
            return
        for option in ("image", "image_template", "vm_attributes"):
            if self.params[option] is not None:
                raise OneException(INVALID, f"Marketplace app {self.name!r}: {option} cannot be given with service.")
        names = {str(role.get("name")) for role in self.params["service"].get("roles") or [] if isinstance(role, dict)}
        strange = set(map(str, self.params["service_roles"] or {})) ^ names
        if strange:
            listed = ", ".join(sorted(strange))
            raise OneException(INVALID, f"Marketplace app {self.name!r}: service and service_roles need the same roles, {listed} is in one of them.")

    def _check_image(self, app: dict) -> None:
        """Refuse another kind of app, or another image than the one it is made of; that one may be gone by now."""
        is_service = apps.kind(app) == "SERVICE_TEMPLATE"
        if is_service != (self.params["service"] is not None) and (self.params["service"] is not None or self.params["image"]):
            raise OneException(
                CONFLICT, f"{self.label(int(app['ID']))} is of type {apps.kind(app)}, which cannot be changed; remove it first or choose another name."
            )
        image = lookup.find(self.client, "image", self.params["image"]) if self.params["image"] else None
        if image and image["ID"] != app["ORIGIN_ID"]:
            raise OneException(
                CONFLICT,
                f"{self.label(int(app['ID']))} was made from image {app['ORIGIN_ID']}, not from {image['NAME']!r} "
                f"(id {image['ID']}); remove it first or choose another name.",
            )


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            **WAIT_OPTIONS,
            **OPTIONS,
            "marketplace": {"type": "str"},
            "image": {"type": "str"},
            "image_template": {"type": "dict"},
            "vm_attributes": {"type": "dict"},
            "service": {"type": "dict"},
            "service_roles": {"type": "dict"},
            "datastore": {"type": "str"},
            "image_name": {"type": "str"},
            "vm_template": {"type": "bool", "default": True},
            "vm_template_name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent", "exported"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: MarketplaceApp(module).transition())


if __name__ == "__main__":
    main()
