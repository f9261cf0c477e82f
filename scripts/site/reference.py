# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Reference pages of the site, written from what they describe: plugins, roles, playbooks and kinds of errors."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml
from antsibull_docs_parser import dom
from antsibull_docs_parser.md import to_md
from antsibull_docs_parser.parser import Context, parse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

COLLECTION = "opennebula.flower"
# Kinds of plugins as ansible-doc calls them, with the folders of their pages, whose names are the headings of their lists, too.
KINDS = {"module": "modules", "inventory": "inventory", "filter": "filters", "callback": "callbacks"}
# The parser escapes all punctuation, as CommonMark allows; MkDocs' Markdown knows fewer escapes and shows the others.
_NEEDLESS = re.compile(r"\\([^\w\s\\`*_{}\[\]()>#+.!|-])")


def pages(root: Path) -> dict[str, str]:
    """Return the generated pages by their path in the site; ``root`` is the repository."""
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    templates.filters["ansible"] = _markdown
    templates.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    plugins = {kind: _documented(root, kind) for kind in KINDS}
    written = {
        f"reference/{KINDS[kind]}/{name}.md": templates.get_template("plugin.md.j2").render(name=name, kind=kind, plugin=plugin)
        for kind, found in plugins.items() for name, plugin in found.items()
    }  # fmt: skip
    roles = {path.parts[-3]: yaml.safe_load(path.read_text())["argument_specs"]["main"] for path in sorted(root.glob("roles/[a-z]*/meta/argument_specs.yml"))}
    playbooks = {path.stem: _comment(path) for path in sorted(root.glob("playbooks/*.yml")) if path.stem != "appliance"}
    written["reference/index.md"] = templates.get_template("index.md.j2").render(plugins=plugins, kinds=KINDS, roles=roles)
    written["reference/playbooks.md"] = templates.get_template("playbooks.md.j2").render(playbooks=playbooks)
    written["reference/errors.md"] = templates.get_template("errors.md.j2").render(kinds=_error_kinds(root))
    return written


def role_variables(readme: Path) -> str:
    """Return the table of a role's variables, from its argument specification."""
    specification = yaml.safe_load((readme.parent / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    rows = "".join(
        f"| `{name}` | {option.get('type', 'str')} | {_default(option)} | {_markdown(option.get('description', '')).replace('|', chr(92) + '|')} |\n"
        for name, option in specification.get("options", {}).items()
    )
    return f"\n## Variables\n\n| variable | type | default | |\n| --- | --- | --- | --- |\n{rows}" if rows else ""


def _default(option: Mapping) -> str:
    if option.get("required"):
        return "required"
    return f"`{json.dumps(option['default'])}`" if option.get("default") not in (None, "") else ""


def _documented(root: Path, kind: str) -> dict[str, Mapping]:
    """Return what ansible-doc knows of the collection's plugins of a kind, by their short names."""
    ask = ["ansible-doc", "--json", "--type", kind]
    names = json.loads(subprocess.run([*ask, "--list", COLLECTION], cwd=root, check=True, capture_output=True, text=True).stdout)
    found = json.loads(subprocess.run([*ask, *sorted(names)], cwd=root, check=True, capture_output=True, text=True).stdout)
    return {name.removeprefix(f"{COLLECTION}."): plugin for name, plugin in sorted(found.items())}


def _markdown(text: str | list[str]) -> str:
    """Return a description in Ansible's markup as one line of Markdown."""
    paragraphs = parse(text if isinstance(text, list) else [str(text)], Context())
    for paragraph in paragraphs:
        for place, part in enumerate(paragraph):
            # Names that Ansible's markup marks as options, values and variables: all of them code here, without links that differ by page.
            if part.type in {dom.PartType.OPTION_NAME, dom.PartType.RETURN_VALUE, dom.PartType.OPTION_VALUE, dom.PartType.ENV_VARIABLE}:
                value = getattr(part, "value", None)
                name = getattr(part, "name", None)
                paragraph[place] = dom.CodePart(text=name if value is None else f"{name}={value}" if name else value)
    text = " ".join(to_md([paragraph]).strip() for paragraph in paragraphs)
    return _NEEDLESS.sub(r"\1", text)


def _comment(playbook: Path) -> str:
    """Return what the comment at the head of a playbook says, without its licence."""
    head = playbook.read_text().partition("---\n")[0]
    lines = [line.removeprefix("#").removeprefix(" ") for line in head.splitlines()]
    return "\n".join(line for line in lines if "SPDX" not in line and "Copyright" not in line).strip()


def _error_kinds(root: Path) -> dict[str, str]:
    source = (root / "plugins/module_utils/one/transport/errors.py").read_text()
    return dict(re.findall(r'^[A-Z_]+ = "([a-z_]+)"  # (.+)$', source, re.MULTILINE))
