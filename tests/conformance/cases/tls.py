"""STARTTLS (RFC 3207)."""

import ssl
import warnings

from suite import Inconclusive, case, expect, offered
from wire import Closed, Garbled, HandshakeFailed


@case("starttls-offered", "RFC 3207 §4", "STARTTLS is announced where it is expected, and takes no parameter.")
def starttls_offered(trial):
    connection = trial.hello()
    if not trial.target.tls:
        offered(connection, "STARTTLS")
    expect("STARTTLS" in connection.extensions, "not announced")
    reply = connection.command("STARTTLS now")
    expect(reply.code in (501, 555), f"STARTTLS now: {reply}")


@case("starttls-message", "RFC 3207 §4.2", "Under TLS, a message is delivered as without.")
def starttls_message(trial):
    connection, token = secure_and_ready(trial), trial.token()
    message = trial.deliver(connection, token, trial.message(token))
    expect(message.body == b"hello\n", f"stored body {message.body[:60]!r}")


def secure_and_ready(trial):
    return trial.secure() if trial.target.profile == "mx" else trial.ready()


@case("starttls-injection", "CVE-2011-0411", "What was sent in the clear behind STARTTLS is not executed under TLS.")
def starttls_injection(trial):
    connection = trial.hello()
    offered(connection, "STARTTLS")
    connection.last = "STARTTLS"
    connection.send(b"STARTTLS\r\nNOOP injected\r\n")
    try:
        reply = connection.reply()
    except Closed:
        return
    if reply.refused:
        return
    expect(reply.code == 220, f"STARTTLS: {reply}")
    expect(not connection.buffer, f"{connection.buffer[:60]!r} follows the reply in the clear")
    try:
        connection.handshake()
        replies = connection.last_replies()
    except (HandshakeFailed, Closed):
        # The server took the octets for a part of the handshake, and gave up: safe.
        return
    expect([reply.code for reply in replies] in ([221], []), "the command was executed under TLS")


@case(
    "starttls-forgets-ehlo",
    "RFC 3207 §4.2",
    "After the handshake, the session begins anew: MAIL before EHLO is refused.",
)
def starttls_forgets_ehlo(trial):
    connection = trial.hello()
    offered(connection, "STARTTLS")
    expect(connection.command("STARTTLS").code == 220, "STARTTLS is refused")
    connection.handshake()
    reply = connection.command("MAIL FROM:<a@sender.example>")
    expect(reply.refused, f"answered {reply}")


@case(
    "starttls-forgets-envelope",
    "RFC 3207 §4.2",
    "A transaction from before the handshake is not continued after it.",
    profiles=("mx",),
)
def starttls_forgets_envelope(trial):
    connection = trial.hello()
    offered(connection, "STARTTLS")
    trial.envelope(connection, trial.token())
    reply = connection.command("STARTTLS")
    if reply.refused:
        return
    connection.handshake()
    reply = connection.command("DATA")
    expect(reply.refused, f"DATA: {reply}")


@case("starttls-twice", "RFC 3207 §4.2", "Under TLS, STARTTLS is neither announced nor taken.")
def starttls_twice(trial):
    connection = trial.secure()
    expect("STARTTLS" not in connection.extensions, "announced under TLS")
    reply = connection.command("STARTTLS")
    expect(reply.refused, f"answered {reply}")
    trial.in_step(connection)


@case(
    "starttls-failed-handshake",
    "RFC 3207 §4.1",
    "Junk instead of a handshake is not executed as commands, and the server lives on.",
)
def starttls_failed_handshake(trial):
    connection, token = trial.hello(), trial.token()
    offered(connection, "STARTTLS")
    expect(connection.command("STARTTLS").code == 220, "STARTTLS is refused")
    connection.last = "junk instead of a handshake"
    connection.send(b"NOOP\r\nNOOP\r\n")
    try:
        reply = connection.reply()
        expect(not reply.ok, f"answered {reply}")
    except (Closed, Garbled):
        # Garbled: a TLS alert.
        pass
    connection = secure_and_ready(trial)
    trial.deliver(connection, token, trial.message(token))


def old_version(name, version):
    @case(
        f"no-{name}",
        "RFC 8996 §2",
        f"{version.name.replace('v1', ' 1').replace('_', '.')} is refused.".replace("TLS 1 is", "TLS 1.0 is"),
    )
    def refuses(trial):
        connection = trial.hello()
        offered(connection, "STARTTLS")
        expect(connection.command("STARTTLS").code == 220, "STARTTLS is refused")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                connection.handshake(version, version)
        except HandshakeFailed as failure:
            if "no protocols available" in str(failure).lower() or "NO_PROTOCOLS" in str(failure):
                raise Inconclusive("the TLS library of the runner cannot speak it") from None
            return
        expect(False, "the handshake succeeded")


old_version("tls-1.0", ssl.TLSVersion.TLSv1)
old_version("tls-1.1", ssl.TLSVersion.TLSv1_1)
