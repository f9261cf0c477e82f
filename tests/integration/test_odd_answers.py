# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Every module that talks to OpenNebula against a server that answers oddly: one sentence, never a traceback or a change."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.opennebula.flower.tests.support.odd_answers import OddServer, broken, odd_calls, odd_documents
from ansible_collections.opennebula.flower.tests.support.one_servers import running
from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone, run_module

VM_TEMPLATE = {"CPU": 0.01, "MEMORY": 1}
ROLES = [{"name": "superlink", "vm_template": "thing", "cardinality": 1}]
#: module and options; each makes what those after it name
MAKERS = [
    ("one_cluster", {"name": "thing"}),
    ("one_host", {"name": "thing", "im_mad": "dummy", "vm_mad": "dummy", "cluster": "thing"}),
    ("one_datastore", {"name": "thing", "ds_mad": "fs", "tm_mad": "shared", "clusters": ["thing"]}),
    ("one_virtual_network", {"name": "thing", "template": {"VN_MAD": "bridge", "BRIDGE": "br0"}, "address_ranges": [{"ip": "10.9.0.10", "size": 9}]}),
    ("one_security_group", {"name": "thing", "rules": [{"RULE_TYPE": "inbound", "PROTOCOL": "tcp", "RANGE": 22}]}),
    ("one_image", {"name": "thing", "path": "/images/thing", "size": 10, "datastore": "default"}),
    ("one_template", {"name": "thing", "template": VM_TEMPLATE}),
    ("one_service_template", {"name": "thing", "template": {"roles": ROLES}}),
    ("one_service", {"name": "thing", "service_template": "thing"}),
    ("one_group", {"name": "thing"}),
    ("one_user", {"name": "thing", "password": "secret", "group": "thing"}),
    ("one_quota", {"user": "thing", "vm": {"VMS": 5}}),
    ("one_acl", {"rules": [{"group": "thing", "resources": ["VM"], "rights": ["CREATE"]}]}),
    ("one_vdc", {"name": "thing", "groups": ["thing"]}),
    ("one_vm", {"name": "thing", "vm_template": "thing", "nics": [{"NETWORK": "thing"}]}),
]
READERS = [
    ("one_host_info", {}), ("one_service_info", {"vm_details": True}), ("one_service_info", {"name": "thing"}), ("one_vm_info", {}),
    ("one_vm_info", {"service": "thing", "cluster": "default"}), ("one_zone_info", {}), ("flower_run_info", {"service": "thing"}),
    ("onegate_info", {"service": True}), ("onegate", {"attributes": {"THING": 1}}),
]
#: those that come to write something
WRITERS = [(module, {**options, "name": "new"}) for module, options in MAKERS if module in ("one_template", "one_service_template", "one_group", "one_vm")]
# How many odd answers are tried of those to the second and later requests, and how many broken ones to each.
LATER, BROKEN = 15, 12


class Odd(NamedTuple):
    """A server that spoils answers of a zone and one that spoils those of its OneGate, and the options that lead to both."""

    zone: ModuleZone
    api: OddServer
    flow: OddServer
    gate: OddServer
    inside: dict

    def servers(self, module: str) -> tuple[OddServer, ...]:
        return (self.gate,) if module.startswith("onegate") else (self.api, self.flow)

    def run(self, module: str, options: dict, check: bool = False) -> dict:
        leading = self.inside if module.startswith("onegate") else {
            **self.zone.options, "api_url": f"{self.api.url}/RPC2", "oneflow_url": self.flow.url,
        }
        # A collection in the middle of a document that is nested as deep as Python goes would call finalizers, which cannot run there.
        gc.disable()
        try:
            return run_module(module, {**leading, **options}, check)
        finally:
            gc.enable()

    @contextmanager
    def spoilt(self, server: OddServer, place: int, body: bytes | tuple[int, bytes]) -> Iterator[None]:
        server.spoilt(place, lambda _answer: body)
        yield
        server.spoilt()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    directory = tmp_path_factory.mktemp("zone")
    with module_zone(directory) as zone:
        for module, options in MAKERS:
            zone.changed(module, **options)
        vm = zone.run("one_service_info", name="thing")["services"][0]["roles"]["superlink"]["vms"][0]
        with (
            running(OddServer(zone.options["api_url"].removesuffix("/RPC2"))) as api,
            running(OddServer(zone.options["oneflow_url"])) as flow,
            running(OddServer(zone.zone.onegate_url)) as gate,
        ):
            yield Odd(zone, api, flow, gate, inside(directory, gate.url, vm, zone.zone.core.vm_token(vm)))


def inside(directory: Path, endpoint: str, vm: int, token: str) -> dict:
    (directory / "token.txt").write_text(token)
    return {"endpoint": endpoint, "vm_id": vm, "token_file": str(directory / "token.txt")}


def ids(value: object) -> str | None:
    return value if isinstance(value, str) else None


def check_sentence(result: dict, what: str) -> None:
    assert result.get("failed"), (what, result)
    assert result["error"]["kind"], (what, result)
    assert not result.get("changed"), (what, result)
    message = result["msg"]
    assert message.isprintable() and message.endswith(".") and "Traceback" not in message, (what, message)
    assert len(message) < 2500 and "exception" not in result, (what, message)


@pytest.mark.parametrize(("module", "options"), [*MAKERS, *READERS, *WRITERS], ids=ids)
def test_what_no_server_of_opennebula_answers_is_one_sentence(odd, module, options):
    chance = random.Random(module)
    for server in odd.servers(module):
        server.spoilt()
    odd.run(module, options)
    asked = {server: list(server.answers) for server in odd.servers(module)}
    assert any(asked.values())
    for server, answers in asked.items():
        for place, answer in enumerate(answers):
            ways = list((odd_calls if answer.is_call else odd_documents)(answer))
            for what, body in ways if place == 0 else chance.sample(ways, LATER):
                if is_right(answer, body):
                    continue
                with odd.spoilt(server, place, body):
                    check_sentence(odd.run(module, options), f"{answer.asked} ({place}) answers {what}")


def is_right(answer, body) -> bool:
    """Tell whether this is how OneGate and OneFlow answer, who say nothing about writes."""
    return body == answer.body


@pytest.mark.parametrize(("module", "options"), [*MAKERS, *READERS], ids=ids)
def test_a_document_with_one_thing_in_it_broken_never_ends_in_a_traceback(odd, module, options):
    chance = random.Random(module)
    for server in odd.servers(module):
        server.spoilt()
    odd.run(module, options, check=True)
    for server in odd.servers(module):
        for place, answer in enumerate(list(server.answers)):
            for what, body in broken(answer, chance, BROKEN):
                with odd.spoilt(server, place, body):
                    result = odd.run(module, options, check=True)
                if result.get("failed"):
                    check_sentence(result, f"{answer.asked} ({place}): {what}")
