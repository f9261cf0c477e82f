# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of a federated training, as lines and as a page that a browser reads again and again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.template import Templar
from ansible.utils.display import Display
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.protocol import ENDED
from ansible_collections.opennebula.flower.plugins.plugin_utils.progress import ProgressActionBase

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19, where every text of a plugin is trusted

    def trust_as_template(value: str) -> str:
        """Return a text that may be a template."""
        return value


class ActionModule(ProgressActionBase):
    """Runs the module flower_run."""

    _page: Page | None = None

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict:
        """Return the module's result; a page that was written says at its end that nobody follows the run any more."""
        settings = self._task.args.get("live_page")
        if isinstance(settings, dict) and settings.keys() == {"dest", "template"}:
            self._page = Page(settings, self._loader, task_vars or {})
        result = super().run(tmp, task_vars)
        if self._page:
            self._page.close()
        return result

    def show(self, document: dict[str, Any]) -> None:
        """Write the page."""
        if self._page:
            self._page.write(document["run"])


class Page:
    """A page that shows a run while it goes on. What goes wrong with it is a warning, and the training goes on."""

    def __init__(self, settings: Mapping[str, str], loader: Any, variables: Mapping[str, Any]) -> None:
        self._dest = Path(settings["dest"])
        self._template = settings["template"]
        self._loader = loader
        self._variables = variables
        self._run: dict[str, Any] | None = None
        self._problem = ""

    def write(self, run: dict[str, Any]) -> None:
        """Write the page unless the run has ended before anybody looked."""
        if run["status"] not in ENDED or self._run:
            self._run = run
            self._put(followed=run["status"] not in ENDED)

    def close(self) -> None:
        """Let browsers no longer look for news."""
        if self._run and self._run["status"] not in ENDED:
            self._put(followed=False)

    def _put(self, followed: bool) -> None:
        try:
            _replace(self._dest, self._rendered({"flower_run": wrap_var(self._run), "flower_run_followed": followed}))
        except (AnsibleError, OSError) as problem:
            if str(problem) != self._problem:
                Display().warning(f"The page {self._dest} cannot be written while the run goes on: {problem}")
            self._problem = str(problem)

    def _rendered(self, known: Mapping[str, Any]) -> str:
        variables = {**self._variables, **known, "flower_run_template": self._template}
        return Templar(loader=self._loader, variables=variables).template(
            trust_as_template("{{ lookup('ansible.builtin.template', flower_run_template) }}")
        )


def _replace(path: Path, text: str) -> None:
    """Put a file in place in one step, so that whoever reads it finds the whole."""
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise
