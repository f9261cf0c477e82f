# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supported Flower releases as data: how they talk, which images carry them and how their programs are started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .run_config import inline_config

DEFAULT_VERSION = "1.42.0"
# Debian based images on purpose: the short upstream tags are Alpine, where neither apt nor most ML wheels work.
_IMAGE_TAG = "{version}-py3.13-ubuntu24.04"
_IMAGES = {"superlink": "flwr/superlink", "supernode": "flwr/supernode"}


@dataclass(frozen=True)
class Release:
    """One Flower release.

    ``transport`` `http` means that Fleet, Control and Runtime API share the one port ``superlink_port``.
    ``supernode_port`` is the local port a SuperNode opens for its own ClientApps.
    """

    version: str
    transport: str = "http"
    superlink_port: int = 8000
    supernode_port: int = 9094
    image_tag: str = _IMAGE_TAG


RELEASES: Mapping[str, Release] = {release.version: release for release in (Release("1.41.0"), Release("1.42.0"))}


def release(version: str) -> Release:
    """Return the release called ``version``; ValueError when it is not supported."""
    try:
        return RELEASES[version]
    except KeyError:
        raise ValueError(f"Flower {version} is not supported, expected one of: {', '.join(RELEASES)}") from None


def image(version: str, program: str) -> str:
    """Return the upstream container image of ``program`` (superlink or supernode) for a release."""
    if program not in _IMAGES:
        raise ValueError(f"there is no upstream image for '{program}', expected one of: {', '.join(_IMAGES)}")
    return f"{_IMAGES[program]}:{release(version).image_tag.format(version=version)}"


def superlink_command(
    version: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    database: str = "",
    isolation: str = "subprocess",
    superexec_secret: str = "",
    certificates: Mapping[str, str] | None = None,
    node_auth: bool = False,
) -> list[str]:
    """Return the command line of a SuperLink; its first item is the program (the entry point of the upstream image).

    ``certificates`` holds the paths `ca`, `certificate` and `key`; without them the SuperLink speaks plain HTTP,
    which is meant for a loopback address behind a gateway. With ``node_auth`` only SuperNodes with a registered key may join, which Flower
    refuses without certificates. An empty ``database`` keeps the state in memory. ``superexec_secret`` is the path of what the SuperExec of the
    isolation `process` has to know.
    Apps are never installed from the network at run time.
    """
    command = ["flower-superlink", "--host", host, "--port", str(port or release(version).superlink_port)]
    if certificates:
        command += ["--ssl-ca-certfile", certificates["ca"]]
        command += ["--ssl-certfile", certificates["certificate"], "--ssl-keyfile", certificates["key"]]
    else:
        command.append("--insecure")
    if node_auth:
        command.append("--enable-supernode-auth")
    command += ["--isolation", isolation, *_secret(superexec_secret), "--disable-runtime-dependency-installation"]
    if database:
        command += ["--database", database]
    return command


def supernode_command(
    version: str,
    superlink: str,
    *,
    root_certificates: str = "",
    private_key: str = "",
    node_config: Mapping[str, str | int | float | bool] | None = None,
    isolation: str = "subprocess",
    superexec_secret: str = "",
    max_retries: int = 0,
    max_wait_time: int = 0,
    port: int | None = None,
) -> list[str]:
    """Return the command line of a SuperNode; its first item is the program (the entry point of the upstream image).

    ``superlink`` is the Fleet address host:port. Without ``root_certificates`` (a path) the connection is not encrypted, without
    ``private_key`` (the path of an OpenSSH key) the node does not authenticate itself.
    A ``max_retries`` or ``max_wait_time`` (seconds) of 0 means unlimited.
    """
    command = ["flower-supernode", "--superlink", superlink]
    command += ["--root-certificates", root_certificates] if root_certificates else ["--insecure"]
    if private_key:
        command += ["--auth-supernode-private-key", private_key]
    command += ["--isolation", isolation, *_secret(superexec_secret), "--port", str(port or release(version).supernode_port)]
    # Flower takes 0 for "one attempt"; only a missing flag means "without limit".
    if max_retries:
        command += ["--max-retries", str(max_retries)]
    if max_wait_time:
        command += ["--max-wait-time", str(max_wait_time)]
    if node_config:
        command += ["--node-config", inline_config(node_config)]
    return command


def superexec_command(version: str, program: str, *, port: int | None = None, secret: str = "", root_certificates: str = "") -> list[str]:
    """Return the command line of the SuperExec that runs the apps of a ``program`` (superlink or supernode) which listens on loopback beside it.

    ``secret`` is the path of what both know, ``root_certificates`` that of the CA of the program's certificate; without it, the program speaks
    plain HTTP. Raises ValueError for another program.
    """
    ports = {"superlink": release(version).superlink_port, "supernode": release(version).supernode_port}
    if program not in ports:
        raise ValueError(f"there is no SuperExec for '{program}', expected one of: {', '.join(ports)}")
    trust = ["--root-certificates", root_certificates] if root_certificates else ["--insecure"]
    return ["flower-superexec", "--runtime-api-address", f"127.0.0.1:{port or ports[program]}", *trust, *_secret(secret)]


def _secret(path: str) -> list[str]:
    return ["--superexec-auth-secret-file", path] if path else []
