"""aiosmtpd with a handler that keeps its word: a file for each message, synced before the reply."""

import contextlib
import pathlib

from mailservers import aiosmtpd, free_port, process
from subjects import Running

TITLE = "aiosmtpd"
KEEPS = "in a Maildir, by a handler that syncs the file and its directory in a pool of threads"
install = aiosmtpd.install


@contextlib.contextmanager
def start(folder, group):
    port = free_port()
    server = pathlib.Path(__file__).with_name("aiosmtpd_server.py")

    def stored():
        return sum(1 for _ in (folder / "mail/new").iterdir())

    command = group("server").command(aiosmtpd.PYTHON, server, port, folder / "mail")
    with process(command, folder / "log", [port]):
        yield Running(aiosmtpd.VERSION, port, stored)
