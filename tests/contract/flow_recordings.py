# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Recorded HTTP exchanges of a real OneFlow and OneGate, and how an answer is compared with one."""

from __future__ import annotations

import json
import re
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.xml import to_dict

RECORDINGS = Path(__file__).parent / "recordings"

#: keys whose values belong to one run: ids, times, addresses, measurements, and names the lab's hosts do not share
VOLATILE = {
    "ID", "id", "deploy_id", "timestamp", "registration_time", "start_time", "SERVICE_ID", "VMID", "OID", "IP", "MAC",
    "UUID", "STIME", "ETIME", "LAST_POLL", "PSTIME", "PETIME", "RSTIME", "DEPLOY_ID", "MONITORING", "HOSTNAME", "HID",
    "ETH0_IP", "ETH0_MAC", "SUPERLINK", "TARGET", "last_eval", "DISK_SNAPSHOT_TOTAL_SIZE", "PREV_LCM_STATE", "PREV_STATE",
}


@dataclass(frozen=True)
class Recording:
    """One recorded request with its answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    content_type: str
    answer: str


@dataclass(frozen=True)
class Answer:
    """What the zone under test answered."""

    status: int
    content_type: str
    text: str


def names(release: str, server: str) -> list[str]:
    """The recordings of "oneflow" or "onegate"."""
    return sorted(path.stem for path in (RECORDINGS / release / server).glob("*.http"))


def load(release: str, server: str, name: str) -> Recording:
    """Read one recording."""
    request, answer = (RECORDINGS / release / server / f"{name}.http").read_text().split("\n<<< ", 1)
    head, _blank, body = request.partition("\n\n")
    method, path, _protocol = head.splitlines()[0].removeprefix(">>> ").split()
    answer_head, _blank, text = answer.partition("\n\n")
    answer_headers = _headers(answer_head)
    return Recording(
        method, path, _headers(head), body.strip("\n"),
        int(answer_head.split()[0]), answer_headers.get("content-type", ""), text.strip("\n"),
    )


def load_vm(release: str, name: str) -> dict:
    """The document of a VM from a recorded one.vm.info."""
    path = RECORDINGS / release / "xmlrpc" / f"{name}.resp.xml"
    (answer,), _method = xmlrpc.client.loads(path.read_bytes())
    return to_dict(answer[1])


def value_differences(expected: object, actual: object) -> list[str]:
    """What differs between two JSON values, as sentences."""
    return _compare("", expected, actual, VOLATILE)


def differences(recording: Recording, answer: Answer, ignored: tuple[str, ...] = ()) -> list[str]:
    """What the answer does differently, as sentences. `ignored` names further keys whose values do not count."""
    found = []
    if answer.status != recording.status:
        found.append(f"status {answer.status} instead of {recording.status}: {answer.text[:300]}")
    if answer.content_type != recording.content_type:
        found.append(f"content type {answer.content_type!r} instead of {recording.content_type!r}")
    if recording.answer.startswith("<!DOCTYPE html>"):
        if not answer.text.startswith("<!DOCTYPE html>"):
            found.append("no HTML page")
        return found
    found.extend(_compare("", _value(recording.answer), _value(answer.text), {*VOLATILE, *ignored}))
    return found


def _headers(head: str) -> dict[str, str]:
    pairs = (line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
    return {name.lower(): value for name, value in pairs}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _compare(where: str, expected: object, actual: object, volatile: set[str]) -> list[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        found = [f"{where}/{key} is missing" for key in sorted(set(expected) - set(actual))]
        found += [f"{where}/{key} is new" for key in sorted(set(actual) - set(expected))]
        for key in expected.keys() & actual.keys():
            if key in volatile:
                found += _same_type(f"{where}/{key}", expected[key], actual[key])
            else:
                found += _compare(f"{where}/{key}", expected[key], actual[key], volatile)
        return found
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return [f"{where} has {len(actual)} entries instead of {len(expected)}: {actual}"]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for index, (old, new) in pairs for line in _compare(f"{where}/{index}", old, new, volatile)]
    return [] if _without_ids(expected) == _without_ids(actual) else [f"{where} is {actual!r} instead of {expected!r}"]


def _same_type(where: str, expected: object, actual: object) -> list[str]:
    return [] if type(expected) is type(actual) else [f"{where} is {actual!r}, not of the type of {expected!r}"]


def _without_ids(value: object) -> object:
    """Ids in names, paths and messages, positions in templates, and the server's address do not count."""
    if not isinstance(value, str):
        return value
    value = re.sub(r"\[\d+\]", "[N]", value)
    value = re.sub(r"(?i)service[_ ]\d+", "service N", value)
    value = re.sub(r"one-\d+-", "one-N-", value)
    value = re.sub(r"\bVM \d+", "VM N", value)
    value = re.sub(r"Private-\d+", "Private-N", value)
    value = re.sub(r"at line \d+, columns \d+:\d+", "at POSITION", value)
    return re.sub(r"http://127\.0\.0\.1:\d+", "http://HOST", value)
