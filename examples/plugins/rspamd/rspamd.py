"""A spam filter: asks rspamd about each message before it is stored, inside the server's process.

It runs there, for rspamd wants all octets of a message: elsewhere, it would fetch them by the callback API first. Its
settings are environment variables: RSPAMD_URL, RSPAMD_PASSWORD, RSPAMD_MARKED, RSPAMD_REJECTED, RSPAMD_ON_FAILURE.
"""

import http.client
import json
import os
import urllib.parse

import mairust

#: What `add header` and `rewrite subject`, and what `reject` may mean.
MARKED, REJECTED = ("tag", "quarantine"), ("reject", "quarantine")

#: Seconds for a connection, and for each wait on it. Less than the time of the hook: a silent rspamd is a failure with a
#: reason, and blocks no thread.
PATIENCE = 2.5

app = mairust.App("rspamd")


def setting(name, default, allowed=None):
    value = os.environ.get(name, default)
    if allowed and value not in allowed:
        raise mairust.ConfigurationError(f"{name} is one of {', '.join(allowed)}, not {value!r}")
    return value


URL = urllib.parse.urlsplit(setting("RSPAMD_URL", "http://127.0.0.1:11333"))
if URL.scheme != "http" or not URL.hostname or URL.path.strip("/"):
    raise mairust.ConfigurationError("RSPAMD_URL: write http://host:port; rspamd speaks no TLS")
PASSWORD = setting("RSPAMD_PASSWORD", None)
WHEN_MARKED = setting("RSPAMD_MARKED", "tag", MARKED)
WHEN_REJECTED = setting("RSPAMD_REJECTED", "reject", REJECTED)


@app.pre_receive(timeout=3, on_failure=setting("RSPAMD_ON_FAILURE", "allow"))
def rspamd(msg: mairust.Message):
    return verdict(check(msg), msg)


def check(msg):
    """What rspamd answers about a message. Whatever goes wrong is a failure of the hook."""
    connection = http.client.HTTPConnection(URL.hostname, URL.port or 11333, timeout=PATIENCE)
    try:
        connection.putrequest("POST", "/checkv2")
        for name, value in [*facts(msg), ("Content-Length", str(len(msg.raw)))]:
            connection.putheader(name, harmless(value))
        connection.endheaders(msg.raw)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"rspamd answered {response.status}")
        return json.loads(answer)
    finally:
        connection.close()


def facts(msg):
    """What is known about a message besides its octets, in the header fields that rspamd has for it."""
    session = msg.session
    yield "From", f"<{msg.envelope.sender}>"
    for recipient in msg.envelope.recipients:
        yield "Rcpt", f"<{recipient}>"
    known = {
        "IP": session.client and session.client.ip,
        "Hostname": session.client and session.client.name,
        "Helo": session.helo,
        "User": session.user,
        # The log of rspamd has the id with which the reply to a sender ends.
        "Queue-Id": msg.invocation_id,
        "Password": PASSWORD,
    }
    yield from ((name, value) for name, value in known.items() if value)


def harmless(text):
    """Octets of a value: strangers choose what is in an envelope, and how they greet."""
    return "".join(one if one.isprintable() else "?" for one in text[:1000]).encode("utf-8", "replace")


def verdict(answer, msg):
    """What an action of rspamd means. `greylist` would be said at every attempt: `soft reject` is what rspamd says while
    it wants the sender to wait."""
    action, score = answer["action"], max(-100.0, min(100.0, answer["score"]))
    symbols = {name: symbol.get("score", 0.0) for name, symbol in sorted(answer.get("symbols", {}).items())}
    reason = f"{action}: {' '.join(symbols)}"[:500]
    msg.set_metadata("action", action)
    msg.set_metadata("score", answer["score"])
    msg.set_metadata("symbols", symbols)
    if action == "soft reject":
        return mairust.tempfail(reply(answer), reason=reason, score=score)
    if action == "reject" and WHEN_REJECTED == "reject":
        return mairust.reject(reply(answer), reason=reason, score=score)
    if action not in ("add header", "rewrite subject", "quarantine", "discard", "reject"):
        return mairust.allow(reason=reason, score=score)
    marks = {"tags": ["spam"], "headers": {"X-Spam": "Yes"}, "reason": reason, "score": score}
    if action in ("add header", "rewrite subject") and WHEN_MARKED == "tag":
        return mairust.allow(**marks)
    # Nothing is dropped: `discard` goes where somebody may still find it.
    return mairust.quarantine(**marks)


def reply(answer):
    """The text for the sender that a rule gives, if a reply can have it."""
    messages = answer.get("messages")
    text = messages.get("smtp_message") if isinstance(messages, dict) else None
    return text if text and text.isascii() and text.isprintable() and len(text) <= 200 else None
