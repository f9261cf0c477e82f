# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Addresses of networks in the zone: on hold, reserved, and in ranges that change, with the words of the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from zone_world import ALICE, World

from lab.core.errors import OneError

NETWORK = 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nDNS="10.1.0.1"\nAR=[TYPE="IP4",IP="10.1.0.10",SIZE="10",TEAM="a"]'
READY = "<STATE><![CDATA[1]]>"
ACTION, INTERNAL = 2048, 8192


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A zone with a network of ten addresses."""
    world = World(tmp_path)
    world.call("one.vn.allocate", NETWORK, 0)
    world.wait("one.vn.info", 0, READY)
    yield world
    world.stop()


def leases(world: World, network: int = 0) -> dict[str, str]:
    """Who has which address: VM:-1 is on hold."""
    document = ElementTree.fromstring(world.call("one.vn.info", network))
    return {
        lease.findtext("IP"): f"{kind}:{lease.findtext(kind)}"
        for lease in document.iter("LEASE") for kind in ("VM", "VNET") if lease.find(kind) is not None
    }


def test_an_address_on_hold_is_in_use_until_it_is_released(world: World) -> None:
    world.call("one.vn.hold", 0, 'LEASES=[IP="10.1.0.12"]')
    world.call("one.vn.hold", 0, 'LEASES=[MAC="02:00:0A:01:00:0d"]')
    assert leases(world) == {"10.1.0.12": "VM:-1", "10.1.0.13": "VM:-1"}
    with pytest.raises(OneError, match="leases in use"):
        world.call("one.vn.delete", 0)
    for address in ("10.1.0.12", "10.1.0.13", "10.1.0.12"):
        world.call("one.vn.release", 0, f'LEASES=[IP="{address}"]')
    assert leases(world) == {}


def test_a_reservation_is_a_network_whose_addresses_go_back_with_it(world: World) -> None:
    number = world.call("one.vn.reserve", 0, 'SIZE="2"\nNAME="mine"\nAR_ID="0"\nIP="10.1.0.14"')
    assert world.call("one.vn.reserve", 0, f'SIZE="1"\nNETWORK_ID="{number}"') == number
    assert leases(world) == {"10.1.0.10": "VNET:1", "10.1.0.14": "VNET:1", "10.1.0.15": "VNET:1"}
    reservation = ElementTree.fromstring(world.call("one.vn.info", number))
    assert [reservation.findtext(name) for name in ("PARENT_NETWORK_ID", "TEMPLATE/DNS", "STATE")] == ["0", "10.1.0.1", "1"]
    first = reservation.find("AR_POOL/AR")
    assert [first.findtext(name) for name in ("IP", "SIZE", "TEAM", "PARENT_NETWORK_AR_ID")] == ["10.1.0.14", "2", "a", "0"]
    world.call("one.vn.rm_ar", number, 1)
    assert sorted(leases(world)) == ["10.1.0.14", "10.1.0.15"]
    world.call("one.vn.delete", number)
    world.wait_for(lambda: not leases(world), "the addresses to come back")


def test_a_change_of_a_range_keeps_its_first_address_and_nothing_it_does_not_name(world: World) -> None:
    world.call("one.vn.update_ar", 0, 'AR=[AR_ID="0",SIZE="4",GATEWAY="10.1.0.1",IP="10.7.0.1"]')
    changed = ElementTree.fromstring(world.call("one.vn.info", 0)).find("AR_POOL/AR")
    assert [changed.findtext(name) for name in ("IP", "SIZE", "GATEWAY", "TEAM")] == ["10.1.0.10", "4", "10.1.0.1", None]


@pytest.mark.parametrize(("method", "text", "code", "words"), [
    ("hold", 'LEASES=[IP="10.2.0.1"]', INTERNAL, "Address is not part of the address range or in use."),
    ("hold", 'LEASES=[IP="10.1.0.19"]', INTERNAL, "Address is not part of the address range or in use."),
    ("hold", 'IP="10.1.0.12"', INTERNAL, "Empty lease description."),
    ("hold", 'LEASES=[AR_ID="0"]', INTERNAL, "Missing MAC, IP or IP6."),
    ("release", 'LEASES=[IP="10.1.0.12",MAC="02:00:0a:01:00:0c"]', INTERNAL, "Only one attribute MAC, IP or IP6 can be set."),
    ("reserve", 'NAME="mine"', ACTION, "Reservation SIZE must be a greater than 0"),
    ("reserve", 'SIZE="1"', ACTION, "NAME for reservation has to be set"),
    ("reserve", 'SIZE="1"\nNAME="mine"\nIP="10.1.0.12"', ACTION, "AR_ID must be specified for IP/MAC based reservations"),
    ("reserve", 'SIZE="1"\nNETWORK_ID="0"', ACTION, "Cannot add a reservation from the same network"),
    ("reserve", 'SIZE="10"\nNAME="mine"', ACTION, "Not enough free addresses in an address range"),
    ("reserve", 'SIZE="1"\nNAME="mine"\nAR_ID="7"', ACTION, "Not enough free addresses in address range 7, or it does not exist"),
    ("reserve", 'SIZE="1"\nNAME="private"', INTERNAL, "NAME is already taken by NET 0."),
    ("update_ar", 'AR=[SIZE="4"]', INTERNAL, "AR/AR_ID attribute is missing."),
    ("update_ar", 'AR=[AR_ID="7"]', INTERNAL, "Address Range with ID 7 was not found."),
    ("update_ar", 'AR=[AR_ID="0",SIZE="5"]', INTERNAL, "There are used leases that would fall outside the range."),
])
def test_what_cannot_be_is_refused(world: World, method: str, text: str, code: int, words: str) -> None:
    world.call("one.vn.hold", 0, 'LEASES=[IP="10.1.0.19"]')
    with pytest.raises(OneError, match=words) as caught:
        world.call(f"one.vn.{method}", 0, text)
    assert caught.value.code == code
    assert leases(world) == {"10.1.0.19": "VM:-1"}


@pytest.mark.parametrize(("wanted", "code", "words"), [
    ('NAME="r"\nAR_ID="-1"', ACTION, "AR_ID must be equal or greater than 0"),
    ('NETWORK_ID="-1"', ACTION, "NETWORK_ID must be equal or greater than 0"),
    # What is no number is not there.
    ('NETWORK_ID="mine"', ACTION, "NAME for reservation has to be set"),
    ('NAME="r"\nAR_ID="first"\nIP="10.1.0.10"', ACTION, "AR_ID must be specified for IP/MAC based reservations"),
    ('NAME="private"', INTERNAL, "NAME is already taken by NET 0."),
])
def test_a_reservation_that_cannot_be_is_refused(world: World, wanted: str, code: int, words: str) -> None:
    with pytest.raises(OneError) as caught:
        world.call("one.vn.reserve", 0, f'SIZE="1"\n{wanted}')
    assert (caught.value.code, caught.value.message) == (code, f"[one.vn.reserve] {words}")


def test_of_a_network_that_is_not_there_nothing_is_reserved(world: World) -> None:
    with pytest.raises(OneError, match="Error getting virtual network Pool."):
        world.call("one.vn.reserve", 77, 'SIZE="1"\nNAME="r"')


def test_what_a_user_reserves_counts_as_his_leases(world: World) -> None:
    world.call("one.user.allocate", *ALICE.split(":"), "", [])
    world.call("one.vn.chmod", 0, *[-1] * 6, 1, -1, -1)
    world.call("one.user.quota", 2, 'NETWORK=[ID="0",LEASES="3"]')
    world.call("one.vn.reserve", 0, 'SIZE="2"\nNAME="mine"', session=ALICE)
    with pytest.raises(OneError, match=r"limit of 3 reached for LEASES quota in NETWORK with ID: 0\."):
        world.call("one.vn.reserve", 0, 'SIZE="2"\nNAME="more"', session=ALICE)
