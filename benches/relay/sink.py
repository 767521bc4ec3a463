"""smtp-sink of Postfix as the host that all mail goes to, and which can be kept from answering."""

import contextlib
import os
import re
import signal
import time

from mailservers import Unavailable, free_port, process

# What is looked at in the end of its output, where the last counts are.
TAIL = 200


class Sink:
    """Counts the messages that came."""

    def __init__(self, process_id, port, log):
        self.process_id, self.port, self.log = process_id, port, log

    def close(self):
        """From now on the kernel takes connections, and nobody greets: who delivers waits."""
        os.kill(self.process_id, signal.SIGSTOP)

    def open(self):
        os.kill(self.process_id, signal.SIGCONT)

    def count(self):
        with open(self.log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            found = re.findall(rb"mesg=(\d+)(?=\D)", file.read())
        return int(found[-1]) if found else 0

    def wait_for(self, count, seconds=300):
        """The time when so many messages were there, to 2 ms."""
        deadline = time.monotonic() + seconds
        while self.count() < count:
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.count()} of {count} messages arrived within {seconds} s")
            time.sleep(0.002)
        return time.monotonic()


@contextlib.contextmanager
def sink(folder, port=None):
    """A running sink; without a port, at any free one."""
    port = port or free_port()
    log = folder / "sink.log"
    with process(["smtp-sink", "-c", "-u", "nobody", f"127.0.0.1:{port}", 1024], log, [port]) as child:
        there = Sink(child.pid, port, log)
        try:
            yield there
        finally:
            there.open()
