"""CHUNKING and BINARYMIME (RFC 3030)."""

from cases.size import within_reach
from suite import case, expect, offered


def ready(trial, extension="CHUNKING"):
    connection = trial.ready()
    offered(connection, extension)
    return connection


def bdat(connection, data, last=False):
    """One chunk; the reply to it."""
    connection.last = f"BDAT {len(data)}{' LAST' if last else ''}"
    connection.send(connection.last.encode() + b"\r\n" + data)
    return connection.reply()


def same(message, body):
    expect(message.body == body.replace(b"\r\n", b"\n"), f"stored body {message.body[:60]!r}")


@case(
    "bdat-chunks", "RFC 3030 §2", "A message in several chunks, cut anywhere, is one message; dots are nothing special."
)
def bdat_chunks(trial):
    connection, token = ready(trial), trial.token()
    body = b".\r\n..\r\n\r\n.\r\nQUIT\r\nend\r\n"
    content = trial.message(token, body)
    trial.envelope(connection, token)
    for start, end in ((0, 1), (1, 30), (30, len(content) - 17), (len(content) - 17, len(content) - 1)):
        reply = bdat(connection, content[start:end])
        expect(reply.code == 250, f"{connection.last}: {reply}")
    reply = bdat(connection, content[-1:], last=True)
    expect(reply.code == 250, f"BDAT LAST: {reply}")
    same(trial.stored(token), body)


@case("bdat-zero-last", "RFC 3030 §2", "BDAT 0 LAST ends a message.")
def bdat_zero_last(trial):
    connection, token = ready(trial), trial.token()
    trial.envelope(connection, token)
    expect(bdat(connection, trial.message(token)).code == 250, "the first chunk is refused")
    reply = bdat(connection, b"", last=True)
    expect(reply.code == 250, f"BDAT 0 LAST: {reply}")
    same(trial.stored(token), b"hello\r\n")


@case("bdat-fragments", "RFC 3030 §2", "Chunks that arrive octet by octet are the same chunks.")
def bdat_fragments(trial):
    connection, token = ready(trial), trial.token()
    content = trial.message(token)
    trial.envelope(connection, token)
    connection.last = "BDAT"
    connection.send(b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (50, content[:50], len(content) - 50, content[50:]), chunk=1)
    codes = [connection.reply().code for _ in range(2)]
    expect(codes == [250, 250], f"answered {codes}")
    same(trial.stored(token), b"hello\r\n")


@case(
    "bdat-without-recipients",
    "RFC 3030 §2",
    "BDAT without recipients is refused, and its octets are not executed.",
    profiles=("mx",),
)
def bdat_without_recipients(trial):
    connection, token = ready(trial), trial.token()
    expect(connection.command(f"MAIL FROM:<{trial.sender(token)}>").ok, "MAIL is refused")
    reply = bdat(connection, b"NOOP\r\nNOOP\r\nNOOP\r\n", last=True)
    expect(reply.refused, f"answered {reply}")
    trial.in_step(connection)


@case("bdat-too-large", "RFC 3030 §2", "A chunk over the limit is refused, and its octets are not executed.")
def bdat_too_large(trial):
    connection, token = ready(trial), trial.token()
    limit = within_reach(trial, connection)
    trial.envelope(connection, token)
    block = (b"NOOP" * 200 + b"\r\n") * 80
    count = (limit + limit // 10) // len(block) + 2
    trial.never_stored(token, "refused, but stored")
    connection.last = "BDAT LAST"
    connection.send(b"BDAT %d LAST\r\n" % (len(block) * count))
    for _ in range(count):
        connection.send(block)
    reply = trial.one_answer(connection)
    expect(reply is None or reply.refused, f"answered {reply}")


@case("bdat-then-data", "RFC 3030 §2", "DATA after BDAT is 503.")
def bdat_then_data(trial):
    connection, token = ready(trial), trial.token()
    trial.envelope(connection, token)
    expect(bdat(connection, trial.message(token)).code == 250, "the first chunk is refused")
    reply = connection.command("DATA")
    expect(reply.code == 503, f"answered {reply}")
    trial.never_stored(token, "stored without BDAT LAST")


@case("bdat-rset", "RFC 3030 §2", "RSET between chunks forgets them, and the next message works.")
def bdat_rset(trial):
    connection, first, second = ready(trial), trial.token(), trial.token()
    trial.envelope(connection, first)
    expect(bdat(connection, trial.message(first)).code == 250, "the first chunk is refused")
    expect(connection.command("RSET").code == 250, "RSET is refused")
    trial.never_stored(first, "stored in spite of RSET")
    message = trial.deliver(connection, second, trial.message(second))
    expect(first.encode() not in message.raw, "the next message contains the forgotten chunk")


@case("bdat-size", "RFC 3030 §2", "BDAT without a number is refused.")
def bdat_size(trial):
    for command in ("BDAT", "BDAT x LAST", "BDAT -1 LAST", "BDAT 99999999999999999999999999 LAST"):
        with ready(trial) as connection:
            trial.envelope(connection, trial.token())
            reply = connection.command(command)
            expect(reply.refused, f"{command}: {reply}")


@case("bdat-close", "RFC 3030 §2", "A connection that ends within a message of chunks stores nothing.")
def bdat_close(trial):
    connection, token = ready(trial), trial.token()
    trial.envelope(connection, token)
    expect(bdat(connection, trial.message(token)).code == 250, "the first chunk is refused")
    trial.never_stored(token, "stored without BDAT LAST")
    connection.send(b"BDAT 100 LAST\r\nonly a part")
    connection.close()


@case("binarymime", "RFC 3030 §3", "With BODY=BINARYMIME, bare CR, bare LF and NUL come back as they were.")
def binarymime(trial):
    connection, token = ready(trial, "BINARYMIME"), trial.token()
    body = b"cr\r.\rlf\n.\nnul\0\xff no line end"
    trial.envelope(connection, token, parameters=" BODY=BINARYMIME")
    reply = bdat(connection, trial.message(token, body), last=True)
    expect(reply.code == 250, f"answered {reply}")
    same(trial.stored(token), body)


@case("binarymime-data", "RFC 3030 §3", "DATA in a transaction with BODY=BINARYMIME is 503.")
def binarymime_data(trial):
    connection, token = ready(trial, "BINARYMIME"), trial.token()
    trial.envelope(connection, token, parameters=" BODY=BINARYMIME")
    reply = connection.command("DATA")
    expect(reply.code == 503, f"answered {reply}")
