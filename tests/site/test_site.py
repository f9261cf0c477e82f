# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The documentation site that `make site` built: complete, without dead links, and loaded from its own files alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build/site/html"
PAGES = sorted(SITE.rglob("*.html"))
# Attributes whose address a browser loads by itself. A link of <a> is only followed.
LOADS = {"src", "srcset", "poster", "data", "action", "background"}
LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


class Page(HTMLParser):
    """Addresses of a page: what it links to, what it loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.loads |= {values[name] for name in LOADS if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag == "link" and LOADING_LINKS & set(values.get("rel", "").split()):
            self.loads.add(values["href"])


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    assert len(PAGES) > 50
    return {path: Page(path) for path in PAGES}


def test_nothing_is_loaded_from_another_server(pages: dict[Path, Page]) -> None:
    assert {(path.name, address) for path, page in pages.items() for address in page.loads if urlsplit(address).netloc} == set()


def test_style_sheets_load_nothing_from_another_server() -> None:
    sheets = sorted(SITE.rglob("*.css"))
    assert sheets
    assert [(path.name, address) for path in sheets for address in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')]+", path.read_text())] == []


def test_every_link_within_the_site_leads_somewhere(pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are those of a server's root
            continue
        for link in page.links | page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = pages[target].anchors | {"__search", "__toc"} if target in pages else {unquote(parts.fragment)}
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                dead.append((path.name, link))
    assert dead == []


@pytest.mark.parametrize(("folder", "sources"), [("modules", "plugins/modules/*.py"), ("roles", "roles/[a-z]*/README.md")])
def test_everything_that_is_shipped_has_its_page(folder: str, sources: str) -> None:
    names = {path.parent.name if folder == "roles" else path.stem for path in ROOT.glob(sources)}
    assert names
    assert {path.stem for path in (SITE / "reference" / folder).glob("*.html")} == names


def test_every_kind_of_error_is_explained() -> None:
    kinds = re.findall(r'^[A-Z_]+ = "([a-z_]+)"', (ROOT / "plugins/module_utils/one/transport/errors.py").read_text(), re.MULTILINE)
    page = (SITE / "reference/errors.html").read_text()
    assert len(kinds) == 10
    assert [kind for kind in kinds if f"<td><code>{kind}</code></td>" not in page] == []


def test_every_page_can_be_found_from_every_other(pages: dict[Path, Page]) -> None:
    home = pages[SITE / "index.html"]
    linked = {(SITE / unquote(urlsplit(link).path)).resolve() for link in home.links if not urlsplit(link).netloc}
    assert [path for path in PAGES if path.name != "404.html" and path.resolve() not in linked] == []
