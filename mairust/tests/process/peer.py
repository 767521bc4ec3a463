#!/usr/bin/env python3
"""A worker that does what it is told, right or wrong: `do` of a request says what."""

import json
import os
import socket
import subprocess
import sys
import threading

seen = []
lives = []
writing = threading.Lock()


def write(text):
    with writing:
        sys.stdout.write(text)
        sys.stdout.flush()


def send(**frame):
    write(json.dumps(frame, separators=(",", ":")) + "\n")


def result(call, response):
    send(type="result", id=call, response=response)


def allow(call, reason):
    result(call, {"verdict": "allow", "reason": reason})


def live(port):
    """Whoever listens there sees by the end of the connection that this process has ended."""
    lives.append(socket.create_connection(("127.0.0.1", port)))


def act(call, request):
    match request.get("do"):
        case "allow":
            allow(call, request.get("text", ""))
        case "crash":
            os._exit(3)
        case "answer and crash":
            allow(call, "last words")
            os._exit(3)
        case "wait":
            pass
        case "frames":
            allow(call, " ".join(seen))
        case "big":
            result(call, {"verdict": "allow", "text": "x" * request["size"]})
        case "twice":
            allow(call, "first")
            allow(call, "second")
            send(type="result", id="inv_00000000000000000000000000", response={})
        case "prints":
            write("hello\n{'not': 'a frame'}\n\n")
            write('{"type":"result","id":garbage}\n')
            write('{"type":"weather"}\n')
            allow(call, "after all")
        case "error":
            send(type="result", id=call, error="no idea\x1b[2J")
        case "nothing":
            send(type="result", id=call)
        case "stderr":
            os.write(2, b"caf\xe9 \x1b[2J\n" + b"x" * 20_000 + b"\n")
            allow(call, "")
        case "live":
            live(request["port"])
            allow(call, "")
        case "fork":
            # A process that lives on, and holds all the pipes.
            program = "import socket, sys, time; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.recv(1)"
            subprocess.Popen([sys.executable, "-c", program, str(request["port"])])
            allow(call, "")
        case "close":
            os.close(1)
        case "stall":
            # Reads nothing any more, but lives.
            live(request["port"])
            threading.Event().wait()
        case other:
            allow(call, f"{other} is not known")


def main(how, port):
    if how == "exits":
        print("can't work today", file=sys.stderr)
        sys.exit(1)
    if port:
        live(int(port))
    if how == "silent":
        threading.Event().wait()
    for line in sys.stdin:
        frame = json.loads(line)
        seen.append(frame["type"])
        match frame["type"]:
            case "hello":
                places = 2 if how == "two" else frame["max_inflight"] + 1
                send(type="ready", protocol=2 if how == "newer" else 1, sdk="peer/1", max_inflight=places)
            case "hook":
                act(frame["id"], frame["request"])
            case "health":
                send(type="health", id=frame["id"], status="degraded", details="so-so")
            case "config":
                seen.append(json.dumps(frame["config"]))
            case "shutdown" if how == "stays":
                lives[0].sendall(b"no")
            case "shutdown":
                lives[0].sendall(b"bye")
                return
    if how == "stays":
        threading.Event().wait()


main(*(sys.argv[1:] + ["", ""])[:2])
