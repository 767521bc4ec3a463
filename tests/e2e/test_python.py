"""The same server inside a Python process."""

import os
import signal
import smtplib
import subprocess
import sys
import zipfile

import json
import pytest
from conftest import Api, wait_until


@pytest.fixture
def package(tmp_path):
    """The package as the wheel lays it out."""
    wheel = os.environ.get("MAIRUST_WHEEL")
    if not wheel:
        pytest.fail("MAIRUST_WHEEL names no built wheel; tests/run builds it")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def test_the_command_line(package):
    result = subprocess.run([sys.executable, "-m", "mairust", "version"], env=package, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("mairust ")
    wrong = subprocess.run([sys.executable, "-m", "mairust", "nonsense"], env=package, capture_output=True, text=True)
    assert wrong.returncode == 2


def test_a_server_in_python_receives_mail(package, tmp_path):
    program = (
        "import sys, threading, mairust\n"
        "ticks = threading.Event()\n"
        "threading.Thread(target=lambda: ticks.set()).start()\n"
        "code = mairust.run(['mairust', 'dev', '--ephemeral', '--smtp', '127.0.0.1:0', '--submission', '127.0.0.1:0',"
        " '--submissions', '127.0.0.1:0', '--http', '127.0.0.1:0', '--ready-file', sys.argv[1]])\n"
        "assert ticks.is_set()\n"
        "sys.exit(code)\n"
    )
    ready_file = tmp_path / "ready.json"
    process = subprocess.Popen([sys.executable, "-c", program, str(ready_file)], env=package, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: ready_file.exists() or process.poll() is not None, "start")
        ready = json.loads(ready_file.read_text())
        host, port = ready["smtp"].rsplit(":", 1)
        with smtplib.SMTP(host, int(port), timeout=30) as client:
            client.sendmail("a@b.example", ["c@example.com"], "Subject: to Python\r\n\r\nx\r\n")
        assert Api(ready["http"], ready["api_key"]).messages()[0]["subject"] == "to Python"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
