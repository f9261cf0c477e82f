# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Images: registering them through the driver, and their use by VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core import machine_rules, quotas, restricted
from lab.core.call import Call, parse_template, settle
from lab.core.datastores import PERSISTENT_ONLY, check_room
from lab.core.errors import ACTION, ALLOCATE, INTERNAL, OneError, failure
from lab.core.kinds import KINDS
from lab.core.markup import Data, attributes, ids
from lab.core.method import Method
from lab.core.pools import delete, generic_methods, head
from lab.core.states import ImageState
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
SYSTEM, CDROM, BACKUP = _TYPES["OS"], _TYPES["CDROM"], _TYPES["BACKUP"]


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
    wanted = spec(core.store.get("image", image_id))
    core.lifecycle.work(
        # What is in the datastore already is taken as it is.
        lambda: wanted.size_mb if wanted.source else core.driver.register_image(wanted),
        lambda size_mb: made(core, wanted, size_mb),
        lambda reason: broke(core, image_id, f"Error copying image in the datastore: {reason}"),
    )


def made(core: Core, image: ImageSpec, size_mb: int) -> None:
    """Note that the driver has made an image."""
    kept = core.store.get("image", image.id)
    if kept["state"] == ImageState.DELETE:
        return
    kept.update(
        state=_used(kept, in_work=False) if kept["vms"] else ImageState.READY, size=size_mb,
        source=image.source or image.path, format=kept["format"] or core.driver.image_format,
    )
    core.store.save("image", kept)
    core.lifecycle.image_made(kept)


def broke(core: Core, image_id: int, message: str) -> None:
    """Note that the driver could not make an image."""
    image = core.store.get("image", image_id)
    image["state"] = ImageState.ERROR
    core.lifecycle.image_made(image)
    image["template"]["ERROR"] = failure(core, message)
    core.store.save("image", image)


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
    checksums = {name: image["template"][name.upper()] for name in ("md5", "sha1") if image["template"].get(name.upper())}
    return ImageSpec(image["id"], image["name"], image["path"], image["size"], image["source"], checksums)


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


def _delete_method(call: Call, image_id: int, force: bool = False) -> int:
    image = call.find("image", image_id)
    if image["state"] in _IN_WORK and not force:
        reason = "Image locked, use --force flag to remove the image. Force delete may leave some files on Datastore"
        raise OneError(INTERNAL, reason, image_id)
    if image["state"] in _IN_WORK:
        call.authorize(("ADMIN", "image", image))
    return delete(KINDS["image"], _delete, call, image_id)


def _from_app(call: Call, app_id: str) -> dict:
    """Return what an image gets from the marketplace app it is made of. Raises OneError."""
    app = call.core.store.get("marketapp", int(app_id)) if app_id.isdigit() else None
    if app is None:
        raise OneError(INTERNAL, "Cannot determine image SIZE.")
    return {
        "FROM_APP_NAME": app["name"], "FROM_APP_MD5": app["md5"], "PATH": app["source"], "FORMAT": app["format"],
        "SIZE": str(app["size"]),
    }


def _allocate(call: Call, text: str, datastore_id: int, _skip_capacity_check: bool = False) -> int:
    template = settle(parse_template(text), (*_OWN, "FROM_APP"))
    datastore = call.find("datastore", datastore_id)
    where = datastore["template"]["TYPE"]
    if where in ("SYSTEM_DS", "BACKUP_DS"):
        raise OneError(ALLOCATE, f"{_FAILED}New images can only be allocated in a files or image datastore.")
    if "FROM_APP" in template:
        template |= _from_app(call, template["FROM_APP"])
    else:
        _check_size(template)
    if template.get("SIZE", "").isdigit():
        check_room(datastore, int(template["SIZE"]))
    restricted.check_new(call, "image", template)
    call.authorize(("CREATE", "image", None), ("USE", "datastore", datastore))
    own = {name: template.pop(name, "") for name in _OWN}
    kind = _kind(own)
    if datastore["template"].get("DS_MAD") in PERSISTENT_ONLY and own["PERSISTENT"].upper() != "YES":
        raise OneError(ALLOCATE, f"{_FAILED}This Datastore only accepts persistent images.")
    call.check_name("image", own["NAME"], ALLOCATE, _FAILED, unique=False)
    if (kind in _DISKS or kind not in _TYPES) and where != "IMAGE_DS":
        words = "Only IMAGES of type KERNEL, RAMDISK and CONTEXT can be registered in a FILE_DS datastore"
        raise OneError(ALLOCATE, _FAILED + words)
    if kind in _FILES and where != "FILE_DS":
        words = "IMAGES of type KERNEL, RAMDISK and CONTEXT cannot be registered in an IMAGE_DS datastore"
        raise OneError(ALLOCATE, _FAILED + words)
    if kind == "BACKUP":
        raise OneError(ALLOCATE, f"{_FAILED}IMAGES of type BACKUP can only be registered in an BACKUP_DS datastore")
    call.check_name("image", own["NAME"], ALLOCATE, _FAILED)
    if kind not in _TYPES:
        raise OneError(ALLOCATE, f"{_FAILED}{_unknown_type()}")
    if own["SOURCE"] and (own["PATH"] or not own["FORMAT"]):
        words = "PATH and SOURCE cannot be both set." if own["PATH"] else "SOURCE needs FORMAT to be set."
        raise OneError(ALLOCATE, _FAILED + words)
    is_disk = kind in ("OS", "DATABLOCK")
    template.pop("DEV_PREFIX" if not is_disk else "DRIVER", None)
    quotas.check_image(call, datastore_id, int(own["SIZE"] or 0))
    return _make(call, own, kind, datastore_id, ({"DEV_PREFIX": "sd"} if is_disk else {}) | template)


def _kind(attributes: dict) -> str:
    return (attributes.get("TYPE") or "OS").upper()


def _unknown_type(known: int = 0) -> str:
    """What oned says of a type there is not: it adds the number of the type it knows to where its sentence begins."""
    return "Unknown type "[known:]


def _check_size(template: dict) -> None:
    """Refuse an image of which oned cannot tell how large it will be. Raises OneError."""
    kind, size = _kind(template), template.get("SIZE", "")
    made = kind not in _TYPES or kind in ("OS", "DATABLOCK")
    reason = ""
    if kind == "BACKUP":
        if not size:
            raise OneError(INTERNAL, "Cannot parse image SIZE: ")
    elif not template.get("PATH") and not template.get("SOURCE") and not made:
        reason = f"Either PATH or SOURCE are required for {kind}"
    elif (template.get("SOURCE") or not template.get("PATH")) and machine_rules.whole(size) is None:
        reason = "Wrong number or missing SIZE attribute."
    elif size and machine_rules.whole(size) is None:
        reason = size
    if reason:
        raise OneError(INTERNAL, f"Cannot parse image SIZE: {reason}")


def _make(call: Call, own: dict, kind: str, datastore_id: int, template: dict) -> int:
    """Keep a new image, let the driver register it, and return its id."""
    number = _keep(call, own, kind, datastore_id, template)
    register(call.core, number)
    return number


def _keep(call: Call, own: dict, kind: str, datastore_id: int, template: dict) -> int:
    """Keep a new image that the driver has not made yet, and return its id."""
    image = call.new(
        "image", own["NAME"], state=ImageState.LOCKED, type=_TYPES[kind],
        path=own["PATH"], source=own["SOURCE"], format="" if own["PATH"] else own["FORMAT"] or "raw", fs=own["FS"],
        size=int(own["SIZE"] or 0), vms=[], datastore=datastore_id,
        persistent=kind in ("OS", "DATABLOCK") and own["PERSISTENT"].upper() == "YES", regtime=call.core.now(),
        template=template,
    )
    call.core.store.save("image", image)
    return image["id"]


def copy(call: Call, source: dict, name: str, datastore: dict, persistent: bool = False) -> int:
    """Make an image that is like another one, in a datastore, and return its id. Raises OneError."""
    call.check_name("image", name, ALLOCATE, _FAILED)
    quotas.check_image(call, datastore["id"], source["size"])
    own = dict.fromkeys(_OWN, "") | {
        "NAME": name, "PATH": source["path"] or source["source"], "FORMAT": source["format"], "FS": source.get("fs", ""),
        "SIZE": str(source["size"]), "PERSISTENT": "YES" if persistent else "NO",
    }
    kept = {key: value for key, value in source["template"].items() if key != "ERROR"}
    return _make(call, own, _type(source), datastore["id"], kept)


def saved(call: Call, source: dict, name: str, datastore: dict, kind: str, size: int, origin: dict) -> dict:
    """Return a new image that a VM's disk is to be saved as, in the making; of the disk's own image it has little. Raises OneError."""
    call.check_name("image", name, ALLOCATE, _FAILED)
    if kind and kind.upper() not in _TYPES:
        raise OneError(ALLOCATE, f"{_FAILED}{_unknown_type()}")
    quotas.check_image(call, datastore["id"], size)
    own = dict.fromkeys(_OWN, "") | {"NAME": name, "FORMAT": source["format"], "SIZE": str(size)}
    kept = {key: value for key, value in source["template"].items() if key in ("TARGET", "DEV_PREFIX")}
    number = _keep(call, own, kind.upper() or _type(source), datastore["id"], kept | origin)
    return call.core.store.get("image", number)


def _clone(call: Call, image_id: int, name: str, datastore_id: int = -1) -> int:
    return clone(call, image_id, name, datastore_id)


def clone(call: Call, image_id: int, name: str, datastore_id: int = -1, persistent: bool = False) -> int:
    """Copy an image into its own datastore or another one (not -1), and return the id of the copy. Raises OneError."""
    source = call.find("image", image_id)
    if _type(source) not in _DISKS:
        raise OneError(ACTION, call.core.config.release.no_clone.format(type=_type(source)))
    here = call.find("datastore", source["datastore"])
    there = here if datastore_id == -1 else call.find("datastore", datastore_id)
    if there["template"]["TYPE"] != "IMAGE_DS":
        raise OneError(ACTION, "Clone only supported for IMAGE_DS Datastores")
    if there["template"]["DS_MAD"] != here["template"]["DS_MAD"]:
        raise OneError(ACTION, "Clone only supported to same DS_MAD Datastores")
    check_room(there, source["size"])
    more = [("USE", "datastore", here)] if there is not here else []
    call.authorize(("CREATE", "image", None), ("USE", "image", source), ("USE", "datastore", there), *more)
    return copy(call, source, name, there, persistent)


def _no_snapshot(call: Call, image_id: int, snapshot_id: int) -> int:
    """Images have snapshots only from persistent disks of VMs, which keep theirs here."""
    call.get("image", image_id, "MANAGE")
    raise OneError(ACTION, f"Snapshot {snapshot_id} does not exist.")


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


def _change_type(call: Call, image_id: int, kind: str) -> int:
    image = call.get("image", image_id, "MANAGE")
    wanted = _kind({"TYPE": kind})
    # A type there is not counts as that of a system until it is looked up.
    if (wanted if wanted in _TYPES else "OS") not in (_DISKS if _type(image) in _DISKS else _FILES):
        raise OneError(ACTION, "Cannot change image type to an incompatible type for the current datastore.")
    if wanted not in _TYPES:
        raise OneError(INTERNAL, _unknown_type(image["type"]))
    image["type"] = _TYPES[wanted]
    call.core.store.save("image", image)
    return image_id


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


METHODS = generic_methods("image", _body, deleter=_delete) | {
    "one.image.delete": Method(_delete_method, "i b?"),
    "one.image.allocate": Method(_allocate, "s i b?"),
    "one.image.clone": Method(_clone, "i s i?"),
    "one.image.snapshotdelete": Method(_no_snapshot, "i i"),
    "one.image.snapshotrevert": Method(_no_snapshot, "i i"),
    "one.image.snapshotflatten": Method(_no_snapshot, "i i"),
    "one.image.persistent": Method(_persistent, "i b"),
    "one.image.chtype": Method(_change_type, "i s"),
    "one.image.enable": Method(_enable, "i b"),
}
