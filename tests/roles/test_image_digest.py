# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A container image that is named by tag and digest, pulled by a role's own tasks from a registry whose tag was moved."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from lab.engine import EngineError, docker, ensure

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIME = REPOSITORY / "roles/_flower_runtime"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
NAME, TAG = "flower-test/superlink", "1.42.0-py3.13-ubuntu24.04"


class Registry:
    """A registry with one image at a time under its tag; older ones are there by their digests."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.tagged = ""
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                wanted = self.path.rpartition("/")[2]
                content = b"{}" if self.path == "/v2/" else registry.blobs.get(registry.tagged if wanted == TAG else wanted)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Type", MANIFEST if "/manifests/" in self.path else "application/octet-stream")
                self.send_header("Content-Length", str(len(content or b"")))
                if content:
                    self.send_header("Docker-Content-Digest", digest(content))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content or b"")

            do_HEAD = do_GET

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.image = f"127.0.0.1:{self.server.server_address[1]}/{NAME}"

    def push(self, content: bytes) -> str:
        """Make an image with one file, and give it the tag; return its digest."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            member = tarfile.TarInfo("content")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        packed = gzip.compress(layer.getvalue(), mtime=0)
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(layer.getvalue())]}})
        parts = [("application/vnd.docker.container.image.v1+json", config.encode()), ("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)]
        described = [{"mediaType": kind, "size": len(blob), "digest": digest(blob)} for kind, blob in parts]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}).encode()
        self.blobs |= {digest(blob): blob for blob in (*(blob for _kind, blob in parts), manifest)}
        self.tagged = digest(manifest)
        return self.tagged


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    ensure()
    served = Registry()
    threading.Thread(target=served.server.serve_forever, daemon=True).start()
    yield served
    served.server.shutdown()
    served.server.server_close()
    for found in docker("image", "ls", "--quiet", "--no-trunc", served.image).split():
        with suppress(EngineError):
            docker("image", "rm", "--force", found)


def get(directory: Path, image: str) -> tuple[int, str]:
    """Have the role get an image, from an engine that is there; return the exit status and the output on one line."""
    tasks = [task for task in yaml.safe_load((RUNTIME / "tasks/image.yml").read_text()) if task["name"] != "Install the container engine"]
    variables = {**yaml.safe_load((RUNTIME / "vars/main.yml").read_text()), "flower_runtime_image": image, "flower_image_archive": ""}
    content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}]
    (directory / "play.yml").write_text(json.dumps(content))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml", "-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(command, cwd=directory, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_digest_is_that_image_whatever_became_of_its_tag(registry: Registry, tmp_path: Path) -> None:
    good = registry.push(b"good")
    bad = registry.push(b"bad")
    name = f"{registry.image}:{TAG}@{good}"
    for changed in (1, 0):
        status, output = get(tmp_path, name)
        assert status == 0 and f"changed={changed} " in output, output
    # As the units name it.
    container = docker("create", "--pull", "never", name, "true").strip()
    try:
        assert docker("inspect", "--format", "{{.Image}}", container) == docker("image", "inspect", "--format", "{{.Id}}", f"{registry.image}@{good}")
    finally:
        docker("rm", container)
    assert bad not in docker("image", "ls", "--digests", "--format", "{{.Digest}}", registry.image)


def test_an_image_that_no_registry_has_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.push(b"bad")
    name = f"{registry.image}:{TAG}@{digest(b'')}"
    status, output = get(tmp_path, name)
    assert status != 0 and f"the image {name} cannot be pulled: Error pulling" in output, output
