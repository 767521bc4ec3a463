"""One server that passes mail on, measured: what waits goes out at once, and what comes in goes out."""

import contextlib
import functools
import os
import time

from bulk import Bulk, letter
from groups import seconds_until_idle
from mailservers import Unavailable, free_port
from measure import started
from senders import USER
from sink import sink

SESSIONS = 4
SIZE = 5 << 10
# Before each measurement, so that processes exist and files are open.
WARM_UP = 40
RECIPIENT = "someone@remote.example"


def letters(first, count):
    return [(USER, RECIPIENT, letter(USER, RECIPIENT, number, SIZE)) for number in range(first, first + count)]


@contextlib.contextmanager
def site(bench, sender):
    """The server with a sink behind it, after a few messages and at rest: sink, groups, sessions of a user."""
    port = free_port()
    with started(bench, functools.partial(sender.start, relay=port)) as (running, groups, folder):
        with sink(folder, port) as there:
            with Bulk(("127.0.0.1", running.port), SESSIONS, sender.login) as bulk:
                bulk.send(letters(0, WARM_UP))
                there.wait_for(WARM_UP)
                rest(groups)
                yield there, groups, bulk


def rest(groups):
    if seconds_until_idle(groups.values()) is None:
        raise Unavailable("is not idle")
    os.sync()


def spent(groups):
    return sum(group.cpu_seconds() for group in groups.values())


def relayed(bench, sender, messages):
    """All are queued while the way out is closed; from the opening until the last one is at the sink."""
    with site(bench, sender) as (there, groups, bulk):
        there.close()
        bulk.send(letters(WARM_UP, messages))
        rest(groups)
        before = spent(groups)
        began = time.monotonic()
        there.open()
        return result(there, groups, messages, began, before)


def passed_on(bench, sender, messages):
    """From the first command of the first message until the last one is at the sink."""
    with site(bench, sender) as (there, groups, bulk):
        text = letters(WARM_UP, messages)
        before = spent(groups)
        began = time.monotonic()
        bulk.send(text)
        return result(there, groups, messages, began, before)


def result(there, groups, messages, began, before):
    ended = there.wait_for(WARM_UP + messages)
    idle = seconds_until_idle(groups.values())
    return {
        "messages": messages,
        "seconds": ended - began,
        "messages_per_second": messages / (ended - began),
        "cpu_seconds": spent(groups) - before,
        "seconds_until_idle": idle,
        "arrived": there.count() - WARM_UP,
    }


MEASUREMENTS = {"relayed": relayed, "passed-on": passed_on}
