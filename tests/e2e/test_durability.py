"""What is on disk when 250 is written, seen by strace from outside."""

import re

import pytest
from conftest import BINARY, wait_until
from test_serve import production

CALLS = "openat,write,pwrite64,pwritev,writev,sendto,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat"
BEGUN = re.compile(r"(?P<thread>\d+) +[\d.]+ (?P<call>\w+)\((?P<arguments>.*?)(?P<unfinished> <unfinished \.\.\.>)?$")
RESUMED = re.compile(r"(?P<thread>\d+) +[\d.]+ <\.\.\. (?P<call>\w+) resumed>")


def calls(lines):
    """Call and arguments of each, in the order in which they ended; those that write, when they began."""
    waiting, found = {}, []
    for line in lines:
        if match := RESUMED.match(line):
            found += [waiting.pop(match["thread"])] if match["thread"] in waiting else []
        elif match := BEGUN.match(line):
            call = (match["call"], match["arguments"])
            # A sync counts when it has ended, everything else when it begins.
            if match["unfinished"] and "sync" in match["call"]:
                waiting[match["thread"]] = call
            else:
                found.append(call)
    return found


def place(calls, call, pattern, before):
    """Where such a call stands last before a place."""
    found = [index for index, (name, arguments) in enumerate(calls[:before])
             if re.fullmatch(call, name) and re.search(pattern, arguments)]
    assert found, (call, pattern, calls[:before])
    return found[-1]


def reply(calls):
    """Where the reply to the message stands: the last 250, for nothing else came after it but QUIT."""
    return max(index for index, (_, arguments) in enumerate(calls) if '"250 2.0.0' in arguments)


@pytest.mark.parametrize("kibibytes", [5, 400])
def test_what_is_synced_before_250(servers, tmp_path, kibibytes):
    # -D: strace is not the parent, so the process that is started is the server.
    trace, traced = tmp_path / "trace", tmp_path / "traced"
    traced.write_text(f'#!/bin/sh\nexec strace -D -f -ttt -yy -s 64 -e trace={CALLS} -o {trace} {BINARY} "$@"\n')
    traced.chmod(0o755)
    server, _ = production(servers, tmp_path, binary=str(traced))
    line = b"0123456789abcdef" * 60 + b"\r\n"
    text = line * (kibibytes * 1024 // len(line))

    def send(subject):
        with server.smtp() as client:
            client.sendmail("a@sender.example", ["alice@example.com"], f"Subject: {subject}\r\n\r\n".encode() + text)

    # Files and directories are there after the first message.
    send("first")
    send("proof")
    wait_until(lambda: trace.read_text(errors="replace").count('"221 ') == 2, "goodbye")
    whole = trace.read_text(errors="replace")
    found = calls(whole[:whole.rindex('"221 ')].splitlines())
    answered = reply(found)
    asked = place(found, "sendto", '"354 ', answered)
    # The transaction that accepts the message is in the log of the database, and the log is on disk.
    synced = place(found, "fsync|fdatasync", r"mairust\.db-wal>", answered)
    written = place(found, "pwrite64", r"mairust\.db-wal>", synced)
    assert asked < written < synced < answered
    if kibibytes > 256:
        # A large body is in its file before: the file, then its name, then the directory, then the transaction.
        named = place(found, "rename(at2?)?|link(at)?", r"/mail/tmp/.*\.eml", answered)
        body = place(found, "fsync|fdatasync|syncfs", r"/mail/tmp/", named)
        directory = place(found, "fsync|fdatasync|syncfs", r"/mail/[0-9a-f-]+/[0-9a-f-]+>", answered)
        assert asked < body < named < directory < synced
