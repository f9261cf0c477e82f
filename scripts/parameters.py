# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Write what follows from the table of parameters: the reference page, the settings of a training that the role flower_superlink takes, and the
limits, defaults and strategies of the Flower App.

The app is installed on machines without the collection, so it has a copy of what concerns it.

``python -m scripts.parameters`` in the root of the repository, which ``make docs`` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization
from ansible_collections.opennebula.flower.plugins.module_utils.contextualization import PARAMETERS, Parameter
from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import NO_USE_CASE, USE_CASES
from ansible_collections.opennebula.flower.plugins.module_utils.flower.run_config import toml_value

from .files import write_files

PAGE = "docs/parameters.md"
LIMITS = "apps/federation/federation/limits.py"
STRATEGIES = "apps/federation/federation/strategy_table.py"
PROJECT = "apps/federation/pyproject.toml"
VARIABLES = "roles/flower_superlink/defaults/main.yml"
OPTIONS = "roles/flower_superlink/meta/argument_specs.yml"

_BEGIN = "# BEGIN What is trained, and how: from the table of parameters, by make docs\n"
_END = "# END\n"
_CONFIG = "[tool.flwr.app.config]\n"
_BOUNDS = ("minimum", "maximum", "above", "below")
# What the app alone knows: who submits a run sets it.
_OF_THE_APP = {
    "seed": (42, "Seed of everything that is drawn at random"),
    "run-name": ("", "Name of the run; one with checkpoints needs it and goes on from its newest usable one, whoever submits it again"),
    "output-directory": ("", "Where events.jsonl and model.npz go; empty: nothing is written"),
}
_TABLE_OF_STRATEGIES = "plugins/module_utils/flower/strategies.py"
_LICENCE = '''# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
# Generated from {source} by make docs; do not edit.
'''
_HEAD = f'''{_LICENCE.format(source="plugins/module_utils/contextualization.py")}"""What the run configuration may hold."""

from federation.bounds import Limits
'''


def written(root: Path) -> dict[str, str]:
    """Return the files that follow from the table, by path; ``root`` is the repository."""
    project = (root / PROJECT).read_text()
    return {
        PAGE: contextualization.reference_page(),
        LIMITS: _limits(),
        STRATEGIES: _LICENCE.format(source=_TABLE_OF_STRATEGIES) + '"""' + (root / _TABLE_OF_STRATEGIES).read_text().split('"""', 1)[1],
        VARIABLES: _within((root / VARIABLES).read_text(), _role_defaults()),
        OPTIONS: _within((root / OPTIONS).read_text(), _role_options()),
        PROJECT: project[: project.index(_CONFIG)] + _CONFIG + "".join(_defaults()),
    }


def _within(text: str, lines: Iterable[str]) -> str:
    """Return a text with other lines between its marks, indented like these."""
    head, begin, rest = text.partition(_BEGIN)
    indent = head[head.rindex("\n") + 1 :]
    _old, end, tail = rest.partition(f"{indent}{_END}")
    return "".join([head, begin, *(f"{indent}{line}\n" for line in lines), end, tail])


def _training() -> dict[str, Parameter]:
    return {p.variable: p for p in PARAMETERS if p.run_config}


def _role_defaults() -> Iterable[str]:
    for variable, parameter in _training().items():
        yield f"# {parameter.help}."
        # Without a default the app has one, which differs by strategy.
        if parameter.typed_default is None:
            yield f"# {variable}:"
        else:
            yield f"{variable}: {json.dumps(parameter.typed_default)}"


def _role_options() -> Iterable[str]:
    specified = contextualization.role_argument_options(contextualization.SUPERLINK)
    for variable in _training():
        yield f"{variable}:"
        for key, value in specified[variable].items():
            if value is not None:
                yield f"  {key}: {json.dumps(value)}"


def _limits() -> str:
    training = [p for p in PARAMETERS if p.run_config]
    numbers = [p for p in training if p.kind in ("number", "float") and not p.limits.choices]
    options = [p for p in numbers if p.only_with]
    choices = {p.run_config: p.limits.choices for p in training if p.kind == "list" and p.run_config != "use-case"}
    choices |= {p.run_config: tuple(map(int, p.limits.choices)) for p in training if p.kind == "number" and p.limits.choices}
    return "".join(
        [
            _HEAD,
            _mapping("Numbers that are always set.", "NUMBERS", {p.run_config: _bounds(p) for p in numbers if not p.only_with}),
            _mapping("Parameters of strategies and of privacy; an empty value stands for the default.", "OPTIONS", {p.run_config: _bounds(p) for p in options}),
            _mapping("Values of a set.", "CHOICES", {key: repr(values) for key, values in choices.items()}),
            f"\n# Truth values.\nFLAGS = {tuple(p.run_config for p in training if p.kind == 'boolean')!r}\n".replace("'", '"'),
        ]
    )


def _mapping(comment: str, name: str, values: Mapping[str, str]) -> str:
    lines = "".join(f'    "{key}": {value},\n' for key, value in values.items()).replace("'", '"')
    return f"\n# {comment}\n{name} = {{\n{lines}}}\n"


def _bounds(parameter: Parameter) -> str:
    given = [f"{bound}={getattr(parameter.limits, bound)!r}" for bound in _BOUNDS if getattr(parameter.limits, bound) is not None]
    return f"Limits({', '.join(['whole=True', *given] if parameter.kind == 'number' else given)})"


def _defaults() -> Iterable[str]:
    for parameter in PARAMETERS:
        if parameter.run_config:
            yield _line(parameter.run_config, _default(parameter), parameter.help)
    for key, (value, meaning) in _OF_THE_APP.items():
        yield _line(key, value, meaning)


def _default(parameter: Parameter) -> str | int | float | bool:
    if parameter.only_with:
        return ""  # the app has the default, which may differ by strategy
    if parameter.run_config == "use-case":
        return next(name for name in USE_CASES if name != NO_USE_CASE)
    return parameter.typed_default


def _line(key: str, value: str | int | float | bool, meaning: str) -> str:
    return f"{key} = {toml_value(value)} # {meaning}\n"


if __name__ == "__main__":
    write_files(written)
