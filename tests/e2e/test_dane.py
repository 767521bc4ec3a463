"""DANE: exchangers that say in signed DNS which certificates they have. Knot signs, and Postfix proves."""

import hashlib
import subprocess

import dnslib
import pytest
from conftest import Authority, run
from signed import Attacker, Internet
from test_delivery import Policies, attempt, is_sent, policy, receivers, rules, send, started  # noqa: F401
from test_serve import configuration

HOST = "mx.remote.example"
BOB = ["bob@remote.example"]


@pytest.fixture
def internets():
    """Starts zones; only remote.example is signed, if nothing else is said."""
    running = []

    def start(*lines, **changes):
        options = {"signed": {"remote.example": lines}, **changes}
        running.append(Internet(**options))
        return running[-1]

    yield start
    for internet in running:
        internet.remove()


def der(path, *arguments):
    return subprocess.run(["openssl", *map(str, arguments), "-in", str(path), "-outform", "DER"], check=True,
                          capture_output=True).stdout


def tlsa(port, usage, selector, certificate, matching=1):
    """The line of a zone for this certificate."""
    selected = der(certificate, "x509") if selector == 0 else key(certificate)
    data = {0: bytes.hex, 1: lambda octets: hashlib.sha256(octets).hexdigest(),
            2: lambda octets: hashlib.sha512(octets).hexdigest()}[matching](selected)
    return f"_{port}._tcp.mx IN TLSA {usage} {selector} {matching} {data}"


def key(certificate):
    text = subprocess.run(["openssl", "x509", "-pubkey", "-noout", "-in", str(certificate)], check=True,
                          capture_output=True).stdout
    return subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=text, check=True,
                          capture_output=True).stdout


@pytest.fixture
def stranger(tmp_path):
    """An authority that nobody has heard of, and a certificate that made itself."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    return Authority(folder)


def with_chain(authority, name):
    """A certificate whose file has that of its authority, too, and its key."""
    certificate, secret = authority.certify(name)
    certificate.write_text(certificate.read_text() + authority.certificate.read_text())
    return certificate, secret


def delivering(servers, tmp_path, internet, port, **delivery):
    return started(servers, tmp_path, dns=internet.dns(), delivery={
        "dane": True, "mx_port": port, "allow_loopback": True, **delivery})


def log_line(server):
    return next(line for line in server.log().splitlines() if "delivery attempt" in line)


def none_came(postfix):
    return " from=<alice@example.com>" not in postfix.log()


@pytest.mark.parametrize("nsec3", [True, False])
def test_postfix_proves_its_own_key(servers, receivers, internets, stranger, tmp_path, nsec3):
    # Neither the name nor the authority of the certificate counts.
    certificate, secret = stranger.certificate, stranger.key
    postfix = receivers((certificate, secret), level="encrypt")
    internet = internets(tlsa(postfix.port, 3, 1, certificate), nsec3=nsec3)
    server = delivering(servers, tmp_path, internet, postfix.port)
    is_sent(send(server, to=BOB))
    assert rules(server) == ["dane"] and " verified" in log_line(server)
    assert "TLS connection established from" in postfix.log()


def test_another_key_than_the_published_one_gets_nothing(servers, receivers, internets, stranger, tmp_path):
    postfix = receivers((stranger.certificate, stranger.key))
    other, _ = stranger.certify("other.example")
    internet = internets(tlsa(postfix.port, 3, 1, other))
    failed = attempt(send(delivering(servers, tmp_path, internet, postfix.port), to=BOB))
    assert failed["outcome"] == "deferred", failed
    assert f"no TLSA record of {HOST} matches" in failed["result"] and "TLS is required (dane)" in failed["result"]
    assert f"{HOST}[127.0.0.1]" in failed["result"] or failed["host"].startswith(HOST), failed
    assert none_came(postfix)


def test_a_host_with_records_and_without_tls_gets_nothing(servers, sinks, internets, stranger, tmp_path):
    sink = sinks()
    internet = internets(tlsa(sink.port, 3, 1, stranger.certificate))
    failed = attempt(send(delivering(servers, tmp_path, internet, sink.port), to=BOB))
    assert failed["outcome"] == "deferred" and "TLS is required (dane)" in failed["result"], failed
    assert sink.received == []


@pytest.mark.parametrize("selector, matching", [(0, 1), (1, 1), (1, 2)])
def test_postfix_proves_its_authority(servers, receivers, internets, stranger, tmp_path, selector, matching):
    postfix = receivers(with_chain(stranger, HOST), level="encrypt")
    internet = internets(tlsa(postfix.port, 2, selector, stranger.certificate, matching))
    server = delivering(servers, tmp_path, internet, postfix.port)
    is_sent(send(server, to=BOB))
    assert rules(server) == ["dane"] and " verified" in log_line(server)


@pytest.mark.parametrize("matching", [0, 1])
def test_an_authority_is_sent_or_published(servers, receivers, internets, stranger, tmp_path, matching):
    postfix = receivers(stranger.certify(HOST))
    internet = internets(tlsa(postfix.port, 2, 0, stranger.certificate, matching))
    server = delivering(servers, tmp_path, internet, postfix.port)
    if matching == 0:
        is_sent(send(server, to=BOB))
        assert " verified" in log_line(server)
    else:
        assert attempt(send(server, to=BOB))["outcome"] == "deferred" and none_came(postfix)


def test_an_authority_vouches_for_the_names_of_host_and_domain(servers, receivers, internets, stranger, tmp_path):
    for name, outcome in [("remote.example", "sent"), ("other.example", "deferred")]:
        postfix = receivers(with_chain(stranger, name))
        internet = internets(tlsa(postfix.port, 2, 1, stranger.certificate))
        state = send(delivering(servers, tmp_path, internet, postfix.port), to=BOB)
        if outcome == "sent":
            is_sent(state)
        else:
            assert attempt(state)["outcome"] == "deferred" and none_came(postfix)


def test_records_that_nobody_can_use_still_ask_for_tls(servers, sinks, receivers, internets, stranger, tmp_path):
    postfix = receivers((stranger.certificate, stranger.key), level="encrypt")
    internet = internets(tlsa(postfix.port, 1, 1, stranger.certificate))
    server = delivering(servers, tmp_path, internet, postfix.port)
    is_sent(send(server, to=BOB))
    assert rules(server) == ["dane"] and " unverified" in log_line(server)
    sink = sinks()
    internet = internets(tlsa(sink.port, 1, 1, stranger.certificate))
    failed = attempt(send(delivering(servers, tmp_path, internet, sink.port), to=BOB))
    assert failed["outcome"] == "deferred" and sink.received == [], failed


def test_nothing_is_asked_where_nothing_is_signed_or_published(servers, sinks, internets, stranger, tmp_path):
    sink = sinks()
    wrong = tlsa(sink.port, 3, 1, stranger.certificate)
    for zones in [{"signed": {"other.example": []}, "unsigned": {"remote.example": [wrong]}}, {}]:
        server = delivering(servers, tmp_path, internets(**zones), sink.port)
        is_sent(send(server, to=BOB))
        assert rules(server) == ["opportunistic"]


def test_nothing_is_asked_of_a_host_that_nobody_signed(servers, sinks, internets, stranger, tmp_path):
    sink = sinks()
    abroad = "mx IN A 127.0.0.1\n" + tlsa(sink.port, 3, 1, stranger.certificate)
    internet = internets("@ IN MX 5 mx.abroad.example.", unsigned={"abroad.example": [abroad]})
    server = delivering(servers, tmp_path, internet, sink.port)
    is_sent(send(server, to=BOB))
    assert rules(server) == ["opportunistic"] and "mx.abroad.example" in log_line(server)


def test_mail_waits_for_signatures_in_order(servers, sinks, internets, stranger, tmp_path):
    sink = sinks()
    internet = internets(tlsa(sink.port, 3, 1, stranger.certificate), broken=["remote.example"])
    failed = attempt(send(delivering(servers, tmp_path, internet, sink.port), to=BOB))
    assert failed["outcome"] == "deferred" and "DNS lookup failed" in failed["result"], failed
    assert sink.received == []


def test_a_host_whose_records_are_not_proven_is_passed_over(servers, sinks, internets, tmp_path):
    sink = sinks()
    internet = internets(signed={"remote.example": ["@ IN MX 5 mx.abroad.example."], "abroad.example": []},
                         broken=["abroad.example"])
    server = delivering(servers, tmp_path, internet, sink.port)
    is_sent(send(server, to=BOB))
    assert HOST in log_line(server) and rules(server) == ["opportunistic"]


def test_a_root_that_is_not_ours_proves_nothing(servers, sinks, internets, tmp_path):
    sink, internet, other = sinks(), internets(), internets()
    dns = {**internet.dns(), "trust_anchors": str(other.anchors)}
    server = started(servers, tmp_path, dns=dns, delivery={
        "dane": True, "mx_port": sink.port, "allow_loopback": True})
    failed = attempt(send(server, to=BOB))
    assert failed["outcome"] == "deferred" and "DNS lookup failed" in failed["result"], failed
    assert sink.received == []


@pytest.mark.parametrize("signed_target", [True, False])
def test_aliases_are_followed_as_far_as_they_are_signed(servers, receivers, internets, stranger, tmp_path, signed_target):
    postfix = receivers((stranger.certificate, stranger.key), level="encrypt")
    # The domain is an alias, its exchanger is one, and so are the records.
    record = tlsa(postfix.port, 3, 1, stranger.certificate).replace(f"_{postfix.port}._tcp.mx", "keys")
    zone = [f"@ IN MX 5 out.remote.example.\nout IN CNAME mx.abroad.example.\nalso IN CNAME remote.example.\n"
            f"_{postfix.port}._tcp.out IN CNAME keys\n{record}"]
    zones = {"signed": {"remote.example": zone}, "unsigned": {}}
    zones["signed" if signed_target else "unsigned"]["abroad.example"] = []
    server = delivering(servers, tmp_path, internets(**zones), postfix.port)
    is_sent(send(server, to=["bob@also.remote.example"]))
    assert rules(server) == ["dane"] and " verified" in log_line(server) and "out.remote.example" in log_line(server)


def unsigned_word(answer):
    """Says that something is so in the name of a zone that nobody signs."""
    answer.add_auth(dnslib.RR("plain.example", dnslib.QTYPE.SOA, ttl=60, rdata=dnslib.SOA(
        "ns.", "hostmaster.", (1, 3600, 900, 604800, 60))))
    return answer.pack()


def nothing(question, ask):
    answer = question.reply()
    return unsigned_word(answer)


def another_name(question, ask):
    """That there is nothing, beside a record that nobody asked for."""
    answer = question.reply()
    answer.add_answer(dnslib.RR("plain.example", dnslib.QTYPE.A, ttl=60, rdata=dnslib.A("192.0.2.1")))
    return unsigned_word(answer)


def wildcard(question, ask):
    """What stands for all names that do not exist, for one that does."""
    query = dnslib.DNSRecord.question("nobody.remote.example", "TLSA")
    query.add_ar(dnslib.EDNS0(flags="do", udp_len=4096))
    found = dnslib.DNSRecord.parse(ask(query.pack()))
    answer = question.reply()
    for record in found.rr:
        if record.rname == "nobody.remote.example":
            record.rname = question.q.qname
            answer.add_answer(record)
    assert len(answer.rr) == 2, found
    return unsigned_word(answer)


@pytest.mark.parametrize("lie", [nothing, another_name, wildcard])
def test_nobody_can_hide_records(servers, sinks, internets, stranger, tmp_path, lie):
    """That there is no record is believed of nobody but of the zone itself."""
    sink = sinks()
    internet = internets(tlsa(sink.port, 3, 1, stranger.certificate), "* IN CNAME mx",
                         unsigned={"plain.example": []})
    attacker = Attacker(internet, f"_{sink.port}._tcp.{HOST}", lie)
    try:
        server = started(servers, tmp_path, dns={**internet.dns(), "servers": [attacker.address]}, delivery={
            "dane": True, "mx_port": sink.port, "allow_loopback": True})
        failed = attempt(send(server, to=BOB))
        assert failed["outcome"] == "deferred" and "TLSA records can't be found out" in failed["result"], failed
        assert attacker.lies and sink.received == []
    finally:
        attacker.remove()


def test_records_count_more_than_a_policy(servers, receivers, internets, authority, stranger, tmp_path):
    """RFC 8461 section 2: what MTA-STS would let pass does not help, and what it would stop passes."""
    policies = Policies(authority.context("mta-sts.remote.example"))
    policies.policy = policy("enforce", "elsewhere.example")
    try:
        postfix = receivers((stranger.certificate, stranger.key))
        internet = internets(tlsa(postfix.port, 3, 1, stranger.certificate), "mta-sts IN A 127.0.0.1",
                             '_mta-sts IN TXT "v=STSv1; id=1;"')
        server = delivering(servers, tmp_path, internet, postfix.port, mta_sts_port=policies.server_port,
                            tls_roots=str(authority.certificate))
        is_sent(send(server, to=BOB))
        assert rules(server) == ["dane"]
    finally:
        policies.shutdown()
        policies.server_close()


def test_keys_without_a_use_are_found(tmp_path):
    anchors = tmp_path / "anchors"
    anchors.write_text("no keys\n")
    config = configuration(tmp_path, dns={"trust_anchors": str(anchors)})
    assert "delivery.dane" in refused(config)
    config = configuration(tmp_path, dns={"trust_anchors": str(anchors)}, delivery={"dane": True})
    assert "DNSKEY" in refused(config)


def refused(config):
    found = run("config", "check", "-c", config, check=False)
    assert found.returncode == 3, found
    return found.stdout + found.stderr
