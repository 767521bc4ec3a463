"""Recipients: known, unknown, the same twice, and many."""

from suite import NotOffered, case, expect, known


@case(
    "unknown-recipient",
    "RFC 5321 §3.3",
    "An address that does not exist is refused with 550 at RCPT.",
    profiles=("mx",),
)
def unknown_recipient(trial):
    unknown = known(trial.target.unknown_recipient, "--unknown-recipient")
    connection = trial.ready()
    expect(connection.command("MAIL FROM:<a@sender.example>").ok, "MAIL is refused")
    reply = connection.command(f"RCPT TO:<{unknown}>")
    expect(reply.code == 550, f"answered {reply}")


@case(
    "postmaster",
    "RFC 5321 §4.5.1",
    "The address postmaster without a domain is taken, in any case of letters.",
    profiles=("mx",),
)
def postmaster(trial):
    connection = trial.ready()
    expect(connection.command("MAIL FROM:<a@sender.example>").ok, "MAIL is refused")
    for path in ("<postmaster>", "<PostMaster>"):
        reply = connection.command(f"RCPT TO:{path}")
        expect(reply.ok, f"RCPT TO:{path}: {reply}")


@case("domain-case", "RFC 5321 §2.4", "Domains are compared without regard to case.", profiles=("mx",))
def domain_case(trial):
    local, _, domain = trial.target.recipient.rpartition("@")
    connection = trial.ready()
    expect(connection.command("MAIL FROM:<a@sender.example>").ok, "MAIL is refused")
    reply = connection.command(f"RCPT TO:<{local}@{domain.upper()}>")
    expect(reply.ok, f"answered {reply}")


@case(
    "same-recipient-twice",
    "RFC 5321 §4.1.1.3",
    "A recipient that is named twice gets the message, at most as often as it was named.",
)
def same_recipient_twice(trial):
    connection, token = trial.ready(), trial.token()
    trial.envelope(connection, token)
    connection.command(f"RCPT TO:<{trial.target.recipient}>")
    expect(connection.command("DATA").code == 354, "DATA is refused")
    connection.send(trial.message(token) + b".\r\n")
    reply = connection.reply()
    expect(reply.code == 250, f"end of DATA: {reply}")
    trial.stored(token, count=2)


@case("hundred-recipients", "RFC 5321 §4.5.3.1.8", "A transaction takes at least 100 recipients.")
def hundred_recipients(trial):
    connection = trial.ready()
    expect(connection.command(f"MAIL FROM:<{trial.sender(trial.token())}>").ok, "MAIL is refused")
    for number in range(100):
        reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
        expect(reply.ok, f"recipient {number + 1}: {reply}")


@case(
    "too-many-recipients",
    "RFC 5321 §4.5.3.1.10",
    "Recipients over the limit get 452, and those before get the message.",
)
def too_many_recipients(trial):
    connection, token = trial.ready(), trial.token()
    expect(connection.command(f"MAIL FROM:<{trial.sender(token)}>").ok, "MAIL is refused")
    command = f"RCPT TO:<{trial.target.recipient}>\r\n".encode()
    step = 50 if "PIPELINING" in connection.extensions else 1
    for _ in range(0, 1100, step):
        connection.last = "RCPT"
        connection.send(command * step)
        refused = [reply for reply in [connection.reply() for _ in range(step)] if not reply.ok]
        if refused:
            break
    else:
        raise NotOffered("1,100 recipients are taken: there is no limit to test")
    expect(all(reply.code == 452 for reply in refused), f"answered {refused[0]}")
    expect(connection.command("DATA").code == 354, "DATA is refused")
    connection.send(trial.message(token) + b".\r\n")
    reply = connection.reply()
    expect(reply.code == 250, f"end of DATA: {reply}")
    trial.stored(token, count=1000)
