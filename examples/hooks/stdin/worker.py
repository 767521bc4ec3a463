#!/usr/bin/env python3
"""A hook as a worker: one process for all messages, with nothing but the standard library.

It tags mail about invoices, puts attached programs into quarantine, and refuses what has a field X-Test-Reject.
Its grants: read_headers, read_attachments=metadata, write_tags, decide=reject,quarantine.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

MAX_INFLIGHT = 4

writing = Lock()
waiting = set()
config = {}


def send(**frame):
    # One object a line. What prints on standard output is logged, and does no harm: standard error is better.
    with writing:
        sys.stdout.write(json.dumps(frame) + "\n")
        sys.stdout.flush()


def answer(request):
    message = request["message"]
    headers = {field["name"].lower(): field["value"] for field in message.get("headers", [])}
    if "x-test-reject" in headers:
        return {"verdict": "reject", "smtp": {"code": 550, "enhanced": "5.7.1", "text": "Not wanted here"}}
    names = [part.get("filename") or "" for part in message.get("attachments", [])]
    if any(name.lower().endswith(".exe") for name in names):
        return {"verdict": "quarantine", "reason": "a program is attached"}
    word = config.get("word", "invoice")
    if word in headers.get("subject", "").lower():
        return {"verdict": "allow", "actions": [{"op": "tag.add", "tags": [word]}]}
    return {"verdict": "allow"}


def work(call, request):
    if call not in waiting:
        return  # It was cancelled before it had its turn.
    try:
        send(type="result", id=call, response=answer(request))
    except Exception as error:  # The worker lives on.
        send(type="result", id=call, error=repr(error))
    waiting.discard(call)


def main():
    global config
    # Ends with the server: standard input ends then.
    with ThreadPoolExecutor(MAX_INFLIGHT) as pool:
        for line in sys.stdin:
            frame = json.loads(line)
            match frame["type"]:
                case "hello":
                    config = frame["config"]
                    send(type="ready", protocol=1, sdk="example/1", max_inflight=MAX_INFLIGHT)
                case "hook":
                    waiting.add(frame["id"])
                    pool.submit(work, frame["id"], frame["request"])
                case "cancel":
                    waiting.discard(frame["id"])
                case "health":
                    send(type="health", id=frame["id"], status="ok")
                case "config":
                    config = frame["config"]
                    send(type="log", level="info", msg="new settings", fields={"rev": frame["config_rev"]})
                case "shutdown":
                    return


if __name__ == "__main__":
    main()
