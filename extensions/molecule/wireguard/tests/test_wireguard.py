# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""An overlay of three sites, two of them behind NAT, that lives: joins, rotations, restarts, failover. The tests build on each other."""

import json
import os
import pathlib
import re
import subprocess
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
from testing import container, on, output, wait_until

PROJECT = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
A, B, C, D = "mol-wg-a", "mol-wg-b", "mol-wg-c", "mol-wg-d"
ROUTER = "mol-wg-router"
# Addresses of the sites in the tunnel, and one behind the hubs.
TUNNEL = {A: "10.109.9.1", B: "10.109.9.2", C: "10.109.9.3", D: "10.109.9.4"}
BEHIND_THE_HUBS = "10.109.10.5"


def site(machine, **extra):
    number = TUNNEL[machine][-1]
    return {"name": machine[-1], "host": machine, "addresses": [TUNNEL[machine], f"fd00:109::{number}"], **extra}


HUB = site(A, hub=True, endpoint=f"{A}:51820", subnets=["10.109.10.0/24"])
SPOKES = [site(B, subnets=["10.109.11.0/24"]), site(C, subnets=["10.109.12.0/24"])]
FOURTH = site(D, endpoint=f"{D}:51820", subnets=["10.109.13.0/24"])
MESH = [site(A, endpoint=f"{A}:51820"), site(D, endpoint=f"{D}:51820"), site(B)]
# A second overlay of the same machines.
IDLE = {machine: address.replace(".9.", ".8.") for machine, address in TUNNEL.items()}


def answers(machine, address, seconds=60):
    """Return whether an address answers in time; only for one that must not answer the time is short."""
    return on(machine, "ping", "-n", "-c", "1", "-i", "0.5", "-w", str(seconds), address).returncode == 0


def peers(machine):
    """Return the networks of each peer by public key."""
    return dict(line.split("\t", 1) for line in output(machine, "wg", "show", "wg0", "allowed-ips").splitlines())


def plain(said):
    """Return what ansible-playbook said as one line, without the quoting of YAML."""
    return " ".join(said.replace("''", "'").split())


def public_key(machine, interface="wg0"):
    return output(machine, "wg", "show", interface, "public-key").strip()


def connected(machine):
    """Return the public keys of the peers that a machine had a handshake with since its tunnel is up."""
    said = on(machine, "wg", "show", "wg0", "latest-handshakes").stdout
    return {line.split("\t")[0] for line in said.splitlines() if not line.endswith("\t0")}


def probed(machine):
    """Return the addresses that a machine's running probes ask."""
    units = output(machine, "systemctl", "list-units", "--state=active", "--plain", "--no-legend", "wireguard-probe-wg*")
    return set(re.findall(r"^wireguard-probe-wg[0-9]@(\S+)\.service", units, re.MULTILINE))


@pytest.fixture(scope="module")
def connect(tmp_path_factory):
    """Run playbooks/wireguard.yml for these sites and return what it said; a failing run must be expected."""
    directory = tmp_path_factory.mktemp("connect")

    def run(sites, *extra, fails=False, **variables):
        hosts = {entry["host"]: None for entry in sites}
        inventory = directory / "sites.json"
        inventory.write_text(json.dumps({"all": {"children": {"overlay": {"children": {"wireguard": {"hosts": hosts}}}}}}))
        values = directory / "values.json"
        values.write_text(json.dumps({"wireguard_sites": sites, **variables}))
        done = subprocess.run(
            ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-i", inventory, "--limit", ",".join(hosts), *extra]
            + ["-e", f"@{values}", PROJECT / "playbooks" / "wireguard.yml"],
            capture_output=True, text=True, check=False, cwd=PROJECT, env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr  # Molecule has failures shown on stderr

    return run


@pytest.fixture(scope="module")
def wrong_verification(connect):
    """Return what the verification says of flows that the machines do not have: b and c do not talk, but a and c do."""
    wrong = {"wireguard_flows": [["a", "b"], ["b", "c"]], "wireguard_verify_timeout": 2}
    return plain(connect([HUB, *SPOKES], "--tags", "verify", fails=True, **wrong))


@contextmanager
def longest_loss(machine, address):
    """Send five packets a second and give how many in a row got lost at most, once the block is done.

    A busy machine sends and answers late, but loses nothing: packets tell an interruption, seconds do not.
    """
    longest = []
    command = ["docker", "exec", container(machine), "sh", "-c", f"echo $$ > /run/probe.pid; exec ping -n -i 0.2 {address}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as probe:
        try:
            yield longest
        finally:
            output(machine, "sh", "-c", "kill -INT $(cat /run/probe.pid)")
            said, _ = probe.communicate(timeout=300)
    answered = sorted({int(number) for number in re.findall(r"bytes from .* icmp_seq=([0-9]+) ", said)})
    assert answered, f"{address} never answered {machine}: {said}"
    longest.append(max(later - earlier - 1 for earlier, later in pairwise([0, *answered])))


@pytest.fixture(scope="module")
def idle_tunnel(connect):
    """Connect the machines by a second tunnel that nobody uses, b and the hub without keepalives."""
    sites = [{"name": m[-1], "host": m, "addresses": [IDLE[m]], "port": 51821} for m in (A, B, C)]
    sites[0] |= {"hub": True, "endpoint": f"{A}:51821"}
    setting = {"wireguard_interface": "wg1", "wireguard_networks": ["10.109.8.0/24"], "wireguard_probe_interval": 0}
    connect(sites, "--skip-tags", "verify", **setting)
    assert all(answers(A, IDLE[spoke]) for spoke in (B, C))
    for machine, peer in ((A, B), (B, A)):
        output(machine, "wg", "set", "wg1", "peer", public_key(peer, "wg1"), "persistent-keepalive", "0")


def test_a_second_tunnel_of_the_same_machines_sends_no_probes_if_they_are_switched_off(idle_tunnel):
    assert probed(C) == {TUNNEL[A]}


def test_private_keys_are_on_their_machine_only_and_readable_by_root_only():
    keys = {machine: output(machine, "cat", "/etc/wireguard/wg0.key").strip() for machine in (A, B, C)}
    assert len(set(keys.values())) == 3
    for machine, key in keys.items():
        assert output(machine, "stat", "--format", "%a %U", "/etc/wireguard/wg0.key") == "600 root\n"
        assert "PrivateKey" not in output(machine, "cat", "/etc/wireguard/wg0.conf")
        for other in {A, B, C} - {machine}:
            assert on(other, "grep", "--recursive", "--quiet", "--fixed-strings", key, "/etc", "/root").returncode == 1


def test_each_two_peers_share_a_secret_of_their_own():
    with_b, with_c = (output(A, "cat", f"/etc/wireguard/wg0.psk/{name}") for name in "bc")
    assert with_b != with_c
    assert output(B, "cat", "/etc/wireguard/wg0.psk/a") == with_b
    assert output(B, "stat", "--format", "%a", "/etc/wireguard/wg0.psk/a") == "600\n"


def test_the_verification_passes_in_both_directions_with_packets_of_full_size(connect):
    assert "failed=0" in connect([HUB, *SPOKES], "--tags", "verify")


def test_the_verification_names_a_pair_that_should_talk_and_does_not(wrong_verification):
    assert "traffic of site 'c': 10.109.9.3 does not answer within 2 s" in wrong_verification


def test_the_verification_names_a_pair_that_should_not_talk_and_does(wrong_verification):
    assert "refusal of site 'c': 10.109.9.3 answers" in wrong_verification


def test_the_hub_lets_spokes_reach_each_other_only_if_that_is_declared(connect):
    hub_key = public_key(A)
    for spoke, other in ((B, C), (C, B)):
        # What an intruder on a spoke would do: route the other spoke into the tunnel.
        output(spoke, "wg", "set", "wg0", "peer", hub_key, "persistent-keepalive", "0", "allowed-ips", f"{TUNNEL[A]}/32,{TUNNEL[other]}/32")
    assert answers(B, TUNNEL[A])
    assert not answers(B, TUNNEL[C], 3)
    connect([HUB, *SPOKES], "--skip-tags", "verify", wireguard_flows=[["a", "b"], ["a", "c"], ["b", "c"]])
    assert answers(B, TUNNEL[C])


def test_that_run_restored_what_was_changed_by_hand():
    assert HUB["subnets"][0] in peers(B)[public_key(A)]
    assert output(B, "wg", "show", "wg0", "persistent-keepalive") == f"{public_key(A)}\t25\n"


def test_a_fourth_site_joins_without_interrupting_the_others(connect):
    with longest_loss(B, TUNNEL[A]) as from_b, longest_loss(A, TUNNEL[C]) as to_c:
        connect([HUB, *SPOKES, FOURTH])
    assert answers(D, TUNNEL[A])
    print(f"packets lost in a row while a site joined: {from_b[0]} and {to_c[0]}")
    assert max(from_b[0], to_c[0]) < 5


def test_spokes_do_not_reach_each_other_any_more_once_that_is_not_declared():
    assert not answers(B, TUNNEL[C], 3)


def test_new_keys_for_all_sites_interrupt_no_tunnel_for_longer_than_their_exchange(connect):
    before = [public_key(machine) for machine in (A, B, C, D)]
    with longest_loss(B, TUNNEL[A]) as from_b, longest_loss(A, TUNNEL[C]) as to_c:
        connect([HUB, *SPOKES, FOURTH], wireguard_rotate_keys=True)
    after = [public_key(machine) for machine in (A, B, C, D)]
    assert not set(before) & set(after)
    print(f"packets lost in a row while keys changed: {from_b[0]} and {to_c[0]}")
    # 100 are 20 s. Without new handshakes at once, sessions with the old keys last up to two minutes: 600.
    assert max(from_b[0], to_c[0]) < 100
    again = connect([HUB, *SPOKES, FOURTH], "--limit", A, "--skip-tags", "verify")
    assert "changed=0" in re.findall(rf"{A} .*", again)[-1]


def remembered(machine):
    """Return whether the firewall still lets answers to the machine's second tunnel in."""
    address = json.loads(output(machine, "ip", "-json", "-4", "address", "show", "dev", "eth0"))[0]["addr_info"][0]["local"]
    entries = output(ROUTER, "conntrack", "-L", "-p", "udp").splitlines()
    return any(f"src={address} " in entry and "dport=51821 " in entry for entry in entries)


def test_an_idle_tunnel_stays_open_because_of_its_keepalives(idle_tunnel):
    # Nothing is sent: only the keepalives of site c pass the firewall, which forgets after 30 s.
    assert wait_until(lambda: not remembered(B), 600)
    assert remembered(C)
    assert answers(A, IDLE[C])
    assert not answers(A, IDLE[B], 3)


def test_spokes_that_send_nothing_are_back_after_a_restart_of_the_hub_long_before_their_session_ends():
    for spoke in (B, C):
        # A new session: an old one would end soon and bring a handshake by that.
        output(spoke, "systemctl", "stop", "wg-quick@wg0")
        output(spoke, "systemctl", "start", "wg-quick@wg0")
    assert wait_until(lambda: connected(B) == connected(C) == {public_key(A)}, 100)
    spokes = {public_key(B), public_key(C)}
    started = time.monotonic()
    subprocess.run(["docker", "restart", container(A)], check=True, capture_output=True)
    # A session lasts up to two minutes, the probes find out after some 20 s.
    assert wait_until(lambda: connected(A) >= spokes, 90)
    print(f"spokes back after {time.monotonic() - started:.1f} s, the restart of the hub included")
    assert answers(A, TUNNEL[B])
    assert answers(A, TUNNEL[C])


def test_in_a_failover_the_next_hub_takes_over_and_gives_back(connect):
    output(A, "ip", "address", "add", f"{BEHIND_THE_HUBS}/32", "dev", "lo")
    second = {**FOURTH, "hub": True, "subnets": HUB["subnets"]}
    connect([HUB, second, *SPOKES], wireguard_topology="failover")
    networks = HUB["subnets"][0]
    assert networks in peers(B)[public_key(A)]
    assert probed(B) == set()
    stopped = time.monotonic()
    subprocess.run(["docker", "pause", container(A)], check=True, capture_output=True)
    try:
        assert wait_until(lambda: all([answers(B, BEHIND_THE_HUBS, 1), answers(C, BEHIND_THE_HUBS, 1)]), 300)
        print(f"second hub in use after {time.monotonic() - stopped:.1f} s")
        assert networks in peers(B)[public_key(D)]
    finally:
        subprocess.run(["docker", "unpause", container(A)], check=True, capture_output=True)
    assert wait_until(lambda: networks in peers(B)[public_key(A)], 300)
    assert answers(B, BEHIND_THE_HUBS)


def test_the_failover_stops_and_starts_with_the_tunnel():
    output(B, "systemctl", "stop", "wg-quick@wg0")
    assert on(B, "systemctl", "is-active", "wireguard-failover@wg0").stdout == "inactive\n"
    output(B, "systemctl", "start", "wg-quick@wg0")
    assert output(B, "systemctl", "is-active", "wireguard-failover@wg0") == "active\n"


def test_a_run_during_a_failover_leaves_the_hub_in_use(connect):
    second = {**FOURTH, "hub": True, "subnets": HUB["subnets"]}
    output(A, "ip", "link", "set", "wg0", "down")
    assert wait_until(lambda: HUB["subnets"][0] in peers(B)[public_key(D)], 300)
    connect([HUB, second, *SPOKES], "--limit", B, "--skip-tags", "verify", wireguard_topology="failover")
    assert HUB["subnets"][0] in peers(B)[public_key(D)]
    output(A, "systemctl", "restart", "wg-quick@wg0")


def test_a_dry_run_shows_a_change_of_the_topology_and_writes_nothing(connect):
    files = ["find", "/etc/wireguard", "/etc/systemd", "-type", "f,l", "-ls"]
    before = output(B, *files)
    said = connect(MESH, "--check", "--diff", "--limit", B, wireguard_topology="mesh")
    assert "+ExecStart=/usr/bin/ping" in said
    assert output(B, *files) == before
    assert output(B, "systemctl", "is-active", "wireguard-failover@wg0") == "active\n"


@pytest.fixture(scope="module")
def left(connect):
    """Make the overlay a mesh that site c is not in any more, and return its key."""
    key = public_key(C)
    assert key in peers(A)
    connect(MESH, wireguard_topology="mesh")
    return key


def test_a_site_that_leaves_is_no_peer_any_more(left):
    assert left not in peers(A)
    assert left not in output(A, "cat", "/etc/wireguard/wg0.conf")
    assert SPOKES[1]["subnets"][0] not in output(A, "ip", "route")


def test_a_mesh_connects_each_two_sites_directly(left):
    assert probed(B) == {TUNNEL[A], TUNNEL[D]}
    assert set(peers(B)) == {public_key(A), public_key(D)}
    assert on(B, "systemctl", "is-active", "wireguard-failover@wg0").stdout.strip() == "inactive"


def test_a_bad_plan_changes_nothing(connect):
    before = output(A, "md5sum", "/etc/wireguard/wg0.conf"), peers(A)
    twice = [HUB, {**SPOKES[0], "endpoint": "b.example.org"}, {**SPOKES[1], "private_key": "secret"}]
    said = plain(connect(twice, fails=True))
    assert "Site 'b': endpoint 'b.example.org' has no port" in said
    assert "Site 'c' has a private key in the inventory" in said
    assert (output(A, "md5sum", "/etc/wireguard/wg0.conf"), peers(A)) == before


def test_a_bad_interval_is_refused(connect):
    assert "wireguard_probe_interval is -1, expected 0 to 86400" in plain(connect([HUB, *SPOKES], "--limit", A, fails=True, wireguard_probe_interval=-1))


def test_a_machine_that_leaves_keeps_nothing_of_the_overlay(connect):
    connect([HUB, *SPOKES], wireguard_state="absent")
    for machine in (A, B, C):
        assert output(machine, "find", "/etc/wireguard", "/etc/sysctl.d", "/etc/systemd", "-name", "*wg0*") == ""
        assert probed(machine) == set()
        assert on(machine, "ip", "link", "show", "wg0").returncode != 0
        assert "wireguard_wg0" not in output(machine, "nft", "list", "tables")
    assert "changed=0" in re.findall(rf"{B} .*", connect([HUB, *SPOKES], "--limit", B, wireguard_state="absent"))[-1]
