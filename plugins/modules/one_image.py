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
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
  - opennebula.flower.attributes.ownership
  - opennebula.flower.attributes.wait
options:
  name:
    description: Name of the image, or the id of one that exists.
    type: str
    required: true
  path:
    description:
      - Where the datastore gets the content from, a path or URL as its driver understands it.
      - The content of an image that exists cannot be exchanged; another path is an error.
    type: str
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
  template:
    description: More attributes of the image in OpenNebula's terms, such as C(DEV_PREFIX) or C(DESCRIPTION).
    type: dict
    default: {}
  update:
    description:
      - What happens to attributes of an existing image that O(template) does not name.
      - With V(merge) they stay, with V(replace) they are removed.
    type: str
    choices: [merge, replace]
    default: merge
  state:
    description: Whether the image should exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: The image of the SuperLink
  opennebula.flower.one_image:
    name: flower-superlink
    path: /var/tmp/flower-superlink.qcow2
    datastore: default
    template:
      DEV_PREFIX: vd

- name: The image is gone
  opennebula.flower.one_image:
    name: flower-superlink
    state: absent

- name: An empty disk that keeps what is written to it
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
"""

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.one import compare, images, resources, states, xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import CONFLICT, INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.ownership import OPTIONS, Ownership, mode

# In the order of OpenNebula's numbers.
_TYPES = ("OS", "CDROM", "DATABLOCK", "KERNEL", "RAMDISK", "CONTEXT", "BACKUP", "FILESYSTEM")
_CHOICES = _TYPES[:6]
_CAN_PERSIST = ("OS", "DATABLOCK")
# What the server adds to an image's template by itself.
_SERVER_ATTRIBUTES = frozenset({"DEV_PREFIX", "DRIVER"})
# What the server keeps beside the template, by the option that says it.
_OWN = {
    "NAME": "name", "PATH": "path", "TYPE": "type", "PERSISTENT": "persistent", "SIZE": "size", "FORMAT": "format", "FS": "fs",
}
_PREFIX = "one.image"


class Image:
    """One image and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]
        self.ownership = Ownership(module.client, module.params)
        for name in module.params["template"]:
            if str(name).upper() in _OWN:
                raise OneException(INVALID, f"{name} in template: it is the option {_OWN[str(name).upper()]} that says so.")

    def ensure(self) -> dict:
        """Bring the image to the wanted state and return the module's result."""
        current = resources.find(self.client, "image", self.name, self.params["owner"])
        if self.params["state"] == "absent":
            return self._absent(current)
        if current and _is_leaving(current) and not resources.is_id(self.name):
            # Somebody removes it; another one takes its place then.
            if not self.module.check_mode:
                self._wait_gone(int(current["ID"]))
            current = None
        if current is None:
            return self._create({})
        if images.state(current) == "ERROR" and (self.params["path"] or self.params["size"]):
            return self._replace_failed(current)
        return self._change(current)

    def _absent(self, current: dict | None) -> dict:
        if current and not self.module.check_mode:
            self._delete(current)
        return self.module.result(_attributes(current) if current else {}, {}, image={})

    def _create(self, before: dict, failed: dict | None = None) -> dict:
        """Register the image. failed: one that could not be registered, whose place it takes once all is checked."""
        if resources.is_id(self.name):
            raise resources.missing(self.client, "image", self.name)
        if not self.params["path"] and not self.params["size"]:
            raise OneException(INVALID, f"Image {self.name!r} does not exist: path, or size for an empty one, is needed.")
        datastore = resources.require(self.client, "datastore", self.params["datastore"])
        after = {
            "name": self.name,
            "type": self.params["type"] or "OS",
            "persistent": bool(self.params["persistent"]),
            "enabled": self.params["enabled"] is not False,
            "path": self.params["path"] or "",
            "datastore": datastore["NAME"],
            "template": compare.wanted_template({}, self.params["template"]),
            **self.ownership.given(),
        }
        _check_persistence(after)
        self.ownership.check({}, after, self.module.unresolved)
        if self.module.check_mode:
            return self.module.result(before, after, image=after)
        if failed:
            self._delete(failed)
        number = self.client.call(f"{_PREFIX}.allocate", self._new_template(after), int(datastore["ID"]), False)
        image = self._available(number)
        if not after["enabled"]:
            self.client.call(f"{_PREFIX}.enable", number, False)
        self._give(image)
        return self.module.result(before, after, image=_facts(self._read(number)))

    def _new_template(self, image: dict) -> dict:
        attributes = {
            **image["template"], "NAME": self.name, "TYPE": image["type"], "PERSISTENT": image["persistent"],
            "PATH": image["path"] or None, **{name: self.params[name.lower()] for name in ("SIZE", "FORMAT", "FS")},
        }
        return {name: value for name, value in attributes.items() if value is not None}

    def _replace_failed(self, current: dict) -> dict:
        if resources.is_id(self.name):
            raise images.broken(current)
        return self._create({**_attributes(current), "state": "ERROR"}, current)

    def _change(self, current: dict) -> dict:
        if images.state(current) == "ERROR":
            raise images.broken(current)
        before = {**_attributes(current), **self.ownership.before(current)}
        if self.params["path"] and self.params["path"] != before["path"]:
            raise OneException(
                CONFLICT,
                f"Image {before['name']!r} (id {current['ID']}) was made from {before['path']!r}, not from "
                f"{self.params['path']!r}; remove it first or choose another name.",
            )
        size = int(current.get("SIZE") or 0)
        if self.params["size"] and not before["path"] and self.params["size"] != size:
            raise OneException(
                CONFLICT,
                f"Image {before['name']!r} (id {current['ID']}) has {size} MB, its size cannot become "
                f"{self.params['size']} MB; remove it first or choose another name.",
            )
        replace = self.params["update"] == "replace"
        told = {name: self.params[name] for name in ("type", "persistent", "enabled") if self.params[name] is not None}
        after = {
            **before,
            **told,
            "template": compare.wanted_template(before["template"], self.params["template"], replace, _SERVER_ATTRIBUTES),
            **self.ownership.after(current),
        }
        if before != after:
            _check_persistence(after)
            self.ownership.check(before, after, self.module.unresolved)
        if self.module.check_mode:
            return self.module.result(before, after, image={**_facts(current), **after})
        number = int(current["ID"])
        if not images.is_settled(current):
            current = self._available(number)
        if before != after:
            self._write(current, before, after)
            current = self._read(number)
        return self.module.result(before, after, image=_facts(current))

    def _write(self, image: dict, before: dict, after: dict) -> None:
        number = int(image["ID"])
        if before["template"] != after["template"]:
            self.client.call(f"{_PREFIX}.update", number, *compare.update(before["template"], after["template"]))
        for name, method in (("type", "chtype"), ("persistent", "persistent"), ("enabled", "enable")):
            if before[name] != after[name]:
                self.client.call(f"{_PREFIX}.{method}", number, after[name])
        self._give(image)

    def _give(self, image: dict) -> None:
        from ansible_collections.opennebula.flower.plugins.module_utils.one.ownership_change import write

        write(self.client, self.ownership, _PREFIX, image)

    def _available(self, number: int) -> dict:
        """Return the image, waiting until it can be used if the task says so."""
        if not self.params["wait"]:
            return self._read(number)
        timeout, progress = self.params["wait_timeout"], self.module.progress
        from ansible_collections.opennebula.flower.plugins.module_utils.one.image_wait import wait_settled

        return wait_settled(self.client, self.name, number, timeout, progress)

    def _read(self, number: int) -> dict:
        return resources.get(self.client, "image", number)

    def _delete(self, current: dict) -> None:
        number = int(current["ID"])
        if not _is_leaving(current):
            resources.delete(self.client, "image", number, _is_leaving)
        if self.params["wait"]:
            self._wait_gone(number)

    def _wait_gone(self, number: int) -> None:
        from ansible_collections.opennebula.flower.plugins.module_utils.one.image_wait import wait_gone

        wait_gone(self.client, self.name, number, self.params["wait_timeout"], self.module.progress)


def _is_leaving(image: dict) -> bool:
    return images.state(image) == "DELETE"


def _check_persistence(image: dict) -> None:
    if image["persistent"] and image["type"] not in _CAN_PERSIST:
        raise OneException(INVALID, f"Image {image['name']!r} is of type {image['type']}, which cannot be persistent.")


def _attributes(image: dict) -> dict:
    template = {name: value for name, value in xml.section(image, "TEMPLATE").items() if name != "ERROR"}
    return {
        "name": image["NAME"],
        "type": states.name(_TYPES, image["TYPE"]),
        "persistent": image["PERSISTENT"] == "1",
        "enabled": images.state(image) != "DISABLED",
        "path": image.get("PATH", ""),
        "datastore": image.get("DATASTORE", ""),
        "template": template,
    }


def _facts(image: dict) -> dict:
    return {
        **resources.identity(image),
        **_attributes(image),
        "mode": mode(image),
        "state": images.state(image),
        "format": image.get("FORMAT", ""),
        "size": int(image.get("SIZE") or 0),
        "source": image.get("SOURCE", ""),
    }


def main() -> None:
    """Run the module."""
    module = OneModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "path": {"type": "str"},
            "datastore": {"type": "str", "default": "default"},
            "type": {"type": "str", "choices": list(_CHOICES)},
            "persistent": {"type": "bool"},
            "size": {"type": "int"},
            "format": {"type": "str"},
            "fs": {"type": "str"},
            "enabled": {"type": "bool"},
            "template": {"type": "dict", "default": {}},
            "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
            **OPTIONS,
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "float", "default": 600},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: Image(module).ensure())


if __name__ == "__main__":
    main()
