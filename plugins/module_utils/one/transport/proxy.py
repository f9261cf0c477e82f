# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy that the environment names for a server: http_proxy, https_proxy, all_proxy and no_proxy, in either case."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment


def proxy_for(url: str) -> tuple[str, str | None] | None:
    """Return the proxy's URL and the user with password, if it has one; None for a server that is asked directly."""
    server, proxies = urlsplit(url), getproxies_environment()
    named = proxies.get(server.scheme) or proxies.get("all")
    if not named or proxy_bypass_environment(server.netloc.rpartition("@")[2], proxies) or _is_near(server.hostname, proxies):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else None
    return proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl(), user


def _is_near(host: str | None, proxies: dict[str, str]) -> bool:
    """Tell whether no_proxy has a network with this address; Python's own reading of it knows names only."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return any(_holds(entry.strip(), address) for entry in proxies.get("no", "").split(","))


def _holds(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
