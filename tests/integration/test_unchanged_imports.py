# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Which files of module_utils a run loads that changes nothing: Ansible compiles them on every run, see CONTRIBUTING.md."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import MODULES, ModuleZone, module_zone

UTILS = "ansible_collections.opennebula.flower.plugins.module_utils."
RUN = f"""
import atexit, importlib, json, sys
from ansible.module_utils.testing import patch_module_args

@atexit.register
def tell():
    files = [name for name, module in sys.modules.items() if name.startswith({UTILS!r}) and getattr(module, "__file__", None)]
    print(json.dumps(files), file=sys.stderr)

module, options = json.load(sys.stdin)
with patch_module_args(options):
    importlib.import_module(f"{MODULES}.{{module}}").main()
"""
#: the files that every module loads
EVERY = frozenset({
    "module", "outcome", "redaction", "one.core.compare", "one.core.lookup", "one.transport.answers", "one.transport.client",
    "one.transport.errors", "one.transport.http", "one.transport.values", "one.transport.xml",
})
#: by module: options, and the files that it loads beside those that every module does
UNCHANGED = {
    "one_cluster": ({"name": "thing"}, "one.core.reconcile one.core.states one.host.facts"),
    "one_host": ({"name": "thing", "im_mad": "dummy", "vm_mad": "dummy", "cluster": "thing"}, "one.core.reconcile one.core.states one.host.facts"),
    "one_datastore": (
        {"name": "thing", "ds_mad": "fs", "tm_mad": "shared", "clusters": ["thing"]},
        "one.core.membership one.core.ownership one.core.reconcile one.core.states",
    ),
    "one_virtual_network": (
        {"name": "thing", "template": {"VN_MAD": "bridge", "BRIDGE": "br0"}},
        "one.core.ownership one.core.reconcile one.core.states one.network.facts scalars",
    ),
    "one_security_group": (
        {"name": "thing", "rules": [{"RULE_TYPE": "inbound", "PROTOCOL": "tcp", "RANGE": 22}]},
        "addresses one.core.ownership one.core.reconcile one.security.rules scalars",
    ),
    "one_image": (
        {"name": "thing", "path": "/images/thing", "size": 10, "datastore": "default"},
        "one.core.ownership one.core.reconcile one.core.states one.image.states",
    ),
    "one_marketplace_app": (
        {"name": "thing", "marketplace": "market", "image": "thing"},
        "one.core.ownership one.core.reconcile one.core.states one.market.apps one.transport.template one.transport.template_parser",
    ),
    "one_template": ({"name": "thing", "template": {"CPU": 0.01, "MEMORY": 1}}, "one.core.ownership one.core.reconcile"),
    "one_service_template": (
        {"name": "thing", "template": {"roles": [{"name": "a", "vm_template": "thing", "cardinality": 1}]}},
        "one.core.ownership one.core.reconcile one.service.dialect one.service.documents one.service.templates",
    ),
    "one_service": (
        {"name": "thing", "service_template": "thing"},
        "one.core.ownership one.core.states one.service.desired one.service.documents one.service.facts one.service.settings",
    ),
    "one_group": ({"name": "thing"}, "one.core.names one.core.reconcile"),
    "one_user": ({"name": "thing", "password": "secret", "group": "thing"}, "one.core.names one.core.reconcile"),
    "one_quota": ({"user": "thing", "vm": {"VMS": 5}}, "one.core.names"),
    "one_acl": ({"rules": [{"group": "thing", "resources": ["VM"], "rights": ["CREATE"]}]}, "one.core.names one.security.acl"),
    "one_vdc": ({"name": "thing", "groups": ["thing"]}, "one.core.names one.core.reconcile"),
    "one_vm": ({"name": "thing", "vm_template": "thing"}, "one.core.ownership one.core.states one.vm.desired one.vm.diff one.vm.facts one.vm.selection"),
}


def test_every_state_module_is_here():
    sources = Path(__file__).parents[2].glob("plugins/modules/one_*.py")
    assert {path.stem for path in sources if "module.reconcile(" in path.read_text()} == set(UNCHANGED)


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleZone]:
    """A zone in which every module has made its thing."""
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.call("one.market.allocate", 'NAME="market"\nMARKET_MAD="http"\nBASE_URL="http://market"\nPUBLIC_DIR="/srv"')
        for module, (options, _files) in UNCHANGED.items():
            zone.changed(module, **options)
        yield zone


@pytest.mark.parametrize("module", UNCHANGED)
def test_a_run_without_change_loads_these_files_alone(zone, module):
    options, files = UNCHANGED[module]
    run = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps([module, {**zone.options, **options}]),
        capture_output=True, text=True, check=False, timeout=900,
    )
    result = json.loads(run.stdout)
    assert (result.get("msg", ""), result["changed"]) == ("", False)
    loaded = {name.removeprefix(UTILS) for name in json.loads(run.stderr.splitlines()[-1])}
    assert loaded == EVERY | set(files.split())
