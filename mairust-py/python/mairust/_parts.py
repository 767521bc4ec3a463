"""What a message consists of, and what is known about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from ._source import Source
from .errors import NotGranted


@dataclasses.dataclass(frozen=True)
class Address:
    """A name and an address, as they stand in a header field or in the envelope. Both may be empty."""

    name: str
    address: str

    @property
    def local(self) -> str:
        """What stands before the last ``@``."""
        return self.address.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """What stands behind the last ``@``."""
        return self.address.rpartition("@")[2] if "@" in self.address else ""

    def __bool__(self) -> bool:
        return bool(self.address)

    def __str__(self) -> str:
        return self.address


@dataclasses.dataclass(frozen=True)
class Header:
    """A header field."""

    name: str
    #: Unfolded and decoded (RFC 2047).
    value: str
    #: As it stands in the message.
    raw: bytes


class Headers(Mapping[str, str]):
    """Header fields by their names, whatever their case: the first one of each name. `get_all` has the others."""

    def __init__(self, fields: Iterable[Header], only: Iterable[str] | None = None) -> None:
        #: All of them that may be seen, in order.
        self.fields = tuple(fields)
        self._only = None if only is None else {name.lower() for name in only}

    def __getitem__(self, name: str) -> str:
        self._check(name)
        for field in self.fields:
            if field.name.lower() == name.lower():
                return field.value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({field.name.lower(): field.name for field in reversed(self.fields)}.values())

    def __len__(self) -> int:
        return len({field.name.lower() for field in self.fields})

    def get_all(self, name: str) -> list[str]:
        """The values of all fields of this name, in order."""
        self._check(name)
        return [field.value for field in self.fields if field.name.lower() == name.lower()]

    def _check(self, name: str) -> None:
        if self._only is not None and name.lower() not in self._only:
            raise NotGranted(f"message.headers.{name}")


@dataclasses.dataclass(frozen=True)
class Attachment:
    """Something that is attached."""

    index: int
    #: Decoded; empty if it has none.
    filename: str
    #: In lower case.
    content_type: str
    #: In octets, after the transfer encoding is undone.
    size: int
    _source: Source = dataclasses.field(repr=False, compare=False)

    @property
    def content(self) -> bytes:
        """The octets, their transfer encoding undone."""
        return self._source.attachment(self.index)


@dataclasses.dataclass(frozen=True)
class Envelope:
    """Who sends to whom (RFC 5321 §2.3.1)."""

    #: MAIL FROM; empty for the null reverse-path.
    sender: Address
    #: RCPT TO, as far as they are the tenant's.
    recipients: tuple[Address, ...]
    #: Whether SMTPUTF8 was asked for; None if that is not known.
    smtputf8: bool | None = None


@dataclasses.dataclass(frozen=True)
class Client:
    """Who connected."""

    ip: str
    port: int | None = None
    #: Its name, if it leads back to its address.
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class Tls:
    """What was agreed on by a TLS handshake."""

    version: str
    cipher: str


@dataclasses.dataclass(frozen=True)
class Session:
    """How a message came in. Nothing is known of it once the message is stored."""

    #: ``smtp``, ``submission``, ``api``, ``scheduled`` or ``internal``; empty if it is not known.
    origin: str = ""
    listener: str | None = None
    client: Client | None = None
    helo: str | None = None
    #: None for plain text.
    tls: Tls | None = None
    #: The address of the user who logged in.
    user: str | None = None


@dataclasses.dataclass(frozen=True)
class Dkim:
    """What was found for one DKIM signature."""

    result: str
    domain: str
    selector: str


@dataclasses.dataclass(frozen=True)
class Auth:
    """What SPF, DKIM and DMARC found, in the words of RFC 8601; ``none`` where nothing was looked at."""

    spf: str = "none"
    spf_domain: str | None = None
    #: ``pass`` if one signature is good, and else what was found for the first one.
    dkim: str = "none"
    signatures: tuple[Dkim, ...] = ()
    dmarc: str = "none"
    dmarc_domain: str | None = None
    #: What the domain publishes: ``none``, ``quarantine`` or ``reject``.
    dmarc_policy: str | None = None
