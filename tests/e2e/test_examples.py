"""The examples of the README, compiled by cargo and run as they are."""

import os
import pathlib
import smtplib
import socket
import subprocess

import pytest
from conftest import insecure_tls, wait_until

EXAMPLES = os.environ.get("MAIRUST_EXAMPLES")


@pytest.fixture
def example(tmp_path):
    processes = []

    def start(name, *ports):
        assert EXAMPLES, "MAIRUST_EXAMPLES names the folder of the built examples; tests/run sets it"
        process = subprocess.Popen([pathlib.Path(EXAMPLES) / name], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        processes.append(process)
        for port in ports:
            wait_until(lambda: process.poll() is not None or socket.socket().connect_ex(("127.0.0.1", port)) == 0, "start")
        assert process.poll() is None
        return process

    yield start
    for process in processes:
        process.terminate()
        process.wait(40)


def test_hello(example, tmp_path):
    example("hello", 2525, 2587)
    with smtplib.SMTP("127.0.0.1", 2525, timeout=30) as client:
        client.sendmail("a@b.example", ["alice@example.com"], "Subject: hello\r\n\r\nx\r\n")
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@b.example", ["alice@example.com"], "Subject: PROMO today\r\n\r\nx\r\n")
        assert refused.value.args == (550, b"5.7.1 promotions are not welcome here")
    with smtplib.SMTP("127.0.0.1", 2587, timeout=30) as client:
        client.starttls(context=insecure_tls())
        client.login("alice@example.com", "correct horse")
    wait_until(lambda: len(list((tmp_path / "mail").rglob("*/*.eml"))) == 1, "the body in its file")


def test_smtp_only(example):
    process = example("smtp_only", 2526)
    with smtplib.SMTP("127.0.0.1", 2526, timeout=30) as client:
        client.sendmail("a@b.example", ["anyone@example.com"], "Subject: hello\r\n\r\nx\r\n")
    assert process.stdout.readline() == b"21 octets from <a@b.example>\n"


def test_tested(example):
    example("tested", 2527)
    with smtplib.SMTP("127.0.0.1", 2527, timeout=30) as client:
        client.sendmail("a@b.example", ["desk@example.com"], "Subject: hello\r\n\r\nx\r\n")
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@b.example", ["noreply@example.com"], "Subject: hello\r\n\r\nx\r\n")
        assert refused.value.args == (550, b"5.7.1 nobody reads this")
