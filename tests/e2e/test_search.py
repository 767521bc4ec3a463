"""Search, with mail in every form in which Japanese comes, by clients that we did not write."""

import json
import urllib.parse
from email.header import Header
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from conftest import Api, run, swaks, wait_until
from test_serve import configuration, production


def search(api, query, **parameters):
    path = "/api/v1/search?" + urllib.parse.urlencode({"q": query, **parameters})
    response = api.request("GET", path)
    return response.status, json.loads(response.body)


def subjects(api, query, **parameters):
    status, answer = search(api, query, **parameters)
    assert status == 200, (query, answer)
    return {item["subject"] for item in answer["items"]}


def wait_for(api, query, expected):
    wait_until(lambda: subjects(api, query) == set(expected), f"{query!r} finds {expected}", timeout=60)


@pytest.fixture(scope="module")
def mailbox(dev):
    """A server that has indexed one mail of each kind."""
    jis = MIMEText("お世話になっております。\n添付の請求\n書をご確認ください。\n第3回会議は東京都庁にて。\n", "plain", "iso-2022-jp")
    jis["Subject"] = Header("請求書のご案内", "iso-2022-jp")
    jis["From"] = Header("田中太郎", "iso-2022-jp").encode() + " <tanaka@mail.example.co.jp>"
    html = MIMEText("<html><style>p{color:red}</style><p>見積<b>書</b>を&nbsp;送ります</p>"
                    "<img src='https://tracker.test/pixel.png'></html>", "html", "utf-8")
    html["Subject"] = Header("HTML だけ", "utf-8")
    html["From"] = "sato@b.example"
    attached = EmailMessage()
    attached["Subject"] = "Order INV-2026-00123"
    attached["From"] = "Sales Team <sales@c.example>"
    attached["Cc"] = "boss@c.example"
    attached.set_content("full width ＡＢＣ and half width ｶﾀｶﾅ", cte="base64")
    attached.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="報告書2026年11月.pdf")
    both = MIMEMultipart("alternative")
    both["Subject"] = "Both"
    both["From"] = "news@d.example"
    both.attach(MIMEText("plain words only here", "plain", "utf-8"))
    both.attach(MIMEText("<p>marked words only here</p>", "html", "utf-8"))
    with dev.smtp() as client:
        for mail in (jis, html, attached, both):
            mail["To"] = "alice@example.com"
            data = mail.as_bytes().replace(b"\n", b"\r\n")
            client.sendmail("envelope@sender.example", ["alice@example.com"], data)
    swaks(dev, "--from", "swaks@e.example", "--to", "bob@example.com", "--header", "Subject: by swaks",
          "--body", "今日の会議は中止です")
    wait_for(dev.api, "to:example.com", {"請求書のご案内", "HTML だけ", "Order INV-2026-00123", "Both", "by swaks"})
    return dev.api


@pytest.mark.parametrize("query, expected", [
    ("請求書", {"請求書のご案内"}),
    ("body:請求書", {"請求書のご案内"}),  # broken by a line break there
    ("会議", {"請求書のご案内", "by swaks"}),
    ("京都", {"請求書のご案内"}),  # part of 東京都庁
    ("庁", {"請求書のご案内"}),
    ("from:田中", {"請求書のご案内"}),
    ("from:example.co.jp", {"請求書のご案内"}),
    ("会議 -from:tanaka", {"by swaks"}),
    ("subject:会議", set()),
    ("見積書を", {"HTML だけ"}),
    ("color", set()),
    ("has:remote", {"HTML だけ"}),
    ("has:html -has:remote", {"Both"}),
    ("カタカナ", {"Order INV-2026-00123"}),
    ("abc", {"Order INV-2026-00123"}),
    ("subject:00123", {"Order INV-2026-00123"}),
    ("filename:報告書", {"Order INV-2026-00123"}),
    ("has:attachment cc:boss", {"Order INV-2026-00123"}),
    ("\"plain words\" \"marked words\"", {"Both"}),
    ("\"words plain\"", set()),
    ("domain:c.example OR domain:d.example", {"Order INV-2026-00123", "Both"}),
    ("to:bob in:inbox newer:1h smaller:1M", {"by swaks"}),
    ("to:bob in:junk", set()),
])
def test_queries(mailbox, query, expected):
    assert subjects(mailbox, query) == expected


def test_an_answer_is_that_of_the_list(mailbox):
    status, answer = search(mailbox, "from:tanaka")
    assert (status, answer["backend"], answer["degraded"]) == (200, "sqlite", False)
    assert answer["items"] == mailbox.messages(**{"from": "tanaka"})
    assert metric(mailbox, "mairust_search_indexed_total") >= 5


@pytest.mark.parametrize("query, position", [("会議 OR", 5), ("a form:b", 2), ("\"a", 0), ("is:unread", 0), ("", 0)])
def test_faults_say_where(mailbox, query, position):
    status, problem = search(mailbox, query)
    assert (status, problem["code"], problem["details"]["position"]) == (400, "invalid_query", position)


def test_pages_stay_as_they_are_while_mail_comes_in(servers):
    server = servers()
    send(server, 25)
    wait_for(server.api, "walk limit", {f"walk {number}" for number in range(25)})
    seen, cursor = [], {}
    while True:
        status, page = search(server.api, "walk limit", limit=10, **cursor)
        assert status == 200
        seen += [item["subject"] for item in page["items"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
        send(server, 3, "later")
    assert seen == [f"walk {number}" for number in reversed(range(25))]


def test_what_was_accepted_before_a_crash_is_found_after_it(servers):
    server = servers()
    for round in range(3):
        send(server, 20, f"round {round}")
        server.kill()
        server.start()
    wait_until(lambda: len(all_found(server.api, "limit")) == 60, "all are found", timeout=60)


def test_an_index_that_is_lost_is_made_again(servers):
    server = servers()
    send(server, 30)
    wait_until(lambda: len(all_found(server.api, "walk")) == 30, "all are found")
    assert server.stop() == 0
    files = sorted(server.directory.glob("data/*-search*"))
    assert files
    for file in files:
        file.unlink()
    server.start()
    wait_until(lambda: len(all_found(server.api, "walk")) == 30, "all are found again")
    wait_until(lambda: not search(server.api, "walk")[1]["degraded"], "the index is whole again")


def test_reindexing_under_a_running_server(servers, tmp_path):
    server, key = production(servers, tmp_path)
    api = Api(server.ready["http"], key)
    send(server, 30)
    wait_until(lambda: len(all_found(api, "walk")) == 30, "all are found")
    assert "indexes all messages again" in run("search", "reindex", "-c", tmp_path / "mairust.yaml").stdout
    send(server, 5, "during")
    wait_until(lambda: len(all_found(api, "limit")) == 35, "all are found again", timeout=120)


def test_without_an_index(servers, tmp_path):
    server, key = production(servers, tmp_path, search={"enabled": False})
    api = Api(server.ready["http"], key)
    send(server, 3)
    status, problem = search(api, "walk")
    assert (status, problem["code"]) == (503, "search_unavailable")
    assert len(api.messages(subject="walk")) == 3
    assert not list(tmp_path.glob("data/*-search*"))
    assert server.stop() == 0
    assert run("search", "reindex", "-c", tmp_path / "mairust.yaml", check=False).returncode == 6

    configuration(tmp_path, search={"enabled": False, "fallback": True})
    server.start()
    api = Api(server.ready["http"], key)
    status, answer = search(api, "subject:walk")
    assert (status, answer["backend"], answer["degraded"]) == (200, "rows", True)
    assert len(answer["items"]) == 3
    assert server.stop() == 0

    configuration(tmp_path)
    server.start()
    api = Api(server.ready["http"], key)
    wait_until(lambda: len(all_found(api, "walk")) == 3, "what came in without an index is found")


def send(server, count, what="walk"):
    with server.smtp() as client:
        for number in range(count):
            mail = f"Subject: {what} {number}\r\nFrom: a@x.example\r\n\r\nwalk to the limit\r\n"
            client.sendmail("a@x.example", ["alice@example.com"], mail)


def all_found(api, query):
    status, answer = search(api, query, limit=200)
    assert status == 200, answer
    return answer["items"]


def metric(api, name):
    line = next(line for line in api.bytes("/metrics").decode().splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])
