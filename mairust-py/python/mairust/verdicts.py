"""What a hook says about a message."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Quarantine", "Reject", "TempFail", "Verdict", "allow", "quarantine", "reject", "tempfail"]

#: Verdicts, the one that counts most first.
_ORDER = ("reject", "tempfail", "quarantine", "allow")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is to become of a message. Made by `allow`, `quarantine`, `reject` and `tempfail`."""

    #: ``allow``, ``quarantine``, ``tempfail`` or ``reject``.
    name: str
    #: The code of the reply, if the message is refused; None for the usual one.
    code: int | None = None
    #: The enhanced status code (RFC 3463), of the same class; None for the usual one.
    enhanced: str | None = None
    #: What the sender is told, in printable ASCII; None for the usual text.
    text: str | None = None
    #: Why, for logs and administrators. No sender is told.
    reason: str | None = None
    #: How much speaks against the message: from -100 to 100, on the hook's own scale.
    score: float | None = None
    #: What is to be done with the message if it is taken, as the protocol writes it.
    actions: tuple[Mapping[str, Any], ...] = ()

    @property
    def tags(self) -> list[str]:
        """The tags that it puts on the message."""
        return [tag for action in self.actions if action["op"] == "tag.add" for tag in action["tags"]]

    @property
    def refuses(self) -> bool:
        """Whether the message is refused, temporarily or for good."""
        return self.name in ("reject", "tempfail")

    def to_dict(self) -> dict[str, Any]:
        """The answer of the hook protocol."""
        answer: dict[str, Any] = {"verdict": self.name}
        if self.refuses and not (self.code is None and self.enhanced is None and self.text is None):
            usual = 550 if self.name == "reject" else 451
            smtp = {"code": usual if self.code is None else self.code, "enhanced": self.enhanced, "text": self.text}
            answer["smtp"] = {key: value for key, value in smtp.items() if value is not None}
        if self.score is not None:
            answer["score"] = self.score
        if self.reason is not None:
            answer["reason"] = self.reason
        if self.actions:
            answer["actions"] = [dict(action) for action in self.actions]
        return answer

    def to_json(self) -> bytes:
        """The answer of the hook protocol, in octets."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False).encode()


def allow(
    *,
    score: float | None = None,
    reason: str | None = None,
    tags: Iterable[str] = (),
    move: str | None = None,
    headers: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Verdict:
    """Lets the message pass."""
    return Verdict("allow", reason=reason, score=score, actions=_actions(tags, move, headers, metadata))


def quarantine(
    reason: str | None = None,
    *,
    score: float | None = None,
    tags: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Verdict:
    """Takes the message, and keeps it apart."""
    return Verdict("quarantine", reason=reason, score=score, actions=_actions(tags, None, headers, metadata))


def reject(
    text: str | None = None,
    *,
    code: int | None = None,
    enhanced: str | None = None,
    reason: str | None = None,
    score: float | None = None,
) -> Verdict:
    """Refuses the message for good, by 550 5.7.1 if nothing else is said."""
    return Verdict("reject", code, enhanced, text, reason, score)


def tempfail(
    text: str | None = None,
    *,
    code: int | None = None,
    enhanced: str | None = None,
    reason: str | None = None,
    score: float | None = None,
) -> Verdict:
    """Refuses the message temporarily, by 451 4.7.1 if nothing else is said: its sender tries again later."""
    return Verdict("tempfail", code, enhanced, text, reason, score)


class VerdictException(Exception):
    """A verdict that is raised instead of returned. It is no failure of the hook."""

    #: The verdict.
    verdict: Verdict


class Reject(VerdictException):
    """Refuses the message for good, see `reject`."""

    def __init__(
        self,
        text: str | None = None,
        *,
        code: int | None = None,
        enhanced: str | None = None,
        reason: str | None = None,
        score: float | None = None,
    ) -> None:
        super().__init__(text)
        self.verdict = reject(text, code=code, enhanced=enhanced, reason=reason, score=score)


class TempFail(VerdictException):
    """Refuses the message temporarily, see `tempfail`."""

    def __init__(
        self,
        text: str | None = None,
        *,
        code: int | None = None,
        enhanced: str | None = None,
        reason: str | None = None,
        score: float | None = None,
    ) -> None:
        super().__init__(text)
        self.verdict = tempfail(text, code=code, enhanced=enhanced, reason=reason, score=score)


class Quarantine(VerdictException):
    """Takes the message, and keeps it apart, see `quarantine`."""

    def __init__(
        self, reason: str | None = None, *, score: float | None = None, tags: Iterable[str] = ()
    ) -> None:
        super().__init__(reason)
        self.verdict = quarantine(reason, score=score, tags=tags)


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """One verdict of those of several hooks, in their order: the one that counts most, and of equals the first.
    Actions of all of them are done, unless the message is refused."""
    verdicts = list(verdicts)
    first = min(verdicts, key=lambda verdict: _ORDER.index(verdict.name), default=allow())
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    actions = () if first.refuses else tuple(action for verdict in verdicts for action in verdict.actions)
    return dataclasses.replace(first, score=max(scores, default=None), actions=actions)


def _actions(
    tags: Iterable[str], move: str | None, headers: Mapping[str, str] | None, metadata: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], ...]:
    if isinstance(tags, str):
        raise TypeError("tags is a list of tags, not one")
    actions: list[Mapping[str, Any]] = []
    if tags := list(tags):
        actions.append({"op": "tag.add", "tags": tags})
    if move is not None:
        actions.append({"op": "move", "folder": move})
    actions += [{"op": "header.add", "name": name, "value": value} for name, value in (headers or {}).items()]
    actions += [{"op": "metadata.set", "key": key, "value": value} for key, value in (metadata or {}).items()]
    return tuple(actions)
