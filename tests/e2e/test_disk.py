"""A disk that is nearly full: what is said then, that nothing more goes out, and that all goes on by itself."""

import json
import os
import pathlib
import re
import shutil
import smtplib
import tempfile

import pytest
from conftest import Api, Sink, free_port, run, wait_until
from test_outages import MESSAGE, api_code, code_of
from test_serve import PASSWORD, configuration, production

MEMORY = pathlib.Path("/dev/shm")


@pytest.fixture
def disk():
    """A folder on a file system that hardly anybody else writes to."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mairust-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder)


def free(folder):
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def log_lines(server, text):
    return [line for line in server.log().splitlines() if text in line]


def send(api):
    body = {"from": "alice@example.com", "to": ["bob@elsewhere.example"], "subject": "by the API", "text": "x"}
    return api.request("POST", "/api/v1/send", body)


def test_a_disk_that_fills_up_and_gets_room_again(servers, tmp_path, disk):
    margin = min(free(disk) // 4, 64 << 20)
    sink = Sink(free_port())
    server, key = production(
        servers, tmp_path, server={"hostname": "mx.example.com", "data_dir": str(disk / "data")},
        storage={"min_free": f"{free(disk) - margin}B"},
        delivery={"relay": f"127.0.0.1:{sink.port}", "retry_first": "1s", "retry_max": "1s"},
    )
    api = Api(server.ready["http"], key)
    assert code_of(server, "before")[0] == 250
    client = server.submission("alice@example.com", PASSWORD)
    client.sendmail("alice@example.com", ["bob@elsewhere.example"], MESSAGE.format("waits"))

    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * margin)
    wait_until(lambda: api_code(server, key, "/health/ready")[0] == 503, "the server says that it is not ready")
    state = json.loads(api_code(server, key, "/health/ready")[1])
    assert state["components"]["disk"] == {"status": "down", "reason": "full"}
    assert state["components"]["database"] == {"status": "up"}
    assert code_of(server, "during")[0] == 452
    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("alice@example.com", ["bob@elsewhere.example"], MESSAGE.format("during"))
    assert (refused.value.smtp_code, refused.value.smtp_error[:5]) == (452, b"4.3.1")
    answer = send(api)
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "storage_unavailable")
    # What is there can be read all the same.
    assert sorted(message["subject"] for message in api.messages(direction="inbound")) == ["before"]
    wait_until(lambda: re.search(rb'mairust_storage_up\{part="disk"\} 0', api.bytes("/metrics")), "the metric")
    sink.start()
    # The message is due again and again meanwhile, every second.
    wait_until(lambda: int(re.search(rb'jobs\{kind="deliver",state="ready"\} (\d+)', api.bytes("/metrics"))[1]) > 0,
               "a job that is due and not done")
    assert not sink.received

    ballast.unlink()
    wait_until(lambda: api_code(server, key, "/health/ready")[0] == 200, "readiness")
    assert code_of(server, "after")[0] == 250
    assert send(api).status == 202
    sink.wait_for(2)
    wait_until(lambda: re.search(rb'mairust_storage_up\{part="disk"\} 1', api.bytes("/metrics")), "the metric")
    assert sorted(message["subject"] for message in api.messages(direction="inbound")) == ["after", "before"]
    assert len(log_lines(server, "the disk is nearly full")) == 1 == len(log_lines(server, "room on the disk again"))
    client.quit()
    sink.stop()


def test_the_floor_is_set_by_the_configuration(servers, tmp_path):
    most = (1 << 32) - 1
    server, key = production(servers, tmp_path, storage={"min_free_files": most})
    found = os.statvfs(tmp_path)
    # Some file systems don't count files.
    assert code_of(server)[0] == (452 if found.f_files and found.f_favail < most else 250)
    # Commands don't take mail, and work.
    run("user", "add", "bob@example.com", "-c", tmp_path / "mairust.yaml", "--password-stdin", input=PASSWORD)
    assert server.stop() == 0
    configuration(tmp_path, storage={"min_free": "0B", "min_free_files": 0})
    server.start()
    assert code_of(server)[0] == 250
    assert "disk" not in json.loads(api_code(server, key, "/health/ready")[1])["components"]
