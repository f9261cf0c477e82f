# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Zones, and the server that answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_servers import scripted, success
from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone, run_module

FEDERATION = """<ZONE_POOL><ZONE><ID>100</ID><NAME>Second</NAME><STATE>1</STATE>
<TEMPLATE><ENDPOINT>http://second:2633/RPC2</ENDPOINT></TEMPLATE><SERVER_POOL/></ZONE>
<ZONE><ID>0</ID><NAME>OpenNebula</NAME><STATE>0</STATE><TEMPLATE><ENDPOINT>http://one:2633/RPC2</ENDPOINT></TEMPLATE>
<SERVER_POOL><SERVER><ENDPOINT>http://one1:2633/RPC2</ENDPOINT><ID>0</ID><NAME>one1</NAME></SERVER>
<SERVER><ENDPOINT>http://one2:2633/RPC2</ENDPOINT><ID>1</ID><NAME>one2</NAME></SERVER></SERVER_POOL></ZONE></ZONE_POOL>"""
RAFT = """<RAFT><SERVER_ID>1</SERVER_ID><STATE>3</STATE><TERM>4</TERM><VOTEDFOR>1</VOTEDFOR><COMMIT>20</COMMIT>
<LOG_INDEX>21</LOG_INDEX><LOG_TERM>4</LOG_TERM><FEDLOG_INDEX>-1</FEDLOG_INDEX></RAFT>"""


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        yield zone


def test_a_single_zone_tells_of_itself(zone):
    result = zone.unchanged("one_zone_info")
    assert sorted(zone.calls) == ["one.system.version", "one.zone.raftstatus", "one.zonepool.info"]
    (only,) = result["zones"]
    assert (only["id"], only["name"], only["state"], only["servers"]) == (0, "OpenNebula", "ENABLED", [])
    assert only["endpoint"] == only["template"]["ENDPOINT"] == zone.zone.core.config.xmlrpc_endpoint
    assert result["server"] == {"version": "7.4.0", "id": None, "state": "SOLO", "term": 0, "log_index": None}


@pytest.mark.parametrize(("name", "found"), [("OpenNebula", 1), (0, 1), ("Mars", 0), ("7", 0)])
def test_one_zone_is_found_by_name_or_id(zone, name, found):
    assert len(zone.unchanged("one_zone_info", name=name)["zones"]) == found


def test_who_may_not_know_about_the_servers_gets_the_rest(zone):
    zone.call("one.user.allocate", "alice", "alicepw", "", [])
    result = zone.unchanged("one_zone_info", api_username="alice", api_password="alicepw")
    assert len(result["zones"]) == 1
    assert result["server"] == {"version": "7.4.0", "id": None, "state": "", "term": None, "log_index": None}


def test_a_federation_of_several_servers_is_told_as_it_is(zone):
    with scripted(success(FEDERATION), success(RAFT), success("7.0.1")) as server:
        result = run_module("one_zone_info", {**zone.options, "api_url": f"{server.url}/RPC2"})
    assert [(item["id"], item["name"], item["state"]) for item in result["zones"]] == [
        (0, "OpenNebula", "ENABLED"), (100, "Second", "DISABLED"),
    ]
    assert result["zones"][0]["servers"][1] == {"id": 1, "name": "one2", "endpoint": "http://one2:2633/RPC2"}
    assert result["server"] == {"version": "7.0.1", "id": 1, "state": "LEADER", "term": 4, "log_index": 21}
