# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Clusters and datastores: what belongs to what, and what the modules change and leave alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import ModuleZone, module_zone

DATASTORE = {"ds_mad": "dummy", "tm_mad": "dummy"}


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.call("one.vn.allocate", 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="10.9.0.10",SIZE="9"]', -1)
        for name in ("node1", "node2"):
            zone.call("one.host.allocate", name, "dummy", "dummy", 0)
        yield zone


@pytest.fixture
def cluster(zone: ModuleZone) -> Iterator[str]:
    """The name of a cluster that is gone after the test, whatever became of it."""
    yield "rack1"
    zone.run("one_cluster", name="rack1", hosts=[], datastores=[], networks=[], update="replace")
    assert not zone.run("one_cluster", name="rack1", state="absent").get("failed")


@pytest.fixture
def datastore(zone: ModuleZone) -> Iterator[str]:
    """The name of a datastore that is gone after the test, whatever became of it."""
    yield "images"
    assert not zone.run("one_datastore", name="images", state="absent").get("failed")


# ---- Clusters --------------------------------------------------------------------------------------


def test_a_cluster_is_made_changed_and_removed_exactly_once(zone):
    wanted = {
        "name": "rack1", "hosts": ["node1"], "datastores": ["default", 0], "networks": ["private"],
        "template": {"RESERVED_MEM": 1024},
    }
    zone.calls.clear()
    predicted = zone.changed("one_cluster", check=True, **wanted)
    assert zone.writes == []
    made = zone.changed("one_cluster", **wanted)
    assert predicted["diff"] == made["diff"]
    members = {"host_ids": [1], "datastore_ids": [0, 1], "network_ids": [0]}
    assert made["cluster"] == {"id": 100, "name": "rack1", "template": {"RESERVED_MEM": "1024"}, **members}
    assert predicted["cluster"] == {name: value for name, value in made["cluster"].items() if name != "id"}
    zone.unchanged("one_cluster", **wanted)
    assert len(zone.calls) <= 4, zone.calls

    change = {**wanted, "hosts": ["node2"], "networks": [], "update": "replace", "template": {"ROW": 7}}
    zone.calls.clear()
    predicted = zone.changed("one_cluster", check=True, **change)
    assert zone.writes == []
    done = zone.changed("one_cluster", **change)
    assert predicted["diff"] == done["diff"] == {
        "before": {"hosts": ["node1 (id 1)"], "networks": ["private (id 0)"], "template": {"RESERVED_MEM": "1024"}},
        "after": {"hosts": ["node2 (id 2)"], "networks": [], "template": {"ROW": "7"}},
    }
    assert (done["cluster"]["host_ids"], done["cluster"]["network_ids"]) == ([2], [])
    zone.unchanged("one_cluster", **change)

    result = zone.fails("one_cluster", name="rack1", state="absent")
    assert "Cluster 100 is not empty, it contains 1 hosts" in result["msg"]
    zone.changed("one_cluster", name="rack1", hosts=[], datastores=[], update="replace")
    zone.calls.clear()
    zone.changed("one_cluster", check=True, name="rack1", state="absent")
    assert zone.writes == []
    zone.changed("one_cluster", name="rack1", state="absent")
    zone.unchanged("one_cluster", name="rack1", state="absent")


def test_members_that_a_task_does_not_name_stay(zone, cluster):
    zone.changed("one_cluster", name=cluster, hosts=["node1"], datastores=["default"])
    zone.unchanged("one_cluster", name=cluster)
    zone.unchanged("one_cluster", name=cluster, update="replace")
    assert zone.changed("one_cluster", name=cluster, hosts=["node2"])["cluster"]["host_ids"] == [1, 2]
    zone.unchanged("one_cluster", name=cluster, hosts=["node1"])


def test_a_host_cannot_leave_the_default_cluster_for_nowhere(zone):
    zone.calls.clear()
    result = zone.fails("one_cluster", name=0, hosts=["node1", "node2"], update="replace")
    assert result["msg"].startswith("Host modules-host01 (id 0) cannot be taken out of the default cluster 'default'")
    assert zone.writes == []


@pytest.mark.parametrize(
    ("option", "label"), [("hosts", "host"), ("datastores", "datastore"), ("networks", "virtual network")]
)
def test_a_member_there_is_not_is_an_error_except_before_it_is_made(zone, option, label):
    zone.calls.clear()
    result = zone.fails("one_cluster", name="rack1", **{option: ["nowhere"]})
    assert (result["error"]["kind"], zone.writes) == ("missing", [])
    assert f"There is no {label} with the name 'nowhere'" in result["msg"]
    assert zone.changed("one_cluster", check=True, name="rack1", **{option: ["nowhere"]})["diff"]["after"][option] == ["nowhere"]


def test_the_scheduler_s_settings_are_compared_as_the_server_writes_them(zone, cluster):
    wanted = {"name": cluster, "template": {"ONE_DRS": {"POLICY": "Balance", "AUTOMATION": "PARTIAL"}}}
    zone.changed("one_cluster", **wanted)
    zone.unchanged("one_cluster", **wanted)
    refused = zone.fails("one_cluster", name=cluster, template={"ONE_DRS": {"POLICY": "spread", "AUTOMATION": "full"}})
    assert "contains invalid POLICY" in refused["msg"]


# ---- Datastores ------------------------------------------------------------------------------------


def test_a_datastore_is_made_changed_and_removed_exactly_once(zone, cluster):
    zone.changed("one_cluster", name=cluster)
    wanted = {"name": "images", **DATASTORE, "clusters": [cluster, "default"], "template": {"LIMIT_MB": 100}}
    zone.calls.clear()
    predicted = zone.changed("one_datastore", check=True, **wanted)
    assert zone.writes == []
    made = zone.changed("one_datastore", **wanted)
    assert predicted["diff"] == made["diff"]
    assert (made["datastore"]["type"], made["datastore"]["template"]["LIMIT_MB"]) == ("image", "100")
    assert len(made["datastore"]["cluster_ids"]) == 2
    zone.unchanged("one_datastore", **wanted)
    assert len(zone.calls) <= 4, zone.calls

    change = {**wanted, "tm_mad": "shared", "clusters": [cluster], "update": "replace", "template": {"NOTE": "x"}}
    zone.calls.clear()
    predicted = zone.changed("one_datastore", check=True, **change)
    assert zone.writes == []
    done = zone.changed("one_datastore", **change)
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["before"].keys() == {"tm_mad", "clusters", "template"}
    assert (done["diff"]["before"]["template"], done["diff"]["after"]["template"]) == ({"LIMIT_MB": "100"}, {"NOTE": "x"})
    assert (done["datastore"]["tm_mad"], done["datastore"]["template"]["ALLOW_ORPHANS"]) == ("shared", "FORMAT")
    zone.unchanged("one_datastore", **change)

    zone.changed("one_datastore", name="images", state="absent")
    zone.unchanged("one_datastore", name="images", state="absent")


def test_a_new_datastore_goes_only_where_it_is_wanted(zone, cluster, datastore):
    number = zone.changed("one_cluster", name=cluster)["cluster"]["id"]
    made = zone.changed("one_datastore", name=datastore, clusters=[cluster], **DATASTORE)
    assert made["datastore"]["cluster_ids"] == [number]
    zone.unchanged("one_datastore", name=datastore)
    zone.changed("one_datastore", name=datastore, clusters=[], update="replace")
    zone.changed("one_datastore", name=datastore, state="absent")
    made = zone.changed("one_datastore", name=datastore, clusters=[], **DATASTORE)
    assert made["datastore"]["cluster_ids"] == []


def test_what_the_server_sets_by_itself_makes_no_difference(zone, datastore):
    made = zone.changed("one_datastore", name=datastore, **DATASTORE)["datastore"]
    zone.unchanged("one_datastore", name=datastore, template=made["template"], update="replace")
    zone.unchanged("one_datastore", name=datastore, template={"clone_target": "SELF", "SHARED": True})


def test_secrets_are_compared_and_never_shown(zone, datastore):
    wanted = {"name": datastore, "type": "backup", "ds_mad": "restic", "template": {"restic_password": "s3cret-1"}}
    assert "s3cret" not in str(zone.changed("one_datastore", **wanted))
    assert "s3cret" not in str(zone.unchanged("one_datastore", **wanted))
    assert "s3cret" not in str(zone.changed("one_datastore", **{**wanted, "template": {"RESTIC_PASSWORD": "s3cret-2"}}))
    assert "s3cret-2" in zone.call("one.datastore.info", int(zone.run("one_datastore", name=datastore)["datastore"]["id"]), True)


def test_a_system_datastore_is_disabled_and_enabled(zone):
    done = zone.changed("one_datastore", name=0, status="disabled")
    assert done["diff"] == {"before": {"status": "enabled"}, "after": {"status": "disabled"}}
    zone.unchanged("one_datastore", name="system", status="disabled")
    zone.changed("one_datastore", name="system", status="enabled")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tm_mad": "dummy"}, "Datastore 'images' of type image needs ds_mad."),
        ({"ds_mad": "dummy"}, "Datastore 'images' of type image needs tm_mad."),
        ({**DATASTORE, "status": "disabled"}, "Datastore 'images' of type image cannot be disabled."),
        ({**DATASTORE, "template": {"Type": "FILE_DS"}}, "The template has Type; use the option type for it."),
        ({**DATASTORE, "clusters": ["nowhere"]}, "There is no cluster with the name 'nowhere'"),
    ],
)
def test_a_datastore_that_cannot_be_is_refused_before_anything_is_made(zone, wrong, sentence):
    zone.calls.clear()
    assert sentence in zone.fails("one_datastore", name="images", **wrong)["msg"]
    assert zone.writes == []


def test_a_datastore_with_images_is_not_removed_and_the_server_says_why(zone):
    zone.changed("one_image", name="disk", path="/images/disk", size=10, datastore="default")
    assert "Datastore 1 is not empty" in zone.fails("one_datastore", name="default", state="absent")["msg"]
    zone.changed("one_image", name="disk", state="absent")


def test_a_backup_datastore_has_no_transfer_driver(zone, datastore):
    wanted = {"name": datastore, "type": "backup", "ds_mad": "restic", "template": {"RESTIC_PASSWORD": "of-the-backups"}}
    made = zone.changed("one_datastore", **wanted)["datastore"]
    assert (made["type"], made["tm_mad"]) == ("backup", "")
    zone.unchanged("one_datastore", **wanted)
