# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Every use case trains in a real federation on the images of every framework it is offered for."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import USE_CASES
from ansible_collections.opennebula.flower.tests.app.flower import Federation, Run
from ansible_collections.opennebula.flower.tests.app.shipped import DEFAULTS, REPOSITORY
from lab.engine import docker
from lab.images import VARIANTS, variant_image

from .nodes import Nodes, run_inside

pytestmark = [pytest.mark.docker, pytest.mark.flower]

APP_USER = "49999"
ENDINGS = {"sklearn": ".joblib", "pytorch": ".pt", "tensorflow": ".keras"}
# Use case -> what is measured, and what two rounds reach at least.
REACHED = {"image-classification": ("accuracy", 0.85), "anomaly-detection": ("auc", 0.9)}
TWICE = [(use_case, framework) for framework in ENDINGS for use_case in REACHED if framework in USE_CASES[use_case]]


@dataclass(frozen=True)
class Trained:
    """A run of a use case on a framework, and the users its nodes ran as."""

    use_case: str
    framework: str
    run: Run
    users: set[str]


@pytest.fixture(scope="module", params=TWICE, ids=" on ".join)
def trained(request: pytest.FixtureRequest, federation: Federation, nodes: Nodes) -> Trained:
    """Two rounds with bundled data."""
    use_case, framework = request.param
    nodes.use(framework)
    run = federation.run(use_case=use_case, num_server_rounds=2, nodes_timeout=60, round_timeout=120, max_failed_rounds=1)
    return Trained(use_case, framework, run, nodes.users())


def test_two_rounds_reach_what_the_use_case_promises(trained: Trained) -> None:
    assert trained.run.status == "finished:completed", trained.run.details
    first, second = trained.run.data("round_end")
    measure, least = REACHED[trained.use_case]
    assert second[f"aggregated_{measure}"] > least
    assert second["aggregated_loss"] < first["aggregated_loss"]
    assert second["num_clients_responded"] == 2


def test_the_exported_model_opens_in_its_framework_and_does_as_well(trained: Trained) -> None:
    content = (trained.run.output / f"model{ENDINGS[trained.framework]}").read_bytes()
    printed = run_inside(trained.framework, "open_model.py", trained.use_case, trained.framework, json.dumps(DEFAULTS), content=content)
    answer = json.loads(printed.splitlines()[-1])
    (end,) = trained.run.data("training_end")
    measure = "final_accuracy" if trained.use_case == "image-classification" else "final_loss"
    assert answer["finite"]
    assert answer["measured"] == pytest.approx(end[measure], rel=0.01)


def test_no_process_of_a_node_is_root(trained: Trained) -> None:
    assert trained.users == {APP_USER}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_image_is_no_larger_than_it_may_be(name: str) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", variant_image(name))) <= VARIANTS[name]


def test_a_node_of_another_framework_refuses_the_use_case_in_one_sentence(federation: Federation, nodes: Nodes) -> None:
    nodes.use("tensorflow")
    run = federation.run(use_case="anomaly-detection", num_server_rounds=1, nodes_timeout=60, max_failed_rounds=1)
    assert run.status == "finished:failed"
    sentence = "use case anomaly-detection runs on sklearn or pytorch, but this node has tensorflow"
    assert sentence in run.data("training_failed")[0]["reason"]


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two data directories with a small model and a part of a licence each, and the part that no node has."""
    licence = (REPOSITORY / "LICENSES" / "GPL-3.0-or-later.txt").read_text(encoding="utf-8")
    part = len(licence) * 2 // 5
    pages = [path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "docs").glob("*.md"))]
    (tmp_path / "pages.txt").write_text("\n".join(pages), encoding="utf-8")
    (tmp_path / "unseen.txt").write_text(licence[2 * part :], encoding="utf-8")
    run_inside("pytorch", "make_model.py", "/made/model", "/made/pages.txt", volume=f"{tmp_path}:/made", user="root")
    directories = (tmp_path / "first", tmp_path / "second")
    for number, directory in enumerate(directories):
        shutil.copytree(tmp_path / "model", directory / "model")
        (directory / "licence.txt").write_text(licence[number * part : (number + 1) * part], encoding="utf-8")
    return *directories, tmp_path


def test_adapters_trained_by_the_nodes_lower_the_perplexity_of_text_that_none_has(
    federation: Federation, nodes: Nodes, texts: tuple[Path, Path, Path]
) -> None:
    first, second, all_of_them = texts
    nodes.use("pytorch", (first, second))
    settings = {"llm_sequence_length": 64, "local_learning_rate": 0.01, "local_epochs": 4}
    run = federation.run(use_case="llm-fine-tuning", num_server_rounds=2, nodes_timeout=60, max_failed_rounds=1, **settings)
    assert run.status == "finished:completed", run.details
    perplexities = [data["aggregated_perplexity"] for data in run.data("round_end")]
    assert perplexities == sorted(perplexities, reverse=True)
    assert nodes.users() == {APP_USER}

    adapters = (run.output / "model-adapter.zip").read_bytes()
    volume = f"{all_of_them}:/made:ro"
    answer = json.loads(run_inside("pytorch", "perplexity.py", "/made/model", "/made/unseen.txt", content=adapters, volume=volume, user="root"))
    assert answer["with"] < answer["without"]
