# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenNebula's own Python client works against the zone."""

from __future__ import annotations

PYONE = """
import pyone, sys
one = pyone.OneServer(sys.argv[1], session=sys.argv[2])
template = one.template.allocate('NAME="of-pyone"\\nCPU="0.1"\\nMEMORY="64"')
vm = one.template.instantiate(template, "first", True, {"A": "1"}, False)
info = one.vm.info(vm)
assert (info.NAME, info.STATE, info.USER_TEMPLATE["A"]) == ("first", 2, "1")
one.vm.update(vm, {"B": "2"}, 1)
assert [each.ID for each in one.vmpool.info(-2, -1, -1, -1).VM] == [vm]
for name in ("host", "image", "vn", "datastore", "cluster", "user", "group", "secgroup", "template", "zone", "vdc", "market"):
    pool = getattr(one, name + "pool").info(*([-2, -1, -1] if name in ("image", "vn", "secgroup", "template") else []))
    assert pool is not None
try:
    one.template.info(99)
except pyone.OneNoExistsException as error:
    assert "Error getting virtual machine template [99]." in str(error)
else:
    raise AssertionError("a template that is not there was shown")
one.vm.action("terminate", vm)
one.template.delete(template, False)
print("done")
"""


def test_pyone(foreign) -> None:
    assert foreign.python(PYONE) == "done\n"
