# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Comparing answers with recorded ones.

``documents(expected, actual)`` compares two XML documents: the elements and their order, and the texts, except where
they tell ids, times, addresses, secrets or what machine it was. ``texts(expected, actual)`` compares two messages in the
same way. Both return the differences as lines for people; none means agreement. Test cases that compare with a recording
call pytest's ``record_property("recording", "GROUP/NAME")``; the share that agrees is printed per group in the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import unified_diff
from xml.etree import ElementTree

#: elements whose text depends on the time, the machine or chance
_VARYING = frozenset((
    "ARCH", "CPUSPEED", "DESCRIPTION", "ENDPOINT", "ENDPOINT_GRPC", "ETIME", "EETIME", "ESTIME", "FREE_CPU", "FREE_DISK",
    "FREE_MB", "FREE_MEMORY", "LAST_POLL", "MAX_DISK", "MODELNAME", "MODTIME", "NETRX", "NETTX", "PASSWORD", "PETIME",
    "PSTIME", "REGTIME", "REQUEST_ID", "RETIME", "RSTIME", "STIME", "TIMESTAMP", "TOKEN_PASSWORD", "TOTAL_MB",
    "USED_CPU", "USED_DISK", "USED_MB", "USED_MEMORY", "UUID",
    "DISKRDBYTES", "DISKRDIOPS", "DISKWRBYTES", "DISKWRIOPS", "MEMORY_USED",
    "DEPLOY_ID", "DS_ID", "HID", "HOSTNAME", "IP", "IP_END", "MAC", "MAC_END", "NEXT_INDEX", "ONEGATE_ENDPOINT",
    "ETH0_IP", "ETH0_MAC",
))
#: elements that are there on some machines only
_OPTIONAL = frozenset((
    "PCI", "NODE", "NUMA_NODE", "KVM_CPU_FEATURES", "KVM_CPU_MODELS", "MEMORY_ENCRYPTION",
))
_TIME = re.compile(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}")
#: the server's parser counts lines and columns wrongly
_POSITION = re.compile(r"at line \d+, columns \d+:\d+")


def documents(
    expected: str, actual: str, without: frozenset[str] = frozenset(), varying: frozenset[str] = frozenset()
) -> list[str]:
    """Return what differs between two documents.

    Elements named in `without` are left out, with what is in them; the texts of those in `varying` are not compared.
    """
    wanted = list(_leaves(ElementTree.fromstring(expected), _OPTIONAL | without))
    found = list(_leaves(ElementTree.fromstring(actual), _OPTIONAL | without))
    wanted_paths, found_paths = [path for path, _text in wanted], [path for path, _text in found]
    if wanted_paths != found_paths:
        return [line for line in unified_diff(wanted_paths, found_paths, "recorded", "answered", n=0, lineterm="")
                if not line.startswith("@@")]
    return [
        f"{path}: {text_wanted!r} became {text_found!r}"
        for (path, text_wanted), (_path, text_found) in zip(wanted, found, strict=True)
        if path.rpartition("/")[2] not in _VARYING | varying and texts(text_wanted, text_found)
    ]


def texts(expected: str, actual: str) -> list[str]:
    """Return what differs between two messages, times and positions in templates aside."""
    def normal(text: str) -> str:
        return _POSITION.sub("POSITION", _TIME.sub("TIME", text))

    return [] if normal(expected) == normal(actual) else [f"{expected!r} became {actual!r}"]


def _leaves(element: ElementTree.Element, without: frozenset[str], path: str = "") -> Iterator[tuple[str, str]]:
    path = f"{path}/{element.tag}"
    children = [child for child in element if child.tag not in without]
    if not children:
        yield path, (element.text or "")
    for child in children:
        yield from _leaves(child, without, path)
