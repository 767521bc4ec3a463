"""A PostgreSQL server on a private port, that syncs as a real one does."""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from conftest import free_port, wait_until


class Postgres:
    def __init__(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        assert found, "PostgreSQL is missing: install it (Debian: postgresql)"
        self.binaries = pathlib.Path(found[-1])
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="mairust-postgres-"))
        self.directory.chmod(0o711)
        self.port = free_port()
        self.log_path = self.directory / "log"
        data = self.directory / "data"
        data.mkdir()
        # PostgreSQL refuses to run as root.
        self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if self.prefix:
            shutil.chown(data, "postgres", "postgres")
        options = ["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        subprocess.run([*self.prefix, self.binaries / "initdb", "-D", data, *options], check=True, cwd="/",
                       capture_output=True)
        self.process = None
        self.start()

    def start(self):
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories="]
        arguments = [argument for setting in settings for argument in ("-c", setting)]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.binaries / "postgres", "-D", self.directory / "data", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            )
        ready = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(lambda: subprocess.run(ready).returncode == 0, "start of PostgreSQL")
        return self

    def sql(self, text, database="postgres"):
        command = [self.binaries / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        done = subprocess.run([*command, "-v", "ON_ERROR_STOP=1", "-qAtc", text], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def database(self, name):
        """An empty database whose owner is no superuser; its URL."""
        self.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
        self.sql(f"CREATE DATABASE {name} OWNER {name}")
        return f"postgres://{name}:secret@127.0.0.1:{self.port}/{name}"

    def stop(self, how=signal.SIGINT):
        """By default as an operator would; SIGKILL is a crash, SIGQUIT one without farewell."""
        if self.process and self.process.poll() is None:
            if how == signal.SIGKILL:
                # Its children notice that their parent is gone.
                self.process.send_signal(signal.SIGKILL)
            else:
                self.process.send_signal(how)
            self.process.wait(60)

    def pause(self):
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self):
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
