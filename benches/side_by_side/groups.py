"""Processes that are measured together: a server, whatever it starts, and what became of that.

Each group is a control group (cgroup v2), because only the kernel knows the time of processes that
ended without anybody waiting for them. No controller is enabled in it and so nothing is limited.
"""

import pathlib
import time

from mailservers import Unavailable

SYNCS = ("fsync", "fdatasync", "syncfs", "sync", "sync_file_range", "msync")
WRITES = ("write", "writev", "sendto", "sendmsg")


class Group:
    """The processes of one subject that share a name: its own, or those of its database."""

    def __init__(self, name, trace=None, calls=SYNCS):
        """`trace`: the file to which system calls are written, of the kinds in `calls`; without it, none."""
        self.folder = hierarchy() / f"mairust-side-by-side-{name}"
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise Unavailable(f"needs a control group: {error}") from None
        self.trace = trace
        self.calls = calls

    def command(self, *words):
        """The command that starts these words as a part of this group, under the same process id."""
        inside = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', self.folder / "cgroup.procs", *words]
        if not self.trace:
            return inside
        calls = "trace=" + ",".join(self.calls)
        # -D: strace is not the parent, so that the process which is started is the server itself.
        # --seccomp-bpf: nothing but these calls is stopped.
        return [
            "strace",
            "-D",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-ttt",
            "-yy",
            "-s",
            "256",
            "-e",
            calls,
            "-o",
            self.trace,
            *inside,
        ]

    def processes(self):
        return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]

    def cpu_seconds(self):
        """Processor time so far, with that of processes that have ended."""
        for line in (self.folder / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
        raise Unavailable(f"{self.folder}/cpu.stat has no usage_usec")

    def waits_for_disk(self):
        """Whether a thread is in an uninterruptible wait: what it does there costs no processor time."""
        return any(state(task) == "D" for process in self.processes() for task in tasks(process))

    def memory(self):
        """KiB in use now, shared pages counted once (PSS), and the sum of all peaks, shared pages in each (VmHWM)."""
        proportional = peaks = 0
        for process in self.processes():
            proportional += kibibytes(process, "smaps_rollup", "Pss:")
            peaks += kibibytes(process, "status", "VmHWM:")
        return proportional, peaks

    def close(self):
        """Ends what is left, and removes the group."""
        (self.folder / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                return self.folder.rmdir()
            except OSError:
                time.sleep(0.02)
        raise Unavailable(f"{self.folder} cannot be removed")


def hierarchy():
    """Where control groups of version 2 are mounted."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(folder)
    raise Unavailable("needs control groups of version 2")


def tasks(process):
    """The folders of the threads of a process; none when it has ended."""
    try:
        return list(pathlib.Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return []


def state(task):
    """The letter that `ps` shows; None when the thread has ended."""
    try:
        # After the name in parentheses, which may hold anything.
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def kibibytes(process, file, field):
    """A figure of a process; zero when it has ended."""
    try:
        for line in pathlib.Path(f"/proc/{process}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def seconds_until_idle(groups, seconds=60):
    """Waits until the groups take less than 1 % of a processor and don't wait for the disk.

    How long that took, or None if it did not come.
    """
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        waited = time.monotonic() - begin
        before = sum(group.cpu_seconds() for group in groups)
        time.sleep(0.5)
        quiet = sum(group.cpu_seconds() for group in groups) - before < 0.005
        if quiet and not any(group.waits_for_disk() for group in groups):
            return round(waited, 1)
    return None
