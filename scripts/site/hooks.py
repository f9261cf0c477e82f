# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""MkDocs hooks: which pages the site has beside docs/, in which order, and where links that leave docs/ lead."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import reference

ROOT = Path(__file__).parents[2]
REPOSITORY = re.search(r"^repository: (.+)$", (ROOT / "galaxy.yml").read_text(), re.MULTILINE)[1]
# Sections of the site by folder of docs/, in the order in which they are read. Pages of a section stand in the order given here, others after them.
SECTIONS = {
    "Tutorials": ("tutorials/", ["first-federation", "own-cloud", "own-app", "three-zones", "edge-site", "gpu"]),
    "How-to guides": (
        "",
        ["operation", "use-cases", "strategies", "checkpoints", "images", "machines", "marketplace", "air-gap", "security", "tenancy", "gpu",
         "monitoring", "alerts"],
    ),
    "Explanations": ("explanations/", ["architecture", "sequences"]),
    "Decisions": ("decisions/", ["packaging", "variants", "network", "capacity", "compatibility", "sovereignty"]),
    "Project": ("project/", ["pilot", "workflow", "roadmap", "risks", "questions", "release"]),
    "Reference": (
        "reference/",
        ["index", "parameters", "playbooks", "modules/", "roles/", "inventory/", "filters/", "callbacks/", "events", "metrics", "errors"],
    ),
}
# Files of the repository that are pages of the site. Those of docs/ are under their own names.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "project/contributing.md", "SECURITY.md": "project/reporting.md", "CHANGELOG.md": "project/changelog.md"}
ELSEWHERE = {"parameters.md": "Reference", "events.md": "Reference", "metrics.md": "Reference", "style.md": "Project"}
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
_LOG = get_plugin_logger("site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated, and those that lie elsewhere in the repository."""
    for role in sorted(ROOT.glob("roles/[a-z]*/README.md")):
        PAGES[role.relative_to(ROOT).as_posix()] = f"reference/roles/{role.parent.name}.md"
    for source, page in PAGES.items():
        text = (ROOT / source).read_text()
        if page.startswith("reference/roles/"):
            text += reference.role_variables(ROOT / source)
        files.append(File.generated(config, page, content=text))
    for page, text in reference.pages(ROOT).items():
        files.append(File.generated(config, page, content=text))
    config.nav = _nav([file.src_uri for file in files.documentation_pages()])
    return files


def _nav(pages: list[str]) -> list:
    nav: list = [{"Home": "index.md"}]
    left = set(pages) - {"index.md"}
    for section, (folder, first) in SECTIONS.items():
        own = [page for page in left if ELSEWHERE.get(page) == section or (page not in ELSEWHERE and _is_in(page, folder))]
        order = {name: place for place, name in enumerate(first)}
        own.sort(key=lambda page: (min((place for name, place in order.items() if _is_of(page.removeprefix(folder), name)), default=len(order)), page))
        left -= set(own)
        nav.append({section: _grouped(own, folder)})
    return nav


def _is_of(page: str, name: str) -> bool:
    return page.startswith(name) if name.endswith("/") else page == f"{name}.md"


def _is_in(page: str, folder: str) -> bool:
    return page.startswith(folder) if folder else "/" not in page


def _grouped(pages: list[str], folder: str) -> list:
    """Put pages of a folder within a section under the folder's name."""
    groups: dict[str, list[str]] = {}
    entries: list = []
    for page in pages:
        name, inside, _rest = page.removeprefix(folder).partition("/")
        if not inside or not page.startswith(folder):
            entries.append(page)
        else:
            if name not in groups:
                groups[name] = []
                entries.append({name.capitalize(): groups[name]})
            groups[name].append(page)
    return entries


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files outside docs/ to their pages, or to the repository."""
    source = _source(page.file.src_uri)
    if source is None:
        return markdown
    return _LINK.sub(lambda match: match[1] + _target(match[2], source, page.file.src_uri) + match[3], markdown)


def _source(page: str) -> str | None:
    """Return where a page lies in the repository, nothing for one that is generated."""
    for source, target in PAGES.items():
        if target == page:
            return source
    return f"docs/{page}" if (ROOT / "docs" / page).exists() else None


def _target(link: str, source: str, page: str) -> str:
    path, hash_, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", link):
        return link
    path = normpath(join(dirname(source), path))
    if not (ROOT / path).exists():
        _LOG.warning(f"{source} links to {path}, which does not exist")
    target = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") and (ROOT / path).is_file() else None)
    if target is None:
        return f"{REPOSITORY}/blob/main/{path}{hash_}{anchor}"
    return relpath(target, dirname(page) or ".") + hash_ + anchor
