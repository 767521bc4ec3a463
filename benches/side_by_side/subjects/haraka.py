"""Haraka: messages stay in its outbound queue, because deliveries are disabled."""

import contextlib

from mailservers import free_port, haraka, process
from subjects import HOSTNAME, Running

TITLE = "Haraka"
KEEPS = "in the outbound queue; `nodes=cpus`, `outbound.ini` with `disabled=true` and `concurrency_max=1`"
install = haraka.install


@contextlib.contextmanager
def start(folder, group):
    port = free_port()
    config, plugins, queue = folder / "config", folder / "plugins", folder / "queue"
    for path in (config, plugins, queue):
        path.mkdir()
    files = {
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes=cpus\n",
        "me": HOSTNAME + "\n",
        "plugins": "relayed\n",
        # With deliveries disabled each that has begun looks again every second: one at a time.
        "outbound.ini": "disabled=true\nconcurrency_max=1\n",
        # The file that Haraka comes with: it has sections that it cannot do without.
        "connection.ini": (haraka.PROGRAM.parents[1] / "config/connection.ini").read_text(),
    }
    for name, text in files.items():
        (config / name).write_text(text)
    (plugins / "relayed.js").write_text(RELAYED)

    def stored():
        """Files with a dot in front are not complete."""
        return sum(not path.name.startswith(".") for path in queue.iterdir())

    with process(group("server").command(*haraka.command(folder)), folder / "log", [port]):
        yield Running(haraka.VERSION, port, stored)


RELAYED = """
exports.hook_rcpt = function (next, connection) {
    connection.relaying = true
    next(OK)
}
"""
