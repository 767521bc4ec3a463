"""SIZE (RFC 1870): what is too large is refused, and the session stays in step."""

import re

from suite import Inconclusive, case, expect, offered

# Sending more than this to see it refused is not worth the time.
LARGEST_TRIED = 200 << 20


def limit_of(trial, connection):
    """The limit in octets: as announced, or as the operator said."""
    announced = (connection.extensions.get("SIZE") or ["0"])[0]
    limit = int(announced) if announced.isdigit() else 0
    limit = limit or trial.target.max_size
    if not limit:
        raise Inconclusive("no limit is announced; needs --max-size")
    return limit


def within_reach(trial, connection):
    """The limit, if it can be exceeded within a reasonable time."""
    limit = limit_of(trial, connection)
    if limit > LARGEST_TRIED:
        raise Inconclusive(f"the limit of {limit} octets is too far away")
    return limit


@case("size-announced", "RFC 1870 §3", "SIZE is announced with a limit of at least 64 KiB, or without one.")
def size_announced(trial):
    connection = trial.hello()
    offered(connection, "SIZE")
    parameters = connection.extensions["SIZE"]
    expect(len(parameters) <= 1 and re.fullmatch(r"[0-9]{0,20}", "".join(parameters)), f"SIZE {' '.join(parameters)}")
    number = int("".join(parameters) or 0)
    expect(number == 0 or number >= 64 << 10, f"only {number} octets are taken")


@case("size-declared", "RFC 1870 §6.1", "A declared size within the limit is taken, the limit itself included.")
def size_declared(trial):
    connection = trial.ready()
    offered(connection, "SIZE")
    for size in (0, 1000, limit_of(trial, connection)):
        reply = connection.command(f"MAIL FROM:<{trial.sender(trial.token())}> SIZE={size}")
        expect(reply.ok, f"SIZE={size}: {reply}")
        connection.command("RSET")


def refusal(trial, connection, size):
    """The reply to MAIL with a declared size, or to RCPT after it; whichever refuses."""
    reply = connection.command(f"MAIL FROM:<{trial.sender(trial.token())}> SIZE={size}")
    if reply.ok:
        reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
    connection.command("RSET")
    return reply


def refused_as_too_large(trial, connection):
    """That the server looks at declared sizes at all, which RFC 1870 §6.1 leaves to it."""
    reply = refusal(trial, connection, limit_of(trial, connection) + 1)
    if reply.ok:
        raise Inconclusive("declared sizes are not looked at, which RFC 1870 §6.1 allows")
    return reply


@case(
    "size-declared-too-large",
    "RFC 1870 §6.1",
    "A declared size over the limit is refused for good at MAIL, or at RCPT.",
)
def size_declared_too_large(trial):
    connection = trial.ready()
    offered(connection, "SIZE")
    reply = refused_as_too_large(trial, connection)
    expect(reply.code in (550, 552, 554), f"answered {reply}")
    trial.in_step(connection)


@case("size-of-20-digits", "RFC 1870 §3", "A size of twenty nines is refused, not taken modulo something.")
def size_of_20_digits(trial):
    connection = trial.ready()
    offered(connection, "SIZE")
    refused_as_too_large(trial, connection)
    for size in ("9" * 20, str(2**64 + 100)):
        reply = refusal(trial, connection, size)
        expect(not reply.ok, f"SIZE={size}: {reply}")


@case("size-not-a-number", "RFC 1870 §3", "A size that is no number is a syntax error.")
def size_not_a_number(trial):
    connection = trial.ready()
    offered(connection, "SIZE")
    reply = connection.command(f"MAIL FROM:<{trial.sender(trial.token())}> SIZE=1e3")
    expect(reply.refused, f"answered {reply}")


@case(
    "data-too-large",
    "RFC 1870 §6.3",
    "Content over the limit is refused at its end; nothing of it is executed or stored.",
)
def data_too_large(trial):
    connection, token = trial.ready(), trial.token()
    limit = within_reach(trial, connection)
    trial.open_data(connection, token)
    connection.last = "the end of DATA"
    connection.send(trial.message(token))
    trial.never_stored(token, "refused, but stored")
    block = (b"NOOP" * 200 + b"\r\n") * 80
    for _ in range((limit + limit // 10) // len(block) + 2):
        connection.send(block)
    connection.send(b".\r\n")
    reply = trial.one_answer(connection)
    expect(reply is not None, "closed without an answer")
    expect(reply.code in (550, 552, 554), f"answered {reply}")
