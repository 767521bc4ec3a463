"""What a case is, what it gets to work with, and how a run of all cases ends in results."""

import base64
import dataclasses
import time
import uuid

from wire import Closed, Connection, Transcript, WireError

PASS, FAIL, NOT_OFFERED, INCONCLUSIVE = "pass", "fail", "not offered", "inconclusive"


class Failed(Exception):
    """The server broke the rule."""


class NotOffered(Exception):
    """The rule is about something that the server does not announce."""


class Inconclusive(Exception):
    """The rule could not be tried; the text says why."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One rule: where it is written, what it says, and a function that tries it."""

    id: str
    source: str
    sentence: str
    profiles: tuple[str, ...]
    run: object
    # Judged after all others, because it looks at what they have gathered.
    last: bool = False


CASES = []


def case(identifier, source, sentence, profiles=("mx", "submission"), last=False):
    """Registers the decorated function as a case."""

    def register(function):
        assert identifier not in {known.id for known in CASES}, identifier
        CASES.append(Case(identifier, source, sentence, profiles, function, last))
        return function

    return register


@dataclasses.dataclass
class Target:
    """A server under test, and what has to be known about it."""

    host: str
    port: int
    store: object
    profile: str = "mx"
    recipient: str = "alice@example.com"
    unknown_recipient: str | None = None
    foreign_recipient: str | None = None
    idn_recipient: str | None = None
    tls: bool = False
    max_size: int | None = None
    user: str | None = None
    password: str | None = None
    # Seconds for one reply, for a stored message to appear, for one case, for the whole run.
    timeout: float = 10
    patience: float = 10
    case_timeout: float = 60
    run_timeout: float = 600


@dataclasses.dataclass
class Result:
    """How one case ended."""

    case: Case
    outcome: str
    note: str = ""


class Trial:
    """What one case works with: connections to the server, and a look into its store."""

    def __init__(self, run):
        self.run = run
        self.target = run.target
        self.deadline = time.monotonic() + run.target.case_timeout
        self.connections = []
        # Tokens that must not be in the store at the end of the run, each with what it would mean.
        self.absent = []
        self.companions = []

    def connect(self):
        """A connection whose greeting was read."""
        connection = self.connect_silently()
        greeting = connection.reply()
        expect(greeting.code == 220, f"greeted with {greeting}")
        return connection

    def connect_silently(self):
        """A connection from which nothing was read."""
        target = self.target
        connection = Connection((target.host, target.port), target.timeout, self.deadline, self.run.transcript)
        self.connections.append(connection)
        return connection

    def hello(self):
        """A connection after EHLO."""
        connection = self.connect()
        greeted = connection.hello()
        expect(greeted.code == 250, f"EHLO: {greeted}")
        return connection

    def secure(self):
        """A connection after STARTTLS and EHLO."""
        connection = self.hello()
        offered(connection, "STARTTLS")
        answer = connection.command("STARTTLS")
        expect(answer.code == 220, f"STARTTLS: {answer}")
        connection.handshake()
        expect(connection.hello().code == 250, "EHLO under TLS is refused")
        return connection

    def ready(self):
        """A connection on which MAIL may follow: after EHLO, and for submission after TLS and AUTH."""
        if self.target.profile == "mx":
            return self.hello()
        connection = self.secure()
        answer = connection.command(auth_plain(self.target.user, self.target.password))
        expect(answer.code == 235, f"AUTH: {answer}")
        return connection

    def sender(self, token):
        """A reverse-path for a message; in a submission the user's own, because no other need be allowed."""
        return self.target.user if self.target.profile == "submission" else f"{token}@sender.example"

    def token(self):
        """A word that no other message contains."""
        return "t" + uuid.uuid4().hex[:20]

    def envelope(self, connection, token, recipient=None, parameters=""):
        """MAIL and RCPT, which must be accepted."""
        answer = connection.command(f"MAIL FROM:<{self.sender(token)}>{parameters}")
        expect(answer.ok, f"MAIL: {answer}")
        answer = connection.command(f"RCPT TO:<{recipient or self.target.recipient}>")
        expect(answer.ok, f"RCPT: {answer}")

    def open_data(self, connection, token, recipient=None, parameters=""):
        """An envelope, then DATA up to its 354."""
        self.envelope(connection, token, recipient, parameters)
        answer = connection.command("DATA")
        expect(answer.code == 354, f"DATA: {answer}")

    def send(self, connection, token, content, chunk=None, parameters=""):
        """Sends `content`, dots stuffed here, as one message that must be accepted."""
        self.open_data(connection, token, parameters=parameters)
        connection.last = "the end of DATA"
        connection.send(stuffed(content) + b".\r\n", chunk)
        answer = connection.reply()
        expect(answer.code == 250, f"end of DATA: {answer}")

    def deliver(self, connection, token, content, chunk=None, parameters=""):
        """Sends `content` as `send` does; the message must be stored, and once."""
        self.send(connection, token, content, chunk, parameters)
        return self.stored(token)

    def message(self, token, body=b"hello\r\n", fields=""):
        """A complete message (RFC 5322 §3.6), so that no server has a reason to add to it."""
        head = (
            f"{fields}From: <{self.sender(token)}>\r\nTo: <{self.target.recipient}>\r\n"
            f"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{token}@sender.example>\r\nSubject: {token}\r\n\r\n"
        )
        return head.encode() + body

    def stored(self, token, count=1):
        """The stored message with the token; waits for it. More copies than `count` are a failure."""
        found = self.run.wait_for(token)
        expect(found, "answered 250, but nothing is stored")
        # A submission server may keep a copy for the sender.
        allowed = count if self.target.profile == "mx" else count + 1
        expect(len(found) <= allowed, f"stored {len(found)} times")
        return max(found, key=lambda message: len(message.fields("Return-Path")))

    def never_stored(self, token, meaning):
        """At the end of the run, no message with the token may have been stored."""
        self.absent.append((token, meaning))

    def never_alone(self, token, companion, meaning):
        """At the end of the run, the token may be stored only within the message of another."""
        self.companions.append((token, companion, meaning))

    def in_step(self, connection):
        """The session goes on, and nothing is left over in it."""
        answer = connection.command("NOOP")
        expect(answer.code == 250, f"out of step: NOOP got {answer}")
        replies = connection.last_replies()
        expect([reply.code for reply in replies] == [221], f"out of step: QUIT got {listed(replies)}")

    def one_answer(self, connection):
        """What was sent last got one reply, or the connection was closed; nothing more was executed."""
        try:
            first = connection.reply()
        except Closed:
            return None
        rest = [reply for reply in connection.last_replies() if reply.code != 421]
        expect([reply.code for reply in rest] in ([221], []), f"then got {listed(rest)}")
        return first


class Run:
    """One run of all cases of a profile against one server."""

    def __init__(self, target):
        self.target = target
        self.transcript = Transcript()
        self.patience = target.patience
        self.end = time.monotonic() + target.run_timeout

    def wait_for(self, token):
        """The messages with the token, as soon as there are any."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                found = self.target.store.find(token.encode())
            except OSError as error:
                raise Inconclusive(f"the store cannot be read: {error}") from None
            if found:
                return found
            if time.monotonic() > deadline:
                # A server that loses one message may lose all: the next ones are waited for less.
                self.patience = min(self.patience, 1)
                return []
            time.sleep(0.01)

    def execute(self, wanted=None):
        """Runs the cases whose id contains one of the `wanted` words (all, without), in order."""
        chosen = [case for case in CASES if self.target.profile in case.profiles]
        if wanted:
            chosen = [case for case in chosen if any(word in case.id for word in wanted)]
        trials = []
        for case in sorted(chosen, key=lambda case: case.last):
            trial = Trial(self)
            trials.append((trial, self.attempt(case, trial)))
        self.sweep(trials)
        by_case = {result.case.id: result for _, result in trials}
        return [by_case[case.id] for case in chosen]

    def attempt(self, case, trial):
        if time.monotonic() > self.end:
            return Result(case, INCONCLUSIVE, "the time for the whole run was over")
        try:
            case.run(trial)
            return Result(case, PASS)
        except Failed as failure:
            return Result(case, FAIL, str(failure))
        except WireError as failure:
            return Result(case, FAIL, str(failure))
        except NotOffered as reason:
            return Result(case, NOT_OFFERED, str(reason))
        except Inconclusive as reason:
            return Result(case, INCONCLUSIVE, str(reason))
        finally:
            for connection in trial.connections:
                connection.close()

    def sweep(self, trials):
        """Looks for what must not have been stored, after a last message has shown that the store is up to date."""
        waiting = [(trial, result) for trial, result in trials if trial.absent or trial.companions]
        if not waiting:
            return
        fence = Trial(self)
        try:
            token = fence.token()
            with fence.ready() as connection:
                fence.send(connection, token, fence.message(token))
            doubt = None if self.wait_for(token) else "answered 250, but nothing is stored"
        except (Failed, NotOffered, Inconclusive, WireError) as error:
            doubt = str(error)
        for trial, result in waiting:
            found = next(self.wrongly_stored(trial), None)
            if result.outcome == PASS and found:
                result.outcome, result.note = FAIL, found
            elif result.outcome == PASS and doubt:
                result.outcome, result.note = INCONCLUSIVE, f"whether something was stored cannot be told: {doubt}"

    def wrongly_stored(self, trial):
        try:
            for token, meaning in trial.absent:
                if self.target.store.find(token.encode()):
                    yield meaning
            for token, companion, meaning in trial.companions:
                found = self.target.store.find(token.encode())
                if any(companion.encode() not in message.raw for message in found):
                    yield meaning
        except OSError:
            # The fence has not been seen either, and says so.
            return


def expect(condition, otherwise):
    """Fails the case with `otherwise` unless the condition holds."""
    if not condition:
        raise Failed(otherwise)


def offered(connection, extension):
    """Ends the case unless the extension is announced."""
    if extension not in connection.extensions:
        raise NotOffered(f"{extension} is not announced")


def known(value, option):
    """A value that only the operator of the server can know."""
    if value is None:
        raise Inconclusive(f"needs {option}")
    return value


def listed(replies):
    return ", ".join(map(str, replies)) or "nothing"


def stuffed(content):
    """Transparency (RFC 5321 §4.5.2)."""
    dotted = content.replace(b"\r\n.", b"\r\n..")
    return b"." + dotted if dotted.startswith(b".") else dotted


def auth_plain(user, password, authorize_as=""):
    """The AUTH command for PLAIN (RFC 4616)."""
    return "AUTH PLAIN " + base64.b64encode(f"{authorize_as}\0{user}\0{password}".encode()).decode()
