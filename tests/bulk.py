"""Many messages by submission: over several sessions at once, the commands of each message together (RFC 2920)."""

import concurrent.futures
import smtplib
import ssl
import threading

# Below what servers allow in one session.
PER_SESSION = 500


class Refused(Exception):
    """A command was answered otherwise than expected."""


class Bulk:
    """Sessions of one client, all of them logged in when this is made."""

    def __init__(self, address, sessions=4, login=None):
        """`login`: name and password, which go under TLS; without it, there is neither."""
        self.address, self.login = address, login
        self.clients = [self._opened() for _ in range(sessions)]

    def send(self, letters):
        """Sends all letters, each one a sender, a recipient and the text with its line ends; how many they were."""
        letters, lock = iter(letters), threading.Lock()

        def take():
            with lock:
                return next(letters, None)

        with concurrent.futures.ThreadPoolExecutor(len(self.clients)) as pool:
            sessions = [pool.submit(self._session, place, take) for place in range(len(self.clients))]
            return sum(session.result() for session in sessions)

    def close(self):
        for client in self.clients:
            client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _opened(self):
        client = smtplib.SMTP(*self.address, timeout=60)
        client.ehlo("bulk.example")
        if self.login:
            client.starttls(context=unverified())
            client.ehlo("bulk.example")
            client.login(*self.login)
        client.sent = 0
        return client

    def _session(self, place, take):
        sent = 0
        while letter := take():
            if self.clients[place].sent >= PER_SESSION:
                self.clients[place].quit()
                self.clients[place] = self._opened()
            transaction(self.clients[place], *letter)
            sent += 1
        return sent


def transaction(client, sender, recipient, text):
    client.send(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode("ascii"))
    for expected in (250, 250, 354):
        expect(client, expected)
    # Dots at the beginning of lines are left as they are: letters have none.
    client.send(text + b".\r\n")
    expect(client, 250)
    client.sent += 1


def expect(client, expected):
    code, text = client.getreply()
    if code != expected:
        raise Refused(f"{code} {text!r} instead of {expected}")


def unverified():
    """Encryption without asking who is there: the server is on this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def letter(sender, recipient, number, size=0):
    """The text of a letter that no other is like, of about this size, at least its header."""
    head = (
        f"From: {sender}\r\nTo: {recipient}\r\nSubject: letter {number}\r\n"
        f"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number:08}.bulk@example.com>\r\n\r\n"
    )
    line = "All work and no play makes a dull mailbox, line after line after line.\r\n"
    return (head + line * max(1, (size - len(head)) // len(line))).encode("ascii")
