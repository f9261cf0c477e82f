# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The lines a module writes while it works reach the one who watches, all of them and in their order."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.plugin_utils.progress import followed_file


def test_every_line_is_shown_and_the_file_is_gone_afterwards():
    shown: list[str] = []
    with followed_file(shown.append) as path:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("one_image disk: LOCKED, 0 s\none_image di")
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("sk: LOCKED, 10 s\n")
    assert shown == ["one_image disk: LOCKED, 0 s", "one_image disk: LOCKED, 10 s"]
    assert not Path(path).exists()


def test_of_documents_the_newest_is_shown_also_when_it_came_last():
    shown: list[dict] = []
    with followed_file(lambda line: None, shown.append) as path:
        for number in range(3):
            Path(f"{path}.partial").write_text(json.dumps({"number": number}), encoding="utf-8")
            Path(f"{path}.partial").replace(f"{path}.json")
    assert shown[-1] == {"number": 2}
    assert not Path(path).parent.exists()
