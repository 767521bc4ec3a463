"""Clients that hang up while a hook looks at their message."""

import http.server
import json
import select
import socket
import threading
from datetime import datetime, timezone

import pytest
from conftest import Api, wait_until
from test_hooks import letter, receive
from test_policy import ALICE, CAROL, Site
from test_serve import PASSWORD

HOOK = "com.example.watch"


class Endpoint(http.server.ThreadingHTTPServer):
    """Answers, fails, or waits until whoever asks has gone."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.does, self.asked, self.left = "answer", threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def expect(self, does):
        self.does = does
        self.asked.clear()
        self.left.clear()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        if self.server.does == "wait":
            # Nothing is sent behind a request: what can be read is its end.
            select.select([self.connection], [], [], 60)
            assert self.connection.recv(1, socket.MSG_PEEK) == b""
            self.server.left.set()
            self.close_connection = True
            return
        body = json.dumps({"verdict": "allow"}).encode()
        self.send_response(200 if self.server.does == "answer" else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.shutdown()
    endpoint.server_close()


def hang_up(client, endpoint, sender, recipient, subject):
    """Sends a message and goes once the hook looks at it; false if it is answered before."""
    client.ehlo_or_helo_if_needed()
    for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
        assert client.docmd(command)[0] in (250, 354)
    client.send(f"From: {sender}\r\nSubject: {subject}\r\n\r\nHello!\r\n.\r\n")
    wait_until(lambda: endpoint.asked.is_set() or select.select([client.sock], [], [], 0)[0], "the hook, or an answer")
    client.close()
    return endpoint.asked.is_set()


def test_a_probe_whose_client_hangs_up_leaves_its_place_to_the_next_message(servers, tmp_path, endpoint):
    site = Site(servers, tmp_path)
    made = site.json(
        "hook", "add", HOOK, "--on", "pre_receive,pre_send", "--http", f"http://127.0.0.1:{endpoint.server_port}/",
        "--private-address", "--required", "--response-signature", "off", "--timeout", "3s")
    circuit = lambda: {point["point"]: point for point in site.api.json(f"/api/v1/hooks/{made['id']}/circuit")["points"]}
    states = lambda: {name: point["state"] for name, point in circuit().items()}
    outcomes = lambda: [call["outcome"] for call in site.json("hook", "deliveries", HOOK)]

    # In plain text and under TLS: the hook sees at once that nobody waits any more, and nothing is taken.
    for client, sender, recipient in (
            (site.server.smtp(), "bob@remote.example", ALICE), (site.server.submission(ALICE, PASSWORD), ALICE, CAROL)):
        endpoint.expect("wait")
        assert hang_up(client, endpoint, sender, recipient, "nobody waits")
        assert endpoint.left.wait(30)
    wait_until(lambda: outcomes() == ["cancelled", "cancelled"], "the calls")
    assert site.api.messages() == []
    call = site.json("hook", "deliveries", HOOK)[0]
    explained = site.run("hook", "explain", call["id"]).stdout
    assert "the client hung up before the hook answered" in explained and "so the message was not taken" in explained

    endpoint.expect("fail")
    for number in range(3):
        assert receive(site, letter(f"fails {number}"))[0] == 451
    assert states() == {"pre_receive": "open", "pre_send": "closed"}
    until = datetime.fromisoformat(circuit()["pre_receive"]["until"])
    wait_until(lambda: datetime.now(timezone.utc) > until, "the minute in which the hook is left alone", 90)
    endpoint.expect("wait")
    assert hang_up(site.server.smtp(), endpoint, "bob@remote.example", ALICE, "probe")
    assert endpoint.left.wait(30)
    wait_until(lambda: outcomes()[0] == "cancelled", "the call")
    assert states()["pre_receive"] == "half_open"
    endpoint.expect("answer")
    for number in range(2):
        assert receive(site, letter(f"passes {number}"))[0] == 250
    assert states()["pre_receive"] == "closed"
    assert sorted(message["subject"] for message in site.api.messages()) == ["passes 0", "passes 1"]
    key = site.json("apikey", "create", "metrics", "--scope", "metrics:read")["key"]
    metrics = Api(site.server.ready["http"], key).bytes("/metrics").decode()
    for point, count in (("pre_receive", 2), ("pre_send", 1)):
        assert f'mairust_hook_calls_total{{point="{point}",hook="{HOOK}",outcome="cancelled"}} {count}\n' in metrics
