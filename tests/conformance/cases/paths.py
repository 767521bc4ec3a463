"""Reverse-paths and forward-paths: what is an address, and what is not."""

from suite import case, expect
from wire import Closed


@case("null-sender", "RFC 5321 §4.5.5", "The null reverse-path is taken, and kept as such.", profiles=("mx",))
def null_sender(trial):
    connection, token = trial.ready(), trial.token()
    reply = connection.command("MAIL FROM:<>")
    expect(reply.ok, f"MAIL: {reply}")
    reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
    expect(reply.ok, f"RCPT: {reply}")
    expect(connection.command("DATA").code == 354, "DATA is refused")
    connection.send(trial.message(token) + b".\r\n")
    reply = connection.reply()
    expect(reply.code == 250, f"end of DATA: {reply}")
    paths = trial.stored(token).fields("Return-Path")
    expect(paths == ["<>"], f"Return-Path: {paths}")


@case(
    "quoted-local-part",
    "RFC 5321 §4.1.2",
    "A quoted local part with a space or an at sign is an address.",
    profiles=("mx",),
)
def quoted_local_part(trial):
    connection = trial.ready()
    for local in ('"a b"', '"a@b"', '"a\\"b"', '"plain"'):
        reply = connection.command(f"MAIL FROM:<{local}@sender.example>")
        expect(reply.ok, f"<{local}@sender.example>: {reply}")
        connection.command("RSET")


@case("unusual-local-part", "RFC 5321 §4.1.2", "All characters of an atom are taken in a local part.", profiles=("mx",))
def unusual_local_part(trial):
    connection = trial.ready()
    for local in ("a+b=c", "o'neil", "a#b$c&d", "{a}^b`c", "a/b?c*d", "a!b|c~d"):
        reply = connection.command(f"MAIL FROM:<{local}@sender.example>")
        expect(reply.ok, f"<{local}@sender.example>: {reply}")
        connection.command("RSET")


@case(
    "long-path", "RFC 5321 §4.5.3.1", "A local part of 64 octets and a path of 256 octets are taken.", profiles=("mx",)
)
def long_path(trial):
    connection = trial.ready()
    local = "l" * 64
    domain = ".".join(["d" * 60] * 3 + ["e" * 3, "example"])[-(254 - 65) :]
    path = f"{local}@{domain.lstrip('.')}"
    reply = connection.command(f"MAIL FROM:<{path}>")
    expect(reply.ok, f"{len(path) + 2} octets: {reply}")


@case(
    "address-literal", "RFC 5321 §4.1.3", "An address literal is no syntax error in a reverse-path.", profiles=("mx",)
)
def address_literal(trial):
    connection = trial.ready()
    for literal in ("[192.0.2.1]", "[IPv6:2001:db8::1]"):
        reply = connection.command(f"MAIL FROM:<a@{literal}>")
        expect(reply.code not in (500, 501, 553), f"<a@{literal}>: {reply}")
        connection.command("RSET")


@case(
    "source-route",
    "RFC 5321 §4.1.1.3",
    "A source route is ignored or declined, and the session goes on.",
    profiles=("mx",),
)
def source_route(trial):
    connection, token = trial.ready(), trial.token()
    expect(connection.command(f"MAIL FROM:<{trial.sender(token)}>").ok, "MAIL is refused")
    reply = connection.command(f"RCPT TO:<@a.example,@b.example:{trial.target.recipient}>")
    expect(reply.ok or reply.refused, f"answered {reply}")
    if reply.refused:
        trial.in_step(connection)
        return
    expect(connection.command("DATA").code == 354, "DATA is refused")
    connection.send(trial.message(token) + b".\r\n")
    expect(connection.reply().code == 250, "the message is refused")
    trial.stored(token)


@case(
    "junk-paths",
    "RFC 5321 §4.1.2",
    "What is no path is refused: spaces, a second at sign, missing halves and brackets.",
    profiles=("mx",),
)
def junk_paths(trial):
    junk = (
        "<a b@sender.example>",
        "<a@b@sender.example>",
        "<a@sender.example",
        '<"a@sender.example>',
        "<a@>",
        "<@sender.example>",
        "",
        "<a@sender..example>",
    )
    taken = [path for path in junk if is_taken(trial, path)]
    expect(not taken, f"taken: {' '.join(taken)}")


def is_taken(trial, path):
    # A connection each, because servers may close after a few errors.
    with trial.ready() as connection:
        try:
            return connection.command(f"MAIL FROM:{path}").ok
        except Closed:
            return False


@case("control-characters", "RFC 5321 §4.1.2", "NUL, BEL and DEL in a path are refused.", profiles=("mx",))
def control_characters(trial):
    for octet in (b"\0", b"\7", b"\x7f"):
        with trial.ready() as connection:
            try:
                reply = connection.command(b"MAIL FROM:<a" + octet + b"b@sender.example>")
            except Closed:
                continue
            expect(not reply.ok, f"octet {octet.hex()}: {reply}")
