# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Writes down what an image holds, as a software bill of materials (CycloneDX 1.6, JSON).

``python contents.py ROOT SBOM --name NAME --uuid UUID``

Debian packages come from dpkg's own list, Python packages from the metadata that pip leaves, Ansible collections from their manifests;
also those inside container images that the image holds.
"""

from __future__ import annotations

import argparse
import email.parser
import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

# Containers that are mounted while the machine runs, if any, would be counted twice.
SKIPPED = {"proc", "sys", "dev", "run", "tmp"}


def components(root: Path) -> list[dict[str, object]]:
    """Return the components below ``root``, each package and version once, in the order of their identifiers."""
    found: dict[str, dict[str, object]] = {}
    for directory, names, files in os.walk(root):
        here = Path(directory)
        if here == root:
            names[:] = [name for name in names if name not in SKIPPED]
        if here.match("var/lib/dpkg") and "status" in files:
            items = _debian(here / "status")
        elif here.suffix == ".dist-info" and "METADATA" in files:
            # Debian's own Python packages are in dpkg's list already.
            items = () if here.parent.name == "dist-packages" else _python(here / "METADATA")
        elif here.parent.parent.name == "ansible_collections" and (manifest := {"MANIFEST.json", "galaxy.yml"}.intersection(files)):
            items = _collection(here / min(manifest))
        else:
            continue
        for item in items:
            found.setdefault(str(item["bom-ref"]), item)
    return [found[key] for key in sorted(found)]


def bill(root: Path, name: str, identity: uuid.UUID) -> dict[str, object]:
    """Return the bill of materials of the root file system in ``root`` as CycloneDX has it."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{identity}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "operating-system", "bom-ref": name, "name": name},
        },
        "components": components(root),
    }


def _debian(status: Path) -> Iterator[dict[str, object]]:
    for paragraph in status.read_text(encoding="utf-8").split("\n\n"):
        fields = email.parser.HeaderParser().parsestr(paragraph)
        if fields.get("Status", "").endswith(" installed"):
            package, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
            reference = f"pkg:deb/debian/{quote(package)}@{quote(version, safe='')}?arch={architecture}"
            yield _component("library", package, version, reference)


def _python(metadata: Path) -> Iterator[dict[str, object]]:
    fields = email.parser.HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
    name, version = fields["Name"].lower().replace("_", "-"), fields["Version"]
    component = _component("library", fields["Name"], version, f"pkg:pypi/{quote(name)}@{quote(version, safe='')}")
    licence = fields.get("License-Expression")
    yield {**component, "licenses": [{"expression": licence}]} if licence else component


def _collection(manifest: Path) -> Iterator[dict[str, object]]:
    text = manifest.read_text(encoding="utf-8")
    if manifest.suffix == ".json":
        information = json.loads(text)["collection_info"]
    else:
        # That of a checkout; three plain lines need no YAML library.
        information = dict(re.findall(r"^(namespace|name|version): *(\S+)", text, re.MULTILINE))
    name, version = f"{information['namespace']}.{information['name']}", information["version"]
    yield _component("library", name, version, f"pkg:generic/{name}@{version}")


def _component(kind: str, name: str, version: str, reference: str) -> dict[str, object]:
    return {"type": kind, "bom-ref": reference, "name": name, "version": version, "purl": reference}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Bill of materials of a root file system.")
    parser.add_argument("root", type=Path)
    parser.add_argument("sbom", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--uuid", type=uuid.UUID, required=True)
    arguments = parser.parse_args()
    made = bill(arguments.root, arguments.name, arguments.uuid)
    arguments.sbom.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(len(made["components"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
