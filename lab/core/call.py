# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""One API call: who asks, what they may do, and the checks every resource needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.errors import TemplateSyntaxError
from ansible_collections.opennebula.flower.plugins.module_utils.one.transport.template import parse
from lab.core import rights
from lab.core.errors import ALLOCATE, AUTHORIZATION, INTERNAL, NO_EXISTS, OneError
from lab.core.kinds import KINDS

if TYPE_CHECKING:
    from lab.core.api import Core

LONGEST_NAME = 128
#: characters no name has, besides control characters where the release minds them
_NOT_IN_NAMES = "&|:\\\";/'#{}$<>"
#: what a lock of a level stops: everything, management, or administration; a right that ends like this goes on
UNLOCKED = "_NO_LCK"
_WEIGHTS = {"USE": 1, "MANAGE": 2, "ADMIN": 4, "CREATE": 8}


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
            which = "Pool." if object_id == -1 else f"[{object_id}]."
            raise OneError(NO_EXISTS, f"Error getting {KINDS[kind].label} {which}", object_id)
        return item

    def get(self, kind: str, object_id: int, right: str = "USE") -> dict:
        """Return an object. Raises OneError when there is none or the user lacks the right."""
        item = self.find(kind, object_id) if object_id >= 0 else None
        self.authorize((right, kind, item))
        return item or self.find(kind, object_id)

    def authorize(self, *demands: tuple[str, str, dict | None]) -> None:
        """Check (right, kind, object) for each demand, object None for CREATE. Raises OneError naming all refused."""
        refused = [
            self._refusal(right.removesuffix(UNLOCKED), kind, item) + (f" [{item['id']}]" if item else "")
            for right, kind, item in demands
            if not self.may(right, kind, item)
        ]
        if refused:
            raise OneError(AUTHORIZATION, f"User [{self.user['id']}] : {'; '.join(refused)}.")

    def _refusal(self, right: str, kind: str, item: dict | None) -> str:
        locked = self.is_admin and item is not None
        return f"{KINDS[kind].auth} is locked." if locked else f"Not authorized to perform {right} {KINDS[kind].auth}"

    def may(self, right: str, kind: str, item: dict | None) -> bool:
        """Whether the user has a right on an object, None for CREATE; a lock holds even administrators off."""
        if not right.endswith(UNLOCKED) and item is not None and 0 < item.get("lock", {}).get("LOCKED", 0) <= _WEIGHTS[right]:
            return False
        right = right.removesuffix(UNLOCKED)
        return self.is_admin or rights.allows(self.core, self.user, right, KINDS[kind], item)

    def check_name(
        self, kind: str, name: str, code: int, prefix: str = "", more: str = "", end: str = "", unique: bool = True
    ) -> None:
        """Refuse names that are empty, contain forbidden characters (and those in `more`), are too long or taken.

        unique: whether names are compared. Raises OneError with the given code.
        """
        problem = name_problem(self.core.config.release.not_in_names + more, name)
        if problem:
            raise OneError(code, f"{prefix}{problem}{end}")
        taken = self.owner_of_name(kind, name, self.user["id"]) if unique else None
        if taken is not None:
            raise OneError(code, f"{prefix}NAME is already taken by {KINDS[kind].taken or KINDS[kind].auth + ' {}.'}".format(taken))

    @contextmanager
    def making(self, kind: str, copying: bool = False) -> Iterator[None]:
        """Refuse an object that cannot be made, or copied, as the release does: some it names, of others it says the reason alone. Raises OneError."""
        release = self.core.config.release
        try:
            yield
        except OneError as error:
            if error.code != INTERNAL or not (release.names_copies if copying else kind in release.names_new):
                raise
            raise OneError(ALLOCATE, f"Error allocating a new {KINDS[kind].label}. {error.message}", error.object_id) from None

    def owner_of_name(self, kind: str, name: str, owner: int | None) -> int | None:
        """Return the id of the object that keeps another one of this owner from having a name, None if it is free."""
        scope = KINDS[kind].unique
        return next(
            (item["id"] for item in self.core.store.all(kind) if scope
             and item["name"] == name and (scope == "zone" or item["uid"] == owner)), None,
        )

    def new(self, kind: str, name: str, at_least: int = 0, **fields: object) -> dict:
        """Return a new object of the user's with the next id, not saved yet."""
        item = {"id": self.core.store.new_id(kind, at_least), "name": name}
        if KINDS[kind].permissions:
            item |= {"uid": self.user["id"], "gid": self.user["gid"], "permissions": KINDS[kind].permissions}
        return item | fields


def name_problem(forbidden: str, name: str) -> str:
    """Return what is wrong with a name in oned's words, empty if nothing is."""
    if not name:
        return "Invalid NAME, it cannot be empty"
    wrong = next((character for character in name if character in _NOT_IN_NAMES or character in forbidden), None)
    if wrong is not None:
        return f"Invalid NAME, char '{wrong}' is not allowed"
    if len(name.encode()) > LONGEST_NAME:
        return f"Invalid NAME, max length is {LONGEST_NAME} chars"
    return ""


def parse_template(text: str, code: int = INTERNAL, prefix: str = "") -> dict:
    """Return the attributes of a template. Raises OneError with the server's words for a syntax error."""
    try:
        template = parse(text)
    except TemplateSyntaxError as error:
        raise OneError(code, f"{prefix}Parse error: {error}") from error
    for vector in (item for value in template.values() for item in as_list(value) if isinstance(item, dict)):
        wrong = next((name for name in vector if name[:1].isdigit()), None)
        # A document with such an element is none, and neither is any list with it.
        if wrong is not None:
            raise OneError(code, f"{prefix}Parse error: {wrong!r} is not a valid attribute name: it begins with a digit")
    return template


def text_of(template: dict, name: str, otherwise: str = "") -> str:
    """Return an attribute that oned reads as a text: the first of several, nothing for a vector."""
    first = next(iter(as_list(template.get(name))), None)
    return first if isinstance(first, str) else otherwise


def vectors_of(template: dict, name: str) -> list[dict]:
    """Return an attribute that oned reads as vectors; texts of this name are nothing to it."""
    return [value for value in as_list(template.get(name)) if isinstance(value, dict)]


def settle(template: dict, texts: Iterable[str] = (), vectors: Iterable[str] = ()) -> dict:
    """Make of attributes what oned reads in them, in place: texts, and vectors; what is neither is not there."""
    for name in template.keys() & {*texts}:
        text = text_of(template, name, "\0")
        if text == "\0":
            del template[name]
        else:
            template[name] = text
    for name in template.keys() & {*vectors}:
        found = vectors_of(template, name)
        if found:
            template[name] = found if isinstance(template[name], list) else found[0]
        else:
            del template[name]
    return template


def as_list(value: object) -> list:
    """Return the values of an attribute that may be absent, single or repeated."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
