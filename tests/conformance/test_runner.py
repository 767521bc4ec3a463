"""Proves the runner: a server that keeps the rules is green everywhere, and each fault of `broken.py` turns its own
cells red and no others."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

import broken
import cases  # noqa: F401  registers them
import report
from stores import FileStore, Maildir, Mbox, SinkFolder, open_store
from suite import CASES, FAIL, INCONCLUSIVE, NOT_OFFERED, PASS, Run, Target

RUNNER = pathlib.Path(__file__).with_name("run.py")

# Faults that only a submission server can have.
SUBMISSION = set(
    """
    as-another auth-again auth-in-the-clear auth-in-transaction auth-without-challenge login-fails no-auth-needed
    says-esmtps strange-auth-errors wrong-password
    """.split()
)

# The cases in which a message must be stored exactly once.
DELIVERIES = set(
    """
    helo-message rset two-messages errors unknown-then-good null-sender source-route message empty-message
    dot-on-first-line dots line-998 blank-lines eight-bit eight-bit-undeclared fragments-1 fragments-2
    fragments-7 fragments-4096 message-64k bare-line-ends-in-data pipelined-envelope pipelined-rset utf8-message
    starttls-message starttls-failed-handshake bdat-chunks bdat-zero-last bdat-fragments bdat-rset binarymime
    return-path return-path-forged received received-smtp received-esmtp received-esmtps loop-not-yet
    """.split()
)

# The cells that each fault of the broken server turns red; all others must not be red.
RED = {
    "accepts-bad-bdat": "bdat-size",
    "accepts-bad-size": "size-not-a-number",
    "accepts-control-characters": "control-characters",
    "accepts-junk-paths": "junk-paths",
    "accepts-unknown": "unknown-recipient relay-percent relay-quoted-at relay-bang pipelined-refusal",
    "accepts-unknown-parameters": (
        "unknown-mail-parameter unknown-rcpt-parameter dsn-parameters requiretls-in-the-clear"
    ),
    "accepts-utf8": "utf8-without-parameter",
    "as-another": "auth-as-another",
    "auth-again": "auth-twice",
    "auth-everywhere": "auth-on-mx",
    "auth-in-the-clear": "auth-in-the-clear auth-in-the-clear-refused",
    "auth-in-transaction": "auth-in-transaction",
    "auth-without-challenge": "auth-plain-challenge auth-cancelled",
    "bare-cr-commands": "bare-cr-in-command",
    "bare-lf-commands": "bare-lf-in-command",
    "bdat-not-drained": "bdat-without-recipients bdat-too-large",
    "binarymime-by-data": "binarymime-data",
    "changes-8bit": "eight-bit eight-bit-undeclared utf8-message binarymime",
    "cuts-long-lines": "line-998",
    "data-after-bdat": "bdat-then-data",
    "data-without-recipients": "data-before-rcpt pipelined-refusal",
    "delivers-loops": "loop",
    "drops-empty": "empty-message",
    "eats-first-dot": "dot-on-first-line",
    "ends-at-cr-dot-cr": "smuggling-cr-dot-cr smuggling-cr-dot-crlf smuggling-crlf-cr-dot-crlf",
    "ends-at-cr-dot-crlf": "smuggling-cr-dot-crlf smuggling-crlf-cr-dot-crlf",
    "ends-at-cr-dot-lf": "smuggling-cr-dot-lf",
    "ends-at-crlf-cr-dot-crlf": "smuggling-crlf-cr-dot-crlf",
    "ends-at-crlf-dot-cr": "smuggling-crlf-dot-cr smuggling-crlf-dot-cr-crlf",
    "ends-at-crlf-dot-cr-crlf": "smuggling-crlf-dot-cr-crlf",
    "ends-at-crlf-dot-lf": "smuggling-crlf-dot-lf",
    "ends-at-crlf-dot-nul-crlf": "smuggling-crlf-dot-nul-crlf",
    "ends-at-crlf-dot-space-crlf": "smuggling-crlf-dot-space-crlf",
    "ends-at-crlf-nul-dot-crlf": "smuggling-crlf-nul-dot-crlf",
    "ends-at-lf-dot-cr": "smuggling-lf-dot-cr smuggling-crlf-dot-cr smuggling-crlf-dot-cr-crlf",
    "ends-at-lf-dot-crlf": "smuggling-lf-dot-crlf smuggling-stuffed-dot-lf-dot-crlf",
    "ends-at-lf-dot-lf": "smuggling-lf-dot-lf smuggling-crlf-dot-lf",
    "executes-http": "http-request",
    "executes-oversized": "data-too-large",
    "hangs-on-vrfy": "vrfy",
    "helo-with-extensions": "helo",
    "hundred-is-too-much": "hundred-recipients",
    "idn-by-spelling": "utf8-labels",
    "ignores-starttls-parameter": "starttls-offered",
    "keeps-ehlo": "starttls-forgets-ehlo",
    "keeps-envelope": "starttls-forgets-envelope",
    "keeps-plaintext": "starttls-injection",
    "keeps-transaction-at-ehlo": "ehlo-resets",
    "knows-no-postmaster": "postmaster",
    "lf-in-replies": "replies",
    "login-fails": "auth-login",
    "loses-last-chunk": "bdat-chunks bdat-fragments binarymime",
    "mail-before-ehlo": "mail-before-ehlo starttls-forgets-ehlo",
    "names-nobody": "greeting ehlo-lines",
    "needs-a-name": "ehlo-address-literal",
    "needs-domain-in-lower-case": "domain-case",
    "nested-mail": "nested-mail",
    "no-argument-for-noop": "noop",
    "no-atoms": "quoted-local-part unusual-local-part",
    "no-auth-needed": "mail-before-auth mail-before-tls auth-wrong-password",
    "no-ehlo-name-needed": "ehlo-without-name",
    "no-enhanced-code": "enhanced-everywhere",
    "no-limit": "data-too-large bdat-too-large",
    "no-literals": "address-literal",
    "no-long-lines": "line-512",
    "no-long-paths": "long-path",
    "no-null-sender": "null-sender",
    "no-quoted-pairs": "quoted-local-part",
    "no-received": "received",
    "no-requiretls": "requiretls",
    "no-return-path": "null-sender empty-message return-path return-path-forged",
    "no-smtputf8": "utf8-address utf8-labels",
    "no-trailing-space": "trailing-space",
    "old-tls": "no-tls-1.0 no-tls-1.1",
    "quits-silently": (
        "data-before-mail data-before-rcpt help quit unknown-command split-command empty-message "
        "size-declared-too-large pipelined-refusal pipelined-in-pieces starttls-twice bdat-without-recipients "
        "quit-in-transaction"
    ),
    "rcpt-before-mail": "ehlo-resets rcpt-before-mail",
    "relays": "relay relay-source-route relay-long-source-route relay-literal relay-from-local-sender",
    "relays-bare": "relay-bare-bang relay-bare-percent",
    "relays-percent": "relay-percent",
    "relays-two-ats": "relay-two-ats relay-two-ats-reversed",
    "reset-ignored": (
        "rset quoted-local-part unusual-local-part size-declared pipelined-rset 8bitmime-parameters bdat-rset"
    ),
    "rset-keeps-chunks": "bdat-rset",
    "says-esmtps": "received-esmtpsa",
    "says-smtp": "received-esmtp received-esmtps",
    "size-is-a-word": "size-announced",
    "size-wraps": "size-of-20-digits",
    "splits-long-lines": "long-line",
    "starttls-twice": "starttls-twice",
    "stores-unfinished": "close-in-data close-in-line close-after-dot close-after-dot-cr reset-in-data",
    "stores-unfinished-chunks": "bdat-close",
    "strange-auth-errors": "auth-cancelled auth-bad-base64 auth-unknown-mechanism",
    "strange-ehlo": "ehlo-lines",
    "strange-limits": "limits",
    "takes-any-utf8": "utf8-invalid",
    "takes-half-commands": "half-command",
    "too-many-is-550": "too-many-recipients",
    "unstuffs-nothing": "dot-on-first-line dots line-998 fragments-1 fragments-2 fragments-7 fragments-4096",
    "upper-case-only": "case-of-commands",
    "wrong-class": "enhanced-class",
    "wrong-password": "auth-wrong-password auth-empty",
}

RED = {fault: set(identifiers.split()) for fault, identifiers in RED.items()}
RED["delivers-twice"] = DELIVERIES
RED["accepts-everything"] = DELIVERIES | {"same-recipient-twice", "too-many-recipients"}


def target(server, profile, maildir):
    return Target(
        host="127.0.0.1",
        port=server.port,
        store=Maildir(maildir),
        profile=profile,
        unknown_recipient="nobody@example.com",
        foreign_recipient="eve@elsewhere.example",
        idn_recipient="alice@grün.example",
        tls=True,
        user=broken.USER,
        password=broken.PASSWORD,
        timeout=2,
        patience=0.1,
    )


def outcomes(faults, profile, certificate):
    """The outcome and note of each case against a broken server."""
    with tempfile.TemporaryDirectory() as maildir:
        with broken.Server(maildir, faults, profile == "submission", certificate) as server:
            results = Run(target(server, profile, maildir)).execute()
    return {result.case.id: (result.outcome, result.note) for result in results}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return broken.make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def by_fault(certificate):
    """The outcomes for each fault. Runs side by side, because much of a run is waiting."""
    with concurrent.futures.ProcessPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        running = {
            fault: pool.submit(outcomes, [fault], "submission" if fault in SUBMISSION else "mx", certificate)
            for fault in broken.FAULTS
        }
        return {fault: future.result() for fault, future in running.items()}


def red(results):
    return {identifier for identifier, (outcome, _) in results.items() if outcome == FAIL}


@pytest.mark.parametrize("profile", ["mx", "submission"])
def test_a_server_that_keeps_the_rules_is_green(profile, certificate):
    results = outcomes([], profile, certificate)
    others = {identifier: result for identifier, result in results.items() if result[0] != PASS}
    # A server that refuses MAIL before AUTH has no transaction in which AUTH could be wrong.
    assert set(others) <= {"auth-in-transaction"}, others


@pytest.mark.parametrize("fault", sorted(broken.FAULTS))
def test_a_fault_turns_its_cells_red(fault, by_fault):
    results = by_fault[fault]
    assert red(results) == RED[fault], {name: result for name, result in results.items() if result[0] == FAIL}


def test_every_case_can_be_red():
    assert {case.id for case in CASES} == set().union(*RED.values())


def test_absence_says_nothing_where_nothing_is_stored(by_fault):
    outcome, note = by_fault["accepts-everything"]["smuggling-lf-dot-lf"]
    assert outcome == INCONCLUSIVE and "cannot be told" in note


def test_what_is_not_announced_is_no_failure(by_fault):
    assert by_fault["no-received"]["received-esmtp"][0] == NOT_OFFERED


def test_a_run_that_takes_too_long_ends(tmp_path, certificate):
    with broken.Server(tmp_path, [], certificate=certificate) as server:
        slow = target(server, "mx", tmp_path)
        slow.run_timeout = 0
        results = Run(slow).execute()
    assert {result.outcome for result in results} == {INCONCLUSIVE}


def run(*arguments):
    return subprocess.run([sys.executable, RUNNER, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_the_command_line(tmp_path, certificate):
    with broken.Server(tmp_path / "mail", ["nested-mail"], certificate=certificate) as server:
        address = f"127.0.0.1:{server.port}"
        common = (address, "--store", f"maildir:{tmp_path}/mail", "--name", "Broken")
        good = run(*common, "--case", "rset")
        assert good.returncode == 0 and " 0 fail " in good.stdout, good.stdout + good.stderr
        bad = run(*common, "--case", "nested", "--json", tmp_path / "a.json")
    assert bad.returncode == 1 and "nested-mail" in bad.stdout and "1 fail" in bad.stdout
    assert json.loads((tmp_path / "a.json").read_text())["results"][0]["outcome"] == FAIL
    table = run("--render", tmp_path / "a.json").stdout
    assert "| `nested-mail` |" in table and "| Broken |" in table and "250 2.1.0 ok" in table
    assert run(address, "--store", f"maildir:{tmp_path}/mail").returncode == 2, "nobody listens any more"
    assert run(address, "--store", "nonsense").returncode == 2


MESSAGE = b"Subject: one token\n\nFrom here\n>From there\n"


def test_stores_show_whole_messages(tmp_path):
    mbox = tmp_path / "mbox"
    mbox.write_bytes(
        b"From a@b Tue\n"
        + MESSAGE.replace(b">From", b">>From").replace(b"\nFrom", b"\n>From")
        + b"\nFrom a@b Tue\nSubject: two\n\nx\n\n"
    )
    assert [found.raw for found in Mbox(mbox).find(b"token")] == [MESSAGE]

    (tmp_path / "files").mkdir()
    (tmp_path / "files/1.eml").write_bytes(MESSAGE.replace(b"\n", b"\r\n"))
    store = FileStore(tmp_path / "files")
    assert store.find(b"token") == [], "a file that may still grow"
    assert [found.raw for found in store.find(b"token")] == [MESSAGE]

    (tmp_path / "sink").mkdir()
    (tmp_path / "sink/1").write_bytes(
        b"X-Client-Addr: 127.0.0.1\nX-Mail-Args: <a@b>\nX-Rcpt-Args: <c@d>\n" + MESSAGE + b"\n"
    )
    store = SinkFolder(tmp_path / "sink")
    store.find(b"token")
    assert [found.fields("Return-Path") for found in store.find(b"token")] == [["<a@b>"]]

    with pytest.raises(ValueError):
        open_store("maildir:")
    with pytest.raises(ValueError):
        open_store("api:http://127.0.0.1:1")


def test_a_table_of_two_servers():
    row = {"id": "a", "source": "RFC 1", "sentence": "A | B.", "note": "<x>"}
    reports = [
        {"server": name, "profile": "mx", "results": [{**row, "outcome": outcome}]}
        for name, outcome in (("One", FAIL), ("Two", PASS))
    ]
    table = report.markdown(reports)
    assert "| case | rule | One | Two |" in table
    assert "| `a` | A \\| B. RFC 1 | **✗** [1](#mx-notes) | ✓ |" in table
    assert "1. \\<x\\>" in table
    assert "| | **fail** | 1 | 0 |" in table
