"""An aiosmtpd server that stores into a Maildir; started by `peers/aiosmtpd.py` with its settings as JSON."""

import json
import pathlib
import signal
import ssl
import sys
import threading
import uuid

# This folder also has a module named aiosmtpd.
sys.path.pop(0)

from aiosmtpd.controller import Controller  # noqa: E402
from aiosmtpd.smtp import SMTP, AuthResult  # noqa: E402


class Handler:
    """Knows the addresses, and stores what is accepted."""

    def __init__(self, settings, submission):
        self.settings = settings
        self.submission = submission
        self.maildir = pathlib.Path(settings["maildir"])

    async def handle_RCPT(self, server, session, envelope, address, options):
        local, _, domain = address.rpartition("@")
        if address.lower() != "postmaster":
            try:
                ours = domain.encode("idna").decode().lower() in self.settings["domains"]
            except UnicodeError:
                ours = False
            if not ours and not (self.submission and session.authenticated):
                return "550 5.7.1 Relaying is not permitted"
            if ours and local.lower() not in self.settings["local_parts"]:
                return "550 5.1.1 No such address"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        name = uuid.uuid4().hex
        sender = envelope.mail_from.strip("<>")
        content = f"Return-Path: <{sender}>\r\n".encode() + envelope.original_content
        (self.maildir / "tmp" / name).write_bytes(content)
        (self.maildir / "tmp" / name).rename(self.maildir / "new" / name)
        return "250 2.0.0 OK"


class Server(Controller):
    """One listener; `options` go to the SMTP class."""

    def __init__(self, handler, port, options):
        self.options = options
        super().__init__(handler, hostname="127.0.0.1", port=port)

    def factory(self):
        return SMTP(self.handler, **self.options)


def main():
    settings = json.loads(sys.argv[1])
    for folder in ("new", "cur", "tmp"):
        pathlib.Path(settings["maildir"], folder).mkdir(parents=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings["certificate"], settings["key"])

    def authenticate(server, session, envelope, mechanism, data):
        right = data.login.decode() == settings["user"] and data.password.decode() == settings["password"]
        return AuthResult(success=right, handled=False)

    common = {
        "hostname": settings["hostname"],
        "data_size_limit": settings["limit"],
        "enable_SMTPUTF8": True,
        "tls_context": context,
    }
    login = {"authenticator": authenticate, "auth_required": True, "auth_require_tls": True}
    Server(
        Handler(settings, submission=False),
        settings["ports"]["mx"],
        {**common, "auth_exclude_mechanism": ["LOGIN", "PLAIN"]},
    ).start()
    Server(Handler(settings, submission=True), settings["ports"]["submission"], {**common, **login}).start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()


if __name__ == "__main__":
    main()
