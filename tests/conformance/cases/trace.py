"""Return-Path and Received (RFC 5321 §4.4), and loops."""

import email.utils
import re

from suite import NotOffered, case, expect


@case(
    "return-path",
    "RFC 5321 §4.4",
    "A stored message has exactly one Return-Path, with the reverse-path of the envelope.",
)
def return_path(trial):
    connection, token = trial.ready(), trial.token()
    message = trial.deliver(connection, token, trial.message(token))
    expect(
        message.fields("Return-Path") == [f"<{trial.sender(token)}>"], f"Return-Path: {message.fields('Return-Path')}"
    )


@case(
    "return-path-forged",
    "RFC 5321 §4.4",
    "A Return-Path that the client sent does not stand before the true one.",
    profiles=("mx",),
)
def return_path_forged(trial):
    connection, token = trial.ready(), trial.token()
    message = trial.deliver(connection, token, trial.message(token, fields="Return-Path: <forged@evil.example>\r\n"))
    paths = message.fields("Return-Path")
    expect(paths[:1] == [f"<{trial.sender(token)}>"], f"Return-Path: {paths}")


@case("received", "RFC 5321 §4.4", "One Received field is added in front: from, by, with, and a date (RFC 5322 §3.3).")
def received(trial):
    connection, token = trial.ready(), trial.token()
    message = trial.deliver(
        connection, token, trial.message(token, fields="Received: from a by b; Tue, 24 Nov 2026 11:00:00 +0000\r\n")
    )
    fields = message.fields("Received")
    expect(len(fields) >= 2, "no Received field is added")
    expect(fields[-1].startswith("from a by b"), f"the oldest Received field is {fields[-1]!r}")
    for word in ("from ", "by ", "with ", "client.example"):
        expect(re.search(rf"(^|\W){re.escape(word)}", fields[-2]), f"no {word!r} in {fields[-2]!r}")
    date = fields[-2].rpartition(";")[2].strip()
    expect(email.utils.parsedate_tz(date), f"{date!r} is no date")
    names = [name.lower() for name, _ in message.fields()]
    expect(names.index("received") < names.index("from"), "the Received field is not in front")


def protocol(message):
    """The keyword after `with` in the Received field of the server that talked to us."""
    fields = [field for field in message.fields("Received") if "client.example" in field]
    if not fields:
        raise NotOffered("no Received field names the client")
    found = re.search(r"\bwith\s+(?:local\s+)?([A-Za-z0-9-]+)", fields[0])
    return found and found[1].upper()


def with_keyword(identifier, section, sentence, keywords, connect, profiles):
    @case(identifier, section, sentence, profiles=profiles)
    def keyword(trial):
        connection, token = connect(trial), trial.token()
        used = protocol(trial.deliver(connection, token, trial.message(token)))
        expect(used in keywords, f"with {used}")


def greet_with_helo(trial):
    connection = trial.connect()
    expect(connection.command("HELO client.example").code == 250, "HELO is refused")
    return connection


with_keyword(
    "received-smtp",
    "RFC 5321 §4.4",
    "After HELO, the Received field says with SMTP.",
    ("SMTP",),
    greet_with_helo,
    ("mx",),
)
with_keyword(
    "received-esmtp",
    "RFC 3848",
    "After EHLO, the Received field says with ESMTP.",
    ("ESMTP",),
    lambda trial: trial.hello(),
    ("mx",),
)
with_keyword(
    "received-esmtps",
    "RFC 3848",
    "Under TLS, the Received field says with ESMTPS.",
    ("ESMTPS",),
    lambda trial: trial.secure(),
    ("mx",),
)
with_keyword(
    "received-esmtpsa",
    "RFC 3848",
    "Under TLS and after AUTH, the Received field says with ESMTPSA.",
    ("ESMTPSA",),
    lambda trial: trial.ready(),
    ("submission",),
)


@case(
    "loop",
    "RFC 5321 §6.3",
    "A message with 150 Received fields is in a loop: it is refused, or at least not delivered.",
    profiles=("mx",),
)
def loop(trial):
    connection, token = trial.ready(), trial.token()
    hop = "Received: from a.example by b.example; Tue, 24 Nov 2026 11:00:00 +0000\r\n"
    trial.open_data(connection, token)
    connection.last = "the end of DATA"
    connection.send(trial.message(token, fields=hop * 150) + b".\r\n")
    trial.never_stored(token, "delivered")
    trial.one_answer(connection)


@case("loop-not-yet", "RFC 5321 §6.3", "A message with 25 Received fields is delivered.", profiles=("mx",))
def loop_not_yet(trial):
    connection, token = trial.ready(), trial.token()
    hop = "Received: from a.example by b.example; Tue, 24 Nov 2026 11:00:00 +0000\r\n"
    trial.deliver(connection, token, trial.message(token, fields=hop * 25))
