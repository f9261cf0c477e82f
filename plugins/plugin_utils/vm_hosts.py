# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a VM's facts to a host: which VMs, under which names and addresses, in which groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from ansible_collections.opennebula.flower.plugins.module_utils.one.core import states
from ansible_collections.opennebula.flower.plugins.module_utils.one.core.patterns import matcher
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import INVALID, OneException
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.values import scalar
from ansible_collections.opennebula.flower.plugins.module_utils.redaction import is_secret

_STATES = frozenset({*states.VM, *states.LCM})
_SYNONYMS = {"POWERED_OFF": "POWEROFF", "POWER_OFF": "POWEROFF"}
# What plays and patterns mean something else by.
_RESERVED = frozenset({"all", "ungrouped", "localhost", "127.0.0.1", "::1"})


def any_pattern(texts: list[str]) -> Callable[[str], bool]:
    """Return a test for names that are meant by one of several patterns. Raises OneException."""
    tests = [matcher(text) for text in texts]
    return lambda name: any(test(name) for test in tests)


def state_names(wanted: list[str]) -> frozenset[str]:
    """Return states as facts name them, ACTIVE as all states of a VM that has a host.

    Raises OneException for names that no state has.
    """
    result: set[str] = set()
    for text in wanted:
        spelled = text.upper().replace("-", "_").replace(" ", "_")
        name = _SYNONYMS.get(spelled, spelled)
        if name not in _STATES:
            raise OneException(INVALID, f"{text!r} is not a state of a VM, such as running, poweroff or pending.")
        result |= set(states.LCM) if name == "ACTIVE" else {name}
    return frozenset(result)


def selector(
    states: list[str] | None = None,
    names: list[str] | None = None,
    labels: list[str] | None = None,
    attributes: dict[str, object] | None = None,
) -> Callable[[dict], bool]:
    """Return a test for facts: one of the states, one of the names' patterns, each of the others' patterns.

    attributes: patterns for the values of the user template's attributes, by name. Raises OneException.
    """
    tests: list[Callable[[dict], bool]] = []
    if states:
        wanted_states = state_names(states)
        tests.append(lambda vm: vm["state"] in wanted_states)
    if names:
        is_meant = any_pattern(names)
        tests.append(lambda vm: is_meant(vm["name"]))
    tests += [_label_test(matcher(text)) for text in labels or []]
    for name, text in (attributes or {}).items():
        if is_secret(name):
            raise OneException(INVALID, f"{name} cannot be a criterion: it is taken for a secret, which hosts do not have.")
        tests.append(_attribute_test(name.upper(), matcher(scalar(text))))
    return lambda vm: all(test(vm) for test in tests)


def _label_test(is_meant: Callable[[str], bool]) -> Callable[[dict], bool]:
    return lambda vm: any(map(is_meant, vm["labels"]))


def _attribute_test(name: str, is_meant: Callable[[str], bool]) -> Callable[[dict], bool]:
    def test(vm: dict) -> bool:
        value = vm["user_template"].get(name)
        return isinstance(value, str) and is_meant(value)

    return test


def address(nics: list[dict], rules: list[dict]) -> str | None:
    """Return the address that the first rule finds which finds one.

    A rule has network (pattern or None), nic (number in their order, name, or None), family (ipv4, ipv6, any)
    and aliases (whether they count). Without a wish for a family, IPv4 goes before IPv6 on the same NIC.
    """
    for rule in rules:
        is_meant = matcher(rule["network"] or "*")
        for nic in _candidates(nics, rule["nic"], rule["aliases"]):
            found = _of_family(nic, rule["family"])
            if found and is_meant(nic["network"] or ""):
                return found
    return None


def _candidates(nics: list[dict], wanted: str | None, aliases: bool) -> list[dict]:
    if wanted is None:
        return [nic for nic in nics if aliases or not nic["alias_of"]]
    if wanted.isdigit():
        return [nic for nic in nics if not nic["alias_of"]][int(wanted):int(wanted) + 1]
    return [nic for nic in nics if nic["name"] == wanted]


def _of_family(nic: dict, family: str) -> str | None:
    if family == "ipv4":
        return nic["ip"]
    if family == "ipv6":
        return nic["ip6"]
    return nic["ip"] or nic["ip6"]


def unique_names(vms: list[dict], wanted: list[str], taken: frozenset[str]) -> list[str]:
    """Return a host name for each VM: the wanted one where only this VM wants it.

    VMs that want the same name all become NAME_ID, and where that is not unique either NAME_ID_ZONE, so that no
    name depends on the order of VMs. Names that are taken or that Ansible means something else by count as wanted
    by somebody else. Raises OneException when nothing helps.
    """
    forms = (
        lambda number: wanted[number],
        lambda number: f"{wanted[number]}_{vms[number]['id']}",
        lambda number: f"{wanted[number]}_{vms[number]['id']}_{vms[number]['zone']}",
        # Owners choose names and labels, which become groups, and could take all the others.
        lambda number: f"vm_{vms[number]['id']}_{vms[number]['zone']}",
    )
    form = [0] * len(vms)
    names = list(wanted)
    while True:
        uses = Counter(names)
        unclear = [number for number, name in enumerate(names) if uses[name] > 1 or name in taken or name in _RESERVED]
        if not unclear:
            return names
        longer = [number for number in unclear if form[number] < len(forms) - 1]
        if not longer:
            raise OneException(INVALID, f"There is no unique host name for VM {names[unclear[0]]!r}: set hostname.")
        for number in longer:
            form[number] += 1
            names[number] = forms[form[number]](number)


def groups(vm: dict, kinds: list[str], per_zone: frozenset[str]) -> Iterator[str]:
    """Yield the names of the groups a VM belongs to, KIND_VALUE, as they are before Ansible makes them safe.

    per_zone: kinds whose values mean something within a zone only; their groups are KIND_ZONE_VALUE.
    """
    for kind in kinds:
        start = f"{kind}_{vm['zone']}" if kind in per_zone else kind
        if kind == "label":
            yield from (f"{start}_{label}" for label in vm["labels"])
        elif kind == "state":
            yield f"{start}_{vm['state'].lower()}"
        elif vm[kind]:
            yield f"{start}_{vm[kind]}"
