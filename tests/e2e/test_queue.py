"""The queue of the shipped binary: nobody waits for somebody else's backlog, and nothing is lost."""

import collections
import json
import random
import socket
import time

import pytest
from bulk import Bulk
from bulk import letter as bulk_letter
from conftest import Api, free_port, run, wait_until
from test_serve import PASSWORD, production

DEAD = 2_000
BACKLOG, DEAD_HOST = 10_000, "127.0.0.9"
KILLED_MESSAGES, KILLED_DOMAINS, WORKERS = 2_000, 20, 8


@pytest.fixture
def dns():
    """Every domain under dead.example has an exchanger that refuses connections, all others the sinks."""
    from dnslib import MX, QTYPE, RR, A
    from dnslib.server import BaseResolver, DNSLogger, DNSServer

    class Zone(BaseResolver):
        def resolve(self, request, handler):
            answer, name = request.reply(), str(request.q.qname).rstrip(".")
            if request.q.qtype == QTYPE.MX:
                answer.add_answer(RR(name, QTYPE.MX, rdata=MX("mx." + name, 10)))
            elif request.q.qtype == QTYPE.A:
                answer.add_answer(RR(name, QTYPE.A, rdata=A(DEAD_HOST if name.endswith("dead.example") else "127.0.0.1")))
            return answer

    port = free_port()
    server = DNSServer(Zone(), port=port, address="127.0.0.1", logger=DNSLogger("-request,-reply"))
    server.start_thread()
    yield {"servers": [f"127.0.0.1:{port}"]}
    server.stop()


def letter(sender, to):
    return {"from": sender, "to": to, "subject": "x", "text": "x\n"}


def recipients(api, sends):
    """How many recipients of these messages there are in each state."""
    states = collections.Counter()
    for send in sends:
        states.update(recipient["status"] for recipient in api.json(f"/api/v1/sends/{send['id']}")["recipients"])
    return states


def test_a_backlog_is_not_in_the_way_of_another_tenant(servers, sinks, dns, tmp_path):
    sink = sinks()
    delivery = {"mx_port": sink.port, "allow_loopback": True, "workers": 2, "ramp_up": 20}
    server, key = production(servers, tmp_path, delivery=delivery, dns=dns, policy={"enabled": False})
    config = tmp_path / "mairust.yaml"
    run("tenant", "add", "other", "-c", config)
    run("domain", "add", "other.example", "--tenant", "other", "-c", config)
    run("user", "add", "bob@other.example", "--tenant", "other", "-c", config, "--password-stdin", input=PASSWORD)
    other = json.loads(run("apikey", "create", "tests", "--tenant", "other", "-c", config, "-o", "json").stdout)["key"]
    busy, other = Api(server.ready["http"], key), Api(server.ready["http"], other)
    sends = [busy.send(letter("alice@example.com", [f"r@d{number}.dead.example" for number in range(first, first + 100)]))
             for first in range(0, DEAD, 100)]
    sent = other.send(letter("bob@other.example", ["carol@remote.example"]))
    assert sink.wait_for(1)[0]["to"] == ["carol@remote.example"]
    states = recipients(busy, sends)
    assert states["pending"] > DEAD / 2 and sum(states.values()) == DEAD, states
    wait_until(lambda: other.json(f"/api/v1/sends/{sent['id']}")["status"] == "sent", "status sent")


def test_each_message_arrives_although_the_server_is_killed(servers, sinks, dns, tmp_path):
    sink, count = sinks(), 200
    server, key = production(servers, tmp_path, delivery={
        "mx_port": sink.port, "allow_loopback": True, "lease": "2s", "workers": WORKERS},
        dns=dns, policy={"enabled": False})
    api = Api(server.ready["http"], key)
    sends = [api.send(letter("alice@example.com", [f"r{number}@remote.example"])) for number in range(count)]
    sink.wait_for(1)
    server.kill()
    before = len(sink.received)
    assert before < count, "it was to die in the middle of the work"
    server.start()
    api = Api(server.ready["http"], key)
    wait_until(lambda: recipients(api, sends)["delivered"] == count, "all delivered", 60)
    arrived = collections.Counter(mail["to"][0] for mail in sink.received)
    assert set(arrived) == {f"r{number}@remote.example" for number in range(count)}
    # A worker that was killed between the final dot and its note about it: each of them once at most.
    assert sum(arrived.values()) <= count + WORKERS


def submit(server, recipients):
    """A message of its own for each recipient, with the number of its place as subject."""
    with Bulk(server.address("submission"), login=("alice@example.com", PASSWORD)) as bulk:
        bulk.send(("alice@example.com", to, bulk_letter("alice@example.com", to, number))
                  for number, to in enumerate(recipients))


def test_nothing_is_lost_however_often_deliveries_are_killed(servers, sinks, dns, tmp_path):
    gate = socket.create_server(("127.0.0.1", 0))  # nobody greets
    port = gate.getsockname()[1]
    delivery = {"mx_port": port, "allow_loopback": True, "workers": WORKERS, "lease": "1s", "ramp_up": 0}
    server, key = production(servers, tmp_path, delivery=delivery, dns=dns, policy={"enabled": False})
    everybody = [f"r{number}@d{number % KILLED_DOMAINS}.example" for number in range(KILLED_MESSAGES)]
    submit(server, everybody)
    server.kill()
    gate.close()
    sink, moments, kills = sinks(port=port), random.Random("kills"), 0
    server.start()
    while True:
        goal = len(sink.received) + moments.randint(50, 250)
        if goal >= KILLED_MESSAGES:
            break
        wait_until(lambda goal=goal: len(sink.received) >= goal, "deliveries")
        server.kill()
        kills += 1
        server.start()
    api = Api(server.ready["http"], key)
    wait_until(lambda: len(sent := api.messages(direction="outbound", status="sent")) == KILLED_MESSAGES and sent, "the end", 60)
    arrived = collections.Counter(mail["to"][0] for mail in sink.received)
    assert set(arrived) == set(everybody), "lost"
    again = {to: copies for to, copies in arrived.items() if copies > 1}
    print(f"{KILLED_MESSAGES} messages, {kills} kills, {sum(again.values()) - len(again)} duplicates")
    assert kills > 5 and sum(arrived.values()) <= KILLED_MESSAGES + kills * WORKERS
    for to, copies in again.items():
        # Each further copy is one of an attempt that is known to be in doubt.
        (message,) = api.messages(direction="outbound", subject=f"letter {everybody.index(to)}", to=to)
        attempts = api.json(f"/api/v1/sends/{message['id']}")["attempts"]
        outcomes = collections.Counter(attempt["outcome"] for attempt in attempts)
        assert outcomes["delivered"] == 1 and outcomes["in_doubt"] >= copies - 1, attempts


def test_a_backlog_for_a_dead_host_is_not_in_the_way_of_a_fresh_letter(servers, sinks, dns, tmp_path):
    sink = sinks()
    delivery = {"mx_port": sink.port, "allow_loopback": True}
    server, key = production(servers, tmp_path, delivery=delivery, dns=dns, policy={"enabled": False})
    # The host greets nobody at first, and refuses connections once all are there: then they are tried.
    with socket.create_server((DEAD_HOST, sink.port)):
        submit(server, [f"r{number}@dead.example" for number in range(BACKLOG)])
    began = time.monotonic()
    Api(server.ready["http"], key).send(letter("alice@example.com", ["carol@remote.example"]))
    sink.wait_for(1)
    took = time.monotonic() - began
    print(f"behind {BACKLOG} messages for a dead host, a fresh one took {took * 1e3:.0f} ms")
    assert [mail["to"] for mail in sink.received] == [["carol@remote.example"]] and took < 5


def test_the_depth_of_the_queue_is_told(servers, dns, tmp_path):
    server, key = production(servers, tmp_path, delivery={
        "mx_port": free_port(), "allow_loopback": True, "retry_first": "1h", "retry_max": "1h"}, dns=dns)
    api = Api(server.ready["http"], key)
    scopes = ["--scope", "metrics:read"]
    metrics = json.loads(run("apikey", "create", "metrics", *scopes, "-c", tmp_path / "mairust.yaml", "-o", "json").stdout)["key"]
    metrics = Api(server.ready["http"], metrics)
    api.send(letter("alice@example.com", ["r@a.dead.example", "r@b.dead.example"]))
    line = 'mairust_queue_jobs{kind="deliver",state="waiting"} 2'
    wait_until(lambda: line in metrics.bytes("/metrics").decode(), "both deliveries waiting", 60)
    text = metrics.bytes("/metrics").decode()
    assert 'mairust_queue_oldest_seconds{kind="deliver"} 0' in text and "mairust_queue_leases_lost_total 0" in text
