"""Who may send how much, who may not, and to whom nothing is sent: by smtplib and the API."""

import concurrent.futures
import itertools
import json
import smtplib

import pytest
from conftest import Api, run, wait_until
from test_serve import PASSWORD, production

ALICE, CAROL = "alice@example.com", "carol@example.com"


class Site:
    """A server with two users, and its commands."""

    def __init__(self, servers, tmp_path, **sections):
        self.server, self.key = production(servers, tmp_path, **sections)
        self.config = tmp_path / "mairust.yaml"
        self.numbers = itertools.count()
        self.run("user", "add", CAROL, "--password-stdin", input=PASSWORD)

    def run(self, *arguments, **options):
        return run(*arguments, "-c", self.config, **options)

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "-o", "json").stdout)

    @property
    def api(self):
        return Api(self.server.ready["http"], self.key)

    def send(self, sender, *recipients, server=None):
        """By smtplib: the refused recipients, or what the message is answered with."""
        client = (server or self.server).submission(sender, PASSWORD)
        try:
            # Each one new: the same again, of a client that went without QUIT, would be one whose 250 got lost.
            subject = f"by SMTP, number {next(self.numbers)}"
            return client.sendmail(sender, recipients, f"From: {sender}\r\nSubject: {subject}\r\n\r\nx\r\n")
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code, refused.smtp_error.decode()
        finally:
            client.close()

    def post(self, sender, *recipients):
        """By the API: status, header fields and body."""
        letter = {"from": sender, "to": list(recipients), "subject": "by the API", "text": "x\n"}
        response = self.api.request("POST", "/api/v1/send", letter)
        return response.status, response.headers, json.loads(response.body)

    def events(self, kind):
        return [entry for entry in self.json("audit", "list") if entry["event_type"] == kind]


def test_who_sends_too_much_waits_and_nobody_else(servers, tmp_path):
    site = Site(servers, tmp_path, policy={"user_hourly": 3, "exceptions": [{"address": CAROL, "daily": 5}]})
    assert site.send(ALICE, ALICE, CAROL) == {}
    assert site.post(ALICE, CAROL)[0] == 202
    code, text = site.send(ALICE, CAROL)
    assert code == 451 and text.startswith(f"4.7.1 Too much mail: at most 3 recipients in 1h from {ALICE}"), text
    status, headers, problem = site.post(ALICE, CAROL)
    assert (status, problem["code"]) == (429, "rate_limited") and 1000 < int(headers["Retry-After"]) <= 1201
    site.server.stop()
    site.server.start()
    assert site.send(ALICE, CAROL)[0] == 451, "a restart changes nothing"
    assert site.send(CAROL, ALICE, CAROL) == {} and site.post(CAROL, ALICE, CAROL)[0] == 202, "an exception"
    code, text = site.send(CAROL, ALICE, CAROL)
    assert code == 451 and "at most 5 recipients in 1d" in text
    code, text = site.send(ALICE, *(f"r{number}@remote.example" for number in range(4)))
    assert code == 550 and "Too many recipients" in text
    client = site.server.smtp()
    for _ in range(5):
        assert client.sendmail("a@sender.example", [ALICE], "Subject: from outside\r\n\r\nx\r\n") == {}
    key = site.json("apikey", "create", "metrics", "--scope", "metrics:read")["key"]
    metrics = Api(site.server.ready["http"], key).bytes("/metrics").decode()
    assert 'mairust_policy_decisions_total{decision="tempfail",reason="user_hourly"} 1' in metrics
    assert 'mairust_policy_decisions_total{decision="allow",reason="none"} 2' in metrics


def test_two_servers_on_one_database_keep_to_one_limit(servers, tmp_path):
    site = Site(servers, tmp_path, policy={"user_hourly": 12})
    both = [site.server, servers("-c", site.config, command="serve", name="second")]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: site.send(ALICE, CAROL, server=both[number % 2]), range(30)))
    assert sum(answer == {} for answer in answers) == 12, answers
    assert all(answer == {} or answer[0] == 451 for answer in answers)


def test_whoever_is_suspended_sends_nothing_until_it_ends(servers, tmp_path):
    site = Site(servers, tmp_path)
    client = site.server.submission(ALICE, PASSWORD)
    shown = site.json("user", "suspend-sending", ALICE, "--reason", "a stolen password")
    assert shown["sending_suspended_because"] == "a stolen password" and shown["sending_suspended_at"]
    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail(ALICE, [CAROL], f"From: {ALICE}\r\n\r\nx\r\n")
    code, text = refused.value.smtp_code, refused.value.smtp_error.decode()
    assert code == 550 and text.startswith("5.7.1 Sending is suspended") and "stolen" not in text
    status, _, problem = site.post(ALICE, CAROL)
    assert (status, problem["code"]) == (403, "policy_denied")
    assert site.send(CAROL, ALICE) == {}
    assert "(sending suspended: a stolen password)" in site.run("user", "list").stdout
    site.server.stop()
    site.server.start()
    assert site.send(ALICE, CAROL)[0] == 550
    assert site.json("user", "resume-sending", ALICE)["sending_suspended_at"] is None
    assert site.send(ALICE, CAROL) == {} and site.post(ALICE, CAROL)[0] == 202
    assert len(site.events("user.changed")) == 2
    assert site.run("user", "suspend-sending", ALICE, "--reason", " ", check=False).returncode == 2
    assert site.run("user", "suspend-sending", "nobody@example.com", "--reason", "x", check=False).returncode == 5


def test_nothing_is_sent_to_who_is_suppressed(servers, sinks, tmp_path):
    sink = sinks()
    site = Site(servers, tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}"})
    why = ["--reason", "complaint", "--detail", "a call", "--days", "3"]
    added = site.json("suppression", "add", "Bob@remote.example", *why)
    assert added["reason"] == "complaint" and added["expires_at"] > added["created_at"]
    refused = site.send(ALICE, "bob@remote.example", "eve@remote.example")
    assert refused == {"bob@remote.example": (550, b"5.7.1 bob@remote.example is on the suppression list")}
    assert sink.wait_for(1)[0]["to"] == ["eve@remote.example"]
    status, _, problem = site.post(ALICE, "eve@remote.example", "bob@remote.example")
    assert (status, problem["code"]) == (422, "recipient_suppressed")
    assert problem["details"]["recipients"] == ["Bob@remote.example"]
    assert site.run("suppression", "add", "bob@remote.example", check=False).returncode == 6
    assert "complaint since" in site.run("suppression", "list").stdout
    [entry] = site.api.json("/api/v1/suppressions")["items"]
    assert entry["id"] == added["id"] and entry["email"] == "Bob@remote.example"
    site.run("suppression", "rm", "bob@remote.example")
    assert site.run("suppression", "rm", "bob@remote.example", check=False).returncode == 5
    assert site.post(ALICE, "bob@remote.example")[0] == 202
    response = site.api.request("POST", "/api/v1/suppressions", {"email": "eve@remote.example"})
    assert response.status == 201
    assert site.send(ALICE, CAROL, "eve@remote.example")["eve@remote.example"][0] == 550
    at = f"/api/v1/suppressions/{json.loads(response.body)['id']}"
    assert site.api.request("DELETE", at).status == 204
    assert site.send(ALICE, "eve@remote.example") == {}
    wait_until(lambda: len(site.events("suppression.removed")) == 2, "the audit log")
    assert [entry["actor"]["type"] for entry in site.events("suppression.added")] == ["api_key", "operator"]


def test_who_does_not_exist_is_suppressed_and_the_audit_log_says_so(servers, sinks, tmp_path):
    sink = sinks(refuse={"gone@remote.example": "550 5.1.1 no such user here", "full@remote.example": "552 5.2.2 full"})
    site = Site(servers, tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}"})
    sent = site.post(ALICE, "gone@remote.example", "full@remote.example")[2]["id"]
    wait_until(lambda: site.api.json(f"/api/v1/sends/{sent}")["status"] == "failed", "the bounce")
    [entry] = site.api.json("/api/v1/suppressions")["items"]
    assert (entry["email"], entry["reason"]) == ("gone@remote.example", "bounce")
    assert entry["detail"] == "550 5.1.1 no such user here" and entry["expires_at"] is None
    assert site.post(ALICE, "gone@remote.example")[2]["code"] == "recipient_suppressed"
    assert site.post(ALICE, "full@remote.example")[0] == 202
    [event] = wait_until(lambda: site.events("suppression.added"), "the audit log")
    assert (event["actor"]["type"], event["target"]["id"]) == ("system", "gone@remote.example")


PHISHING = "Your mailbox is almost full, log in now"


def strangers(count):
    return [f"r{number}@remote.example" for number in range(count)]


def test_what_looks_like_abuse_goes_slowly_and_then_not_at_all(servers, sinks, tmp_path):
    sink = sinks()
    policy = {"patterns": ["mailbox is ALMOST full"]}
    site = Site(servers, tmp_path, policy=policy, delivery={"relay": f"127.0.0.1:{sink.port}"})
    letter = {"from": ALICE, "to": [*strangers(24), CAROL], "subject": "x", "text": PHISHING}
    for _ in range(2):
        preview = site.api.request("POST", "/api/v1/send/preview", letter)
        assert preview.status == 200, preview.body
        found = json.loads(preview.body)["policy"]
        assert (found["decision"], found["reason"], found["score"]) == ("slow", "score", 0.5), "asking does not count"
        assert found["signals"][0] == {"name": "pattern", "value": 1.0}
    sent = site.api.send(letter)
    assert sent["status"] == "queued" and {to["status"] for to in sent["recipients"]} == {"pending"}
    trace = site.api.json(f"/api/v1/messages/{sent['id']}/trace")["entries"]
    assert [entry["score"] for entry in trace if entry["kind"] == "policy"] == [0.5]
    waits = [entry for entry in trace if entry["kind"] == "next_attempt"]
    assert [entry["state"] for entry in waits] == ["waiting", "waiting"], "for both domains"
    assert site.send(ALICE, "bob@remote.example") == {}
    sink.wait_for(1)
    assert len(sink.received) == 1, "other mail is not kept waiting"

    events = site.api.json("/api/v1/events?types=sending.slowed")["items"]
    assert [event["data"]["account"] for event in events] == [ALICE]
    letter["to"] = strangers(100)
    response = site.api.request("POST", "/api/v1/send/preview", letter)
    assert (response.status, json.loads(response.body)["code"]) == (403, "policy_denied")
    assert site.send(ALICE, CAROL) == {}, "a dry run suspends nobody"
    response = site.api.request("POST", "/api/v1/send", letter)
    assert (response.status, json.loads(response.body)["code"]) == (403, "policy_denied")
    code, text = site.send(ALICE, CAROL)
    assert code == 550 and text.startswith("5.7.1 Sending is suspended") and "score" not in text
    assert site.send(CAROL, ALICE) == {}
    user = next(user for user in site.json("user", "list") if user["address"] == ALICE)
    assert user["sending_suspended_because"].startswith("score 0.8") and user["sending_suspended_until"] is None
    [event] = site.api.json("/api/v1/events?types=sending.suspended")["items"]
    assert event["data"]["user_id"] == user["id"]
    wait_until(lambda: len(site.events("user.sending_suspended")) == 1, "the audit log")
    site.run("user", "resume-sending", ALICE)
    assert site.send(ALICE, CAROL) == {}
