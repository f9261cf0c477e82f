# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One API call: who asks, what they may do, and the checks every resource needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.opennebula.flower.plugins.module_utils.one.errors import TemplateSyntaxError
from ansible_collections.opennebula.flower.plugins.module_utils.one.template import parse
from lab.core import rights
from lab.core.errors import AUTHORIZATION, INTERNAL, NO_EXISTS, OneError
from lab.core.kinds import KINDS

if TYPE_CHECKING:
    from lab.core.api import Core

_MAX_NAME = 128


@dataclass
class Call:
    """The core, and the user who calls."""

    core: Core
    user: dict

    @property
    def is_admin(self) -> bool:
        """Whether the user belongs to the group oneadmin, which may do everything."""
        return 0 in self.user["groups"]

    def find(self, kind: str, object_id: int) -> dict:
        """Return an object whoever asks. Raises OneError when there is none."""
        item = self.core.store.get(kind, object_id)
        if item is None:
            raise OneError(NO_EXISTS, f"Error getting {KINDS[kind].label} [{object_id}].", object_id)
        return item

    def get(self, kind: str, object_id: int, right: str = "USE") -> dict:
        """Return an object. Raises OneError when there is none or the user lacks the right."""
        item = self.find(kind, object_id)
        self.authorize((right, kind, item))
        return item

    def authorize(self, *demands: tuple[str, str, dict | None]) -> None:
        """Check (right, kind, object) for each demand, object None for CREATE. Raises OneError naming all refused."""
        refused = [
            f"Not authorized to perform {right} {KINDS[kind].auth}" + (f" [{item['id']}]" if item else "")
            for right, kind, item in demands
            if not self.may(right, kind, item)
        ]
        if refused:
            raise OneError(AUTHORIZATION, f"User [{self.user['id']}] : {'; '.join(refused)}.")

    def may(self, right: str, kind: str, item: dict | None) -> bool:
        """Whether the user has a right on an object, None for CREATE."""
        return self.is_admin or rights.allows(self.core, self.user, right, KINDS[kind], item)

    def check_name(self, kind: str, name: str, code: int, prefix: str = "", owner: int | None = None) -> None:
        """Refuse empty, too long and taken names. Raises OneError with the given code."""
        if not name:
            raise OneError(code, f"{prefix}Invalid NAME, it cannot be empty")
        if len(name) > _MAX_NAME:
            raise OneError(code, f"{prefix}Invalid NAME, max length is {_MAX_NAME} chars")
        scope = KINDS[kind].unique
        owner = self.user["id"] if owner is None else owner
        for item in self.core.store.all(kind) if scope else ():
            if item["name"] == name and (scope == "zone" or item["uid"] == owner):
                raise OneError(code, f"{prefix}NAME is already taken by {KINDS[kind].auth} {item['id']}.")

    def new(self, kind: str, name: str, at_least: int = 0, **fields: object) -> dict:
        """Return a new object of the user's with the next id, not saved yet."""
        item = {"id": self.core.store.new_id(kind, at_least), "name": name}
        if KINDS[kind].permissions:
            item |= {"uid": self.user["id"], "gid": self.user["gid"], "permissions": KINDS[kind].permissions}
        return item | fields


def parse_template(text: str, code: int = INTERNAL, prefix: str = "") -> dict:
    """Return the attributes of a template. Raises OneError with the server's words for a syntax error."""
    try:
        return parse(text)
    except TemplateSyntaxError as error:
        raise OneError(code, f"{prefix}Parse error: {error}") from error


def as_list(value: object) -> list:
    """Return the values of an attribute that may be absent, single or repeated."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
