#!/usr/bin/env python3
"""An SMTP server that keeps all rules of the cases, and breaks one for each switch.

It exists to test the runner: without switches every cell must be green, and each switch must turn
its own cells red and no others. It delivers into a Maildir and knows three addresses. It is no
server for anything else: one thread for each connection, no limits, passwords in the open.

  broken.py --maildir DIR [--fault NAME]… [--submission]     prints its port
"""

import argparse
import base64
import email.utils
import pathlib
import re
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import uuid

HOST = "mx.example.com"
RECIPIENTS = {"alice@example.com", "bob@example.com", "postmaster@example.com", "alice@xn--grn-ioa.example"}
USER, PASSWORD = "bob@example.com", "secret"
LIMIT = 64 << 10
RECIPIENT_LIMIT = 120

# Sequences that end DATA although they must not, by the switch that makes them do so.
FORGED_ENDS = {
    "ends-at-lf-dot-lf": rb"\n\.\n",
    "ends-at-lf-dot-crlf": rb"\n\.\r\n",
    "ends-at-crlf-dot-lf": rb"\r\n\.\n",
    "ends-at-lf-dot-cr": rb"\n\.\r(?=[^\n])",
    "ends-at-cr-dot-cr": rb"\r\.\r",
    "ends-at-cr-dot-lf": rb"\r\.\n",
    "ends-at-cr-dot-crlf": rb"\r\.\r\n",
    "ends-at-crlf-dot-cr": rb"\r\n\.\r(?=[^\n])",
    "ends-at-crlf-dot-cr-crlf": rb"\r\n\.\r\r\n",
    "ends-at-crlf-cr-dot-crlf": rb"\r\n\r\.\r\n",
    "ends-at-crlf-dot-nul-crlf": rb"\r\n\.\0\r\n",
    "ends-at-crlf-nul-dot-crlf": rb"\r\n\0\.\r\n",
    "ends-at-crlf-dot-space-crlf": rb"\r\n\. \r\n",
}

FAULTS = {
    **dict.fromkeys(FORGED_ENDS, "a forged end of DATA is taken for the real one"),
    "accepts-bad-bdat": "takes BDAT without a number for BDAT 0",
    "accepts-bad-size": "takes a size that is no number for none",
    "accepts-control-characters": "control characters are part of a command",
    "accepts-everything": "says 250 at the end of each message, and stores nothing",
    "accepts-junk-paths": "takes whatever stands between MAIL FROM: and the line end",
    "accepts-unknown": "takes every address of the local domain",
    "accepts-unknown-parameters": "ignores parameters that it does not know",
    "accepts-utf8": "takes UTF-8 addresses without SMTPUTF8",
    "as-another": "ignores an authorization identity",
    "auth-again": "takes AUTH after AUTH",
    "auth-everywhere": "takes AUTH where it is not announced",
    "auth-in-the-clear": "announces and takes AUTH without TLS",
    "auth-in-transaction": "takes MAIL before AUTH, and AUTH after it",
    "auth-without-challenge": "takes AUTH without an initial response for a syntax error",
    "bare-cr-commands": "a bare CR ends a command",
    "bare-lf-commands": "a bare LF ends a command",
    "bdat-not-drained": "executes the octets of a refused chunk",
    "binarymime-by-data": "takes DATA for BINARYMIME",
    "changes-8bit": "replaces octets above 127",
    "cuts-long-lines": "breaks lines at 900 octets",
    "data-after-bdat": "takes DATA after BDAT",
    "data-without-recipients": "takes DATA without recipients",
    "delivers-loops": "does not count Received fields",
    "delivers-twice": "stores every message twice",
    "drops-empty": "says 250 to an empty message, and stores nothing",
    "eats-first-dot": "removes every dot at the start of the first line",
    "executes-http": "takes HTTP for unknown commands",
    "executes-oversized": "goes back to commands in the middle of a message that is too large",
    "hangs-on-vrfy": "never answers VRFY",
    "helo-with-extensions": "answers HELO as EHLO",
    "hundred-is-too-much": "takes ten recipients only",
    "idn-by-spelling": "compares domains as they are written",
    "ignores-starttls-parameter": "takes STARTTLS with a parameter",
    "keeps-ehlo": "STARTTLS does not forget EHLO",
    "keeps-envelope": "STARTTLS does not forget the transaction",
    "keeps-plaintext": "what came in the clear behind STARTTLS is executed under TLS",
    "keeps-transaction-at-ehlo": "EHLO does not end a transaction",
    "knows-no-postmaster": "refuses <postmaster>",
    "lf-in-replies": "ends replies with LF",
    "login-fails": "announces AUTH LOGIN, and refuses it",
    "loses-last-chunk": "the octets of BDAT LAST are not stored",
    "mail-before-ehlo": "takes MAIL before EHLO",
    "names-nobody": "greets and answers EHLO without a host name",
    "needs-a-name": "does not take address literals in EHLO",
    "needs-domain-in-lower-case": "compares domains with regard to case",
    "nested-mail": "takes MAIL within a transaction",
    "no-argument-for-noop": "refuses NOOP with an argument",
    "no-atoms": "takes letters and digits only in local parts",
    "no-auth-needed": "takes mail from strangers on the submission port",
    "no-ehlo-name-needed": "takes EHLO without a name",
    "no-enhanced-code": "answers NOOP without an enhanced code",
    "no-limit": "takes messages of any size",
    "no-literals": "takes an address literal for a syntax error",
    "no-long-lines": "takes command lines of 300 octets only",
    "no-long-paths": "takes local parts of 30 octets only",
    "no-null-sender": "refuses the null reverse-path",
    "no-quoted-pairs": "refuses quoted local parts",
    "no-received": "adds no Received field",
    "no-requiretls": "announces REQUIRETLS, and refuses it",
    "no-return-path": "adds no Return-Path",
    "no-smtputf8": "announces SMTPUTF8, and refuses addresses that need it",
    "no-trailing-space": "takes white space at the end of a command for a part of it",
    "old-tls": "speaks TLS 1.0 and 1.1",
    "quits-silently": "closes at QUIT without an answer",
    "rcpt-before-mail": "takes RCPT without MAIL",
    "relays": "takes addresses of other domains",
    "relays-bare": "takes other!user and user%other without a domain",
    "relays-percent": "takes user%other@local",
    "relays-two-ats": "takes user@other@local and user@local@other",
    "reset-ignored": "RSET does nothing",
    "rset-keeps-chunks": "puts the chunks before RSET in front of the next message",
    "says-esmtps": "does not say in the Received field that the client was authenticated",
    "says-smtp": "writes SMTP into every Received field",
    "size-is-a-word": "announces SIZE with a word",
    "size-wraps": "reads sizes modulo 2^64",
    "splits-long-lines": "takes the rest of a line that is too long for the next command",
    "starttls-twice": "announces and takes STARTTLS under TLS",
    "stores-unfinished": "stores what it has when the connection ends",
    "stores-unfinished-chunks": "stores the chunks that it has when the connection ends",
    "strange-auth-errors": "answers what is wrong in AUTH with 535",
    "strange-ehlo": "announces a keyword that is none",
    "strange-limits": "announces LIMITS without numbers",
    "takes-any-utf8": "replaces octets that are no UTF-8",
    "takes-half-commands": "executes a command whose line end is missing, and keeps an empty message",
    "too-many-is-550": "refuses recipients over the limit for good",
    "unstuffs-nothing": "stores dots as they were stuffed",
    "upper-case-only": "knows commands in upper case only",
    "wrong-class": "answers VRFY with an enhanced code of another class",
    "wrong-password": "takes any password",
}

CONTROL = rb"[\0-\10\12-\37\177]"


def mailbox_pattern():
    """RFC 5321 §4.1.2 and RFC 6531 §3.3, as far as the cases go."""
    more = "\\u0080-\U0010ffff"
    atom = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{more}-]+"
    local = rf'(?:{atom}(?:\.{atom})*|"(?:[ !#-\[\]-~{more}]|\\[ -~])*")'
    label = rf"[A-Za-z0-9{more}](?:[A-Za-z0-9{more}-]*[A-Za-z0-9{more}])?"
    domain = rf"(?:{label}(?:\.{label})*|\[[A-Za-z0-9:.-]+\])"
    return rf"(?:@{domain}(?:,@{domain})*:)?({local}@{domain})"


class Hangup(Exception):
    """The connection is over."""


class Session(socketserver.BaseRequestHandler):
    """One connection."""

    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.faults = self.server.faults
        self.submission = self.server.submission
        self.tls = False
        self.user = None
        self.buffer = b""
        self.name, self.extended = None, False
        # Always empty, but for the fault that keeps chunks.
        self.left_over = b""
        self.forget()

    def forget(self):
        self.sender, self.recipients, self.chunks, self.body_type, self.utf8 = None, [], None, "", False

    def handle(self):
        try:
            self.say("220 -- hello" if "names-nobody" in self.faults else f"220 {HOST} ESMTP")
            while True:
                self.command(self.line())
        except (Hangup, OSError):
            pass

    # Octets in and out.

    def say(self, *lines):
        code, _, _ = lines[0].partition(" ")
        texts = [lines[0][4:], *lines[1:]]
        end = "\n" if "lf-in-replies" in self.faults else "\r\n"
        out = [f"{code}{'-' if number < len(texts) - 1 else ' '}{text}{end}" for number, text in enumerate(texts)]
        self.request.sendall("".join(out).encode())

    def more(self):
        data = self.request.recv(65536)
        if not data:
            raise Hangup
        self.buffer += data

    def line(self):
        ends = [b"\r\n"]
        ends += [b"\n"] if "bare-lf-commands" in self.faults else []
        ends += [rb"\r(?=[^\n])"] if "bare-cr-commands" in self.faults else []
        pattern = re.compile(b"|".join(ends))
        while not (found := pattern.search(self.buffer)):
            try:
                self.more()
            except Hangup:
                if "takes-half-commands" in self.faults and self.buffer == b"DATA":
                    self.store(b"")
                raise
        if found.start() > 2048 and "splits-long-lines" in self.faults:
            line, self.buffer = self.buffer[:2048], self.buffer[2048:].lstrip(b"\t")
            return line
        line, self.buffer = self.buffer[: found.start()], self.buffer[found.end() :]
        return line

    # Commands.

    def command(self, raw):
        if "accepts-control-characters" in self.faults and len(raw) < 100:
            raw = re.sub(CONTROL, b"", raw)
        if len(raw) > (300 if "no-long-lines" in self.faults else 2048) or re.search(CONTROL, raw):
            return self.say("500 5.5.2 no such line")
        try:
            line = raw.decode(errors="replace" if "takes-any-utf8" in self.faults else "strict")
        except UnicodeDecodeError:
            return self.say("501 5.5.2 not UTF-8")
        if line.endswith(" ") and "no-trailing-space" in self.faults:
            return self.say("501 5.5.2 a space")
        verb, _, rest = line.rstrip(" ").partition(" ")
        if verb != verb.upper() and "upper-case-only" in self.faults:
            return self.say("500 5.5.1 no such command")
        if verb.upper() in ("GET", "POST", "PUT", "CONNECT") and "executes-http" not in self.faults:
            self.say("500 5.7.0 this is no web server")
            raise Hangup
        method = getattr(self, "do_" + verb.lower(), None)
        if not method:
            return self.say("500 5.5.1 no such command")
        return method(rest.strip())

    def do_ehlo(self, rest):
        if not rest and "no-ehlo-name-needed" not in self.faults:
            return self.say("501 5.5.4 who?")
        if rest.startswith("[") and "needs-a-name" in self.faults:
            return self.say("501 5.5.4 a name")
        if "keeps-transaction-at-ehlo" not in self.faults:
            self.forget()
        self.name, self.extended = rest, True
        size = "lots" if "size-is-a-word" in self.faults else LIMIT
        words = ["PIPELINING", f"SIZE {size}", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "BINARYMIME", "SMTPUTF8"]
        words.append("LIMITS RCPTMAX=many" if "strange-limits" in self.faults else f"LIMITS RCPTMAX={RECIPIENT_LIMIT}")
        if not self.tls or "starttls-twice" in self.faults:
            words.append("STARTTLS")
        if self.tls:
            words.append("REQUIRETLS")
        if self.submission:
            words.append("DSN")
            if self.tls or "auth-in-the-clear" in self.faults:
                words.append("AUTH PLAIN LOGIN")
        if "strange-ehlo" in self.faults:
            words.append("X_UNDERLINE")
        return self.say("250 -- hello" if "names-nobody" in self.faults else f"250 {HOST}", *words)

    def do_helo(self, rest):
        if not rest:
            return self.say("501 5.5.4 who?")
        self.forget()
        self.name, self.extended = rest, False
        return self.say(f"250 {HOST}", *(["PIPELINING"] if "helo-with-extensions" in self.faults else []))

    def do_noop(self, rest):
        if rest and "no-argument-for-noop" in self.faults:
            return self.say("501 5.5.4 no argument")
        return self.say("250 ok" if "no-enhanced-code" in self.faults else "250 2.0.0 ok")

    def do_rset(self, _):
        if "reset-ignored" not in self.faults:
            if "rset-keeps-chunks" in self.faults:
                self.left_over = self.chunks or b""
            self.forget()
        self.say("250 2.0.0 ok")

    def do_vrfy(self, _):
        if "hangs-on-vrfy" in self.faults:
            self.server.stopped.wait()
        self.say("252 5.0.0 perhaps" if "wrong-class" in self.faults else "252 2.0.0 perhaps")

    def do_help(self, _):
        self.say("214 2.0.0 RFC 5321")

    def do_quit(self, _):
        if "quits-silently" not in self.faults:
            self.say("221 2.0.0 bye")
        raise Hangup

    def do_starttls(self, rest):
        if rest and "ignores-starttls-parameter" not in self.faults:
            return self.say("501 5.5.4 no parameters")
        if self.tls and "starttls-twice" not in self.faults:
            return self.say("503 5.5.1 already")
        self.say("220 2.0.0 go on")
        if "keeps-plaintext" not in self.faults:
            self.buffer = b""
        if self.tls:
            return None
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.tls = True
        if "keeps-envelope" not in self.faults:
            self.forget()
        if "keeps-ehlo" not in self.faults:
            self.name, self.extended = None, False
        return None

    def do_auth(self, rest):
        mechanism, _, initial = rest.partition(" ")
        if not self.submission:
            return self.say("235 2.7.0 welcome" if "auth-everywhere" in self.faults else "502 5.5.1 not here")
        if self.user and "auth-again" not in self.faults:
            return self.say("503 5.5.1 already")
        if self.sender is not None and "auth-in-transaction" not in self.faults:
            return self.say("503 5.5.1 not now")
        if not self.tls and "auth-in-the-clear" not in self.faults:
            return self.say("538 5.7.11 only under TLS")
        if mechanism.upper() not in ("PLAIN", "LOGIN"):
            return self.auth_error("504 5.5.4 no such mechanism")
        if not initial and mechanism.upper() == "PLAIN" and "auth-without-challenge" in self.faults:
            return self.say("535 5.7.8 and the response?")
        try:
            if mechanism.upper() == "PLAIN":
                authorize_as, user, password = self.response("", initial).split("\0")
            else:
                authorize_as, user, password = "", self.response("Username:", initial), self.response("Password:")
        except ValueError:
            return self.auth_error("501 5.5.2 no such response")
        right = (user, password) == (USER, PASSWORD) or (user == USER and "wrong-password" in self.faults)
        if mechanism.upper() == "LOGIN" and "login-fails" in self.faults:
            right = False
        if not right or (authorize_as not in ("", user) and "as-another" not in self.faults):
            return self.say("535 5.7.8 no")
        self.user = user
        return self.say("235 2.7.0 welcome")

    def auth_error(self, reply):
        return self.say("535 5.7.8 no" if "strange-auth-errors" in self.faults else reply)

    def response(self, challenge, initial=""):
        if not initial:
            self.say("334 " + base64.b64encode(challenge.encode()).decode())
            initial = self.line().decode("latin-1")
        return base64.b64decode(initial, validate=True).decode()

    def do_mail(self, rest):
        if self.name is None and "mail-before-ehlo" not in self.faults:
            return self.say("503 5.5.1 EHLO first")
        if self.submission and not self.user and not self.faults & {"no-auth-needed", "auth-in-transaction"}:
            return self.say("530 5.7.0 AUTH first")
        if self.sender is not None and "nested-mail" not in self.faults:
            return self.say("503 5.5.1 one at a time")
        path, parameters = self.path(rest, "FROM:")
        if path is None or (path == "" and "no-null-sender" in self.faults):
            return self.say("501 5.1.7 no such path")
        refusal = self.mail_parameters(parameters) or self.odd_path(path)
        if refusal:
            return self.say(refusal)
        if not path.isascii() and "SMTPUTF8" not in map(str.upper, parameters) and "accepts-utf8" not in self.faults:
            return self.say("553 5.6.7 SMTPUTF8 is needed")
        self.forget()
        self.sender = path
        self.body_type = next((word.upper() for word in parameters if word.upper().startswith("BODY=")), "")
        self.utf8 = "SMTPUTF8" in map(str.upper, parameters)
        return self.say("250 2.1.0 ok")

    def odd_path(self, path):
        """The refusal of a path that is good, by the faults that do so."""
        local, _, domain = path.rpartition("@")
        odd = {
            "no-quoted-pairs": path.startswith('"'),
            "no-atoms": not re.fullmatch(r"[\w.-]*", local),
            "no-literals": domain.startswith("["),
            "no-long-paths": len(local) > 30,
            "no-smtputf8": not path.isascii(),
        }
        return "501 5.1.7 no such path" if any(odd[fault] for fault in self.faults & set(odd)) else None

    def mail_parameters(self, parameters):
        """The refusal of parameters that are not known or not good."""
        for parameter in parameters:
            key, equals, value = parameter.partition("=")
            key = key.upper()
            if key == "SIZE":
                wrong = 0 if "accepts-bad-size" in self.faults else -1
                size = int(value) if re.fullmatch("[0-9]{1,20}", value) else wrong
                size = size % 2**64 if "size-wraps" in self.faults else size
                if size < 0:
                    return "501 5.5.4 no such size"
                if size > LIMIT and "no-limit" not in self.faults:
                    return "552 5.3.4 too large"
            elif key == "BODY":
                if value.upper() not in ("7BIT", "8BITMIME", "BINARYMIME"):
                    return "501 5.5.4 no such body"
            elif key == "SMTPUTF8" and not equals:
                pass
            elif key == "REQUIRETLS" and self.tls and not equals:
                if "no-requiretls" in self.faults:
                    return "550 5.7.30 not now"
            elif key == "RET" and self.submission and value in ("FULL", "HDRS"):
                pass
            elif key == "ENVID" and self.submission:
                pass
            elif "accepts-unknown-parameters" not in self.faults or key == "REQUIRETLS" and self.tls:
                return "555 5.5.4 no such parameter"
        return None

    def path(self, rest, word):
        """The path without its brackets, and the parameters; `None` for what is no path."""
        if rest[: len(word)].upper() != word:
            return None, []
        rest = rest[len(word) :].strip()
        found = re.match(r'<((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: +(.*))?$', rest)
        parameters = found[2].split() if found and found[2] else []
        if "accepts-junk-paths" in self.faults and word == "FROM:":
            return found[1] if found else rest, parameters
        if not found:
            return None, []
        path = found[1]
        if path == "" and word == "FROM:":
            return "", parameters
        if path.lower() == "postmaster" and word == "TO:":
            return "postmaster", parameters
        mailbox = re.fullmatch(mailbox_pattern(), path)
        if not mailbox and word == "TO:":
            bare = "relays-bare" in self.faults and re.fullmatch("[^@]+[!%][^@]+", path)
            two = "relays-two-ats" in self.faults and path.count("@") == 2
            return (path if bare or two else None), parameters
        return (mailbox[1] if mailbox else None), parameters

    def do_rcpt(self, rest):
        if self.sender is None and "rcpt-before-mail" not in self.faults:
            return self.say("503 5.5.1 MAIL first")
        if "auth-in-transaction" in self.faults and not self.user:
            return self.say("530 5.7.0 AUTH first")
        path, parameters = self.path(rest, "TO:")
        if path is None:
            return self.say("501 5.1.3 no such path")
        if not path.isascii() and not self.utf8 and "accepts-utf8" not in self.faults:
            return self.say("553 5.6.7 SMTPUTF8 is needed")
        if not self.recipient_parameters(parameters):
            return self.say("555 5.5.4 no such parameter")
        refusal = self.known(path)
        if refusal:
            return self.say(refusal)
        if len(self.recipients) >= (10 if "hundred-is-too-much" in self.faults else RECIPIENT_LIMIT):
            return self.say("550 5.5.3 too many" if "too-many-is-550" in self.faults else "452 4.5.3 too many")
        self.recipients.append(path)
        return self.say("250 2.1.5 ok")

    def recipient_parameters(self, parameters):
        if "accepts-unknown-parameters" in self.faults:
            return True
        good = r"(?i)NOTIFY=(NEVER|(SUCCESS|FAILURE|DELAY)(,(SUCCESS|FAILURE|DELAY))*)|ORCPT=rfc822;[!-~]+"
        return not parameters or (self.submission and all(re.fullmatch(good, word) for word in parameters))

    def known(self, path):
        """The refusal of an address that is not ours or does not exist."""
        if path == "postmaster":
            return "550 5.1.1 nobody" if "knows-no-postmaster" in self.faults else None
        local, _, domain = path.rpartition("@")
        if "@" not in path or path.count("@") == 2 and '"' not in path:
            # Only with the faults that let such a path through.
            return None
        if domain != domain.lower() and "needs-domain-in-lower-case" in self.faults:
            return "550 5.1.2 no such domain"
        if not path.isascii() and "no-smtputf8" in self.faults:
            return "553 5.6.7 no such address"
        try:
            domain = domain.lower() if "idn-by-spelling" in self.faults else domain.lower().encode("idna").decode()
        except UnicodeError:
            return "550 5.1.2 no such domain"
        if f"{local.lower()}@{domain}" in RECIPIENTS:
            return None
        if domain in ("example.com", "xn--grn-ioa.example"):
            percent = "%" in local and "relays-percent" in self.faults
            return None if percent or "accepts-unknown" in self.faults else "550 5.1.1 nobody"
        return None if self.user or "relays" in self.faults else "550 5.7.1 no relay"

    # Messages.

    def do_data(self, _):
        if self.sender is None:
            return self.say("503 5.5.1 MAIL first")
        if not self.recipients and "data-without-recipients" not in self.faults:
            return self.say("503 5.5.1 RCPT first")
        if self.chunks is not None and "data-after-bdat" not in self.faults:
            return self.say("503 5.5.1 BDAT has begun")
        if self.body_type == "BODY=BINARYMIME" and "binarymime-by-data" not in self.faults:
            return self.say("503 5.6.1 BDAT only")
        self.say("354 go on")
        content, oversized = self.read_data()
        if oversized:
            self.forget()
            return self.say("552 5.3.4 too large")
        return self.keep(self.unstuffed(content))

    def read_data(self):
        """The content up to its end, and whether it was too large."""
        ends = [rb"\r\n\.\r\n", *(pattern for fault, pattern in FORGED_ENDS.items() if fault in self.faults)]
        pattern = re.compile(b"|".join(ends))
        # As if a line had just ended: an empty message ends at once.
        self.buffer = b"\r\n" + self.buffer
        searched = 0
        while not (found := pattern.search(self.buffer, max(0, searched - 8))):
            searched = len(self.buffer)
            if len(self.buffer) > LIMIT and "executes-oversized" in self.faults:
                self.buffer = self.buffer[LIMIT:]
                return b"", True
            try:
                self.more()
            except (Hangup, OSError):
                if "stores-unfinished" in self.faults:
                    self.store(self.buffer[2:])
                raise Hangup from None
        line_end = b"\r\n" if found[0].startswith((b"\r", b"\n")) else b""
        content, self.buffer = self.buffer[2 : found.start()] + line_end, self.buffer[found.end() :]
        if found.start() == 0:
            content = b""
        return content, len(content) > LIMIT and "no-limit" not in self.faults

    def unstuffed(self, content):
        if "unstuffs-nothing" in self.faults:
            return content
        first, end, rest = content.partition(b"\r\n")
        first = first.lstrip(b".") if "eats-first-dot" in self.faults else first.removeprefix(b".")
        return first + (end + rest).replace(b"\r\n.", b"\r\n")

    def do_bdat(self, rest):
        found = re.fullmatch(r"([0-9]{1,20})(?: +(LAST))?", rest, re.I)
        if not found or (size := int(found[1])) >= 2**63:
            if "accepts-bad-bdat" in self.faults:
                return self.say("250 2.0.0 go on")
            self.say("501 5.5.4 no such chunk")
            raise Hangup
        refusal = None
        if not self.recipients:
            refusal = "503 5.5.1 RCPT first"
        elif size + len(self.chunks or b"") > LIMIT and "no-limit" not in self.faults:
            refusal = "552 5.3.4 too large"
        if refusal and "bdat-not-drained" in self.faults:
            return self.say(refusal)
        while len(self.buffer) < size:
            try:
                self.more()
            except Hangup:
                if "stores-unfinished-chunks" in self.faults:
                    self.store(self.chunks or b"")
                raise
        chunk, self.buffer = self.buffer[:size], self.buffer[size:]
        if refusal:
            self.forget()
            return self.say(refusal)
        if found[2] and "loses-last-chunk" in self.faults:
            chunk = b""
        self.chunks = (self.chunks or b"") + chunk
        if found[2]:
            return self.keep(self.chunks)
        return self.say("250 2.0.0 go on")

    def keep(self, content):
        head = content.partition(b"\r\n\r\n")[0]
        looping = len(re.findall(rb"(?im)^received:", head)) > 100
        if looping and "delivers-loops" not in self.faults:
            self.forget()
            return self.say("554 5.4.6 a loop")
        content, self.left_over = self.left_over + content, b""
        if not (content == b"" and "drops-empty" in self.faults):
            self.store(content)
        self.forget()
        return self.say("250 2.0.0 kept")

    def store(self, content):
        if "accepts-everything" in self.faults:
            return
        if "changes-8bit" in self.faults:
            content = re.sub(rb"[\x80-\xff]", b"?", content)
        if "cuts-long-lines" in self.faults:
            content = re.sub(rb"([^\r\n]{900})(?=[^\r\n])", rb"\1\r\n", content)
        for _ in range(2 if "delivers-twice" in self.faults else 1):
            name = uuid.uuid4().hex
            (self.server.maildir / "tmp" / name).write_bytes(self.prefix() + content)
            (self.server.maildir / "tmp" / name).rename(self.server.maildir / "new" / name)

    def prefix(self):
        keyword = "UTF8SMTP" if self.utf8 else "ESMTP" if self.extended else "SMTP"
        keyword += ("S" if self.tls else "") + ("A" if self.user else "")
        keyword = "SMTP" if "says-smtp" in self.faults else keyword
        keyword = "ESMTPS" if "says-esmtps" in self.faults else keyword
        received = f"Received: from {self.name} by {HOST} with {keyword};\r\n\t{email.utils.formatdate()}\r\n"
        path = f"Return-Path: <{self.sender}>\r\n"
        return (
            ("" if "no-return-path" in self.faults else path) + ("" if "no-received" in self.faults else received)
        ).encode()


class Server(socketserver.ThreadingTCPServer):
    """Listens on a free loopback port."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, maildir, faults=(), submission=False, certificate=None):
        super().__init__(("127.0.0.1", 0), Session)
        unknown = set(faults) - set(FAULTS)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(unknown)}")
        self.faults = frozenset(faults)
        self.submission = submission
        self.maildir = pathlib.Path(maildir)
        for folder in ("new", "cur", "tmp"):
            (self.maildir / folder).mkdir(parents=True, exist_ok=True)
        self.stopped = threading.Event()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate or make_certificate(self.maildir))
        if "old-tls" in self.faults:
            self.context.set_ciphers("ALL:@SECLEVEL=0")
            self.context.minimum_version = ssl.TLSVersion.TLSv1

    def handle_error(self, request, client_address):
        """A client that vanished, or a handshake that failed: the connection is over, and that is all."""

    @property
    def port(self):
        return self.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.shutdown()
        self.server_close()


def make_certificate(folder):
    """A self-signed certificate with its key, in one PEM file."""
    path = pathlib.Path(folder) / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            f"/CN={HOST}",
            "-keyout",
            path,
            "-out",
            path.with_suffix(".crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maildir", default=None)
    parser.add_argument("--fault", action="append", default=[], choices=sorted(FAULTS))
    parser.add_argument("--submission", action="store_true")
    options = parser.parse_args()
    maildir = options.maildir or tempfile.mkdtemp(prefix="broken-")
    with Server(maildir, options.fault, options.submission) as server:
        print(f"127.0.0.1:{server.port} --store maildir:{maildir}", flush=True)
        server.stopped.wait()


if __name__ == "__main__":
    main()
