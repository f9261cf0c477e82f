# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
# Generated from plugins/module_utils/contextualization.py by make docs; do not edit.
"""What the run configuration may hold."""

from federation.bounds import Limits

# Numbers that are always set.
NUMBERS = {
    "num-server-rounds": Limits(whole=True, minimum=1),
    "min-fit-clients": Limits(whole=True, minimum=1),
    "min-evaluate-clients": Limits(whole=True, minimum=1),
    "min-available-clients": Limits(whole=True, minimum=1),
    "checkpoint-interval": Limits(whole=True, minimum=1),
    "round-timeout": Limits(whole=True, minimum=1),
    "nodes-timeout": Limits(whole=True, minimum=1),
    "max-failed-rounds": Limits(whole=True, minimum=1),
    "local-epochs": Limits(whole=True, minimum=0),
    "local-batch-size": Limits(whole=True, minimum=0),
    "local-learning-rate": Limits(minimum=0),
    "fraction-fit": Limits(maximum=1, above=0),
    "fraction-evaluate": Limits(maximum=1, above=0),
    "round-completion": Limits(maximum=1, above=0),
    "partition-alpha": Limits(minimum=0),
    "checkpoint-keep": Limits(whole=True, minimum=1),
    "image-size": Limits(whole=True, minimum=4),
    "anomaly-quantile": Limits(above=0, below=1),
    "llm-lora-rank": Limits(whole=True, minimum=1),
    "llm-lora-alpha": Limits(whole=True, minimum=1),
    "llm-sequence-length": Limits(whole=True, minimum=8),
}

# Parameters of strategies and of privacy; an empty value stands for the default.
OPTIONS = {
    "proximal-mu": Limits(minimum=0),
    "server-lr": Limits(above=0),
    "client-lr": Limits(above=0),
    "num-malicious": Limits(whole=True, minimum=0),
    "trim-beta": Limits(minimum=0.001, below=0.5),
    "server-momentum": Limits(minimum=0, below=1),
    "beta-1": Limits(minimum=0, below=1),
    "beta-2": Limits(minimum=0, below=1),
    "tau": Limits(above=0),
    "nodes-to-select": Limits(whole=True, minimum=1),
    "qfed-q": Limits(minimum=0),
    "dp-noise-multiplier": Limits(minimum=0),
    "dp-clipping-norm": Limits(above=0),
    "dp-target-quantile": Limits(minimum=0, maximum=1),
    "dp-clip-lr": Limits(above=0),
    "dp-count-stddev": Limits(above=0),
}

# Values of a set.
CHOICES = {
    "strategy": ("FedAvg", "FedAvgM", "FedProx", "FedAdam", "FedYogi", "FedAdagrad", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan", "QFedAvg"),
    "reply-compression": ("none", "float16", "int8"),
    "dp-mode": ("none", "fixed", "adaptive"),
    "image-channels": (1, 3),
}

# Truth values.
FLAGS = ("checkpoint-enabled",)
