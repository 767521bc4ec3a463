"""A 250 survives `kill -9`."""

import pathlib
import smtplib
import threading

import pytest

SESSIONS = 10
MESSAGES = 500


def body(number):
    return f"Subject: load {number}\r\n\r\n{number} ".encode() + b"x" * 3000 + f" end {number}\r\n".encode()


def test_every_250_is_there_after_kill_9(servers):
    server = servers(name="crash")
    accepted, lock = [], threading.Lock()
    half = threading.Event()

    def load(session):
        try:
            client = server.smtp()
            for number in range(session, MESSAGES, SESSIONS):
                client.sendmail("a@sender.example", [f"m{number}@example.com"], body(number))
                with lock:
                    accepted.append(number)
                    if len(accepted) >= MESSAGES // 2:
                        half.set()
        except (OSError, smtplib.SMTPException):
            pass

    threads = [threading.Thread(target=load, args=(session,)) for session in range(SESSIONS)]
    for thread in threads:
        thread.start()
    assert half.wait(60)
    server.kill()
    for thread in threads:
        thread.join()
    assert MESSAGES // 2 <= len(accepted) < MESSAGES, "the server was to die in the middle of the load"
    server.start()
    stored = {}
    for message in server.api.messages():
        stored.setdefault(message["address"], []).append(message)
    for number in accepted:
        found = stored[f"m{number}@example.com"]
        assert len(found) == 1
        assert server.api.raw(found[0]).endswith(b"\r\n" + body(number))
    # What was stored without its 250 having been seen is whole as well.
    for messages in stored.values():
        for message in messages:
            number = int(message["subject"].removeprefix("load "))
            assert server.api.raw(message).endswith(b"\r\n" + body(number))


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
    client.sendmail("a@b.example", ["c@example.com"], "Subject: x\r\n\r\nx\r\n")
    assert len(server.api.messages()) == 1
    assert server.api.request("GET", "/health/ready").status == 200


def test_a_damaged_body_is_never_shown(servers):
    server = servers(name="damaged")
    server.smtp().sendmail("a@b.example", ["c@example.com"], "Subject: x\r\n\r\nabc\r\n")
    (body,) = (pathlib.Path(server.ready["data_dir"]) / "mail").rglob("*.eml")
    body.write_bytes(body.read_bytes().replace(b"abc", b"abd"))
    message = server.api.messages()[0]
    response = server.api.request("GET", f"/api/v1/messages/{message['id']}/raw")
    assert response.status == 503 and b"storage_unavailable" in response.body
