"""MaiRust with its rows in SQLite: the binary of `$MAIRUST_BIN`, or the release build of this checkout."""

import contextlib
import json
import os
import urllib.parse
import urllib.request

from mailservers import Unavailable, free_port, process, run
from subjects import BUILT, HOSTNAME, RECIPIENT, Running

TITLE = "MaiRust, SQLite"
KEEPS = (
    "in the mailbox: rows in SQLite, bodies in files; durability power-safe; `authentication.mode: off`, "
    "`spam.engine: none`"
)
PASSWORD = "correct-horse"
BINARY = os.environ.get("MAIRUST_BIN") or str(BUILT / "mairust")


def install():
    if not os.access(BINARY, os.X_OK):
        raise Unavailable(f"{BINARY} does not exist; build it, or set MAIRUST_BIN")


@contextlib.contextmanager
def start(folder, group):
    with serve(folder, group, "backend: sqlite", os.environ) as running:
        yield running


@contextlib.contextmanager
def serve(folder, group, database, environment, kind="mx", more="", prepare=lambda config: None):
    """The server, with this section `database` in its configuration, a listener of this kind, and more sections.
    `prepare` gets the configuration file before the server starts.
    """
    port, http = free_port(), free_port()
    config = folder / "mairust.yaml"
    settings = {"folder": folder, "hostname": HOSTNAME, "port": port, "http": http, "database": database}
    config.write_text(CONFIGURATION.format(**settings, kind=kind) + more)
    run(BINARY, "config", "check", "-c", config, env=environment)
    run(BINARY, "migrate", "-c", config, env=environment)
    run(BINARY, "domain", "add", RECIPIENT.partition("@")[2], "-c", config, env=environment)
    run(BINARY, "user", "add", RECIPIENT, "-c", config, "--password-stdin", input=PASSWORD, env=environment)
    key = json.loads(run(BINARY, "apikey", "create", "count", "-c", config, "-o", "json", env=environment))["key"]
    prepare(config)
    version = run(BINARY, "--version").split()[-1]
    command = group("server").command(BINARY, "serve", "-c", config)
    with process(command, folder / "log", [port], cwd=folder, env=environment):
        yield Running(version, port, lambda: stored(http, key))


def stored(port, key):
    """Messages in the list of the API, of which the newest and the oldest page can be read in full."""
    count, cursor, page = 0, None, None
    while page is None or page["has_more"]:
        query = {"limit": 200, **({"cursor": cursor} if cursor else {})}
        page = json.loads(get(port, key, "/api/v1/messages?" + urllib.parse.urlencode(query)))
        if count == 0 or not page["has_more"]:
            for message in page["items"]:
                get(port, key, f"/api/v1/messages/{message['id']}/raw")
        count, cursor = count + len(page["items"]), page["next_cursor"]
    return count


def get(port, key, path):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read()


CONFIGURATION = """
server:
  hostname: {hostname}
  data_dir: {folder}/data
smtp:
  listeners:
    - {{ bind: "127.0.0.1:{port}", kind: {kind} }}
authentication:
  mode: "off"
spam:
  engine: none
policy:
  enabled: false
database:
  {database}
http:
  bind: 127.0.0.1:{http}
"""
