"""Which mail exchanger gets mail, and what becomes of it when none does: real servers, found by a real name server."""

import contextlib

import pytest
from conftest import Sink, wait_until
from exim import EximReceiver
from knot import Knot
from postfix import Postfix
from test_delivery import attempt, is_sent, send, started

PAIR = "@ IN MX 20 mx2\n@ IN MX 10 mx1\nmx1 IN A 127.0.0.2\nmx2 IN A 127.0.0.3\n"


@pytest.fixture(scope="module")
def knot():
    server = Knot("remote.example", broken=["broken.example"])
    yield server
    server.remove()


@pytest.fixture
def pair(authority, knot):
    """remote.example has two exchangers, a Postfix that is preferred, and an Exim."""
    knot.publish(PAIR)
    with contextlib.ExitStack() as stack:
        postfix = Postfix.receiver(*authority.certify("mx1.remote.example"), host="127.0.0.2")
        stack.callback(postfix.remove)
        postfix.start()
        exim = EximReceiver(*authority.certify("mx2.remote.example"), "127.0.0.3", postfix.port)
        stack.callback(exim.remove)
        yield postfix, exim


def site(servers, tmp_path, knot, port, **delivery):
    settings = {"mx_port": port, "allow_loopback": True, **delivery}
    return started(servers, tmp_path, dns={"servers": [knot.address]}, delivery=settings)


def test_mail_goes_to_the_preferred_exchanger_and_without_it_to_the_other(servers, pair, knot, tmp_path):
    postfix, exim = pair
    server = site(servers, tmp_path, knot, postfix.port)
    state = send(server)
    is_sent(state)
    assert "mx1.remote.example" in attempt(state)["host"]
    wait_until(lambda: " from=<alice@example.com>" in postfix.log(), "the log of Postfix")
    assert "TLS connection established from" in postfix.log() and " <= " not in exim.log()
    postfix.stop()
    state = send(server)
    is_sent(state)
    assert [(one["outcome"], one["host"]) for one in state()["attempts"]] == [("delivered", attempt(state)["host"])]
    assert "mx2.remote.example" in attempt(state)["host"]
    wait_until(lambda: " <= alice@example.com " in exim.log(), "the log of Exim")
    assert " X=TLS1.3" in exim.log()


@pytest.mark.parametrize("domain, code", [("null.remote.example", "5.1.10"), ("nowhere.remote.example", "5.1.2")])
def test_who_takes_no_mail_or_does_not_exist_is_final(servers, knot, tmp_path, domain, code):
    knot.publish("null IN MX 0 .\n")
    state = send(site(servers, tmp_path, knot, 1), to=[f"bob@{domain}"])
    wait_until(lambda: state()["status"] == "failed", "the end of it")
    assert len(state()["attempts"]) == 1 and code in attempt(state)["result"], state()


def test_mail_waits_for_a_name_server_that_fails(servers, sinks, knot, tmp_path):
    sink = sinks()
    assert knot.status("broken.example", "MX") == "SERVFAIL"
    state = send(site(servers, tmp_path, knot, sink.port), to=["bob@broken.example"])
    failed = attempt(state)
    assert failed["outcome"] == "deferred" and failed["host"] is None, failed
    knot.mend("broken.example", "@ IN MX 10 mail\n")
    is_sent(state)
    assert [mail["to"] for mail in sink.received] == [["bob@broken.example"]]


def test_a_greylisted_message_comes_again(servers, knot, tmp_path):
    class Greylist(Sink):
        seen = 0

        async def handle_RCPT(self, server, session, envelope, address, options):
            self.seen += 1
            if self.seen == 1:
                return "451 4.7.1 greylisted, come again"
            return await super().handle_RCPT(server, session, envelope, address, options)

    knot.publish("@ IN MX 10 mail\n")
    greylist = Greylist().start()
    try:
        state = send(site(servers, tmp_path, knot, greylist.port))
        is_sent(state)
        first, second = state()["attempts"]
        assert (first["outcome"], second["outcome"]) == ("deferred", "delivered")
        assert "451 4.7.1 greylisted" in first["result"] and len(greylist.received) == 1
    finally:
        greylist.stop()
