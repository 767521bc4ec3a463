import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture
def make_request():
    """Makes requests of the hook protocol, as the server writes them."""

    def make(subject="Hello", hook="pre_receive", call="inv_01JABCDEFGHJKMNPQRSTVWXYZ0", **message):
        return {
            "v": 1,
            "invocation_id": call,
            "hook": hook,
            "mode": "enforce",
            "attempt": 1,
            "occurred_at": "2026-11-22T03:04:05.678Z",
            "deadline_ms": 1990,
            "plugin": {"id": "com.example.test", "version": "1.0.0", "config_rev": 1, "config": {"threshold": 0.8}},
            "tenant": {"id": "t1"},
            "granted": {"read_headers": True, "read_body": "preview", "read_attachments": "metadata"},
            "redacted": ["message.body.full", "message.attachments[].content"],
            "session": {"origin": "smtp", "listener": "mx", "client": {"ip": "192.0.2.7", "port": 40112, "ptr": None},
                        "helo": "mx.sender.example", "tls": {"version": "TLSv1.3", "cipher": "X"}, "auth_user": None},
            "envelope": {"mail_from": "a@sender.example", "rcpt_to": [{"address": "support@example.com"}], "smtputf8": False},
            "auth_results": {"spf": {"result": "pass", "domain": "sender.example"},
                             "dkim": [{"result": "fail", "domain": "d.example", "selector": "s"}],
                             "dmarc": {"result": "fail", "policy": "reject", "domain": "sender.example"}},
            "policy": {"decision": "allow", "score": 0.1, "reasons": []},
            "message": {
                "id": None, "size": 123, "fingerprint": "sha256:00", "has_attachments": True,
                "headers": [
                    {"name": "Subject", "value": subject},
                    {"name": "From", "value": "Doe, Jané <jane@sender.example>",
                     "raw": "=?utf-8?q?Doe=2C_Jan=C3=A9?= <jane@sender.example>"},
                    {"name": "To", "value": "One <one@example.com>, two@example.com"},
                    {"name": "X-Odd", "value": "\ufffd", "raw_b64": "k/o="},
                    {"name": "Received", "value": "first"}, {"name": "received", "value": "second"},
                ],
                "body": {"mode": "preview", "text": "the beginning", "source": "text/plain", "charset": None, "bytes": 13,
                         "bytes_total": 9120, "truncated": True},
                "attachments": [{"index": 0, "filename": "a.exe", "content_type": "application/x-msdownload", "size": 7}],
                **message,
            },
            "callback": None,
        }

    return make
