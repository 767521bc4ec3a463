//! A process for each call.

use std::process::ExitStatus;
use std::sync::Arc;

use mairust_hooks::{FailureKind, HookError, Outgoing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::child::{Child, Pipes};
use super::log::{PluginLog, Source};
use super::{LONGEST_ANSWER, ProcessHook};

/// Starts the program, gives it the request, and waits for its answer. Dropped, the process is killed.
pub(super) async fn ask(
    hook: &Arc<ProcessHook>,
    log: &Arc<PluginLog>,
    request: Outgoing,
) -> Result<Vec<u8>, HookError> {
    let (answer, answered) = oneshot::channel();
    // A task of its own waits for the process, also when whoever asked has gone.
    tokio::spawn(run(hook.clone(), log.clone(), request, answer));
    answered.await.unwrap_or_else(|_| Err(HookError::new("the server ends")))
}

async fn run(
    hook: Arc<ProcessHook>,
    log: Arc<PluginLog>,
    request: Outgoing,
    mut answer: oneshot::Sender<Result<Vec<u8>, HookError>>,
) {
    let (mut child, pipes) = match Child::spawn(&hook) {
        Ok(spawned) => spawned,
        Err(error) => {
            tracing::error!(component = "plugin", plugin = log.plugin(), error, "the hook does not start");
            // Whoever asked may have gone.
            let _ = answer.send(Err(HookError::new(error)));
            return;
        }
    };
    let (deadline, talking) = (request.deadline, talk(&mut child, pipes, &log, &request));
    let said = tokio::select! {
        said = timeout_at(deadline, talking) => said.unwrap_or_else(|_| {
            Err(HookError::of(FailureKind::Timeout, "the process did not end in time and was killed"))
        }),
        () = answer.closed() => Err(HookError::new("nobody waits any more")),
    };
    child.kill();
    let ended = child.reap().await;
    let _ = answer.send(said.and_then(|octets| match ended {
        Ok(status) if status.success() => Ok(octets),
        Ok(status) => Err(HookError::new(ended_by_itself(status))),
        Err(error) => Err(HookError::new(format_args!("how the process ended is not known: {error}"))),
    }));
}

/// Writes the request and reads until the process has ended, with all that it has started.
async fn talk(child: &mut Child, pipes: Pipes, log: &PluginLog, request: &Outgoing) -> Result<Vec<u8>, HookError> {
    let source = Source { stream: "stderr", pid: Some(child.pid()), invocation: Some(request.id.as_str()) };
    let logging = async {
        log.copy(pipes.stderr, source).await;
        Ok(())
    };
    let ending = async {
        child.exited().await;
        // What it has started holds its pipes.
        child.kill();
        Ok(())
    };
    let (octets, ..) = tokio::try_join!(read(pipes.stdout), write(pipes.stdin, &request.body), logging, ending)?;
    Ok(octets)
}

async fn write(mut stdin: ChildStdin, request: &[u8]) -> Result<(), HookError> {
    // Whoever does not read all of it may answer all the same.
    let _ = stdin.write_all(request).await;
    Ok(())
}

async fn read(stdout: ChildStdout) -> Result<Vec<u8>, HookError> {
    let mut octets = Vec::new();
    stdout.take(LONGEST_ANSWER as u64 + 1).read_to_end(&mut octets).await.map_err(HookError::new)?;
    if octets.len() > LONGEST_ANSWER {
        let text = format!("the answer has more than {LONGEST_ANSWER} octets");
        return Err(HookError::of(FailureKind::Protocol, text));
    }
    Ok(octets)
}

/// For people.
pub(super) fn ended_by_itself(status: ExitStatus) -> String {
    format!("the process ended ({status})")
}
