//! One process and all that it starts: they begin together and end together.

use std::fmt::Display;
use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::ProcessHook;

/// A process that leads a group of its own. Dropped, all of the group is killed, and the runtime waits for it.
#[derive(Debug)]
pub(super) struct Child {
    child: tokio::process::Child,
    pid: Pid,
    /// Some child of ours has ended, or stopped.
    ended: tokio::signal::unix::Signal,
    /// Whether it was waited for. Until then its number, and that of its group, are nobody else's.
    is_reaped: bool,
}

/// Our ends of its pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl Child {
    /// Starts the program of a hook.
    ///
    /// # Errors
    /// Why it can't be started, for people.
    pub(super) fn spawn(hook: &ProcessHook) -> Result<(Self, Pipes), String> {
        let program = hook.path();
        let failed = |error: &dyn Display| format!("{} can't be started: {error}", program.display());
        if !hook.directory.is_dir() {
            return Err(failed(&format_args!("there is no directory {}", hook.directory.display())));
        }
        let mut command = Command::new(&program);
        command.args(&hook.arguments).current_dir(&hook.directory).env_clear().envs(hook.environment());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // Before there is a child whose end could be missed.
        let ended = signal(SignalKind::child()).map_err(|error| failed(&error))?;
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        match (pid, child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(pid), Some(stdin), Some(stdout), Some(stderr)) => {
                Ok((Self { child, pid, ended, is_reaped: false }, Pipes { stdin, stdout, stderr }))
            }
            _ => Err(failed(&"it has no number or no pipes")),
        }
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until it ends; its number stays its own. What it has started may live on. Safe to drop.
    pub(super) async fn exited(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        // An error says that it is no child of ours any more, so it has ended, too.
        while !self.is_reaped && matches!(waitid(WaitId::Pid(self.pid), options), Ok(None)) {
            self.ended.recv().await;
        }
    }

    /// Kills all of the group.
    pub(super) fn kill(&self) {
        if !self.is_reaped {
            // An error says that nobody is left, or that somebody in the group became another user.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Waits until it ends, kills what is left of its group, and tells how it ended.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(super) async fn reap(mut self) -> io::Result<ExitStatus> {
        self.exited().await;
        self.kill();
        self.wait().await
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.is_reaped = true;
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
