# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields

from federation import catalogue, usecases
from federation.catalogue import Limits

USE_CASES = usecases.NAMES

_WHOLE_NUMBERS = {  # run configuration key -> smallest value
    "num-server-rounds": 1,
    "min-fit-clients": 1,
    "min-evaluate-clients": 1,
    "min-available-clients": 1,
    "max-failed-rounds": 1,
    "local-epochs": 0,
    "local-batch-size": 0,
    "seed": 0,
}
_SECONDS = ("round-timeout", "nodes-timeout")
_NUMBERS = {
    "fraction-fit": Limits(above=0, maximum=1),
    "fraction-evaluate": Limits(above=0, maximum=1),
    "partition-alpha": Limits(minimum=0),
    "local-learning-rate": Limits(minimum=0),
}
_CHOICES = {"strategy": tuple(catalogue.STRATEGIES), "dp-mode": tuple(catalogue.PRIVACY), "use-case": USE_CASES}


class SettingsError(ValueError):
    """The run configuration cannot be used; the message names every bad key with its value."""


@dataclass(frozen=True)
class Settings:
    """A checked run configuration. Times are seconds.

    ``strategy_arguments`` and ``privacy_arguments`` are for the constructors in Flower; ``notes`` say what is ignored and
    what looks unwise.
    """

    num_server_rounds: int
    strategy: str
    use_case: str
    min_fit_clients: int
    min_evaluate_clients: int
    min_available_clients: int
    fraction_fit: float
    fraction_evaluate: float
    dp_mode: str
    partition_alpha: float
    round_timeout: float
    nodes_timeout: float
    max_failed_rounds: int
    local_epochs: int
    local_batch_size: int
    local_learning_rate: float
    seed: int
    run_name: str
    output_directory: str
    strategy_arguments: Mapping[str, float] = field(default_factory=dict)
    privacy_arguments: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        )


def _keys() -> list[str]:
    return [entry.name.replace("_", "-") for entry in fields(Settings) if entry.default is entry.default_factory is MISSING]


def _errors_of_values(config: Mapping[str, object]) -> list[str]:
    errors = [f"{key} is missing" for key in (*_keys(), *catalogue.OPTIONS) if key not in config]
    for key, value in config.items():
        if key in _WHOLE_NUMBERS and not (_is_number(value, int) and value >= _WHOLE_NUMBERS[key]):
            errors.append(f"{key} must be a whole number of at least {_WHOLE_NUMBERS[key]}, not {value!r}")
        elif key in _SECONDS and not (_is_number(value, (int, float)) and value > 0):
            errors.append(f"{key} must be a number of seconds above 0, not {value!r}")
        elif key in _NUMBERS and not _NUMBERS[key].hold(value):
            errors.append(f"{key} must be {_NUMBERS[key].describe()}, not {value!r}")
        elif key in catalogue.OPTIONS and value != "" and not catalogue.OPTIONS[key].hold(value):
            errors.append(f"{key} must be {catalogue.OPTIONS[key].describe()}, or empty for the default, not {value!r}")
        elif key in _CHOICES and value not in _CHOICES[key]:
            errors.append(f"{key} must be one of {', '.join(_CHOICES[key])}, not {value!r}")
    return errors


def _errors_between_values(config: Mapping[str, object]) -> list[str]:
    available = config["min-available-clients"]
    above = [
        f"{key} ({config[key]}) must not be above min-available-clients ({available})"
        for key in ("min-fit-clients", "min-evaluate-clients")
        if config[key] > available
    ]
    return [*above, *catalogue.errors(config)]


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
