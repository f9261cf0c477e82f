# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Elasticity and scheduled policies: when the number of a role's VMs changes by itself."""

from __future__ import annotations

import datetime
import math
import operator
import re
from statistics import fmean

from croniter import croniter

_COMPARISONS = {
    "==": operator.eq, "=": operator.eq, "!=": operator.ne, "<>": operator.ne, ">=": operator.ge, "<=": operator.le,
    ">": operator.gt, "<": operator.lt,
}
_TOKEN = re.compile(r"\s*(&&|\|\||[()]|==|!=|<>|>=|<=|=|>|<|-?\d+(?:\.\d+)?|[A-Za-z_]\w*)")
#: where the value of an attribute is looked for in a VM's document, in this order
_SECTIONS = ("USER_TEMPLATE", "MONITORING", "TEMPLATE")


class BadExpression(Exception):
    """The expression of a policy cannot be read."""


def wanted_cardinality(role: dict, vms: list[dict], now: int) -> int:
    """Return how many VMs the role is to have, and keep in its policies when and how they were evaluated.

    vms: the documents of the role's running VMs. now: seconds since the epoch. A policy that fires leaves its
    cooldown to the role, for good.
    """
    for evaluate, policies in ((_scheduled, "scheduled_policies"), (_elastic, "elasticity_policies")):
        for policy in role.get(policies) or []:
            if evaluate(policy, vms, now):
                wanted = _adjusted(policy, role)
                if wanted != role["cardinality"]:
                    role["cooldown"] = policy.get("cooldown", role["cooldown"])
                    return wanted
    return max(role["cardinality"], role.get("min_vms") or 0)


def evaluated(expression: str, vms: list[dict]) -> tuple[bool, str]:
    """Return whether an expression over the means of the VMs' attributes holds, and the expression with these means.

    An attribute that no VM has makes its comparison false. Raises BadExpression.
    """
    tokens = _tokens(expression)
    truth, text = _either(tokens, vms)
    if tokens:
        raise BadExpression(f"{expression!r} goes on where it should end: {tokens[0]!r}")
    return truth, text


def _elastic(policy: dict, vms: list[dict], now: int) -> bool:
    if now < policy.get("last_eval", 0) + (policy.get("period") or 0):
        return False
    truth, text = evaluated(policy["expression"], vms)
    evaluations = policy.get("true_evals", 0) + 1 if truth else 0
    policy.update(last_eval=now, expression_evaluated=text, true_evals=evaluations)
    return truth and evaluations >= (policy.get("period_number") or 0)


def _scheduled(policy: dict, _vms: list[dict], now: int) -> bool:
    """Whether the policy's time came since it was evaluated last; its first evaluation only notes the time."""
    last = policy.get("last_eval")
    policy["last_eval"] = now
    if last is None:
        return False
    if policy.get("recurrence"):
        begin = datetime.datetime.fromtimestamp(last).astimezone()
        return croniter(policy["recurrence"], begin).get_next(float) <= now
    start = str(policy.get("start_time") or "")
    try:
        due = int(start) if start.isdigit() else datetime.datetime.fromisoformat(start).timestamp()
    except ValueError:
        return False
    return last < due <= now


def _adjusted(policy: dict, role: dict) -> int:
    """The number a policy asks for. Outside the role's bounds it only goes towards them."""
    cardinality, adjust = role["cardinality"], policy["adjust"]
    if policy["type"] == "CARDINALITY":
        step = adjust - cardinality
    elif policy["type"] == "PERCENTAGE_CHANGE":
        share = cardinality * adjust / 100
        step = math.ceil(share) if share > 0 else math.floor(share)
        least = policy.get("min_adjust_step") or 0
        step = max(step, least) if step > 0 else min(step, -least)
    else:
        step = adjust
    if step > 0:
        return max(cardinality, min(cardinality + step, role["max_vms"]))
    return min(cardinality, max(cardinality + step, role["min_vms"]))


def _tokens(expression: str) -> list[str]:
    tokens, position = [], 0
    while expression[position:].strip():
        found = _TOKEN.match(expression, position)
        if not found:
            raise BadExpression(f"{expression!r} cannot be read from {expression[position:]!r} on")
        tokens.append(found.group(1))
        position = found.end()
    return tokens


def _either(tokens: list[str], vms: list[dict]) -> tuple[bool, str]:
    truth, text = _both(tokens, vms)
    while tokens and tokens[0] == "||":
        other, other_text = _both(_rest(tokens), vms)
        truth, text = truth or other, f"{text} || {other_text}"
    return truth, text


def _both(tokens: list[str], vms: list[dict]) -> tuple[bool, str]:
    truth, text = _comparison(tokens, vms)
    while tokens and tokens[0] == "&&":
        other, other_text = _comparison(_rest(tokens), vms)
        truth, text = truth and other, f"{text} && {other_text}"
    return truth, text


def _comparison(tokens: list[str], vms: list[dict]) -> tuple[bool, str]:
    if _next(tokens) == "(":
        truth, text = _either(_rest(tokens), vms)
        if _next(tokens) != ")":
            raise BadExpression("a parenthesis is not closed")
        tokens.pop(0)
        return truth, f"({text})"
    name, sign, number = _next(tokens), _next(tokens, 1), _next(tokens, 2)
    if not re.match(r"[A-Za-z_]", name) or sign not in _COMPARISONS or not re.fullmatch(r"-?\d+(\.\d+)?", number):
        raise BadExpression(f"{' '.join((name, sign, number)).strip()!r} does not compare an attribute with a number")
    del tokens[:3]
    values = [value for value in (_value(vm, name) for vm in vms) if value is not None]
    if not values:
        return False, f"{name}[--] {sign} {number}"
    mean = round(fmean(values), 2)
    return _COMPARISONS[sign](mean, float(number)), f"{name}[{mean}] {sign} {number}"


def _next(tokens: list[str], position: int = 0) -> str:
    return tokens[position] if position < len(tokens) else ""


def _rest(tokens: list[str]) -> list[str]:
    tokens.pop(0)
    return tokens


def _value(vm: dict, name: str) -> float | None:
    """The value of an attribute in a VM's document; text that does not begin with a number is 0, as in Ruby."""
    for place in (*(vm.get(section) for section in _SECTIONS), vm):
        if isinstance(place, dict) and isinstance(place.get(name), str):
            number = re.match(r"\s*-?\d+(\.\d+)?", place[name])
            return float(number.group(0)) if number else 0.0
    return None
