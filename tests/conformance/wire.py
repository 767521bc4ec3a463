"""A small SMTP driver on a raw socket: sends any bytes at any fragmentation, reads replies strictly.

It is not a client: it never retries, never quotes, never stuffs a dot and never guesses. Nothing
here waits without a deadline.
"""

import dataclasses
import re
import socket
import ssl
import time


class WireError(Exception):
    """The conversation could not go on; the text says what was waited for."""


class Closed(WireError):
    """The server closed or reset the connection where a reply was due."""


class Silent(WireError):
    """The server did not answer in time."""


class Garbled(WireError):
    """The server sent what is no reply (RFC 5321 §4.2)."""


class HandshakeFailed(WireError):
    """The TLS handshake did not succeed."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """One reply, of one line or several."""

    code: int
    lines: tuple[str, ...]
    # The command that was answered, as text; `None` for the greeting.
    command: str | None = None

    @property
    def ok(self):
        return 200 <= self.code < 300

    @property
    def refused(self):
        """Refused for good: sending the same again is pointless."""
        return 500 <= self.code < 600

    @property
    def enhanced(self):
        """The enhanced status code (RFC 2034) of the first line, or `None`."""
        found = re.match(r"([245])\.(\d{1,3})\.(\d{1,3})(?: |$)", self.lines[0])
        return found and found[0].strip()

    def __str__(self):
        return f"{self.code} {self.lines[0]}".strip()


class Connection:
    """One connection. Every read and write ends at `timeout` or at `deadline`, whichever is first."""

    def __init__(self, address, timeout, deadline, transcript):
        self.timeout = timeout
        self.deadline = deadline
        self.transcript = transcript
        self.extensions = {}
        self.tls = False
        self.buffer = b""
        self.last = None
        try:
            self.socket = socket.create_connection(address, self.remaining())
        except OSError as error:
            raise Closed(f"no connection: {error}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes with RST, as a client that vanished."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def remaining(self):
        """Seconds that the next operation may take."""
        left = min(self.timeout, self.deadline - time.monotonic())
        if left <= 0:
            raise Silent("the time for this case is over")
        return left

    def send(self, data, chunk=None):
        """Sends octets, in pieces of `chunk` octets if given."""
        pieces = [data] if chunk is None else [data[at : at + chunk] for at in range(0, len(data), chunk)]
        for piece in pieces:
            self.socket.settimeout(self.remaining())
            try:
                self.socket.sendall(piece)
            except TimeoutError:
                raise Silent("the server stopped reading") from None
            except OSError:
                # What the server said before it closed is still to be read.
                return
            if chunk is not None and chunk < 1000:
                # Gives the server a chance to see this piece alone; nothing depends on it.
                time.sleep(0.0005)

    def line(self):
        while b"\n" not in self.buffer:
            if len(self.buffer) > 100_000:
                raise Garbled("a reply line without an end")
            self.buffer += self.receive()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def receive(self):
        self.socket.settimeout(self.remaining())
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise Silent(f"no answer to {self.last or 'the connection'}") from None
        except OSError:
            data = b""
        if not data:
            raise Closed(f"closed instead of an answer to {self.last or 'the connection'}")
        return data

    def reply(self):
        """The next reply. Records it, and what is wrong with its form, in the transcript."""
        code, texts = None, []
        while True:
            line = self.line()
            text = line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
            found = re.fullmatch(r"([2-5][0-9]{2})(?:([ -])(.*))?", text, re.S)
            if not found:
                raise Garbled(f"{text[:60]!r} is no reply line")
            if not line.endswith(b"\r"):
                self.transcript.fault(f"{text[:60]!r} does not end with CRLF")
            if len(line) + 1 > 512:
                self.transcript.fault(f"{text[:60]!r}… has more than 512 octets")
            if code not in (None, found[1]):
                self.transcript.fault(f"{code} and {found[1]} in one reply")
            code = found[1]
            texts.append(found[3] or "")
            if found[2] != "-":
                break
        reply = Reply(int(code), tuple(texts), self.last)
        self.transcript.add(reply, "ENHANCEDSTATUSCODES" in self.extensions)
        return reply

    def command(self, text):
        """Sends a command line, and returns the reply."""
        data = text if isinstance(text, bytes) else text.encode()
        self.last = data[:60].decode("utf-8", "backslashreplace")
        self.send(data + b"\r\n")
        return self.reply()

    def hello(self, name="client.example"):
        """EHLO; keeps what is offered in `extensions`, keyword to parameters."""
        reply = self.command(f"EHLO {name}")
        if reply.code == 250:
            words = [line.split(" ") for line in reply.lines[1:]]
            self.extensions = {word[0].upper(): word[1:] for word in words if word[0]}
        return reply

    def handshake(self, oldest=None, newest=None):
        """The client's side of a TLS handshake. Certificates are not what is tested: any will do."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if newest is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version, context.maximum_version = oldest, newest
        self.socket.settimeout(self.remaining())
        try:
            self.socket = context.wrap_socket(self.socket)
        except TimeoutError:
            raise Silent("no end of the TLS handshake") from None
        except OSError as error:
            raise HandshakeFailed(f"TLS handshake: {error}") from None
        self.tls = True
        self.buffer = b""
        self.extensions = {}

    def last_replies(self):
        """Sends QUIT, and returns all replies up to the end of the connection, that of QUIT included.

        More than one means that something else was executed, too.
        """
        self.last = "QUIT"
        self.send(b"QUIT\r\n")
        replies = []
        try:
            while True:
                replies.append(self.reply())
        except Closed:
            return replies


class Transcript:
    """All replies of all connections of a run, for the rules that hold for each of them."""

    def __init__(self):
        self.replies = []
        self.faults = []

    def add(self, reply, enhanced_announced):
        self.replies.append((reply, enhanced_announced))

    def fault(self, text):
        self.faults.append(text)
