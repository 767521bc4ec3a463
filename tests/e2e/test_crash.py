"""A 250 survives `kill -9`, and a message that comes again is not kept twice."""

import pathlib
import random
import smtplib
import socket
import threading

import pytest
from conftest import Api, wait_until
from test_serve import production

SESSIONS = 10
MESSAGES = 1000
ROUNDS = 20


def body(number):
    return f"Subject: load {number}\r\n\r\n{number} ".encode() + b"x" * 3000 + f" end {number}\r\n".encode()


class Load:
    """Clients that send numbered messages, and again what they do not know to be accepted."""

    def __init__(self):
        self.lock = threading.Lock()
        self.waiting = list(range(MESSAGES))
        self.accepted = set()
        self.resent = set()

    def send(self, server, until):
        """Sends until the server is gone or `until` messages are accepted in all."""
        threads = [threading.Thread(target=self.session, args=(server, until)) for _ in range(SESSIONS)]
        for thread in threads:
            thread.start()
        return threads

    def session(self, server, until):
        number = None
        try:
            client = server.smtp()
            while True:
                with self.lock:
                    if not self.waiting or len(self.accepted) >= until:
                        break
                    number = self.waiting.pop()
                client.sendmail("a@sender.example", ["alice@example.com"], body(number))
                with self.lock:
                    self.accepted.add(number)
                number = None
            client.quit()
        except (OSError, smtplib.SMTPException):
            if number is not None:
                with self.lock:
                    self.waiting.append(number)
                    self.resent.add(number)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_250_is_there_once_after_many_crashes(servers, tmp_path, database, request):
    sections = {}
    if database == "postgres":
        url = request.getfixturevalue("postgres").database("crash")
        sections = {"database": {"backend": "postgres", "url": url}}
    server, key = production(servers, tmp_path, **sections)
    load, moments = Load(), random.Random(database)
    for number in range(ROUNDS):
        goal = MESSAGES * (number + 1) // ROUNDS
        threads = load.send(server, goal)
        # Somewhere in the middle of this round.
        moment = goal - moments.randint(1, MESSAGES // ROUNDS)
        wait_until(lambda: len(load.accepted) >= moment, "half a load", timeout=120)
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
    for thread in load.send(server, MESSAGES):
        thread.join()
    assert load.accepted == set(range(MESSAGES)) and load.resent, "the crashes were to hit clients"
    api = Api(server.ready["http"], key)
    stored = {}
    for message in api.messages():
        stored.setdefault(int(message["subject"].removeprefix("load ")), []).append(message)
    assert sorted(stored) == list(range(MESSAGES)), "lost"
    twice = {number for number, messages in stored.items() if len(messages) > 1}
    assert not twice, f"kept twice: {twice}"
    for number, (message,) in stored.items():
        assert api.raw(message).endswith(b"\r\n" + body(number)), f"truncated: {number}"


def raw_transaction(server, data):
    """A transaction up to the final dot: who sends it has not read the reply yet."""
    client = socket.create_connection(server.address(), timeout=30)
    replies = client.makefile("rb")
    replies.readline()
    for command in (b"HELO client.example", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@example.com>", b"DATA"):
        client.sendall(command + b"\r\n")
        assert replies.readline()[:1] in b"23", command
    client.sendall(data + b".\r\n")
    return client, replies


def test_a_lost_250_makes_no_second_copy(servers):
    server = servers(name="lost")
    data = b"Subject: once\r\n\r\nx\r\n"
    client, replies = raw_transaction(server, data)
    reply = replies.readline()
    assert reply[:3] == b"250"
    client.close()  # without another command: for all the server knows, nobody read it
    again, replies = raw_transaction(server, data)
    assert replies.readline() == reply
    assert len(server.api.messages()) == 1
    again.sendall(b"NOOP\r\n")
    assert replies.readline()[:3] == b"250"
    # Now it is known that it was read: the same once more is meant to be another message.
    third, replies = raw_transaction(server, data)
    assert replies.readline()[:3] == b"250"
    assert len(server.api.messages()) == 2
    metrics = server.api.bytes("/metrics").decode()
    assert "mairust_receive_deduplicated_total 1" in metrics


def test_a_body_store_that_is_gone_is_a_temporary_failure(servers):
    server = servers(name="gone")
    mail = pathlib.Path(server.ready["data_dir"]) / "mail"
    away = mail.rename(mail.with_name("mail.away"))
    client = server.smtp()
    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("a@b.example", ["c@example.com"], "Subject: x\r\n\r\nx\r\n")
    assert refused.value.smtp_code == 451
    assert server.api.request("GET", "/health/ready").status == 503
    away.rename(mail)

    def accepted():
        try:
            server.smtp().sendmail("a@b.example", ["c@example.com"], "Subject: x\r\n\r\nx\r\n")
            return True
        except smtplib.SMTPDataError:
            return False

    wait_until(accepted, "recovery")
    assert len(server.api.messages()) == 1
    assert server.api.request("GET", "/health/ready").status == 200


def test_a_damaged_body_is_never_shown(servers):
    server = servers(name="damaged")
    server.smtp().sendmail("a@b.example", ["c@example.com"], "Subject: x\r\n\r\nabc\r\n")
    mail = pathlib.Path(server.ready["data_dir"]) / "mail"
    message = server.api.messages()[0]
    # Once the database is freed of it, it is read from its file.
    wait_until(lambda: list(mail.rglob(f"*/{message['id']}.eml")), "the body in its file")

    def damage():
        for path in mail.rglob("*.eml"):
            path.write_bytes(path.read_bytes().replace(b"abc", b"abd"))
        return server.api.request("GET", f"/api/v1/messages/{message['id']}/raw").status != 200

    wait_until(damage, "the damaged body is read")
    response = server.api.request("GET", f"/api/v1/messages/{message['id']}/raw")
    assert response.status == 503 and b"storage_unavailable" in response.body
