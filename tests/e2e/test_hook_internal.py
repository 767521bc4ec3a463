"""Mail of the server itself, as hooks see it that want to."""

import sys

from conftest import wait_until
from test_hooks import bind_program
from test_policy import ALICE, Site
from test_serve import PASSWORD

BOUNCE = """
import json, sys
request = json.load(sys.stdin)
origin = request["session"]["origin"]
answer = {"verdict": "reject" if origin == "internal" else "allow", "reason": origin, "actions": [
    {"op": "header.add", "name": "X-Seen", "value": origin}]}
json.dump(answer, sys.stdout)
"""


def test_a_bounce_is_shown_to_hooks_that_want_it(servers, sinks, tmp_path):
    sink = sinks(refuse={"gone@remote.example": "550 5.1.1 no such user here"})
    site = Site(servers, tmp_path, delivery={"relay": f"127.0.0.1:{sink.port}"})
    script = tmp_path / "look.py"
    script.write_text(BOUNCE)
    for name, options in (("com.example.all", ["--include-internal", "--required"]), ("com.example.users", [])):
        bind_program(site, name, *options, "--on", "pre_send", "--process", "oneshot", "--timeout", "5s",
                     "--grant=read-headers", "--grant=add-headers=X-Seen", "--grant=decide=reject",
                     program=[sys.executable, script])
    assert site.json("hook", "show", "com.example.all")["include_internal"]

    with site.server.submission(ALICE, PASSWORD) as client:
        client.sendmail(ALICE, ["gone@remote.example"], f"From: {ALICE}\r\nSubject: one\r\n\r\nx\r\n")
        client.sendmail(ALICE, [ALICE], f"From: {ALICE}\r\nSubject: two\r\n\r\nx\r\n", rcpt_options=["NOTIFY=SUCCESS"])

    def notices():
        found = [one for one in site.api.messages(folder="INBOX") if "Mail" in one["subject"]]
        return found if len(found) == 2 else None

    wait_until(notices, "the notices about failure and success")
    for notice in notices():
        assert site.api.raw(notice).count(b"X-Seen: internal\r\n") == 1
    calls = site.json("hook", "deliveries", "com.example.all")
    about = sorted((call["outcome"], call["detail"]) for call in calls)
    assert about == [("allow", "submission")] * 2 + [("reject", "internal")] * 2
    assert {call["message_id"] for call in calls if call["detail"] == "internal"} == {one["id"] for one in notices()}
    assert {call["detail"] for call in site.json("hook", "deliveries", "com.example.users")} == {"submission"}
