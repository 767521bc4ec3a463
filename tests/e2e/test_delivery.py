"""How mail leaves: hosts, connections, TLS and logins, with servers that we did not write at the other end."""

import functools
import http.server
import threading

import pytest
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import AuthResult
from conftest import Api, Sink, free_port, wait_until
from dnslib import A, MX
from dnslib.server import DNSServer
from postfix import Postfix
from test_authentication import Zone
from test_serve import production

LETTER = {"from": "alice@example.com", "to": ["bob@remote.example"], "subject": "x", "text": "hello\n"}
USER, RELAY_PASSWORD = "mail.example.com", "a relay's secret"


@pytest.fixture
def receivers():
    """Starts Postfixes that take mail and throw it away."""
    started = []

    def start(certificate, **options):
        started.append(Postfix.receiver(*certificate, **options))
        return started[-1].start()

    yield start
    for postfix in started:
        postfix.remove()


@pytest.fixture
def zone():
    """A name server with a table, and its address."""
    table, port = Zone(), free_port()
    server = DNSServer(table, port=port, address="127.0.0.1")
    server.start_thread()
    table.servers = {"servers": [f"127.0.0.1:{port}"]}
    yield table
    server.stop()


def started(servers, tmp_path, **sections):
    """A server with a folder of its own."""
    folder = tmp_path / f"site{len(list(tmp_path.glob('site*')))}"
    folder.mkdir()
    delivery = {"retry_first": "1s", "retry_max": "1s", **sections.pop("delivery", {})}
    start = functools.partial(servers, name=folder.name)
    server, key = production(start, folder, delivery=delivery, **sections)
    server.sends = Api(server.ready["http"], key)
    return server


def send(server, **changes):
    sent = server.sends.send({**LETTER, **changes})
    return lambda: server.sends.json(f"/api/v1/sends/{sent['id']}")


def is_sent(state):
    return wait_until(lambda: state()["status"] == "sent", "delivery")


def attempt(state):
    """What was recorded of the first attempt."""
    return wait_until(lambda: state()["attempts"], "an attempt")[0]


def test_many_messages_share_a_connection_to_postfix(servers, receivers, authority, tmp_path):
    postfix, count = receivers(authority.certify("postfix.example")), 25
    server = started(servers, tmp_path, delivery={"relay": f"127.0.0.1:{postfix.port}", "workers": 1})
    before = postfix.log().count("]: connect from ")
    for state in [send(server, to=[f"r{number}@remote.example"]) for number in range(count)]:
        is_sent(state)
    # Postfix sums up a session when it ends, which it does when it was idle for a while.
    tally = f" mail={count} rcpt={count} data={count} rset={count - 1} quit=1 "
    wait_until(lambda: tally in postfix.log(), f"the end of one session with {tally}")
    assert postfix.log().count("]: connect from ") == before + 1


def test_a_restart_of_the_relay_is_not_noticed(servers, sinks, tmp_path):
    sink = sinks()
    server = started(servers, tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}", "retry_first": "1h", "retry_max": "1h"})
    is_sent(send(server))
    sink.stop()
    sink.start()
    is_sent(send(server))
    assert len(sink.received) == 2


def test_connections_to_one_host_are_bounded(servers, sinks, tmp_path):
    sink, count = sinks(), 40
    server = started(servers, tmp_path, delivery={
        "relay": f"127.0.0.1:{sink.port}", "workers": 8, "max_connections_per_host": 2})
    states = [send(server, to=[f"r{number}@remote.example"]) for number in range(count)]
    sink.wait_for(count)
    for state in states:
        is_sent(state)
    attempts = [line for line in server.log().splitlines() if "delivery attempt" in line]
    assert len(attempts) == count
    fresh = [line for line in attempts if '"reused":false' in line]
    assert len(fresh) <= 2, fresh


def test_postfix_must_prove_its_name(servers, receivers, authority, tmp_path):
    certificate = authority.certify("postfix.example")
    postfix = receivers(certificate, level="encrypt")
    relay = {"relay": f"127.0.0.1:{postfix.port}", "relay_tls": "starttls"}
    stranger = started(servers, tmp_path, delivery=relay)
    failed = attempt(send(stranger))
    assert failed["outcome"] == "deferred" and "TLS is required (relay)" in failed["result"], failed
    assert " from=<alice@example.com>" not in postfix.log()
    server = started(servers, tmp_path, delivery={**relay, "tls_roots": str(authority.certificate)})
    is_sent(send(server))
    assert "TLS connection established from" in postfix.log() and "TLSv1.3" in postfix.log()
    line = next(line for line in server.log().splitlines() if "delivery attempt" in line)
    assert " verified" in line and '"tls_rule":"relay"' in line


@pytest.mark.parametrize("tls, mechanism", [("starttls", "PLAIN"), ("starttls", "LOGIN"), ("implicit", "PLAIN")])
def test_users_of_a_relay_log_in(servers, sinks, authority, tmp_path, tls, mechanism):
    def authenticator(server, session, envelope, mechanism, data):
        right = data.login.decode() == USER and data.password.decode() == RELAY_PASSWORD
        return AuthResult(success=right, handled=right, auth_data=(mechanism, data.login.decode()) if right else None)

    context = authority.context("relay.example")
    encryption = {"tls": context} if tls == "starttls" else {"implicit_tls": context, "auth_require_tls": False}
    others = {"PLAIN", "LOGIN"} - {mechanism}
    sink = sinks(authenticator=authenticator, auth_required=True, auth_exclude_mechanism=others, **encryption)
    secret = tmp_path / "secret"
    secret.write_text(RELAY_PASSWORD)
    secret.chmod(0o600)
    server = started(servers, tmp_path, delivery={
        "relay": f"127.0.0.1:{sink.port}", "relay_tls": tls, "relay_user": USER, "relay_password": f"file:{secret}",
        "tls_roots": str(authority.certificate)})
    is_sent(send(server))
    assert sink.received[0]["tls"] and sink.received[0]["user"] == (mechanism, USER)
    server.stop()
    secret.write_text("another")
    server = server.start()
    server.sends.address = server.ready["http"].removeprefix("http://")
    failed = attempt(send(server))
    assert failed["outcome"] == "deferred" and "login at the relay failed: 535" in failed["result"]
    assert RELAY_PASSWORD not in server.log()


def test_lmtp_has_an_answer_for_each(servers, sinks, tmp_path):
    class Store(Sink):
        async def handle_DATA(self, server, session, envelope):
            await super().handle_DATA(server, session, envelope)
            full = [address.startswith("full@") for address in envelope.rcpt_tos]
            return "\r\n".join("552 5.2.2 mailbox full" if each else "250 2.0.0 kept" for each in full)

    store = Store(protocol=LMTP).start()
    try:
        server = started(servers, tmp_path, delivery={"relay": f"127.0.0.1:{store.port}", "relay_protocol": "lmtp"})
        state = send(server, to=["bob@remote.example", "full@remote.example", "carol@remote.example"])
        done = wait_until(lambda: state()["status"] == "failed" and state(), "all answers")
        assert {r["email"]: r["status"] for r in done["recipients"]} == {
            "bob@remote.example": "delivered", "full@remote.example": "bounced", "carol@remote.example": "delivered"}
        assert len(store.received) == 1
    finally:
        store.stop()


def test_deliveries_come_from_the_address_that_is_named(servers, receivers, authority, tmp_path):
    postfix = receivers(authority.certify("postfix.example"))
    server = started(servers, tmp_path, delivery={
        "relay": f"127.0.0.1:{postfix.port}", "source_addresses": ["127.0.0.53"]})
    is_sent(send(server))
    assert "]: connect from unknown[127.0.0.53]" in postfix.log()


def test_mail_goes_neither_round_in_circles_nor_to_this_machine(servers, zone, tmp_path):
    zone.add("circle.example", "MX", MX("mx.example.com", 10))
    zone.add("behind.example", "MX", MX("mx.example.com", 10), MX("other.example", 20))
    zone.add("local.example", "MX", MX("localhost.example", 10))
    for host, address in [("mx.example.com", "192.0.2.1"), ("other.example", "192.0.2.2"), ("localhost.example", "127.0.0.1")]:
        zone.add(host, "A", A(address))
    server = started(servers, tmp_path, dns=zone.servers)
    for domain, code in [("circle.example", "5.4.6"), ("behind.example", "5.4.6"), ("local.example", "5.4.4")]:
        state = send(server, to=[f"bob@{domain}"])
        wait_until(lambda: state()["status"] == "failed", "the end of it")
        assert code in attempt(state)["result"], state()
    own_port = free_port()
    # The address that it listens at, whatever the name.
    here = started(servers, tmp_path, dns=zone.servers, delivery={"allow_loopback": True, "mx_port": own_port}, smtp={
        "listeners": [{"bind": f"0.0.0.0:{own_port}", "kind": "mx"}]})
    state = send(here, to=["bob@local.example"])
    wait_until(lambda: state()["status"] == "failed", "the end of it")
    assert "5.4.6" in attempt(state)["result"]


class Policies(http.server.ThreadingHTTPServer):
    """An HTTPS server with one policy."""

    def __init__(self, context):
        super().__init__(("127.0.0.1", 0), PolicyHandler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.policy, self.status, self.kind, self.asked = "", 200, "text/plain; charset=us-ascii", []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that does not believe the certificate


class PolicyHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.server.policy)))
        self.end_headers()
        self.wfile.write(self.server.policy.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def secured(servers, sinks, zone, authority, tmp_path):
    """remote.example has an exchanger with a good certificate, and a policy; and a server that obeys it."""
    sink = sinks(tls=authority.context("mx1.remote.example"))
    policies = Policies(authority.context("mta-sts.remote.example"))
    zone.add("remote.example", "MX", MX("mx1.remote.example", 10))
    zone.add("_mta-sts.remote.example", "TXT", b"v=STSv1; id=20160831085700Z;")
    for host in ("mx1.remote.example", "mta-sts.remote.example"):
        zone.add(host, "A", A("127.0.0.1"))

    def start(policy, **delivery):
        policies.policy = policy
        return started(servers, tmp_path, dns=zone.servers, delivery={
            "mx_port": sink.port, "allow_loopback": True, "mta_sts_port": policies.server_port,
            "tls_roots": str(authority.certificate), **delivery})

    start.sink, start.policies = sink, policies
    yield start
    policies.shutdown()
    policies.server_close()


def policy(mode, host):
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {host}\r\nmax_age: 86400\r\n"


def rules(server):
    return [line.split('"tls_rule":"')[1].split('"')[0] for line in server.log().splitlines() if '"tls_rule":"' in line]


def test_a_policy_of_a_domain_is_kept_to(secured):
    server = secured(policy("enforce", "*.remote.example"))
    for _ in range(3):
        is_sent(send(server))
    assert [mail["tls"] for mail in secured.sink.received] == [True] * 3
    assert rules(server) == ["mta-sts enforce"] * 3
    port = secured.policies.server_port
    assert secured.policies.asked == [(f"mta-sts.remote.example:{port}", "/.well-known/mta-sts.txt")]


def test_mail_waits_for_a_host_that_the_policy_knows(secured):
    failed = attempt(send(secured(policy("enforce", "mx2.remote.example"))))
    assert failed["outcome"] == "deferred" and "the MTA-STS policy of remote.example" in failed["result"]
    assert secured.sink.received == []


def test_mail_waits_for_a_host_that_proves_its_name(secured, zone):
    zone.add("remote.example", "MX", MX("mx2.remote.example", 10))
    zone.add("mx2.remote.example", "A", A("127.0.0.1"))
    failed = attempt(send(secured(policy("enforce", "mx2.remote.example"))))
    assert failed["outcome"] == "deferred" and "TLS is required (mta-sts enforce)" in failed["result"]
    assert secured.sink.received == []


def test_a_policy_in_testing_stops_nothing(secured):
    server = secured(policy("testing", "mx2.remote.example"))
    is_sent(send(server))
    assert rules(server) == ["mta-sts testing"]


@pytest.mark.parametrize("status, kind, size", [(301, "text/plain", 0), (200, "text/html", 0), (200, "text/plain", 70_000)])
def test_what_is_no_policy_is_none(secured, status, kind, size):
    secured.policies.status, secured.policies.kind = status, kind
    server = secured(policy("enforce", "mx2.remote.example") + "x: " + "x" * size)
    is_sent(send(server))
    assert rules(server) == ["opportunistic"]
    assert [path for _, path in secured.policies.asked] == ["/.well-known/mta-sts.txt"], "redirects are not followed"


def test_a_policy_from_a_host_without_proof_is_none(secured):
    server = secured(policy("enforce", "mx2.remote.example"), tls_roots=None)
    is_sent(send(server))
    assert rules(server) == ["opportunistic"] and secured.policies.asked == []
