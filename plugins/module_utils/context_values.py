# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of values contextualization parameters take: from the text in a context to a typed value and back."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import addresses
from .flower.app_source import FORM, parse_source
from .flower.node_keys import EXPECTED as ONE_KEY
from .flower.node_keys import read_key
from .wireguard import values as tunnel_values
from .wireguard.peers import EXPECTED as ONE_PEER
from .wireguard.peers import read_peers

_INTEGER = re.compile(r"[+-]?[0-9]+")
# TOML's integers have 64 bits.
_MOST_DIGITS = 18
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# Programs take what begins with - for an option.
_PATH = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*(/[A-Za-z0-9._][A-Za-z0-9._-]*)*")
_DISK = re.compile(r"/dev/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*|LABEL=[A-Za-z0-9._-]{1,16}")
_GPUS = re.compile(r"all|(\d+|(GPU|MIG)-[0-9A-Za-z/-]+)(,(\d+|(GPU|MIG)-[0-9A-Za-z/-]+))*", re.ASCII)
_NFS_EXPORT = re.compile(r"(?P<host>[^:\[\]/]+|\[[^\]]+\]):(/[A-Za-z0-9._-]+)+/?")
_URL = re.compile(r"https?://(?P<host>[^:\[\]/]+|\[[^\]]+\])(:(?P<port>[0-9]{1,5}))?/?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_OBJECT_PREFIX = re.compile(r"[A-Za-z0-9._=@+-]+(/[A-Za-z0-9._=@+-]+)*/?")
_CREDENTIAL = re.compile(r"[!-~]{1,256}")
# A line as htpasswd writes it, with the one kind of hash that node_exporter and HAProxy both know.
_BASIC_AUTH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}:\$2[aby]\$[0-9]{2}\$[A-Za-z0-9./]{53}")
_RATE = re.compile(r"([1-9][0-9]{0,8})([kmg])bit")
_NODE_CONFIG_PAIR = re.compile(r"""([A-Za-z0-9_][A-Za-z0-9_-]*)=("[^"]*"|'[^']*'|[^\s"'=]+)(?=\s|$)""")
_NODE_CONFIG_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_BARE_WORD = re.compile(r"[A-Za-z0-9._:/@+-]+")
_PEM_LABELS = {"certificate": ("CERTIFICATE",), "private_key": ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")}
_BASE64_LAYERS = 2
_KILOBITS = {"k": 1, "m": 10**3, "g": 10**6}
_SLOWEST, _FASTEST = 8, 100 * 10**6  # kilobits in a second
_PEM_COLUMNS = 64
_LONGEST_TEXT = 1024
_LAST_PORT = 65535
# What an app must not take for its checkpoints, nor anything in it: the system's directories and those that Flower itself uses.
_TAKEN = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/python", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr",
    "/var", "/app/apps", "/app/ca.crt", "/app/cli", "/app/data", "/app/federation", "/app/state", "/opt/flower",
)
# Directories that hold those of others.
_SHARED = ("/home", "/media", "/mnt", "/opt", "/srv")
_ON_THE_VM = "/opt/flower/checkpoints"
_STATE = "state/"
_KEPT_IN_STATE = ("runs", "flwr")


@dataclass(frozen=True)
class Limits:
    """What narrows a kind down: bounds of numbers (``above``/``below`` exclude the bound) and the members of a set."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the bounds as the end of a sentence, empty without bounds."""
        if self.minimum is not None and self.maximum is not None:
            return f" from {self.minimum:g} to {self.maximum:g}"
        bounds = (("of at least", self.minimum), ("above", self.above), ("below", self.below), ("up to", self.maximum))
        words = [f"{word} {bound:g}" for word, bound in bounds if bound is not None]
        return " " + " and ".join(words) if words else ""

    def hold(self, number: float) -> bool:
        """Say whether a number is within the bounds."""
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.maximum is None or number <= self.maximum)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


def _no_text(_value: Any, _limits: Limits) -> Any:
    """Refuse what is not a text: the values of most kinds are texts, and those are parsed."""
    raise ValueError("not a text")


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    ``parse`` turns the stripped, non-empty text of a context into the typed value and raises ValueError otherwise;
    ``render`` is its inverse. ``accept`` returns a value that is typed already, such as one of a playbook, in its one form and
    raises ValueError when it is of another type or out of bounds. ``empty`` makes the typed value of an empty text, ``user_input`` the type in OpenNebula's
    user input grammar, ``option_type`` the type in an Ansible argument specification and ``expected`` what to tell
    people who gave something else.
    """

    parse: Callable[[str, Limits], Any]
    render: Callable[[Any], str]
    user_input: str
    option_type: str
    expected: Callable[[Limits], str]
    empty: Callable[[], Any] = str
    accept: Callable[[Any, Limits], Any] = _no_text


def split_address(text: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[IPv6]:port``; ValueError when either part is not valid. Addresses are in their one form."""
    bracketed = re.fullmatch(r"\[([^\]]+)\]:([0-9]{1,5})", text)
    plain = re.fullmatch(r"([^:\[\]]+):([0-9]{1,5})", text)
    if bracketed:
        host, port = addresses.scoped_address(bracketed.group(1)), bracketed.group(2)
        if ":" not in host:
            raise ValueError("IPv4 in brackets")
    elif plain:
        host, port = check_host(plain.group(1)), plain.group(2)
    else:
        raise ValueError("not host:port")
    return host, _port(port)


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine alone; of names that is known of localhost only."""
    try:
        return addresses.read_interface(host.partition("%")[0]).ip.is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


def check_host(text: str) -> str:
    """Return an IPv4 address in its one form, or a host name; ValueError for anything else."""
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name")
    return addresses.ip_address(text, 4) if labels[-1].isdigit() else text


def _port(text: str) -> int:
    if not 1 <= int(text) <= _LAST_PORT:
        raise ValueError("port out of range")
    return int(text)


def _integer(text: str, limits: Limits) -> int:
    if not _INTEGER.fullmatch(text) or len(text) > _MOST_DIGITS or not limits.hold(int(text)):
        raise ValueError("not a whole number in range")
    if limits.choices:
        _member(text, limits)
    return int(text)


def _float(text: str, limits: Limits) -> float:
    if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)) or not limits.hold(float(text)):
        raise ValueError("not a number in range")
    return float(text)


def _typed_integer(value: Any, limits: Limits) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 10**_MOST_DIGITS or not limits.hold(value):
        raise ValueError("not a whole number in range")
    if limits.choices:
        _member(str(value), limits)
    return int(value)


def _typed_float(value: Any, limits: Limits) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not limits.hold(value):
        raise ValueError("not a number in range")
    return float(value)


def _boolean(text: str, _limits: Limits) -> bool:
    word = text.upper()
    if word not in ("YES", "NO"):
        raise ValueError("neither YES nor NO")
    return word == "YES"


def _member(text: str, limits: Limits) -> str:
    if text not in limits.choices:
        raise ValueError("not a member")
    return text


def _version(text: str, limits: Limits) -> str:
    if not _VERSION.fullmatch(text):
        raise ValueError("not a version")
    return _member(text, limits)


def _text(text: str, _limits: Limits) -> str:
    if not text.isprintable() or len(text) > _LONGEST_TEXT:
        raise ValueError("not one line of text")
    return text


def _address(text: str, _limits: Limits) -> str:
    host, port = split_address(text)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listening_address(text: str, limits: Limits) -> str:
    address = _address(text, limits)
    if _is_of_a_group(split_address(address)[0]):
        raise ValueError("not an address of this machine")
    return address


def _remote_address(text: str, limits: Limits) -> str:
    address = _address(text, limits)
    host = split_address(address)[0]
    if host in ("0.0.0.0", "::") or _is_of_a_group(host):
        raise ValueError("not the address of one machine")
    return address


def _is_of_a_group(host: str) -> bool:
    try:
        address = addresses.read_interface(host.partition("%")[0]).ip
    except ValueError:
        return False
    return address.is_multicast or str(address) == "255.255.255.255"


def _relative_path(text: str) -> str:
    if not _PATH.fullmatch(text) or any(part in (".", "..") for part in text.split("/")) or len(text) > _LONGEST_TEXT:
        raise ValueError("not a relative path")
    return text


def _state_file(text: str, _limits: Limits) -> str:
    inside = _relative_path(text).removeprefix(_STATE)
    if inside == text or inside.split("/")[0] in _KEPT_IN_STATE:
        raise ValueError("not in the directory of the state")
    return text


def _absolute_path(text: str, _limits: Limits) -> str:
    if not text.startswith("/"):
        raise ValueError("not an absolute path")
    return "/" + _relative_path(text[1:])


def _own_directory(text: str, limits: Limits) -> str:
    path = _absolute_path(text, limits)
    inside = any(path == other or path.startswith(f"{other}/") for other in _TAKEN)
    around = any(other.startswith(f"{path}/") for other in _TAKEN)
    if (inside or around or path in _SHARED) and path != _ON_THE_VM:
        raise ValueError("a directory of the system or of Flower")
    return path


def _nfs_export(text: str, _limits: Limits) -> str:
    match = _matching(_NFS_EXPORT, text)
    _check_server(match["host"])
    return text


def _url(text: str, _limits: Limits) -> str:
    match = _matching(_URL, text)
    _check_server(match["host"])
    if match["port"]:
        _port(match["port"])
    return text


def _credential(text: str, _limits: Limits) -> str:
    return _matching(_CREDENTIAL, text).group()


def _rate(text: str, _limits: Limits) -> str:
    number, unit = _matching(_RATE, text).groups()
    if not _SLOWEST <= int(number) * _KILOBITS[unit] <= _FASTEST:
        raise ValueError("out of range")
    return text


def _check_server(host: str) -> None:
    if host.startswith("["):
        addresses.ip_address(host[1:-1], 6)
    else:
        check_host(host)


def _form(pattern: re.Pattern[str]) -> Callable[[str, Limits], str]:
    """Return the reader of a text that is taken as it is when it has this form."""
    return lambda text, _limits: _matching(pattern, text).group()


def _matching(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if not match or ".." in text.split("/") or len(text) > _LONGEST_TEXT:
        raise ValueError("does not have the form")
    return match


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("not a list of texts")
    return value


def _alternative_name(entry: str) -> str:
    kind, _colon, value = entry.partition(":")
    if kind == "IP":
        return f"IP:{addresses.ip_address(value)}"
    if kind == "DNS" and not value.rpartition(".")[2].isdigit():
        return f"DNS:{check_host(value)}"
    raise ValueError("neither IP nor DNS")


def _network(text: str) -> str:
    if "%" in text:
        raise ValueError("an address of one interface only")
    return str(ipaddress.ip_network(text))


def _open_port(text: str) -> str:
    number, _slash, protocol = text.partition("/")
    if protocol not in ("tcp", "udp") or not _INTEGER.fullmatch(number) or len(number) > 5:
        raise ValueError("not port/protocol")
    return f"{_port(number)}/{protocol}"


def _node_keys(text: str, limits: Limits) -> list[str]:
    return _typed_node_keys(text.split(","), limits)


def _typed_node_keys(value: Any, _limits: Limits) -> list[str]:
    keys = [read_key(entry) for entry in _texts(value)]
    if len({key.pem for key in keys}) < len(keys):
        raise ValueError("a key occurs twice")
    return [f"{key.line} {key.name}".rstrip() for key in keys]


def _tunnel_network(text: str, _limits: Limits) -> str:
    network = _network(text)
    if ipaddress.ip_network(network).num_addresses < 2:
        raise ValueError("no room for two ends")
    return network


def _tunnel_peers(text: str, limits: Limits) -> list[str]:
    return _typed_tunnel_peers(text.split(","), limits)


def _typed_tunnel_peers(value: Any, _limits: Limits) -> list[str]:
    return [peer.line for peer in read_peers(_texts(value))]


def _tunnel_key(text: str, _limits: Limits) -> str:
    if not tunnel_values.is_key(text):
        raise ValueError("not a key")
    return text


def _app_source(text: str, _limits: Limits) -> str:
    parse_source(text)
    return text


def _node_config_scalar(text: str) -> str | int | float | bool:
    if text[0] in "\"'":
        if not text[1:-1].isprintable():
            raise ValueError("control character")
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text) and len(text) <= 18:
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if not _BARE_WORD.fullmatch(text):
        raise ValueError("a text with special characters needs quotes")
    return text


def _node_config(text: str, _limits: Limits) -> dict[str, str | int | float | bool]:
    config: dict[str, str | int | float | bool] = {}
    rest = text
    while rest:
        pair = _NODE_CONFIG_PAIR.match(rest)
        if not pair:
            raise ValueError("not key=value")
        key, value = pair.groups()
        if key in config:
            raise ValueError("a key occurs twice")
        config[key] = _node_config_scalar(value)
        rest = rest[pair.end() :].lstrip()
    return config


def _typed_node_config(value: Any, _limits: Limits) -> dict[str, str | int | float | bool]:
    if not isinstance(value, dict) or not all(isinstance(key, str) and _NODE_CONFIG_KEY.fullmatch(key) for key in value):
        raise ValueError("not key=value")
    return {key: _typed_scalar(item) for key, item in value.items()}


def _typed_scalar(value: Any) -> str | int | float | bool:
    """Return a value that a node configuration can hold as text too."""
    if isinstance(value, str):
        if not value.isprintable() or ('"' in value and "'" in value):
            raise ValueError("control character, or quotes of both kinds")
    elif not isinstance(value, (bool, int, float)) or not math.isfinite(value) or (isinstance(value, int) and len(str(value)) > 18):
        raise ValueError("neither text nor number nor truth value")
    return value


def _render_node_config(config: Mapping[str, str | int | float | bool] | str) -> str:
    if isinstance(config, str):
        return config
    return " ".join(f"{key}={_render_node_config_scalar(value)}" for key, value in config.items())


def _render_node_config_scalar(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not isinstance(value, str) or (_BARE_WORD.fullmatch(text) and _node_config_scalar(text) == text):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def _pem(text: str, label: str) -> str:
    """Return PEM text given as such, in base64 or in base64 of base64 (user interfaces encode what people encoded)."""
    for _layer in range(_BASE64_LAYERS + 1):
        if "-----BEGIN " in text:
            break
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("neither PEM nor base64") from None
    names = "|".join(_PEM_LABELS[label])
    blocks = [_pem_block(match[1], match[2]) for match in re.finditer(rf"-----BEGIN ({names})-----(.*?)-----END \1-----", text, re.DOTALL)]
    if not blocks or (label == "private_key" and len(blocks) > 1):
        raise ValueError("no PEM block of the right kind")
    return "".join(blocks)


def _pem_block(name: str, body: str) -> str:
    """Return a block with the line ends that programs ask for, also where they were lost or are written as \\n."""
    try:
        content = base64.b64decode("".join(body.replace("\\n", "").replace("\\r", "").split()), validate=True)
    except (binascii.Error, ValueError):
        # Such as a key with a password: whoever reads it says what is wrong with it.
        lines = [line.strip() for line in body.strip().splitlines()]
        if not body[:1].isspace() or not all(line.isascii() and line.isprintable() for line in lines):
            raise ValueError("a PEM block that is not base64") from None
    else:
        lines = textwrap.wrap(base64.b64encode(content).decode(), _PEM_COLUMNS)
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""])


def _render_pem(text: str) -> str:
    return base64.b64encode(text.encode()).decode() if "-----BEGIN " in text else text


def _render_boolean(value: bool | str) -> str:
    return value if isinstance(value, str) else ("YES" if value else "NO")


def _render_list(value: list[str] | str) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value))


def _one_of(limits: Limits) -> str:
    return "one of: " + ", ".join(limits.choices)


def _whole_number(limits: Limits) -> str:
    return _one_of(limits) if limits.choices else f"a whole number{limits.describe()}"


def _list_kind(read_entry: Callable[[str], str], description: str) -> Kind:
    return Kind(
        parse=lambda text, _limits: [read_entry(entry.strip()) for entry in text.split(",")],
        accept=lambda value, _limits: [read_entry(entry) for entry in _texts(value)],
        render=_render_list,
        user_input="text",
        option_type="list",
        expected=lambda _limits: f"{description}, separated by commas",
        empty=list,
    )


def _pem_kind(label: str, description: str) -> Kind:
    return Kind(
        parse=lambda text, _limits: _pem(text, label),
        render=_render_pem,
        user_input="text64",
        option_type="str",
        expected=lambda _limits: f"a {description} in PEM or base64 of it",
    )


KINDS: Mapping[str, Kind] = {
    "text": Kind(_text, str, "text", "str", lambda _limits: "one line of text"),
    "version": Kind(_version, str, "text", "str", _one_of),
    "number": Kind(_integer, str, "number", "int", _whole_number, accept=_typed_integer),
    "float": Kind(
        _float, str, "number-float", "float", lambda limits: f"a number{limits.describe()}", empty=lambda: None, accept=_typed_float
    ),
    "boolean": Kind(_boolean, _render_boolean, "boolean", "bool", lambda _limits: "YES or NO"),
    "list": Kind(_member, str, "list", "str", _one_of),
    "address": Kind(
        _listening_address, str, "text", "str", lambda _limits: "host:port or [IPv6]:port with a port from 1 to 65535"
    ),
    "remote_address": Kind(
        _remote_address,
        str,
        "text",
        "str",
        lambda _limits: "host:port or [IPv6]:port of one machine with a port from 1 to 65535",
    ),
    "state_file": Kind(
        _state_file,
        str,
        "text",
        "str",
        lambda _limits: (
            "a file below state/, but not in state/runs or state/flwr: a relative path without .. of letters, digits and the characters "
            ". _ - /, no part of which begins with -"
        ),
    ),
    "absolute_path": Kind(
        _absolute_path,
        str,
        "text",
        "str",
        lambda _limits: "an absolute path without .. of letters, digits and the characters . _ - /, no part of which begins with -",
    ),
    "own_directory": Kind(
        _own_directory,
        str,
        "text",
        "str",
        lambda _limits: (
            "an absolute path without .. of letters, digits and the characters . _ - /, no part of which begins with -, that is not a directory of "
            "the system or of Flower"
        ),
    ),
    "disk": Kind(_form(_DISK), str, "text", "str", lambda _limits: "a device as /dev/NAME or a file system as LABEL=NAME"),
    "gpus": Kind(
        _form(_GPUS), str, "text", "str", lambda _limits: "all, or numbers or UUIDs of GPUs or MIG instances with commas between"
    ),
    "nfs_export": Kind(_nfs_export, str, "text", "str", lambda _limits: "an export as server:/path"),
    "url": Kind(_url, str, "text", "str", lambda _limits: "an address as https://host:port"),
    "bucket": Kind(_form(_BUCKET), str, "text", "str", lambda _limits: "the name of a bucket: 3 to 63 letters, digits and the characters . _ -"),
    "region": Kind(_form(_REGION), str, "text", "str", lambda _limits: "the name of a region: letters, digits and the characters _ -"),
    "object_prefix": Kind(
        _form(_OBJECT_PREFIX), str, "text", "str", lambda _limits: "names without .. of letters, digits and the characters . _ - = @ +, with / between"
    ),
    "credential": Kind(_credential, str, "text", "str", lambda _limits: "up to 256 visible ASCII characters without blanks"),
    "basic_auth": Kind(
        _form(_BASIC_AUTH), str, "text", "str", lambda _limits: "user:hash as htpasswd -nB writes it, with a hash that begins with $2a$, $2b$ or $2y$"
    ),
    "rate": Kind(_rate, str, "text", "str", lambda _limits: "a whole number of kbit, mbit or gbit from 8kbit to 100gbit, such as 512kbit"),
    "networks": _list_kind(_network, "networks as 10.0.0.0/8 or fd00::/8, or addresses"),
    "ports": _list_kind(_open_port, "ports as 51820/udp or 443/tcp"),
    "alternative_names": _list_kind(_alternative_name, "entries IP:<address> or DNS:<name> without wildcards"),
    "node_keys": Kind(
        _node_keys,
        _render_list,
        "text",
        "list",
        lambda _limits: f"{ONE_KEY}, each key once, with commas between",
        empty=list,
        accept=_typed_node_keys,
    ),
    "network": Kind(_tunnel_network, str, "text", "str", lambda _limits: "a network as 10.10.9.0/24 or fd00:9::/64"),
    "tunnel_peers": Kind(
        _tunnel_peers,
        _render_list,
        "text",
        "list",
        lambda _limits: f"{ONE_PEER}, each of them once, with commas between",
        empty=list,
        accept=_typed_tunnel_peers,
    ),
    "tunnel_key": Kind(_tunnel_key, str, "text", "str", lambda _limits: "a public key of WireGuard, 32 bytes in base64"),
    "endpoint": Kind(
        lambda text, _limits: tunnel_values.endpoint(text), str, "text", "str", lambda _limits: "host:port or [IPv6]:port with a UDP port from 1 to 65535"
    ),
    "node_config": Kind(
        _node_config,
        _render_node_config,
        "text",
        "dict",
        lambda _limits: "space separated key=value pairs with different keys, texts with special characters in quotes",
        empty=dict,
        accept=_typed_node_config,
    ),
    "app_source": Kind(_app_source, str, "text", "str", lambda _limits: FORM),
    "certificate": _pem_kind("certificate", "certificate"),
    "private_key": _pem_kind("private_key", "private key"),
}
