"""What a hook is not granted appears nowhere in what it gets: a Shift_JIS letter with two attachments, and all grants."""

import base64
import http.server
import itertools
import json
import threading

import pytest
from conftest import wait_until
from test_hooks import BOB, receive, site  # noqa: F401
from test_policy import ALICE

SUBJECT, INVOICE, PROGRAM = "件名カナリア", b"canary-of-the-invoice " * 40, b"canary-of-the-program " * 4_000
# More than a preview shows: the last words are beyond it.
TEXT = "本文カナリアの始まり。\r\n" + "あいうえお" * 2_000 + "\r\n本文カナリアの終わり。\r\n"


def letter():
    def part(name, octets):
        return (f"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
                f"Content-Disposition: attachment; filename={name}\r\n\r\n").encode() + base64.encodebytes(octets).replace(b"\n", b"\r\n")

    encoded = base64.b64encode(SUBJECT.encode("shift_jis")).decode()
    return (
        f"From: {BOB}\r\nTo: {ALICE}\r\nSubject: =?Shift_JIS?B?{encoded}?=\r\nMIME-Version: 1.0\r\n"
        "X-Canary: canary-of-the-header\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        "Content-Type: text/plain; charset=Shift_JIS\r\nContent-Transfer-Encoding: base64\r\n\r\n").encode() + base64.encodebytes(
        TEXT.encode("shift_jis")).replace(b"\n", b"\r\n") + part("canary-invoice.pdf", INVOICE) + part("canary-program.exe", PROGRAM) + b"--b--\r\n"


@pytest.fixture
def hook():
    """Lets everything pass, and keeps what it got."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.requests = requests
    yield server
    server.shutdown()


def test_what_is_not_granted_is_nowhere(site, hook):  # noqa: F811
    site.run("hook", "add", "com.example.canary", "--on", "pre_receive", "--required", "--private-address", "--response-signature",
             "off", "--http", f"http://127.0.0.1:{hook.server_address[1]}/")
    bodies, attachments = ("none", "preview", "full"), ("none", "metadata", "preview", "full")
    for headers, body, attached in itertools.product((False, True), bodies, attachments):
        grants = {"read_headers": headers, "read_body": body, "read_attachments": attached}
        site.run("hook", "change", "com.example.canary", "--grants", json.dumps(grants))
        hook.requests.clear()
        with site.server.smtp() as client:
            client.sendmail(BOB, [ALICE], letter())
        wait_until(lambda: hook.requests, "the request")
        raw = hook.requests[0]
        request = json.loads(raw)
        # Neither as text, nor in base64 (whose form depends on where a text begins), nor in the charset of the letter.
        text = json.dumps(request, ensure_ascii=False)
        contents = " ".join(base64.b64decode(part["content_b64"]).decode() for part in request["message"].get("attachments", [])
                            if part.get("content_b64"))
        shown = {
            "headers": SUBJECT in text or "canary-of-the-header" in text,
            "start": "本文カナリアの始まり" in text,
            "end": "本文カナリアの終わり" in text,
            "names": "canary-invoice.pdf" in text,
            "invoice": "canary-of-the-invoice" in contents,
            "whole program": contents.count("canary-of-the-program") == 4_000,
        }
        assert shown == {
            "headers": headers,
            "start": body != "none",
            "end": body == "full",
            "names": attached != "none",
            "invoice": attached in ("preview", "full"),
            # Even all of it is in a request only up to 64 KiB; the rest is left out, and that is said.
            "whole program": False,
        }, grants
        if not headers:
            for form in (SUBJECT.encode("shift_jis"), base64.b64encode(SUBJECT.encode("shift_jis"))):
                assert form not in raw
        if body == "none":
            assert TEXT[:8].encode("shift_jis") not in raw and base64.b64encode(TEXT.encode("shift_jis"))[:24] not in raw
        assert request["granted"].items() >= grants.items()
        assert ("message.headers" in request["redacted"]) == (not headers)
