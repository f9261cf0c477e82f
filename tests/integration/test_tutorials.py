# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The tutorials: every block of code is run by a test or says why not; here, what a zone that boots nothing can answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.tests.support.one_zone import PASSWORD, module_zone
from ansible_collections.opennebula.flower.tests.support.tutorials import PAGES, blocks, follow

ROOT = Path(__file__).parents[2]
RUN_HERE = "run"
RUN_ELSEWHERE = {"run in the lab", "run with Flower"}  # make tutorials


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    unmarked = [block.text for block in blocks(page) if block.mark not in {RUN_HERE, *RUN_ELSEWHERE, "file", "not run"}]
    without_reason = [block.text for block in blocks(page) if block.mark in {"file", "not run"} and len(block.argument) < 5]
    assert (unmarked, without_reason) == ([], [])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_readers_see_the_name_of_each_file_and_which_failure_is_wanted(page: Path) -> None:
    """The marks are comments, which nobody sees."""
    unseen = [block.argument for block in blocks(page) if block.mark == "file" and f"`{block.argument}`" not in block.prose]
    unseen += [block.argument for block in blocks(page) if block.mark == RUN_HERE and block.argument and "refused" not in block.prose]
    assert unseen == []


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.mark == RUN_HERE for block in blocks(page))], ids=lambda page: page.stem)
def test_what_a_tutorial_says_works(page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with module_zone(tmp_path_factory.mktemp("zone")) as zone:
        zone.call("one.vn.allocate", 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br0"\nAR=[TYPE="IP4",IP="10.0.0.10",SIZE="9"]', 0)
        zone.call("one.user.allocate", "flower", PASSWORD, "core", [0])
        environment = os.environ | {"collection": str(ROOT), "ONE_PASSWORD": PASSWORD, "ANSIBLE_NOCOLOR": "1"}
        addresses = {
            "http://frontend.example.org:2633/RPC2": str(zone.options["api_url"]), "http://frontend.example.org:2474": str(zone.options["oneflow_url"]),
        }  # fmt: skip
        output = follow(page, RUN_HERE, tmp_path, environment, addresses)
    assert "failed=0" in output
    assert PASSWORD not in output
