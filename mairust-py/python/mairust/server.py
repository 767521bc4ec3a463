"""The server inside this process."""

from __future__ import annotations

import atexit
import dataclasses
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _logs
from ._load import loading
from .app import App
from .errors import ConfigurationError, ForkRefused, ServerError

if TYPE_CHECKING:
    from . import _mairust
    from ._runtime import Runtime

__all__ = ["Server", "Storage", "StoredMessage", "memory", "sqlite"]


@dataclasses.dataclass(frozen=True)
class StoredMessage:
    """A message that was taken."""

    id: str
    subject: str
    #: ``INBOX``, ``Junk``, ``Quarantine`` and so on.
    folder: str
    tags: tuple[str, ...]
    flags: tuple[str, ...]
    #: All octets, with what was put in front of them when they were taken.
    raw: bytes


class Storage:
    """Where mail and accounts are kept. Opened when it is needed; one can be used by one server of a process."""

    def __init__(self, kind: str, *arguments: str | None) -> None:
        self._kind, self._arguments = kind, arguments
        self._opened: _mairust.Storage | None = None

    def add_user(self, address: str, password: str) -> None:
        """Has a user with this address and password; domain and user are made if they are not there."""
        self._native().add_user(address, password)

    def messages(self, address: str, *, folder: str | None = None) -> list[StoredMessage]:
        """The messages of a user in the order in which they came, those of a folder or all."""
        return [
            StoredMessage(id, subject or "", where, tuple(tags), tuple(flags), raw)
            for id, subject, where, tags, flags, raw in self._native().messages(address, folder)
        ]

    def _native(self) -> _mairust.Storage:
        from . import _mairust

        if self._opened is None:
            _no_forks()
            self._opened = _mairust.Storage(self._kind, *self._arguments)
        return self._opened


def sqlite(database: str | os.PathLike[str], *, bodies: str | os.PathLike[str]) -> Storage:
    """Rows and queue in a database of SQLite, bodies in a folder. Both are made if they are not there."""
    return Storage("sqlite", os.fspath(database), os.fspath(bodies))


def memory() -> Storage:
    """Everything in memory, for tests: it is gone with the process."""
    return Storage("memory")


class Server:
    """A mail server in this process.

    `start` and `stop`, or a ``with`` block, run it in the background; `run` runs it until Ctrl-C or SIGTERM. What Python
    does never delays it, except for messages that wait for a hook.
    """

    def __init__(
        self,
        hostname: str,
        *,
        storage: Storage,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        server_key: bytes | None = None,
        capture_outbound: bool = False,
        relay: str | None = None,
        verify_senders: bool = True,
        drain: float = 30.0,
        threads: int = 8,
        log: str = "info,rustls=error",
    ) -> None:
        """`hostname` is its name in greetings and Received fields.

        `certificate` names two PEM files: the certificate and its key; without it, one is made that nobody believes.
        `server_key` has 32 octets: API keys are made under it, and no API is served without it. With
        `capture_outbound`, mail to other servers is kept instead of sent; `relay` is ``HOST:PORT``, through which it is
        sent. With `verify_senders`, SPF, DKIM and DMARC are looked at, which asks DNS. `drain` is how long sessions may take to end, in seconds. `threads` is how many hooks that are no coroutines
        run at the same time. `log` is the level from which lines of the server come to `logging`; the first server of
        the process says it for all.
        """
        if server_key is not None and len(server_key) != 32:
            raise ConfigurationError("server_key has 32 octets")
        if threads < 1:
            raise ConfigurationError("threads is at least 1")
        self.hostname, self.storage = hostname, storage
        self._options: dict[str, Any] = {
            "certificate": certificate and tuple(map(os.fspath, certificate)),
            "server_key": server_key,
            "capture_outbound": capture_outbound,
            "relay": relay,
            "verify_senders": verify_senders,
            "drain": drain,
        }
        self._threads, self._log = threads, log
        self._listeners: list[tuple[str, str]] = []
        self._apps: list[App] = []
        self._native: _mairust.Server | None = None
        self._runtime: Runtime | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def listen_smtp(self, address: str) -> Server:
        """Takes mail from other servers at ``IP:PORT``; port 0 is any free one."""
        return self._listen("smtp", address)

    def listen_submission(self, address: str) -> Server:
        """Takes mail from users, with STARTTLS and AUTH."""
        return self._listen("submission", address)

    def listen_submissions(self, address: str) -> Server:
        """Takes mail from users, with TLS from the first octet and AUTH."""
        return self._listen("submissions", address)

    def listen_lmtp(self, address: str) -> Server:
        """Takes mail by LMTP from a mail server of one's own in front of this one. Nobody else may reach it."""
        return self._listen("lmtp", address)

    def listen_http(self, address: str) -> Server:
        """Serves the REST API; needs `server_key`."""
        return self._listen("http", address)

    def mount(self, app: App) -> Server:
        """Has the hooks of an app called."""
        self._configurable()
        taken = {hook.name for mounted in self._apps for hook in mounted.hooks}
        if double := sorted(taken & {hook.name for hook in app.hooks}):
            raise ConfigurationError(f"there are two hooks named {double[0]!r}: give one of them another name=")
        self._apps.append(app)
        return self

    def add_user(self, address: str, password: str) -> Server:
        """Has a user with this address and password, see `Storage.add_user`."""
        self.storage.add_user(address, password)
        return self

    def messages(self, address: str, *, folder: str | None = None) -> list[StoredMessage]:
        """The messages of a user, see `Storage.messages`."""
        return self.storage.messages(address, folder=folder)

    def create_api_key(self, name: str) -> str:
        """A new key for the REST API, with all rights, that `server_key` vouches for."""
        key = self._options["server_key"]
        if key is None:
            raise ConfigurationError("API keys need server_key")
        return self.storage._native().create_api_key(key, secrets.token_hex(8), name)

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where it listens: host and port of the first listener of each kind (``smtp``, ``submission``, ``http`` …)."""
        if self._native is None:
            raise ServerError("the server does not run")
        return dict(reversed(self._native.addresses()))

    @property
    def stuck_threads(self) -> int:
        """Threads of hooks that nobody waits for any more, and that do not end."""
        return self._runtime.calls.stuck if self._runtime else 0

    def start(self) -> Server:
        """Starts it, and returns when it listens."""
        from . import _mairust
        from ._runtime import Runtime

        if loading.get():
            raise ConfigurationError('the file is read for its hooks: start servers under if __name__ == "__main__":')
        self._configurable()
        _no_forks()
        _logs.bridge(self._log)
        runtime = Runtime(self._apps, threads=self._threads)
        runtime.start()
        try:
            native = _mairust.Server(
                self.hostname, self.storage._native(), self._listeners, runtime.calls, **self._options
            )
            native.start()
        except BaseException:
            runtime.stop()
            raise
        self._native, self._runtime, self._error = native, runtime, None
        self._ended.clear()
        _running.add(self)
        self._thread = threading.Thread(target=self._serve, name="mairust-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends it: no new sessions, and those in the middle of a message may finish, as long as `drain` says."""
        if self._native is None or self._thread is None or self._runtime is None:
            return
        self._native.stop()
        self._thread.join()
        self._runtime.stop()
        self._native = self._runtime = self._thread = None
        _running.discard(self)
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Starts it, and stops it at Ctrl-C or SIGTERM. Does nothing where the file is read for its hooks."""
        if loading.get():
            return
        told = threading.Event()
        if threading.current_thread() is not threading.main_thread():
            raise ServerError("only the main thread hears signals: use start() and stop() elsewhere")

        def tell(*_: object) -> None:
            if told.is_set():
                # The second time, nobody wants to wait.
                os._exit(130)
            told.set()

        former = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.start()
            for host, port in self.addresses.values():
                print(f"listening at {host}:{port}", file=sys.stderr, flush=True)
            threading.Thread(target=self._tell, args=(told,), name="mairust-end", daemon=True).start()
            told.wait()
            self.stop()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self, kind: str, address: str) -> Server:
        self._configurable()
        self._listeners.append((kind, address))
        return self

    def _configurable(self) -> None:
        if self._native is not None:
            raise ServerError("the server runs already")

    def _serve(self) -> None:
        assert self._native is not None
        try:
            self._native.run()
        except BaseException as error:
            self._error = error
        self._ended.set()

    def _tell(self, told: threading.Event) -> None:
        self._ended.wait()
        told.set()


#: Servers of this process that run.
_running: set[Server] = set()
_guarded = False


def _no_forks() -> None:
    """Refuses to fork from now on, where that would copy sockets and locks without their threads. Programs can be
    started all the same."""
    global _guarded
    if not _guarded:
        _guarded = True
        sys.addaudithook(_refuse_fork)


def _refuse_fork(event: str, _: Sequence[object]) -> None:
    if event in ("os.fork", "os.forkpty"):
        raise ForkRefused("this process has opened a storage or a server: fork before that, or start a new process")


@atexit.register
def _stop_all() -> None:
    for server in list(_running):
        server.stop()
