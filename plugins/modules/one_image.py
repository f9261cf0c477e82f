#!/usr/bin/python
# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage images."""

from __future__ import annotations

DOCUMENTATION = r"""
module: one_image
short_description: Manage images of OpenNebula
version_added: 0.1.0
description:
  - Registers, changes and removes images, and waits until the datastore has them.
  - An image in state C(ERROR), as a failed registration leaves it, is registered again if the task says from what.
  - With O(version) another build takes the place of an image without touching the VMs that run from it.
  - Attributes for O(template) are C(DEV_PREFIX) or C(DESCRIPTION), for instance.
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
  path:
    description:
      - Where the datastore gets the content from, a path or URL as its driver understands it.
      - The content of an image that exists cannot be exchanged; another path is an error unless O(version) says that it
        is another build.
      - A file for a new image that the datastore may not read, see C(RESTRICTED_DIRS) and C(SAFE_DIRS) of the datastore, is an error.
    type: str
  app:
    description:
      - Name or id of the marketplace app of an image that a new image is made of, instead of O(path).
      - An image that was made of something else is an error unless O(version) says that it is another build.
    type: str
  vm:
    description:
      - Name or id of the VM whose disk O(vm_disk) is copied into a new image, instead of O(path). It runs, is powered off or
        suspended; only a disk of a VM that is powered off is as its file systems left it.
      - The image is in the datastore of the disk's image, whatever O(datastore) says.
      - An image that was saved from another disk is an error unless O(version) says which build it is; then O(version) alone counts, and the VM has
        to be there only when a new image is made.
    type: str
    version_added: 0.1.0
  vm_disk:
    description: Number of the disk of O(vm), which has to have an image.
    type: int
    default: 0
    version_added: 0.1.0
  checksum:
    description:
      - What the content has to have, V(md5:DIGITS) or V(sha1:DIGITS). The datastore checks it when it copies the content of a
        new image, an app's is compared before.
      - A different or missing checksum of an existing image is an error unless O(version) says that it is another build.
    type: str
  version:
    description:
      - Which build the content is, kept in the attribute C(VERSION). For an image that exists with another version, or
        without one, the new build is registered as C(NAME (VERSION)). Once that is ready, the old image is renamed to its
        name with its version, and the new one gets the name.
      - VMs that run from the old image stay as they are; VM templates that name the image use the new one from then on.
      - An interrupted change goes on with the next run.
    type: str
  keep_replaced:
    description:
      - Whether images that were replaced by another build, see O(version), stay when no VM uses them any more.
      - Without them, O(state=absent) removes those, too.
    type: bool
    default: true
  datastore:
    description: Name or id of the datastore of a new image.
    type: str
    default: default
  type:
    description:
      - What the image is. Without it a new image is an V(OS) image.
      - An image that exists can change among V(OS), V(DATABLOCK) and V(CDROM), and among V(KERNEL), V(RAMDISK) and
        V(CONTEXT).
    type: str
    choices: [OS, CDROM, DATABLOCK, KERNEL, RAMDISK, CONTEXT]
  persistent:
    description:
      - Whether changes a VM makes are kept, which allows one VM at a time. Without it a new image is not.
      - Only an V(OS) or V(DATABLOCK) image can be, and only one that no VM uses can change.
    type: bool
  size:
    description:
      - Size of a new image in MB, needed for an empty V(type=DATABLOCK).
      - The size of an empty image that exists cannot be changed; another one is an error. For one with a O(path) the
        datastore finds out the size.
    type: int
  format:
    description: Format of a new empty image, such as V(raw) or V(qcow2). The datastore may know better.
    type: str
  fs:
    description: File system of a new empty image, such as V(ext4). Without it there is none.
    type: str
  enabled:
    description: Whether VMs can use the image. Without it an image that exists stays as it is, and a new one is enabled.
    type: bool
"""

EXAMPLES = r"""
- name: Register the image of the SuperLink
  opennebula.flower.one_image:
    name: flower-superlink
    path: /var/tmp/flower-superlink.qcow2
    datastore: default
    template:
      DEV_PREFIX: vd

- name: Register another build for new VMs, and remove those that no VM uses
  opennebula.flower.one_image:
    name: flower-superlink
    path: https://images.example.org/flower-superlink.qcow2
    checksum: md5:0cc175b9c0f1b6a831c399e269772661
    version: "2026-03"
    keep_replaced: false

- name: Save what was installed in a VM as an image
  opennebula.flower.one_image:
    name: flower-superlink
    vm: superlink-build
    version: "2026-03"

- name: Remove the image
  opennebula.flower.one_image:
    name: flower-superlink
    state: absent

- name: Create an empty disk that keeps what is written to it
  opennebula.flower.one_image:
    name: flower-data
    type: DATABLOCK
    size: 10240
    fs: ext4
    persistent: true
    group: flower
    mode: "660"
"""

RETURN = r"""
image:
  description: The image as it is now, empty when it is absent.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      returned: when it exists
      type: int
      sample: 3
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
    enabled:
      description: Whether VMs can use it.
      returned: always
      type: bool
    type:
      description: What it is.
      returned: always
      type: str
      sample: OS
    persistent:
      description: Whether changes are kept.
      returned: always
      type: bool
    path:
      description: Where its content came from.
      returned: always
      type: str
      sample: /var/tmp/flower-superlink.qcow2
    size:
      description: Its size in MB.
      returned: when it exists
      type: int
      sample: 2048
    format:
      description: Its format, as the datastore names it.
      returned: when it exists
      type: str
      sample: qcow2
    source:
      description: Where the datastore keeps it.
      returned: when it exists
      type: str
      sample: /var/lib/one/datastores/1/5a7f
    datastore:
      description: The datastore's name.
      returned: always
      type: str
      sample: default
    template:
      description: Its other attributes, values as text.
      returned: always
      type: dict
      sample: {"DEV_PREFIX": "vd"}
replaced:
  description: Names of the images that another build took the place of, now or before, and that are removed by this run.
  returned: when O(keep_replaced=false)
  type: list
  elements: str
  sample: ["flower-superlink (2026-02)"]
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import STATE_OPTIONS, WAIT_OPTIONS, OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one.core import compare, lookup, states
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.ownership import OPTIONS, mode
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.reconcile import ReconciledObject, Transition
from ansible_collections.opennebula.flower.plugins.module_utils.one.image import states as image_states
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport import xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import CONFLICT, INVALID, OneException

# In the order of OpenNebula's numbers.
_TYPES = ("OS", "CDROM", "DATABLOCK", "KERNEL", "RAMDISK", "CONTEXT", "BACKUP", "FILESYSTEM")
_CHOICES = _TYPES[:6]
_CAN_PERSIST = ("OS", "DATABLOCK")
# What the server adds to an image's template by itself.
_SERVER_ATTRIBUTES = frozenset({
    "DEV_PREFIX", "DRIVER", "FROM_APP", "FROM_APP_FORMAT", "FROM_APP_MD5", "FROM_APP_NAME", "SAVED_DISK_ID", "SAVED_IMAGE_ID", "SAVED_VM_ID",
})  # fmt: skip
# What the server keeps beside the template, by the option that says it.
_OWN = {
    "NAME": "name", "PATH": "path", "TYPE": "type", "PERSISTENT": "persistent", "SIZE": "size", "FORMAT": "format", "FS": "fs",
    # The server makes it of the format.
    "DRIVER": "format",
}


class Image(ReconciledObject):
    """One image and what the task wants of it."""

    kind = "image"
    fact = "image"
    owned = True
    own = _OWN
    server = _SERVER_ATTRIBUTES

    def __init__(self, module: OneModule) -> None:
        super().__init__(module)
        # Rarely asked for.
        self._build = None
        if not module.params["keep_replaced"] or any(module.params[name] is not None for name in ("app", "checksum", "version", "vm")):
            from ansible_collections.opennebula.flower.plugins.module_utils.one.image.builds import ATTRIBUTES, Build

            self._build = Build(self.client, module.params)
            self.server = self.server | ATTRIBUTES
        self._datastore: dict = {}
        # One that could not be registered, whose place the new one takes once all is checked.
        self._failed: dict | None = None
        # The name of another build, until it takes the image's place.
        self._staged: str | None = None
        # Images that are removed because another build took their place.
        self._replaced: list[dict] = []

    def transition(self) -> Transition:
        """Return the way from what there is to what the task wants, for the image and those it replaced. Raises OneException."""
        if self.params["keep_replaced"]:
            return super().transition()
        self._replaced = self._build.replaced(lookup.pool(self.client, "image"))
        own = super().transition()
        names = [item["NAME"] for item in self._replaced]

        def apply() -> dict:
            facts = own.apply() if own.apply else own.predicted()
            for image in self._replaced:
                self.remove(image)
            return {**facts, "replaced": names}

        removal = ({"replaced": names}, {"replaced": []}) if names else ({}, {})
        return Transition(own.before | removal[0], own.after | removal[1], lambda: {**own.predicted(), "replaced": names}, apply)

    def attributes(self, document: dict) -> dict:
        """Return what is compared, as it is."""
        return {
            "name": document["NAME"],
            "type": states.name(_TYPES, document["TYPE"]),
            "persistent": document["PERSISTENT"] == "1",
            "enabled": image_states.state(document) != "DISABLED",
            "path": document.get("PATH", ""),
            "datastore": document.get("DATASTORE", ""),
            "template": self.template(document),
        }

    def template(self, document: dict) -> dict:
        """Return the image's template, of which DRIVER is a part although the server makes it of the format."""
        return {name: value for name, value in xml.section(document, "TEMPLATE").items() if name != "ERROR"}

    def desired(self, before: dict) -> dict:
        """Return what is compared, as it should be."""
        told = {name: self.params[name] for name in ("type", "persistent", "enabled") if self.params[name] is not None}
        after = {**before, **told, "template": self.desired_template(before)} if before else {**self._content(), **told}
        if (after["type"], after["persistent"]) != (before.get("type"), before.get("persistent")):
            _check_persistence(after)
        return after

    def facts(self, document: dict) -> dict:
        """Return what the module's user gets to know."""
        return {
            **lookup.identity(document),
            **self.attributes(document),
            "mode": mode(document),
            "state": image_states.state(document),
            "format": document.get("FORMAT", ""),
            "size": int(document.get("SIZE") or 0),
            "source": document.get("SOURCE", ""),
        }

    def is_leaving(self, document: dict) -> bool:
        """Tell whether the image is being removed."""
        return image_states.state(document) == "DELETE"

    def is_gone(self, number: int) -> bool:
        """Tell whether a removed image is gone. One that cannot be removed stays with the reason in it."""
        left = lookup.get(self.client, "image", number)
        if left and image_states.state(left) == "ERROR":
            raise image_states.broken(left)
        return left is None

    def creation(self, before: dict) -> Transition:
        """Return the way to the image, or to another build of one that a failed run left. Raises OneException."""
        if not before and self._build and self._build.version is not None and self._staged_image():
            return self._replace(None)
        return super().creation(before)

    def change(self, current: dict) -> Transition:
        """Return the way from an image that there is to what it should be, or to another one in its place. Raises OneException."""
        if self._build and self._build.is_other(current):
            return self._replace(current)
        if image_states.state(current) == "ERROR":
            if not self._has_origin or lookup.is_id(self.name):
                raise image_states.broken(current)
            self._failed = current
            return self.creation({**self.attributes(current), "state": "ERROR"})
        self._check_origin(current)
        return super().change(current)

    def create(self, after: dict) -> int:
        """Register the image and return its id."""
        if self._failed:
            self.remove(self._failed)
        name = self._staged or self.name
        if self.params["vm"]:
            number = self._build.save(name, after["type"], after["template"])
        else:
            number = self.client.call("one.image.allocate", {**self._new_template(after), "NAME": name}, int(self._datastore["ID"]), False)
        self._available(number)
        if self.params["vm"] and after["persistent"]:
            self.client.call("one.image.persistent", number, True)
        if not after["enabled"]:
            self.client.call("one.image.enable", number, False)
        return number

    def apply(self, number: int, before: dict, after: dict) -> None:
        """Change the image, once it can be changed."""
        self._available(number)
        self.update_template(number, before, after)
        for name, method in (("type", "chtype"), ("persistent", "persistent"), ("enabled", "enable")):
            if before[name] != after[name]:
                self.client.call(f"one.image.{method}", number, after[name])

    def settled(self, number: int, document: dict | None) -> dict:
        """Return the image, waiting until it can be used if the task says so."""
        return document if document and image_states.is_settled(document) else self._available(number)

    @property
    def _has_origin(self) -> bool:
        return any(self.params[name] for name in ("path", "size", "app", "vm"))

    def _content(self) -> dict:
        """Return what a new image is to be, and keep its datastore. Raises OneException."""
        if not self._has_origin:
            raise OneException(INVALID, f"Image {self.name!r} does not exist: path, app, vm, or size for an empty one, is needed.")
        where = self._build.datastore(self.module.unresolved) if self.params["vm"] else None
        self._datastore = lookup.require(self.client, "datastore", where or self.params["datastore"])
        if self.params["path"]:
            from ansible_collections.opennebula.flower.plugins.module_utils.one.image.builds import check_path

            check_path(self.name, self.params["path"], self._datastore)
        return {
            "name": self.name,
            "type": "OS",
            "persistent": False,
            "enabled": True,
            "path": self.params["path"] or "",
            "datastore": self._datastore["NAME"],
            "template": compare.wanted_template(self._build.attributes() if self._build else {}, self.requested_template()),
        }

    def _staged_image(self) -> dict | None:
        return lookup.find(self.client, "image", self._build.staged, self.params["owner"])

    def _replace(self, current: dict | None) -> Transition:
        """Return the way to another build in the place of the image. Raises OneException."""
        if not self.params["wait"]:
            raise OneException(INVALID, f"Image {self.name!r} is another build, which takes its place once it is READY: wait has to be true.")
        from ansible_collections.opennebula.flower.plugins.module_utils.one.image.builds import BUILD_OF, in_use, name_of_replaced

        before, staged = self.compared(current) if current else {}, self._staged_image()
        is_failed = bool(staged) and image_states.state(staged) == "ERROR"
        if staged and not is_failed:
            self._build.check(staged)
            after = {**self.attributes(staged), "name": self.name}
        else:
            self._failed, self._staged = staged, self._build.staged
            after = self.desired_new()
        if current and not self.params["keep_replaced"] and not in_use(current):
            self._replaced.append({**current, "NAME": name_of_replaced(current)})

        def apply() -> dict:
            image = self.created(after) if self._staged else self._available(int(staged["ID"]))
            if self._build.is_other(image):
                # Saved from a disk by a run that ended before it could say which build it is.
                attributes = compare.wanted_template(self._build.attributes(), self.requested_template())
                self.client.call("one.image.update", int(image["ID"]), attributes, 1)
            if current:
                # The name comes last: a run that ends in between is taken up where it was.
                self.client.call("one.image.update", int(current["ID"]), {BUILD_OF: self.name}, 1)
                self.client.call("one.image.rename", int(current["ID"]), name_of_replaced(current))
            self.client.call("one.image.rename", int(image["ID"]), self.name)
            return {self.fact: self.facts(self.read(int(image["ID"])))}

        return Transition(before, after, lambda: {self.fact: after}, apply)

    def _new_template(self, image: dict) -> dict:
        attributes = {
            **image["template"], "NAME": self.name, "TYPE": image["type"], "PERSISTENT": image["persistent"],
            "PATH": image["path"] or None, **{name: self.params[name.lower()] for name in ("SIZE", "FORMAT", "FS")},
        }
        return {name: value for name, value in attributes.items() if value is not None}

    def _check_origin(self, image: dict) -> None:
        """Refuse an image of other content than the task says. Raises OneException of kind conflict."""
        label, path, size = self.label(int(image["ID"])), image.get("PATH", ""), int(image.get("SIZE") or 0)
        if self._build:
            self._build.check(image)
        if self.params["path"] and self.params["path"] != path and self.params["version"] is None:
            raise OneException(
                CONFLICT, f"{label} was made from {path!r}, not from {self.params['path']!r}; remove it first or choose another name."
            )
        if self.params["size"] and not path and self.params["size"] != size:
            raise OneException(
                CONFLICT, f"{label} has {size} MB, its size cannot become {self.params['size']} MB; remove it first or choose another name."
            )

    def _available(self, number: int) -> dict:
        """Return the image, waiting until it can be used if the task says so."""
        if not self.params["wait"]:
            return self.read(number)
        timeout, progress = self.params["wait_timeout"], self.module.progress
        return image_states.wait_settled(self.client, self.name, number, timeout, progress)


def _check_persistence(image: dict) -> None:
    if image["persistent"] and image["type"] not in _CAN_PERSIST:
        raise OneException(INVALID, f"Image {image['name']!r} is of type {image['type']}, which cannot be persistent.")


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            **STATE_OPTIONS,
            **WAIT_OPTIONS,
            **OPTIONS,
            "path": {"type": "str"},
            "app": {"type": "str"},
            "vm": {"type": "str"},
            "vm_disk": {"type": "int", "default": 0},
            "checksum": {"type": "str"},
            "version": {"type": "str"},
            "keep_replaced": {"type": "bool", "default": True},
            "datastore": {"type": "str", "default": "default"},
            "type": {"type": "str", "choices": list(_CHOICES)},
            "persistent": {"type": "bool"},
            "size": {"type": "int"},
            "format": {"type": "str"},
            "fs": {"type": "str"},
            "enabled": {"type": "bool"},
        },
        supports_check_mode=True,
    )
    module.reconcile(lambda: Image(module).transition())


if __name__ == "__main__":
    main()
