"""PIPELINING (RFC 2920): many commands in one write, answered in order."""

from suite import case, expect, known, offered


@case(
    "pipelined-envelope",
    "RFC 2920 §3.1",
    "MAIL, RCPT and DATA in one write are answered in order, and the message is stored.",
)
def pipelined_envelope(trial):
    connection, token = trial.ready(), trial.token()
    offered(connection, "PIPELINING")
    connection.last = "MAIL, RCPT, DATA"
    connection.send(f"MAIL FROM:<{trial.sender(token)}>\r\nRCPT TO:<{trial.target.recipient}>\r\nDATA\r\n".encode())
    codes = [connection.reply().code for _ in range(3)]
    expect(codes == [250, 250, 354], f"answered {codes}")
    connection.send(trial.message(token) + b".\r\n")
    reply = connection.reply()
    expect(reply.code == 250, f"end of DATA: {reply}")
    trial.stored(token)


@case("pipelined-rset", "RFC 2920 §3.1", "RSET within a group ends the transaction at its place.")
def pipelined_rset(trial):
    connection, first, second = trial.ready(), trial.token(), trial.token()
    offered(connection, "PIPELINING")
    connection.last = "MAIL, RCPT, RSET, MAIL, RCPT, DATA"
    rcpt = f"RCPT TO:<{trial.target.recipient}>\r\n"
    mail = "MAIL FROM:<{}>\r\n"
    connection.send(
        f"{mail.format(trial.sender(first))}{rcpt}RSET\r\n{mail.format(trial.sender(second))}{rcpt}DATA\r\n".encode()
    )
    codes = [connection.reply().code for _ in range(6)]
    expect(codes == [250, 250, 250, 250, 250, 354], f"answered {codes}")
    connection.send(trial.message(second) + b".\r\n")
    expect(connection.reply().code == 250, "the message is refused")
    message = trial.stored(second)
    expect(first.encode() not in message.raw, "the first envelope lives on")


@case(
    "pipelined-refusal",
    "RFC 2920 §3.1",
    "DATA in the same write as its only, refused recipient stores nothing, and the session stays in step.",
    profiles=("mx",),
)
def pipelined_refusal(trial):
    unknown = known(trial.target.unknown_recipient, "--unknown-recipient")
    connection, token = trial.ready(), trial.token()
    offered(connection, "PIPELINING")
    connection.last = "MAIL, RCPT, DATA"
    connection.send(f"MAIL FROM:<{trial.sender(token)}>\r\nRCPT TO:<{unknown}>\r\nDATA\r\n".encode())
    mail, recipient, data = connection.reply(), connection.reply(), connection.reply()
    expect(mail.ok and not recipient.ok, f"answered {mail}, {recipient}")
    if data.code == 354:
        connection.last = "the end of DATA"
        connection.send(b".\r\n")
        data = connection.reply()
    expect(data.refused, f"DATA: {data}")
    trial.in_step(connection)


@case(
    "pipelined-in-pieces",
    "RFC 2920 §3.2",
    "A group of commands that arrives in pieces of three octets is the same group.",
)
def pipelined_in_pieces(trial):
    connection, token = trial.ready(), trial.token()
    offered(connection, "PIPELINING")
    connection.last = "MAIL, RCPT, RSET"
    connection.send(
        f"MAIL FROM:<{trial.sender(token)}>\r\nRCPT TO:<{trial.target.recipient}>\r\nRSET\r\n".encode(), chunk=3
    )
    codes = [connection.reply().code for _ in range(3)]
    expect(codes == [250, 250, 250], f"answered {codes}")
    trial.in_step(connection)
