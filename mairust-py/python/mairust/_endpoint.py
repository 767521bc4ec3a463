"""The HTTP transport: an endpoint that believes signed requests only, and signs its answers."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import signal
import socket
import socketserver
import threading
import time
from typing import Any

from . import signature
from ._call import InvocationFilter, invocation_id
from ._threads import Threads
from .app import App
from .errors import ConfigurationError
from .message import Message

#: No request is larger (hooks that nobody waits for).
MAX_BODY = 4 << 20
#: For how many seconds an answer is kept for a request that comes again.
REMEMBERED = 600
#: How long a hook may take, if the request does not say less, in seconds.
LONGEST = 300.0

_log = logging.getLogger("mairust.plugin")


def run(app: App, where: str, plugin_id: str | None, secrets: str | None) -> int:
    """Serves until the process is told to stop."""
    if not secrets:
        raise ConfigurationError("MAIRUST_SECRET is not set: requests could not be told from forged ones")
    try:
        keys = [signature.parse_secret(text) for text in secrets.split()]
    except ValueError as error:
        raise ConfigurationError(f"MAIRUST_SECRET: {error}") from None
    logging.basicConfig(level=logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(InvocationFilter())
    try:
        endpoint = Endpoint(app, where, keys, plugin_id)
    except OSError as error:
        raise ConfigurationError(f"{where}: {error.strerror or error}") from None
    with endpoint:
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        _log.info("ready at %s", endpoint.address)
        ended.wait()
    return 0


class Endpoint:
    """Answers requests by what the hooks of an app say, while it is entered."""

    def __init__(self, app: App, where: str, secrets: list[bytes], plugin_id: str | None = None) -> None:
        self.app, self.secrets, self.plugin_id = app, secrets, plugin_id
        self.threads = Threads(32, "mairust-hook")
        self._answers: dict[str, tuple[float, bytes]] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._looping = threading.Thread(target=self._loop.run_forever, name="mairust-asyncio", daemon=True)
        self._path = where.removeprefix("unix:") if where.startswith("unix:") else None
        handler = type("Bound", (Handler,), {"endpoint": self})
        if self._path is not None:
            _remove_stale(self._path)
            self._server: socketserver.BaseServer = UnixServer(self._path, handler)
            self.address = where
        else:
            host, _, port = where.rpartition(":")
            if not host or not port.isdigit():
                raise ConfigurationError(f"--http is HOST:PORT or unix:PATH, not {where}")
            server = TcpServer((host.strip("[]"), int(port)), handler)
            self._server, self.address = server, f"http://{host}:{server.server_address[1]}"

    def __enter__(self) -> Endpoint:
        self._looping.start()
        asyncio.run_coroutine_threadsafe(self.app.startup(), self._loop).result()
        threading.Thread(target=self._server.serve_forever, name="mairust-http", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        asyncio.run_coroutine_threadsafe(self.app.shutdown(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._looping.join()
        if self._path is not None:
            os.unlink(self._path)

    def answer(self, request_id: str, body: bytes, timeout: float) -> bytes:
        """The answer to a request that is believed. One that comes again gets the same."""
        now = time.monotonic()
        with self._lock:
            self._answers = {key: kept for key, kept in self._answers.items() if now - kept[0] < REMEMBERED}
            if kept := self._answers.get(request_id):
                return kept[1]
        request = json.loads(body)
        if self.plugin_id is not None and request["plugin"]["id"] != self.plugin_id:
            raise signature.SignatureError("the request is for another plugin")
        message = Message.from_request(request)
        asked = asyncio.wait_for(self._ask(message, request["hook"]), timeout)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        with self._lock:
            self._answers[request_id] = (now, answer)
        return answer

    async def _ask(self, message: Message, point: str) -> bytes:
        invocation_id.set(message.invocation_id)
        try:
            return (await self.app.ask(message, point, self.threads.run)).to_json()
        except (KeyboardInterrupt, SystemExit) as error:
            # These would end the loop.
            raise RuntimeError(f"the hook raised {type(error).__name__}") from error


def _remove_stale(path: str) -> None:
    """Removes the socket of a process that has ended without doing so."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            # There is none, or something else stands there.
            pass


class TcpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    endpoint: Endpoint
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            return self._reply(413, b"")
        body = self.rfile.read(int(length))
        try:
            request_id, secret = self._verify(body)
            answer = self.endpoint.answer(request_id, body, self._time())
        except signature.SignatureError as error:
            _log.warning("refused: %s", error)
            return self._reply(401, b"")
        except Exception as error:
            # The traceback says what happened; the server is told only that something did.
            _log.exception("a hook failed")
            return self._reply(504 if isinstance(error, (TimeoutError, asyncio.TimeoutError)) else 500, b"")
        self._reply(200, answer, request_id, secret)

    def do_GET(self) -> None:
        try:
            request_id, secret = self._verify(b"")
        except signature.SignatureError:
            return self._reply(401, b"")
        self._reply(200, b'{"status":"ok"}', request_id, secret)

    def _verify(self, body: bytes) -> tuple[str, bytes]:
        names = ("X-MaiRust-Request-Id", "X-MaiRust-Timestamp", "X-MaiRust-Signature")
        request_id, timestamp, signatures = (self.headers.get(name, "") for name in names)
        return request_id, signature.verify(self.endpoint.secrets, request_id, timestamp, body, signatures)

    def _time(self) -> float:
        left = self.headers.get("X-MaiRust-Deadline-Ms", "")
        return min(LONGEST, int(left) / 1000) if left.isdigit() else LONGEST

    def _reply(self, status: int, body: bytes, request_id: str = "", secret: bytes | None = None) -> None:
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if secret is not None:
            timestamp = self.headers["X-MaiRust-Timestamp"]
            self.send_header(
                "X-MaiRust-Response-Signature", signature.sign_response(secret, request_id, timestamp, body)
            )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        _log.debug(format, *arguments)
