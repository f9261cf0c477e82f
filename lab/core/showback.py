# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What VMs cost: by month, for the time they had hosts and the prices in their templates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from lab.core.call import Call
from lab.core.errors import AUTHORIZATION, OneError
from lab.core.markup import element
from lab.core.method import Method
from lab.core.pools import head, visible

if TYPE_CHECKING:
    from lab.core.api import Core

_HOUR = 3600
_ANY = -1


def _months(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Return begin and end of each month from a moment to another, the last one's end being that moment."""
    moment = datetime.fromtimestamp(begin, UTC).replace(day=1, hour=0, minute=0, second=0)
    starts = []
    while moment.timestamp() < end:
        starts.append(int(moment.timestamp()))
        moment = moment.replace(year=moment.year + moment.month // 12, month=moment.month % 12 + 1)
    return pairwise([*starts, end])


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value:.2f}"


def _price(machine: dict, name: str) -> float:
    return float(machine.get(name, 0) or 0)


def _records(core: Core, vm: dict, months: list[tuple[int, int]]) -> Iterator[dict]:
    machine = vm["template"]
    for begin, end in months:
        hours = running = 0.0
        for record in vm["history"]:
            hours += _overlap(record["STIME"], record["ETIME"], begin, end) / _HOUR
            running += _overlap(record["RSTIME"], record["ETIME"], begin, end) / _HOUR
        if not hours:
            continue
        costs = {
            "CPU_COST": _price(machine, "CPU_COST") * float(machine["CPU"]) * hours,
            "MEMORY_COST": _price(machine, "MEMORY_COST") * int(machine["MEMORY"]) * hours,
            "DISK_COST": _price(machine, "DISK_COST") * sum(int(disk.get("SIZE", 0)) for disk in machine["DISK"]) * hours,
        }
        owner, month = head(core, vm), datetime.fromtimestamp(begin, UTC)
        yield {
            "vm": vm["id"], "year": month.year, "month": month.month,
            "body": {
                "VMID": vm["id"], "VMNAME": vm["name"], **{name: owner[name] for name in ("UID", "GID", "UNAME", "GNAME")},
                "YEAR": month.year, "MONTH": month.month,
                **{name: _number(cost) for name, cost in costs.items()}, "TOTAL_COST": _number(sum(costs.values())),
                "HOURS": _number(hours), "RHOURS": _number(running),
            },
        }


def _overlap(began: int, ended: int, begin: int, end: int) -> int:
    """Return the seconds that a time has in common with a month; one that has not ended goes on, 0 has not begun."""
    return max(0, min(ended or end, end) - max(began, begin)) if began else 0


def _calculate(call: Call, from_month: int, from_year: int, to_month: int, to_year: int) -> str:
    """Work out the costs of a span of months, -1 for any, and keep them in place of those kept before."""
    core = call.core
    if call.user["gid"] != 0:
        raise OneError(AUTHORIZATION, f"User [{call.user['id']}] : Action reserved for group 0 only.")
    now = core.now()
    first = min((record["STIME"] for vm in core.store.all("vm") for record in vm["history"]), default=now)
    begin = first if _ANY in (from_month, from_year) else int(datetime(from_year, from_month, 1, tzinfo=UTC).timestamp())
    end = now
    if _ANY not in (to_month, to_year):
        after = datetime(to_year + to_month // 12, to_month % 12 + 1, 1, tzinfo=UTC)
        end = min(now, int(after.timestamp()))
    months = list(_months(begin, end))
    kept = {(record["vm"], record["year"], record["month"]): record["id"] for record in core.store.all("showback")}
    for vm in core.store.all("vm"):
        for record in _records(core, vm, months):
            number = kept.get((record["vm"], record["year"], record["month"]))
            core.store.save("showback", {"id": core.store.new_id("showback") if number is None else number} | record)
    return " "


def _list(call: Call, which: int, from_month: int, from_year: int, to_month: int, to_year: int) -> str:
    seen = {vm["id"] for vm in visible(call, "vm", which)}
    begin = (-1, -1) if _ANY in (from_month, from_year) else (from_year, from_month)
    end = (9999, 12) if _ANY in (to_month, to_year) else (to_year, to_month)
    found = [
        record for record in call.core.store.all("showback")
        if record["vm"] in seen and begin <= (record["year"], record["month"]) <= end
    ]
    found.sort(key=lambda record: (record["year"], record["month"], record["vm"]))
    return element("SHOWBACK_RECORDS", {"SHOWBACK": [record["body"] for record in found]})


METHODS = {
    "one.vmpool.calculateshowback": Method(_calculate, "i i i i"),
    "one.vmpool.showback": Method(_list, "i i i i i"),
}
