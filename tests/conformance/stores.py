"""Ways to see what a server has stored. Each finds whole messages by a token that stands in them.

Line ends are compared as LF, because many stores keep lines of text and not octets; all other
octets must be those that were sent.
"""

import http.client
import json
import os
import pathlib
import re
import urllib.parse


class Message:
    """One stored message."""

    def __init__(self, raw):
        self.raw = raw.replace(b"\r\n", b"\n")

    def ends_with(self, sent):
        return self.raw.endswith(sent.replace(b"\r\n", b"\n"))

    @property
    def body(self):
        return b"" if self.raw.startswith(b"\n") else self.raw.partition(b"\n\n")[2]

    def fields(self, name=None):
        """Header fields, unfolded, in order: pairs of name and value, or the values of one name."""
        head = self.raw.partition(b"\n\n")[0].decode("utf-8", "surrogateescape")
        unfolded = re.sub(r"\n(?=[ \t])", "", head)
        pairs = [
            (left, right.strip())
            for left, colon, right in (line.partition(":") for line in unfolded.split("\n"))
            if colon
        ]
        return pairs if name is None else [right for left, right in pairs if left.lower() == name.lower()]


class FileStore:
    """Messages in files, one each; a file counts when it has stopped growing between two looks."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.seen = {}
        self.known = {}

    def files(self):
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.path) for name in names]

    def read(self, path):
        return pathlib.Path(path).read_bytes()

    def complete(self, path):
        size = os.stat(path).st_size
        before, self.seen[path] = self.seen.get(path), size
        return before == size

    def find(self, token):
        """All stored messages that contain the token."""
        for path in self.files():
            try:
                if path not in self.known and self.complete(path):
                    self.known[path] = Message(self.read(path))
            except FileNotFoundError:
                continue
        return [message for message in self.known.values() if token in message.raw]


class Maildir(FileStore):
    """One Maildir, or a tree of them; what is in `new` is complete."""

    def files(self):
        return [path for path in super().files() if os.path.basename(os.path.dirname(path)) in ("new", "cur")]

    def complete(self, path):
        return True


class SinkFolder(FileStore):
    """The folder that `smtp-sink -d` writes to: the envelope is in X- fields in front."""

    def read(self, path):
        raw = super().read(path)
        sender = re.search(rb"^X-Mail-Args: (.*)$", raw, re.M)
        message = re.sub(rb"\A(X-(Client|Helo|Mail|Rcpt)[^\n]*\n)+", b"", raw)
        return (b"Return-Path: " + sender[1] + b"\n" if sender else b"") + message.removesuffix(b"\n")


class Mbox:
    """An mbox file: `From ` lines divide, `>From ` is unquoted once."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def find(self, token):
        raw = self.path.read_bytes() if self.path.exists() else b""
        parts = re.split(rb"(?:\A|(?<=\n\n))From [^\n]*\n", raw)[1:]
        messages = [Message(re.sub(rb"^>(>*From )", rb"\1", part, flags=re.M).removesuffix(b"\n")) for part in parts]
        return [message for message in messages if token in message.raw]


class RestApi:
    """MaiRust's REST API, with a key that may read messages."""

    def __init__(self, base, key):
        self.address = urllib.parse.urlsplit(base).netloc
        self.key = key
        self.known = {}

    def get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"GET {path}: {response.status} {body[:200]!r}")
        return body

    def find(self, token):
        cursor, more = None, True
        while more:
            query = {"limit": 20, **({"cursor": cursor} if cursor else {})}
            page = json.loads(self.get("/api/v1/messages?" + urllib.parse.urlencode(query)))
            new = [item["id"] for item in page["items"] if item["id"] not in self.known]
            for identifier in new:
                self.known[identifier] = Message(self.get(f"/api/v1/messages/{identifier}/raw"))
            # Newest first: a page without anything new ends the search.
            cursor, more = page["next_cursor"], page["has_more"] and bool(new)
        return [message for message in self.known.values() if token in message.raw]


KINDS = {"maildir": Maildir, "files": FileStore, "sink": SinkFolder, "mbox": Mbox}


def open_store(text):
    """The store that `KIND:WHERE` names."""
    kind, _, where = text.partition(":")
    if kind == "api":
        base, comma, key = where.rpartition(",")
        if not comma:
            raise ValueError("api:URL,KEY needs a key")
        return RestApi(base, key)
    if kind not in KINDS or not where:
        raise ValueError(f"{text!r} is neither KIND:PATH (of {', '.join(KINDS)}) nor api:URL,KEY")
    return KINDS[kind](where)
