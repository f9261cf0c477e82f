# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's images, built on this machine because no registry is needed (or reachable) for a lab.

``python -m lab.images base``    ``debian12`` (a Debian root) and ``debian12-vm`` (with systemd and agent)
``python -m lab.images wheels``  Python packages for Flower and for the guests, in ``build/wheels``
``python -m lab.images flower``  ``flower-superlink`` and ``flower-supernode-sklearn``, also as archives in ``build/images``
``python -m lab.images all``     all of that, which is what the demo needs; ``clean`` removes everything
``python -m lab.images variant pytorch tensorflow``  SuperNodes of other frameworks; ``--archive`` saves them as archives

Names begin with ``onelab-CHECKOUT/``, see lab/checkout.py. Whatever is already there and was made from the same inputs is kept: images carry
the digest of their inputs as a label, files have it beside them. What another checkout made from the same inputs gets a name here as well.
"""
from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.opennebula.flower.plugins.module_utils.flower.frameworks import FRAMEWORKS, framework
from ansible_collections.opennebula.flower.plugins.module_utils.flower.releases import DEFAULT_VERSION
from ansible_collections.opennebula.flower.roles.flower_container_image.files import container_image
from lab import engine
from lab.checkout import IMAGE_PREFIX, ROOT
from lab.engine import EngineError, docker

HERE = Path(__file__).resolve().parent
BUILD = ROOT / "build"
WHEELS = BUILD / "wheels"
ARCHIVES = BUILD / "images"
DIGEST_LABEL = "opennebula.lab.digest"
# On the volumes that belong to baked appliances.
APPLIANCE_LABEL = "opennebula.appliance"

FLOWER_VERSION = DEFAULT_VERSION
SUPERLINK_IMAGE = f"{IMAGE_PREFIX}/flower-superlink:{FLOWER_VERSION}"
SUPERLINK_PACKAGES = (f"flwr=={FLOWER_VERSION}", "numpy")
# The SuperNode's image by framework, and how large it may be: bytes, uncompressed, as the engine counts.
VARIANTS = {
    "base": 450_000_000,
    "sklearn": 750_000_000,
    "pytorch": 1_600_000_000,
    "tensorflow": 1_800_000_000,
}
# Where PyTorch's builds for the CPU are, unless a wheel lies where pip looks anyway.
BUILDS_FOR_THE_CPU = ("--retries", "2", "--extra-index-url", "https://download.pytorch.org/whl/cpu")
DEMO_VARIANT = "sklearn"
GUEST_PACKAGES = ("ansible-core==2.19.14", "urllib3", "cryptography")


@dataclass(frozen=True)
class Suite:
    """One Debian release: the number in image names and the Python it comes with."""

    name: str
    release: str
    python: str

    @property
    def base_image(self) -> str:
        """Name of the plain root image."""
        return f"{IMAGE_PREFIX}/debian{self.release}"

    @property
    def vm_image(self) -> str:
        """Name of the image VMs boot."""
        return f"{self.base_image}-vm"


SUITES = {suite.name: suite for suite in (Suite("bookworm", "12", "3.11"), Suite("trixie", "13", "3.13"))}


def build_base(suite: Suite) -> str:
    """Make the plain Debian root image; return its digest."""
    digest = _digest(suite.name, *container_image.DEBIAN_PACKAGES, *container_image.UNNEEDED, container_image.DPKG_SLIM)
    if not _image_is(suite.base_image, digest):
        _step(suite.base_image, lambda: container_image.debian(suite.base_image, suite.name, f"{DIGEST_LABEL}={digest}"))
    return digest


def build_vm(suite: Suite, base_digest: str) -> str:
    """Make the image VMs boot from, on top of the base image; return its digest."""
    recipe = HERE / "recipes" / "vm.Dockerfile"
    guest = HERE / "guest"
    digest = _digest(base_digest, recipe, guest)
    if not _image_is(suite.vm_image, digest):
        _step(suite.vm_image, lambda: docker(
            "build", "--quiet", "--build-arg", f"BASE={suite.base_image}", "--label", f"{DIGEST_LABEL}={digest}",
            "--tag", suite.vm_image, "--file", str(recipe), str(guest), timeout=600,
        ))
    return digest


def build_wheels(suite: Suite) -> None:
    """Download the Python packages for Flower, the demo's framework and the guests of this suite into build/wheels."""
    _wheels(suite, "demo", (*SUPERLINK_PACKAGES, *FRAMEWORKS[DEMO_VARIANT].packages, *GUEST_PACKAGES))
    _wheels(suite, "demo-data", FRAMEWORKS[DEMO_VARIANT].image_packages, "--no-deps")


def _wheels(suite: Suite, name: str, packages: tuple[str, ...], *options: str) -> None:
    digest = _digest(suite.python, *packages)
    done = WHEELS / f".python{suite.python}-{name}.digest"
    if packages and not _file_says(done, digest):
        WHEELS.mkdir(parents=True, exist_ok=True)
        _step(f"wheels for Python {suite.python}: {name}", lambda: container_image.run(
            sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", suite.python,
            "--find-links", str(WHEELS), "--dest", str(WHEELS), *options, *packages,
        ))
        done.write_text(digest, encoding="ascii")


def build_superlink(suite: Suite, base_digest: str) -> str:
    """Make the SuperLink's image with the layout of the upstream one; return its digest."""
    digest = _digest(base_digest, container_image.INSTALL, *container_image.SETTINGS, *SUPERLINK_PACKAGES)
    if not _image_is(SUPERLINK_IMAGE, digest):
        _step(SUPERLINK_IMAGE, lambda: _flower_image(
            suite.base_image, SUPERLINK_IMAGE, "flower-superlink", SUPERLINK_PACKAGES, (), digest
        ))
    return digest


def build_variant(name: str, superlink_digest: str) -> str:
    """Make the SuperNode's image for a framework, the SuperLink's with the framework added; return its digest.

    :raises EngineError: the image is larger than ``VARIANTS`` allows.
    """
    packages, data, image = tuple(framework(name)["cpu_packages"]), FRAMEWORKS[name].image_packages, variant_image(name)
    digest = _digest(superlink_digest, *packages, *data)
    if not _image_is(image, digest):
        _step(image, lambda: _flower_image(SUPERLINK_IMAGE, image, "flower-supernode", packages, data, digest))
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image))
    if size > VARIANTS[name]:
        raise EngineError(f"{image} has {size / 1e9:.2f} GB, more than the {VARIANTS[name] / 1e9:.2f} GB it may have")
    return digest


def build_variants(names: Iterable[str], suite: Suite, archive: bool = False) -> None:
    """Make the SuperNodes' images of these frameworks, and with ``archive`` their archives in build/images."""
    build("wheels", suite)
    superlink_digest = build_superlink(suite, build_base(suite))
    for name in names:
        packages = framework(name)["cpu_packages"]
        if packages:
            _wheels(suite, name, (*SUPERLINK_PACKAGES, *packages), *(BUILDS_FOR_THE_CPU if any(each.endswith("+cpu") for each in packages) else ()))
        _wheels(suite, f"{name}-data", FRAMEWORKS[name].image_packages, "--no-deps")
        digest = build_variant(name, superlink_digest)
        if archive:
            _archive(variant_image(name), digest)


def variant_image(name: str) -> str:
    """Return the name of the SuperNode's image for a framework."""
    return f"{IMAGE_PREFIX}/flower-supernode-{name}:{FLOWER_VERSION}"


def archive_path(image: str) -> Path:
    """Return where the archive of an image lies."""
    return ARCHIVES / f"{image.rpartition('/')[2].replace(':', '-')}.tar"


def build_flower(suite: Suite, base_digest: str) -> None:
    """Make the two images of the demo, each flattened into one layer, and their archives."""
    superlink_digest = build_superlink(suite, base_digest)
    _archive(SUPERLINK_IMAGE, superlink_digest)
    _archive(variant_image(DEMO_VARIANT), build_variant(DEMO_VARIANT, superlink_digest))


def build(what: str, suite: Suite) -> None:
    """Make ``base``, ``wheels``, ``flower`` or ``all``, two things at a time where they don't need each other.

    :raises EngineError, ImageError: with one sentence that says which step failed and why.
    """
    engine.version()
    with ThreadPoolExecutor(max_workers=2) as pool:
        wheels = pool.submit(build_wheels, suite) if what != "base" else None
        if what != "wheels":
            base_digest = build_base(suite)
            vm = pool.submit(build_vm, suite, base_digest)
        if wheels:
            wheels.result()
        if what in ("flower", "all"):
            build_flower(suite, base_digest)
        if what != "wheels":
            vm.result()


def clean() -> None:
    """Remove all images that this checkout made or baked, with the volumes they name, and all wheels and archives."""
    names = docker("image", "ls", "--filter", f"reference={IMAGE_PREFIX}/*", "--format", "{{.Repository}}:{{.Tag}}").split()
    if names:
        docker("image", "rm", "--force", *names)
    listed = docker("volume", "ls", "--format", f'{{{{.Name}}}} {{{{.Label "{APPLIANCE_LABEL}"}}}}', "--filter", f"label={APPLIANCE_LABEL}")
    volumes = [volume for volume, appliance in map(str.split, listed.splitlines()) if appliance.startswith(f"{IMAGE_PREFIX}/")]
    if volumes:
        docker("volume", "rm", "--force", *volumes)
    shutil.rmtree(WHEELS, ignore_errors=True)
    shutil.rmtree(ARCHIVES, ignore_errors=True)


def _flower_image(
    parent: str, image: str, command: str, packages: tuple[str, ...], data_packages: tuple[str, ...], digest: str
) -> None:
    size = container_image.flower(image, command, parent, packages, data_packages, WHEELS, f"{DIGEST_LABEL}={digest}")
    print(f"images: {image} has {size / 1e6:.0f} MB", flush=True)


def _archive(image: str, digest: str) -> None:
    path = archive_path(image)
    if not container_image.saved(path, digest):
        _step(path.name, lambda: container_image.save(image, path, digest))


def _image_is(image: str, digest: str) -> bool:
    """Return whether an image was made from these inputs; one that another checkout made from them gets its name."""
    anywhere = image.replace(IMAGE_PREFIX, "onelab-*")
    same = docker("image", "ls", "--no-trunc", "--quiet", "--filter", f"label={DIGEST_LABEL}={digest}", "--filter", f"reference={anywhere}").split()
    try:
        if docker("image", "inspect", "--format", "{{.Id}}", image) in same:
            return True
    except EngineError:
        pass
    if same:
        docker("tag", same[0], image)
    return bool(same)


def _file_says(path: Path, digest: str) -> bool:
    return path.exists() and path.read_text(encoding="ascii") == digest


def _digest(*inputs: str | Path) -> str:
    """Return a short digest of strings and of files, or of all files below a directory with their names and modes."""
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            digest.update(f"{item}\0".encode())
            continue
        files = sorted(path for path in item.rglob("*") if path.is_file()) if item.is_dir() else [item]
        for file in files:
            digest.update(f"{file.relative_to(item.parent)}\0{file.stat().st_mode & 0o111}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _step(name: str, make: Callable[[], object]) -> None:
    begin = time.monotonic()
    print(f"images: making {name}", flush=True)
    make()
    print(f"images: {name} made in {time.monotonic() - begin:.1f} s", flush=True)


def main() -> int:
    """Command line of ``python -m lab.images``."""
    parser = argparse.ArgumentParser(prog="python -m lab.images", description="The lab's images.")
    parser.add_argument("what", choices=("base", "wheels", "flower", "all", "variant", "clean"))
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK", help=f"for variant: {', '.join(VARIANTS)}")
    parser.add_argument("--suite", choices=sorted(SUITES), default="bookworm")
    parser.add_argument("--archive", action="store_true", help="for variant: also save the images in build/images")
    arguments = parser.parse_args()
    unknown = set(arguments.frameworks) - set(VARIANTS)
    if unknown or bool(arguments.frameworks) != (arguments.what == "variant"):
        parser.error(f"variant, and nothing else, takes frameworks of: {', '.join(VARIANTS)}")
    begin = time.monotonic()
    try:
        if arguments.what == "clean":
            clean()
        elif arguments.what == "variant":
            build_variants(arguments.frameworks, SUITES[arguments.suite], arguments.archive)
        else:
            build(arguments.what, SUITES[arguments.suite])
    except (EngineError, container_image.ImageError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"images: {' '.join((arguments.what, *arguments.frameworks))} ready after {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
