"""Mail that is to be sent later, by the API and by FUTURERELEASE (RFC 4865)."""

import datetime
import email
import email.policy
import json
import smtplib

import pytest
from conftest import Api, run, wait_until
from test_serve import PASSWORD, configuration

MESSAGE = "From: alice@example.com\r\nTo: {}\r\nSubject: {}\r\n\r\nthe text\r\n"


@pytest.fixture
def site(servers, sinks, tmp_path):
    sink = sinks()
    config = configuration(tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}", "max_future_release": "1h"})
    run("domain", "add", "example.com", "-c", config)
    for name in ("alice", "ben"):
        run("user", "add", f"{name}@example.com", "-c", config, "--password-stdin", input=PASSWORD)
    key = json.loads(run("apikey", "create", "tests", "-c", config, "-o", "json").stdout)["key"]
    server = servers("-c", config, command="serve")
    return server, sink, Api(server.ready["http"], key), config


def ahead(**time):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**time)).isoformat()


def send(api, to, subject, **more):
    return api.send({"from": "alice@example.com", "to": to, "subject": subject, "text": "hello", **more})


def act(api, message, action):
    response = api.request("POST", f"/api/v1/sends/{message['id']}/{action}")
    return response.status, json.loads(response.body)


def test_the_api_sends_later_to_everybody(site):
    server, sink, api, config = site
    began = datetime.datetime.now(datetime.timezone.utc)
    answer = send(api, ["ben@example.com", "x@remote.example"], "later", send_at=ahead(seconds=3))
    assert answer["status"] == "queued" and {one["status"] for one in answer["recipients"]} == {"pending"}
    assert api.messages(folder="INBOX", subject="later") == [] and sink.received == []
    timeline = run("message", "trace", answer["id"], "-c", config).stdout
    assert f"to be sent at {answer['send_at']}" in timeline and "next" in timeline
    wait_until(lambda: api.json(f"/api/v1/sends/{answer['id']}")["status"] == "sent", "the end")
    assert datetime.datetime.now(datetime.timezone.utc) - began >= datetime.timedelta(seconds=3)
    [copy] = api.messages(folder="INBOX", subject="later")
    assert copy["address"] == "ben@example.com" and len(sink.received) == 1
    shown = api.json(f"/api/v1/sends/{answer['id']}")
    assert shown["send_at"] == answer["send_at"]
    assert {one["status"] for one in shown["recipients"]} == {"delivered"}


def test_what_waits_is_cancelled_or_sent_at_once_and_survives_a_crash(site, servers):
    server, sink, api, config = site
    first = send(api, ["ben@example.com", "x@remote.example"], "first", send_at=ahead(minutes=30))
    second = send(api, ["ben@example.com", "x@remote.example"], "second", send_at=ahead(minutes=30))
    server.kill()
    api = Api(servers("-c", config, command="serve").ready["http"], api.key)
    status, cancelled = act(api, first, "cancel")
    assert (status, cancelled["status"]) == (200, "cancelled")
    assert {one["status"] for one in cancelled["recipients"]} == {"cancelled"}
    status, problem = act(api, first, "cancel")
    assert (status, problem["code"], problem["details"]) == (409, "invalid_state", {"state": "cancelled"})
    assert act(api, second, "retry")[0] == 200
    wait_until(lambda: api.json(f"/api/v1/sends/{second['id']}")["status"] == "sent", "the end")
    assert len(sink.received) == 1 and api.messages(folder="INBOX", subject="first") == []
    assert len(api.messages(folder="INBOX", subject="second")) == 1


@pytest.mark.parametrize("when", ["2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "tomorrow"])
def test_a_time_that_can_not_be_is_refused(site, when):
    _, _, api, _ = site
    message = {"from": "alice@example.com", "to": ["ben@example.com"], "subject": "no", "text": "no", "send_at": when}
    response = api.request("POST", "/api/v1/send", message)
    problem = json.loads(response.body)
    assert (response.status, problem["details"]["errors"][0]["path"]) == (422, "/send_at")
    assert api.messages(subject="no") == []


def test_mail_clients_hold_mail_by_the_standard(site):
    server, sink, api, _ = site
    client = server.submission("alice@example.com", PASSWORD)
    client.ehlo()
    longest, latest = client.esmtp_features["futurerelease"].split()
    assert longest == "3600" and datetime.datetime.fromisoformat(latest) > datetime.datetime.now(datetime.timezone.utc)
    everybody = ["ben@example.com", "x@remote.example"]
    for option in ("HOLDFOR=3601", "HOLDUNTIL=2999-01-01T00:00:00Z", "HOLDFOR=soon"):
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.sendmail("alice@example.com", everybody, MESSAGE.format("all", "no"), [option])
        assert refused.value.smtp_code == 501
    client.sendmail("alice@example.com", everybody, MESSAGE.format("all", "held"), ["HOLDFOR=2"])
    assert sink.received == [] and api.messages(folder="INBOX", subject="held") == []
    [sent] = api.messages(folder="Sent", subject="held")
    wait_until(lambda: api.json(f"/api/v1/sends/{sent['id']}")["status"] == "sent", "the end")
    assert len(sink.received) == 1 and len(api.messages(folder="INBOX", subject="held")) == 1
    # From other servers nothing is held.
    with server.smtp() as stranger:
        stranger.ehlo()
        assert "futurerelease" not in stranger.esmtp_features


def test_a_dry_run_tells_what_would_happen_and_sends_nothing(site):
    server, sink, api, config = site
    run("domain", "dkim", "rotate", "example.com", "--activate", "-c", config)
    run("alias", "add", "team@example.com", "ben@example.com", "y@remote.example", "-c", config)
    message = {"from": "alice@example.com", "to": ["ben@example.com", "team@example.com", "x@remote.example"],
               "subject": "請求書", "text": "お世話になっております", "send_at": ahead(minutes=5)}
    response = api.request("POST", "/api/v1/send/preview", message)
    shown = json.loads(response.body)
    assert (response.status, shown["send_at"][:4]) == (200, message["send_at"][:4])
    assert shown["recipients"] == [
        {"email": "ben@example.com", "kept": True, "sent_to": []},
        {"email": "team@example.com", "kept": True, "sent_to": ["y@remote.example"]},
        {"email": "x@remote.example", "kept": False, "sent_to": ["x@remote.example"]},
    ]
    parsed = email.message_from_string(shown["raw"], policy=email.policy.default)
    assert (parsed["Subject"], parsed["Message-ID"]) == ("請求書", shown["message_id"])
    assert len(parsed.get_all("DKIM-Signature")) == 2 and len(shown["raw"].encode()) == shown["size"]
    refused = api.request("POST", "/api/v1/send", {**message, "from": "eve@example.com", "dry_run": True})
    assert (refused.status, json.loads(refused.body)["code"]) == (403, "sender_not_allowed")
    assert api.messages() == [] and sink.received == []
