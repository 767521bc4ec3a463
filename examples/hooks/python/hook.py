#!/usr/bin/env python3
"""A hook over HTTP, with nothing but Python's standard library.

    HOOK_SECRET=whsec_… HOOK_PLUGIN_ID=com.example.sample python3 hook.py 127.0.0.1:8081

HOOK_SECRET may have several keys, separated by commas: while one takes over from another, both are good.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import threading
import time

WINDOW = 300  # seconds that a request may be old, or early
REMEMBERED = 600  # seconds that an answer is kept, in case the same request comes again
LONGEST = 4 << 20  # octets of a request


class Refused(Exception):
    """A request that gets a status instead of an answer."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


def read_keys(text):
    return [base64.b64decode(part.strip().removeprefix("whsec_"), validate=True) for part in text.split(",")]


def sign(key, *parts):
    """The signature of these parts: HMAC-SHA256 over what stands between dots."""
    return "sha256=" + hmac.new(key, b".".join(parts), hashlib.sha256).hexdigest()


def verify(keys, headers, body, now):
    """The key that signed the request. Nothing of the body is believed before."""
    identity, timestamp = headers.get("X-MaiRust-Request-Id", ""), headers.get("X-MaiRust-Timestamp", "")
    signatures = headers.get("X-MaiRust-Signature", "").split(", ")
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now - int(timestamp)) > WINDOW:
        raise Refused(401, "the request is too old or too early")
    for key in keys:
        wanted = sign(key, identity.encode(), timestamp.encode(), body).encode()
        # All are compared, each in constant time.
        if any([hmac.compare_digest(wanted, signature.encode()) for signature in signatures]):
            return key
    raise Refused(401, "the signature is wrong")


def decide(request):
    """What is to become of the message. Parts that may not be seen are absent."""
    message = request.get("message", {})
    fields = [(field["name"].lower(), field.get("value", "")) for field in message.get("headers", [])]
    if any(name == "x-test-reject" for name, _ in fields):
        smtp = {"code": 550, "enhanced": "5.7.1", "text": "refused by the sample hook"}
        return {"verdict": "reject", "smtp": smtp, "reason": "X-Test-Reject"}
    for attachment in message.get("attachments", []):
        if (attachment.get("filename") or "").lower().endswith(".exe"):
            return {"verdict": "quarantine", "reason": "a program is attached"}
    if any(name == "subject" and "invoice" in value.lower() for name, value in fields):
        return {"verdict": "allow", "actions": [{"op": "tag.add", "tags": ["invoice"]}]}
    return {"verdict": "allow"}


class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    keys, plugin_id, answers, lock = [], "", {}, threading.Lock()

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if self.path != "/hook" or not length.isascii() or not length.isdigit() or int(length) > LONGEST:
            self.close_connection = True
            return self.refuse(404 if self.path != "/hook" else 413, "not found" if self.path != "/hook" else "too long")
        self.answer(self.rfile.read(int(length)), self.hook)

    def do_GET(self):
        if self.path != "/health":
            return self.refuse(404, "not found")
        self.answer(b"", lambda _: {"status": "ok", "details": "ready"})

    def hook(self, body):
        request = json.loads(body)
        if request["plugin"]["id"] != self.plugin_id:
            raise Refused(403, "this is another hook")
        now, identity = time.monotonic(), request["invocation_id"]
        with self.lock:
            for old in [known for known, (_, at) in self.answers.items() if now - at > REMEMBERED]:
                del self.answers[old]
            if identity not in self.answers:
                self.answers[identity] = (decide(request), now)
            return self.answers[identity][0]

    def answer(self, body, make):
        try:
            key = verify(self.keys, self.headers, body, time.time())
            answer = json.dumps(make(body)).encode()
        except Refused as refused:
            return self.refuse(refused.status, str(refused))
        except (ValueError, KeyError, TypeError) as error:
            return self.refuse(400, f"not a request of the hook protocol: {error}")
        identity, timestamp = self.headers["X-MaiRust-Request-Id"], self.headers["X-MaiRust-Timestamp"]
        signature = sign(key, b"resp", identity.encode(), timestamp.encode(), answer)
        self.reply(200, "application/json", answer, signature)

    def refuse(self, status, why):
        self.reply(status, "text/plain", why.encode())

    def reply(self, status, kind, body, signature=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if signature:
            self.send_header("X-MaiRust-Response-Signature", signature)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def main():
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8081").rpartition(":")
    Hook.keys, Hook.plugin_id = read_keys(os.environ["HOOK_SECRET"]), os.environ["HOOK_PLUGIN_ID"]
    server = http.server.ThreadingHTTPServer((host, int(port)), Hook)
    print("listening on {}:{}".format(*server.server_address), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
