# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Contexts of VMs, from the table of parameters: what people give, what they damage on the way, and what an attacker would try."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st

from ansible_collections.opennebula.flower.plugins.module_utils import contextualization as table
from ansible_collections.opennebula.flower.plugins.module_utils.flower.node_keys import TYPE

PARAMETERS = {parameter.context_name: parameter for parameter in table.PARAMETERS if not parameter.platform}
# Whatever ends a line, a word or a value for some program, or begins something else.
HOSTILE = (
    "\n", "\r", "\r\n", "\0", "\x0b", "\x0c", "\x1b[2J", "\x1c", "\x85", "\u2028", "\u202e", "\ufeff", "\ud800", "\udc80", "\udfff", "\uffff", "\U000e0041",
    "é",
    "'", '"', "\\", "\\\n", "\\n", "\\x0a", "\\u0022", "#", " #", ";", "; ", ",", "=", " = ", ":", "::", "/", "//", "..", "../../etc/passwd", "-", "--help",
    " ", "\t", "  -e x", "|", "&", "&&id", "*", "~", "!", "?", "<", ">", "(", ")", "{", "}", "[", "]", "]]>", "@", "%", "%%", "%i", "%n", "%h%t", "$", "$$",
    "$HOME", "${HOME}", "$(id)", "`id`", "{{ 424242 + 1 }}", "{{424242+1}}", "{% raw %}", "{# #}", "!unsafe x", "{{lookup('pipe','id')}}", "<x>", "&amp;",
    "\n[Service]\nExecStart=/bin/sh", "\nfrontend evil\n    bind :1", "\nExecStartPre=+/bin/true", "'''", '"""', "\n[table]\nkey = 1", "\nkey = 1", '"\nx = "',
    " accept; } table inet x { }", "\ntcp dport 1-65535 accept", "__import__('os')", "0x10", "1_000", "1e999", "nan", "inf", "-0", "٣", "１", "null", "true",
    "~root",
    "!!python/object/apply:os.system [id]", ":!x", "x:y:z", "a,b", "0.0.0.0", "::1", "%eth0", "@/etc/passwd", "file:///etc/passwd",
)  # fmt: skip
_ANY = st.text(st.characters(exclude_categories=()), max_size=12)
_PRINTABLE = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20)
_LONG = (200, 1024, 1025, 20_000)


def _many(one: st.SearchStrategy[str], most: int = 3, between: str = ",") -> st.SearchStrategy[str]:
    return st.lists(one, min_size=1, max_size=most).map(between.join)


def _certificate(name: str, key: Any, issuer_key: Any, names: tuple[str, ...] = ()) -> str:
    """A CA or, with names, a server's certificate that the CA signed."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=100))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(entry) for entry in names]), critical=False)
    else:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


_CA_KEY, _SERVER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _key in range(2))
CA = _certificate("ca", _CA_KEY, _CA_KEY)
SERVER = _certificate("server", _SERVER_KEY, _CA_KEY, ("superlink.example.org",))
ODD_SERVER = _certificate("server", _SERVER_KEY, _CA_KEY, ("superlink\nexample.org",))
KEY = _SERVER_KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
CERTIFICATES = (CA, SERVER, ODD_SERVER, SERVER + CA)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _damaged(pem: str) -> st.SearchStrategy[str]:
    """The same PEM with other bytes in it, which is still PEM."""
    head, *lines, end = pem.strip().splitlines()
    try:
        content = base64.b64decode("".join(lines))
    except ValueError:  # of several certificates
        return st.just(pem.replace("\n", "\\n"))

    def changed(place: int, byte: int) -> str:
        place %= len(content)
        return f"{head}\n{_encoded_bytes(content[:place] + bytes([byte]) + content[place + 1 :])}\n{end}\n"

    return st.builds(changed, st.integers(0, len(content) - 1), st.integers(0, 255))


def _encoded_bytes(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _pem(texts: tuple[str, ...]) -> st.SearchStrategy[str]:
    whole = st.sampled_from(texts)
    return st.one_of(
        whole, whole.map(_encoded), whole.map(lambda text: _encoded(_encoded(text))), whole.map(lambda text: text.replace("\n", " ")), whole.flatmap(_damaged)
    )


def _number(parameter: table.Parameter) -> st.SearchStrategy[str]:
    limits = parameter.limits
    if limits.choices:
        return st.sampled_from(limits.choices)
    least = int(limits.minimum or 0)
    return st.integers(least - 1, int(limits.maximum or least + 20) + 1).map(str)


def _float(parameter: table.Parameter) -> st.SearchStrategy[str]:
    limits = parameter.limits
    bounds = [bound for bound in (limits.minimum, limits.maximum, limits.above, limits.below) if bound is not None]
    return st.one_of(st.floats(0, 1.5).map(str), st.sampled_from([str(bound) for bound in bounds] or ["1"]), st.floats(width=32).map(str))


_NAME = st.sampled_from(["a", "host", "superlink.example.org", "xn--bcher-kva.example", "a.b.", "localhost", "a_b-c"])
_V4 = st.sampled_from(["0.0.0.0", "10.0.0.1", "127.0.0.1", "127.9.9.9", "224.0.0.1", "255.255.255.255", "010.1.1.1", "192.168.10.254"])
_V6 = st.sampled_from(["::", "::1", "fd00::5", "fe80::1%eth0", "FE80:0::1", "::ffff:10.0.0.1", "ff02::1", "2001:db8::1"])
_PORT = st.sampled_from(["1", "22", "443", "8000", "9092", "9093", "9094", "9101", "18000", "65535", "65536", "0", "00443"])
_ADDRESS = st.one_of(st.builds("{}:{}".format, st.one_of(_NAME, _V4), _PORT), st.builds("[{}]:{}".format, _V6, _PORT), st.builds("{}:{}".format, _V6, _PORT))
_PART = st.sampled_from(["a", "models", "x.npz", "A-b_c", ".hidden", "1"])
_PATH = _many(_PART, between="/")
_WORD = st.sampled_from(
    ["x", "two words", "7", "1.5", "true", "it's", "a=b", "", 'say "x"', "%i", "$HOME", "C:\\temp", "x.toml", "é", "{{424242+1}}", "a'b\"c"]
)
_KEY_OF_NODE = st.sampled_from(["key", "data-directory", "ml-framework", "partition-id", "_x", "1", "gpu-memory-fraction", "a-b", "vm-id"])


def _quoted(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'


_PAIR = st.builds("{}={}".format, _KEY_OF_NODE, st.one_of(_WORD.map(_quoted), _WORD))
_NODE_KEY = st.builds(
    lambda point, name: f"{TYPE} {_encoded_bytes(_key_blob(point))}{name}",
    st.binary(min_size=96, max_size=96),
    st.sampled_from(["", " node-1", " me@host", "  x:y", " two words"]),
)


def _key_blob(point: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in (TYPE.encode(), b"nistp384", b"\x04" + point))


_NETWORK = st.one_of(_V4, _V6, st.sampled_from(["10.0.0.0/8", "10.0.0.1/8", "10.1.0.0/255.255.0.0", "fd00::/8", "0.0.0.0/0", "::/0", "10.0.0.0/33"]))
_TUNNEL_KEY = st.binary(min_size=32, max_size=32).map(_encoded_bytes)
_SOURCE = st.sampled_from(
    [
        "/srv/app", "/srv/app.fab", "/srv/{{424242+1}}", "/srv/'\"$(id)`%i", "https://git.example.org/team/app.git@v1.2#subdirectory=flower",
        "ssh://git@git.example.org/x.git", "git+https://git.example.org/x", "file:///srv/app.git", "https://[::1]/x", "https://[::1/x", "https://a:b@c/d", "http://a/b",
    ]
)  # fmt: skip
_HASH = "$2y$05$" + "ab./XYZ09" * 5 + "abcdefgh"

# What people give for each kind, and what is nearly that.
USUAL: dict[str, Callable[[table.Parameter], st.SearchStrategy[str]]] = {
    "text": lambda _p: st.one_of(st.sampled_from(["a,b,c", "one", "0,1", "a, b"]), _PRINTABLE, _WORD),
    "version": lambda p: st.sampled_from([*p.limits.choices, "1.2", "99.0.0"]),
    "number": _number,
    "float": _float,
    "boolean": lambda _p: st.sampled_from(["YES", "NO", "yes", "No", "true", "1", "maybe"]),
    "list": lambda p: st.sampled_from([*p.limits.choices, p.limits.choices[0].lower()]),
    "address": lambda _p: _ADDRESS,
    "remote_address": lambda _p: _ADDRESS,
    "state_file": lambda _p: st.one_of(_PATH, _PATH.map("state/{}".format), _PATH.map("state/runs/{}".format)),
    "absolute_path": lambda _p: _PATH.map("/app/{}".format),
    "own_directory": lambda _p: st.builds("{}/{}".format, st.sampled_from(["/app", "/srv", "/etc", "/opt/flower", "/mnt", "/home/x"]), _PATH),
    "disk": lambda _p: st.sampled_from(["/dev/vdb", "/dev/disk/by-id/x", "LABEL=data", "/dev/../etc/passwd", "UUID=1"]),
    "gpus": lambda _p: st.sampled_from(["all", "0", "0,1", "GPU-5a6b,MIG-1/2/3", "0,", "none"]),
    "nfs_export": lambda _p: st.builds("{}:/{}".format, st.one_of(_NAME, _V4, _V6.map("[{}]".format)), _PATH),
    "url": lambda _p: st.builds("{}://{}".format, st.sampled_from(["https", "http", "ftp"]), st.one_of(_ADDRESS, _NAME)),
    "bucket": lambda _p: st.sampled_from(["models", "a.b-c_d", "ab", "True", "123"]),
    "region": lambda _p: st.sampled_from(["eu-1", "us_east", "1"]),
    "object_prefix": lambda _p: _many(st.sampled_from(["a", "b=c", "@x", "+", "..", "."]), between="/"),
    "credential": lambda _p: st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    "basic_auth": lambda _p: st.sampled_from([f"prometheus:{_HASH}", f"a.b-c:{_HASH.replace('2y', '2b')}", "user:password", f"x:y:{_HASH}"]),
    "rate": lambda _p: st.sampled_from(["512kbit", "1mbit", "100gbit", "101gbit", "7kbit", "1kbps"]),
    "networks": lambda _p: _many(_NETWORK),
    "network": lambda _p: _NETWORK,
    "endpoint": lambda _p: _ADDRESS,
    "tunnel_key": lambda _p: _TUNNEL_KEY,
    "tunnel_peers": lambda _p: _many(st.builds("{} {} {}".format, _TUNNEL_KEY, st.one_of(_V4, _V6), st.sampled_from(["lyon/vm-1", "vm-2", "a b"]))),
    "ports": lambda _p: _many(st.builds("{}/{}".format, _PORT, st.sampled_from(["tcp", "udp", "sctp"]))),
    "alternative_names": lambda _p: _many(st.one_of(st.builds("IP:{}".format, st.one_of(_V4, _V6)), _NAME.map("DNS:{}".format))),
    "node_keys": lambda _p: _many(_NODE_KEY),
    "node_config": lambda _p: _many(_PAIR, between=" "),
    "app_source": lambda _p: _SOURCE,
    "certificate": lambda _p: _pem(CERTIFICATES),
    "private_key": lambda _p: _pem((KEY,)),
}  # fmt: skip


def _inserted(text: str, piece: str, place: int, removed: int) -> str:
    place %= len(text) + 1
    return text[:place] + piece + text[place + removed :]


_PIECE = st.one_of(st.sampled_from(HOSTILE), _ANY)
_PLACE = st.integers(0, 400)
_LONG_TEXT = st.builds(lambda piece, length: piece * (length // max(len(piece), 1)), _PIECE, st.sampled_from(_LONG))


def _values(parameter: table.Parameter) -> st.SearchStrategy[str]:
    usual = USUAL[parameter.kind](parameter) | st.just(parameter.default)
    mutated = st.builds(_inserted, usual, _PIECE, _PLACE, st.sampled_from([0, 0, 1]))
    hostile = st.one_of(_PIECE, st.lists(_PIECE, max_size=4).map("".join), _ANY)
    chosen = {"usual": usual, "mutated": mutated, "hostile": hostile, "long": _LONG_TEXT}
    return st.sampled_from(["usual"] * 12 + ["mutated"] * 9 + ["hostile"] * 2 + ["long"]).flatmap(chosen.__getitem__)


_VALUES = {name: _values(parameter) for name, parameter in PARAMETERS.items()}
_OF_ONE = st.sampled_from(sorted(PARAMETERS)).flatmap(lambda name: st.tuples(st.just(name), _VALUES[name]))


def _pool(**usual: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    """Parameters that only belong together say something."""
    return st.fixed_dictionaries({f"ONEAPP_FL_{name}": st.sampled_from(values) for name, values in usual.items()})


_TOGETHER = st.one_of(
    st.just({}),
    st.just({}),
    _pool(SSL_CA_CERTFILE=(CA,), SSL_CERTFILE=(SERVER, SERVER, ODD_SERVER), SSL_KEYFILE=(KEY,), ADVERTISE_ADDRESS=("superlink.example.org:9092", "")),
    _pool(
        S3_ENDPOINT=("https://s3", "http://10.0.0.9:9000"), S3_BUCKET=("models",), S3_ACCESS_KEY=("a{{424242+1}}", "%i$(id)"), S3_SECRET_KEY=("s'\"`\\$#",),
        S3_CA_CERTFILE=(CA, ""),
    ),
    _pool(
        METRICS_ENABLED=("YES",), METRICS_FROM=("", "10.0.0.0/8", "10.0.0.0/8,fd00::/8"), METRICS_AUTH=("", f"prometheus:{_HASH}"), METRICS_CERTFILE=(SERVER,),
        METRICS_KEYFILE=(KEY,),
    ),
    _pool(METRICS_ENABLED=("YES",), METRICS_FROM=("10.0.0.0/8",), METRICS_AUTH=("", f"prometheus:{_HASH}")),
    _pool(APP_SOURCE=("/srv/{{424242+1}}", "https://git.example.org/x.git"), APP_CONFIG=("a=1 b='say \"x\"' c=\"it's %i $(id)\"", "x=true")),
    _pool(HOST_FIREWALL_SSH_FROM=("10.0.0.0/8,fd00::/8",), HOST_FIREWALL_OPEN=("51820/udp,443/tcp",), HOST_FIREWALL_OUTBOUND=("0.0.0.0/0,::/0", "fd00::/8")),
    _pool(CONTROL_API_ADDRESS=("0.0.0.0:9093",), CONTROL_CLIENT_CA=(CA,)),
    _pool(STRATEGY=("FedYogi", "Krum", "FedTrimmedAvg"), NUM_MALICIOUS=("0", "1"), MIN_AVAILABLE_CLIENTS=("9",), USE_CASE=("image_classification",)),
)  # fmt: skip
_OTHERS = st.dictionaries(
    st.one_of(
        st.sampled_from(["ETH0_IP", "ETH1_IP", "FL_NUM_ROUNDS", "ONEAPP_FL_NUM_ROUND", "FLOWER_VERSION", "ONEAPP_FL_" + "A" * 2000, "SSH_PUBLIC_KEY"]),
        st.from_regex(r"(ONEAPP_)?(FL|ML|FLOWER)_[A-Z_]{1,20}", fullmatch=True),
    ),
    st.one_of(_V4, _V6, _NAME, _PIECE),
    max_size=2,
)  # fmt: skip


def contexts() -> st.SearchStrategy[dict[str, str]]:
    """Contexts of VMs: names and texts."""
    return st.builds(
        lambda together, given, others: {**together, **dict(given), **others},
        _TOGETHER,
        st.lists(_OF_ONE, min_size=1, max_size=5),
        st.sampled_from([False, False, False, True]).flatmap(lambda wanted: _OTHERS if wanted else st.just({})),
    )
