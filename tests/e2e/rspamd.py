"""Starts a real rspamd with its stock rules, on private ports and with its files in a temporary folder."""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.request

from conftest import free_port, wait_until

# Only these suffixes: with the list that comes with rspamd, its first start takes half a minute.
SUFFIXES = "com\nnet\norg\nexample\ntest\njp\nco.jp\n"

# The field X-Test-Action picks the action; X-Test-Facts tells what rspamd was told.
RULES = """
rspamd_config:register_symbol{name='TEST_ACTION', type='prefilter', callback=function(task)
  local action = task:get_header('X-Test-Action')
  if action then task:set_pre_result(action, 'forced: ' .. action, 'test') end
end}
rspamd_config:register_symbol{name='TEST_FACTS', type='prefilter', callback=function(task)
  local recipients = {}
  for _, recipient in ipairs(task:get_recipients('smtp') or {}) do table.insert(recipients, recipient.addr) end
  local from = task:get_from('smtp')
  task:set_milter_reply{add_headers = {['X-Test-Facts'] = string.format('ip=%s helo=%s from=%s rcpt=%s size=%d',
    task:get_ip(), task:get_helo(), from and from[1].addr or '?', table.concat(recipients, '+'), task:get_size())}}
end}
"""


class Rspamd:
    """A running rspamd. The process that is held is the server itself."""

    def __init__(self):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mairust-rspamd-", dir="/tmp"))
        self.process = None
        local = self.folder / "local.d"
        local.mkdir()
        dead_dns = free_port()
        for name, text in {
            "local.d/worker-normal.inc": f'bind_socket = "127.0.0.1:{self.port}"; count = 1;',
            "local.d/worker-controller.inc": f'bind_socket = "127.0.0.1:{free_port()}"; count = 1; password = "q1";',
            "local.d/worker-proxy.inc": "enabled = false;",
            "local.d/worker-fuzzy.inc": "enabled = false;",
            "local.d/logging.inc": 'type = "console"; level = "info";',
            "local.d/options.inc": f'dns {{ nameserver = ["127.0.0.1:{dead_dns}"]; timeout = 0.1s; retransmits = 0; }}\n'
                                   f'url_tld = "{self.folder}/tld.dat";',
            "local.d/rbl.conf": "enabled = false;",
            # Known, and reached by no score.
            "local.d/actions.conf": "quarantine = 10000; discard = 20000;",
            "local.d/fuzzy_check.conf": "enabled = false;",
            "local.d/asn.conf": "enabled = false;",
            "tld.dat": SUFFIXES,
            "rspamd.local.lua": RULES,
        }.items():
            (self.folder / name).write_text(text)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = ["rspamd", "-f", "-c", "/etc/rspamd/rspamd.conf",
                   *(f"--var={name}={self.folder}" for name in ("DBDIR", "RUNDIR", "LOGDIR", "LOCAL_CONFDIR"))]
        if os.geteuid() == 0:
            user = pwd.getpwnam("_rspamd")
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user.pw_uid, user.pw_gid)
            command = ["setpriv", "--reuid=_rspamd", "--regid=_rspamd", "--clear-groups", *command]
        with open(self.folder / "log.txt", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.process.poll() is not None or self.answers(), "start of rspamd", timeout=90)
        assert self.process.poll() is None, (self.folder / "log.txt").read_text()
        return self

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=1) as answer:
                return b"pong" in answer.read()
        except OSError:
            return False

    def freeze(self):
        """Stops the processes where they are: connections are taken by the kernel, and nothing comes back."""
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGCONT)

    def processes(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def kill(self):
        if self.process and self.process.poll() is None:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            self.process.wait(30)

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
