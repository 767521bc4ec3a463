"""Fixtures for tests of hooks, found by pytest by itself."""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from .app import App
from .server import Server, StoredMessage, memory

T = TypeVar("T")

__all__ = ["TestServer", "mairust_server"]


class TestServer:
    """A running server, with its storage in memory and ports that were free."""

    __test__ = False

    def __init__(self, server: Server) -> None:
        self.server = server

    def smtp(self, kind: str = "smtp") -> smtplib.SMTP:
        """A client that has connected to a listener of this kind: ``smtp`` or ``submission``."""
        host, port = self.server.addresses[kind]
        return smtplib.SMTP(host, port, timeout=30)

    def receive(self, sender: str, recipient: str, message: str | bytes) -> None:
        """Sends a message to the server, as other servers do. Raises what `smtplib` does if it is refused."""
        with self.smtp() as client:
            client.sendmail(sender, [recipient], message)

    def submit(self, user: str, password: str, recipient: str, message: str | bytes) -> None:
        """Sends a message as a user does, who sends as oneself."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.smtp("submission") as client:
            client.starttls(context=context)
            client.login(user, password)
            client.sendmail(user, [recipient], message)

    def messages(self, address: str, *, folder: str | None = None) -> list[StoredMessage]:
        """The messages of a user, in the order in which they came."""
        return self.server.messages(address, folder=folder)

    def wait_for(self, condition: Callable[[], T], timeout: float = 10.0) -> T:
        """Waits until the condition is true, and returns what it gave. Hooks at `post_receive` run after the reply."""
        never, end = threading.Event(), time.monotonic() + timeout
        while time.monotonic() < end:
            if found := condition():
                return found
            never.wait(0.02)
        raise AssertionError(f"it did not happen within {timeout:g} s")


@pytest.fixture
def mairust_server() -> Iterator[Callable[..., TestServer]]:
    """Starts servers: ``mairust_server(app, users={"alice@example.com": "password"})``. They end with the test."""
    started: list[Server] = []

    def start(*apps: App, users: dict[str, str] | None = None, **options: Any) -> TestServer:
        options = {"capture_outbound": True, "verify_senders": False, **options}
        server = Server("mx.test", storage=memory(), **options)
        for address, password in (users or {"alice@example.com": "correct horse"}).items():
            server.add_user(address, password)
        server.listen_smtp("127.0.0.1:0").listen_submission("127.0.0.1:0")
        for app in apps:
            server.mount(app)
        started.append(server.start())
        return TestServer(server)

    yield start
    for server in started:
        server.stop()
