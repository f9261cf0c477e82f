# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to oned (XML-RPC) and OneFlow (REST) with one identity, answers as plain values, errors as OneException.

pyone is not used for the wire: its time-out never reaches the requests it sends, so a hanging endpoint would hang
a playbook, and it takes no session, so every call would pay for a new (TLS) connection.
"""

from __future__ import annotations

import json
import re
import xmlrpc.client
from base64 import b64encode
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit
from xml.parsers import expat

from . import answers, errors, xml
from .errors import OneException
from .http import Http, without_credentials

_PAGE_SIZE = 2000
# A million objects; a server that still has more sends them for ever.
_MOST_PAGES = 500
_READS = tuple(
    f".{name}"
    for name in ("info", "infoextended", "infoset", "monitoring", "accounting", "showback", "version", "config")
)


class Client:
    """One user's view of one zone.

    api_url: the XML-RPC endpoint, http://HOST:2633/RPC2. oneflow_url: by default port 2474 of the same host.
    password: a password or a login token, with any characters in it. warn: is told what a person should know.

    asked: the last request, empty before the first.
    """

    def __init__(
        self,
        api_url: str,
        username: str,
        password: str,
        timeout: float = 30,
        validate_certs: bool = True,
        ca_path: str | None = None,
        oneflow_url: str | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.username = username
        self.warn = warn
        self.asked = ""
        self.api_url = api_url
        self.oneflow_url = (oneflow_url or _beside(api_url, 2474)).rstrip("/")
        self._auth = (username, password)
        self._http = Http(timeout, validate_certs, ca_path)
        self._flow_http = Http(timeout, validate_certs, ca_path)
        self._version: tuple[int, ...] | None = None

    def call(self, method: str, *arguments: object) -> object:
        """Call an XML-RPC method (one.image.info) and return its answer as ``answers`` understands it.

        arguments: a dictionary among them is a template, which goes as OpenNebula's text.
        Raises OneException, the kind tells why, and TemplateSyntaxError.
        """
        self.asked = method
        values = [_template(argument) if isinstance(argument, dict) else argument for argument in arguments]
        try:
            request = xmlrpc.client.dumps((":".join(self._auth), *values), method).encode()
        except (UnicodeEncodeError, OverflowError, TypeError) as error:
            raise OneException(errors.INVALID, f"{method} cannot take these arguments: {error}.") from None
        status, body = self._http.send(
            "POST", self.api_url, request,
            headers={"Content-Type": "text/xml"}, retry=method.endswith(_READS),
        )
        return answers.of_call(self.place, method, self._answer(method, status, body), arguments)

    def pages(self, method: str, element: str, *arguments: int, who: int = -2) -> Iterator[list[dict]]:
        """Yield the objects of a pool in pages of 2,000, each fetched when it is asked for.

        who: OpenNebula's filter flag, by default every object the user may see. arguments: what the method takes
        after the page. Raises OneException, of kind protocol for a server that never comes to an end.
        """
        seen: set[str] = set()
        for number in range(_MOST_PAGES):
            page = xml.items(self.call(method, who, number * _PAGE_SIZE, -_PAGE_SIZE, *arguments), element)
            known = len(seen)
            seen.update(item["ID"] for item in page)
            # An object that is made meanwhile moves others to the next page, but never all of them.
            if page and len(seen) == known:
                raise answers.not_understood(self.place, method, "a page of objects that it had sent already")
            yield page
            if len(page) < _PAGE_SIZE:
                return
        raise answers.not_understood(self.place, method, f"more than {_MOST_PAGES * _PAGE_SIZE} objects")

    def pool(self, method: str, element: str, *arguments: int, who: int = -2) -> list[dict]:
        """Return all objects of a pool; takes what ``pages`` takes."""
        return [item for page in self.pages(method, element, *arguments, who=who) for item in page]

    def flow(self, method: str, path: str, body: dict | None = None) -> dict | None:
        """Send a request to OneFlow and return the JSON of its answer, None where it says that there is none.

        Raises OneException; the kind tells why.
        """
        self.asked = f"{method} {path}"
        status, content = self._flow_http.send(
            method, self.oneflow_url + path, None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": self._basic_auth()}, retry=method == "GET",
        )
        text = content.decode(errors="replace").strip()
        place = without_credentials(self.oneflow_url)
        if status >= 300:
            from .refusals import flow_refusal

            raise flow_refusal(method, path, status, text, place, self._auth[0])
        if status == 204:
            return None
        try:
            answer = answers.of_json(text)
        except ValueError:
            raise answers.not_understood(place, self.asked, "something that is not JSON" if text else "nothing") from None
        return answers.of_flow(place, self.asked, answer)

    @property
    def place(self) -> str:
        """The endpoint as it may be shown."""
        return without_credentials(self.api_url)

    @property
    def version(self) -> tuple[int, ...]:
        """OpenNebula's version as numbers, (7, 4, 0), asked for once."""
        if self._version is None:
            text = str(self.call("one.system.version"))
            self._version = tuple(int(number) for number in re.findall(r"\d+", text))
        return self._version

    def _basic_auth(self) -> str:
        # urllib3 would encode text as Latin-1.
        return f"Basic {b64encode(':'.join(self._auth).encode()).decode()}"

    def _answer(self, method: str, status: int, body: bytes) -> object:
        if status != 200:
            raise OneException(
                errors.PROTOCOL, f"{self.place} answered {method} with HTTP status {status}: it is not an XML-RPC endpoint."
            )
        try:
            answer = _loads(body)
            success, value = answer[0], answer[1]
        except xmlrpc.client.Fault as fault:
            raise OneException(
                errors.PROTOCOL, f"{self.place} cannot execute {method}: {str(fault.faultString).strip().rstrip('.')}."
            ) from None
        except Exception:
            # Garbage makes the parser raise nearly anything.
            raise answers.not_understood(self.place, method, "something that is not an XML-RPC answer") from None
        if success is True:
            return value
        code = answer[2] if len(answer) > 2 else 0
        if success is not False or not isinstance(value, str) or isinstance(code, bool) or not isinstance(code, int):
            raise answers.not_understood(self.place, method, "something that is not an answer of OpenNebula")
        from .refusals import call_refusal

        raise call_refusal(method, value, code, self.place, self._auth[0])


def _loads(body: bytes) -> object:
    """Return the value of an XML-RPC answer; raises Fault, and nearly anything for garbage.

    xmlrpc.client.loads hands over every escaped character by itself, which takes five times as long for a document in a string.
    """
    values = xmlrpc.client.Unmarshaller()
    values.xml(None, None)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = values.start, values.end
    parser.CharacterDataHandler = values.data
    parser.Parse(body, True)
    return values.close()[0]


def _beside(url: str, port: int) -> str:
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    return f"{parts.scheme or 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _template(attributes: dict) -> str:
    from .template import render

    return render(attributes)
