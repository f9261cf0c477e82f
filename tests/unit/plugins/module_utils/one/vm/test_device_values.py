# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""NICs, disks, PCI devices and address ranges hold values, whoever wrote them."""

from __future__ import annotations

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.vm import device_values


@pytest.mark.parametrize(
    ("kind", "written", "kept"),
    [
        ("NIC", {"network": "private", "mac": "02:00:C0:A8:0A:1"}, {"NETWORK": "private", "MAC": "02:00:c0:a8:0a:01"}),
        ("NIC", {"NETWORK": "private", "IP": "010.000.000.005", "IP6": "FD00:0::1"}, {"NETWORK": "private", "IP": "10.0.0.5", "IP6": "fd00::1"}),
        ("DISK", {"IMAGE": "debian", "SIZE": "20G"}, {"IMAGE": "debian", "SIZE": "20480"}),
        ("PCI", {"SHORT_ADDRESS": "0000:E1:00.0"}, {"SHORT_ADDRESS": "e1:00.0"}),
        ("PCI", {"VENDOR": "0x10DE", "DEVICE": "26B9", "CLASS": "302"}, {"VENDOR": "10de", "DEVICE": "26b9", "CLASS": "0302"}),
        ("PCI", {"TYPE": "NIC", "MAC": "02:00:C0:A8:0A:01"}, {"TYPE": "NIC", "MAC": "02:00:c0:a8:0a:01"}),
        ("AR", {"TYPE": "IP6", "GLOBAL_PREFIX": "2001:0DB8::", "SIZE": 5.0}, {"TYPE": "IP6", "GLOBAL_PREFIX": "2001:db8::", "SIZE": "5"}),
        ("NIC", {"NETWORK_ID": "007", "NETWORK_UID": 2.0}, {"NETWORK_ID": "7", "NETWORK_UID": "2"}),
        ("DISK", {"IMAGE_ID": "+00"}, {"IMAGE_ID": "0"}),
        ("AR", {"TYPE": "ip4_6"}, {"TYPE": "IP4_6"}),
        ("NIC", {"NETWORK": "private", "IP": ""}, {"NETWORK": "private", "IP": ""}),
    ],
)
def test_each_value_has_one_form(kind: str, written: dict, kept: dict) -> None:
    assert device_values.normal(kind, written, "one of nics") == kept
    assert device_values.there(kind, {name.upper(): str(value) for name, value in written.items() if value}).items() <= kept.items()


@pytest.mark.parametrize(
    ("kind", "written", "sentence"),
    [
        ("NIC", {"MAC": "no"}, "MAC of one of nics: 'no' is not a MAC address, expected one such as 02:00:c0:a8:0a:01."),
        ("NIC", {"IP": "fd00::1"}, "IP of one of nics: 'fd00::1' is not an IPv4 address, expected one such as 192.168.10.5."),
        ("DISK", {"SIZE": "big"}, "SIZE of one of nics: 'big' is not a size, expected whole MB such as 20480, or a unit such as '20G'."),
        ("NIC", {"NETWORK_ID": "abc"}, "NETWORK_ID of one of nics: 'abc' is not a whole number from 0 to 2147483647."),
        ("NIC", {"NETWORK_ID": -1}, "NETWORK_ID of one of nics: -1 is out of range, expected a whole number from 0 to 2147483647."),
        ("DISK", {"IMAGE_ID": 2**31}, "IMAGE_ID of one of nics: 2147483648 is out of range, expected a whole number from 0 to 2147483647."),
        ("DISK", {"IMAGE_ID": ["1", "2"]}, "IMAGE_ID of one of nics: ['1', '2'] is not a whole number from 0 to 2147483647."),
        ("AR", {"SIZE": 0}, "SIZE of one of nics: 0 is out of range, expected a whole number from 1."),
    ],
)
def test_a_value_of_another_kind_is_refused_in_one_sentence(kind: str, written: dict, sentence: str) -> None:
    with pytest.raises(OneException) as caught:
        device_values.normal(kind, written, "one of nics")
    assert (caught.value.kind, caught.value.message) == ("invalid", sentence)


@pytest.mark.parametrize(("name", "value"), [("SHORT_ADDRESS", 2460.0), ("VENDOR", 4318), ("DEVICE", 1002)])
def test_a_number_in_the_place_of_an_address_needs_quotes(name: str, value: float) -> None:
    with pytest.raises(OneException, match="write it in quotes"):
        device_values.normal("PCI", {name: value}, "one of pcis")


def test_what_the_server_says_is_never_refused() -> None:
    assert device_values.there("NIC", {"MAC": "none", "IP": "10.0.0.5", "NIC_ID": "0"}) == {"MAC": "none", "IP": "10.0.0.5", "NIC_ID": "0"}
