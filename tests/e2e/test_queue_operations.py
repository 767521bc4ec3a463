"""What operators do to deliveries, by the command line and by the API, while the shipped binary runs."""

import asyncio
import email
import json
from email import policy

import pytest
from conftest import Api, run, wait_until
from test_queue import dns, letter  # noqa: F401
from test_serve import production


class Site:
    """A server, and a sink that takes its mail unless it is busy, and may never answer to the end of a message."""

    def __init__(self, servers, sinks, dns, tmp_path, **delivery):
        self.busy, self.silent = True, False
        self.sink = sinks(refuse=self)
        self.sink.handle_DATA = self.handle_data
        delivery = {"mx_port": self.sink.port, "allow_loopback": True, **delivery}
        self.server, self.key = production(servers, tmp_path, delivery=delivery, dns=dns)
        self.config = tmp_path / "mairust.yaml"
        self.api = Api(self.server.ready["http"], self.key)

    def __contains__(self, address):
        return self.busy

    def __getitem__(self, address):
        return "451 4.7.1 Greylisted"

    async def handle_data(self, server, session, envelope):
        self.sink.received.append({"to": list(envelope.rcpt_tos)})
        if self.silent:
            await asyncio.Event().wait()
        return "250 2.0.0 taken"

    def queue(self, *arguments, check=True):
        answer = run("queue", *arguments, "-c", self.config, "-o", "json", check=check)
        return json.loads(answer.stdout) if check else answer

    def deferred(self, to="bob@remote.example"):
        """A message that was tried once: its id, and the id of its delivery."""
        sent = self.api.send(letter("alice@example.com", [to]))["id"]
        wait_until(lambda: self.status(sent) == "deferred", "deferred")
        [item] = wait_until(lambda: self.queue("list", "--message", sent, "--state", "waiting"), "given back")
        return sent, item["id"]

    def status(self, sent):
        return self.api.json(f"/api/v1/sends/{sent}")["recipients"][0]["status"]

    def post(self, path, body=None):
        response = self.api.request("POST", f"/api/v1/queue/{path}", body or {})
        return response.status, json.loads(response.body)


@pytest.fixture
def site(servers, sinks, dns, tmp_path):  # noqa: F811
    return Site(servers, sinks, dns, tmp_path)


def test_a_delivery_is_seen_held_released_and_retried(site):
    sent, item = site.deferred()
    shown = site.queue("show", item)
    assert shown["destination"] == "remote.example" and shown["state"] == "waiting"
    assert shown["recipients"][0]["attempts"][0]["result"].endswith("451 4.7.1 Greylisted")
    assert "451 4.7.1" in run("queue", "list", "-c", site.config).stdout
    assert site.queue("hold", item) == {"changed": 1, "busy": 0}
    assert site.status(sent) == "held"
    assert site.queue("retry", item, check=False).returncode == 6
    site.busy = False
    assert site.queue("release", item)["changed"] == 1
    wait_until(lambda: site.status(sent) == "delivered", "delivered")
    assert site.queue("show", item, check=False).returncode == 5
    site.busy = True
    sent, item = site.deferred()
    site.busy = False
    assert site.queue("retry", "--destination", "remote.example")["changed"] == 1
    wait_until(lambda: site.status(sent) == "delivered", "delivered")
    entries = json.loads(run("audit", "list", "-c", site.config, "-o", "json").stdout)
    assert [entry["event_type"] for entry in entries if entry["event_type"].startswith("queue.")] == [
        "queue.retried", "queue.released", "queue.held"]


def test_a_delivery_is_cancelled_with_a_notice_or_without(site):
    sent, item = site.deferred()
    assert site.queue("cancel", item)["changed"] == 1
    answer = site.api.json(f"/api/v1/sends/{sent}")
    assert (answer["status"], answer["recipients"][0]["status"]) == ("cancelled", "cancelled")
    bounced, item = site.deferred()
    status, answer = site.post(f"items/{item}/cancel", {"bounce": True})
    assert status == 200, answer
    wait_until(lambda: site.status(bounced) == "bounced", "bounced")
    inbox = site.api.messages(folder="INBOX")
    assert len(inbox) == 1, "one notice: nobody is told about the other"
    notice = email.message_from_bytes(site.api.raw(inbox[0]), policy=policy.default)
    report = notice.get_payload()[1].get_payload()
    assert (report[1]["Action"], report[1]["Final-Recipient"]) == ("failed", "rfc822; bob@remote.example")
    assert not site.sink.received


def test_a_delivery_goes_another_way(site, sinks):
    sent, item = site.deferred()
    other = sinks()
    assert site.queue("reroute", "--via", f"127.0.0.1:{other.port}", item)["changed"] == 1
    assert other.wait_for(1)[0]["to"] == ["bob@remote.example"]
    wait_until(lambda: site.status(sent) == "delivered", "delivered")
    assert not site.sink.received


def test_a_destination_is_paused(site):
    site.busy = False
    assert site.queue("pause", "remote.example")["changed"]
    sent = site.api.send(letter("alice@example.com", ["bob@remote.example"]))["id"]
    live = site.api.send(letter("alice@example.com", ["carol@elsewhere.example"]))["id"]
    wait_until(lambda: site.status(live) == "delivered", "the other one delivered")
    wait_until(lambda: site.status(sent) == "held", "held")
    assert site.api.json("/api/v1/queue")["paused"] == {"all": False, "destinations": ["remote.example"]}
    status, answer = site.post("resume", {"destination": "remote.example"})
    assert (status, answer["released"]) == (200, 1)
    wait_until(lambda: site.status(sent) == "delivered", "delivered")


def test_many_at_once(site):
    sent = [site.api.send(letter("alice@example.com", [f"r{number}@remote.example"]))["id"] for number in range(30)]
    wait_until(lambda: {site.status(id) for id in sent} == {"deferred"}, "all deferred")
    wait_until(lambda: len(site.queue("list", "--state", "waiting")) == 30, "all given back")
    assert site.queue("hold", check=False).returncode == 2, "nothing is selected by accident"
    status, answer = site.post("batch", {"filter": {"destination": "remote.example"}, "action": "hold"})
    assert (status, answer) == (200, {"changed": 30, "busy": 0})
    totals = site.api.json("/api/v1/queue/destinations")["items"]
    assert [(entry["destination"], entry["held"]) for entry in totals] == [("remote.example", 30)]
    site.busy = False
    assert site.queue("release", "--held-because", "operator")["changed"] == 30
    site.sink.wait_for(30)
    wait_until(lambda: {site.status(id) for id in sent} == {"delivered"}, "all delivered")
    wait_until(lambda: site.queue("list") == [], "an empty queue")


@pytest.mark.parametrize("in_doubt", ["resend", "hold"])
def test_a_crash_after_the_end_of_a_message_is_in_doubt(servers, sinks, dns, tmp_path, in_doubt):  # noqa: F811
    site = Site(servers, sinks, dns, tmp_path, in_doubt=in_doubt, lease="2s")
    site.busy = False
    site.silent = True
    sent = site.api.send(letter("alice@example.com", ["bob@remote.example"]))["id"]
    site.sink.wait_for(1)
    attempts = lambda: site.api.json(f"/api/v1/sends/{sent}")["attempts"]  # noqa: E731
    assert [attempt["outcome"] for attempt in attempts()] == ["begun"]
    site.server.kill()
    site.silent = False
    site.server.start()
    site.api = Api(site.server.ready["http"], site.key)
    if in_doubt == "hold":
        wait_until(lambda: site.queue("list", "--held-because", "in_doubt"), "held")
        assert site.status(sent) == "in_doubt"
        assert site.queue("release", "--message", sent)["changed"] == 1
    wait_until(lambda: site.status(sent) == "delivered", "delivered", 60)
    assert [attempt["outcome"] for attempt in attempts()] == ["in_doubt", "delivered"]
    assert len(site.sink.received) == 2
