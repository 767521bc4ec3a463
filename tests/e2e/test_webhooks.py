"""Webhooks and events, with real mail: signed so that any library of Standard Webhooks verifies it, and never lost."""

import base64
import hashlib
import hmac
import http.client
import json
import pathlib
import re
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, free_port, run, swaks, wait_until
from receiver import Receiver
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

GUIDE = (ROOT / "docs/webhooks.md").read_text()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


def add(api, receiver, types=()):
    response = api.request("POST", "/api/v1/webhooks", {"url": receiver.url, "types": list(types)})
    assert response.status == 201, response.body
    return json.loads(response.body)


def submit(server, *recipients):
    with server.submission() as client:
        client.sendmail("dev@localhost", recipients, "From: dev@localhost\r\nMessage-ID: <x1@localhost>\r\nSubject: s\r\n\r\nx\r\n")


def test_the_vector_of_the_specification():
    """As mairust-hooks/src/signature.rs has it, with nothing but Python."""
    request_id, timestamp = "inv_01JABCDEFGHJKMNPQRSTVWXYZ0", "1705312800"
    body = b'{"v":1,"hook":"pre_receive","plugin":{"id":"com.example.mairust.spam-filter"}}'
    mac = hmac.new(bytes(range(32)), f"{request_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    assert mac.hex() == "5b793ad4b125134ab5f8d30ec2e41269fecd1b892c4035ce34b4a0e57305917f"
    assert base64.b64encode(mac) == b"W3k61LElE0q1+NMOwuQSaf7NG4ksQDXONLSg5XMFkX8="


def test_mail_is_told_signed(servers, sinks, receiver):
    sink = sinks(refuse={"bounced@there.example": "550 5.1.1 nobody", "deferred@there.example": "451 4.7.1 later"})
    server = servers("--relay", f"127.0.0.1:{sink.port}")
    webhook = add(server.api, receiver)
    secret = webhook["secret"]
    swaks(server, "--from", "bob@sender.example", "--to", "someone@here.example", "--header", "Subject: secret words")
    submit(server, "fine@there.example", "bounced@there.example", "deferred@there.example")
    events = {kind: receiver.wait_for_event(secret, kind) for kind in (
        "message.received", "message.accepted", "message.sent", "message.bounced", "message.deferred")}
    received = next(event for event in receiver.events(secret, ["message.received"]) if event["data"]["mail_from"])
    assert received["data"]["mail_from"] == "bob@sender.example"
    assert received["data"]["recipient"] == "someone@here.example"
    assert not any(b"secret words" in body for _, body in receiver.requests)
    assert events["message.accepted"]["data"]["message"]["message_id"] == "x1@localhost"
    assert events["message.sent"]["data"]["recipient"] == "fine@there.example"
    assert events["message.bounced"]["data"]["reply"] == {"code": 550, "enhanced": "5.1.1", "text": "nobody"}
    assert events["message.deferred"]["data"]["reply"]["code"] == 451
    assert events["message.deferred"]["data"]["next_attempt_at"]
    # Both ways of writing the signature say the same; what was changed is found out.
    headers, body = receiver.requests[0]
    assert headers["x-mairust-request-id"] == headers["webhook-id"]
    hexadecimal = headers["x-mairust-signature"].removeprefix("sha256=")
    assert base64.b64encode(bytes.fromhex(hexadecimal)).decode() == headers["webhook-signature"].removeprefix("v1,")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"message", b"massage"), headers)
    # The message of the event is the one of the API.
    found = server.api.json(f"/api/v1/messages/{received['data']['message']['id']}")
    assert (found["subject"], found["size"]) == ("secret words", received["data"]["message"]["size"])
    metrics = server.api.bytes("/metrics").decode()
    assert re.search(r'mairust_webhook_deliveries_total\{outcome="delivered"\} [1-9]', metrics), metrics


@pytest.mark.parametrize("moment", ["listening", "not listening"])
def test_a_server_that_is_killed_forgets_nothing(servers, receiver, moment):
    """Between the commit and the delivery: the receiver is gone, or answers with a failure, when the server is killed."""
    server = servers()
    webhook = add(server.api, receiver)
    if moment == "not listening":
        receiver.stop()
    else:
        receiver.answers = [500] * 20
    for number in range(20):
        with server.smtp() as client:
            client.sendmail("bob@sender.example", ["x@here.example"], f"Subject: {number}\r\n\r\nx\r\n")
    server.kill()
    receiver.answers = []
    if moment == "not listening":
        receiver.start()
    server.start()
    wanted = {event["id"] for event in server.api.json("/api/v1/events?types=message.received")["items"]}
    assert len(wanted) == 20
    # What was not tried goes at once, what failed after half a minute, and what was under way when its lease ends.
    wait_until(lambda: {e["id"] for e in receiver.events(webhook["secret"])} >= wanted, "all events", timeout=90)
    path = f"/api/v1/webhooks/{webhook['id']}/deliveries?limit=200&state=delivered"
    wait_until(lambda: len(server.api.json(path)["items"]) == 20, "the log to say so", timeout=90)


def test_a_key_is_replaced_and_a_delivery_begun_again(servers, receiver):
    server = servers()
    api = server.api
    webhook = add(api, receiver)
    path = f"/api/v1/webhooks/{webhook['id']}"
    second = json.loads(api.request("POST", f"{path}/rotate-secret", {"grace": "1h"}).body)["secret"]
    location = api.request("POST", f"{path}/test").headers["Location"]
    receiver.wait_for(1)
    headers, body = receiver.requests[0]
    for secret in (webhook["secret"], second):
        assert Webhook(secret).verify(body, headers)["type"] == "webhook.test"
    assert len(headers["webhook-signature"].split()) == len(headers["x-mairust-signature"].split(", ")) == 2
    wait_until(lambda: api.json(location)["state"] == "delivered", "the log to say so")
    third = json.loads(api.request("POST", f"{path}/rotate-secret", {"grace": "0s"}).body)["secret"]
    assert api.request("POST", f"{location}/replay").status == 202
    receiver.wait_for(2)
    again, same = receiver.requests[1]
    assert (again["webhook-id"], same) == (headers["webhook-id"], body)
    assert Webhook(third).verify(same, again)
    with pytest.raises(WebhookVerificationError):
        Webhook(second).verify(same, again)
    trail = api.json("/api/v1/audit")["items"]
    wanted = {"webhook.created", "webhook.secret_rotated", "webhook.tested", "webhook.replayed"}
    wait_until(lambda: wanted <= {e["event_type"] for e in api.json("/api/v1/audit")["items"]}, "the audit log")
    assert "whsec_" not in json.dumps(trail)


class Events:
    """A stream of server-sent events, read by Python's own HTTP client."""

    def __init__(self, api, last=None):
        self.connection = http.client.HTTPConnection(api.address, timeout=40)
        headers = {"Authorization": f"Bearer {api.key}", **({"Last-Event-ID": str(last)} if last is not None else {})}
        self.connection.request("GET", "/api/v1/events/stream?types=message.received", headers=headers)
        self.response = self.connection.getresponse()
        assert (self.response.status, self.response.headers["Content-Type"]) == (200, "text/event-stream")

    def __next__(self):
        fields = {}
        while line := self.response.readline().decode():
            if line == "\n" and "data" in fields:
                return int(fields["id"]), json.loads(fields["data"])
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
        return None

    def close(self):
        self.response.close()
        self.connection.close()


def test_a_stream_goes_on_after_a_restart(servers):
    server = servers()

    def send(first, last):
        for number in range(first, last):
            with server.smtp() as client:
                client.sendmail(f"n{number}@sender.example", ["x@here.example"], "Subject: s\r\n\r\nx\r\n")

    stream = Events(server.api)
    send(0, 5)
    got = [next(stream) for _ in range(3)]
    stream.close()
    server.kill()
    server.start()
    stream = Events(server.api, last=got[-1][0])
    send(5, 10)
    got += [next(stream) for _ in range(7)]
    assert [event["data"]["mail_from"] for _, event in got] == [f"n{number}@sender.example" for number in range(10)]
    assert [position for position, _ in got] == list(range(1, 11))
    # The end of the server is the end of the stream, and it does not wait for it.
    thread = threading.Thread(target=server.stop)
    thread.start()
    assert next(stream) is None
    thread.join(10)
    assert server.process.poll() == 0, server.log()


def test_the_command_line(servers, tmp_path, receiver):
    config = tmp_path / "mairust.yaml"
    config.write_text(f"""
server: {{hostname: mx.here.example, data_dir: {tmp_path}/data}}
smtp: {{listeners: [{{bind: "127.0.0.1:{free_port()}", kind: mx}}]}}
http: {{bind: "127.0.0.1:{free_port()}"}}
webhooks: {{allow_private_addresses: true}}
log: {{format: text}}
""")
    strict = tmp_path / "strict.yaml"
    strict.write_text(config.read_text().replace("allow_private_addresses: true", "allow_private_addresses: false"))

    def webhook(*arguments, file=config, **options):
        return run("webhook", *arguments, "--config", file, "--output", "json", **options)

    refused = webhook("add", receiver.url, file=strict, check=False)
    assert refused.returncode == 2 and "webhooks.allow_private_addresses" in refused.stderr
    assert webhook("add", "x", check=False).returncode == 2
    assert webhook("add", receiver.url, "--type", "odd", check=False).returncode == 2
    made = json.loads(webhook("add", receiver.url, "--type", "message.received", "--description", "a test").stdout)
    assert [one["id"] for one in json.loads(webhook("list").stdout)] == [made["id"]]
    assert json.loads(webhook("show", made["id"]).stdout)["description"] == "a test"
    assert webhook("show", "0193b3f4-0000-7000-8000-000000000000", check=False).returncode == 5
    server = servers("--config", config, command="serve")
    delivery = json.loads(webhook("test", made["id"]).stdout)["delivery_id"]
    event = receiver.wait_for_event(made["secret"], "webhook.test")
    assert event["data"] == {"webhook_id": made["id"]}
    deliveries = lambda *more: json.loads(webhook("deliveries", made["id"], *more).stdout)
    wait_until(lambda: deliveries("--state", "delivered"), "the log to say so")
    assert deliveries()[0]["history"][0]["status"] == 204
    webhook("replay", delivery)
    receiver.wait_for(2)
    second = json.loads(webhook("rotate-secret", made["id"]).stdout)
    assert second["secret"] != made["secret"] and second["previous_until"]
    assert webhook("rotate-secret", made["id"], check=False).returncode == 6
    assert json.loads(webhook("rotate-secret", made["id"], "--grace", "0s").stdout)["previous_until"] is None
    assert not json.loads(webhook("disable", made["id"]).stdout)["enabled"]
    wait_until(lambda: deliveries("--state", "delivered"), "the end of the delivery")
    assert webhook("replay", delivery, check=False).returncode == 6
    assert json.loads(webhook("enable", made["id"]).stdout)["enabled"]
    webhook("rm", made["id"])
    assert json.loads(webhook("list").stdout) == []
    assert server.stop() == 0, server.log()


def example(language):
    """The program of this language in the guide."""
    return re.search(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)[1]


@pytest.mark.parametrize("language, command", [("python", [sys.executable]), ("js", ["node"])])
def test_the_programs_of_the_guide_verify(servers, tmp_path, language, command):
    """They are run as they stand there, with the key and the port that they ask for."""
    server, port = servers(), free_port()
    body = {"url": f"http://127.0.0.1:{port}/", "types": ["message.received"]}
    webhook = json.loads(server.api.request("POST", "/api/v1/webhooks", body).body)
    program = tmp_path / f"program.{language}"
    program.write_text(example(language))
    with open(tmp_path / "out", "w") as out:
        process = subprocess.Popen([*command, program, webhook["secret"], str(port)], stdout=out, stderr=out)
    try:
        said = lambda: pathlib.Path(tmp_path / "out").read_text()
        wait_until(lambda: "listening" in said() or process.poll() is not None, said())
        with server.smtp() as client:
            client.sendmail("bob@sender.example", ["x@here.example"], "Subject: s\r\n\r\nx\r\n")
        wait_until(lambda: "message.received" in said(), "the event")
        forged = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"webhook-id": "inv_1", "webhook-timestamp": "1705312800", "webhook-signature": "v1,AAAA"}
        forged.request("POST", "/", b"{}", headers)
        assert forged.getresponse().status == 401
        forged.close()
        state = f"/api/v1/webhooks/{webhook['id']}/deliveries?state=delivered"
        wait_until(lambda: server.api.json(state)["items"], "the log to say so")
    finally:
        process.kill()
        process.wait()
