"""MaiRust: the binary of `$MAIRUST_BIN`, or the release build of this checkout."""

import contextlib
import json
import os
import pathlib

from mailservers import Unavailable, free_port, process, run
from peers import HOSTNAME, IDN_DOMAIN, MAX_SIZE, PASSWORD, RECIPIENT, USER, Peer

NAME = "MaiRust"
SETTINGS = "sender authentication off, as the machine of the tests may have no DNS"
BINARY = os.environ.get("MAIRUST_BIN") or str(pathlib.Path(__file__).resolve().parents[3] / "target/release/mairust")


def install():
    if not os.access(BINARY, os.X_OK):
        raise Unavailable(f"{BINARY} does not exist; build it, or set MAIRUST_BIN")


@contextlib.contextmanager
def start(folder):
    ports = {"mx": free_port(), "submission": free_port()}
    http = free_port()
    config = folder / "mairust.yaml"
    config.write_text(
        f"""server:
  hostname: {HOSTNAME}
  data_dir: {folder}/data
smtp:
  max_message_size: {MAX_SIZE >> 20}MiB
  listeners:
    - {{ bind: 127.0.0.1:{ports["mx"]}, kind: mx }}
    - {{ bind: 127.0.0.1:{ports["submission"]}, kind: submission }}
authentication:
  mode: "off"
http:
  bind: 127.0.0.1:{http}
"""
    )
    for domain in ("example.com", IDN_DOMAIN):
        run(BINARY, "domain", "add", domain, "-c", config)
    for address in (RECIPIENT, USER, f"alice@{IDN_DOMAIN}"):
        run(BINARY, "user", "add", address, "-c", config, "--password-stdin", input=PASSWORD)
    key = json.loads(run(BINARY, "apikey", "create", "conformance", "-c", config, "-o", "json"))["key"]
    version = run(BINARY, "--version").split()[-1]
    with process([BINARY, "serve", "-c", config], folder / "log", ports.values(), cwd=folder):
        yield Peer(version, f"api:http://127.0.0.1:{http},{key}", ports)
