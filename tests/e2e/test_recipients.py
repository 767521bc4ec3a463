"""Aliases, catch-alls, tags, quotas and states, set up by the command line and seen by clients."""

import json
import smtplib

import pytest
from conftest import Api, run, swaks, wait_until
from test_serve import PASSWORD, configuration

MESSAGE = "From: bob@sender.example\r\nSubject: {}\r\n\r\nx\r\n"


class Site:
    """A server of `mairust serve` and the commands of its operator."""

    def __init__(self, servers, tmp_path, **sections):
        self.config = configuration(tmp_path, **sections)
        self.run("domain", "add", "example.com")
        self.user("alice@example.com")
        self.key = json.loads(self.run("apikey", "create", "tests", "-o", "json").stdout)["key"]
        self.server = servers("-c", self.config, command="serve")
        self.api = Api(self.server.ready["http"], self.key)

    def run(self, *arguments, **options):
        return run(*arguments, "-c", self.config, **options)

    def user(self, address, *arguments):
        self.run("user", "add", address, "--password-stdin", *arguments, input=PASSWORD)

    def send(self, to, subject="x", sender="bob@sender.example"):
        """Sends to one or several addresses in one transaction; the codes in answer to each RCPT."""
        client = self.server.smtp()
        client.ehlo()
        client.mail(sender)
        answers = [client.rcpt(address) for address in ([to] if isinstance(to, str) else to)]
        if any(code == 250 for code, _ in answers):
            assert client.data(MESSAGE.format(subject).encode())[0] == 250
        client.quit()
        return [f"{code} {text.decode().split()[0]}" for code, text in answers]

    def inbox(self, **filters):
        return self.api.messages(folder="INBOX", **filters)


@pytest.fixture
def site(servers, tmp_path):
    return lambda **sections: Site(servers, tmp_path, **sections)


def relay(sink):
    return {"relay": f"127.0.0.1:{sink.port}", "retry_first": "1s"}


def test_aliases_lead_here_and_elsewhere(site, sinks):
    sink = sinks()
    here = site(delivery=relay(sink))
    here.user("dave@example.com")
    here.run("alias", "add", "team@example.com", "alice@example.com", "DAVE@example.com", "carol@remote.example")
    here.run("alias", "add", "all@example.com", "team@example.com", "alice+all@example.com", "Carol@remote.example",
             "erin@other.example")
    assert here.send(["All@Example.COM", "team@example.com", "alice@example.com"], "list") == ["250 2.1.5"] * 3
    received = sink.wait_for(2)
    assert sorted(address.lower() for mail in received for address in mail["to"]) == ["carol@remote.example", "erin@other.example"]
    for mail in received:
        assert mail["from"] == "bob@sender.example"
        assert b"Return-Path" not in mail["data"] and mail["data"].count(b"Received:") == 1
    kept = here.inbox(subject="list")
    assert [message["address"] for message in kept] == ["All@example.com"] * 2
    assert len({message["mailbox_id"] for message in kept}) == 2
    wait_until(lambda: here.api.messages(direction="outbound", status="sent"), "all sent on")
    # One is enough for all that is sent on.
    sent = here.api.messages(direction="outbound")
    assert [message["address"] for message in sent] == ["All@example.com"]
    states = here.api.json(f"/api/v1/sends/{sent[0]['id']}")["recipients"]
    assert {state["status"] for state in states} == {"delivered"}


def test_the_null_sender_stays_null(site, sinks):
    sink = sinks()
    here = site(delivery=relay(sink))
    here.run("alias", "add", "away@example.com", "carol@remote.example")
    swaks(here.server, "--from", "<>", "--to", "away@example.com")
    assert sink.wait_for(1)[0]["from"] == "<>"


def test_a_sender_hears_of_what_could_not_be_sent_on(site, sinks):
    sink = sinks(refuse={"gone@remote.example": "550 5.1.1 nobody of this name"})
    here = site(delivery=relay(sink))
    here.run("alias", "add", "away@example.com", "gone@remote.example", "alice@example.com")
    assert here.send("away@example.com", "lost")[0].startswith("250")
    notice = sink.wait_for(1)[0]
    assert (notice["from"], notice["to"]) == ("<>", ["bob@sender.example"])
    assert b"gone@remote.example" in notice["data"] and b"nobody of this name" in notice["data"]
    assert len(here.inbox(subject="lost")) == 1
    # A notice about a notice is never sent.
    swaks(here.server, "--from", "<>", "--to", "away@example.com")
    wait_until(lambda: len(here.api.messages(status="failed")) == 2, "the second failure")
    assert len(sink.received) == 1


def test_users_write_to_aliases(site, sinks):
    sink = sinks()
    here = site(delivery=relay(sink))
    here.run("alias", "add", "list@example.com", "alice@example.com", "carol@remote.example")
    client = here.server.submission("alice@example.com", PASSWORD)
    client.sendmail("alice@example.com", ["list@example.com"], "From: alice@example.com\r\nSubject: to all\r\n\r\nx\r\n")
    client.quit()
    assert sink.wait_for(1)[0]["to"] == ["carol@remote.example"]
    assert len(here.inbox(subject="to all")) == 1
    sent = here.api.send({"from": "alice@example.com", "to": ["list@example.com"], "subject": "by api", "text": "x"})
    assert [state["status"] for state in sent["recipients"]] == ["stored"]
    assert sink.wait_for(2)[1]["from"] == "alice@example.com"


def test_senders_right_follows_the_aliases(site):
    here = site()
    here.user("dave@example.com")
    here.run("domain", "add", "example.org", "--alias-of", "example.com")
    here.run("alias", "add", "sales@example.com", "alice@example.com")
    here.run("alias", "add", "team@example.com", "alice@example.com", "dave@example.com")
    client = here.server.submission("alice@example.com", PASSWORD)
    for sender, code in [
        ("Alice@example.com", 250), ("alice+shop@example.com", 250), ("alice@example.org", 250),
        ("sales@example.org", 250), ("team@example.com", 553), ("dave@example.com", 553), ("alice@remote.example", 553),
    ]:
        assert client.mail(sender)[0] == code, sender
        client.rset()
    # Who is locked while logged in may not go on.
    here.run("user", "lock", "alice@example.com")
    assert client.mail("alice@example.com")[0] == 553
    client.quit()


def test_loops_and_dead_ends_are_refused(site):
    here = site()
    here.run("alias", "add", "a@example.com", "b@example.com")
    here.run("alias", "add", "b@example.com", "c@example.com")
    here.run("alias", "add", "c@example.com", "a@example.com")
    here.run("alias", "add", "dead@example.com", "nobody@example.com")
    assert here.send("a@example.com")[0].startswith("550 5.4.6")
    assert here.send("dead@example.com")[0].startswith("550 5.2.4")
    assert "alias can't be followed" in here.server.log()
    # Where a way leads out of the loop, mail takes it.
    here.run("alias", "add", "d@example.com", "a@example.com", "alice@example.com")
    assert here.send("d@example.com")[0].startswith("250")
    assert len(here.inbox()) == 1


def test_tags_catch_all_and_domain_alias(site):
    here = site()
    here.user("dave@example.com")
    here.run("domain", "add", "example.org", "--alias-of", "example.com")
    assert here.send(["alice+news@example.com", "ALICE@Example.ORG"]) == ["250 2.1.5"] * 2
    assert [message["address"] for message in here.inbox()] == ["alice+news@example.com"]
    for unknown in ("nobody@example.com", "nobody@example.org"):
        assert here.send(unknown)[0].startswith("550 5.1.1")
    here.run("domain", "set", "example.com", "--catch-all", "dave@example.com")
    assert here.send(["nobody@example.com", "nobody+x@example.org"], "caught") == ["250 2.1.5"] * 2
    assert [message["address"] for message in here.inbox(subject="caught")] == ["nobody@example.com"]
    here.run("domain", "set", "example.com", "--no-catch-all")
    assert here.send("nobody@example.com")[0].startswith("550 5.1.1")
    listed = json.loads(here.run("domain", "list", "-o", "json").stdout)
    assert {(row["name"], row["alias_of"]) for row in listed} == {("example.com", None), ("example.org", "example.com")}


def test_a_full_mailbox_is_temporary_until_there_is_room(site):
    here = site(mailboxes={"quota": "2KiB"})
    client = here.server.smtp()
    client.sendmail("bob@sender.example", ["alice@example.com"], MESSAGE.format("large") + "x" * 900 + "\r\n" + "y" * 900)
    assert here.send("alice@example.com")[0].startswith("452 4.2.2")
    client.ehlo()
    client.mail("bob@sender.example", ["SIZE=3000"])
    assert client.rcpt("alice@example.com")[0] == 552
    client.quit()
    shown = json.loads(here.run("user", "list", "-o", "json").stdout)[0]
    assert shown["quota"] == "default" and shown["used"] == sum(message["size"] for message in here.api.messages())
    here.run("user", "set-quota", "alice@example.com", "1MiB")
    assert here.send("alice@example.com")[0].startswith("250")
    for quota, answer in [("10B", "452 4.2.2"), ("none", "250"), ("default", "452 4.2.2")]:
        here.run("user", "set-quota", "alice@example.com", quota)
        assert here.send("alice@example.com")[0].startswith(answer), quota


def test_what_is_disabled_takes_no_mail_and_nobody_in(site):
    here = site()
    here.user("dave@example.com")
    here.run("alias", "add", "info@example.com", "alice@example.com")

    def login(user, password=PASSWORD):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            here.server.submission(user, password)
        return refused.value.smtp_code, refused.value.smtp_error

    here.run("user", "lock", "dave@example.com")
    assert here.send("dave@example.com")[0].startswith("550 5.2.1")
    assert login("dave@example.com") == login("alice@example.com", "wrong password")
    here.run("user", "unlock", "dave@example.com")
    assert here.send("dave@example.com")[0].startswith("250")
    here.server.submission("dave@example.com", PASSWORD).quit()
    here.run("alias", "set", "info@example.com", "--disable")
    assert here.send("info@example.com")[0].startswith("550 5.2.1")
    here.run("alias", "rm", "info@example.com")
    assert here.send("info@example.com")[0].startswith("550 5.1.1")
    here.run("domain", "set", "example.com", "--disable")
    assert here.send("alice@example.com")[0].startswith("550 5.2.1")
    here.run("domain", "set", "example.com", "--enable")
    here.run("tenant", "suspend", "default")
    assert here.send("alice@example.com")[0].startswith("550 5.2.1")
    assert login("alice@example.com")[0] == 535
    assert here.api.request("GET", "/api/v1/messages").status == 401
    here.run("tenant", "resume", "default")
    assert here.send("alice@example.com")[0].startswith("250")


def test_tenants_do_not_mix(site):
    here = site()
    here.run("tenant", "add", "other")
    here.run("domain", "add", "other.example", "--tenant", "other")
    here.user("carol@other.example", "--tenant", "other")
    assert here.send(["alice@example.com", "carol@other.example"]) == [
        "250 2.1.5", "452 4.5.3"]
    assert here.send("carol@other.example") == ["250 2.1.5"]
    assert len(here.api.messages()) == 1, "what is the other tenant's is not ours to see"
    across = here.run("alias", "add", "x@example.com", "carol@other.example", check=False)
    assert across.returncode == 2 and "another tenant" in across.stderr
    for command in (["user", "lock", "carol@other.example"], ["domain", "set", "other.example", "--disable"],
                    ["alias", "rm", "carol@other.example"]):
        assert here.run(*command, check=False).returncode == 5, command
    assert [row["name"] for row in json.loads(here.run("tenant", "list", "-o", "json").stdout)] == ["default", "other"]


def test_the_postmaster_is_always_there(site):
    here = site()
    assert here.send(["postmaster", "PostMaster@example.com", "postmaster@EXAMPLE.com"]) == ["250 2.1.5"] * 3
    assert {message["mailbox_id"] for message in here.inbox()} == {here.inbox()[0]["mailbox_id"]}
    here.user("dave@example.com")
    here.run("alias", "add", "postmaster@example.com", "dave@example.com")
    here.send("postmaster@example.com", "to dave")
    assert here.inbox(subject="to dave")[0]["mailbox_id"] != here.inbox(subject="x")[0]["mailbox_id"]
    assert here.send("postmaster@remote.example")[0].startswith("550 5.7.1")


def test_a_server_without_a_postmaster_says_so(servers, tmp_path):
    server = servers("-c", configuration(tmp_path), command="serve")
    assert "server.postmaster" in server.log()
    client = server.smtp()
    client.ehlo()
    client.mail("bob@sender.example")
    assert client.docmd("RCPT TO:<postmaster>")[0] == 550


def test_international_domains_have_two_forms(site):
    here = site()
    made = here.run("domain", "add", "例え.jp")
    assert "例え.jp (xn--r8jz45g.jp)" in made.stdout
    assert here.run("domain", "add", "XN--R8JZ45G.JP", check=False).returncode == 6
    here.user("taro@例え.jp")
    assert here.send("taro@xn--r8jz45g.jp") == ["250 2.1.5"]
    here.run("domain", "add", "例え.テスト", "--alias-of", "xn--r8jz45g.jp")
    assert here.send("taro@xn--r8jz45g.xn--zckzah") == ["250 2.1.5"]
    assert "例え.テスト" in here.run("domain", "list").stdout


def test_commands_have_clear_answers(site):
    here = site()
    here.run("alias", "add", "info@example.com", "alice@example.com")
    for code, arguments, words in [
        (6, ["alias", "add", "info@example.com", "x@remote.example"], "taken"),
        (6, ["alias", "add", "alice@example.com", "x@remote.example"], "taken"),
        (6, ["tenant", "add", "default"], "already"),
        (5, ["alias", "add", "x@nowhere.example", "alice@example.com"], "domain add"),
        (5, ["alias", "rm", "x@example.com"], "alias list"),
        (5, ["domain", "set", "nowhere.example", "--disable"], "domain add"),
        (5, ["domain", "add", "x.example", "--alias-of", "nowhere.example"], "domain add"),
        (5, ["user", "list", "--tenant", "nobody"], "tenant add"),
        (5, ["sender", "rm", "x@example.com"], "sender list"),
        (2, ["alias", "add", "x@example.com", "X@example.com"], "itself"),
        (2, ["alias", "add", "x@example.com"], "TARGET"),
        (2, ["domain", "set", "example.com"], "nothing to change"),
        (2, ["user", "set-quota", "alice@example.com", "much"], "5GiB"),
        (2, ["sender", "block", "a b"], "address"),
    ]:
        result = here.run(*arguments, check=False)
        assert (result.returncode, words in result.stderr) == (code, True), (arguments, result.stderr)
    here.run("sender", "block", "*.Spam.example")
    here.run("sender", "allow", "friend@remote.example")
    rules = json.loads(here.run("sender", "list", "-o", "json").stdout)
    assert rules == [{"pattern": "*.spam.example", "action": "block"}, {"pattern": "friend@remote.example", "action": "allow"}]
    here.run("sender", "rm", "*.spam.EXAMPLE")
    assert here.run("sender", "list").stdout == "allow friend@remote.example\n"
    assert here.run("alias", "list").stdout == "info@example.com -> alice@example.com\n"
