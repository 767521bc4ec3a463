"""A message, as hooks see it."""

from __future__ import annotations

import email
import email.message
import email.policy
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, cast

from ._parts import Address, Attachment, Auth, Client, Dkim, Envelope, Header, Headers, Session, Tls
from ._source import NativeSource, RequestSource, Source
from .errors import NotGranted

__all__ = ["Address", "Attachment", "Auth", "Client", "Dkim", "Envelope", "Header", "Headers", "Message", "Session", "Tls"]

Flag = Literal["\\Answered", "\\Draft", "\\Flagged", "\\Seen"]


T = TypeVar("T")


class Message:
    """A message, and what is to be done with it. Everything is read when it is asked for, and nothing can be changed.

    What this program may not see raises `NotGranted`. In the server's own process that is nothing.
    """

    __slots__ = ("_actions", "_read", "_source")
    _actions: list[Mapping[str, Any]]
    _read: dict[str, Any]
    _source: Source

    def __init__(self, source: Source, read: dict[str, Any] | None = None) -> None:
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_read", {} if read is None else read)
        object.__setattr__(self, "_actions", [])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a message can't be changed: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a message can't be changed: {name}")

    def __repr__(self) -> str:
        return f"<Message {self.id or self.fingerprint if not self.is_redacted('message.fingerprint') else self.id}>"

    # Where messages come from.

    @classmethod
    def from_bytes(
        cls,
        octets: bytes,
        *,
        mail_from: str | None = None,
        rcpt_to: Iterable[str] = (),
        spf: str | None = None,
        dkim: str | None = None,
        dmarc: str | None = None,
        client: str | None = None,
        helo: str | None = None,
        user: str | None = None,
    ) -> Message:
        """A message of these octets, for tests. What SPF, DKIM and DMARC are to have found can be said."""
        from ._mairust import Mail

        recipients = [rcpt_to] if isinstance(rcpt_to, str) else list(rcpt_to)
        facts = json.loads((mail := Mail(bytes(octets))).facts())
        facts["envelope"] = {"mail_from": mail_from, "rcpt_to": [{"address": one} for one in recipients]}
        facts["session"] = {
            "origin": "submission" if user else "smtp",
            "client": client and {"ip": client},
            "helo": helo,
            "auth_user": user and {"address": user},
        }
        facts["auth_results"] = {
            "spf": spf and {"result": spf, "domain": None},
            "dkim": [{"result": dkim, "domain": "", "selector": ""}] if dkim else [],
            "dmarc": dmarc and {"result": dmarc, "domain": None, "policy": None},
        }
        return cls(NativeSource(mail, facts))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **known: Any) -> Message:
        """The message in a file, for tests; see `from_bytes` for what else can be said."""
        with open(path, "rb") as file:
            return cls.from_bytes(file.read(), **known)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> Message:
        """The message that a request of the hook protocol shows."""
        return cls(RequestSource(request))

    def for_call(self) -> Message:
        """The same message, with nothing to be done yet."""
        return Message(self._source, self._read)

    # What is told about it.

    @property
    def invocation_id(self) -> str | None:
        """The id of the call; the same however often it is tried. None in tests."""
        value: str | None = self._facts.get("invocation_id")
        return value

    @property
    def mode(self) -> str:
        """What becomes of the answer: it is done (``enforce``), or, for ``shadow``, ``test`` and ``replay``, only written
        down; ``catch_up`` comes about mail that passed while nobody answered."""
        return str(self._facts.get("mode", "test"))

    @property
    def attempt(self) -> int:
        """The number of the attempt, counted from 1."""
        return int(self._facts.get("attempt", 1))

    @property
    def tenant_id(self) -> str | None:
        """Whose mail it is."""
        value: str | None = self._facts.get("tenant", {}).get("id")
        return value

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings of the hook, where it runs as a process of its own."""
        value: Mapping[str, Any] = self._facts.get("plugin", {}).get("config", {})
        return value

    @property
    def id(self) -> str | None:
        """Its id in the REST API; None before it is stored."""
        value: str | None = self._facts["message"]["id"]
        return value

    @property
    def size(self) -> int:
        """Its size in octets."""
        return int(self._facts["message"]["size"])

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and the SHA-256 of its octets."""
        return str(self._granted("message.fingerprint", self._facts["message"].get("fingerprint", "")))

    @property
    def envelope(self) -> Envelope:
        """Who sends to whom."""
        return self._once("envelope", self._envelope)

    @property
    def session(self) -> Session:
        """How it came in."""
        return self._once("session", self._session)

    @property
    def auth(self) -> Auth:
        """What SPF, DKIM and DMARC found."""
        return self._once("auth", self._auth)

    @property
    def policy_score(self) -> float | None:
        """What the server itself made of it, or of its sender; None if it did not look."""
        policy = self._granted("policy", self._facts.get("policy"))
        return None if policy is None else float(policy["score"])

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of a stored message."""
        return tuple(self._granted("flags", self._facts.get("flags")) or ())

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of a stored message."""
        return tuple(self._granted("tags", self._facts.get("tags")) or ())

    @property
    def folder(self) -> str | None:
        """The folder of a stored message."""
        value: str | None = self._granted("mailbox.folder", (self._facts.get("mailbox") or {}).get("folder"))
        return value

    # What it says.

    @property
    def headers(self) -> Headers:
        """The header fields."""
        only = self._facts.get("granted", {}).get("read_headers_only")
        return self._once("headers", lambda: Headers((Header(*field) for field in self._source.headers()), only))

    @property
    def subject(self) -> str:
        """The subject, decoded; empty if it has none."""
        return self.headers.get("Subject", "")

    @property
    def from_(self) -> Address:
        """The first address of From; empty if there is none."""
        addresses = self._addresses("From")
        return addresses[0] if addresses else Address("", "")

    @property
    def to(self) -> tuple[Address, ...]:
        """The addresses of To."""
        return self._addresses("To")

    @property
    def cc(self) -> tuple[Address, ...]:
        """The addresses of Cc."""
        return self._addresses("Cc")

    @property
    def text(self) -> str:
        """The text, decoded; HTML is reduced to text if there is nothing else. Empty if there is none.

        A process of its own sees the beginning only, unless `read_body` is granted as ``full``: see `text_is_cut`.
        """
        return self._once("text", self._source.text)

    @property
    def text_is_cut(self) -> bool:
        """Whether there is more text than shown."""
        return self._source.text_is_cut()

    @property
    def html(self) -> str:
        """The HTML, decoded; empty if there is none."""
        return self._once("html", self._source.html)

    @property
    def has_attachments(self) -> bool:
        """Whether something is attached."""
        return bool(self._facts["message"]["has_attachments"])

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What is attached, in order."""
        return self._once("attachments", self._attachments)

    @property
    def raw(self) -> bytes:
        """All octets, exactly as they were received."""
        return self._once("raw", self._source.raw)

    @property
    def raw_view(self) -> memoryview:
        """The octets of `raw`. Parts of it are no copies."""
        return memoryview(self.raw)

    def as_email(self) -> email.message.EmailMessage:
        """The message as the standard library reads it."""
        message = email.message_from_bytes(self.raw, policy=email.policy.default)
        assert isinstance(message, email.message.EmailMessage)
        return message

    def is_redacted(self, part: str) -> bool:
        """Whether a part, as the protocol names it, may not be seen."""
        return part in self._facts.get("redacted", ())

    # What is to be done with it.

    @property
    def actions(self) -> tuple[Mapping[str, Any], ...]:
        """What is to be done so far, as the protocol writes it."""
        return tuple(self._actions)

    def add_tag(self, *tags: str) -> None:
        """Puts tags on the message: 1 to 64 letters, digits and ``_ : . / -`` each."""
        self._actions.append({"op": "tag.add", "tags": list(tags)})

    def remove_tag(self, *tags: str) -> None:
        """Takes tags off the message."""
        self._actions.append({"op": "tag.remove", "tags": list(tags)})

    def add_flag(self, *flags: Flag) -> None:
        """Sets flags."""
        self._actions.append({"op": "flag.add", "flags": list(flags)})

    def remove_flag(self, *flags: Flag) -> None:
        """Removes flags."""
        self._actions.append({"op": "flag.remove", "flags": list(flags)})

    def move(self, folder: str) -> None:
        """Moves the message into this folder. The first hook that says so wins."""
        self._actions.append({"op": "move", "folder": folder})

    def set_metadata(self, key: str, value: Any) -> None:
        """Keeps something with the message, for this hook itself. None of other hooks is touched."""
        self._actions.append({"op": "metadata.set", "key": key, "value": value})

    def delete_metadata(self, key: str) -> None:
        """Forgets what was kept."""
        self._actions.append({"op": "metadata.delete", "key": key})

    def add_header(self, name: str, value: str) -> None:
        """Adds a header field in front of the message."""
        self._actions.append({"op": "header.add", "name": name, "value": value})

    # How it is read.

    @property
    def _facts(self) -> Mapping[str, Any]:
        return self._source.facts()

    def _once(self, name: str, read: Callable[[], T]) -> T:
        if name not in self._read:
            self._read[name] = read()
        return cast(T, self._read[name])

    def _granted(self, part: str, value: Any) -> Any:
        if self.is_redacted(part):
            raise NotGranted(part)
        return value

    def _addresses(self, name: str) -> tuple[Address, ...]:
        return self._once(name, lambda: tuple(Address(*one) for one in self._source.addresses(name)))

    def _attachments(self) -> tuple[Attachment, ...]:
        found = self._granted("message.attachments", self._facts["message"].get("attachments") or [])
        return tuple(
            Attachment(one["index"], one["filename"] or "", one["content_type"], one["size"], self._source) for one in found
        )

    def _envelope(self) -> Envelope:
        envelope = self._granted("envelope", self._facts.get("envelope")) or {}
        recipients = tuple(Address("", one["address"]) for one in envelope.get("rcpt_to", ()))
        return Envelope(Address("", envelope.get("mail_from") or ""), recipients, envelope.get("smtputf8"))

    def _session(self) -> Session:
        session = self._granted("session", self._facts.get("session")) or {}
        client, tls, user = session.get("client"), session.get("tls"), session.get("auth_user")
        return Session(
            origin=session.get("origin", ""),
            listener=session.get("listener"),
            client=client and Client(client["ip"], client.get("port"), client.get("ptr")),
            helo=session.get("helo"),
            tls=tls and Tls(tls["version"], tls["cipher"]),
            user=user and user["address"],
        )

    def _auth(self) -> Auth:
        found = self._granted("auth_results", self._facts.get("auth_results")) or {}
        spf, dmarc = found.get("spf") or {}, found.get("dmarc") or {}
        signatures = tuple(Dkim(one["result"], one["domain"], one["selector"]) for one in found.get("dkim") or ())
        good = any(one.result == "pass" for one in signatures)
        return Auth(
            spf=spf.get("result", "none"),
            spf_domain=spf.get("domain"),
            dkim="pass" if good else next((one.result for one in signatures), "none"),
            signatures=signatures,
            dmarc=dmarc.get("result", "none"),
            dmarc_domain=dmarc.get("domain"),
            dmarc_policy=dmarc.get("policy"),
        )
