# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts an operator's own Flower App where the SuperLink sees it: fetched, unpacked, checked and pinned."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..flower.app_source import DIRECTORY, FAB, GIT, AppSource, parse_source

try:
    import tomllib
except ImportError:  # Python below 3.11, where nothing stages apps
    tomllib = None  # type: ignore[assignment]

# Flower takes at most 10 MiB of packed app; what is much larger is something else.
_MOST_BYTES = 64 << 20
_MOST_FILES = 5000
_LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".venv", "*.pyc")
_GIT_SECONDS = 120


class AppError(Exception):
    """An app cannot be used; the message says why. ``temporary``: it may be there later."""

    def __init__(self, message: str, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


@dataclass(frozen=True)
class StagedApp:
    """An app that is ready to be submitted: which version of it this is, and the run configuration it knows."""

    version: str
    config: Mapping[str, Any]


def stage(source: str, target: Path) -> StagedApp:
    """Bring an app into a new directory, which appears in one step, with what it holds readable by everybody.

    Raises AppError.
    """
    try:
        parsed = parse_source(source)
    except ValueError as problem:
        raise AppError(f"app '{source}': {problem}") from None
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        version = _BRINGERS[parsed.kind](parsed, partial)
        staged = StagedApp(version, read_config(partial))
        _open_to_all(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    except OSError as problem:
        # Copying a directory makes one error of all, without a number.
        full = any(os.strerror(number) in str(problem) for number in (errno.ENOSPC, errno.EDQUOT))
        raise AppError(f"app '{source}': {problem.filename or partial}: {problem.strerror or problem}", temporary=full) from None
    except AppError as problem:
        raise AppError(f"app '{source}': {problem}", problem.temporary) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return staged


def read_config(directory: Path) -> Mapping[str, Any]:
    """Return the run configuration that an app declares; AppError when the directory holds no Flower App."""
    project = directory / "pyproject.toml"
    if project.is_symlink() or not project.is_file():
        raise AppError("there is no pyproject.toml in it")
    try:
        content = tomllib.loads(project.read_text(encoding="utf-8"))
        app = content["tool"]["flwr"]["app"]
        if not {"serverapp", "clientapp"} <= app["components"].keys():
            raise KeyError("components")
        config = app.get("config", {})
        return config if isinstance(config, dict) else {}
    except (ValueError, RecursionError) as problem:
        raise AppError(f"its pyproject.toml cannot be read: {problem}") from None
    except (KeyError, TypeError, AttributeError):
        raise AppError("its pyproject.toml names no serverapp and clientapp in [tool.flwr.app.components]") from None


def _copy(source: AppSource, target: Path) -> str:
    directory = Path(source.place)
    if not directory.is_dir():
        raise AppError("there is no such directory on the SuperLink's VM")
    _check_size(directory)
    # Links stay links: what they lead to on this machine is not the app's.
    shutil.copytree(directory, target, symlinks=True, ignore=_LEFT_OUT)
    return "directory"


def _unpack(source: AppSource, target: Path) -> str:
    try:
        with zipfile.ZipFile(source.place) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_members(members)
            for member in members:
                path = target / member.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, path.open("xb") as file:
                    shutil.copyfileobj(packed, file)
    except FileNotFoundError:
        raise AppError("there is no such file on the SuperLink's VM") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as problem:
        raise AppError(f"it is not a readable FAB: {problem}") from None
    return "FAB"


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MOST_FILES or sum(member.file_size for member in members) > _MOST_BYTES:
        raise AppError(f"it unpacks to more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB")
    for member in members:
        path = PurePosixPath(member.filename)
        link = stat.S_ISLNK(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or link:
            raise AppError(f"it is not safe to unpack: {member.filename!r} leads out of it")


def _clone(source: AppSource, target: Path) -> str:
    checkout = target.with_name(f"{target.name}.git")
    shutil.rmtree(checkout, ignore_errors=True)
    try:
        _git("init", "--quiet", str(checkout))
        _git("-C", str(checkout), "fetch", "--quiet", "--depth", "1", "--no-tags", "--", source.place, source.ref)
        _git("-C", str(checkout), "-c", "core.symlinks=true", "checkout", "--quiet", "--detach", "FETCH_HEAD")
        commit = _git("-C", str(checkout), "rev-parse", "HEAD").strip()
        directory = checkout / source.subdirectory
        if not directory.is_dir() or not directory.resolve().is_relative_to(checkout.resolve()):
            raise AppError(f"there is no directory '{source.subdirectory}' at commit {commit}")
        _check_size(directory)
        shutil.copytree(directory, target, symlinks=True, ignore=_LEFT_OUT)
    finally:
        shutil.rmtree(checkout, ignore_errors=True)
    return f"commit {commit}"


def _git(*arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:ssh:file",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "LC_ALL": "C.UTF-8",
    }
    try:
        done = subprocess.run(
            # What another machine sends is read without the rights that this process may have.
            ["setpriv", "--ambient-caps=-all", "--", "git", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AppError(f"git did not end within {_GIT_SECONDS} s", temporary=True) from None
    except OSError as problem:
        raise AppError(f"git cannot be run: {problem.strerror}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))] or ["no reason given"]
        raise AppError(f"git could not fetch it: {' '.join(lines[0].split())}", temporary=True)
    return done.stdout


def _check_size(directory: Path) -> None:
    files = size = 0
    for root, directories, names in os.walk(directory):
        left_out = _LEFT_OUT(root, directories + names)
        directories[:] = [name for name in directories if name not in left_out]
        files += len(names)
        size += sum(os.lstat(os.path.join(root, name)).st_size for name in names if name not in left_out)
        if files > _MOST_FILES or size > _MOST_BYTES:
            raise AppError(f"it holds more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB; data does not belong in an app")


def _open_to_all(directory: Path) -> None:
    """Flower reads the app as another user; only its owner may change it."""
    directory.chmod(0o755)
    for root, directories, names in os.walk(directory):
        for name in directories + names:
            path = os.path.join(root, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if name in directories else 0o644)


_BRINGERS = {DIRECTORY: _copy, FAB: _unpack, GIT: _clone}
