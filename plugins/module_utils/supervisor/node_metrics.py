# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of a SuperNode, from its journal: what its ClientApps tell of their work, and whether the node is connected; beside them, those of its GPU
from NVIDIA's DCGM exporter.

A timer starts this again and again; nothing of it stays in memory. What was counted is kept together with how far the journal was read.

``python -m ansible_collections.opennebula.flower.plugins.module_utils.supervisor.node_metrics --config FILE``
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from . import state_file, unit_log
from .exposition import Metric, render, write
from .metric_table import metric
from .untrusted import count, decode_json, sentence

LOGGER = logging.getLogger("flower-node-metrics")

# A line that an app writes, and all that is read at once: an app may write what it likes.
_LINE_BYTES = 16 << 10
_MOST_BYTES = 64 << 20
_STATE_BYTES = 1 << 20
_TIMEOUT = 5  # seconds
_DCGM_BYTES = 1 << 20
# What the exporter may say: its own metrics, and what they are.
_DCGM_LINE = re.compile(r"(# (HELP|TYPE) )?DCGM_[A-Z0-9_]+[ {]")
_CURSOR = b"-- cursor: "
_MOST_SECONDS = 10 * 365 * 86400


@dataclass(frozen=True)
class Config:
    """The settings, as in their JSON file: where the SuperLink says that it is well, the CA that it has to be signed by (empty without TLS), the
    command that succeeds when the node is connected, where state and metrics go, and where the DCGM exporter answers (empty for none)."""

    health_url: str
    healthy_command: list[str]
    state_file: str
    metrics_file: str
    # ClientApps run in the second with the isolation process.
    units: tuple[str, ...] = ("flower-supernode.service", "flower-superexec.service")
    ca_file: str = ""
    dcgm_url: str = ""
    dcgm_file: str = ""


@dataclass
class Counts:
    """What this node did so far, by the journal up to ``cursor``."""

    cursor: str = ""
    trainings: int = 0
    training_seconds: float = 0
    evaluations: int = 0
    evaluation_seconds: float = 0
    failures: int = 0
    examples: int = 0
    gpu: int = 0

    @classmethod
    def read(cls, path: str) -> Counts:
        """Return what was written down; nothing usable begins at 0 again, as Prometheus expects of counters."""
        try:
            with open(path, "rb") as stream:
                record = decode_json(stream.read(_STATE_BYTES + 1), _STATE_BYTES)
        except (OSError, ValueError):
            return cls()
        if not isinstance(record, dict) or not isinstance(record.get("cursor"), str):
            return cls()
        numbers = {item.name: record.get(item.name) for item in fields(cls) if item.name != "cursor"}
        return cls(record["cursor"], **{name: value if count(value) is not None else 0 for name, value in numbers.items()})

    def write(self, path: str) -> None:
        """Put them in place in one step. Raises OSError."""
        state_file.write(Path(path), json.dumps(asdict(self)), 0o644)

    def add(self, event: Any) -> None:
        """Count an event of a ClientApp; anything else is nothing."""
        data = event.get("data") if isinstance(event, dict) else None
        if not isinstance(data, dict):
            return
        kind, seconds = event.get("event"), _seconds(data.get("seconds"))
        if kind == "client_trained":
            self.trainings += 1
            self.training_seconds += seconds
            self.examples += count(data.get("num_examples")) or 0
        elif kind == "client_evaluated":
            self.evaluations += 1
            self.evaluation_seconds += seconds
        elif kind == "client_failure":
            self.failures += 1
        elif kind in ("gpu_detected", "gpu_unavailable"):
            self.gpu = int(kind == "gpu_detected")

    def metrics(self, connected: bool) -> list[Metric]:
        """Return them for Prometheus."""
        return [
            metric("fl_supernode_connected", ({}, int(connected))),
            metric("fl_supernode_gpu", ({}, self.gpu)),
            metric("fl_supernode_trainings_total", ({}, self.trainings)),
            metric("fl_supernode_training_seconds_total", ({}, self.training_seconds)),
            metric("fl_supernode_evaluations_total", ({}, self.evaluations)),
            metric("fl_supernode_evaluation_seconds_total", ({}, self.evaluation_seconds)),
            metric("fl_supernode_examples_total", ({}, self.examples)),
            metric("fl_supernode_failures_total", ({}, self.failures)),
        ]


def read_journal(units: Iterable[str], counts: Counts) -> None:
    """Count the events after the cursor. Where there are more than can be read at once, the rest is lost."""
    units = list(units)
    cursor = _journal(units, counts, ["--after-cursor", counts.cursor] if counts.cursor else [])
    counts.cursor = cursor or _journal(units, Counts(), ["--lines", "1"])


def _journal(units: list[str], counts: Counts, which: list[str]) -> str:
    command = ["journalctl", *(f"--unit={unit}" for unit in units), "--output", "cat", "--all", "--no-pager", "--quiet", "--show-cursor", *which]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as journal:
        cursor = _count_lines(_lines(journal.stdout), counts)
        journal.kill()
    return cursor


def _count_lines(lines: Iterable[bytes], counts: Counts) -> str:
    """Count the events in lines of the journal and return the cursor at their end, empty when they are cut off."""
    cursor = ""
    for line in lines:
        if line.startswith(_CURSOR):
            cursor = line[len(_CURSOR) :].decode("ascii", "replace").strip()
        elif line.startswith(b"{"):
            try:
                counts.add(decode_json(line, _LINE_BYTES))
            except ValueError:
                continue
    return cursor


def _lines(stream: Any) -> Iterable[bytes]:
    """Yield lines, those that are too long in parts, until there are too many."""
    left = _MOST_BYTES
    while left > 0:
        line = stream.readline(_LINE_BYTES)
        if not line:
            return
        left -= len(line)
        yield line


def is_connected(config: Config) -> bool:
    """Return whether the node was accepted and its SuperLink answers."""
    if subprocess.run(config.healthy_command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        return False
    context = ssl.create_default_context(cafile=config.ca_file) if config.ca_file else None
    try:
        with _open(config.health_url, context):
            return True
    except (OSError, ValueError, urllib.error.URLError):
        return False


def copy_gpu_metrics(config: Config) -> None:
    """Keep what the DCGM exporter says as a file of metrics, or none where it does not answer: old figures would look like new ones. Raises OSError."""
    if not config.dcgm_file:
        return
    try:
        text = _gpu_metrics(config.dcgm_url) if config.dcgm_url else ""
    except (OSError, ValueError, http.client.HTTPException) as problem:
        LOGGER.error("The DCGM exporter at %s gives no metrics of the GPU: %s", config.dcgm_url, sentence(problem))
        text = ""
    if text:
        write(config.dcgm_file, text)
    else:
        Path(config.dcgm_file).unlink(missing_ok=True)


def _gpu_metrics(url: str) -> str:
    with _open(url) as answer:
        found = answer.read(_DCGM_BYTES + 1)
    if len(found) > _DCGM_BYTES:
        raise ValueError(f"its answer is longer than {_DCGM_BYTES} bytes")
    return "".join(f"{line}\n" for line in found.decode().split("\n") if _DCGM_LINE.match(line))


def _open(url: str, context: ssl.SSLContext | None = None) -> Any:
    # Whatever proxy the environment names: Flower does not use one either.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else []))
    return opener.open(url, timeout=_TIMEOUT)


def _seconds(value: Any) -> float:
    return value if count(value) is not None and value < _MOST_SECONDS else 0


def main() -> int:
    """Write the metrics once; return the exit status."""
    parser = argparse.ArgumentParser(description="Writes the metrics of a SuperNode.")
    parser.add_argument("--config", required=True, help="JSON file with the settings")
    path = parser.parse_args().config
    unit_log.set_up("flower-node-metrics")
    try:
        config = Config(**json.loads(Path(path).read_text(encoding="utf-8")))
        counts = Counts.read(config.state_file)
        read_journal(config.units, counts)
        write(config.metrics_file, render(counts.metrics(is_connected(config))))
        counts.write(config.state_file)
        copy_gpu_metrics(config)
    except (OSError, ValueError, TypeError) as problem:
        LOGGER.error("The metrics of this node cannot be written: %s", sentence(problem))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
