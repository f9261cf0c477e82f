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
  - An image in state C(ERROR), as a failed registration leaves it, is registered again.
author:
  - opennebula.flower contributors (@opennebula)
extends_documentation_fragment:
  - opennebula.flower.api
  - opennebula.flower.attributes
  - opennebula.flower.attributes.one_group
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
    description: What the image is. Without it a new image is an V(OS) image.
    type: str
    choices: [OS, CDROM, DATABLOCK, KERNEL, RAMDISK, CONTEXT]
  persistent:
    description: Whether changes a VM makes are kept, which allows one VM at a time. Without it a new image is not.
    type: bool
  size:
    description: Size of a new image in MB, needed for an empty V(type=DATABLOCK).
    type: int
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
    state:
      description: Its state.
      returned: when it exists
      type: str
      sample: READY
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
from ansible_collections.opennebula.flower.plugins.module_utils.one import compare, resources, states, xml
from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import CONFLICT, INVALID, WRONG_STATE, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.template import render
from ansible_collections.opennebula.flower.plugins.module_utils.one.wait import wait_until

# In the order of OpenNebula's numbers.
_TYPES = ("OS", "CDROM", "DATABLOCK", "KERNEL", "RAMDISK", "CONTEXT")
_AVAILABLE = ("READY", "USED", "USED_PERS")


class Image:
    """One image and what the task wants of it."""

    def __init__(self, module: OneModule) -> None:
        self.module = module
        self.params = module.params
        self.client = module.client
        self.name = module.params["name"]

    def ensure(self) -> dict:
        """Bring the image to the wanted state and return the module's result."""
        current = resources.find(self.client, "image", self.name)
        if self.params["state"] == "absent":
            return self._absent(current)
        if current is None:
            return self._create({})
        if _state(current) == "ERROR" and self.params["path"]:
            return self._replace_failed(current)
        return self._change(current)

    def _absent(self, current: dict | None) -> dict:
        if current and not self.module.check_mode:
            self._delete(current)
        return self.module.result(_attributes(current) if current else {}, {}, image={})

    def _create(self, before: dict) -> dict:
        if resources.is_id(self.name):
            raise resources.missing(self.client, "image", self.name)
        if not self.params["path"] and not self.params["size"]:
            raise OneException(INVALID, f"Image {self.name!r} does not exist: path, or size for an empty one, is needed.")
        datastore = resources.require(self.client, "datastore", self.params["datastore"])
        after = {
            "name": self.name,
            "type": self.params["type"] or "OS",
            "persistent": bool(self.params["persistent"]),
            "path": self.params["path"] or "",
            "datastore": datastore["NAME"],
            "template": compare.wanted_template({}, self.params["template"]),
        }
        if self.module.check_mode:
            return self.module.result(before, after, image=after)
        number = self.client.call("one.image.allocate", self._new_template(after), int(datastore["ID"]), False)
        return self.module.result(before, after, image=_facts(self._available(number)))

    def _new_template(self, image: dict) -> str:
        attributes = {
            **image["template"], "NAME": self.name, "TYPE": image["type"], "PERSISTENT": image["persistent"],
            "PATH": image["path"] or None, "SIZE": self.params["size"],
        }
        return render({name: value for name, value in attributes.items() if value is not None})

    def _replace_failed(self, current: dict) -> dict:
        if resources.is_id(self.name):
            raise self._broken(current)
        if not self.module.check_mode:
            self._delete(current)
        return self._create({**_attributes(current), "state": "ERROR"})

    def _change(self, current: dict) -> dict:
        before = _attributes(current)
        if self.params["path"] and self.params["path"] != before["path"]:
            raise OneException(
                CONFLICT,
                f"Image {before['name']!r} (id {current['ID']}) was made from {before['path']!r}, not from "
                f"{self.params['path']!r}; remove it first or choose another name.",
            )
        replace = self.params["update"] == "replace"
        after = {
            **before,
            "type": self.params["type"] or before["type"],
            "persistent": before["persistent"] if self.params["persistent"] is None else self.params["persistent"],
            "template": compare.wanted_template(before["template"], self.params["template"], replace),
        }
        number = int(current["ID"])
        if not self.module.check_mode:
            current = self._available(number)
            self._write(number, before, after)
        return self.module.result(before, after, image={**_facts(current), **after})

    def _write(self, number: int, before: dict, after: dict) -> None:
        if before["template"] != after["template"]:
            self.client.call("one.image.update", number, *compare.update(before["template"], after["template"]))
        if before["type"] != after["type"]:
            self.client.call("one.image.chtype", number, after["type"])
        if before["persistent"] != after["persistent"]:
            self.client.call("one.image.persistent", number, after["persistent"])

    def _available(self, number: int) -> dict:
        """Return the image, waiting until it can be used if the task says so."""
        if not self.params["wait"]:
            return resources.get(self.client, "image", number)
        seen = {"STATE": None}

        def probe() -> dict | None:
            seen.update(resources.get(self.client, "image", number) or {"STATE": None})
            if _state(seen) == "ERROR":
                raise self._broken(seen)
            return seen if _state(seen) in _AVAILABLE else None

        return self._wait(probe, lambda: _state(seen), f"Image {self.name!r} (id {number}) is not READY")

    def _delete(self, current: dict) -> None:
        number = int(current["ID"])
        if _state(current) != "DELETE":
            self.client.call("one.image.delete", number)
        if self.params["wait"]:
            # A removed image that failed to go stays with the reason in it.
            self._wait(
                lambda: True if self._is_gone(number) else None, lambda: "DELETE",
                f"Image {self.name!r} (id {number}) is not removed",
            )

    def _is_gone(self, number: int) -> bool:
        left = resources.get(self.client, "image", number)
        if left and _state(left) == "ERROR":
            raise self._broken(left)
        return left is None

    def _wait(self, probe, describe, what):
        return wait_until(probe, describe, self.params["wait_timeout"], progress=self.module.progress, what=what)

    def _broken(self, image: dict) -> OneException:
        reason = xml.section(image, "TEMPLATE").get("ERROR", "the server gives no reason").strip().rstrip(".")
        return OneException(WRONG_STATE, f"Image {image['NAME']!r} (id {image['ID']}) is in state ERROR: {reason}.")


def _state(image: dict) -> str:
    return states.name(states.IMAGE, image["STATE"])


def _attributes(image: dict) -> dict:
    template = {name: value for name, value in xml.section(image, "TEMPLATE").items() if name != "ERROR"}
    return {
        "name": image["NAME"],
        "type": states.name(_TYPES, image["TYPE"]),
        "persistent": image["PERSISTENT"] == "1",
        "path": image.get("PATH", ""),
        "datastore": image.get("DATASTORE", ""),
        "template": template,
    }


def _facts(image: dict) -> dict:
    return {
        **resources.identity(image),
        **_attributes(image),
        "state": _state(image),
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
            "type": {"type": "str", "choices": list(_TYPES)},
            "persistent": {"type": "bool"},
            "size": {"type": "int"},
            "template": {"type": "dict", "default": {}},
            "update": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "float", "default": 600},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: Image(module).ensure())


if __name__ == "__main__":
    main()
