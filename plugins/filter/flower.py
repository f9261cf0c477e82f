# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: command lines and images of Flower, what templates need of the parameter table, quoting for systemd."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.opennebula.flower.plugins.module_utils import context_values, contextualization
from ansible_collections.opennebula.flower.plugins.module_utils.flower import frameworks, releases
from ansible_collections.opennebula.flower.plugins.plugin_utils import locks

# What is no name: IPv4, or an IPv6 address.
_ADDRESS = re.compile(r"^[0-9.]+$|:")
_SYSTEMD_PLAIN = re.compile(r"[A-Za-z0-9_@:/=,.+-]+")
_SYSTEMD_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def systemd_quote(arguments: str | Iterable[str]) -> str:
    """Return one argument or a list of them as text for ExecStart= of a systemd unit."""
    if isinstance(arguments, str):
        arguments = [arguments]
    return " ".join(_quote_argument(str(argument)) for argument in arguments)


def _quote_argument(argument: str) -> str:
    if _SYSTEMD_PLAIN.fullmatch(argument):
        return argument
    return '"' + "".join(map(_quote_character, argument)) + '"'


def _quote_character(character: str) -> str:
    """Return a character as systemd reads it within quotes; unit files end lines at more than line feeds."""
    if character == "\0":
        raise ValueError("a unit of systemd cannot hold a NUL character")
    if character in _SYSTEMD_ESCAPES:
        return _SYSTEMD_ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def rounds(directory: str) -> list[Any]:
    """Return the rounds that the events of a run tell."""
    # Whoever needs a command line does not need what a supervisor says.
    from ansible_collections.opennebula.flower.plugins.module_utils.supervisor import history

    return history.rounds(directory)


def open_ports(addresses: Iterable[str]) -> list[int]:
    """Return the ports of those addresses that other machines can connect to."""
    split = map(context_values.split_address, addresses)
    return [port for host, port in split if not context_values.is_loopback(host)]


def certificate_names(addresses: Iterable[str], host_name: str, advertised: str = "", more: Iterable[str] = ()) -> list[str]:
    """Return the names of a SuperLink's certificate, as OpenSSL writes them: its own, those of an address that nodes are told, and more."""
    names = ["DNS:localhost", "IP:127.0.0.1", "IP:::1", f"DNS:{host_name}", *(f"IP:{address}" for address in addresses)]
    if advertised:
        host = context_values.split_address(advertised)[0]
        names.append(f"{'IP' if _ADDRESS.search(host) else 'DNS'}:{host}")
    return list(dict.fromkeys([*names, *more]))


def published(service: Mapping[str, Any], role: str) -> list[Any]:
    """Return what the VMs of a role published."""
    # Whoever needs a command line does not ask OneGate.
    from ansible_collections.opennebula.flower.plugins.module_utils.onegate import client

    return client.published(service, role)


def _as_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (ValueError, TypeError, KeyError, contextualization.ContextError) as problem:
            raise AnsibleFilterError(str(problem)) from problem

    return call


class FilterModule:
    """The filters of this collection that know Flower."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions = {
            "flower_superlink_command": releases.superlink_command,
            "flower_supernode_command": releases.supernode_command,
            "flower_superexec_command": releases.superexec_command,
            "flower_image": releases.image,
            "flower_framework": frameworks.framework,
            "flower_node_environment": frameworks.node_environment,
            "flower_node_settings": frameworks.node_settings,
            "flower_open_ports": open_ports,
            "flower_certificate_names": certificate_names,
            "flower_published": published,
            "flower_pip_download": locks.download_arguments,
            "flower_pip_index": locks.index_arguments,
            "flower_pip_reason": locks.reason,
            "flower_pip_source": locks.source,
            "flower_pip_install": locks.install_arguments,
            "flower_user_inputs": contextualization.user_inputs,
            "flower_context_section": contextualization.context_section,
            "flower_context_values": contextualization.context_values,
            "flower_run_config": contextualization.run_config,
            "flower_training": contextualization.training,
            "flower_rounds": rounds,
            "systemd_quote": systemd_quote,
        }
        return {name: _as_filter(function) for name, function in functions.items()}
