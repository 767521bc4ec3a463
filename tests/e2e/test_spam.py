"""Spam: the built-in engine, and a real rspamd."""

from email.message import EmailMessage

import pytest
from conftest import Api, swaks
from rspamd import Rspamd
from test_serve import production

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def message(subject, text="Hello,\n\nsee you on Tuesday.\n", **fields):
    mail = EmailMessage()
    mail["From"] = "Bob <bob@sender.example>"
    mail["To"] = "alice@example.com"
    mail["Subject"] = subject
    mail["Date"] = "Sat, 22 Nov 2025 03:04:06 +0000"
    mail["Message-ID"] = f"<{abs(hash(subject))}@sender.example>"
    for name, value in fields.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(text)
    return mail


def deliver(server, mail, sender="bob@sender.example", to="alice@example.com"):
    """The reply to the final dot."""
    with server.smtp() as client:
        client.ehlo("mx.sender.example")
        client.mail(sender)
        assert client.rcpt(to)[0] == 250
        code, text = client.data(mail.as_bytes(policy=mail.policy.clone(linesep="\r\n")))
        return code, text.decode()


def place(api, subject):
    """Folder and X-Spam-Status of the only message with this subject."""
    [found] = api.messages(subject=subject)
    head = api.raw(found).split(b"\r\n\r\n", 1)[0].decode().replace("\r\n\t", " ")
    status = next(line for line in head.splitlines() if line.startswith("X-Spam-Status: "))
    return found["folder"], status, head


@pytest.fixture(scope="module")
def rspamd():
    """One rspamd for the tests that leave it alone."""
    server = Rspamd()
    try:
        yield server.start()
    finally:
        server.remove()


def with_spam(servers, tmp_path, **spam):
    server, key = production(servers, tmp_path, spam=spam)
    return server, Api(server.ready["http"], key)


def test_builtin_engine_is_on_by_default(servers, tmp_path):
    server, api = with_spam(servers, tmp_path)
    refused = swaks(server, "--to", "alice@example.com", "--from", "bob@sender.example", "--body", GTUBE, check=False)
    assert "<** 550 5.7.1 Message refused by policy" in refused.stdout, refused.stdout
    assert api.messages() == []
    assert deliver(server, message("clean"))[0] == 250
    folder, status, _ = place(api, "clean")
    assert folder == "INBOX" and status.startswith("X-Spam-Status: No, score=0.00 action=accept engine=builtin")
    attached = message("attached")
    attached.add_attachment(b"MZ", maintype="application", subtype="octet-stream", filename="請求書.pdf.exe")
    assert deliver(server, attached)[0] == 250
    folder, status, _ = place(api, "attached")
    assert folder == "Quarantine" and "EXECUTABLE_ATTACHMENT(10.00), DOUBLE_EXTENSION(3.00)" in status
    assert deliver(server, message("ご請求書の件 重要！！！", "いつもお世話になっております。\n"))[0] == 250
    folder, status, _ = place(api, "ご請求書の件 重要！！！")
    assert folder == "INBOX" and "tests=none" in status
    metrics = api.request("GET", "/metrics").body.decode()
    assert 'mairust_spam_scans_total{engine="builtin",outcome="reject"} 1' in metrics
    assert 'mairust_spam_scans_total{engine="builtin",outcome="accept"} 2' in metrics


def test_rules_thresholds_and_lists(servers, tmp_path):
    server, api = with_spam(
        servers, tmp_path, default_rules="drop",
        thresholds={"tag": 1, "junk": 2, "quarantine": 3, "reject": "never"},
        rules=[{"name": "ONE", "score": 1, "part": "header", "header": "X-One", "is": "present"},
               {"name": "TWO", "score": 2, "part": "body", "regex": "\\btwo\\b"},
               {"name": "BIG", "score": -1, "part": "size", "over": "1MiB"}],
        allow=["friend@blocked.example", "192.0.2.0/24"], block=["*.blocked.example", "blocked.example"], blocked="junk")
    for subject, text, fields, folder, verdict in [
        ("none", "x", {}, "INBOX", "No"),
        ("gtube", GTUBE, {}, "INBOX", "No"),
        ("tagged", "x", {"X_One": "1"}, "INBOX", "Yes"),
        ("junk", "two", {}, "Junk", "Yes"),
        ("quarantined", "two", {"X_One": "1"}, "Quarantine", "Yes"),
        ("forgiven", "two " * 400_000, {}, "INBOX", "Yes"),
    ]:
        assert deliver(server, message(subject, text, **fields))[0] == 250
        found, status, _ = place(api, subject)
        assert found == folder and status.startswith(f"X-Spam-Status: {verdict}, "), (subject, status)
    for sender, folder, rule in [("x@blocked.example", "Junk", "BLOCK_LIST"), ("x@a.blocked.example", "Junk", "BLOCK_LIST"),
                                 ("friend@blocked.example", "INBOX", "ALLOW_LIST")]:
        assert deliver(server, message(sender, "two", X_One="1"), sender=sender)[0] == 250
        found, status, _ = place(api, sender)
        assert found == folder and rule in status, (sender, status)


def test_lists_hold_without_an_engine(servers, tmp_path):
    server, api = with_spam(servers, tmp_path, engine="none", block=["127.0.0.0/8"], allow=["friend@a.example"])
    assert deliver(server, message("blocked", GTUBE)) == (550, "5.7.1 Message refused by policy")
    assert api.messages() == []
    assert deliver(server, message("allowed", GTUBE), sender="friend@a.example")[0] == 250
    folder, status, _ = place(api, "allowed")
    assert folder == "INBOX" and "engine=lists host=mx.example.com tests=ALLOW_LIST(0.00)" in status


def test_no_engine_leaves_mail_alone(servers, tmp_path):
    server, api = with_spam(servers, tmp_path, engine="none")
    assert deliver(server, message("gtube", GTUBE))[0] == 250
    [found] = api.messages()
    assert found["folder"] == "INBOX" and b"X-Spam-Status" not in api.raw(found)


def test_dev_only_tags(dev):
    assert deliver(dev, message("gtube for a developer", GTUBE), to="anyone@anywhere.example")[0] == 250
    folder, status, _ = place(dev.api, "gtube for a developer")
    assert folder == "INBOX" and status.startswith("X-Spam-Status: Yes, score=1000.00 action=tag")


def test_rspamd_refuses_gtube_and_lets_clean_mail_pass(rspamd, servers, tmp_path):
    server, api = with_spam(servers, tmp_path, engine="rspamd", rspamd={"url": rspamd.url})
    code, text = deliver(server, message("gtube", GTUBE))
    assert (code, text[:5]) == (550, "5.7.1"), text
    assert deliver(server, message("clean", X_Spam_Status="No, forged"))[0] == 250
    folder, status, head = place(api, "clean")
    assert folder == "INBOX" and "engine=rspamd host=mx.example.com" in status
    facts = next(line for line in head.splitlines() if line.startswith("X-Test-Facts: "))
    assert facts.startswith("X-Test-Facts: ip=127.0.0.1 helo=mx.sender.example from=bob@sender.example rcpt=alice@example.com")
    metrics = api.request("GET", "/metrics").body.decode()
    assert 'mairust_spam_scans_total{engine="rspamd",outcome="reject"} 1' in metrics


def test_rspamd_gets_a_spooled_message_whole(rspamd, servers, tmp_path):
    server, api = with_spam(servers, tmp_path, engine="rspamd", rspamd={"url": rspamd.url})
    large = message("large", "".join(f"line {number} of a large message\n" for number in range(100_000)))
    assert deliver(server, large)[0] == 250
    _, _, head = place(api, "large")
    size = len(large.as_bytes(policy=large.policy.clone(linesep="\r\n")))
    assert size > 3_000_000 and f"size={size}" in head, head


@pytest.mark.parametrize("action, code, folder, verdict", [
    ("no action", 250, "INBOX", "No"),
    ("greylist", 250, "INBOX", "No"),
    ("add header", 250, "Junk", "Yes"),
    ("rewrite subject", 250, "Junk", "Yes"),
    ("soft reject", 451, None, None),
    ("reject", 550, None, None),
])
def test_every_action_of_rspamd(action, code, folder, verdict, rspamd, servers, tmp_path):
    server, api = with_spam(servers, tmp_path, engine="rspamd", rspamd={"url": rspamd.url})
    answer, text = deliver(server, message(action, X_Test_Action=action))
    assert answer == code, text
    if folder is None:
        assert text == {451: "4.7.1 ", 550: "5.7.1 "}[code] + f"forced: {action}" and api.messages() == []
    else:
        found, status, head = place(api, action)
        assert found == folder and status.startswith(f"X-Spam-Status: {verdict}, ")
        assert f"Subject: {action}" in head, "the message itself is never changed"


def test_actions_may_mean_something_else(rspamd, servers, tmp_path):
    server, api = with_spam(servers, tmp_path, engine="rspamd",
                            rspamd={"url": rspamd.url, "marked": "tag", "rejected": "quarantine"})
    for action, folder in [("add header", "INBOX"), ("reject", "Quarantine")]:
        assert deliver(server, message(action, X_Test_Action=action))[0] == 250
        assert place(api, action)[0] == folder


def test_builtin_rules_stand_in_for_a_dead_rspamd(servers, tmp_path):
    own = Rspamd()
    try:
        own.start()
        server, api = with_spam(servers, tmp_path, engine="rspamd", rspamd={"url": own.url})
        assert deliver(server, message("alive"))[0] == 250
        assert "engine=rspamd" in place(api, "alive")[1]
        own.kill()
        for number in range(5):  # three failures, and then it is not even asked
            assert deliver(server, message(f"dead {number}"))[0] == 250
            assert "engine=builtin" in place(api, f"dead {number}")[1]
        assert deliver(server, message("gtube", GTUBE)) == (550, "5.7.1 Message refused by policy")
        log = server.log()
        assert "no connection" in log and "failed too often lately" in log
    finally:
        own.remove()


def test_451_for_a_dead_rspamd(servers, tmp_path):
    nobody = Rspamd()
    try:
        server, api = with_spam(servers, tmp_path, engine="rspamd", rspamd={"url": nobody.url, "on_failure": "tempfail"})
        assert deliver(server, message("x")) == (451, "4.3.0 Temporary failure, please try again later")
        nobody.start()
        assert deliver(server, message("x"))[0] == 250
        assert place(api, "x")[0] == "INBOX"
    finally:
        nobody.remove()


def test_a_frozen_rspamd_costs_its_time_and_no_mail(servers, tmp_path):
    own = Rspamd()
    try:
        own.start()
        server, api = with_spam(servers, tmp_path, engine="rspamd", rspamd={"url": own.url, "timeout": "2s"})
        own.freeze()
        assert deliver(server, message("frozen"))[0] == 250
        assert "engine=builtin" in place(api, "frozen")[1]
        assert "no answer within 2s" in server.log()
        own.thaw()
        assert deliver(server, message("thawed", X_Test_Action="reject")) == (550, "5.7.1 forced: reject")
    finally:
        own.remove()


def test_a_wrong_rule_stops_the_start(tmp_path):
    from conftest import run
    from test_serve import configuration

    config = configuration(tmp_path, spam={"rules": [{"name": "A", "score": 1, "part": "body", "regex": "("}],
                                           "rspamd": {"url": "https://rspamd.example"}})
    result = run("config", "check", "-c", config, check=False)
    assert result.returncode == 3
    assert "spam.rules[0].regex: not a regular expression" in result.stderr
    assert "spam.rspamd.url" in result.stderr
