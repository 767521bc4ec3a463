"""aiosmtpd: the library's own server with a handler that knows addresses and writes a Maildir."""

import contextlib
import json
import pathlib
import sys

from peers import CACHE, HOSTNAME, IDN_DOMAIN, MAX_SIZE, PASSWORD, USER, Peer, certificate, free_port, process, run

NAME = "aiosmtpd"
SETTINGS = (
    "`enable_SMTPUTF8`, `tls_context`, `auth_require_tls`; a library: its handler here knows addresses and writes "
    "Return-Path, and `Received` is left to the application"
)
VERSION = "1.4.6"
PYTHON = CACHE / "aiosmtpd" / "bin" / "python"


def install():
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", PYTHON.parents[1])
        run(PYTHON, "-m", "pip", "install", "-q", f"aiosmtpd=={VERSION}")


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
    with process([PYTHON, server, json.dumps(settings)], folder / "log", ports.values()):
        yield Peer(VERSION, f"maildir:{folder}/mail", ports)
