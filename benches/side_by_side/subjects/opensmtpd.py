"""OpenSMTPD: messages stay in its queue, because deliveries are paused."""

import contextlib
import os

from mailservers import free_port, opensmtpd, process
from subjects import HOSTNAME, Running

TITLE = "OpenSMTPD"
KEEPS = "in the queue; started with `-P mta -P mda`"
install = opensmtpd.install


@contextlib.contextmanager
def start(folder, group):
    port = free_port()
    config = folder / "smtpd.conf"
    config.write_text(CONFIGURATION.format(hostname=HOSTNAME, port=port))
    command = opensmtpd.command(folder, config, "-P", "mta", "-P", "mda")

    def stored():
        """A message is a folder with its text (`message`) and an envelope for each recipient."""
        found = os.walk(folder / "spool/smtpd/queue")
        return sum("message" in names and len(names) > 1 for _, _, names in found)

    with process(group("server").command(*command), folder / "log", [port], env=opensmtpd.environment()):
        yield Running(opensmtpd.version(), port, stored)


CONFIGURATION = """
listen on 127.0.0.1 port {port} hostname {hostname} no-dsn
action "keep" relay
match from any for any action "keep"
"""
