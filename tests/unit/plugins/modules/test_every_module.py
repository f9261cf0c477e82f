# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every module, also for one that is new: it ends in one sentence, shows no secret, takes no text for a dictionary, and is
documented as it is specified, in the words that modules share."""

from __future__ import annotations

import importlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.opennebula.flower.plugins.module_utils.module import OneModule
from ansible_collections.opennebula.flower.plugins.module_utils.outcome import SafeModule
from ansible_collections.opennebula.flower.tests.support.module_arguments import patch_module_args

PACKAGE = "ansible_collections.opennebula.flower.plugins.modules"
NAMES = sorted(path.stem for path in Path(importlib.import_module(PACKAGE).__path__[0]).glob("*.py") if path.stem != "__init__")
FRAGMENTS = "ansible_collections.opennebula.flower.plugins.doc_fragments"
SECRET = "s3cret-of-somebody"
KEY = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
#: options with which a module begins its work, beyond those that it requires
WORK = {
    "one_context": {"role": "superlink"},
    "one_quota": {"user": "a"},
    "openpgp_key": {"state": "absent"},
    "gpu_check": {"where": "guest"},
    "nvidia_mig": {"layout": [{"gpu": 0, "profiles": ["1g.10gb"]}]},
    "wireguard_interface": {"port": 51820, "mtu": 1420, "public_key": KEY, "addresses": ["10.0.0.1/24"], "peers": []},
    "wireguard_check": {"addresses": [{"site": "a", "address": "10.0.0.2", "reachable": True}], "peers": {KEY: "a"}},
}
VALUES = {"str": "a", "path": "/nowhere/a", "int": 1, "float": 1.0, "bool": True, "dict": {}, "list": []}


class Made(Exception):
    """A module was made, and would do its work now."""


def made(name: str, monkeypatch: pytest.MonkeyPatch) -> AnsibleModule:
    """The module's object, with its specification and without options."""
    objects = []

    def stop(self: AnsibleModule, argument_spec: dict, **_rest: object) -> None:
        self.argument_spec = argument_spec
        objects.append(self)
        raise Made

    with monkeypatch.context() as patch:
        patch.setattr(AnsibleModule, "__init__", stop)
        with suppress(Made):
            importlib.import_module(f"{PACKAGE}.{name}").main()
    return objects[0]


def run(name: str, options: dict) -> dict:
    """Run a module in check mode and return its result."""
    output = io.StringIO()
    with patch_module_args({**options, "_ansible_check_mode": True}), redirect_stdout(output), suppress(SystemExit):
        importlib.import_module(f"{PACKAGE}.{name}").main()
    return json.loads(output.getvalue())


def required(spec: dict) -> dict:
    """Options with which a module begins its work, or at least reads them."""
    return {
        name: option["choices"][0] if option.get("choices") else VALUES[option.get("type", "str")]
        for name, option in spec.items() if option.get("required")
    }


def dictionaries(spec: dict) -> Iterator[tuple[list[str], dict]]:
    """The path and description of each option that is a dictionary or several, at any depth."""
    for name, option in spec.items():
        if "dict" in (option.get("type"), option.get("elements")):
            yield [name], option
            for path, inner in dictionaries(option.get("options") or {}):
                yield [name, *path], inner


def page(name: str) -> dict:
    """What a module's own file documents."""
    return yaml.safe_load(importlib.import_module(f"{PACKAGE}.{name}").DOCUMENTATION)


def fragment(name: str) -> dict:
    """The options of a fragment, by the name that modules give it: FILE, or FILE.VARIABLE."""
    file, _dot, variable = name.removeprefix("opennebula.flower.").partition(".")
    found = importlib.import_module(f"{FRAGMENTS}.{file}").ModuleDocFragment
    return yaml.safe_load(getattr(found, variable.upper() or "DOCUMENTATION"))["options"]


def documented(name: str) -> dict:
    """The documented options of a module, its own before those of its fragments, as ansible-doc puts them together."""
    options: dict = {}
    for used in page(name).get("extends_documentation_fragment", []):
        options = {**fragment(used), **options}
    return {**options, **page(name).get("options", {})}


def fragments() -> list[dict]:
    """The options of every fragment."""
    found = []
    for path in sorted(Path(importlib.import_module(FRAGMENTS).__path__[0]).glob("[!_]*.py")):
        variables = vars(importlib.import_module(f"{FRAGMENTS}.{path.stem}").ModuleDocFragment)
        found += [yaml.safe_load(text)["options"] for variable, text in variables.items() if variable.isupper()]
    return found


def form(option: dict, inner: str) -> dict:
    """What a user may write for an option, of its documentation or of its specification."""
    return {
        "type": option.get("type", "str"), "elements": option.get("elements"), "required": option.get("required", False),
        "default": option.get("default"), "choices": option.get("choices"),
        "options": {name: form(below, inner) for name, below in (option.get(inner) or {}).items()},
    }


def check_sentence(result: dict) -> None:
    assert result.get("failed"), result
    assert "exception" not in result and result["msg"].isprintable(), result


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_is_one_line_without_secrets(name, monkeypatch):
    module = made(name, monkeypatch)
    assert isinstance(module, SafeModule)
    # Ansible repeats the names of options that it does not know.
    said = run(name, {**required(module.argument_spec), **WORK.get(name, {}), f'it\r\n\x1b[2JTOKEN="{SECRET}"': "x"})
    check_sentence(said)
    assert "x1b[2JTOKEN" in said["msg"]
    assert SECRET not in said["msg"]


@pytest.mark.parametrize("name", NAMES)
def test_words_in_the_place_of_a_dictionary_are_refused(name, monkeypatch):
    spec = made(name, monkeypatch).argument_spec
    for path, _option in dictionaries(spec):
        value: object = "just words"
        for key in reversed(path[1:]):
            value = {key: value}
        for given in (value, [value]) if spec[path[0]]["type"] == "list" else (value,):
            check_sentence(run(name, {**required(spec), path[0]: given}))


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("gpu_", "nvidia_", "vfio_", "wireguard_"))])
@pytest.mark.parametrize("printed", ["", "[]", "null", '[{"a": 1}]', "x,y\\tz\\n1", "BusyBox v1.37\\nUsage: \\033[1mip"])
def test_what_a_program_prints_that_is_not_understood_never_ends_in_a_traceback(name, printed, monkeypatch, tmp_path):
    spec = made(name, monkeypatch).argument_spec
    for program in ("ip", "wg", "ping", "nvidia-smi", "nvidia-ctk", "docker"):
        (tmp_path / program).write_text(f"#!/bin/sh\nprintf '{printed}'\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = run(name, {**required(spec), **WORK.get(name, {})})
    if result.get("failed"):
        check_sentence(result)


class Reconciled(Exception):
    """The module left the rest to the engine."""


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("one_") and "state" in documented(name)])
def test_a_state_module_leaves_check_mode_difference_and_result_to_the_engine(name, monkeypatch):
    def stop(_module: OneModule, _transition: object) -> None:
        raise Reconciled

    options = {**required(made(name, monkeypatch).argument_spec), **WORK.get(name, {})}
    monkeypatch.setattr(OneModule, "reconcile", stop)
    with pytest.raises(Reconciled):
        run(name, options)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_documented_as_they_are_specified(name, monkeypatch):
    specified = {option: form(spec, "options") for option, spec in made(name, monkeypatch).argument_spec.items()}
    assert {option: form(text, "suboptions") for option, text in documented(name).items()} == specified


def test_what_three_modules_say_of_an_option_is_in_a_fragment():
    said = defaultdict(list)
    for name in NAMES:
        for option, text in page(name).get("options", {}).items():
            said[option, json.dumps(text)].append(name)
    assert {option: names for (option, _text), names in said.items() if len(names) > 2} == {}


def test_no_module_repeats_a_fragment():
    known = [(option, text) for options in fragments() for option, text in options.items()]
    repeated = [(name, option) for name in NAMES for option, text in page(name).get("options", {}).items() if (option, text) in known]
    assert repeated == []


# The releases of ansible-core that the collection works with know fragments for options only.
def test_what_modules_return_of_an_owned_object_has_the_same_words_everywhere():
    words = {"owner": "The user it belongs to.", "group": "The group it belongs to.", "mode": "Its permissions as three octal digits."}
    said = {}
    for name in NAMES:
        for key, value in (yaml.safe_load(importlib.import_module(f"{PACKAGE}.{name}").RETURN) or {}).items():
            contained = value.get("contains", {})
            if words.keys() <= contained.keys():
                said[name, key] = {fact: contained[fact]["description"] for fact in words}
    assert said == dict.fromkeys(said, words)
    assert len(said) > 8
