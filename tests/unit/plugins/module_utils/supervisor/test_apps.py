# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Staging an operator's own app, with real archives and real git repositories."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import apps
from ansible_collections.opennebula.flower.plugins.module_utils.supervisor.apps import AppError, stage

PROJECT = """
[tool.flwr.app.components]
serverapp = "mine.server:app"
clientapp = "mine.client:app"
[tool.flwr.app.config]
learning-rate = 0.1
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    directory = tmp_path / "mine"
    (directory / "mine").mkdir(parents=True)
    (directory / "pyproject.toml").write_text(PROJECT)
    (directory / "mine/server.py").write_text("app = 1\n")
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "apps").mkdir()
    return tmp_path / "apps/run"


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(directory: Path) -> str:
    if not (directory / ".git").exists():
        git(directory, "init", "--quiet")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", "a change")
    return git(directory, "rev-parse", "HEAD")


def fab(path: Path, **members: str) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"pyproject.toml": PROJECT, **members}.items():
            archive.writestr(name, content)
    return str(path)


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


def test_a_directory_is_copied_without_what_does_not_belong_to_an_app(app: Path, target: Path) -> None:
    commit(app)
    (app / "mine/__pycache__").mkdir()
    (app / "mine/__pycache__/server.pyc").write_text("")
    staged = stage(str(app), target)
    assert names(target) == ["mine/server.py", "pyproject.toml"]
    assert staged.config == {"learning-rate": 0.1}


def test_what_is_staged_is_readable_by_all_and_writable_by_its_owner_only(app: Path, target: Path) -> None:
    (app / "mine/server.py").chmod(0o600)
    (app / "mine").chmod(0o700)
    stage(str(app), target)
    assert [stat.S_IMODE((target / name).stat().st_mode) for name in (".", "mine", "mine/server.py")] == [0o755, 0o755, 0o644]


def test_links_are_kept_as_links_and_what_they_lead_to_is_left_alone(app: Path, target: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "key").write_text("secret")
    (private / "key").chmod(0o600)
    (app / "mine/directory").symlink_to(private)
    (app / "mine/file").symlink_to(private / "key")
    stage(str(app), target)
    assert (target / "mine/directory").is_symlink() and (target / "mine/file").is_symlink()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (private, private / "key")] == [0o700, 0o600]


def test_a_fab_is_unpacked(target: Path, tmp_path: Path) -> None:
    stage(fab(tmp_path / "mine.fab", **{"mine/server.py": "app = 1"}), target)
    assert names(target) == ["mine/server.py", "pyproject.toml"]


@pytest.mark.parametrize("name", ["../escaped.py", "/tmp/escaped.py", "mine/../../escaped.py", "..\\escaped.py"])
def test_a_fab_that_leads_out_of_its_directory_is_refused(target: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(AppError, match="leads out of it"):
        stage(fab(tmp_path / "mine.fab", **{name: "x"}), target)
    assert names(tmp_path / "apps") == []
    assert not list(tmp_path.rglob("escaped.py"))


def test_a_link_in_a_fab_is_refused(target: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.fab"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pyproject.toml", PROJECT)
        link = zipfile.ZipInfo("data")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    with pytest.raises(AppError, match="leads out of it"):
        stage(str(path), target)


def test_what_is_too_large_is_refused_before_it_is_unpacked_or_copied(app: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "_MOST_BYTES", 1000)
    (app / "data.csv").write_text("0" * 2000)
    with pytest.raises(AppError, match="data does not belong in an app"):
        stage(str(app), target)
    with pytest.raises(AppError, match="it unpacks to more than"):
        stage(fab(tmp_path / "mine.fab", **{"data.csv": "0" * 2000}), target)


def test_a_file_that_is_no_fab_is_refused(target: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.fab").write_text("not a zip")
    with pytest.raises(AppError, match="it is not a readable FAB"):
        stage(str(tmp_path / "mine.fab"), target)


def test_a_branch_is_fetched_and_its_commit_is_told(app: Path, target: Path) -> None:
    first = commit(app)
    (app / "later.py").write_text("")
    second = commit(app)
    assert stage(f"file://{app}", target).version == f"commit {second}"
    assert "later.py" in names(target)
    assert stage(f"file://{app}@{first}", target).version == f"commit {first}"
    assert "later.py" not in names(target)


def test_a_tag_and_a_directory_in_the_repository(app: Path, target: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "apps").mkdir(parents=True)
    app.rename(repository / "apps/mine")
    expected = commit(repository)
    git(repository, "tag", "v1")
    commit(repository)
    assert stage(f"file://{repository}@v1#subdirectory=apps/mine", target).version == f"commit {expected}"
    assert names(target) == ["mine/server.py", "pyproject.toml"]
    with pytest.raises(AppError, match="there is no directory 'apps/other'"):
        stage(f"file://{repository}@v1#subdirectory=apps/other", target)


def test_a_link_to_outside_is_no_subdirectory(app: Path, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "pyproject.toml").write_text(PROJECT)
    (app / "link").symlink_to(outside)
    commit(app)
    with pytest.raises(AppError, match="there is no directory 'link'"):
        stage(f"file://{app}#subdirectory=link", target)


def test_hooks_of_a_repository_are_not_run(app: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = tmp_path / "template/hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "post-checkout").chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    commit(app)
    stage(f"file://{app}", target)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("source", ["file:///nowhere/app.git", "https://127.0.0.1:1/app.git"])
def test_a_repository_that_cannot_be_reached_is_one_sentence_and_may_come_back(target: Path, source: str) -> None:
    with pytest.raises(AppError, match="git could not fetch it: fatal: ") as error:
        stage(source, target)
    assert error.value.temporary
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no pyproject.toml in it"),
        ("not [ toml", "cannot be read"),
        ("[project]\nname = 'x'\n", r"names no serverapp and clientapp"),
        ("[tool.flwr.app.components]\nserverapp = 'x'\n", r"names no serverapp and clientapp"),
    ],
)
def test_a_directory_that_is_no_flower_app_is_refused_and_leaves_nothing(app: Path, target: Path, content: str | None, why: str) -> None:
    (app / "pyproject.toml").unlink()
    if content is not None:
        (app / "pyproject.toml").write_text(content)
    with pytest.raises(AppError, match=why) as error:
        stage(str(app), target)
    assert not error.value.temporary
    assert list(target.parent.iterdir()) == []


def test_a_source_that_is_not_there_is_named(target: Path) -> None:
    with pytest.raises(AppError, match="app '/nowhere/app': there is no such directory on the SuperLink's VM"):
        stage("/nowhere/app", target)
    with pytest.raises(AppError, match="app '/nowhere/app.fab': there is no such file on the SuperLink's VM"):
        stage("/nowhere/app.fab", target)


def test_a_full_disk_is_no_fault_of_the_app(app: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_places: object, **_how: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)  # of which copytree makes an error without a number
    with pytest.raises(AppError, match="No space left on device") as caught:
        stage(str(app), target)
    assert caught.value.temporary


def test_a_deep_configuration_of_an_app_is_refused(app: Path, target: Path) -> None:
    (app / "pyproject.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(AppError, match=r"its pyproject.toml cannot be read") as caught:
        stage(str(app), target)
    assert not caught.value.temporary
