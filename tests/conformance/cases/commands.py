"""The order of commands, commands that change nothing, and what is no command."""

from suite import Inconclusive, case, expect, known
from wire import Closed, Garbled, Silent


@case(
    "mail-before-ehlo",
    "RFC 5321 §4.1.4",
    "A session with a transaction begins with EHLO or HELO: MAIL before is refused.",
)
def mail_before_ehlo(trial):
    reply = trial.connect().command("MAIL FROM:<a@sender.example>")
    expect(reply.refused, f"answered {reply}")


@case("rcpt-before-mail", "RFC 5321 §3.3", "RCPT without MAIL is 503.")
def rcpt_before_mail(trial):
    reply = trial.ready().command(f"RCPT TO:<{trial.target.recipient}>")
    expect(reply.code == 503, f"answered {reply}")


@case("data-before-mail", "RFC 5321 §3.3", "DATA without MAIL is 503.")
def data_before_mail(trial):
    connection = trial.ready()
    reply = connection.command("DATA")
    expect(reply.code == 503, f"answered {reply}")
    trial.in_step(connection)


@case("data-before-rcpt", "RFC 5321 §3.3", "DATA without recipients is 503 or 554.")
def data_before_rcpt(trial):
    connection = trial.ready()
    expect(connection.command(f"MAIL FROM:<{trial.sender(trial.token())}>").ok, "MAIL is refused")
    reply = connection.command("DATA")
    expect(reply.code in (503, 554), f"answered {reply}")
    trial.in_step(connection)


@case("nested-mail", "RFC 5321 §4.1.4", "MAIL within a transaction is refused, and the transaction goes on.")
def nested_mail(trial):
    connection, token = trial.ready(), trial.token()
    trial.envelope(connection, token)
    reply = connection.command(f"MAIL FROM:<{trial.sender(trial.token())}>")
    expect(reply.refused, f"answered {reply}")
    reply = connection.command("DATA")
    expect(reply.code == 354, f"DATA afterwards: {reply}")


@case("rset", "RFC 5321 §4.1.1.5", "RSET forgets the transaction, and the next one works.")
def rset(trial):
    connection, token = trial.ready(), trial.token()
    trial.envelope(connection, token)
    expect(connection.command("RSET").code == 250, "RSET is refused")
    reply = connection.command("DATA")
    expect(reply.code in (503, 554), f"DATA after RSET: {reply}")
    trial.deliver(connection, token, trial.message(token))


@case("two-messages", "RFC 5321 §3.3", "Two messages in one session stay two, each with its own envelope.")
def two_messages(trial):
    connection, first, second = trial.ready(), trial.token(), trial.token()
    trial.deliver(connection, first, trial.message(first))
    message = trial.deliver(connection, second, trial.message(second))
    expect(first.encode() not in message.raw, "the second message contains a part of the first")


@case("noop", "RFC 5321 §4.1.1.9", "NOOP is 250 at any time, with or without an argument.")
def noop(trial):
    connection = trial.connect()
    for command in ("NOOP", "NOOP of a test"):
        reply = connection.command(command)
        expect(reply.code == 250, f"{command}: {reply}")


@case("vrfy", "RFC 5321 §4.5.1", "VRFY is known, and does not confirm an address that does not exist.")
def vrfy(trial):
    reply = trial.hello().command(f"VRFY {trial.target.unknown_recipient or 'nobody-has-this-name'}")
    expect(reply.code not in (250, 251, 500), f"answered {reply}")
    expect(reply.code == 252 or reply.refused, f"answered {reply}")


@case("help", "RFC 5321 §4.1.1.8", "HELP is answered with 211, 214, or that it does not exist, and harms nothing.")
def help_command(trial):
    connection = trial.hello()
    reply = connection.command("HELP")
    # 530: RFC 4954 §6 and RFC 3207 §4 let it stand for most commands.
    expect(reply.code in (211, 214, 250, 500, 502, 530), f"answered {reply}")
    trial.in_step(connection)


@case("quit", "RFC 5321 §4.1.1.10", "QUIT is answered with 221, and then the connection is closed.")
def quit_command(trial):
    replies = trial.hello().last_replies()
    expect([reply.code for reply in replies] == [221], f"answered {replies and replies[0]}")


@case("case-of-commands", "RFC 5321 §2.4", "Commands are recognised in upper, lower and mixed case.")
def case_of_commands(trial):
    connection = trial.ready()
    for command in (
        "nOoP",
        f"mail from:<{trial.sender(trial.token())}>",
        f"Rcpt To:<{trial.target.recipient}>",
        "rSeT",
    ):
        reply = connection.command(command)
        expect(reply.ok, f"{command}: {reply}")


@case("trailing-space", "RFC 5321 §4.1.1", "White space before the line end of a command is tolerated.")
def trailing_space(trial):
    connection = trial.ready()
    for command in (
        "NOOP ",
        f"MAIL FROM:<{trial.sender(trial.token())}> ",
        f"RCPT TO:<{trial.target.recipient}> ",
        "RSET ",
    ):
        reply = connection.command(command)
        expect(reply.ok, f"{command!r}: {reply}")


@case("unknown-command", "RFC 5321 §4.2.4", "An unknown command is 500 (or 502), and the session goes on.")
def unknown_command(trial):
    connection = trial.hello()
    reply = connection.command("FROBNICATE the mail")
    expect(reply.code in (500, 502), f"answered {reply}")
    trial.in_step(connection)


@case("long-line", "RFC 5321 §4.5.3.1.9", "A command line of 20,000 octets gets one answer; its rest is not executed.")
def long_line(trial):
    connection = trial.hello()
    connection.last = "a line of 20,000 octets"
    connection.send(b"NOOP " + b"\tQUIT" * 4000 + b"\r\n")
    trial.one_answer(connection)


@case("line-512", "RFC 5321 §4.5.3.1.4", "A command line of 512 octets is taken.")
def line_512(trial):
    connection = trial.hello()
    if connection.command("NOOP x").code != 250:
        raise Inconclusive("NOOP takes no argument here")
    reply = connection.command(b"NOOP " + b"x" * 505)
    expect(reply.code == 250, f"answered {reply}")


@case(
    "bare-lf-in-command", "RFC 5321 §2.3.8", "A bare LF does not end a command line: two commands are never executed."
)
def bare_lf(trial):
    connection = trial.hello()
    connection.last = "NOOP\\nNOOP"
    connection.send(b"NOOP one\nNOOP two\r\n")
    trial.one_answer(connection)


@case(
    "bare-cr-in-command", "RFC 5321 §2.3.8", "A bare CR does not end a command line: two commands are never executed."
)
def bare_cr(trial):
    connection = trial.hello()
    connection.last = "NOOP\\rNOOP"
    connection.send(b"NOOP one\rNOOP two\r\n")
    trial.one_answer(connection)


@case("split-command", "RFC 5321 §2.3.8", "A command that arrives octet by octet is one command.")
def split_command(trial):
    connection = trial.hello()
    connection.last = "NOOP"
    connection.send(b"NOOP\r\n", chunk=1)
    expect(connection.reply().code == 250, "NOOP is refused")
    trial.in_step(connection)


@case(
    "http-request",
    "cross-protocol request forgery",
    "A web browser cannot be made to deliver: SMTP commands in an HTTP body store nothing.",
    profiles=("mx",),
)
def http_request(trial):
    token = trial.token()
    body = (
        f"EHLO browser.example\r\nMAIL FROM:<{token}@sender.example>\r\nRCPT TO:<{trial.target.recipient}>\r\n"
        f"DATA\r\nSubject: {token}\r\n\r\nx\r\n.\r\nQUIT\r\n"
    )
    connection = trial.connect_silently()
    connection.send(
        f"POST / HTTP/1.1\r\nHost: {trial.target.host}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    trial.never_stored(token, "the commands in the body of an HTTP request were executed")
    try:
        while True:
            connection.reply()
    except (Closed, Garbled, Silent):
        # However the server ends this, nothing may have been stored.
        pass


@case("errors", "RFC 5321 §4.1.1", "After a few errors of the client, the same session still delivers.")
def errors(trial):
    connection, token = trial.ready(), trial.token()
    connection.command("FROBNICATE")
    connection.command("MAIL")
    trial.deliver(connection, token, trial.message(token))


@case(
    "unknown-then-good",
    "RFC 5321 §3.3",
    "A refused recipient does not spoil the transaction of the others.",
    profiles=("mx",),
)
def unknown_then_good(trial):
    unknown = known(trial.target.unknown_recipient, "--unknown-recipient")
    connection, token = trial.ready(), trial.token()
    expect(connection.command(f"MAIL FROM:<{trial.sender(token)}>").ok, "MAIL is refused")
    connection.command(f"RCPT TO:<{unknown}>")
    reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
    expect(reply.ok, f"RCPT: {reply}")
    expect(connection.command("DATA").code == 354, "DATA is refused")
    connection.send(trial.message(token) + b".\r\n")
    reply = connection.reply()
    expect(reply.code == 250, f"end of DATA: {reply}")
    trial.stored(token)
