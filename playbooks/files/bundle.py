# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Packs what a zone without a network needs into one archive, and unpacks it there.

``python bundle.py make ARCHIVE FACTS``        FACTS: JSON object with ``manifests`` (paths of images' manifests), ``collections`` (names), ``wheels``
                                               (directory) and ``readme`` (text)
``python bundle.py unpack ARCHIVE DIRECTORY``  every file is compared with its checksum before the directory has its name

Both print ``unchanged`` when nothing had to be done, and end with status 1 and one sentence when something is wrong.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SUMS = "SHA256SUMS"
# Nothing else is in a bundle.
MEMBER = re.compile(r"README\.md|(images|collections|wheels)/[A-Za-z0-9][A-Za-z0-9._+-]*")
_LONGEST_SUMS = 1 << 20
_CHUNK = 1 << 20


class BundleError(Exception):
    """The archive cannot be made or used; the message is one sentence."""


def make(archive: Path, manifests: list[Path], collections: list[str], wheels: Path, readme: str) -> bool:
    """Make the archive; return whether it had to be made. Raises BundleError."""
    with tempfile.TemporaryDirectory() as scratch:
        members = {"README.md": Path(scratch, "README.md")}
        members["README.md"].write_text(readme, encoding="utf-8")
        for manifest in manifests:
            members |= _image(manifest)
        for name in collections:
            packed = _collection(name, Path(scratch))
            members[f"collections/{packed.name}"] = packed
        members |= {f"wheels/{path.name}": path for path in wheels.glob("*.whl")}
        if not any(name.startswith("wheels/") for name in members):
            raise BundleError(f"there are no Python wheels in {wheels}")
        strange = [name for name in members if not MEMBER.fullmatch(name)]
        if strange:
            raise BundleError(f"{strange[0]} cannot be a file of a bundle, its name has characters besides letters, digits, '.', '_', '+' and '-'")
        sums = "".join(f"{_sha256(path)}  {name}\n" for name, path in sorted(members.items()))
        if _is_made(archive, sums):
            return False
        archive.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(path.stat().st_size for path in members.values())
        _check_room(archive.parent, needed, f"{archive} takes")
        part = archive.with_name(f"{archive.name}.part")
        try:
            with tarfile.open(part, "w") as tar:
                _add(tar, SUMS, sums.encode())
                for name, path in sorted(members.items()):
                    tar.add(path, name, filter=_reproducible)
            part.replace(archive)
        finally:
            part.unlink(missing_ok=True)
        archive.with_name(f"{archive.name}.sha256").write_text(f"{_sha256(archive)}  {archive.name}\n", encoding="ascii")
        return True


def unpack(archive: Path, directory: Path) -> bool:
    """Unpack the archive; return whether it had to be unpacked. Raises BundleError: it is damaged, or holds what is in no bundle."""
    try:
        with tarfile.open(archive, "r:") as tar:
            sums = _sums(tar, archive)
            if _is_unpacked(directory, sums):
                return False
            _check_room(directory.parent, archive.stat().st_size, f"{archive} takes")
            part = directory.with_name(f"{directory.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            try:
                _extract(tar, archive, part, sums)
                shutil.rmtree(directory, ignore_errors=True)
                part.rename(directory)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            return True
    except (tarfile.TarError, EOFError) as problem:
        raise BundleError(f"{archive} is not a readable bundle: {problem}") from problem
    except OSError as problem:
        raise BundleError(f"{problem.filename or archive}: {problem.strerror or problem}") from problem


def _extract(tar: tarfile.TarFile, archive: Path, directory: Path, sums: dict[str, str]) -> None:
    for kind in ("images", "collections", "wheels"):
        (directory / kind).mkdir(parents=True)
    missing = set(sums)
    for member in tar:
        if member.name == SUMS:
            continue
        if not member.isreg() or member.name not in missing:
            raise BundleError(f"{archive} holds {member.name!r}, which is not among its checksums")
        digest = hashlib.sha256()
        with tar.extractfile(member) as source, (directory / member.name).open("wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != sums[member.name]:
            raise BundleError(f"{member.name} in {archive} has SHA-256 {digest.hexdigest()}, expected {sums[member.name]}; the archive is damaged")
        missing.remove(member.name)
    if missing:
        raise BundleError(f"{archive} lacks {sorted(missing)[0]}; the archive is damaged")
    (directory / SUMS).write_text(_text(sums), encoding="ascii")


def _sums(tar: tarfile.TarFile, archive: Path) -> dict[str, str]:
    """Return the checksums by name, which are the first file of a bundle."""
    first = tar.next()
    if first is None or first.name != SUMS or not first.isreg() or first.size > _LONGEST_SUMS:
        raise BundleError(f"{archive} is not a valid bundle: its first file is not {SUMS}")
    lines = tar.extractfile(first).read().decode("ascii", "replace").splitlines()
    found = [re.fullmatch(r"([0-9a-f]{64})  (\S+)", line) for line in lines]
    if not all(match and MEMBER.fullmatch(match[2]) for match in found):
        raise BundleError(f"{archive} is not a valid bundle: {SUMS} names what is in none")
    return {match[2]: match[1] for match in found}


def _is_made(archive: Path, sums: str) -> bool:
    try:
        with tarfile.open(archive, "r:") as tar:
            return _text(_sums(tar, archive)) == sums
    except (OSError, tarfile.TarError, BundleError):
        return False


def _is_unpacked(directory: Path, sums: dict[str, str]) -> bool:
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    return files == {*sums, SUMS} and all(_sha256(directory / name) == digest for name, digest in sums.items())


def _text(sums: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def _image(manifest: Path) -> dict[str, Path]:
    """Return the files of an image: it, its manifest and its bill of materials."""
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
        files = {manifest.parent / said["file"]: said["sha256"], manifest.parent / said["sbom"]["file"]: said["sbom"]["sha256"]}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise BundleError(f"{manifest} is not a valid manifest of an image: {problem}") from problem
    for path, digest in files.items():
        if not path.is_file():
            raise BundleError(f"{path}, which {manifest.name} names, is not there")
        if _sha256(path) != digest:
            raise BundleError(f"{path} has another SHA-256 than {manifest.name} says; build the image again")
    return {f"images/{path.name}": path for path in (manifest, *files)}


def _collection(name: str, scratch: Path) -> Path:
    """Return a collection of the control node as an archive that ansible-galaxy installs; the same files make the same archive."""
    try:
        root = Path(next(iter(importlib.import_module(f"ansible_collections.{name}").__path__))).resolve()
    except ImportError as problem:
        raise BundleError(f"the collection {name} is not installed on the control node") from problem
    if not (root / "FILES.json").exists():
        root = _built(root, scratch)
    manifest = json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))
    listed = json.loads((root / "FILES.json").read_text(encoding="utf-8"))
    # Distributions of Ansible leave out the tests of collections, but not out of the list.
    listed["files"] = [item for item in listed["files"] if (root / item["name"]).exists()]
    files = json.dumps(listed, indent=1).encode()
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(files).hexdigest()
    packed = scratch / f"{name.replace('.', '-')}-{manifest['collection_info']['version']}.tar.gz"
    with packed.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        _add(tar, "MANIFEST.json", json.dumps(manifest, indent=1).encode())
        _add(tar, "FILES.json", files)
        for item in listed["files"]:
            if item["name"] != ".":
                tar.add(root / item["name"], item["name"], recursive=False, filter=_reproducible)
    return packed


def _built(checkout: Path, scratch: Path) -> Path:
    """Return the files of the archive that a checkout makes."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    command = ["ansible-galaxy", "collection", "build", str(checkout), "--output-path", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundleError(f"the collection in {checkout} cannot be packed: {(done.stderr.splitlines() or ['no reason given'])[-1]}")
    (archive,) = directory.glob("*.tar.gz")
    shutil.unpack_archive(archive, directory / "files")
    return directory / "files"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(_reproducible(member), io.BytesIO(content))


def _reproducible(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _check_room(directory: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BundleError(f"{what} {needed / 1e9:.1f} GB, but {directory} has {free / 1e9:.1f} GB free")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Run the command line."""
    action, archive, last = sys.argv[1:]
    try:
        if action == "make":
            from ansible.plugins.loader import init_plugin_loader

            init_plugin_loader()
            facts = json.loads(last)
            done = make(Path(archive), [Path(path) for path in facts["manifests"]], facts["collections"], Path(facts["wheels"]), facts["readme"])
        else:
            done = unpack(Path(archive), Path(last))
    except BundleError as problem:
        print(problem, file=sys.stderr)
        return 1
    print("changed" if done else "unchanged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
