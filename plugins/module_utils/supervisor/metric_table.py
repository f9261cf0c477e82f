# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of all metrics that the programs of this collection export. A program names a metric and gives its samples; kind and help are from here.

docs/metrics.md is written from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .exposition import Definition, Metric

BUCKETS = (1, 5, 10, 30, 60, 120, 300, 600)  # seconds of a round


class Group(NamedTuple):
    """Metrics that one systemd unit writes to one file, with what the page says of all of them."""

    title: str
    machine: str
    unit: str
    file: str
    about: str
    metrics: tuple[Definition, ...]


_OF_A_RUN = ("run", "strategy")
_EPOCH = "seconds since the epoch"

GROUPS = (
    Group(
        "All trainings of a SuperLink",
        "SuperLink",
        "flower-supervisor.service",
        "/run/flower-metrics/training.prom",
        "Counters and the histogram add up all runs and outlive a restart.",
        (
            Definition("fl_training_status", "gauge", "0 idle, 1 running, 2 complete, 3 failed"),
            Definition("fl_runs_waiting", "gauge", "Runs that were asked for and are not submitted", "runs"),
            Definition("fl_clients_failed_total", "counter", "Requests to nodes that got no usable answer", "requests"),
            Definition("fl_late_replies_total", "counter", "Replies that came after their round had ended and were thrown away", "replies"),
            Definition("fl_rounds_total", "counter", "Rounds that are complete", "rounds"),
            Definition("fl_rounds_failed_total", "counter", "Rounds that did not count and were tried again", "rounds"),
            Definition("fl_checkpoint_saved_total", "counter", "Checkpoints saved", "checkpoints"),
            Definition("fl_checkpoint_failed_total", "counter", "Checkpoints that could not be saved", "checkpoints"),
            Definition("fl_checkpoint_rejected_total", "counter", "Checkpoints found that were damaged or of something else", "checkpoints"),
            Definition("fl_attempts_total", "counter", "Submissions of runs to Flower", "submissions"),
            Definition("fl_round_duration_seconds", "histogram", "Time of a round, training and evaluation", "seconds", ("strategy",)),
        ),
    ),
    Group(
        "The run at work, or the last one",
        "SuperLink",
        "flower-supervisor.service",
        "/run/flower-metrics/training.prom",
        "Each is there as soon as it has a value, and stays until the next run begins. Those of checkpoints need a run that keeps them.",
        (
            Definition("fl_round_current", "gauge", "Rounds completed", "rounds", _OF_A_RUN),
            Definition("fl_round_total", "gauge", "Rounds the run is made of", "rounds", _OF_A_RUN),
            Definition("fl_aggregated_loss", "gauge", "Loss of the global model on held-out data", "", _OF_A_RUN),
            Definition("fl_aggregated_accuracy", "gauge", "Accuracy of the global model on held-out data", "ratio", _OF_A_RUN),
            Definition("fl_aggregated_metric", "gauge", "What else was measured, by name", "", (*_OF_A_RUN, "metric")),
            Definition("fl_training_started_timestamp_seconds", "gauge", "When the run was first submitted", _EPOCH, _OF_A_RUN),
            Definition("fl_clients_connected", "gauge", "Nodes connected, as the run saw last", "nodes"),
            Definition("fl_clients_selected", "gauge", "Nodes asked to train in the current round", "nodes"),
            Definition("fl_clients_responded", "gauge", "Nodes that answered with a trained model in the last complete round", "nodes"),
            Definition("fl_checkpoint_round", "gauge", "Newest round with a checkpoint", "rounds", _OF_A_RUN),
            Definition("fl_checkpoint_interval_rounds", "gauge", "Rounds between checkpoints", "rounds", _OF_A_RUN),
        ),
    ),
    Group(
        "Checkpoints in object storage",
        "SuperLink",
        "flower-checkpoint-upload.service",
        "/run/flower-checkpoint-upload/metrics.prom",
        "They need `flower_s3_bucket`. Counters begin at 0 when the service restarts.",
        (
            Definition("fl_checkpoint_uploaded_total", "counter", "Checkpoints that were uploaded", "checkpoints"),
            Definition("fl_checkpoint_upload_failed_total", "counter", "Attempts to upload that failed", "attempts"),
            Definition("fl_checkpoint_upload_pending", "gauge", "Checkpoints that are not uploaded yet", "checkpoints"),
            Definition("fl_checkpoint_upload_last_timestamp_seconds", "gauge", "When a checkpoint was last uploaded, 0 before the first", _EPOCH),
        ),
    ),
    Group(
        "Certificates of the gateway",
        "SuperLink",
        "flower-certificates.service",
        "/run/flower-certificates/metrics.prom",
        "They need `flower_tls_enabled`, and tell of the operator's own certificates as well. The label `certificate` is `server` or `ca`.",
        (
            Definition(
                "fl_certificate_not_after_timestamp_seconds",
                "gauge",
                "Until when certificates are valid; of several CAs, the first that ends.",
                _EPOCH,
                ("certificate",),
            ),
        ),
    ),
    Group(
        "A SuperNode",
        "SuperNode",
        "flower-node-metrics.service",
        "/run/flower-metrics/node.prom",
        "Counters add up what the journal of the node tells of all runs, and outlive a restart.",
        (
            Definition("fl_supernode_connected", "gauge", "Whether the SuperLink has accepted this node and answers it", "1 or 0"),
            Definition("fl_supernode_gpu", "gauge", "Whether the last training could use a GPU", "1 or 0"),
            Definition("fl_supernode_trainings_total", "counter", "Trainings that this node completed", "trainings"),
            Definition("fl_supernode_training_seconds_total", "counter", "Seconds of these trainings", "seconds"),
            Definition("fl_supernode_evaluations_total", "counter", "Evaluations that this node completed", "evaluations"),
            Definition("fl_supernode_evaluation_seconds_total", "counter", "Seconds of these evaluations", "seconds"),
            Definition("fl_supernode_examples_total", "counter", "Examples that this node trained on", "examples"),
            Definition("fl_supernode_failures_total", "counter", "Requests that ended in an error on this node", "requests"),
        ),
    ),
)
DEFINITIONS = {definition.name: definition for group in GROUPS for definition in group.metrics}


def metric(name: str, *samples: tuple[Mapping[str, str], float | str | None]) -> Metric:
    """Return a metric of the table; samples without a value are left out."""
    return Metric(DEFINITIONS[name], [(labels, value, "") for labels, value in samples if value is not None])
