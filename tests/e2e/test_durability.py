"""What is on disk when 250 is written, seen by strace from outside."""

import re
import shutil
import signal
import subprocess

import pytest
from conftest import wait_until
from test_serve import production

CALLS = "openat,write,pwrite64,pwritev,writev,sendto,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat"
BEGUN = re.compile(r"(?P<thread>\d+) +[\d.]+ (?P<call>\w+)\((?P<arguments>.*?)(?P<unfinished> <unfinished \.\.\.>)?$")
RESUMED = re.compile(r"(?P<thread>\d+) +[\d.]+ <\.\.\. (?P<call>\w+) resumed>")


class Trace:
    """The calls of a server from now on, in the order in which they ended; those that write, when they began."""

    def __init__(self, server, path):
        self.path = path
        self.process = subprocess.Popen(
            ["strace", "-f", "-ttt", "-yy", "-s", "64", "-e", f"trace={CALLS}", "-o", path,
             "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        if "attached" not in line:
            pytest.skip(f"strace can't attach: {line.strip()}")

    def calls(self):
        """Call and arguments of each."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        waiting, calls = {}, []
        for line in self.path.read_text(errors="replace").splitlines():
            if found := RESUMED.match(line):
                calls += [waiting.pop(found["thread"])] if found["thread"] in waiting else []
            elif found := BEGUN.match(line):
                call = (found["call"], found["arguments"])
                # A sync counts when it has ended, everything else when it begins.
                if found["unfinished"] and "sync" in found["call"]:
                    waiting[found["thread"]] = call
                else:
                    calls.append(call)
        return calls


def place(calls, call, pattern, before):
    """Where such a call stands last before a place."""
    found = [index for index, (name, arguments) in enumerate(calls[:before])
             if re.fullmatch(call, name) and re.search(pattern, arguments)]
    assert found, (call, pattern, calls[:before])
    return found[-1]


def reply(calls):
    """Where the reply to the message stands: the last 250, for nothing else came after it but QUIT."""
    return max(index for index, (_, arguments) in enumerate(calls) if '"250 2.0.0' in arguments)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("kibibytes", [5, 400])
def test_what_is_synced_before_250(servers, tmp_path, kibibytes):
    server, _ = production(servers, tmp_path)
    line = b"0123456789abcdef" * 60 + b"\r\n"
    text = line * (kibibytes * 1024 // len(line))

    def send(subject):
        with server.smtp() as client:
            client.sendmail("a@sender.example", ["alice@example.com"], f"Subject: {subject}\r\n\r\n".encode() + text)

    # Files and directories are there after the first message.
    send("first")
    trace = Trace(server, tmp_path / "trace")
    send("proof")
    wait_until(lambda: '"221 ' in trace.path.read_text(errors="replace"), "goodbye")
    calls = trace.calls()
    answered = reply(calls)
    asked = place(calls, "sendto", '"354 ', answered)
    # The transaction that accepts the message is in the log of the database, and the log is on disk.
    synced = place(calls, "fsync|fdatasync", r"mairust\.db-wal>", answered)
    written = place(calls, "pwrite64", r"mairust\.db-wal>", synced)
    assert asked < written < synced < answered
    if kibibytes > 256:
        # A large body is in its file before: the file, then its name, then the directory, then the transaction.
        named = place(calls, "rename(at2?)?|link(at)?", r"/mail/tmp/.*\.eml", answered)
        body = place(calls, "fsync|fdatasync|syncfs", r"/mail/tmp/", named)
        directory = place(calls, "fsync|fdatasync|syncfs", r"/mail/[0-9a-f-]+/[0-9a-f-]+>", answered)
        assert body < named < directory < synced
