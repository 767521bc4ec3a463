"""Who asks, and who answers: signatures of requests to hooks, and of their answers (HMAC-SHA256)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable

__all__ = ["SignatureError", "parse_secret", "sign", "sign_response", "verify"]

#: How far the clocks of both sides may differ, in seconds.
TOLERANCE = 300


class SignatureError(ValueError):
    """A request does not come from whom it should."""


def parse_secret(text: str) -> bytes:
    """The octets of a secret as it is shown: ``whsec_`` and base64."""
    try:
        if not text.startswith("whsec_"):
            raise ValueError
        octets = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        if not 24 <= len(octets) <= 64:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError("a secret is whsec_ and the base64 of 24 to 64 octets") from None
    return octets


def sign(secret: bytes, request_id: str, timestamp: str, body: bytes) -> str:
    """What `X-MaiRust-Signature` says of a request."""
    return "sha256=" + hmac.digest(secret, f"{request_id}.{timestamp}.".encode() + body, hashlib.sha256).hex()


def sign_response(secret: bytes, request_id: str, timestamp: str, body: bytes) -> str:
    """What `X-MaiRust-Response-Signature` says of an answer."""
    return "sha256=" + hmac.digest(secret, f"resp.{request_id}.{timestamp}.".encode() + body, hashlib.sha256).hex()


def verify(
    secrets: Iterable[bytes],
    request_id: str,
    timestamp: str,
    body: bytes,
    signatures: str,
    now: float | None = None,
) -> bytes:
    """Whether one of the signatures was made with one of the secrets, and not long ago. Returns that secret.

    `now` is in seconds since 1970; the clock of the system, if nothing is said.
    """
    if not request_id or not signatures:
        raise SignatureError("the request is not signed")
    if not timestamp.isascii() or not timestamp.isdigit():
        raise SignatureError("the timestamp is no number")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        raise SignatureError("the request is too old, or the clocks differ")
    listed = [one.strip() for one in signatures.split(",")]
    found = None
    for secret in secrets:
        expected = sign(secret, request_id, timestamp, body).encode()
        for one in listed:
            if hmac.compare_digest(expected, one.encode()):
                found = found or secret
    if found is None:
        raise SignatureError("the signature is wrong")
    return found
