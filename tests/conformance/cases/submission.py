"""Submission (RFC 6409) and AUTH (RFC 4954): who may send, and under which protection."""

import base64

from suite import NotOffered, auth_plain, case, expect
from wire import Closed

SUBMISSION = ("submission",)


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def mechanisms(connection):
    return [name.upper() for name in connection.extensions.get("AUTH", [])]


@case("auth-on-mx", "RFC 4954 §4", "A port that does not announce AUTH does not take it, TLS or not.", profiles=("mx",))
def auth_on_mx(trial):
    connection = trial.hello()
    if "AUTH" in connection.extensions:
        raise NotOffered("AUTH is announced here")
    reply = connection.command(auth_plain("nobody", "nothing"))
    expect(reply.refused, f"answered {reply}")


@case("auth-in-the-clear", "RFC 4954 §4", "Without TLS, AUTH is not announced.", profiles=SUBMISSION)
def auth_in_the_clear(trial):
    connection = trial.hello()
    expect("AUTH" not in connection.extensions, f"announced: {mechanisms(connection)}")


@case(
    "auth-in-the-clear-refused",
    "RFC 4954 §6",
    "Without TLS, AUTH PLAIN is refused even with the right password (538, 530, 503).",
    profiles=SUBMISSION,
)
def auth_in_the_clear_refused(trial):
    reply = trial.hello().command(auth_plain(trial.target.user, trial.target.password))
    expect(reply.refused, f"answered {reply}")
    expect(reply.code != 535, "535 says that the password was looked at")


@case("mail-before-auth", "RFC 6409 §4.3", "Without AUTH, no message can be submitted.", profiles=SUBMISSION)
def mail_before_auth(trial):
    connection = trial.secure()
    reply = connection.command(f"MAIL FROM:<{trial.target.user}>")
    if reply.ok:
        reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
    expect(reply.refused, f"answered {reply}")


@case("mail-before-tls", "RFC 3207 §4", "Without TLS, no message can be submitted: 530.", profiles=SUBMISSION)
def mail_before_tls(trial):
    connection = trial.hello()
    reply = connection.command(f"MAIL FROM:<{trial.target.user}>")
    if reply.ok:
        reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
    expect(reply.code == 530, f"answered {reply}")


@case(
    "auth-wrong-password",
    "RFC 4954 §6",
    "A wrong password is 535, and the session is not authenticated.",
    profiles=SUBMISSION,
)
def auth_wrong_password(trial):
    connection = trial.secure()
    reply = connection.command(auth_plain(trial.target.user, "not" + trial.target.password))
    expect(reply.code == 535, f"answered {reply}")
    reply = connection.command(f"MAIL FROM:<{trial.target.user}>")
    if reply.ok:
        reply = connection.command(f"RCPT TO:<{trial.target.recipient}>")
    expect(reply.refused, f"then {reply}")


@case(
    "auth-plain-challenge",
    "RFC 4616 §2",
    "AUTH PLAIN without an initial response is answered with an empty challenge.",
    profiles=SUBMISSION,
)
def auth_plain_challenge(trial):
    connection = trial.secure()
    reply = connection.command("AUTH PLAIN")
    expect(reply.code == 334 and reply.lines[0].strip() == "", f"answered {reply}")
    reply = connection.command(auth_plain(trial.target.user, trial.target.password).split()[2])
    expect(reply.code == 235, f"then {reply}")


@case("auth-login", "draft-murchison-sasl-login", "AUTH LOGIN works where it is announced.", profiles=SUBMISSION)
def auth_login(trial):
    connection = trial.secure()
    if "LOGIN" not in mechanisms(connection):
        raise NotOffered("LOGIN is not announced")
    expect(connection.command("AUTH LOGIN").code == 334, "AUTH LOGIN is refused")
    expect(connection.command(encoded(trial.target.user)).code == 334, "the user name is refused")
    reply = connection.command(encoded(trial.target.password))
    expect(reply.code == 235, f"answered {reply}")


@case(
    "auth-cancelled", "RFC 4954 §4", "A single * cancels AUTH with 501, and the session goes on.", profiles=SUBMISSION
)
def auth_cancelled(trial):
    connection = trial.secure()
    expect(connection.command("AUTH PLAIN").code == 334, "AUTH PLAIN is refused")
    reply = connection.command("*")
    expect(reply.code == 501, f"answered {reply}")
    trial.in_step(connection)


@case("auth-bad-base64", "RFC 4954 §4", "A response that is no base64 is 501.", profiles=SUBMISSION)
def auth_bad_base64(trial):
    reply = trial.secure().command("AUTH PLAIN !!!!")
    expect(reply.code == 501, f"answered {reply}")


@case("auth-twice", "RFC 4954 §4", "AUTH after a successful AUTH is 503.", profiles=SUBMISSION)
def auth_twice(trial):
    reply = trial.ready().command(auth_plain(trial.target.user, trial.target.password))
    expect(reply.code == 503, f"answered {reply}")


@case("auth-in-transaction", "RFC 4954 §4", "AUTH within a transaction is 503.", profiles=SUBMISSION)
def auth_in_transaction(trial):
    connection = trial.secure()
    reply = connection.command(f"MAIL FROM:<{trial.target.user}>")
    if not reply.ok:
        raise NotOffered("no transaction begins before AUTH")
    reply = connection.command(auth_plain(trial.target.user, trial.target.password))
    expect(reply.code == 503, f"answered {reply}")


@case("auth-unknown-mechanism", "RFC 4954 §4", "A mechanism that is not announced is 504.", profiles=SUBMISSION)
def auth_unknown_mechanism(trial):
    reply = trial.secure().command("AUTH FROBNICATE")
    expect(reply.code == 504, f"answered {reply}")


@case("auth-as-another", "RFC 4616 §2", "An authorization identity of somebody else is refused.", profiles=SUBMISSION)
def auth_as_another(trial):
    reply = trial.secure().command(auth_plain(trial.target.user, trial.target.password, "somebody@else.example"))
    expect(reply.refused, f"answered {reply}")


@case("auth-empty", "RFC 4616 §2", "An empty user name or password is refused.", profiles=SUBMISSION)
def auth_empty(trial):
    for user, password in (("", ""), (trial.target.user, "")):
        with trial.secure() as connection:
            try:
                reply = connection.command(auth_plain(user, password))
            except Closed:
                continue
            expect(reply.refused, f"answered {reply}")
