"""smtp-sink of Postfix, which takes everything and stores nothing: what SMTP alone costs."""

import contextlib

from mailservers import free_port, postfix, process
from subjects import Running

TITLE = "smtp-sink"
KEEPS = "nowhere: it stores nothing"
install = postfix.install


@contextlib.contextmanager
def start(folder, group):
    port = free_port()
    command = group("server").command("smtp-sink", "-u", "nobody", f"127.0.0.1:{port}", 1024)
    with process(command, folder / "log", [port]):
        yield Running(postfix.version(), port, None)
