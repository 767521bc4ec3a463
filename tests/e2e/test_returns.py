"""Mail that a host took and sends back later: a real Postfix takes it, and cannot pass it on."""

import email
import json
import re
import smtplib

import pytest
from conftest import Api, free_port, wait_until
from postfix import Postfix
from receiver import Receiver
from test_serve import PASSWORD, production

ALICE, BOB, GONE = "alice@example.com", "bob@remote.example", "gone@remote.example"


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


class Site:
    """A server that sends by way of a Postfix, which passes mail for remote.example on to a sink."""

    def __init__(self, servers, tmp_path, sink, **delivery):
        port = free_port()
        self.postfix = Postfix.hop({"remote.example": sink.port, "example.com": port})
        try:
            self.postfix.start()
            smtp = {"listeners": [{"bind": f"127.0.0.1:{port}", "kind": "mx"},
                                  {"bind": "127.0.0.1:0", "kind": "submission"}]}
            delivery = {"relay": f"127.0.0.1:{self.postfix.port}", "return_path": "verp", **delivery}
            self.server, key = production(servers, tmp_path, smtp=smtp, delivery=delivery,
                                          webhooks={"allow_private_addresses": True})
            self.api = Api(self.server.ready["http"], key)
        except BaseException:
            self.postfix.remove()
            raise

    def send(self, *to):
        """The id of a message to these recipients."""
        return self.api.send({"from": ALICE, "to": list(to), "subject": "hello", "text": "x\n"})["id"]

    def states(self, sent):
        return {one["email"]: one["status"] for one in self.api.json(f"/api/v1/sends/{sent}")["recipients"]}

    def inbox(self):
        return self.api.messages(folder="INBOX")

    def bring(self, to, message):
        """What is said to a message without a sender."""
        client = self.server.smtp()
        try:
            client.sendmail("", [to], message)
            return 250, b""
        except smtplib.SMTPRecipientsRefused as refused:
            return refused.recipients[to]
        finally:
            client.close()


@pytest.fixture
def site(servers, sinks, tmp_path):
    sink = sinks(refuse={GONE: "550 5.1.1 <gone@remote.example>: no such user here"})
    site = Site(servers, tmp_path, sink)
    site.sink = sink
    yield site
    site.postfix.remove()


def test_what_postfix_sends_back_bounces_the_recipient(site, receiver):
    api = site.api
    webhook = json.loads(api.request("POST", "/api/v1/webhooks", {"url": receiver.url, "types": ["message.bounced"]}).body)
    sent = site.send(GONE, BOB)
    wait_until(lambda: site.states(sent) == {GONE: "bounced", BOB: "delivered"}, "the report of Postfix")
    assert api.json(f"/api/v1/sends/{sent}")["status"] == "failed"
    [delivered] = site.sink.wait_for(1)
    assert re.fullmatch(r"bounces\+[a-z2-7]{48}@example\.com", delivered["from"]) and delivered["to"] == [BOB]
    # Each recipient has an address of their own, and Postfix reports to that of the one whom it did not reach.
    [copy] = site.inbox()
    assert copy["address"] == ALICE
    report = email.message_from_bytes(api.raw(copy))
    assert report.get_content_type() == "multipart/report" and report["Return-Path"] == "<>"
    assert "no such user here" in report.as_string()
    # Postfix took both, and then one came back.
    outcomes = [(one["email"], one["outcome"]) for one in api.json(f"/api/v1/sends/{sent}")["attempts"]]
    assert sorted(outcomes) == [(BOB, "delivered"), (GONE, "delivered"), (GONE, "reported")]
    reported = next(one for one in api.json(f"/api/v1/sends/{sent}")["attempts"] if one["outcome"] == "reported")
    assert reported["host"] == "postfix.example" and "550 5.1.1" in reported["result"], reported
    event = receiver.wait_for_event(webhook["secret"], "message.bounced")["data"]
    assert (event["recipient"], event["late"], event["notice_id"]) == (GONE, True, copy["id"])
    assert (event["reply"]["code"], event["reply"]["enhanced"], event["host"]) == (550, "5.1.1", "postfix.example")
    [entry] = api.json("/api/v1/suppressions")["items"]
    assert (entry["email"], entry["reason"]) == (GONE, "bounce")
    refused = api.request("POST", "/api/v1/send", {"from": ALICE, "to": [GONE], "subject": "x", "text": "x"})
    assert json.loads(refused.body)["code"] == "recipient_suppressed"
    trace = [entry for entry in api.json(f"/api/v1/messages/{sent}/trace")["entries"] if entry["kind"] in ("attempt", "notice")]
    told = next(entry for entry in trace if entry["kind"] == "notice")
    assert (told["message_id"], told["about"]) == (copy["id"], [{"recipient": GONE, "what": "failure"}])
    # The same report once more is only kept.
    body = api.raw(copy).split(b"\r\n\r\n", 1)[1]
    [path] = re.findall(rb"bounces\+[a-z2-7]{48}@example\.com", api.raw(copy).split(b"\r\n\r\n", 1)[0])[:1]
    head = b"Content-Type: " + report["Content-Type"].encode() + b"\r\n\r\n"
    assert site.bring(path.decode(), head + body)[0] == 250
    wait_until(lambda: len(site.inbox()) == 2, "the copy")
    assert site.states(sent)[GONE] == "bounced"
    assert len(api.json("/api/v1/events?types=message.bounced")["items"]) == 1
    metrics = api.bytes("/metrics").decode()
    for result in ("bounced", "known"):
        assert f'mairust_returned_messages_total{{result="{result}"}} 1' in metrics, metrics


def test_nobody_reports_for_others(site):
    sent = site.send(BOB)
    path = site.sink.wait_for(1)[0]["from"]
    wait_until(lambda: site.states(sent) == {BOB: "delivered"}, "the delivery")
    forged = path[:20] + ("b" if path[20] == "a" else "a") + path[21:]
    report = (
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n"
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n"
        f"Final-Recipient: rfc822; {BOB}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
    )
    code, text = site.bring(forged, report)
    assert (code, text[:5]) == (550, b"5.1.1")
    assert site.states(sent) == {BOB: "delivered"} and site.inbox() == []
    assert 'mairust_returned_messages_total{result="forged"} 1' in site.api.bytes("/metrics").decode()
    # What is no report comes to whom it was meant for, and means nothing.
    assert site.bring(path, "Subject: I am away\r\n\r\nx\r\n")[0] == 250
    assert [message["subject"] for message in site.inbox()] == ["I am away"]
    assert site.states(sent) == {BOB: "delivered"}


def test_who_wants_no_notice_gets_none(site):
    """NOTIFY=NEVER: Postfix is told, and a report that comes all the same is not kept."""
    client = site.server.submission(ALICE, PASSWORD)
    client.ehlo()
    assert client.mail(ALICE)[0] == 250 and client.rcpt(BOB, ["NOTIFY=NEVER"])[0] == 250
    assert client.data(f"From: {ALICE}\r\nSubject: hello\r\n\r\nx\r\n")[0] == 250
    client.close()
    path = site.sink.wait_for(1)[0]["from"]
    [sent] = site.api.messages(folder="Sent")
    wait_until(lambda: site.states(sent["id"]) == {BOB: "delivered"}, "the delivery")
    report = (
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n"
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n"
        f"Final-Recipient: rfc822; {BOB}\r\nAction: failed\r\nStatus: 5.2.1\r\n\r\n--b--\r\n"
    )
    assert site.bring(path, report)[0] == 250
    assert site.states(sent["id"]) == {BOB: "bounced"} and site.inbox() == []
    assert site.api.json("/api/v1/suppressions")["items"] == []
