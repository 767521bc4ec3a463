"""Parameters of MAIL and RCPT, 8BITMIME, enhanced codes, SMTPUTF8, DSN, REQUIRETLS and LIMITS."""

import re

from suite import NotOffered, case, expect, known, offered
from wire import Closed


def mail(trial, connection, parameters, path=None):
    reply = connection.command(f"MAIL FROM:<{trial.sender(trial.token()) if path is None else path}>{parameters}")
    return reply


def refused_everywhere(trial, commands, prepare=None):
    """Each command on a connection of its own is refused; a server may also hang up."""
    for command in commands:
        with trial.ready() as connection:
            try:
                if prepare:
                    expect(connection.command(prepare).ok, f"{prepare} is refused")
                reply = connection.command(command)
            except Closed:
                continue
            expect(reply.refused, f"{command}: {reply}")


@case("unknown-mail-parameter", "RFC 5321 §4.1.1.11", "A parameter of MAIL that nobody announced is refused.")
def unknown_mail_parameter(trial):
    sender = trial.sender(trial.token())
    refused_everywhere(trial, [f"MAIL FROM:<{sender}> XFROBNICATE=1", f"MAIL FROM:<{sender}> XFROBNICATE"])


@case("unknown-rcpt-parameter", "RFC 5321 §4.1.1.11", "A parameter of RCPT that nobody announced is refused.")
def unknown_rcpt_parameter(trial):
    sender = trial.sender(trial.token())
    refused_everywhere(trial, [f"RCPT TO:<{trial.target.recipient}> XFROBNICATE=1"], f"MAIL FROM:<{sender}>")


@case(
    "8bitmime-parameters",
    "RFC 6152 §2",
    "BODY=7BIT and BODY=8BITMIME are taken, in any case of letters; another value is refused.",
)
def eight_bit_parameters(trial):
    connection = trial.ready()
    offered(connection, "8BITMIME")
    for value in ("7BIT", "8BITMIME", "8bitmime"):
        reply = mail(trial, connection, f" BODY={value}")
        expect(reply.ok, f"BODY={value}: {reply}")
        connection.command("RSET")
    reply = mail(trial, connection, " BODY=9BIT")
    expect(reply.refused, f"BODY=9BIT: {reply}")


@case(
    "enhanced-class",
    "RFC 2034 §4",
    "The class of every enhanced status code of the run is that of its reply code.",
    last=True,
)
def enhanced_class(trial):
    coded = [reply for reply, announced in trial.run.transcript.replies if reply.enhanced and announced]
    if not coded:
        raise NotOffered("ENHANCEDSTATUSCODES is not announced")
    wrong = [reply for reply in coded if reply.enhanced[0] != str(reply.code)[0]]
    expect(not wrong, wrong and f"{wrong[0].command}: {wrong[0]}")


@case(
    "enhanced-everywhere",
    "RFC 2034 §4",
    "Every reply 2yz, 4yz and 5yz but those of greeting, EHLO and HELO has an enhanced status code.",
    last=True,
)
def enhanced_everywhere(trial):
    if not any(announced for _, announced in trial.run.transcript.replies):
        raise NotOffered("ENHANCEDSTATUSCODES is not announced")
    bare = [
        reply
        for reply, announced in trial.run.transcript.replies
        if announced
        and reply.command
        and not reply.enhanced
        and reply.code // 100 != 3
        and reply.command[:4].upper() not in ("EHLO", "HELO")
    ]
    expect(not bare, bare and f"{bare[0].command}: {bare[0]}")


@case(
    "utf8-without-parameter",
    "RFC 6531 §3.4",
    "An address that is not ASCII is refused without SMTPUTF8.",
    profiles=("mx",),
)
def utf8_without_parameter(trial):
    refused_everywhere(trial, ["MAIL FROM:<grün@sender.example>", "MAIL FROM:<a@grün.example>"])
    refused_everywhere(
        trial, [f"RCPT TO:<grün@{trial.target.recipient.rpartition('@')[2]}>"], "MAIL FROM:<a@sender.example>"
    )


@case(
    "utf8-address",
    "RFC 6531 §3.4",
    "With SMTPUTF8, an address in UTF-8 is an address: taken as sender, and as recipient taken or unknown.",
    profiles=("mx",),
)
def utf8_address(trial):
    connection = trial.ready()
    offered(connection, "SMTPUTF8")
    reply = mail(trial, connection, " SMTPUTF8", "用户@grün.example")
    expect(reply.ok, f"MAIL: {reply}")
    reply = connection.command(f"RCPT TO:<niemand-grün@{trial.target.recipient.rpartition('@')[2]}>")
    expect(reply.ok or reply.code == 550, f"RCPT: {reply}")


@case(
    "utf8-message", "RFC 6531 §3.6", "A message with UTF-8 in its header comes back octet by octet.", profiles=("mx",)
)
def utf8_message(trial):
    connection, token = trial.ready(), trial.token()
    offered(connection, "SMTPUTF8")
    body = "請求書 grün\r\n".encode()
    content = trial.message(token, body).replace(b"Subject: ", "Subject: 請求書 ".encode())
    message = trial.deliver(connection, token, content, parameters=" SMTPUTF8 BODY=8BITMIME")
    expect(message.body == body.replace(b"\r\n", b"\n"), f"stored body {message.body[:40]!r}")
    expect(message.fields("Subject") == [f"請求書 {token}"], f"stored Subject {message.fields('Subject')}")


@case(
    "utf8-invalid",
    "RFC 6531 §3.3",
    "Octets that are no UTF-8 are refused in an address, SMTPUTF8 or not.",
    profiles=("mx",),
)
def utf8_invalid(trial):
    with trial.ready() as connection:
        offered(connection, "SMTPUTF8")
        reply = connection.command(b"MAIL FROM:<gr\xfcn@sender.example> SMTPUTF8")
        expect(reply.refused, f"answered {reply}")


@case(
    "utf8-labels", "RFC 5890 §2.3.2.1", "The U-label and the A-label of a domain are the same domain.", profiles=("mx",)
)
def utf8_labels(trial):
    recipient = known(trial.target.idn_recipient, "--idn-recipient")
    local, _, domain = recipient.rpartition("@")
    connection = trial.ready()
    offered(connection, "SMTPUTF8")
    expect(mail(trial, connection, " SMTPUTF8").ok, "MAIL is refused")
    for spelling in (domain.encode("idna").decode(), domain):
        reply = connection.command(f"RCPT TO:<{local}@{spelling}>")
        expect(reply.ok, f"{spelling}: {reply}")


@case("dsn-parameters", "RFC 3461 §4", "DSN parameters are understood where DSN is announced, and refused where not.")
def dsn_parameters(trial):
    connection = trial.ready()
    sender, recipient = trial.sender(trial.token()), trial.target.recipient
    good_mail = f"MAIL FROM:<{sender}> RET=HDRS ENVID=abc+2B1"
    good_rcpt = f"RCPT TO:<{recipient}> NOTIFY=FAILURE,DELAY ORCPT=rfc822;{recipient}"
    if "DSN" not in connection.extensions:
        refused_everywhere(trial, [good_mail])
        refused_everywhere(trial, [good_rcpt, f"RCPT TO:<{recipient}> NOTIFY=NEVER"], f"MAIL FROM:<{sender}>")
        return
    for command in (good_mail, good_rcpt):
        reply = connection.command(command)
        expect(reply.ok, f"{command}: {reply}")
    refused_everywhere(trial, [f"MAIL FROM:<{sender}> RET=SOME"])
    refused_everywhere(
        trial,
        [f"RCPT TO:<{recipient}> NOTIFY=NEVER,SUCCESS", f"RCPT TO:<{recipient}> NOTIFY=PERHAPS"],
        f"MAIL FROM:<{sender}>",
    )


@case(
    "requiretls-in-the-clear", "RFC 8689 §2", "REQUIRETLS is neither announced nor taken without TLS.", profiles=("mx",)
)
def requiretls_in_the_clear(trial):
    with trial.hello() as connection:
        expect("REQUIRETLS" not in connection.extensions, "announced without TLS")
    refused_everywhere(trial, ["MAIL FROM:<a@sender.example> REQUIRETLS"])


@case("requiretls", "RFC 8689 §2", "Under TLS, REQUIRETLS is taken without a value, and refused with one.")
def requiretls(trial):
    connection = trial.secure() if trial.target.profile == "mx" else trial.ready()
    if trial.target.profile == "submission":
        connection.hello()
    offered(connection, "REQUIRETLS")
    reply = mail(trial, connection, " REQUIRETLS=yes")
    expect(reply.refused, f"REQUIRETLS=yes: {reply}")
    reply = mail(trial, connection, " REQUIRETLS")
    expect(reply.ok, f"REQUIRETLS: {reply}")


@case("limits", "RFC 9422 §4", "LIMITS announces names with values; RCPTMAX is a number, and at least 100.")
def limits(trial):
    connection = trial.hello()
    offered(connection, "LIMITS")
    for limit in connection.extensions["LIMITS"]:
        expect(re.fullmatch(r"[A-Z0-9][A-Z0-9-]*(=[!-:<-~]+)?", limit), f"{limit!r} is no limit")
        name, _, value = limit.partition("=")
        if name in ("MAILMAX", "RCPTMAX", "RCPTDOMAINMAX"):
            expect(re.fullmatch(r"[1-9][0-9]{0,5}", value), f"{limit!r} has no number")
        if name == "RCPTMAX":
            expect(int(value) >= 100, f"{limit!r}: RFC 5321 §4.5.3.1.8 asks for 100")
