"""Limits of the shipped binary: who gets in, how fast, and for how long."""

import base64
import contextlib
import json
import smtplib
import socket
import struct
import subprocess
import time

import pytest
import scramp
from conftest import BINARY, Api, insecure_tls, run, swaks, wait_until
from test_serve import PASSWORD, configuration, production

NOBODY = {"trusted": []}


def strict(**limits):
    """The section `smtp` of a server that trusts nobody, not even this machine."""
    return {
        "listeners": [{"bind": "127.0.0.1:0", "kind": "mx"}, {"bind": "127.0.0.1:0", "kind": "submission"}],
        "limits": {"greeting_delay": "0s", **NOBODY, **limits},
    }


def connect(server, service="smtp"):
    """A connection as a file of lines."""
    connection = socket.create_connection(server.address(service), timeout=30)
    return connection, connection.makefile("rb")


def greeting(server, service="smtp"):
    connection, lines = connect(server, service)
    with connection:
        return lines.readline()


def metric(api, name, **labels):
    """The value of a counter with these labels; 0 where it was never counted."""
    for line in api.bytes("/metrics").decode().splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0


def test_one_client_has_so_many_sessions(servers, tmp_path):
    server, key = production(servers, tmp_path, smtp=strict(max_sessions_per_client=2))
    sessions = [server.smtp() for _ in range(2)]
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        server.smtp()
    assert refused.value.smtp_code == 421 and b"4.7.0" in refused.value.smtp_error
    sessions.pop().quit()
    wait_until(lambda: greeting(server).startswith(b"220"), "a free place")
    api = Api(server.ready["http"], key)
    assert metric(api, "mairust_smtp_sessions_refused_total", service="mx", reason="client_full") >= 1


def test_rates_are_kept(servers, tmp_path):
    smtp = strict(connection_rate="3/1h", message_rate="2/1h", recipient_rate="3/1h")
    server, _ = production(servers, tmp_path, smtp=smtp)
    client = server.smtp()
    for _ in range(2):
        assert client.sendmail("a@sender.example", ["alice@example.com"], "Subject: x\r\n\r\nx\r\n") == {}
    assert client.mail("a@sender.example") == (450, b"4.7.1 Too many messages from your address, please try again later")
    for _ in range(2):
        assert greeting(server).startswith(b"220")
    assert greeting(server).startswith(b"421 4.7.0")


def test_a_slow_command_is_ended(servers, tmp_path):
    server, _ = production(servers, tmp_path, smtp={**strict(), "idle_timeout": "1s"})
    connection, lines = connect(server)
    assert lines.readline().startswith(b"220")
    connection.settimeout(0.05)
    received = b""
    deadline = time.monotonic() + 30
    # Octets keep coming, the end of the line never does.
    while not received and time.monotonic() < deadline:
        connection.sendall(b"N")
        with contextlib.suppress(TimeoutError):
            received = connection.recv(1000)
    assert received.startswith(b"421 4.4.2")


def test_early_talkers_are_refused(servers, tmp_path):
    server, _ = production(servers, tmp_path, smtp=strict(greeting_delay="500ms"))
    connection, lines = connect(server)
    connection.sendall(b"EHLO spam.example\r\nMAIL FROM:<a@b.example>\r\n")
    assert lines.readline().startswith(b"554 5.5.1")
    assert lines.readline() == b""
    swaks(server, "--from", "a@sender.example", "--to", "alice@example.com")


def proxied(tmp_path, servers, proxies):
    smtp = {
        "listeners": [{"bind": "127.0.0.1:0", "kind": "mx", "proxy_protocol": "required"}],
        "limits": {"max_sessions_per_client": 1, **NOBODY},
        "proxies": proxies,
    }
    server, key = production(servers, tmp_path, smtp=smtp)
    return server, Api(server.ready["http"], key)


def binary_header(client):
    addresses = socket.inet_aton(client) + socket.inet_aton("192.0.2.25") + struct.pack("!HH", 1024, 25)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack("!H", len(addresses)) + addresses


def deliver(connection, lines):
    for command in (b"EHLO c.example", b"MAIL FROM:<a@sender.example>", b"RCPT TO:<alice@example.com>", b"DATA", b"Subject: x\r\n\r\nx\r\n."):
        connection.sendall(command + b"\r\n")
        while lines.readline()[3:4] == b"-":
            pass


def test_the_announced_address_counts(servers, tmp_path):
    server, api = proxied(tmp_path, servers, ["127.0.0.0/8"])
    kept = []
    for header, client in [
        (b"PROXY TCP4 198.51.100.7 192.0.2.25 1024 25\r\n", "[198.51.100.7]"),
        (binary_header("198.51.100.8"), "[198.51.100.8]"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::25 1024 25\r\n", "[IPv6:2001:db8::9]"),
        (b"PROXY UNKNOWN\r\n", "[127.0.0.1]"),
    ]:
        connection, lines = connect(server)
        kept.append(connection)
        connection.sendall(header)
        assert lines.readline().startswith(b"220"), header
        deliver(connection, lines)
        raw = api.raw(api.messages()[0])
        assert f"from c.example ({client})".encode() in raw, raw
    # One session of each: the limit is that of the announced address.
    connection, lines = connect(server)
    connection.sendall(binary_header("198.51.100.7"))
    assert lines.readline().startswith(b"421 4.7.0")


def test_swaks_speaks_the_proxy_protocol(servers, tmp_path):
    server, api = proxied(tmp_path, servers, ["127.0.0.1"])
    for version, client in (("1", "198.51.100.1"), ("2", "198.51.100.2")):
        swaks(server, "--from", "a@sender.example", "--to", "alice@example.com", "--proxy-version", version,
              "--proxy-family", "TCP4" if version == "1" else "AF_INET", "--proxy-source", client,
              "--proxy-source-port", "1024", "--proxy-dest", "192.0.2.25", "--proxy-dest-port", "25",
              *(["--proxy-protocol", "STREAM", "--proxy-command", "PROXY"] if version == "2" else []))
        assert f"([{client}])".encode() in api.raw(api.messages()[0])


def test_nobody_else_is_a_proxy(servers, tmp_path):
    server, api = proxied(tmp_path, servers, ["192.0.2.0/24"])
    connection, lines = connect(server)
    connection.sendall(b"PROXY TCP4 198.51.100.7 192.0.2.25 1024 25\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert lines.readline() == b""
    assert "not in the list of proxies" in server.log()
    assert metric(api, "mairust_smtp_sessions_refused_total", service="mx", reason="proxy") == 1


def attempt(server, user, password):
    """The code that one try to log in is answered with, in a session of its own."""
    client = server.smtp("submission")
    client.starttls(context=insecure_tls())
    client.ehlo()
    credentials = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    code, _ = client.docmd("AUTH", f"PLAIN {credentials}")
    client.close()
    return code


def test_failed_logins_lock_the_account_for_this_client(servers, tmp_path):
    server, key = production(servers, tmp_path, login={"delay": "0s", "max_failures": 3, "max_failures_per_client": 100})
    for account in ("alice@example.com", "nobody@example.com"):
        assert [attempt(server, account, "wrong") for _ in range(4)] == [535, 535, 535, 454], account
    with pytest.raises(smtplib.SMTPAuthenticationError) as locked:
        server.submission("Alice@Example.com", PASSWORD)
    assert locked.value.smtp_code == 454
    api = Api(server.ready["http"], key)
    assert len(api.messages()) == 0
    assert metric(api, "mairust_auth_attempts_total", protocol="smtp", outcome="failure") == 6
    assert metric(api, "mairust_auth_attempts_total", protocol="smtp", outcome="locked") >= 3
    assert metric(api, "mairust_auth_locks_total", kind="account") == 2
    assert PASSWORD not in server.log() and "wrong" not in server.log().replace("the password is wrong", "")


def prove(server, user, password):
    """The code that one try to log in by SCRAM is answered with, in a session of its own, and the salt."""
    def encode(text):
        return base64.b64encode(text.encode()).decode()

    proof = scramp.ScramClient(["SCRAM-SHA-256"], user, password)
    client = server.smtp("submission")
    client.starttls(context=insecure_tls())
    client.ehlo()
    salt = None
    code, challenge = client.docmd("AUTH", f"SCRAM-SHA-256 {encode(proof.get_client_first())}")
    if code == 334:
        challenge = base64.b64decode(challenge).decode()
        salt = challenge.split(",")[1]
        proof.set_server_first(challenge)
        code, answer = client.docmd(encode(proof.get_client_final()))
    if code == 334:
        # Fails if the server does not know the password either.
        proof.set_server_final(base64.b64decode(answer).decode())
        code, _ = client.docmd("")
    client.close()
    return code, salt


def test_wrong_proofs_lock_the_account(servers, tmp_path):
    server, key = production(servers, tmp_path, login={"delay": "0s", "max_failures": 3, "max_failures_per_client": 100})
    assert prove(server, "Alice@Example.com", PASSWORD)[0] == 235
    for account in ("alice@example.com", "nobody@example.com"):
        assert prove(server, account, "wrong")[0] == 535, account
        assert attempt(server, account, "wrong") == 535, account
        assert [prove(server, account, "wrong")[0] for _ in range(2)] == [535, 454], account
    assert prove(server, "alice@example.com", PASSWORD) == (454, None)
    assert attempt(server, "alice@example.com", PASSWORD) == 454
    api = Api(server.ready["http"], key)
    for outcome, count in {"success": 1, "failure": 6, "locked": 4}.items():
        assert metric(api, "mairust_auth_attempts_total", protocol="smtp", outcome=outcome) == count, outcome
    assert metric(api, "mairust_auth_locks_total", kind="account") == 2


def test_scram_does_not_tell_who_exists(servers, tmp_path):
    """Salts stay the same, also those of nobody, also after a restart."""
    server, _ = production(servers, tmp_path, login={"delay": "0s"})
    names = ["alice@example.com", "nobody@example.com"]
    before = [prove(server, name, "wrong") for name in names]
    server.stop()
    server.start()
    assert [prove(server, name.upper(), "wrong") for name in names] == before
    (code, known), (_, unknown) = before
    assert code == 535 and len(known) == len(unknown) and known != unknown


def test_a_lock_ends(servers, tmp_path):
    server, _ = production(servers, tmp_path, login={"delay": "0s", "max_failures": 1, "lock_time": "2s"})
    assert attempt(server, "alice@example.com", "wrong") == 535
    wait_until(lambda: attempt(server, "alice@example.com", PASSWORD) == 235, "the end of the lock")


def test_many_guesses_at_once_are_no_more_guesses(servers, tmp_path):
    server, key = production(servers, tmp_path, login={"delay": "0s", "max_failures": 2, "max_failures_per_client": 100})
    clients = [server.smtp("submission") for _ in range(10)]
    for client in clients:
        client.starttls(context=insecure_tls())
        client.ehlo()
    guess = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUuY29tAHdyb25n\r\n"
    for client in clients:
        client.send(guess)
    codes = sorted(client.getreply()[0] for client in clients)
    # Two are checked at a time, so that one more than two may be under way.
    assert codes.count(454) >= 7 and codes.count(535) <= 3, codes


def test_the_third_failure_ends_a_session(servers, tmp_path):
    server, _ = production(servers, tmp_path, login={"delay": "10ms"})
    client = server.smtp("submission")
    client.starttls(context=insecure_tls())
    client.ehlo()
    for _ in range(3):
        assert client.docmd("AUTH", "PLAIN AGFsaWNlQGV4YW1wbGUuY29tAHdyb25n")[0] == 535
    assert client.getreply()[0] == 421


def test_wrong_api_keys_lock_the_client(servers, tmp_path):
    login = {"delay": "0s", "max_failures_per_client": 4, **NOBODY}
    server, key = production(servers, tmp_path, login=login)
    right, wrong = Api(server.ready["http"], key), Api(server.ready["http"], key[:-1] + ("a" if key[-1] != "a" else "b"))
    assert right.request("GET", "/api/v1/messages").status == 200
    assert [wrong.request("GET", "/api/v1/messages").status for _ in range(3)] == [401] * 3
    # The other door counts, too.
    assert attempt(server, "alice@example.com", "wrong") == 535
    locked = right.request("GET", "/api/v1/messages")
    assert (locked.status, json.loads(locked.body)["code"]) == (429, "rate_limited")
    assert 0 < int(locked.getheader("Retry-After")) <= 901
    assert attempt(server, "alice@example.com", PASSWORD) == 454
    assert right.request("GET", "/health/live").status == 200


def test_nobody_sends_in_the_name_of_others(servers, tmp_path):
    server, _ = production(servers, tmp_path)
    run("user", "add", "bob@example.com", "-c", tmp_path / "mairust.yaml", "--password-stdin", input=PASSWORD)
    client = server.submission("alice@example.com", PASSWORD)
    own, other = "alice@example.com", "bob@example.com"

    def answer(header):
        try:
            client.sendmail(own, [other], f"{header}\r\nSubject: x\r\n\r\nx\r\n")
            return 250
        except smtplib.SMTPDataError as error:
            return error.smtp_code

    for header, code in [
        (f"From: {own}", 250),
        (f"From: Alice <ALICE@Example.com>\r\nSender: {own}", 250),
        (f'From: "{other}" <{own}>', 250),
        (f"From: {other}", 553),
        (f"From: {own}\r\nSender: {other}", 553),
        (f"From: {own}, {other}\r\nSender: {own}", 553),
        (f"From: Us: {own}, {other};\r\nSender: {own}", 553),
        (f"From: {other} <{own}>", 553),
        (f"From: {own}\r\nFrom: {other}", 550),
        (f"From: <{own}> <{other}>", 550),
        (f"From: {own} ({other}", 550),
        ("To: nobody@example.com", 550),
    ]:
        assert answer(header) == code, header
    assert client.docmd(f"MAIL FROM:<{other}>")[0] == 553
    assert client.docmd("MAIL FROM:<>")[0] == 250


def limited(servers, tmp_path, descriptors, **sections):
    """A server that may open so many files, and no more."""
    wrapper = tmp_path / "limited"
    wrapper.write_text(f'#!/bin/sh\nulimit -n {descriptors}\nexec "{BINARY}" "$@"\n')
    wrapper.chmod(0o755)
    config = configuration(tmp_path, **sections)
    subprocess.run([BINARY, "domain", "add", "example.com", "-c", config], check=True, capture_output=True)
    subprocess.run([BINARY, "user", "add", "alice@example.com", "-c", config, "--password-stdin"],
                   input=PASSWORD.encode(), check=True, capture_output=True)
    return servers("-c", config, command="serve", binary=wrapper)


def test_idle_http_connections_do_not_starve_smtp(servers, tmp_path):
    http = {"bind": "127.0.0.1:0", "max_connections": 150, "header_timeout": "2s"}
    server = limited(servers, tmp_path, 300, http=http)
    host, port = server.ready["http"].removeprefix("http://").rsplit(":", 1)
    with contextlib.ExitStack() as idle:
        connections = [idle.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(350)]
        swaks(server, "--from", "a@sender.example", "--to", "alice@example.com")
        # Who never asks is closed, which makes room for who does.
        assert connections[0].recv(100) == b""
        late = Api(server.ready["http"], "mrk_none_" + "a" * 43)
        assert late.request("GET", "/health/live").status == 200
    slow = socket.create_connection((host, int(port)), timeout=30)
    slow.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n")
    assert slow.recv(1000).split(b"\r\n")[0] in (b"", b"HTTP/1.1 408 Request Timeout")


def test_without_descriptors_the_answer_is_421(servers, tmp_path):
    server = limited(servers, tmp_path, 60)
    with contextlib.ExitStack() as sessions:
        greetings = []
        for _ in range(80):
            connection, lines = connect(server)
            sessions.enter_context(connection)
            greetings.append(lines.readline()[:3])
    assert greetings[0] == b"220" and greetings[-1] == b"421" and set(greetings) == {b"220", b"421"}
    wait_until(lambda: greeting(server).startswith(b"220"), "free descriptors")
    trouble = [line for line in server.log().splitlines() if "can't accept connections" in line]
    assert len(trouble) <= 3, "one line for each episode, not for each attempt"
    assert server.stop() == 0


def test_a_session_has_so_many_messages(servers, tmp_path):
    server, _ = production(servers, tmp_path, smtp=strict(max_messages=2))
    client = server.smtp()
    for _ in range(2):
        client.sendmail("a@sender.example", ["alice@example.com"], "Subject: x\r\n\r\nx\r\n")
    assert client.mail("a@sender.example")[0] == 421
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()
