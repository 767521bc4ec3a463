"""REQUIRETLS and TLS-Required: mail whose sender says how it is to go on. Knot signs; aiosmtpd and a second server take it."""

import email
import json
import sqlite3

import pytest
from aiosmtpd.smtp import SMTP
from conftest import insecure_tls, run, wait_until
from test_dane import BOB, HOST, delivering, internets, log_line, stranger, tlsa  # noqa: F401
from test_delivery import attempt, is_sent, rules, send
from test_serve import PASSWORD, production

ALICE = "alice@example.com"
TEXT = "Message-ID: <{0}@test>\r\nFrom: alice@example.com\r\nTo: bob@remote.example\r\nSubject: {0}\r\n\r\nthe text\r\n"


class Requiring(SMTP):
    """Knows REQUIRETLS, and notes who says it."""

    async def push(self, status):
        if self.session.ssl and status == "250 HELP":
            await super().push("250-REQUIRETLS")
        await super().push(status)

    async def smtp_MAIL(self, argument):
        words = argument.split()
        if "REQUIRETLS" in words:
            words.remove("REQUIRETLS")
            self.event_handler.required += 1
        await super().smtp_MAIL(" ".join(words))


@pytest.fixture
def requiring(sinks, stranger):
    sink = sinks(tls=context(stranger, HOST), protocol=Requiring)
    sink.required = 0
    return sink


def context(authority, name):
    return authority.context(name)


def certificate(authority, name):
    """What `context` made."""
    return authority.folder / f"{name}.pem"


def submit(server, name, options=("REQUIRETLS",), to=BOB):
    client = server.submission(ALICE, PASSWORD)
    client.ehlo()
    assert "requiretls" in client.esmtp_features
    client.sendmail(ALICE, to, TEXT.format(name), list(options))
    client.quit()


def came(sink, count=1):
    return sink.wait_for(count)


def notice(server):
    """The one that the sender got, and its machine-readable part."""
    found = wait_until(lambda: server.sends.messages(folder="INBOX"), "a notice")
    assert len(found) == 1, found
    message = email.message_from_bytes(server.sends.raw(found[0]))
    return message, message.get_payload(1).as_string()


def test_a_host_that_proves_itself_hears_what_the_sender_wants(servers, internets, requiring, stranger, tmp_path):
    internet = internets(tlsa(requiring.port, 3, 1, certificate(stranger, HOST)))
    server = delivering(servers, tmp_path, internet, requiring.port)
    submit(server, "one")
    came(requiring)
    assert requiring.required == 1 and requiring.received[0]["tls"] and rules(server) == ["dane"]
    # Others go the same way, without it, over the same connection.
    is_sent(send(server, to=BOB))
    assert requiring.required == 1 and len(requiring.received) == 2


def test_it_goes_from_server_to_server(servers, internets, stranger, tmp_path):
    """From a user to a server of ours, on to an alias there, and from there to another one."""
    last = tmp_path / "last"
    last.mkdir()
    chain, key = stranger.certify(HOST)
    receiver, receiver_key = production(lambda *a, **o: servers(*a, name="last-run", **o), last,
                                        tls={"cert": str(chain), "key": str(key)})
    config = last / "mairust.yaml"
    run("domain", "add", "remote.example", "-c", config)
    run("user", "add", "bob@remote.example", "-c", config, "--password-stdin", input=PASSWORD)
    port = receiver.address()[1]
    internet = internets(tlsa(port, 3, 1, chain))
    server = delivering(servers, tmp_path, internet, port)
    run("alias", "add", "away@example.com", "bob@remote.example", "-c", server.directory / "mairust.yaml")
    client = server.smtp()
    client.starttls(context=insecure_tls())
    client.ehlo()
    client.sendmail("a@sender.example", ["away@example.com"], TEXT.format("forwarded"), ["REQUIRETLS"])
    wishes = lambda: stored(last, "forwarded")
    assert wait_until(wishes, "the copy of the last server") == ["required"]
    client.sendmail("a@sender.example", ["away@example.com"], TEXT.format("usual"))
    assert wait_until(lambda: stored(last, "usual"), "another copy") == [None]


def stored(folder, subject):
    """What is kept of the wishes of senders."""
    with sqlite3.connect(f"file:{folder}/data/mairust.db?mode=ro", uri=True) as database:
        return [tls for tls, in database.execute("SELECT tls FROM messages WHERE subject = ?", [subject])]


def test_a_host_that_does_not_know_it_gets_nothing(servers, sinks, internets, stranger, tmp_path):
    sink = sinks(tls=context(stranger, HOST))
    internet = internets(tlsa(sink.port, 3, 1, certificate(stranger, HOST)))
    server = delivering(servers, tmp_path, internet, sink.port)
    submit(server, "two", ["REQUIRETLS", "RET=FULL"])
    returned, status = notice(server)
    assert "Status: 5.7.30" in status and "Action: failed" in status, status
    # RFC 8689 section 5: the notice has header fields only.
    assert returned.get_payload(2).get_content_type() == "text/rfc822-headers"
    assert "the text" not in returned.as_string() and "Subject: two" in returned.as_string()
    assert sink.received == []
    is_sent(send(server, to=BOB))


def test_the_next_host_may_know_it(servers, sinks, internets, stranger, tmp_path):
    first = sinks(tls=context(stranger, HOST))
    folder = tmp_path / "second"
    folder.mkdir()
    chain, key = stranger.certify("second.remote.example")
    second, _ = production(lambda *a, **o: servers(*a, name="second-run", **o), folder,
                           tls={"cert": str(chain), "key": str(key)},
                           smtp={"listeners": [{"bind": f"127.0.0.2:{first.port}", "kind": "mx"}]})
    run("domain", "add", "remote.example", "-c", folder / "mairust.yaml")
    run("user", "add", "bob@remote.example", "-c", folder / "mairust.yaml", "--password-stdin", input=PASSWORD)
    internet = internets(
        tlsa(first.port, 3, 1, certificate(stranger, HOST)), "@ IN MX 20 second", "second IN A 127.0.0.2",
        tlsa(first.port, 3, 1, chain).replace("_tcp.mx ", "_tcp.second "))
    server = delivering(servers, tmp_path, internet, first.port)
    submit(server, "three")
    assert wait_until(lambda: stored(folder, "three"), "the copy") == ["required"]
    assert first.received == []


def test_a_name_that_is_proven_by_nobody_gets_nothing(servers, internets, requiring, tmp_path):
    internet = internets(signed={"other.example": []}, unsigned={"remote.example": []})
    server = delivering(servers, tmp_path, internet, requiring.port)
    submit(server, "four")
    _, status = notice(server)
    assert "Status: 5.7.10" in status, status
    assert requiring.received == []


def test_it_waits_for_a_key_in_order(servers, internets, requiring, stranger, tmp_path):
    other, _ = stranger.certify("other.example")
    internet = internets(tlsa(requiring.port, 3, 1, other))
    server = delivering(servers, tmp_path, internet, requiring.port)
    submit(server, "five")
    line = wait_until(lambda: [line for line in server.log().splitlines() if "delivery attempt" in line], "an attempt")[0]
    assert json.loads(line)["outcome"] == "deferred" and requiring.received == []


def test_what_nobody_needs_to_hide_goes_all_the_same(servers, sinks, internets, stranger, tmp_path):
    """TLS-Required: No (RFC 8689 section 3)."""
    sink = sinks()
    internet = internets(tlsa(sink.port, 3, 1, stranger.certificate))
    server = delivering(servers, tmp_path, internet, sink.port)
    assert attempt(send(server, to=BOB))["outcome"] == "deferred"
    is_sent(send(server, to=BOB, headers={"TLS-Required": "No"}))
    assert len(sink.received) == 1 and rules(server)[-1] == "opportunistic"
    # REQUIRETLS counts more.
    client = server.submission(ALICE, PASSWORD)
    client.sendmail(ALICE, BOB, "TLS-Required: No\r\n" + TEXT.format("both"), ["REQUIRETLS"])
    both = lambda: [line for line in server.log().splitlines() if "delivery attempt" in line and "deferred" in line]
    wait_until(lambda: len(both()) > 1, "another attempt")
    assert len(sink.received) == 1
