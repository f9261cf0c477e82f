# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Images: registering them through the driver, and their use by VMs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.core import quotas
from lab.core.call import Call, parse_template
from lab.core.errors import ACTION, ALLOCATE, INTERNAL, OneError
from lab.core.markup import Data, attributes, ids
from lab.core.pools import BODIES, DELETERS, head
from lab.core.registry import method
from lab.core.states import ImageState
from lab.core.system import DATASTORE_TYPES
from lab.driver import ImageSpec

if TYPE_CHECKING:
    from lab.core.api import Core

_TYPES = {"OS": 0, "CDROM": 1, "DATABLOCK": 2, "KERNEL": 3, "RAMDISK": 4, "CONTEXT": 5, "BACKUP": 6}
_FAILED = "Error allocating a new image. "
#: attributes that are the image's own rather than part of its template
_OWN = ("NAME", "TYPE", "PATH", "SIZE", "PERSISTENT", "SOURCE", "FORMAT", "FS")
#: kinds of types that an image can change among
_DISKS, _FILES = ("OS", "DATABLOCK", "CDROM"), ("KERNEL", "RAMDISK", "CONTEXT")
_IN_USE = (ImageState.USED, ImageState.USED_PERS, ImageState.LOCKED_USED, ImageState.LOCKED_USED_PERS)
_PERSISTENT_IN_USE = (ImageState.USED_PERS, ImageState.LOCKED_USED_PERS)
_IN_WORK = (ImageState.LOCKED, ImageState.LOCKED_USED, ImageState.LOCKED_USED_PERS)
SYSTEM, CDROM = _TYPES["OS"], _TYPES["CDROM"]


def timestamped(core: Core, message: str) -> str:
    """Return a message with the time in front, as OpenNebula writes them into VMs."""
    return f"{time.asctime(time.gmtime(core.now()))}: {message}"


def failure(core: Core, message: str) -> str:
    """Return a message with the time in front, as OpenNebula writes them into everything but VMs."""
    return f"{time.asctime(time.gmtime(core.now()))} : {message}"


def acquire(core: Core, image: dict, vm_id: int) -> None:
    """Note that a VM uses an image."""
    image["vms"].append(vm_id)
    image["state"] = _used(image, in_work=image["state"] in _IN_WORK)
    core.store.save("image", image)


def _used(image: dict, *, in_work: bool) -> ImageState:
    if in_work:
        return ImageState.LOCKED_USED_PERS if image["persistent"] else ImageState.LOCKED_USED
    return ImageState.USED_PERS if image["persistent"] else ImageState.USED


def is_in_work(image: dict) -> bool:
    """Whether an image is not made yet."""
    return image["state"] in _IN_WORK


def state_name(image: dict) -> str:
    """Return the state of an image as messages name it, which does not tell whether one in use is persistent."""
    return ImageState(image["state"]).name.removesuffix("_PERS")


def release(core: Core, image_id: int, vm_id: int) -> None:
    """Note that a VM uses an image no more."""
    image = core.store.get("image", image_id)
    if image is None or vm_id not in image["vms"]:
        return
    image["vms"].remove(vm_id)
    if not image["vms"]:
        image["state"] = ImageState.LOCKED if image["state"] in _IN_WORK else ImageState.READY
    core.store.save("image", image)


def check_usable(image: dict, attach: bool) -> None:
    """Refuse an image that no VM can have now; a new VM waits for one that is being made. Raises OneError."""
    cannot, state = f"Cannot acquire image {image['id']}, ", image["state"]
    if _type(image) not in _DISKS:
        raise OneError(
            INTERNAL, f"Image {image['id']} ({image['name']}) of type {_type(image)} cannot be used as DISK."
        )
    if state in _PERSISTENT_IN_USE:
        raise OneError(INTERNAL, f"{cannot}it is persistent and already in use")
    if state in _IN_WORK and attach:
        raise OneError(INTERNAL, f"{cannot}it is locked")
    if state not in (*_IN_WORK, *_IN_USE, ImageState.READY):
        raise OneError(INTERNAL, f"{cannot}it is in state: {state_name(image)}")


def register(core: Core, image_id: int) -> None:
    """Let the driver register an image, in the background; it ends READY or ERROR with the reason."""
    image = core.store.get("image", image_id)
    wanted = spec(image)

    def registered(size_mb: int) -> None:
        image.update(
            state=_used(image, in_work=False) if image["vms"] else ImageState.READY, size=size_mb,
            source=wanted.source or wanted.path, format=image["format"] or core.driver.image_format,
        )
        core.store.save("image", image)
        core.lifecycle.image_made(image)

    def failed(reason: str) -> None:
        image["state"] = ImageState.ERROR
        core.lifecycle.image_made(image)
        image["template"]["ERROR"] = failure(core, f"Error copying image in the datastore: {reason}")
        core.store.save("image", image)

    core.lifecycle.work(lambda: core.driver.register_image(wanted), registered, failed)


def remove(core: Core, image_id: int) -> None:
    """Let the driver forget an image, in the background, and forget it then; it ends ERROR when that fails."""
    image = core.store.get("image", image_id)
    wanted = spec(image)

    def gone(_result: object) -> None:
        core.store.remove("image", image_id)

    def failed(reason: str) -> None:
        image["state"] = ImageState.ERROR
        image["template"]["ERROR"] = failure(core, f"Error removing image from datastore: {reason}")
        core.store.save("image", image)

    core.lifecycle.work(lambda: core.driver.delete_image(wanted), gone, failed)


def spec(image: dict) -> ImageSpec:
    """Return an image as drivers see it."""
    return ImageSpec(image["id"], image["name"], image["path"], image["size"], image["source"])


def _body(core: Core, image: dict) -> dict:
    datastore = core.store.get("datastore", image["datastore"])
    snapshots = {"ALLOW_ORPHANS": "NO", "CURRENT_BASE": "-1", "NEXT_SNAPSHOT": "0"}
    state = int(image["state"])
    return head(core, image) | {
        "TYPE": image["type"], "DISK_TYPE": 0, "PERSISTENT": int(image["persistent"]),
        "REGTIME": image["regtime"], "MODTIME": image["regtime"], "SOURCE": Data(image["source"]),
        "PATH": Data(image["path"]), "FORMAT": Data(image["format"]), "FS": Data(image.get("fs", "")), "SIZE": image["size"],
        "STATE": state, "PREV_STATE": 0 if state == ImageState.LOCKED else state, "RUNNING_VMS": len(image["vms"]),
        "CLONING_OPS": 0, "CLONING_ID": -1, "TARGET_SNAPSHOT": -1,
        "DATASTORE_ID": datastore["id"], "DATASTORE": datastore["name"],
        "VMS": ids(image["vms"]), "CLONES": {}, "APP_CLONES": {}, "TEMPLATE": attributes(image["template"]),
        "SNAPSHOTS": attributes(snapshots), "BACKUP_INCREMENTS": {}, "BACKUP_DISK_IDS": {},
    }


def _delete(call: Call, image: dict) -> bool:
    if image["vms"]:
        raise OneError(ACTION, f"Cannot delete image. There are {len(image['vms'])} VMs using it.")
    image["state"] = ImageState.DELETE
    call.core.store.save("image", image)
    remove(call.core, image["id"])
    return False


BODIES["image"] = _body
DELETERS["image"] = _delete


def _from_app(call: Call, app_id: str) -> dict:
    """Return what an image gets from the marketplace app it is made of. Raises OneError."""
    app = call.core.store.get("marketapp", int(app_id)) if app_id.isdigit() else None
    if app is None:
        raise OneError(INTERNAL, "Cannot determine image SIZE.")
    return {
        "FROM_APP_NAME": app["name"], "FROM_APP_MD5": app["md5"], "PATH": app["source"], "FORMAT": app["format"],
        "SIZE": str(app["size"]),
    }


@method("one.image.allocate", "s i b?")
def _allocate(call: Call, text: str, datastore_id: int, _check_capacity: bool = True) -> int:
    template = parse_template(text)
    datastore = call.find("datastore", datastore_id)
    call.authorize(("CREATE", "image", None), ("USE", "datastore", datastore))
    if DATASTORE_TYPES[datastore["template"]["TYPE"]] == DATASTORE_TYPES["SYSTEM_DS"]:
        raise OneError(ALLOCATE, f"{_FAILED}New images cannot be allocated in a system datastore.")
    if "FROM_APP" in template:
        template |= _from_app(call, template["FROM_APP"])
    own = {name: template.pop(name, "") for name in _OWN}
    call.check_name("image", own["NAME"], ALLOCATE, _FAILED)
    if (own["TYPE"] or "OS").upper() not in _TYPES:
        raise OneError(ALLOCATE, f"{_FAILED}Unknown type in template.")
    if not own["PATH"] and not own["SOURCE"] and not own["SIZE"]:
        raise OneError(ALLOCATE, f"{_FAILED}No PATH in template.")
    if own["SIZE"] and not own["SIZE"].isdigit():
        raise OneError(ALLOCATE, f"{_FAILED}Wrong number in SIZE.")
    kind = (own["TYPE"] or "OS").upper()
    is_disk = kind in ("OS", "DATABLOCK")
    if not is_disk and not own["PATH"] and not own["SOURCE"]:
        raise OneError(ALLOCATE, f"{_FAILED}No PATH nor SOURCE in template.")
    template.pop("DEV_PREFIX" if not is_disk else "DRIVER", None)
    quotas.check_image(call, datastore_id, int(own["SIZE"] or 0))
    image = call.new(
        "image", own["NAME"], state=ImageState.LOCKED, type=_TYPES[kind],
        path=own["PATH"], source="", format="" if own["PATH"] else own["FORMAT"] or "raw", fs=own["FS"],
        size=int(own["SIZE"] or 0), vms=[], datastore=datastore_id,
        persistent=is_disk and own["PERSISTENT"].upper() == "YES", regtime=call.core.now(),
        template=({"DEV_PREFIX": "sd"} if is_disk else {}) | template,
    )
    call.core.store.save("image", image)
    register(call.core, image["id"])
    return image["id"]


@method("one.image.persistent", "i b")
def _persistent(call: Call, image_id: int, persistent: bool) -> int:
    image = call.get("image", image_id, "MANAGE")
    if image["persistent"] == persistent:
        return image_id
    if _type(image) in _FILES:
        raise OneError(ACTION, "KERNEL, RAMDISK and CONTEXT must be non-persistent")
    if image["state"] in _IN_USE:
        how = "persistent" if persistent else "non-persistent"
        raise OneError(
            INTERNAL, f"Could not make image {how}: Image cannot be in state {state_name(image)}."
        )
    image["persistent"] = persistent
    call.core.store.save("image", image)
    return image_id


@method("one.image.chtype", "i s")
def _change_type(call: Call, image_id: int, kind: str) -> int:
    image = call.get("image", image_id, "MANAGE")
    if kind.upper() not in (_DISKS if _type(image) in _DISKS else _FILES):
        raise OneError(ACTION, "Cannot change image type to an incompatible type for the current datastore.")
    image["type"] = _TYPES[kind.upper()]
    call.core.store.save("image", image)
    return image_id


@method("one.image.enable", "i b")
def _enable(call: Call, image_id: int, enable: bool) -> int:
    image = call.get("image", image_id, "MANAGE")
    if image["state"] not in (ImageState.READY, ImageState.DISABLED, ImageState.ERROR):
        how = "enable" if enable else "disable"
        raise OneError(
            INTERNAL, f"Could not {how} image: Image cannot be in state {state_name(image)}."
        )
    image["state"] = ImageState.READY if enable else ImageState.DISABLED
    call.core.store.save("image", image)
    return image_id


def _type(image: dict) -> str:
    return next(name for name, number in _TYPES.items() if number == image["type"])
