"""The MaiRust mail server inside a Python process, and hooks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._call import InvocationFilter, invocation_id
from .app import App, Hook
from .errors import (
    AlreadyExists,
    ConfigurationError,
    Conflict,
    Corrupt,
    ForkRefused,
    InvalidAnswer,
    InvalidArgument,
    MairustError,
    NotFound,
    NotGranted,
    ServerError,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from .message import Address, Attachment, Auth, Client, Dkim, Envelope, Header, Headers, Message, Session, Tls
from .server import Server, Storage, StoredMessage, memory, sqlite
from .verdicts import Quarantine, Reject, TempFail, Verdict, allow, quarantine, reject, tempfail

if TYPE_CHECKING:
    from ._cli import main, run
    from ._mairust import __version__

__all__ = [
    "Address", "AlreadyExists", "App", "Attachment", "Auth", "Client", "ConfigurationError", "Conflict", "Corrupt", "Dkim",
    "Envelope", "ForkRefused", "Header", "Headers", "Hook", "InvalidAnswer", "InvalidArgument", "InvocationFilter",
    "MairustError", "Message", "NotFound", "NotGranted", "Quarantine", "Reject", "Server", "ServerError", "Session",
    "Storage", "StorageError", "StorageFull", "StorageUnavailable", "StoredMessage", "TempFail", "Tls", "Verdict",
    "__version__", "allow", "invocation_id", "main", "memory", "quarantine", "reject", "run", "sqlite", "tempfail",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # A worker of the stdin protocol needs no native module.
    if name == "__version__":
        from ._mairust import __version__

        return __version__
    if name in ("main", "run"):
        from . import _cli

        return getattr(_cli, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
