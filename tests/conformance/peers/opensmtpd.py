"""OpenSMTPD from Debian's package, in a mount namespace, because its paths are compiled in."""

import contextlib
import os

from mailservers import free_port, opensmtpd, process, user
from peers import HOSTNAME, IDN_DOMAIN, MAX_SIZE, Peer

NAME = "OpenSMTPD"
SETTINGS = (
    "tables of virtual users; without TLS, and so without submission: this version fails every handshake with "
    "OpenSSL 3 ([issue 1171](https://github.com/OpenSMTPD/OpenSMTPD/issues/1171))"
)
install = opensmtpd.install


@contextlib.contextmanager
def start(folder):
    port = free_port()
    uid, gid = user(opensmtpd.ACCOUNTS[0])
    (folder / "mail").mkdir()
    os.chown(folder / "mail", uid, gid)
    addresses = (
        "alice@example.com",
        "bob@example.com",
        "postmaster@example.com",
        f"postmaster@{HOSTNAME}",
        f"alice@{IDN_DOMAIN}",
        "alice@grün.example",
    )
    (folder / "addresses").write_text("".join(f"{address} delivered\n" for address in addresses))
    (folder / "users").write_text(f"delivered {uid}:{gid}:{folder}\n")
    config = folder / "smtpd.conf"
    config.write_text(CONFIGURATION.format(folder=folder, hostname=HOSTNAME, idn=IDN_DOMAIN, limit=MAX_SIZE, port=port))
    command = opensmtpd.command(folder, config)
    with process(command, folder / "log", [port], env=opensmtpd.environment()):
        yield Peer(opensmtpd.version(), f"maildir:{folder}/mail", {"mx": port}, tls=False)


CONFIGURATION = """
table addresses file:{folder}/addresses
table users file:{folder}/users
smtp max-message-size {limit}
listen on 127.0.0.1 port {port} hostname {hostname}
action "deliver" maildir "{folder}/mail" virtual <addresses> userbase <users>
match from any for domain {{ "example.com", "{hostname}", "{idn}", "grün.example" }} action "deliver"
"""
