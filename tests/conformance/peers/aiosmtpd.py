"""aiosmtpd: the library's own server with a handler that knows addresses and writes a Maildir."""

import contextlib
import json
import pathlib

from mailservers import aiosmtpd, free_port, process
from peers import HOSTNAME, IDN_DOMAIN, MAX_SIZE, PASSWORD, USER, Peer, certificate

NAME = "aiosmtpd"
SETTINGS = (
    "`enable_SMTPUTF8`, `tls_context`, `auth_require_tls`; a library: its handler here knows addresses and writes "
    "Return-Path, and `Received` is left to the application"
)
install = aiosmtpd.install


@contextlib.contextmanager
def start(folder):
    ports = {"mx": free_port(), "submission": free_port()}
    cert, key = certificate(folder)
    settings = {
        "hostname": HOSTNAME,
        "ports": ports,
        "certificate": str(cert),
        "key": str(key),
        "limit": MAX_SIZE,
        "maildir": str(folder / "mail"),
        "domains": ["example.com", IDN_DOMAIN],
        "local_parts": ["alice", "bob", "postmaster"],
        "user": USER,
        "password": PASSWORD,
    }
    server = pathlib.Path(__file__).with_name("aiosmtpd_server.py")
    with process([aiosmtpd.PYTHON, server, json.dumps(settings)], folder / "log", ports.values()):
        yield Peer(aiosmtpd.VERSION, f"maildir:{folder}/mail", ports)
