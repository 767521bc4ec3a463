"""The servers that pass mail on: each takes it from users, keeps it, and gives all of it to one host.

`start(folder, group, relay)`, a context manager, gives a `Running`; `relay` is the port of that host on this
machine. `LOGIN` is what a user needs, under TLS.
"""

import contextlib
import dataclasses
import os
import typing

import subjects.ours
import subjects.postfix
from mailservers import run
from subjects import RECIPIENT

USER = RECIPIENT
DELIVERY = """
delivery:
  relay: 127.0.0.1:{relay}
"""
# `default_process_limit` and what limits deliveries are as Postfix and Debian come.
RELAY = """
relayhost = [127.0.0.1]:{relay}
smtpd_relay_restrictions = permit_mynetworks, reject
"""


@dataclasses.dataclass(frozen=True)
class Sender:
    title: str
    install: typing.Callable
    start: typing.Callable
    login: tuple | None


@contextlib.contextmanager
def ours(folder, group, relay):
    with serve(folder, group, relay, lambda config: None) as running:
        yield running


@contextlib.contextmanager
def signing(folder, group, relay):
    with serve(folder, group, relay, make_keys) as running:
        yield running


def serve(folder, group, relay, prepare):
    more = DELIVERY.format(relay=relay)
    return subjects.ours.serve(folder, group, "backend: sqlite", os.environ, "submission", more, prepare)


def make_keys(config):
    """An RSA key of 2,048 bits and an Ed25519 key, both of which sign."""
    domain = USER.partition("@")[2]
    run(subjects.ours.BINARY, "domain", "dkim", "rotate", domain, "--activate", "-c", config)


@contextlib.contextmanager
def postfix(folder, group, relay):
    with subjects.postfix.serve(folder, group, RELAY.format(relay=relay)) as running:
        yield running


LOGIN = USER, subjects.ours.PASSWORD
SENDERS = {
    "ours": Sender("MaiRust, SQLite", subjects.ours.install, ours, LOGIN),
    "ours-dkim": Sender("MaiRust, SQLite, signing by DKIM (RSA and Ed25519)", subjects.ours.install, signing, LOGIN),
    "postfix": Sender("Postfix", subjects.postfix.install, postfix, None),
}
