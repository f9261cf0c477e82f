# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""An operator's own app, from a FAB that Flower packed, through the supervisor and the real Flower; odd values included."""

from __future__ import annotations

import json
import os
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.flower.run_config import toml_value
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.channel import NoChannel
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import ENDED
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.runs import Run
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.supervisor import Config, Supervisor

from .flower import Federation

pytestmark = pytest.mark.flower

SERVER = """
import json
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    Path(context.run_config["output-directory"], "values.json").write_text(json.dumps(dict(context.run_config)))
"""
CLIENT = """
from flwr.clientapp import ClientApp

app = ClientApp()
"""
PROJECT = """
[project]
name = "odd"
version = "1.0.0"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "odd.server:app"
clientapp = "odd.client:app"
[tool.flwr.app.config]
run-name = ""
output-directory = ""
"""
ODD = {
    "double-quote": 'say "hello"',
    "single-quote": "it's",
    "three-quotes": "'''\"\"\"",
    "backslash": "C:\\new\\table\\",
    "newline": "one\ntwo\r\nthree\n",
    "tab": "\tx\t",
    "control": "".join(map(chr, range(1, 32))) + "\x7f",
    "unicode": "Grüße, 世界, \U0001f33c, \u202e, \ufeff",
    "long": "x" * 100_000,
    "empty": "",
    "blanks": "  ",
    "like-toml": "a = 1 # [table]",
    "like-shell": "$(touch /tmp/owned); `id` && ${HOME} %s",
    "like-number": "007",
    "like-truth": "true",
    "integer": -(2**63),
    "float": 1e-300,
    "truth": False,
}


@pytest.fixture(scope="module")
def fab(flower_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app that only writes down its run configuration, packed by Flower."""
    directory = tmp_path_factory.mktemp("app")
    (directory / "odd").mkdir()
    (directory / "odd/__init__.py").touch()
    (directory / "odd/server.py").write_text(SERVER)
    (directory / "odd/client.py").write_text(CLIENT)
    keys = "".join(f"{key} = {toml_value(type(value)())}\n" for key, value in ODD.items())
    (directory / "pyproject.toml").write_text(PROJECT + keys)
    environment = {**os.environ, "FLWR_HOME": str(directory / "home"), "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": ""}
    subprocess.run([flower_bin / "flwr", "build", "--app", directory], cwd=directory, env=environment, check=True, capture_output=True)
    (packed,) = directory.glob("*.fab")
    return packed


@pytest.fixture(scope="module")
def trained(flower_bin: Path, fab: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """The app as the supervisor ran it, and the directory of its run."""
    directory = tmp_path_factory.mktemp("own")
    for name in ("runs", "apps"):
        (directory / name).mkdir()
    with Federation(flower_bin, fab, directory):
        connection = tomllib.loads((directory / "home/config.toml").read_text())["superlink"]["local"]
        settings = {"FLWR_HOME": directory / "home", "PATH": f"{flower_bin}:/usr/bin:/bin", "FLWR_DISABLE_UPDATE_CHECK": 1, "FLWR_TELEMETRY_ENABLED": 0}
        supervisor = Supervisor(
            Config(
                flwr_command=["env", *(f"{name}={value}" for name, value in settings.items()), str(flower_bin / "flwr")],
                superlink_connection="local",
                app_directory="/nonexistent",
                runs_directory=str(directory / "runs"),
                runs_directory_in_app=str(directory / "runs"),
                apps_directory=str(directory / "apps"),
                apps_directory_in_app=str(directory / "apps"),
                state_file=str(directory / "state.json"),
                initial_run={"name": "odd", "config": {}, "app": str(fab)},
                own_app={"source": str(fab), "config": ODD},
                health_url=f"http://{connection['address']}/health",
                client_seconds=2,
                quiet_seconds=2,
            ),
            NoChannel(),
        )
        (run,) = supervisor.runs
        deadline = time.monotonic() + 600
        while run.status not in ENDED:
            assert time.monotonic() < deadline, f"the run has not ended: {run.status} {run.message}"
            supervisor.step()
            time.sleep(0.2)
        return run, directory / "runs/odd"


def test_an_own_app_from_a_fab_is_complete_when_flower_says_so(trained: tuple[Run, Path]) -> None:
    run, _directory = trained
    assert (run.status, run.message, run.app_version) == ("completed", "complete, as Flower says; the app reports no rounds", "FAB")


@pytest.mark.parametrize("key", ODD)
def test_an_odd_value_arrives_as_given(trained: tuple[Run, Path], key: str) -> None:
    values = json.loads((trained[1] / "values.json").read_text())
    assert (values[key], type(values[key])) == (ODD[key], type(ODD[key]))


def test_an_own_app_learns_of_its_run_what_it_declares(trained: tuple[Run, Path]) -> None:
    values = json.loads((trained[1] / "values.json").read_text())
    assert (values["run-name"], values["output-directory"]) == ("odd", str(trained[1]))
