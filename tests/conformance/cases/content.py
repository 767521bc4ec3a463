"""What is stored is what was sent."""

from suite import Inconclusive, case, expect, offered


def comes_back(trial, body, chunk=None, parameters=""):
    connection, token = trial.ready(), trial.token()
    if parameters:
        offered(connection, "8BITMIME")
    content = trial.message(token, body)
    same(trial.deliver(connection, token, content, chunk, parameters), body)


def same(message, body):
    expected = body.replace(b"\r\n", b"\n")
    if message.body != expected:
        at = next((at for at, pair in enumerate(zip(message.body, expected)) if pair[0] != pair[1]), None)
        at = min(len(message.body), len(expected)) if at is None else at
        expect(
            False,
            f"the stored body differs at octet {at}: {message.body[at : at + 12]!r} for {expected[at : at + 12]!r}",
        )


@case("message", "RFC 5321 §4.1.1.4", "A message that was answered with 250 is stored once, its body as sent.")
def message(trial):
    comes_back(trial, b"Dear Alice,\r\n\r\nhello\r\n\r\n")


@case("empty-message", "RFC 5321 §4.1.1.4", "A message without any content ends at once.", profiles=("mx",))
def empty_message(trial):
    connection, token = trial.ready(), trial.token()
    trial.open_data(connection, token)
    connection.last = "the end of an empty message"
    connection.send(b".\r\n")
    reply = connection.reply()
    expect(reply.code == 250 or reply.refused, f"answered {reply}")
    trial.in_step(connection)
    if reply.ok:
        trial.stored(token)


@case(
    "dot-on-first-line",
    "RFC 5321 §4.5.2",
    "A stuffed dot on the very first line loses exactly one dot.",
    profiles=("mx",),
)
def dot_on_first_line(trial):
    connection, token = trial.ready(), trial.token()
    trial.open_data(connection, token)
    connection.last = "the end of DATA"
    connection.send(f"...first {token}\r\n.\r\n".encode())
    reply = connection.reply()
    if reply.refused:
        raise Inconclusive(f"a message without a header is refused: {reply}")
    expect(reply.code == 250, f"end of DATA: {reply}")
    message = trial.stored(token)
    expect(message.ends_with(f"\n..first {token}\n".encode()), f"stored {message.raw[-60:]!r}")


@case("dots", "RFC 5321 §4.5.2", "Dots at line starts and ends, alone and in rows, come back as they were.")
def dots(trial):
    comes_back(trial, b".\r\n..\r\n...\r\n.x\r\n..x\r\nx.\r\nx\r\n.\r\n\r\n.\r\n")


@case("line-998", "RFC 5322 §2.1.1", "Lines of 998 octets come back unbroken.")
def line_998(trial):
    comes_back(trial, b"a" * 998 + b"\r\n" + b"b" * 997 + b"\r\n" + b"." + b"c" * 997 + b"\r\n")


@case("blank-lines", "RFC 5321 §4.1.1.4", "Blank lines at the end, and white space at line ends, come back.")
def blank_lines(trial):
    comes_back(trial, b"\r\n \r\nx \t\r\n\t\r\n\r\n\r\n")


@case("eight-bit", "RFC 6152 §3", "All octets above 127 come back as they were, when declared as 8BITMIME.")
def eight_bit(trial):
    body = bytes(range(128, 256)) + b"\r\n" + "請求書".encode("shift_jis") + b"\r\n" + "請求書".encode() + b"\r\n"
    comes_back(trial, body, parameters=" BODY=8BITMIME")


@case(
    "eight-bit-undeclared",
    "RFC 5321 §2.4",
    "Octets above 127 without a declaration are kept or refused, never changed.",
)
def eight_bit_undeclared(trial):
    connection, token = trial.ready(), trial.token()
    body = bytes(range(128, 256)) + b"\r\n"
    trial.open_data(connection, token)
    connection.send(trial.message(token, body) + b".\r\n")
    reply = connection.reply()
    if reply.ok:
        same(trial.stored(token), body)
    else:
        trial.never_stored(token, "refused, but stored")


def fragments(size):
    @case(
        f"fragments-{size}",
        "RFC 5321 §2.3.8",
        f"A message that arrives in pieces of {size} octets is the same message.",
    )
    def fragmented(trial):
        comes_back(
            trial, b".\r\n..\r\n\r\n" + b"x" * 50 + b"\r\n.\r\n" + (b"y" * 70 + b"\r\n") * (size // 20), chunk=size
        )


for size in (1, 2, 7, 4096):
    fragments(size)


@case("message-64k", "RFC 5321 §4.5.3.1.7", "A message of 64 KiB is taken and comes back whole.")
def message_64k(trial):
    lines = b"".join(b"%06d %s\r\n" % (number, b"z" * 56) for number in range(1000))
    comes_back(trial, lines)


@case(
    "bare-line-ends-in-data",
    "RFC 5321 §2.3.8",
    "A bare CR or LF in a line of a message is refused or data, and the session stays in step.",
)
def bare_line_ends(trial):
    for octet in (b"\r", b"\n"):
        connection, token = trial.ready(), trial.token()
        trial.open_data(connection, token)
        connection.last = "the end of DATA"
        connection.send(trial.message(token, b"a" + octet + b"b\r\n") + b".\r\n")
        reply = trial.one_answer(connection)
        if reply and not reply.ok:
            trial.never_stored(token, "refused, but stored")
        elif reply:
            trial.stored(token)
