"""Submission, queue and delivery, against mail servers that we did not write."""

import re
import email
import json
import smtplib
import ssl
import threading

import pytest
from conftest import Sink, free_port, insecure_tls, self_signed, swaks, wait_until

LETTER = {"from": "dev@localhost", "to": ["bob@remote.example"], "subject": "by the API 請求", "text": "hello\nBob\n"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    cert, key = self_signed(tmp_path_factory.mktemp("tls"), "sink.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def submit_with_swaks(server, to, subject):
    user, password = server.ready["user"], server.ready["password"]
    return swaks(server, "--tls", "--auth", "PLAIN", "--auth-user", user, "--auth-password", password,
                 "--from", "dev@localhost", "--to", to, "--header", f"Subject: {subject}", "--header", "Bcc: secret@x.example",
                 service="submission")


def test_submission_and_api_reach_the_relay(servers, sinks, certificate):
    sink = sinks(tls=certificate)
    server = servers("--relay", f"127.0.0.1:{sink.port}")
    submit_with_swaks(server, "carol@remote.example", "by swaks")
    sent = server.api.send(LETTER)
    assert sent["status"] == "queued"
    received = {mail["to"][0]: mail for mail in sink.wait_for(2)}
    by_swaks = received["carol@remote.example"]
    assert by_swaks["tls"] and b"Subject: by swaks" in by_swaks["data"]
    assert b"secret@x.example" not in by_swaks["data"]
    by_api = email.message_from_bytes(received["bob@remote.example"]["data"])
    assert str(email.header.make_header(email.header.decode_header(by_api["Subject"]))) == "by the API 請求"
    assert by_api["Message-ID"] == sent["message_id"] and by_api["Date"]
    path = f"/api/v1/sends/{sent['id']}"
    done = wait_until(lambda: server.api.json(path)["status"] == "sent" and server.api.json(path), "status sent")
    assert done["recipients"][0]["status"] == "delivered"
    assert done["attempts"][0]["outcome"] == "delivered"


def test_dev_captures_instead_of_sending(dev):
    sent = dev.api.send(LETTER)
    assert sent["status"] == "captured"
    listed = dev.api.messages(direction="outbound", status="captured")
    assert [message["id"] for message in listed] == [sent["id"]]
    assert dev.api.json(f"/api/v1/sends/{sent['id']}")["recipients"][0]["status"] == "captured"


def test_mail_waits_while_the_relay_is_down(servers, sinks):
    port = free_port()
    server = servers("--relay", f"127.0.0.1:{port}")
    sent = server.api.send(LETTER)
    submit_with_swaks(server, "carol@remote.example", "waits")
    path = f"/api/v1/sends/{sent['id']}"
    wait_until(lambda: server.api.json(path)["recipients"][0]["status"] == "deferred", "a failed attempt")
    sink = sinks(port=port)
    assert sorted(mail["to"][0] for mail in sink.wait_for(2, 60)) == ["bob@remote.example", "carol@remote.example"]


def test_mail_survives_kill_9_and_arrives_once(servers, sinks):
    port = free_port()
    server = servers("--relay", f"127.0.0.1:{port}")
    for number in range(10):
        server.api.send({**LETTER, "to": [f"r{number}@remote.example"]})
    server.kill()
    sink = sinks(port=port)
    server.start()
    sink.wait_for(10, 90)
    wait_until(lambda: len(server.api.messages(status="sent")) == 10, "all messages sent", 60)
    assert sorted(mail["to"][0] for mail in sink.received) == sorted(f"r{number}@remote.example" for number in range(10))


def test_a_refusal_makes_a_failure_notice(servers, sinks):
    sink = sinks(refuse={"gone@remote.example": "550 5.1.1 no such user here"})
    server = servers("--relay", f"127.0.0.1:{sink.port}")
    sent = server.api.send({**LETTER, "to": ["gone@remote.example", "bob@remote.example"]})
    assert sink.wait_for(1)[0]["to"] == ["bob@remote.example"]
    notices = wait_until(lambda: server.api.messages(subject="Undelivered"), "a failure notice")
    assert notices[0]["address"] == "dev@localhost" and notices[0]["folder"] == "INBOX"
    report = email.message_from_bytes(server.api.raw(notices[0]))
    assert report.get_content_type() == "multipart/report" and report["Return-Path"] == "<>"
    status = report.get_payload()[1]
    assert status.get_content_type() == "message/delivery-status"
    fields = status.get_payload()[1]
    assert fields["Final-Recipient"] == "rfc822; gone@remote.example"
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert "no such user here" in fields["Diagnostic-Code"]
    done = server.api.json(f"/api/v1/sends/{sent['id']}")
    assert done["status"] == "failed"
    assert {r["email"]: r["status"] for r in done["recipients"]} == {
        "gone@remote.example": "bounced", "bob@remote.example": "delivered"}


def test_submission_wants_tls_and_login(dev):
    client = dev.smtp("submission")
    client.ehlo()
    assert "auth" not in client.esmtp_features
    assert client.mail("dev@localhost") == (530, b"5.7.0 Must issue a STARTTLS command first") or client.mail("x@y")[0] == 530
    assert client.docmd("AUTH PLAIN AGRldgBkZXY=")[0] == 538
    client.starttls(context=insecure_tls())
    client.ehlo()
    assert client.mail("dev@localhost")[0] == 530
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.login("dev", "wrong")
    assert refused.value.smtp_code == 535
    client.quit()


def test_implicit_tls(dev):
    client = smtplib.SMTP_SSL(*dev.address("submissions"), timeout=30, context=insecure_tls())
    client.login(dev.ready["user"], dev.ready["password"])
    client.sendmail("dev@localhost", ["x@remote.example"], "From: dev@localhost\r\nSubject: implicit tls\r\n\r\nx\r\n")
    client.quit()
    assert dev.api.messages(subject="implicit tls")[0]["status"] == "captured"


def test_delivery_follows_the_mx_records(servers, sinks, tmp_path):
    from dnslib import MX, QTYPE, RR, A
    from dnslib.server import BaseResolver, DNSServer

    class Zone(BaseResolver):
        def resolve(self, request, handler):
            answer = request.reply()
            name = str(request.q.qname).rstrip(".")
            if request.q.qtype == QTYPE.MX and name == "remote.example":
                answer.add_answer(RR(name, QTYPE.MX, rdata=MX("mx1.remote.example", 10)))
                answer.add_answer(RR(name, QTYPE.MX, rdata=MX("mx2.remote.example", 20)))
            elif request.q.qtype == QTYPE.A and name == "mx1.remote.example":
                answer.add_answer(RR(name, QTYPE.A, rdata=A("127.0.0.9")))  # nobody listens there
            elif request.q.qtype == QTYPE.A and name == "mx2.remote.example":
                answer.add_answer(RR(name, QTYPE.A, rdata=A("127.0.0.1")))
            elif not name.endswith("remote.example"):
                answer.header.rcode = 3  # NXDOMAIN
            return answer

    dns_port, sink = free_port(), sinks()
    dns = DNSServer(Zone(), port=dns_port, address="127.0.0.1")
    dns.start_thread()
    try:
        from test_serve import production
        server, key = production(servers, tmp_path, delivery={
            "mx_port": sink.port, "allow_loopback": True, "retry_first": "1s", "connect_timeout": "2s"}, dns={"servers": [f"127.0.0.1:{dns_port}"]})
        from conftest import Api
        api = Api(server.ready["http"], key)
        api.send({**LETTER, "from": "alice@example.com", "to": ["bob@remote.example", "x@nowhere.example"]})
        assert sink.wait_for(1)[0]["to"] == ["bob@remote.example"]
        notice = wait_until(lambda: api.messages(subject="Undelivered"), "a notice about the domain that does not exist")
        assert "x@nowhere.example" in api.bytes(f"/api/v1/messages/{notice[0]['id']}/text").decode()
    finally:
        dns.stop()
