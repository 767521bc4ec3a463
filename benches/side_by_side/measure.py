"""One server, one load: the timed run, and the traced run in which what would disturb is counted."""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import resource
import subprocess
import threading

import machine
import strace
from groups import SYNCS, WRITES, Group, seconds_until_idle
from mailservers import Unavailable
from subjects import BUILT

PER_CONNECTION = 10
# Before each measurement, so that processes exist and files are open.
WARM_UP_PER_SESSION = 2
# Messages of the proof, each alone; the last one counts, for the first ones make files that later ones find.
PROOFS = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """A load."""

    kibibytes: int
    sessions: int

    @property
    def name(self):
        return f"{self.kibibytes}x{self.sessions}"

    @property
    def title(self):
        return f"{self.kibibytes} KiB × {self.sessions} session{'s' if self.sessions > 1 else ''}"


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where and how is measured."""

    # The folder on the disk that all servers write to.
    data: pathlib.Path
    # Time of a load.
    seconds: float


def module(name):
    return importlib.import_module("subjects." + name.replace("-", "_"))


@contextlib.contextmanager
def started(bench, start, traced=None):
    """A server with an empty store, its groups, and the folder of the run. `start`: as in `subjects`; `traced`: the
    system calls to trace.
    """
    groups = {}

    def group(part):
        trace_file = folder / f"{part}.strace" if traced else None
        groups[part] = Group(f"{os.getpid()}-{part}", trace_file, traced or SYNCS)
        return groups[part]

    with machine.fresh_folder(bench.data) as folder:
        try:
            with start(folder, group) as running:
                yield running, groups, folder
        finally:
            for part in groups.values():
                part.close()


def timed(bench, name, row):
    """What a load without anything else gives."""
    with started(bench, module(name).start) as (running, groups, _):
        sent = settle(running, groups, row)
        before = {part: group.cpu_seconds() for part, group in groups.items()}
        result = load(running, row, "--seconds", bench.seconds)
        result["peaks_kib"] = sum(group.memory()[1] for group in groups.values())
        result["seconds_until_idle"] = seconds_until_idle(groups.values())
        result["cpu_seconds"] = {part: group.cpu_seconds() - before[part] for part, group in groups.items()}
        count(result, running, sent + result["accepted"])
        return result


def traced(bench, name, row):
    """How often files are synced, and how much memory is used."""
    with started(bench, module(name).start, SYNCS) as (running, groups, _):
        sent = settle(running, groups, row)
        traces = [group.trace for group in groups.values()]
        before = strace.syncs(traces)
        with sampled(groups) as memory:
            result = load(running, row, "--seconds", bench.seconds)
        result["seconds_until_idle"] = seconds_until_idle(groups.values())
        result["syncs"] = strace.syncs(traces) - before
        result.update(memory)
        count(result, running, sent + result["accepted"])
        return result


def prove(bench, name):
    """The version of a server, and what it syncs before it replies to a message that is alone."""
    alone = Row(kibibytes=5, sessions=1)
    with started(bench, module(name).start, SYNCS + WRITES) as (running, groups, folder):
        for _ in range(PROOFS):
            load(running, alone, "--messages", 1)
            seconds_until_idle(groups.values())
        messages = strace.synced_before_reply(strace.read(group.trace for group in groups.values()), folder)
        if len(messages) != PROOFS:
            raise Unavailable(f"the trace shows {len(messages)} of {PROOFS} replies")
        return {"version": running.version, "synced_before_reply": dict(messages[-1])}


def settle(running, groups, row):
    """Warms up, and lets the server and the disk come to rest; the number of messages that it took."""
    sent = row.sessions * WARM_UP_PER_SESSION
    load(running, row, "--messages", sent, per_connection=WARM_UP_PER_SESSION)
    seconds_until_idle(groups.values())
    os.sync()
    return sent


def load(running, row, *amount, per_connection=PER_CONNECTION):
    """Sends a load; what the generator says, with the processor time that it took itself."""
    command = [BUILT / "load", f"127.0.0.1:{running.port}", "--sessions", row.sessions, "--size", row.kibibytes << 10]
    command += ["--per-connection", per_connection, *amount]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise Unavailable(f"the load failed: {done.stderr.strip()[-300:]}")
    result = json.loads(done.stdout)
    if not result["accepted"]:
        raise Unavailable("no message was accepted")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**result, "generator_cpu_seconds": spent}


def count(result, running, sent):
    """Adds how many messages the server should have, and how many it has."""
    result["sent"] = sent
    result["stored"] = running.stored() if running.stored else None


@contextlib.contextmanager
def sampled(groups, interval=0.1):
    """Looks at memory until the block ends; then the dictionary that it gives has the highest figures in KiB."""
    highest, ended = {}, threading.Event()

    def look():
        while True:
            figures = [group.memory() for group in groups.values()]
            for field, index in (("pss_kib", 0), ("peaks_kib", 1)):
                highest[field] = max(highest.get(field, 0), sum(figure[index] for figure in figures))
            if ended.wait(interval):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield highest
    finally:
        ended.set()
        thread.join()
