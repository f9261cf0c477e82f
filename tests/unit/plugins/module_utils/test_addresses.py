# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Every spelling of an address is one value, and what is none is refused with the form that is expected."""

from __future__ import annotations

import ipaddress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils import addresses

OCTETS = st.lists(st.integers(0, 255), min_size=6, max_size=6).map(lambda octets: [octets[0] & 0xFE, *octets[1:]])
INTERFACES = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
).map(lambda pair: ipaddress.ip_interface(f"{pair[0]}/{pair[1]}"))
FORMS = [
    addresses.mac_address, addresses.ip_address, addresses.ip_interface, addresses.ip_network, addresses.scoped_address,
    addresses.pci_address, addresses.short_pci_address, addresses.hexadecimal,
]


@given(OCTETS, st.sampled_from(["{:02x}", "{:02X}", "{:x}"]), st.sampled_from(":-"))
def test_a_mac_address_is_one_however_it_is_written(octets: list[int], digits: str, separator: str) -> None:
    expected = ":".join(f"{octet:02x}" for octet in octets)
    assert addresses.mac_address(separator.join(digits.format(octet) for octet in octets)) == expected
    plain = expected.replace(":", "")
    assert addresses.mac_address(f"{plain[:4]}.{plain[4:8]}.{plain[8:]}") == expected


@given(INTERFACES)
def test_an_ip_address_is_one_however_it_is_written(interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
    long = interface.ip.exploded.upper() if interface.version == 6 else ".".join(f"{int(part):03d}" for part in str(interface.ip).split("."))
    assert addresses.ip_address(long) == str(interface.ip)
    assert addresses.ip_address(f" {long}/{interface.max_prefixlen} ") == str(interface.ip)
    assert addresses.ip_interface(f"{long}/{interface.network.prefixlen:03d}") == str(interface)
    assert addresses.ip_interface(long) == f"{interface.ip}/{interface.max_prefixlen}"
    assert addresses.ip_network(f"{long}/{interface.network.prefixlen}", strict=False) == str(interface.network)
    assert addresses.ip_network(long) == f"{interface.ip}/{interface.max_prefixlen}"


@given(st.integers(0, 0xFFFF), st.integers(0, 255), st.integers(0, 31), st.integers(0, 7))
def test_a_pci_address_is_one_however_it_is_written(domain: int, bus: int, slot: int, function: int) -> None:
    short = f"{bus:02x}:{slot:02x}.{function}"
    full = f"{domain:04x}:{short}"
    assert addresses.pci_address(full.upper()) == full
    assert addresses.pci_address(f"{domain:08x}:{short}") == full
    assert addresses.pci_address(full.replace(".", ":")) == full
    assert addresses.pci_address(short) == f"0000:{short}"
    assert addresses.short_pci_address(full) == short


@given(st.integers(0, 0xFFFF), st.sampled_from(["{:x}", "{:04X}", "0x{:x}", "0X{:08x}"]))
def test_a_hexadecimal_id_is_one_however_it_is_written(number: int, spelling: str) -> None:
    assert addresses.hexadecimal(spelling.format(number)) == f"{number:04x}"


@given(st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.text(max_size=4), max_size=2)))
def test_whatever_arrives_is_taken_or_refused_in_one_sentence(value: object) -> None:
    for form in FORMS:
        try:
            found = form(value)
        except ValueError as error:
            assert "expected" in str(error) or "such as" in str(error), form
        else:
            assert form(found) == found, "the one form is a form of itself"
            assert found.isascii()
            assert found.isprintable()


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (addresses.pci_address, "41:00.0"), (addresses.mac_address, "10:20:30:40:50:10"), (addresses.hexadecimal, "0x10de"),
        (addresses.hexadecimal, "1002"), (addresses.ip_address, "10"), (addresses.ip_network, "10.0"),
    ],
)
def test_what_yaml_read_as_a_number_needs_quotes(form, written: str) -> None:
    number = yaml.safe_load(written)
    assert isinstance(number, (int, float))
    with pytest.raises(ValueError, match="in quotes"):
        form(number)


@pytest.mark.parametrize("written", ["41:00.0", "10:20:30:40:50:10"])
def test_a_number_that_became_text_on_its_way_needs_quotes_too(written: str) -> None:
    with pytest.raises(ValueError, match="in quotes"):
        addresses.pci_address(str(yaml.safe_load(written)))


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (addresses.mac_address, "01:00:5e:00:00:01", "a single interface"),
        (addresses.mac_address, "ff:ff:ff:ff:ff:ff", "a single interface"),
        (addresses.mac_address, "02:00:c0:a8:0a", "02:00:c0:a8:0a:01"),
        (addresses.mac_address, "02:00-c0:a8:0a:01", "02:00:c0:a8:0a:01"),
        (addresses.ip_address, "10.0.0.256", "192.168.10.5 or fd00::5"),
        (addresses.ip_address, "10.0.0", "192.168.10.5 or fd00::5"),
        (addresses.ip_address, "10.0.0.5/24", "has a prefix length"),
        (addresses.ip_address, "fe80::1%eth0", "192.168.10.5 or fd00::5"),
        (addresses.ip_network, "10.0.0.5/24", "'10.0.0.0/24'"),
        (addresses.ip_network, "10.0.0.0/33", "is not"),
        (addresses.ip_network, "10.0.0.0/255.255.255.0", "is not"),
        (addresses.scoped_address, "fe80::1%x\nfrontend evil\n", "scope"),
        (addresses.scoped_address, "fe80::1%", "scope"),
        (addresses.pci_address, "00:20.0", "0000:e1:00.0 or e1:00.0"),
        (addresses.pci_address, "e1:00.8", "0000:e1:00.0 or e1:00.0"),
        (addresses.hexadecimal, "10de:26b9", "up to 4 digits"),
        (addresses.hexadecimal, "0x110de", "up to 4 digits"),
    ],
)
def test_what_is_no_such_address_is_refused_with_the_form_that_is(form, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        form(text)


def test_a_version_of_ip_can_be_asked_for() -> None:
    assert addresses.ip_address("FD00:0::5", 6) == "fd00::5"
    with pytest.raises(ValueError, match="IPv4 address, expected one such as 192.168.10.5"):
        addresses.ip_address("fd00::5", 4)
