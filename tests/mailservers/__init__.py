"""Mail servers that we did not write: how they are installed, and what is needed to start one privately.

A module for each: `install()`, and where its programs are. How one is configured is left to those
who start it: the conformance cases want other settings than the measurements.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mairust-peers"


class Unavailable(Exception):
    """The server cannot be installed or started here; the text says why."""


def run(*command, **options):
    """Runs a command to its end; its output, or `Unavailable`. `check=False` ignores its exit code."""
    check = options.pop("check", True)
    options = {"timeout": 300, "stdin": subprocess.DEVNULL, **options}
    if "input" in options:
        del options["stdin"]
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from None
    if check and done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise Unavailable(f"{' '.join(map(str, command[:3]))}…: exit {done.returncode}: {last[0]}")
    return done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(command, log, ports, **options):
    """A server process: ready when it greets on all ports, stopped by its id afterwards."""
    with open(log, "ab") as output:
        try:
            child = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
            )
        except OSError as error:
            raise Unavailable(f"{command[0]}: {error}") from None
    try:
        for port in ports:
            wait_for_greeting(port, log, lambda: child.poll() is not None)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(20)


def wait_for_greeting(port, log, ended=lambda: False, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ended():
            break
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                if connection.recv(4).startswith(b"220"):
                    return
        except OSError:
            time.sleep(0.05)
    text = pathlib.Path(log).read_text(errors="replace").strip() if pathlib.Path(log).exists() else ""
    raise Unavailable(f"does not greet on port {port}: {text[-300:]}")


def apt_get(command, *packages, **options):
    """Runs apt-get with fresh lists of packages."""
    if not shutil.which("apt-get"):
        raise Unavailable("needs Debian's apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=environment)
    run("apt-get", command, "-q", *packages, env=environment, **options)


def debian_packages(name, packages):
    """Unpacks Debian packages into a folder of their own, because mail servers exclude one another there."""
    folder = CACHE / name
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    archives = folder / "archives"
    archives.mkdir(parents=True)
    apt_get("download", *packages, cwd=archives)
    for archive in archives.glob("*.deb"):
        run("dpkg", "-x", archive, folder)
    (folder / "complete").touch()
    return folder


def user(name, home="/nonexistent"):
    """A system user, made if it is missing; its user and group id."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        if os.geteuid() != 0:
            raise Unavailable(f"needs the user {name}, and root to make it") from None
        run(
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            home,
            "--shell",
            "/usr/sbin/nologin",
            name,
        )
        entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid
