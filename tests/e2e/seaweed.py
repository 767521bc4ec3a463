"""Starts a real S3 server, SeaweedFS, on private ports and with its data in a temporary folder."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from conftest import wait_until

PROGRAM = os.environ.get("MAIRUST_TEST_WEED") or str(pathlib.Path(sys.executable).parent / "weed")
BUCKET, KEY, SECRET = "mail", "AKTEST", "sekret123456"
CONFIGURATION = {
    "identities": [{"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}],
    "kms": {"default_provider": "local", "providers": {"local": {"type": "local", "enableOnDemandCreate": True}}},
}
# The server ends with the tests, however they end.
SUPERVISOR = """
import os, signal, subprocess, sys, time
server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
print(server.pid, flush=True)
while server.poll() is None and os.getppid() == int(sys.argv[1]):
    time.sleep(0.2)
server.kill()
"""


class Seaweed:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.ports = free_ports(5)
        (self.folder / "s3.json").write_text(json.dumps(CONFIGURATION))
        self.start()

    def storage(self, monkeypatch, **further):
        """The section `storage` of a configuration whose messages are here."""
        monkeypatch.setenv("S3_KEY", KEY)
        monkeypatch.setenv("S3_SECRET", SECRET)
        options = {
            "bucket": BUCKET, "endpoint": self.url, "access_key_id": "env:S3_KEY", "secret_access_key": "env:S3_SECRET",
            "request_timeout": "1s", "deadline": "3s", **further,
        }
        return {"backend": "s3", "options": options}

    def start(self):
        s3, master, volume, filer, admin = self.ports
        command = [
            PROGRAM, "-logtostderr=true", "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
            f"-admin.port={admin}", "-admin.ui=false", "-webdav=false", "-master.telemetry=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", f"-bucket={BUCKET}",
            f"-s3.config={self.folder}/s3.json", f"-s3.localSocket={self.folder}/s3.sock",
            f"-filer.localSocket={self.folder}/filer.sock",
        ]
        with open(self.folder / "log", "ab") as log:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-c", SUPERVISOR, str(os.getpid()), *command], stdout=subprocess.PIPE, stderr=log,
                cwd=self.folder, env={**os.environ, "HOME": str(self.folder), "WEED_S3_SSE_KEY": "for tests only"},
            )
        self.pid = int(self.supervisor.stdout.readline())
        wait_until(self.is_ready, "start of SeaweedFS", 60)

    def is_ready(self):
        try:
            return self.client().list_objects_v2(Bucket=BUCKET, MaxKeys=1)
        except (BotoCoreError, ClientError):
            return None

    def client(self):
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=2, read_timeout=5),
        )

    @property
    def url(self):
        return f"http://127.0.0.1:{self.ports[0]}"

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.supervisor.poll() is None and self.signal(signal.SIGKILL)
        self.supervisor.wait(30)

    def objects(self):
        return [item["Key"] for item in self.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def free_ports(count):
    """Ports that are free together with those 10,000 above, where the server listens, too."""
    held = []
    while len(held) < count:
        first, second = socket.socket(), socket.socket()
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            second.bind(("127.0.0.1", port + 10_000))
        except (OSError, OverflowError):
            continue
        held.append((port, first, second))
    for _, first, second in held:
        first.close()
        second.close()
    return [port for port, _, _ in held]
