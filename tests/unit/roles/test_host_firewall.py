# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The rules of the host firewall as text; machines that load them are in extensions/molecule."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19

    def trust_as_template(text: str) -> str:
        return text


ROLE = Path(__file__).resolve().parents[3] / "roles/_flower_firewall"


def rules(**given: object) -> list[str]:
    """Return the lines of the rules with these variables."""
    files = (yaml.safe_load((ROLE / name / "main.yml").read_text()) for name in ("defaults", "vars"))
    values = {name: trust_as_template(value) if isinstance(value, str) else value for file in files for name, value in file.items()}
    templar = Templar(DataLoader(), variables={"ansible_managed": "", **values, **given})
    text = templar.template(trust_as_template("#jinja2: trim_blocks: True\n" + (ROLE / "templates/firewall.nft.j2").read_text()))
    return [line.strip() for line in text.splitlines()]


def test_only_ssh_and_what_is_served_is_let_in() -> None:
    opened = [line for line in rules(flower_firewall_ports=[9092, 9092]) if line.startswith("tcp dport")]
    assert opened == ["tcp dport 22 accept", "tcp dport 9092 accept"]


def test_ssh_where_ansible_came_in_stays_open() -> None:
    assert "tcp dport 2222 accept" in rules(ansible_port=2222)
    named = rules(ansible_port="2222", flower_host_firewall_ssh_from=["10.0.0.0/8", "fd00::/8"])
    assert [line for line in named if line.endswith("tcp dport 2222 accept")] == [
        "ip saddr 10.0.0.0/8 tcp dport 2222 accept", "ip6 saddr fd00::/8 tcp dport 2222 accept",
    ]  # fmt: skip


def test_nothing_is_filtered_outbound_unless_networks_are_named() -> None:
    assert "jump outbound" not in rules()
    assert "ip daddr 10.0.0.0/8 accept" in rules(flower_host_firewall_outbound=["10.0.0.0/8"])


def test_a_firewall_that_is_off_leaves_no_table() -> None:
    assert [line for line in rules(flower_host_firewall_enabled=False) if line and not line.startswith("#")] == [
        "table inet flower_firewall", "delete table inet flower_firewall", "table inet flower_loopback", "delete table inet flower_loopback",
    ]  # fmt: skip


def test_through_a_tunnel_the_named_ports_are_reached_and_nothing_else_of_what_is_open() -> None:
    lines = rules(flower_firewall_ports=[9092], flower_firewall_udp_ports=[51820], flower_firewall_tunnel="flower0", flower_firewall_tunnel_ports=[9092])
    tunnel = [line for line in lines if "flower0" in line]
    assert tunnel == [
        'iifname "flower0" tcp dport 9092 accept',
        'iifname "flower0" meta l4proto tcp reject with tcp reset',
        'iifname "flower0" reject with icmpx admin-prohibited',
        'iifname "flower0" reject with icmpx admin-prohibited',
    ]
    assert lines.index(tunnel[2]) < lines.index("tcp dport 22 accept"), "SSH is open, but not to other zones"
    assert lines.index("chain from_tunnel {") < len(lines) - 1 - lines[::-1].index(tunnel[3]), "nor does anything go on from there"
    assert "udp dport 51820 accept" in lines


def test_without_a_tunnel_nothing_is_said_of_one() -> None:
    assert not any("tunnel" in line or "iifname" in line for line in rules() if line != 'iifname "lo" accept')
