# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values in NICs, disks, PCI devices and address ranges: one form of each, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ... import addresses, scalars
from ..transport.errors import INVALID, OneException
from ..transport.values import joined

# Ids are of 32 bits.
_LAST_ID = 2**31 - 1
# With any other one the server makes the network and leaves it in state ERROR.
RANGE_TYPES = ("IP4", "IP6", "IP6_STATIC", "IP4_6", "IP4_6_STATIC", "ETHER")
Form = Callable[[object], object]


def _ipv4(value: object) -> str:
    return addresses.ip_address(value, 4)


def _ipv6(value: object) -> str:
    return addresses.ip_address(value, 6)


def _count(value: object) -> int:
    return scalars.whole_number(value, 1)


def _identifier(value: object) -> int:
    return scalars.whole_number(value, 0, _LAST_ID)


def _prefix_length(value: object) -> int:
    return scalars.whole_number(value, 1, 128)


def _range_type(value: object) -> str:
    text = str(value).strip().upper()
    if text not in RANGE_TYPES:
        raise ValueError(f"{value!r} is none, expected one of {', '.join(RANGE_TYPES)}")
    return text


def _switch(value: object) -> str:
    return "YES" if scalars.boolean(value) else "NO"


_NIC: dict[str, Form] = {"MAC": addresses.mac_address, "IP": _ipv4, "IP6": _ipv6, "NETWORK_ID": _identifier, "NETWORK_UID": _identifier}
_FORMS: dict[str, dict[str, Form]] = {
    "NIC": _NIC,
    "DISK": {"SIZE": scalars.megabytes, "IMAGE_ID": _identifier, "IMAGE_UID": _identifier},
    "PCI": {
        # A device that is an interface has its addresses.
        **_NIC, "SHORT_ADDRESS": addresses.short_pci_address, "ADDRESS": addresses.pci_address, "VENDOR": addresses.hexadecimal,
        "DEVICE": addresses.hexadecimal, "CLASS": addresses.hexadecimal,
    },
    "AR": {
        **_NIC, "TYPE": _range_type, "GLOBAL_PREFIX": _ipv6, "ULA_PREFIX": _ipv6, "SIZE": _count, "PREFIX_LENGTH": _prefix_length,
        "SHARED": _switch,
    },
}


def normal(kind: str, attributes: Mapping, label: str) -> dict[str, str]:
    """Return what a task says of a device or an address range, names in upper case and each value in its one form as text.

    kind: NIC, DISK, PCI or AR. label: what it is called in the error. Raises OneException of kind invalid for a value that
    is none of its kind.
    """
    forms = _FORMS[kind]
    result = {}
    for name, value in attributes.items():
        key = str(name).upper()
        try:
            result[key] = str(forms[key](value)) if key in forms and value not in (None, "") else joined(value)
        except ValueError as error:
            raise OneException(INVALID, f"{key} of {label}: {error}.") from None
    return result


def there(kind: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return what the server says of a device or an address range in the same form; a value that is none of its kind stays as it is."""
    forms = _FORMS[kind]
    return {name: _written(forms[name], value) if name in forms else value for name, value in attributes.items()}


def _written(form: Form, value: str) -> str:
    try:
        return str(form(value))
    except ValueError:
        return value
