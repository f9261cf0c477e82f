# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules whose options that are dictionaries take text in OpenNebula's syntax as well."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from .one.transport.errors import INVALID


class DictModule(AnsibleModule):
    """An Ansible module that understands text in the place of a dictionary, or refuses it in one sentence."""

    def __init__(self, argument_spec: dict, **kwargs: object) -> None:
        self._fault = ""
        super().__init__(argument_spec=argument_spec, **kwargs)
        if self._fault:
            self.fail_json(msg=f"{self._fault}.", error={"kind": INVALID})

    def _load_params(self) -> None:
        """Read the parameters, before Ansible checks their types."""
        super()._load_params()
        if _has_text(self.argument_spec, self.params):
            from .dict_texts import read

            self._fault = read(self.argument_spec, self.params)


def _has_text(argument_spec: dict, params: dict) -> bool:
    """Tell whether a parameter that should be a dictionary, or several, is text or has text in it."""
    for name, option in argument_spec.items():
        if "dict" not in (option.get("type"), option.get("elements")):
            continue
        for value in (params.get(key) for key in (name, *option.get("aliases", ()))):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str) or (isinstance(item, dict) and _has_text(option.get("options") or {}, item)):
                    return True
    return False
