"""A 250 survives `kill -9`."""

import smtplib
import threading

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
