# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields

from federation import catalogue, limits, strategy_table, usecases
from federation.bounds import Limits

USE_CASES = usecases.NAMES

_CHECKPOINTS = "checkpoint-enabled"
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What a run may go on with in another way than it began; everything else makes a model of its own.
_MAY_CHANGE = {
    "num-server-rounds", "min-fit-clients", "min-evaluate-clients", "min-available-clients", "fraction-fit", "fraction-evaluate",
    "round-completion", "reply-compression",
    "round-timeout", "nodes-timeout", "max-failed-rounds", "checkpoint-enabled", "checkpoint-interval", "checkpoint-keep",
    "checkpoint-path", "run-name", "output-directory",
}  # fmt: skip
# Parts of a second are for tests: operators give whole ones.
_SECONDS = ("round-timeout", "nodes-timeout")
_NUMBERS = {**limits.NUMBERS, "seed": Limits(whole=True, minimum=0)}
_CHOICES = {**limits.CHOICES, "use-case": USE_CASES}
_OF_USE_CASES = (
    "image-size",
    "image-channels",
    "image-classes",
    "anomaly-quantile",
    "llm-lora-rank",
    "llm-lora-alpha",
    "llm-sequence-length",
)


class SettingsError(ValueError):
    """The run configuration cannot be used; the message names every bad key with its value."""


@dataclass(frozen=True)
class Settings:
    """A checked run configuration. Times are seconds.

    ``strategy_arguments`` and ``privacy_arguments`` are for the constructors in Flower; ``notes`` say what is ignored and
    what looks unwise, ``promise`` what differential privacy gives.
    """

    num_server_rounds: int
    strategy: str
    use_case: str
    min_fit_clients: int
    min_evaluate_clients: int
    min_available_clients: int
    fraction_fit: float
    fraction_evaluate: float
    round_completion: float
    reply_compression: str
    dp_mode: str
    partition_alpha: float
    round_timeout: float
    nodes_timeout: float
    max_failed_rounds: int
    local_epochs: int
    local_batch_size: int
    local_learning_rate: float
    seed: int
    checkpoint_enabled: bool
    checkpoint_interval: int
    checkpoint_keep: int
    checkpoint_path: str
    initial_model: str
    run_name: str
    output_directory: str
    strategy_arguments: Mapping[str, float] = field(default_factory=dict)
    privacy_arguments: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    promise: str = ""
    of_use_case: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_run_config(cls, config: Mapping[str, object]) -> Settings:
        """Check a run configuration.

        Flower checks that the keys exist, but not the types of their values.

        Raises:
            SettingsError: one or more values cannot be used; all of them are named.
        """
        errors = _errors_of_values(config) or _errors_between_values(config)
        if errors:
            raise SettingsError("; ".join(errors))
        return cls(
            **{key.replace("-", "_"): config[key] for key in _keys()},
            strategy_arguments=catalogue.strategy_arguments(config),
            privacy_arguments=catalogue.privacy_arguments(config),
            notes=tuple(catalogue.notes(config)),
            promise=catalogue.promise(config),
            of_use_case={key: config[key] for key in _OF_USE_CASES},
        )


def lasting(config: Mapping[str, object]) -> dict[str, object]:
    """Return the part of a run configuration that must be the same when a run goes on from a checkpoint."""
    return {key: value for key, value in config.items() if key not in _MAY_CHANGE}


def _keys() -> list[str]:
    return [entry.name.replace("_", "-") for entry in fields(Settings) if entry.default is entry.default_factory is MISSING]


def _errors_of_values(config: Mapping[str, object]) -> list[str]:
    errors = [f"{key} is missing" for key in (*_keys(), *limits.OPTIONS, *_OF_USE_CASES) if key not in config]
    for key, value in config.items():
        if key in limits.FLAGS and not isinstance(value, bool):
            errors.append(f"{key} must be true or false, not {value!r}")
        elif key in _SECONDS:
            if not _is_number(value, (int, float)) or not value > 0:
                errors.append(f"{key} must be a number of seconds above 0, not {value!r}")
        elif key in _NUMBERS and not _NUMBERS[key].hold(value):
            errors.append(f"{key} must be {_NUMBERS[key].describe()}, not {value!r}")
        elif key in limits.OPTIONS and value != "" and not limits.OPTIONS[key].hold(value):
            errors.append(f"{key} must be {limits.OPTIONS[key].describe()}, or empty for the default, not {value!r}")
        elif key in _CHOICES and value not in _CHOICES[key]:
            errors.append(f"{key} must be one of {', '.join(map(str, _CHOICES[key]))}, not {value!r}")
        elif key == "image-classes" and not _are_names(value):
            errors.append(f"{key} must be at least two different names with commas between, not {value!r}")
    return errors


def _errors_between_values(config: Mapping[str, object]) -> list[str]:
    return [*strategy_table.errors(config), *_errors_of_checkpoints(config)]


def _errors_of_checkpoints(config: Mapping[str, object]) -> list[str]:
    if not config[_CHECKPOINTS]:
        return []
    errors = []
    if not _RUN_NAME.fullmatch(config["run-name"]):
        name = config["run-name"]
        errors.append(f"run-name must be up to 64 letters, digits and the characters . _ - for a run with checkpoints, not {name!r}")
    if not config["checkpoint-path"]:
        errors.append("checkpoint-path must name a directory for a run with checkpoints")
    return errors


def _are_names(value: object) -> bool:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else []
    return len(set(names)) == len(names) > 1 and all(names)


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
