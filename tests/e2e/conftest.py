"""Starts the shipped binary as a user would, and drives it from outside."""

import http.client
import json
import os
import pathlib
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What tests and measurements share.
sys.path.append(str(ROOT / "tests"))
BINARY = os.environ.get("MAIRUST_BIN") or str(ROOT / "target/release/mairust")


def wait_until(condition, what, timeout=30):
    """Waits for a condition of a process that we can only look at from outside."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {timeout} s")


def run(*arguments, check=True, **options):
    result = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)
    assert not check or result.returncode == 0, f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


class Api:
    """The REST API, by Python's own HTTP client."""

    def __init__(self, base, key):
        self.address = urllib.parse.urlsplit(base).netloc
        self.key = key

    def request(self, method, path, body=None, headers=None, timeout=70):
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        headers = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        return response

    def bytes(self, path):
        response = self.request("GET", path)
        assert response.status == 200, (path, response.status, response.body)
        return response.body

    def json(self, path):
        return json.loads(self.bytes(path))

    def send(self, body):
        response = self.request("POST", "/api/v1/send", body)
        assert response.status == 202, (response.status, response.body)
        return json.loads(response.body)

    def messages(self, **filters):
        """All messages that match, through the pages."""
        found, cursor = [], None
        while True:
            query = {"limit": 200, **filters, **({"cursor": cursor} if cursor else {})}
            page = self.json("/api/v1/messages?" + urllib.parse.urlencode(query))
            found += page["items"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return found

    def raw(self, message):
        return self.bytes(f"/api/v1/messages/{message['id']}/raw")


class Server:
    """A running `mairust`."""

    def __init__(self, directory, *arguments, command="dev", env=None, binary=BINARY):
        self.binary = binary
        self.directory = pathlib.Path(directory)
        self.ready_file = self.directory / "ready.json"
        self.arguments = [command, *map(str, arguments), "--ready-file", str(self.ready_file)]
        self.env = {**os.environ, **(env or {})}
        self.log_path = self.directory / "log.txt"
        self.process = None
        self.start()

    def start(self):
        self.ready_file.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, *self.arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env,
                cwd=self.directory,
            )
        wait_until(lambda: self.ready_file.exists() or self.process.poll() is not None, "start")
        assert self.process.poll() is None, self.log_path.read_text()
        self.ready = json.loads(self.ready_file.read_text())
        return self

    @property
    def api(self):
        return Api(self.ready["http"], self.ready["api_key"])

    def address(self, service="smtp"):
        host, port = self.ready[service].rsplit(":", 1)
        return host, int(port)

    def smtp(self, service="smtp"):
        return smtplib.SMTP(*self.address(service), timeout=30)

    def submission(self, user=None, password=None):
        client = self.smtp("submission")
        client.starttls(context=insecure_tls())
        client.login(user or self.ready["user"], password or self.ready["password"])
        return client

    def log(self):
        return self.log_path.read_text()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(45)


def insecure_tls():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Sink:
    """A mail server of somebody else's: aiosmtpd."""

    def __init__(self, port=0, tls=None, refuse=None, protocol=SMTP, implicit_tls=None, **options):
        self.received = []
        self.protocol, self.implicit_tls, self.options = protocol, implicit_tls, options
        self.refuse = refuse or {}
        self.tls = tls
        self.port = port or free_port()
        self.controller = None

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        self.received.append(
            {"from": envelope.mail_from, "to": list(envelope.rcpt_tos), "data": envelope.original_content,
             "tls": bool(session.ssl or self.implicit_tls), "user": session.auth_data}
        )
        return "250 2.0.0 taken"

    def start(self):
        sink = self

        class SinkController(Controller):
            def factory(self):
                return sink.protocol(sink, hostname="sink.test", tls_context=sink.tls, require_starttls=False, **sink.options)

        self.controller = SinkController(self, hostname="127.0.0.1", port=self.port, ssl_context=self.implicit_tls)
        self.controller.start()
        return self

    def stop(self):
        if self.controller:
            self.controller.stop()
            self.controller = None

    def wait_for(self, count, timeout=30):
        wait_until(lambda: len(self.received) >= count, f"delivery of {count} messages", timeout)
        return self.received


class Recorder:
    """Stands between a client and a server, and keeps what the client sends."""

    def __init__(self, server, service="smtp"):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.upstream = server.address(service)
        self.sent = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        client, _ = self.listener.accept()
        server = socket.create_connection(self.upstream)
        back = threading.Thread(target=self._copy, args=(server, client, False), daemon=True)
        back.start()
        self._copy(client, server, True)

    def _copy(self, source, target, keep):
        while data := source.recv(65536):
            if keep:
                self.sent += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def address(self, service="smtp"):
        return self.listener.getsockname()

    def message(self):
        """What stood between DATA and the final dot, dots unstuffed."""
        data = self.sent.split(b"\r\nDATA\r\n", 1)[1].split(b"\r\n.\r\n", 1)[0] + b"\r\n"
        return data.removeprefix(b".").replace(b"\r\n.", b"\r\n")

    def chunks(self):
        """What came by BDAT, a piece for each command."""
        found, rest = [], self.sent
        while command := re.search(rb"^BDAT (\d+)(?: LAST)?\r\n", rest, re.MULTILINE):
            end = command.end() + int(command[1])
            found.append(rest[command.end():end])
            rest = rest[end:]
        return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


def self_signed(folder, name, *others):
    """A certificate of the OpenSSL command for these names, and its key, both called after the first one."""
    certificate, key = folder / f"{name}.cert.pem", folder / f"{name}.key.pem"
    names = ",".join([f"DNS:{host}" for host in (name, *others)] + ["IP:127.0.0.1"])
    subprocess.run(
        ["openssl", "req", "-x509", *EC_KEY, "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    key.chmod(0o600)
    return certificate, key


class Authority:
    """Makes certificates that only those believe who believe this authority: the OpenSSL command."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate, self.key = folder / "authority.pem", folder / "authority.key.pem"
        self._openssl("req", "-x509", *EC_KEY, "-nodes", "-days", "2", "-subj", "/CN=authority", "-keyout", self.key,
                      "-out", self.certificate)

    def certify(self, name):
        """A certificate for this name and this machine, with its authority, and its key."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key.pem"
        request, extensions = self.folder / "request.pem", self.folder / "extensions"
        extensions.write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        self._openssl("req", *EC_KEY, "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
                      "-days", "2", "-extfile", extensions, "-out", certificate)
        key.chmod(0o600)
        return certificate, key

    def context(self, name):
        """The same for a server in Python."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certify(name))
        return context

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def swaks(server, *arguments, service="smtp", check=True):
    host, port = server.address(service)
    result = subprocess.run(
        ["swaks", "--server", host, "--port", str(port), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, errors="replace",
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


DEV_PORTS = ["--smtp", "127.0.0.1:0", "--submission", "127.0.0.1:0", "--submissions", "127.0.0.1:0",
             "--http", "127.0.0.1:0"]


@pytest.fixture
def servers(tmp_path):
    """Starts servers, and stops them at the end of the test."""
    started = []

    def start(*arguments, name="server", **options):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        if options.get("command", "dev") == "dev":
            where = [] if "--ephemeral" in arguments else ["--data-dir", directory / "data"]
            arguments = [*DEV_PORTS, *where, *arguments]
        server = Server(directory, *arguments, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """One development server for all tests of a file that leave each other alone."""
    directory = tmp_path_factory.mktemp("dev")
    server = Server(directory, *DEV_PORTS, "--data-dir", directory / "data")
    yield server
    assert server.stop() == 0, server.log()


@pytest.fixture
def sinks():
    started = []

    def start(**options):
        sink = Sink(**options)
        started.append(sink)
        return sink.start()

    yield start
    for sink in started:
        sink.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def postgres():
    from postgresql import Postgres

    server = Postgres()
    yield server
    server.remove()
