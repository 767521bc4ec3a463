"""MaiRust with its rows in a PostgreSQL of its own."""

import contextlib
import os
import pathlib
import time

from mailservers import Unavailable, free_port, process, run, user
from subjects import ours

TITLE = "MaiRust, PostgreSQL"
KEEPS = "as the one above, but rows in PostgreSQL with its own defaults (`fsync` and `synchronous_commit` on)"
# Where Debian puts them, one folder for each version; the newest.
PROGRAMS = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]), default=None)
ACCOUNT = "postgres"


def install():
    ours.install()
    if not PROGRAMS:
        raise Unavailable("needs the Debian package postgresql")


@contextlib.contextmanager
def start(folder, group):
    with database(folder, group) as url:
        environment = {**os.environ, "MAIRUST_DATABASE_URL": url}
        section = "backend: postgres\n  url: env:MAIRUST_DATABASE_URL"
        with ours.serve(folder, group, section, environment) as running:
            yield running


@contextlib.contextmanager
def database(folder, group):
    """The URL of an empty database."""
    uid, gid = user(ACCOUNT)
    cluster, port = folder / "postgres", free_port()
    cluster.mkdir()
    os.chown(cluster, uid, gid)
    account = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    initialise = ["-A", "trust", "-U", ACCOUNT, "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
    run(*account, PROGRAMS / "initdb", "-D", cluster, *initialise)
    settings = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=")
    server = [PROGRAMS / "postgres", "-D", cluster, *(word for setting in settings for word in ("-c", setting))]
    log = folder / "postgres.log"
    with process(group("database").command(*account, *server), log, []):
        wait_until_ready(port, log)
        address = ["-h", "127.0.0.1", "-p", port, "-U", ACCOUNT]
        # No superuser: row-level security is for everybody else, and has its price.
        run(PROGRAMS / "createuser", *address, "mairust")
        run(PROGRAMS / "createdb", *address, "--owner=mairust", "mairust")
        yield f"postgres://mairust@127.0.0.1:{port}/mairust"


def wait_until_ready(port, log, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            run(PROGRAMS / "pg_isready", "-q", "-h", "127.0.0.1", "-p", port)
            return
        except Unavailable:
            time.sleep(0.05)
    raise Unavailable(f"PostgreSQL does not answer: {log.read_text()[-300:]}")
