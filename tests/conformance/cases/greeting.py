"""Greeting, EHLO and HELO."""

import re

from suite import case, expect

DOMAIN = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"


@case("greeting", "RFC 5321 §4.2", "The greeting is 220 with the server's host name as first word.")
def greeting(trial):
    connection = trial.connect_silently()
    reply = connection.reply()
    expect(reply.code == 220, f"greeted with {reply}")
    expect(
        re.match(rf"({DOMAIN}|\[[^\]]+\])(?=[ ]|$)", reply.lines[0]),
        f"{reply.lines[0]!r} does not begin with a host name",
    )


@case("ehlo-lines", "RFC 5321 §4.1.1.1", "EHLO is answered by the host name, and one keyword with parameters per line.")
def ehlo_lines(trial):
    connection = trial.connect()
    reply = connection.hello()
    expect(reply.code == 250, f"EHLO: {reply}")
    expect(
        re.match(rf"({DOMAIN}|\[[^\]]+\])(?=[ ]|$)", reply.lines[0]),
        f"{reply.lines[0]!r} does not begin with a host name",
    )
    for line in reply.lines[1:]:
        expect(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*( [!-~]+)*", line), f"{line!r} is no ehlo-line")


@case("helo", "RFC 5321 §4.1.1.1", "HELO is answered with 250 on a single line, without extensions.")
def helo(trial):
    connection = trial.connect()
    reply = connection.command("HELO client.example")
    expect(reply.code == 250, f"HELO: {reply}")
    expect(len(reply.lines) == 1, f"{len(reply.lines)} lines")


@case("helo-message", "RFC 5321 §3.2", "A client that knows only HELO can deliver a message.", profiles=("mx",))
def helo_message(trial):
    connection, token = trial.connect(), trial.token()
    connection.command("HELO client.example")
    content = trial.message(token)
    message = trial.deliver(connection, token, content)
    expect(message.body == b"hello\n", f"stored body {message.body[:60]!r}")


@case("ehlo-without-name", "RFC 5321 §4.1.1.1", "EHLO without a name is a syntax error.")
def ehlo_without_name(trial):
    reply = trial.connect().command("EHLO")
    expect(reply.refused, f"answered {reply}")


@case("ehlo-address-literal", "RFC 5321 §4.1.3", "A client may name itself by an IPv4 or IPv6 address literal.")
def ehlo_address_literal(trial):
    for name in ("[127.0.0.1]", "[IPv6:::1]"):
        reply = trial.connect().hello(name)
        expect(reply.code == 250, f"EHLO {name}: {reply}")


@case("ehlo-resets", "RFC 5321 §4.1.4", "EHLO within a transaction is refused, or ends it: RCPT is then out of order.")
def ehlo_resets(trial):
    connection = trial.ready()
    expect(connection.command(f"MAIL FROM:<{trial.sender(trial.token())}>").ok, "MAIL is refused")
    answer = connection.hello()
    if answer.code in (500, 501, 502, 503):
        return
    expect(answer.code == 250, f"EHLO: {answer}")
    reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
    expect(reply.refused, f"RCPT after EHLO: {reply}")


@case(
    "replies",
    "RFC 5321 §4.2.1",
    "Every reply of the whole run is well formed: CRLF, one code, at most 512 octets a line.",
    last=True,
)
def replies(trial):
    faults = trial.run.transcript.faults
    expect(not faults, faults and faults[0])
