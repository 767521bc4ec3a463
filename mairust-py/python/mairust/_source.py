"""Where the parts of a message come from: the server's own process, or a request of the hook protocol."""

from __future__ import annotations

import base64
import email.header
import email.utils
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .errors import NotGranted

if TYPE_CHECKING:
    from ._mairust import Mail


class Source(Protocol):
    """Gives the parts of a message, each when it is asked for."""

    def facts(self) -> Mapping[str, Any]:
        """What is told about it: a request of the hook protocol, perhaps without what the message says."""

    def headers(self) -> list[tuple[str, str, bytes]]:
        """Name, decoded value and octets of each header field."""

    def addresses(self, name: str) -> list[tuple[str, str]]:
        """Name and address of all in From, To or Cc."""

    def text(self) -> str: ...

    def text_is_cut(self) -> bool: ...

    def html(self) -> str: ...

    def raw(self) -> bytes: ...

    def attachment(self, index: int) -> bytes: ...


class NativeSource:
    """A message in this process: nothing is withheld, and everything is decoded as the server itself does it."""

    def __init__(self, mail: Mail, facts: Mapping[str, Any] | None = None) -> None:
        self._mail = mail
        self._facts = facts

    def facts(self) -> Mapping[str, Any]:
        if self._facts is None:
            self._facts = json.loads(self._mail.facts())
        return self._facts

    def headers(self) -> list[tuple[str, str, bytes]]:
        return self._mail.headers()

    def addresses(self, name: str) -> list[tuple[str, str]]:
        return self._mail.addresses(name)

    def text(self) -> str:
        return self._mail.text()

    def text_is_cut(self) -> bool:
        return False

    def html(self) -> str:
        return self._mail.html()

    def raw(self) -> bytes:
        return self._mail.raw()

    def attachment(self, index: int) -> bytes:
        return self._mail.attachment(index)


class RequestSource:
    """A message as a request shows it."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request

    def facts(self) -> Mapping[str, Any]:
        return self._request

    def headers(self) -> list[tuple[str, str, bytes]]:
        found = self._part("headers")
        return [(one["name"], one["value"], _octets(one)) for one in found]

    def addresses(self, name: str) -> list[tuple[str, str]]:
        # The request has no addresses, but fields as they stand in the message where decoding changed them.
        only = self._request.get("granted", {}).get("read_headers_only")
        if only is not None and name.lower() not in [one.lower() for one in only]:
            raise NotGranted(f"message.headers.{name}")
        fields = [octets for field, _, octets in self.headers() if field.lower() == name.lower()]
        texts = [octets.decode("utf-8", "surrogateescape") for octets in fields]
        return [(_decoded(shown), address) for shown, address in email.utils.getaddresses(texts) if shown or address]

    def text(self) -> str:
        return self._part("body")["text"] or ""

    def text_is_cut(self) -> bool:
        return bool(self._part("body")["truncated"])

    def html(self) -> str:
        body = self._part("body")
        if body["mode"] != "full":
            raise NotGranted("message.body.full")
        return body["html"] or ""

    def raw(self) -> bytes:
        raise NotGranted("message.raw")

    def attachment(self, index: int) -> bytes:
        found = next(one for one in self._part("attachments") if one["index"] == index)
        if found.get("content_b64") is None or found.get("truncated"):
            raise NotGranted("message.attachments[].content")
        return base64.b64decode(found["content_b64"])

    def _part(self, name: str) -> Any:
        message = self._request["message"]
        if name not in message:
            raise NotGranted(f"message.{name}")
        return message[name]


def _octets(field: Mapping[str, Any]) -> bytes:
    if (encoded := field.get("raw_b64")) is not None:
        return base64.b64decode(encoded)
    return str(field.get("raw") or field["value"]).encode()


def _decoded(name: str) -> str:
    """A display name without encoded words (RFC 2047)."""
    try:
        return str(email.header.make_header(email.header.decode_header(name)))
    except (LookupError, ValueError):
        return name
