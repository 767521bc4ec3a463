#!/usr/bin/env python3
"""A program for one call that does what it is told, right or wrong: `do` of the request says what."""

import json
import os
import socket
import subprocess
import sys
import threading

how = sys.argv[1] if len(sys.argv) > 1 else ""
if how == "reads nothing":
    print('{"verdict": "allow"}')
    sys.exit()

request = json.load(sys.stdin)
allow = '  \n{"verdict": "allow", "reason": "%s"}\n '
match request.get("do"):
    case "allow":
        sys.stdout.write(allow % request.get("text", ""))
    case "fails":
        sys.stdout.write(allow % "but")
        print("no idea", file=sys.stderr)
        sys.exit(7)
    case "big":
        sys.stdout.write("x" * request["size"])
        sys.stdout.flush()
        threading.Event().wait()
    case "hang":
        life = socket.create_connection(("127.0.0.1", request["port"]))
        sys.stdout.write(allow % "too late")
        threading.Event().wait()
    case "fork":
        # A process that lives on, and holds all the pipes.
        program = "import os, socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); os.write(int(sys.argv[2]), b'x'); s.recv(1)"
        ours, its = os.pipe()
        subprocess.Popen([sys.executable, "-c", program, str(request["port"]), str(its)], pass_fds=(its,))
        os.read(ours, 1)
        sys.stdout.write(allow % "forked")
