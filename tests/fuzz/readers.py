# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Strict readers of the files that the roles write: what a program would see in them, as lists and dictionaries.

They know nothing of the templates. What a program might read in two ways is an error.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import yaml

_SECTIONS = ("Unit", "Service", "Install", "Mount", "Timer")
# What writes the log as objects is told the name of the unit by systemd.
_NAME_OF_UNIT = ("/opt/flower/bin/flower-log", "%N")
_UNIT_WORDS = re.compile(r"(Exec[A-Z][A-Za-z]*|Environment)")
_UNIT_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "r": "\r", "t": "\t", "s": " "}
_UNIT_WORD = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"'\\]+))(?=[ \t]|$)""")
_PAIR_OF_FLOWER = re.compile(r"(\S+?)=('[^']*'|\"[^\"]*\"|\S+)")
_HAPROXY_WORD = re.compile(r"""[ \t]*(?:"([^"$\\]*)"|'([^']*)'|((?:[^\s"'\\#]|\\[^xX])+))(?=[ \t]|$)""")
_NFT_WORD = re.compile(r'[ \t]*("[^"]*"|[{};]|[^\s"{};#]+)')
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----\n((?:[!-,.-~][ -~]*\n)+)-----END \1-----\n")


class ReadError(Exception):
    """A file is not what it should be."""


def read(name: str, text: str) -> Any:
    """Return what is in the file of this name."""
    return _reader(name)(text)


def _reader(name: str) -> Callable[[str], Any]:
    ending = name.rpartition(".")[2]
    return _READERS.get(ending, certificates)


def unit(text: str) -> list[tuple[str, str, Any]]:
    """Return the settings of a unit of systemd in order: section, name, and a text or the words of a command or environment."""
    found: list[tuple[str, str, Any]] = []
    section = ""
    for line in _unit_lines(text):
        name, equal, value = line.partition("=")
        if line.startswith("["):
            section = line[1:-1]
            if line != f"[{section}]" or section not in _SECTIONS:
                raise ReadError(f"no section: {line!r}")
        elif not section or not equal or not re.fullmatch(r"[A-Z][A-Za-z0-9]+", name):
            raise ReadError(f"no setting: {line!r}")
        elif _UNIT_WORDS.fullmatch(name):
            words = _words(_UNIT_WORD, value, _unescaped)
            words = [word if (before, word) == _NAME_OF_UNIT else _without_specifiers(word, name) for before, word in zip(["", *words], words, strict=False)]
            found.append((section, name, [_configured(before, word) for before, word in zip(["", *words], words, strict=False)]))
        else:
            if set('%\\"$') & set(value) and not re.fullmatch(r"[0-9]+%", value):
                raise ReadError(f"a text that systemd changes: {line!r}")
            found.append((section, name, value))
    return found


def _unit_lines(text: str) -> Iterator[str]:
    """The lines of a unit that say something, those that belong together as one."""
    whole = ""
    for line in _lines(text):
        if line.lstrip().startswith(("#", ";")) or (not line.strip() and not whole):
            continue
        if line.endswith("\\"):
            whole += line[:-1]
            continue
        yield whole + line
        whole = ""
    if whole:
        raise ReadError("the last line goes on")


def _lines(text: str) -> list[str]:
    """The lines of a text in which no program sees another line end."""
    lines = text.split("\n")
    wrong = [line for line in lines if not line.replace("\t", " ").isprintable()]
    if wrong:
        raise ReadError(f"control characters: {wrong[0]!r}")
    return lines


def _words(pattern: re.Pattern[str], line: str, unquote: Callable[[str], str]) -> list[str]:
    """The words of a line. What is in the last group of the pattern is not quoted."""
    words, position = [], 0
    line = line.rstrip(" \t")
    while position < len(line):
        match = pattern.match(line, position)
        if not match:
            raise ReadError(f"no word: {line[position:]!r}")
        words.append(unquote(next(group for group in match.groups() if group is not None)))
        position = match.end()
    return words


def _unescaped(word: str) -> str:
    return re.sub(r"\\(U[0-9a-f]{8}|.)", _unescaped_character, word)


def _unescaped_character(match: re.Match[str]) -> str:
    escape = match[1]
    if escape in _UNIT_ESCAPES:
        return _UNIT_ESCAPES[escape]
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    raise ReadError(f"no escape: {match[0]!r}")


def _without_specifiers(word: str, name: str) -> str:
    """The word as systemd hands it on: %% is a percent sign and, in commands, $$ a dollar sign."""
    word = _undoubled(word, "%")
    return word if name == "Environment" else _undoubled(word, "$")


def _undoubled(word: str, sign: str) -> str:
    pieces = word.split(sign * 2)
    if any(sign in piece for piece in pieces):
        raise ReadError(f"a text that systemd replaces: {word!r}")
    return sign.join(pieces)


def _configured(before: str, word: str) -> Any:
    """A word of a command, or the configuration of a node as Flower finds it in one."""
    return flower_config(word) if before == "--node-config" else word


def flower_config(line: str) -> dict[str, Any]:
    """Return the pairs of a line as Flower reads them; an error if it leaves something of the line out."""
    pairs = _PAIR_OF_FLOWER.findall(line)
    if " ".join(f"{key}={value}" for key, value in pairs) != line:
        raise ReadError(f"Flower leaves something out of {line!r}")
    return tomllib.loads("\n".join(f"{key} = {value}" for key, value in pairs))


def haproxy(text: str) -> list[list[str]]:
    """Return the words of each line of HAProxy's configuration."""
    lines = (_words(_HAPROXY_WORD, line, _without_backslashes) for line in _lines(text) if not line.lstrip().startswith("#"))
    return [words for words in lines if words]


def _without_backslashes(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word)


def rules(text: str) -> list[list[str]]:
    """Return the words of each line of nftables' rules, whose braces are balanced."""
    found = [_words(_NFT_WORD, line, str) for line in _lines(text) if not line.lstrip().startswith("#")]
    depth = 0
    for word in (word for line in found for word in line):
        depth += {"{": 1, "}": -1}.get(word, 0)
        if depth < 0:
            raise ReadError("more braces closed than opened")
    if depth:
        raise ReadError("more braces opened than closed")
    return [line for line in found if line]


def certificates(text: str) -> str:
    """Return a text of nothing but certificates and keys in PEM, or of nothing."""
    if _PEM.sub("", text).strip():
        raise ReadError(f"no PEM: {text!r}")
    return text


def directories(text: str) -> list[list[str]]:
    """Return the words of each line of systemd-tmpfiles' configuration."""
    found = [line.split() for line in _lines(text)]
    if re.search(r"[%\"'\\]", text):
        raise ReadError(f"a text that systemd-tmpfiles changes: {text!r}")
    return [words for words in found if words]


def toml(text: str) -> dict[str, Any]:
    """Return what is in a TOML file."""
    return tomllib.loads(text)


def document(text: str) -> Any:
    """Return what is in a JSON file, which holds no name twice and nothing that JSON does not know."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _value in pairs]
    if len(set(names)) < len(names):
        raise ReadError(f"a name twice: {names}")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ReadError(f"no JSON: {name}")


_READERS: dict[str, Callable[[str], Any]] = {
    "service": unit, "timer": unit, "mount": unit, "cfg": haproxy, "nft": rules, "json": document, "toml": toml, "yml": yaml.safe_load,
    "conf": directories,
}  # fmt: skip
