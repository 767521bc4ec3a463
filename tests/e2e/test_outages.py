"""What is down, what is said then, and that everything recovers by itself (PostgreSQL; bodies are in test_s3)."""

import json
import smtplib
import threading
import time

import pytest
from conftest import Api, Sink, free_port, wait_until
from postgresql import Postgres
from test_serve import PASSWORD, production

DEADLINE = 3
MESSAGE = "From: alice@example.com\r\nSubject: {}\r\n\r\nx\r\n"


@pytest.fixture
def database():
    server = Postgres()
    yield server
    server.remove()


def on_postgres(servers, tmp_path, database, **sections):
    url = database.database("mail")
    return production(
        servers, tmp_path, database={"backend": "postgres", "url": url, "timeout": f"{DEADLINE}s"}, **sections
    )


def code_of(server, subject="x"):
    """What a message for Alice is answered with, and after how many seconds."""
    client = server.smtp()
    began = time.monotonic()
    client.ehlo()
    code, _ = client.mail("a@sender.example")
    if code == 250:
        code, _ = client.rcpt("alice@example.com")
    if code == 250:
        code, _ = client.data(MESSAGE.format(subject))
    took = time.monotonic() - began
    client.close()
    return code, took


def api_code(server, key, path="/api/v1/messages"):
    response = Api(server.ready["http"], key).request("GET", path)
    return response.status, response.body


@pytest.mark.parametrize("how", ["stop", "crash", "hang"])
def test_a_database_that_is_down_and_comes_back(servers, tmp_path, database, how):
    server, key = on_postgres(servers, tmp_path, database)
    assert code_of(server, "before")[0] == 250
    {"stop": database.stop, "crash": lambda: database.stop(9), "hang": database.pause}[how]()
    code, took = code_of(server, "during")
    assert code == 451
    # Asking for the recipient and keeping the message may each take the time.
    assert took < 3 * DEADLINE, took
    status, body = api_code(server, key)
    assert status == 503 and json.loads(body)["code"] == "database_unavailable"
    assert api_code(server, key, "/health/ready")[0] == 503
    assert api_code(server, key, "/health/live")[0] == 200
    (database.go_on if how == "hang" else database.start)()
    wait_until(lambda: api_code(server, key, "/health/ready")[0] == 200, "readiness")
    wait_until(lambda: code_of(server, "after")[0] == 250, "mail is taken again")
    subjects = [message["subject"] for message in Api(server.ready["http"], key).messages()]
    assert "before" in subjects and "after" in subjects
    # A message that hung may have been committed while its client heard 451; it is there at most once.
    assert subjects.count("during") <= 1


def test_connections_that_are_cut_lose_nothing(servers, tmp_path, database):
    server, key = on_postgres(servers, tmp_path, database)
    accepted, stop = [], threading.Event()

    def load(session):
        number = 0
        while not stop.is_set():
            number += 1
            name = f"{session}.{number}"
            if code_of(server, name)[0] == 250:
                accepted.append(name)

    threads = [threading.Thread(target=load, args=(session,)) for session in range(4)]
    for thread in threads:
        thread.start()
    for goal in range(10, 60, 10):
        wait_until(lambda: len(accepted) >= goal, "messages between two cuts", timeout=60)
        database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mail'")
    stop.set()
    for thread in threads:
        thread.join()
    # Connections that were cut while nobody used them are noticed by whoever uses them next.
    wait_until(lambda: [api_code(server, key)[0] for _ in range(30)] == [200] * 30, "answers again")
    subjects = [message["subject"] for message in Api(server.ready["http"], key).messages()]
    lost = [name for name in accepted if name not in subjects]
    assert not lost and len(accepted) >= 50


def test_nobody_hears_of_connections_that_were_cut_while_idle(servers, tmp_path, database):
    server, key = on_postgres(servers, tmp_path, database)
    others = "SELECT pid FROM pg_stat_activity WHERE datname = 'mail'"
    for number in range(3):
        assert code_of(server, f"before {number}")[0] == 250
        cut = database.sql(f"WITH others AS MATERIALIZED ({others}) SELECT pid FROM others WHERE pg_terminate_backend(pid)")
        assert cut
        gone = f"SELECT 1 FROM pg_stat_activity WHERE pid IN ({', '.join(cut.split())})"
        wait_until(lambda: not database.sql(gone).strip(), "the end of the connections")
        assert api_code(server, key)[0] == 200
        assert code_of(server, f"after {number}")[0] == 250


def test_deliveries_go_on_when_the_database_is_back(servers, tmp_path, database):
    sink = Sink(free_port())
    server, key = on_postgres(servers, tmp_path, database, delivery={
        "relay": f"127.0.0.1:{sink.port}", "retry_first": "1s", "retry_max": "2s", "lease": "5s",
    })
    client = server.submission("alice@example.com", PASSWORD)
    client.sendmail("alice@example.com", ["bob@elsewhere.example"], MESSAGE.format("waits"))
    client.quit()
    database.stop()
    sink.start()
    database.start()
    sink.wait_for(1, timeout=60)
    api = Api(server.ready["http"], key)
    wait_until(lambda: [message["status"] for message in api.messages(subject="waits")] == ["sent"], "the record of it")
    sink.stop()


def test_two_servers_share_a_database(servers, tmp_path, database):
    server, key = on_postgres(servers, tmp_path, database)
    config = tmp_path / "mairust.yaml"
    (tmp_path / "second").mkdir()
    second = servers("-c", config, command="serve", name="second")
    api, other = Api(server.ready["http"], key), Api(second.ready["http"], key)
    # Who waits at one server hears of a message that came to the other.
    answer = []
    waiter = threading.Thread(target=lambda: answer.append(api.json("/api/v1/messages/wait?subject=shared&since=2020-01-01T00:00:00Z&timeout=30")))
    waiter.start()
    assert code_of(second, "shared")[0] == 250
    waiter.join()
    assert answer[0]["subject"] == "shared"
    assert api.raw(answer[0]) == other.raw(answer[0])
