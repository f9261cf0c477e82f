# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OneFlow's policies for the SuperNodes of a federation, from settings, with what keeps them from stopping a training.

OneFlow compares means over the role's running VMs, takes text for 0, and counts CPU in percent of one core.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

_NUMBER = r"-?\d+(?:\.\d+)?"
_COMPARISON = rf"\s*\(*\s*[A-Za-z_]\w*\s*(?:==|=|!=|<>|>=|<=|>|<)\s*{_NUMBER}\s*\)*\s*"
_EXPRESSION = re.compile(rf"{_COMPARISON}(?:(?:&&|\|\|){_COMPARISON})*")
_CRON = re.compile(r"\S+( \S+){4}")
_START = re.compile(r"\d+|\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")
# What a policy does: setting -> OneFlow's type of it.
_ACTIONS = {"change": "CHANGE", "cardinality": "CARDINALITY", "percentage": "PERCENTAGE_CHANGE"}
_METRIC_KEYS = {"cpu_above", "cpu_below", "expression", "period", "times", "cooldown", "idle", *_ACTIONS}
_SCHEDULE_KEYS = {"recurrence", "start_time", *_ACTIONS}
_SETTINGS = {"round_seconds", "cooldown", "policies", "schedule"}
_PERIOD, _TIMES = 60, 3
# A training is on its way on none of the nodes; they publish it.
_IDLE = "FL_TRAINING_ACTIVE < 0.01"


def elasticity(settings: Mapping[str, Any], *, nodes: tuple[int, int], cpu: Any, available: int, round_timeout: int) -> dict[str, Any]:
    """Return ``cooldown``, ``elasticity_policies`` and ``scheduled_policies`` of the role supernode in OneFlow's terms.

    settings: docs/edge.md lists them. nodes: the fewest and most VMs of the role. cpu: CPUs of each. available: how many nodes a round needs.
    round_timeout: seconds that a round may wait for replies.
    :raises ValueError: with every problem found, each naming setting and value.
    """
    problems: list[str] = []
    if not isinstance(settings, Mapping):
        raise ValueError(f"flower_elasticity: {settings!r} is not valid, expected a dictionary")
    _keys(settings, _SETTINGS, "flower_elasticity", problems)
    # Of values within variables, older releases of Ansible make texts.
    available, round_timeout = int(available), int(round_timeout)
    least, most = nodes
    if least < available:
        expected = f"at least flower_min_available_clients, which is {available}, with flower_elasticity"
        problems.append(f"flower_supernodes_min: {least} is not valid, expected {expected}")
    seconds = _whole(settings, "round_seconds", round_timeout, "flower_elasticity", problems)
    cooldown = _whole(settings, "cooldown", 2 * seconds, "flower_elasticity", problems)
    _check_cooldown(cooldown, seconds, "flower_elasticity.cooldown", problems)
    cores = max(math.ceil(float(cpu)), 1)
    metric = [
        _metric(policy, f"flower_elasticity.policies[{place}]", cores, seconds, nodes, problems)
        for place, policy in enumerate(_list(settings, "policies", problems))
    ]
    scheduled = [
        _scheduled(policy, f"flower_elasticity.schedule[{place}]", nodes, problems) for place, policy in enumerate(_list(settings, "schedule", problems))
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return {"cooldown": cooldown, "elasticity_policies": metric, "scheduled_policies": scheduled}


def _metric(policy: Any, where: str, cores: int, seconds: int, nodes: tuple[int, int], problems: list[str]) -> dict[str, Any]:
    if not _is_dictionary(policy, where, problems):
        return {}
    _keys(policy, _METRIC_KEYS, where, problems)
    given = [key for key in ("cpu_above", "cpu_below", "expression") if policy.get(key) is not None]
    expression = ""
    if len(given) != 1:
        problems.append(f"{where} has {' and '.join(given) or 'no condition'}, expected one of cpu_above, cpu_below and expression")
    elif given == ["expression"]:
        expression = str(policy["expression"]).strip()
        if not _EXPRESSION.fullmatch(expression) or expression.count("(") != expression.count(")"):
            problems.append(f"{where}.expression: {expression!r} is not valid, expected comparisons of an attribute with a number, with && or || between")
    else:
        share = policy[given[0]]
        if not _is_number(share) or not 0 < share < 100:
            problems.append(f"{where}.{given[0]}: {share!r} is not valid, expected percent of all CPUs of a VM, above 0 and below 100")
        else:
            expression = f"CPU {'>' if given == ['cpu_above'] else '<'} {share * cores:g}"
    action = _action(policy, where, nodes, problems)
    idle = policy.get("idle", False)
    if not isinstance(idle, bool):
        problems.append(f"{where}.idle: {idle!r} is not valid, expected true or false")
    result = {
        **action,
        "expression": f"({expression}) && {_IDLE}" if idle else expression,
        "period": _whole(policy, "period", _PERIOD, where, problems),
        "period_number": _whole(policy, "times", _TIMES, where, problems),
    }
    if policy.get("cooldown") is not None:
        result["cooldown"] = _whole(policy, "cooldown", 0, where, problems)
        _check_cooldown(result["cooldown"], seconds, f"{where}.cooldown", problems)
    return result


def _scheduled(policy: Any, where: str, nodes: tuple[int, int], problems: list[str]) -> dict[str, Any]:
    if not _is_dictionary(policy, where, problems):
        return {}
    _keys(policy, _SCHEDULE_KEYS, where, problems)
    times = {key: str(policy[key]).strip() for key in ("recurrence", "start_time") if policy.get(key) is not None}
    if len(times) != 1:
        problems.append(f"{where} has {' and '.join(times) or 'no time'}, expected one of recurrence and start_time")
    if "recurrence" in times and not _CRON.fullmatch(times["recurrence"]):
        problems.append(f"{where}.recurrence: {times['recurrence']!r} is not valid, expected the five fields of cron, such as 0 9 * * mon")
    if "start_time" in times and not _START.fullmatch(times["start_time"]):
        problems.append(f"{where}.start_time: {times['start_time']!r} is not valid, expected YYYY-MM-DD hh:mm:ss, or seconds since 1970")
    return {**_action(policy, where, nodes, problems), **times}


def _action(policy: Mapping[str, Any], where: str, nodes: tuple[int, int], problems: list[str]) -> dict[str, Any]:
    given = [key for key in _ACTIONS if policy.get(key) is not None]
    if len(given) != 1:
        problems.append(f"{where} has {' and '.join(given) or 'nothing to do'}, expected one of {', '.join(_ACTIONS)}")
        return {}
    value = policy[given[0]]
    if isinstance(value, bool) or not isinstance(value, int) or value == 0:
        problems.append(f"{where}.{given[0]}: {value!r} is not valid, expected a whole number other than 0")
        return {}
    least, most = nodes
    if given == ["cardinality"] and not least <= value <= most:
        problems.append(f"{where}.cardinality: {value} is not valid, expected flower_supernodes_min to flower_supernodes_max, {least} to {most}")
    return {"type": _ACTIONS[given[0]], "adjust": value, **({"min_adjust_step": 1} if given == ["percentage"] else {})}


def _check_cooldown(cooldown: int, seconds: int, where: str, problems: list[str]) -> None:
    if cooldown < 2 * seconds:
        problems.append(
            f"{where}: {cooldown} is not valid, expected at least two rounds, {2 * seconds} s (flower_elasticity.round_seconds says how long one takes)"
        )


def _list(settings: Mapping[str, Any], key: str, problems: list[str]) -> Iterable[Any]:
    value = settings.get(key) or []
    if isinstance(value, (list, tuple)):
        return value
    problems.append(f"flower_elasticity.{key}: {value!r} is not valid, expected a list")
    return []


def _is_dictionary(policy: Any, where: str, problems: list[str]) -> bool:
    if isinstance(policy, Mapping):
        return True
    problems.append(f"{where}: {policy!r} is not valid, expected a dictionary")
    return False


def _keys(given: Mapping[str, Any], known: set[str], where: str, problems: list[str]) -> None:
    unknown = sorted(str(key) for key in given if key not in known)
    if unknown:
        problems.append(f"{where} has {', '.join(unknown)}, expected some of {', '.join(sorted(known))}")


def _whole(given: Mapping[str, Any], key: str, default: int, where: str, problems: list[str]) -> int:
    value = given.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        problems.append(f"{where}.{key}: {value!r} is not valid, expected a whole number of at least 1")
        return default
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
