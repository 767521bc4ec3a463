"""The servers that pass mail on: each takes it from users, keeps it, and gives all of it to one host."""

import dataclasses
import os
import typing

import subjects.ours
import subjects.postfix
from mailservers import run
from subjects import RECIPIENT

USER = RECIPIENT
# From the first message on as many deliveries as ever.
DELIVERY = """
delivery:
  relay: 127.0.0.1:{relay}
  ramp_up: 0
"""
WIDE = """
  workers: 40
  max_connections_per_host: 40
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
    # With a folder, what makes groups of processes, and the port of the host on this machine: a context manager
    # that gives a `Running`.
    start: typing.Callable
    # Name and password of the user, under TLS; None where anybody may send.
    login: tuple | None


def ours(folder, group, relay, more="", prepare=lambda config: None):
    delivery = DELIVERY.format(relay=relay) + more
    return subjects.ours.serve(folder, group, "backend: sqlite", os.environ, "submission", delivery, prepare)


def wide(folder, group, relay):
    return ours(folder, group, relay, more=WIDE)


def signing(folder, group, relay):
    return ours(folder, group, relay, prepare=make_keys)


def make_keys(config):
    """An RSA key of 2,048 bits and an Ed25519 key, both of which sign."""
    domain = USER.partition("@")[2]
    run(subjects.ours.BINARY, "domain", "dkim", "rotate", domain, "--activate", "-c", config)


def postfix(folder, group, relay):
    return subjects.postfix.serve(folder, group, RELAY.format(relay=relay))


LOGIN = USER, subjects.ours.PASSWORD
SENDERS = {
    "ours": Sender("MaiRust, SQLite", subjects.ours.install, ours, LOGIN),
    "ours-dkim": Sender("MaiRust, SQLite, signing by DKIM (RSA and Ed25519)", subjects.ours.install, signing, LOGIN),
    "ours-wide": Sender("MaiRust, SQLite, 40 workers and connections", subjects.ours.install, wide, LOGIN),
    "postfix": Sender("Postfix", subjects.postfix.install, postfix, None),
}
