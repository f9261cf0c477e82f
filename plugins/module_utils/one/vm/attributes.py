# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of a task in a VM that exists: which the server can change, and what they mean in the form it keeps them in."""

from __future__ import annotations

import base64
from collections.abc import Callable

from ... import scalars
from ..core import compare
from ..transport import xml
from ..transport.client import Client
from ..transport.errors import CONFLICT, INVALID, OneException
from ..transport.values import joined, scalar
from . import facts as vm_facts

# What updateconf changes in a VM that exists, and the keys of each that it takes. It takes all of CONTEXT.
_CONFIGURATION = {
    "BACKUP_CONFIG": ("BACKUP_VOLATILE", "DISK_IDS", "FS_FREEZE", "INCREMENT_MODE", "INTERACTIVE", "KEEP_LAST", "MODE"),
    "CONTEXT": None,
    "CPU_MODEL": ("FEATURES", "MODEL"),
    "FEATURES": (
        "ACPI", "APIC", "GIC", "GUEST_AGENT", "HYPERV", "IOTHREADS", "LOCALTIME", "MIGRATE_AUTO_CONVERGE",
        "MIGRATE_COMPRESSED", "PAE", "RAS", "VIRTIO_BLK_QUEUES", "VIRTIO_SCSI_QUEUES",
    ),
    "GRAPHICS": ("COMMAND", "KEYMAP", "LISTEN", "PASSWD", "TYPE"),
    "INPUT": ("BUS", "TYPE"),
    "OS": (
        "ARCH", "BOOT", "BOOTLOADER", "FIRMWARE", "FIRMWARE_FORMAT", "INITRD", "KERNEL", "KERNEL_CMD", "MACHINE", "ROOT",
        "SD_DISK_BUS", "UUID",
    ),
    "RAW": ("DATA", "DATA_VMX", "TYPE", "VALIDATE"),
    "VIDEO": ("ATS", "IOMMU", "RESOLUTION", "TYPE", "VRAM"),
}
# Releases with which updateconf learned keys; an older server leaves them as they are, and knows none of them of backups.
_SINCE = {
    ("CPU_MODEL", "FEATURES"): (7, 0), ("OS", "FIRMWARE_FORMAT"): (7, 2),
    **{("FEATURES", key): (7, 4) for key in ("GIC", "MIGRATE_AUTO_CONVERGE", "MIGRATE_COMPRESSED", "RAS")},
    **{("BACKUP_CONFIG", key): (7, 4) for key in ("DISK_IDS", "INTERACTIVE")},
}
# What only counts when a VM is made.
_FIXED = frozenset({
    "CPU_COST", "DISK_COST", "EMULATOR", "HYPERV_OPTIONS", "IOMMU", "MEMORY_COST", "MEMORY_ENCRYPTION", "MEMORY_MAX",
    "MEMORY_RESIZE_MODE", "MEMORY_SLOTS", "NIC_ALIAS", "NIC_DEFAULT", "NUMA_NODE", "SCHED_ACTION", "SPICE_OPTIONS",
    "SUBMIT_ON_HOLD", "TM_MAD_SYSTEM", "TOPOLOGY", "TPM", "VCPU_MAX", "VMGROUP",
})
# Attributes of the user template that are parsed when a VM is made, so that variables in them are filled in.
_PARSED = ("SCHED_REQUIREMENTS",)
# Names that the server gives to an attribute of another name.
_FORMER_NAMES = {"REQUIREMENTS": "SCHED_REQUIREMENTS"}
# Keys that the server chooses when a VM is made, and keeps.
_CHOSEN = {"CONTEXT": ("DISK_ID", "TARGET")}
# Keys that the server keeps encrypted, and shows to administrators only.
_ENCRYPTED = {"CONTEXT": ("PASSWORD",)}
# Where a longer password of a graphical console is cut.
_LONGEST_PASSWORD = {"vnc": 8, "spice": 59}
_CIPHER_BLOCK = 16
_KB = 1024


Form = Callable[[object], str]


def _switch(value: object) -> str:
    return "YES" if scalars.boolean(value) else "NO"


def _lower(value: object) -> str:
    return scalar(value).strip().lower()


def _upper(value: object) -> str:
    return scalar(value).strip().upper()


def _one_of(*choices: str) -> Form:
    """Return the form of a word, of which the server takes any other for the first one."""
    def form(value: object) -> str:
        word = _upper(value)
        if word not in choices:
            raise ValueError(f"{scalar(value)!r} is none of {', '.join(choices)}")
        return word

    return form


def _no_blanks(value: object) -> str:
    return "".join(joined(value).split())


def _architecture(value: object) -> str:
    text = _lower(value)
    return text if text in ("2", "3") else "host"


def _not_negative(value: object) -> str:
    return str(max(scalars.whole_number(value), 0))


def _sorted_ids(value: object) -> str:
    numbers = {scalars.whole_number(part, 0) for part in _no_blanks(value).split(",") if part}
    return ",".join(str(number) for number in sorted(numbers))


# The form in which the server keeps what is not kept as it is written.
_FORMS: dict[str, dict[str, Form]] = {
    "BACKUP_CONFIG": {
        "BACKUP_VOLATILE": _switch, "DISK_IDS": _sorted_ids, "FS_FREEZE": _one_of("NONE", "AGENT", "SUSPEND"),
        "INCREMENT_MODE": _one_of("CBT", "SNAPSHOT"), "INTERACTIVE": _switch, "KEEP_LAST": _not_negative,
        "MODE": _one_of("FULL", "INCREMENT"),
    },
    "CPU_MODEL": {"FEATURES": _no_blanks},
    "FEATURES": {
        **dict.fromkeys(
            ("ACPI", "APIC", "GUEST_AGENT", "HYPERV", "LOCALTIME", "MIGRATE_COMPRESSED", "PAE", "RAS"), _switch
        ),
        "GIC": _architecture, "MIGRATE_AUTO_CONVERGE": _no_blanks,
    },
    "GRAPHICS": {"RANDOM_PASSWD": _switch},
    "IOMMU": {"MODE": _lower, "MODEL": _lower},
    "OS": {"UUID": _lower},
    "TOPOLOGY": {"PIN_POLICY": _upper},
    "VIDEO": {"ATS": _switch, "IOMMU": _switch, "TYPE": _lower},
}
_PLAIN_FORMS: dict[str, Form] = {"MEMORY_RESIZE_MODE": _upper, "SUBMIT_ON_HOLD": _switch}


class DesiredAttributes:
    """The attributes that a task wants VMs to have. Raises OneException of kind invalid for a value that is none of its kind.

    given: from the task, names in upper case. attributes: the same with the values that have one in the server's form.
    """

    def __init__(self, client: Client, given: dict) -> None:
        self._client = client
        named = {_FORMER_NAMES.get(name, name): value for name, value in given.items()}
        self.attributes = {name: _each(value, lambda item, name=name: _formed(name, item)) for name, value in named.items()}

    def own(self, current: dict) -> dict:
        """Return what is wanted of a VM's user template, which is current."""
        return {
            name: value for name, value in self.attributes.items()
            if name not in _FIXED and name not in _CONFIGURATION
            and not (name in _PARSED and name in current and "$" in scalar(value))
        }

    def configuration(self, vm: dict) -> tuple[dict, dict, dict]:
        """Return the configuration of a VM that the task speaks of, as it is, as it should be, and what to tell the server.

        Raises OneException of kind conflict for what the server cannot change.
        """
        vm = self._decrypted(vm)
        template = {**xml.section(vm, "TEMPLATE"), "BACKUP_CONFIG": xml.section(vm, "BACKUPS", "BACKUP_CONFIG")}
        self._check_fixed(vm, template)
        names = [name for name in self.attributes if name in _CONFIGURATION]
        before = {name: template[name] for name in names if template.get(name)}
        after = dict(before)
        for name in names:
            after = compare.wanted_template(after, {name: self._target(vm, name, before.get(name))})
            if name not in before and after.get(name) == "":
                # Nothing is wanted where nothing is.
                del after[name]
            _check_keys(vm, name, before.get(name), after.get(name))
            self._check_known(vm, name, before.get(name), after.get(name))
        return before, after, _told(before, after)

    def _target(self, vm: dict, name: str, there: object) -> object:
        """Return what is wanted of one attribute of the configuration, in the words of what is there."""
        wanted = self.attributes[name]
        if name == "CONTEXT" and not there:
            raise _conflict(vm, "has no CONTEXT, and none can be added to it")
        if not isinstance(wanted, dict) or not isinstance(there, dict):
            return wanted
        wanted = {key: _wording(name, key, value, there) for key, value in wanted.items()}
        if name == "CONTEXT":
            # Variables of a context are filled in.
            wanted = {key: value for key, value in wanted.items() if "$" not in scalar(value) or key not in there}
        if name == "BACKUP_CONFIG" and wanted.get("MODE", there.get("MODE")) != "INCREMENT" and "INCREMENT_MODE" not in there:
            # The server forgets how increments are made for a VM without any.
            wanted.pop("INCREMENT_MODE", None)
        return wanted

    def _check_known(self, vm: dict, name: str, before: object, after: object) -> None:
        """Refuse a change of what this release of the server does not change yet."""
        if before == after or not isinstance(after, dict):
            return
        there = before if isinstance(before, dict) else {}
        for key, value in after.items():
            since = _SINCE.get((name, key))
            # A new vector is taken as it is, but for that of backups.
            if since and value != there.get(key) and (before or name == "BACKUP_CONFIG") and self._client.version < since:
                running = ".".join(map(str, self._client.version))
                raise _conflict(
                    vm, f"has {name}/{key} {_shown(there.get(key))}, which cannot become {_shown(value)}: OpenNebula {running} "
                    f"does not change it, {'.'.join(map(str, since))} and later do"
                )

    def _check_fixed(self, vm: dict, template: dict) -> None:
        attributes = xml.section(vm, "USER_TEMPLATE")
        for name in sorted(_FIXED & self.attributes.keys()):
            there, wanted = template.get(name, attributes.get(name)), self.attributes[name]
            if name == "SCHED_ACTION":
                there = xml.section(self._whole(vm), "TEMPLATE").get(name)
            if name == "NUMA_NODE":
                if xml.section(template, "TOPOLOGY").get("PIN_POLICY") == "NONE":
                    continue
                wanted = _each(wanted, _in_kilobytes)
            if not _is_in(name, wanted, there):
                shown = "none" if there in (None, "") else _shown(there)
                raise _conflict(vm, f"has {name} {shown}, which cannot become {_shown(wanted)}: it counts only when a VM is made")

    def _decrypted(self, vm: dict) -> dict:
        """Return the VM with what is encrypted in its document, if the task speaks of it and the user may know."""
        for name, keys in _ENCRYPTED.items():
            wanted, there = self.attributes.get(name), xml.section(vm, "TEMPLATE").get(name)
            if not isinstance(wanted, dict) or not isinstance(there, dict):
                continue
            for key in keys:
                if key in wanted and key in there:
                    known = xml.section(self._whole(vm), "TEMPLATE", name).get(key)
                    # What cannot be read cannot be compared; it is what the task says then.
                    value = scalar(wanted[key]) if known == there[key] and _is_encrypted(known) else known
                    vm = {**vm, "TEMPLATE": {**vm["TEMPLATE"], name: {**there, key: value}}}
        return vm

    def _whole(self, vm: dict) -> dict:
        """Return a VM's own document, which has more than listings do."""
        decrypt = True
        return self._client.call("one.vm.info", int(vm["ID"]), decrypt)


def _told(before: dict, after: dict) -> dict:
    """Return what updateconf has to be told, of vectors only the changed keys: it merges inside vectors."""
    result = {
        name: compare.changes(before[name], value)
        if isinstance(value, dict) and isinstance(before.get(name), dict) else value
        for name, value in compare.changes(before, after).items()
    }
    backup = result.get("BACKUP_CONFIG")
    if backup and "INCREMENT_MODE" in backup:
        # It is read together with the mode only.
        backup.setdefault("MODE", after["BACKUP_CONFIG"].get("MODE", ""))
    return result


def check_taken(vm: dict, told: dict) -> None:
    """Raise OneException of kind conflict for what the server keeps otherwise than it was told.

    vm: as it is then. Of backups it decides itself: without disks that can be backed up in increments they are FULL.
    """
    there = xml.section(vm, "BACKUPS", "BACKUP_CONFIG")
    for key, value in (told.get("BACKUP_CONFIG") or {}).items():
        form = _FORMS["BACKUP_CONFIG"].get(key)
        kept = there.get(key, "")
        if form and value not in ("", None) and key != "INCREMENT_MODE" and _says(form, kept) != form(value):
            raise _conflict(vm, f"has BACKUP_CONFIG/{key} {_shown(kept)}: the server does not take {_shown(value)} for its disks")


def _each(value: object, change: Callable[[object], object]) -> object:
    return [change(item) for item in value] if isinstance(value, (list, tuple)) else change(value)


def _formed(name: str, value: object) -> object:
    """Return the value of an attribute, names of keys in upper case and what has a form of the server in it."""
    if not isinstance(value, dict):
        return _in_form(_PLAIN_FORMS.get(name), value, name)
    forms = _FORMS.get(name, {})
    result = {}
    for given, item in value.items():
        key = str(given).upper()
        result[key] = _in_form(forms.get(key), item, f"{name}/{key}")
    return result


def _in_form(form: Form | None, value: object, label: str) -> object:
    if form is None or value in (None, ""):
        return value
    try:
        return form(value)
    except ValueError as error:
        raise OneException(INVALID, f"{label}: {error}.") from None


def _wording(name: str, key: str, value: object, there: dict) -> object:
    """Return a wanted value, in the words of what is there if they mean the same."""
    if key not in there:
        return value
    if (name, key) == ("GRAPHICS", "PASSWD"):
        longest = _LONGEST_PASSWORD.get(there.get("TYPE", "").lower())
        return there[key] if scalar(value)[:longest] == there[key][:longest] else value
    form = _FORMS.get(name, {}).get(key)
    return there[key] if form and _says(form, there[key]) == value else value


def _says(form: Form, text: str) -> str | None:
    try:
        return form(text)
    except ValueError:
        return None


def _check_keys(vm: dict, name: str, before: object, after: object) -> None:
    """Refuse a change of what the server leaves as it is in an attribute of the configuration."""
    if before == after:
        return
    if not isinstance(after, dict) or not isinstance(before, (dict, type(None))):
        raise _conflict(vm, f"has {name} {_shown(before)}, which cannot become {_shown(after)}: only a single vector of it can change")
    keys, chosen = _CONFIGURATION[name], _CHOSEN.get(name, ())
    for key, value in after.items():
        there = (before or {}).get(key)
        if (key in chosen or (keys and key not in keys)) and value != there:
            raise _conflict(
                vm, f"has {name}/{key} {_shown(there)}, which cannot become {_shown(value)}: it counts only when a VM is made"
            )


def _is_in(name: str, wanted: object, there: object) -> bool:
    """Tell whether everything that is wanted of a fixed attribute is there."""
    if isinstance(wanted, (list, tuple)):
        left = list(there) if isinstance(there, list) else [there]
        for item in wanted:
            found = next((other for other in left if _is_in(name, item, other)), None)
            if found is None:
                return False
            left.remove(found)
        return True
    if isinstance(there, list):
        return any(_is_in(name, wanted, other) for other in there)
    if isinstance(wanted, dict):
        known = there if isinstance(there, dict) else {}
        return all(_same(name, key, value, known.get(key)) for key, value in wanted.items())
    return _same(name, "", wanted, there)


def _same(name: str, key: str, wanted: object, there: object) -> bool:
    form = _FORMS.get(name, {}).get(key) if key else _PLAIN_FORMS.get(name)
    text, known = joined(wanted).strip(), scalar(there)
    if name == "SCHED_ACTION" and key == "TIME" and text.startswith("+"):
        # The server counts from the VM's beginning.
        return True
    if form and known:
        return _says(form, known) == text
    if not known:
        return text in ("", "NO")
    try:
        return known == text or float(known) == float(text)
    except ValueError:
        return False


def _in_kilobytes(node: object) -> object:
    """Return a NUMA node as the server keeps it: its memory is given in MB and kept in KB."""
    if not isinstance(node, dict) or not scalar(node.get("MEMORY")).isdigit():
        return node
    return {**node, "MEMORY": int(scalar(node["MEMORY"])) * _KB}


def _is_encrypted(text: str) -> bool:
    """Tell whether a text looks like one that the server encrypted: whole blocks of a cipher in base 64."""
    try:
        block = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return bool(block) and len(block) % _CIPHER_BLOCK == 0


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    if isinstance(value, dict):
        return f"[{', '.join(f'{key}={scalar(item)}' for key, item in value.items())}]"
    return scalar(value) or "none"


def _conflict(vm: dict, what: str) -> OneException:
    return OneException(CONFLICT, f"{vm_facts.label(vm)} {what}.")
