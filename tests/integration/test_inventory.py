# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""ansible-inventory with the plugin against zones that boot nothing: hosts, addresses, groups, cache and errors."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.opennebula.flower.tests.support.one_servers import (
    hanging,
    scripted,
    self_signed,
    success,
)
from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, ModuleZone, module_zone
from ansible_collections.opennebula.flower.tests.support.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = "opennebula.flower.opennebula"
LIST = "one.vmpool.infoextended"
SMALL_VM = (
    "<VM><ID>{0}</ID><NAME>web-{0}</NAME><STATE>3</STATE><LCM_STATE>3</LCM_STATE><TEMPLATE/><USER_TEMPLATE/></VM>"
)
NETWORK = 'NAME="{0}"\nVN_MAD="bridge"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="{1}",SIZE="50"]'
VM = 'NAME="{0}"\nCPU="0.1"\nMEMORY="64"\n'
DUAL = 'NAME="{0}"\nVN_MAD="bridge"\nBRIDGE="br0"\nAR=[TYPE="IP4_6_STATIC",IP="{1}",IP6="2001:db8::5",PREFIX_LENGTH="64",SIZE="50"]'
NETWORK_READY = "<STATE><![CDATA[1]]></STATE>"
VM_RUNNING = "<STATE>3</STATE><LCM_STATE>3</LCM_STATE>"
VM_POWEROFF = "<STATE>8</STATE>"


class Answer:
    """What ansible-inventory --list said."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.rc = process.returncode
        self.errors = process.stderr
        self.document = json.loads(process.stdout, object_hook=_plain) if process.stdout.startswith("{") else {}
        assert PASSWORD not in process.stdout + process.stderr
        assert "Traceback" not in process.stderr

    @property
    def hosts(self) -> dict[str, dict]:
        return self.document["_meta"]["hostvars"]

    def group(self, name: str) -> list[str]:
        return sorted(self.document.get(name, {}).get("hosts", []))

    @property
    def message(self) -> str:
        """The errors as one line, as the terminal's width breaks them anywhere."""
        return " ".join(self.errors.split())


class Encrypted(str):
    """A text that Ansible Vault encrypted."""


yaml.SafeDumper.add_representer(
    Encrypted, lambda dumper, text: dumper.represent_scalar("!vault", str(text), style="|")
)


def _plain(value: dict) -> object:
    """A text without the mark that it is not to be evaluated."""
    return value.get("__ansible_unsafe", value)


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Answer]:
    """Run ansible-inventory --list with a source of these options; a source is an error when it fails."""

    def run(*arguments: str, environment: dict[str, str] | None = None, **options: object) -> Answer:
        source = tmp_path / "test.opennebula.yml"
        source.write_text(yaml.safe_dump({"plugin": PLUGIN, **options}))
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("ONE", "ANSIBLE_INV"))}
        process = subprocess.run(
            [Path(sys.executable).with_name("ansible-inventory"), "--list", "-i", source, *arguments],
            capture_output=True, text=True, check=False, timeout=900, cwd=tmp_path,
            env={
                **variables, "HOME": str(tmp_path), "COLUMNS": "1000", "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_COLLECTIONS_PATH": f"{REPOSITORY}:{REPOSITORY / 'build' / 'collections'}",
                "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1", "ANSIBLE_INVENTORY_ENABLED": PLUGIN, **(environment or {}),
            },
        )
        return Answer(process)

    return run


def make_network(zone: ModuleZone, name: str, first_address: str, template: str = NETWORK) -> None:
    network_id = zone.call("one.vn.allocate", template.format(name, first_address), -1)
    await_state(zone, "one.vn.info", network_id, NETWORK_READY)


def make_vm(zone: ModuleZone, name: str, template: str = "", powered_off: bool = False) -> int:
    """Make a VM of a template of its own, and wait until it runs or is powered off."""
    template_id = zone.call("one.template.allocate", VM.format(f"{name}-{time.monotonic_ns()}") + template)
    vm_id = zone.call("one.template.instantiate", template_id, name, False, "", False)
    await_state(zone, "one.vm.info", vm_id, VM_RUNNING)
    if powered_off:
        zone.call("one.vm.action", "poweroff", vm_id)
        await_state(zone, "one.vm.info", vm_id, VM_POWEROFF)
    return vm_id


def await_state(zone: ModuleZone, method: str, number: int, state: str) -> None:
    deadline = time.monotonic() + 300
    pause = threading.Event()
    while state not in zone.call(method, number):
        assert time.monotonic() < deadline, f"{method} {number} does not show {state}"
        pause.wait(0.05)


def options_of(zone: ModuleZone) -> dict:
    return {name: zone.options[name] for name in ("api_url", "oneflow_url", "api_username", "api_password")}


def pool_of(*ids: int) -> str:
    return f"<VM_POOL>{''.join(map(SMALL_VM.format, ids))}</VM_POOL>"


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    """A zone with four networks and VMs of every kind an inventory has to cope with."""
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        for name, first in (("public", "192.0.2.10"), ("management", "10.9.0.10"), ("floating", "198.51.100.7")):
            make_network(zone, name, first)
        make_network(zone, "dual", "192.0.2.100", DUAL)
        both = 'NIC=[NETWORK="public"]\nNIC=[NETWORK="management"]\n'
        alias = 'NIC_ALIAS=[PARENT="NIC0",NETWORK="floating",IP="198.51.100.7"]\n'
        service = 'SERVICE_ID="12"\nROLE_NAME="superlink"\nLABELS="gpu, site/north"\nENVIRONMENT="test"\n'
        encoded = base64.b64encode(f'{{"run":{{"token":"{PASSWORD}"}}}}'.encode()).decode()
        secret = f'DB_PASSWORD="{PASSWORD}"\nNESTED=[API_TOKEN="{PASSWORD}",SIZE="2"]\nFL_ARTIFACTS="{encoded}"\nMIRROR="http://u:{PASSWORD}@m/"\n'
        make_vm(zone, "superlink", both + alias + service + secret)
        make_vm(zone, "isolated", 'EVIL="{{ lookup(\'ansible.builtin.pipe\', \'echo evaluated\') }}"\n')
        make_vm(zone, "sleeper", 'NIC=[NETWORK="dual",IP6="2001:db8::5"]\n', powered_off=True)
        zone.call("one.user.allocate", "alice", "alice:secret", "", [])
        for owner in (0, 2):
            twin = make_vm(zone, f"twin-{owner}")
            zone.call("one.vm.chown", twin, owner, -1)
            zone.call("one.vm.rename", twin, "twin")
        yield zone


@pytest.fixture(scope="module")
def other_zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    """A second zone, with a VM whose name the first one has too."""
    with module_zone(tmp_path_factory.mktemp("other")) as zone:
        make_vm(zone, "superlink", 'SERVICE_ID="12"\n')
        yield zone


# ---- Hosts and variables --------------------------------------------------------------------------


def test_one_call_lists_every_vm_with_its_variables(zone, listed):
    zone.calls.clear()
    answer = listed(**options_of(zone))
    assert answer.rc == 0, answer.errors
    assert zone.calls == [LIST]
    assert sorted(answer.hosts) == ["isolated", "sleeper", "superlink", "twin_3", "twin_4"]
    superlink = answer.hosts["superlink"]
    assert superlink["ansible_host"] == superlink["one_address"] == "192.0.2.10"
    assert superlink["one_id"] == 0 and superlink["one_state"] == "RUNNING" and superlink["one_zone"] == "127.0.0.1"
    assert (superlink["one_service_id"], superlink["one_role"]) == (12, "superlink")
    assert (superlink["one_host"], superlink["one_cluster_id"]) == ("modules-host01", 0)
    assert superlink["one_labels"] == ["gpu", "site/north"]
    assert superlink["one_memory"] == 64 and superlink["one_owner"] == "oneadmin"
    assert [nic["network"] for nic in superlink["one_nics"]] == ["public", "management", "floating"]


def test_secrets_of_the_user_template_are_left_out_at_any_depth(zone, listed):
    attributes = listed(**options_of(zone)).hosts["superlink"]["one_user_template"]
    assert attributes == {"ENVIRONMENT": "test", "NESTED": {"SIZE": "2"}}


def test_only_chosen_attributes_are_kept_and_a_prefix_names_all_variables(zone, listed):
    answer = listed(**options_of(zone), user_template=["ENV*"], vars_prefix="nebula_")
    superlink = answer.hosts["superlink"]
    assert superlink["nebula_user_template"] == {"ENVIRONMENT": "test"}
    assert not [name for name in superlink if name.startswith("one_")]


def test_what_owners_of_vms_wrote_is_not_evaluated(zone, listed):
    answer = listed(**options_of(zone), compose={"copy": "one_user_template.EVIL"})
    assert answer.hosts["isolated"]["copy"] == "{{ lookup('ansible.builtin.pipe', 'echo evaluated') }}"


def test_a_vm_without_address_is_a_host_without_ansible_host(zone, listed):
    isolated = listed(**options_of(zone)).hosts["isolated"]
    assert "ansible_host" not in isolated and isolated["one_nics"] == []


@pytest.mark.parametrize(
    ("rules", "addresses"),
    [
        ([{"network": "manage*"}], {"superlink": "10.9.0.10"}),
        ([{"nic": 1}, {"nic": 0}], {"superlink": "10.9.0.10", "sleeper": "192.0.2.100"}),
        ([{"family": "ipv6"}], {"sleeper": "2001:db8::5"}),
        ([{"nic": "NIC0_ALIAS2"}], {"superlink": "198.51.100.7"}),
        ([{"network": "floating"}], {"superlink": "198.51.100.7"}),
        ([{"network": "floating", "aliases": False}], {}),
    ],
)
def test_the_first_rule_that_finds_an_address_chooses_it(zone, listed, rules, addresses):
    hosts = listed(**options_of(zone), address=rules).hosts
    assert {name: known["ansible_host"] for name, known in hosts.items() if "ansible_host" in known} == addresses


def test_names_come_from_an_attribute_where_there_is_one(zone, listed):
    answer = listed(**options_of(zone), hostname="one_user_template.ENVIRONMENT ~ '-' ~ one_role")
    assert "test-superlink" in answer.hosts and "isolated" in answer.hosts


def test_pages_of_2000_vms_are_asked_for_and_a_vm_on_two_pages_is_one_host(listed):
    # A VM made between two calls shifts the second page by one.
    pages = pool_of(*range(2999, 999, -1)), pool_of(*range(1000, -1, -1))
    with scripted(*map(success, pages)) as server:
        answer = listed(api_url=f"{server.url}/RPC2", api_username="oneadmin", api_password=PASSWORD)
    assert len(answer.hosts) == 3000
    arguments = [xmlrpc.client.loads(body)[0] for _method, _path, body, _headers in server.requests]
    assert arguments == [(f"oneadmin:{PASSWORD}", -2, offset, -2000, -1) for offset in (0, 2000)]


# ---- Groups and filters ---------------------------------------------------------------------------


def test_groups_by_zone_service_role_host_cluster_state_and_label(zone, listed):
    answer = listed(zones=[{"name": "north", **options_of(zone)}])
    everyone = sorted(answer.hosts)
    assert answer.group("zone_north") == answer.group("cluster_0") == everyone
    assert answer.group("host_modules_host01") == everyone
    for group in ("service_12", "role_superlink", "label_gpu", "label_site_north"):
        assert answer.group(group) == ["superlink"]
    assert answer.group("state_poweroff") == ["sleeper"]
    assert answer.group("state_running") == [name for name in everyone if name != "sleeper"]


def test_only_chosen_groups_are_made_and_constructed_ones_know_composed_variables(zone, listed):
    answer = listed(
        **options_of(zone), group_by=["state"], compose={"env": "one_user_template.ENVIRONMENT"},
        groups={"small": "one_memory <= 64"}, keyed_groups=[{"key": "env", "prefix": "env"}], strict=False,
    )
    assert answer.group("env_test") == ["superlink"]
    assert answer.group("small") == sorted(answer.hosts)
    assert {name for name in answer.document if name not in ("_meta", "all", "ungrouped")} == {
        "env_test", "small", "state_running", "state_poweroff"
    }


def test_names_of_clusters_are_looked_up_with_one_call_more(zone, listed):
    zone.calls.clear()
    answer = listed(**options_of(zone), lookup_names=True)
    assert answer.group("cluster_default") == sorted(answer.hosts)
    assert zone.calls == [LIST, "one.clusterpool.info", "GET /service"]


@pytest.mark.parametrize(
    ("filters", "hosts"),
    [
        ({"states": ["powered-off"]}, ["sleeper"]),
        ({"states": ["active"], "names": ["s*"]}, ["superlink"]),
        ({"names": ["~^(isolated|sleeper)$"]}, ["isolated", "sleeper"]),
        ({"labels": ["site/*"]}, ["superlink"]),
        ({"attributes": {"environment": "te?t"}}, ["superlink"]),
        ({"names": ["nothing"]}, []),
    ],
)
def test_filters_choose_the_vms(zone, listed, filters, hosts):
    assert sorted(listed(**options_of(zone), filters=filters).hosts) == hosts


def test_own_vms_are_listed_alone_and_names_are_unique_among_what_is_listed(zone, listed):
    alice = {**options_of(zone), "api_username": "alice", "api_password": "alice:secret"}
    assert list(listed(**alice, scope="own").hosts) == ["twin"]


# ---- Several zones --------------------------------------------------------------------------------


def test_two_zones_make_one_inventory_with_unique_names(zone, other_zone, listed):
    zone.calls.clear()
    other_zone.calls.clear()
    answer = listed(zones=[{"name": "north", **options_of(zone)}, {"name": "south", **options_of(other_zone)}])
    assert zone.calls == other_zone.calls == [LIST]
    assert {"superlink_0_north", "superlink_0_south", "isolated"} < set(answer.hosts)
    assert answer.group("zone_south") == answer.group("service_south_12") == ["superlink_0_south"]
    assert answer.group("service_north_12") == ["superlink_0_north"]


def test_a_zone_that_cannot_be_reached_is_an_error_that_names_it(zone, listed):
    nowhere = {"name": "south", **options_of(zone), "api_url": f"http://127.0.0.1:{free_port()}/RPC2"}
    answer = listed(zones=[{"name": "north", **options_of(zone)}, nowhere])
    assert answer.rc != 0
    assert f"Zone south: {nowhere['api_url']} cannot be reached: Connection refused." in answer.message


def test_a_zone_that_cannot_be_reached_is_left_out_with_a_warning_when_asked(zone, listed, tmp_path):
    with hanging() as slow:
        dead = {"name": "south", **options_of(zone), "api_url": f"{slow}/RPC2", "api_timeout": 0.3}
        options = {
            "zones": [{"name": "north", **options_of(zone)}, dead], "skip_unreachable": True, "cache": True,
            "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache"),
        }
        answer = listed(**options)
        assert answer.rc == 0 and "superlink" in answer.hosts
        assert f"Zone south: {slow}/RPC2 did not answer within 0.3 seconds. Its VMs are left out." in answer.message
        zone.calls.clear()
        again = listed(**options)
    assert "Zone south" in again.message and zone.calls == []


def test_the_example_source_works_once_its_zones_are_there(zone, other_zone, listed):
    example = yaml.safe_load((REPOSITORY / "inventories" / "examples" / "vms.opennebula.yml").read_text())
    example["zones"] = [
        {"name": entry["name"], **options_of(there)}
        for entry, there in zip(example["zones"], (zone, other_zone), strict=True)
    ]
    answer = listed(**example)
    assert answer.rc == 0, answer.errors
    assert answer.hosts["superlink_0_north"]["ansible_host"] == "10.9.0.10"
    assert answer.hosts["superlink_0_north"]["ansible_user"] == "root"
    assert answer.group("env_test") == ["superlink_0_north"]
    assert answer.group("zone_south") == ["superlink_0_south"]


# ---- Identity -------------------------------------------------------------------------------------


def test_credentials_come_from_templates_files_and_the_environment(zone, listed, tmp_path):
    url = {"api_url": zone.options["api_url"]}
    file = tmp_path / "auth"
    file.write_text(f"oneadmin:{PASSWORD}\n")
    lookup = {"api_username": "oneadmin", "api_password": "{{ lookup('ansible.builtin.env', 'SECRET_OF_A') }}"}
    assert listed(zones=[{**url, **lookup}], environment={"SECRET_OF_A": PASSWORD}).rc == 0
    assert listed(**url, **lookup, environment={"SECRET_OF_A": PASSWORD}).rc == 0
    assert listed(**url, environment={"ONE_USERNAME": "oneadmin", "ONE_PASSWORD": PASSWORD}).rc == 0
    assert listed(environment={"ONE_XMLRPC": url["api_url"], "ONE_AUTH": str(file)}).rc == 0
    wrong = {"ONE_USERNAME": "oneadmin", "ONE_PASSWORD": "wrong"}
    assert listed(zones=[{**url, "auth_file": str(file)}], environment=wrong).rc == 0


def test_a_password_may_be_encrypted(zone, listed, tmp_path):
    vault_password = tmp_path / "vault"
    vault_password.write_text("of the vault")
    encrypted = Encrypted(VaultLib().encrypt(PASSWORD, VaultSecret(b"of the vault")).decode())
    options = {**options_of(zone), "api_password": encrypted}
    for source in (options, {"zones": [options]}):
        answer = listed("--vault-password-file", str(vault_password), **source)
        assert answer.rc == 0 and "superlink" in answer.hosts


def test_a_wrong_password_is_an_error_even_if_unreachable_zones_are_skipped(zone, listed):
    answer = listed(**{**options_of(zone), "api_password": "wr:ong"}, skip_unreachable=True)
    assert answer.rc != 0 and "does not accept the password of user oneadmin." in answer.message
    assert "wr:ong" not in answer.errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"api_url": "nowhere"}, "api_url is 'nowhere', it must look like http://HOST:2633/RPC2."),
        ({"api_password": None}, "api_username is given without api_password."),
        ({"filters": {"states": ["runing"]}}, "'runing' is not a state of a VM"),
        ({"filters": {"names": ["~("]}}, "'(' is not a valid regular expression"),
        ({"filters": {"name": ["x"]}}, "In filters there is no option 'name', only attributes, labels, names, states."),
        ({"address": [{"family": "ipv5"}]}, "In address: value of family must be one of: any, ipv4, ipv6, got: ipv5."),
        ({"zones": ["http://one:2633/RPC2"]}, "In zones, entry 1 a dictionary of options is expected."),
        ({"zones": [{"name": "a"}, {"name": "a"}]}, "Two zones have the name 'a'"),
        ({"zones": [{"api_password": "{{ nothing_of_that_name }}"}]}, "An expression in zones, entry 1 has no value"),
        ({"filter": {"states": ["running"]}}, "In the source there is no option 'filter'"),
        ({"vars_prefix": "1-"}, "vars_prefix is '1-'"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(zone, listed, options, sentence):
    answer = listed(**{**options_of(zone), **options})
    assert answer.rc != 0 and sentence in answer.message


def test_tls_is_checked_against_the_given_certificates(listed, tmp_path):
    with self_signed(tmp_path, success(pool_of(7))) as (server, certificate):
        options = {
            "api_url": server.url.replace("http:", "https:") + "/RPC2", "api_username": "oneadmin",
            "api_password": PASSWORD,
        }
        refused = listed(**options)
        assert refused.rc != 0 and "has a certificate that is not trusted" in refused.message
        assert list(listed(**options, ca_path=str(certificate)).hosts) == ["web-7"]
        assert list(listed(**options, validate_certs=False).hosts) == ["web-7"]


# ---- Cache ----------------------------------------------------------------------------------------


def test_the_cache_spares_the_calls_holds_no_secret_and_knows_what_it_is_of(zone, listed, tmp_path):
    directory = tmp_path / "cache"
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(directory)}
    zone.calls.clear()
    first = listed(**options_of(zone), **cache)
    second = listed(**options_of(zone), **cache)
    assert zone.calls == [LIST]
    assert first.document == second.document
    filtered = listed(**options_of(zone), **cache, filters={"names": ["isolated"]})
    assert list(filtered.hosts) == ["isolated"] and zone.calls == [LIST]
    assert all(PASSWORD not in file.read_text() for file in directory.iterdir())
    listed(**options_of(zone), **cache, scope="own")
    listed("--flush-cache", **options_of(zone), **cache)
    assert zone.calls == [LIST] * 3


def test_without_a_cache_every_run_asks_again(zone, listed):
    zone.calls.clear()
    listed(**options_of(zone))
    listed(**options_of(zone))
    assert zone.calls == [LIST] * 2
