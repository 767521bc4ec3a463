//! What goes back and forth between calls and one process of a worker.
//!
//! A call waits for one of the places that the worker has, then for its turn to be written, then for its answer. What
//! is not written yet is in the hands of its call, so a worker that does not read makes nothing grow here.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mairust_core::Timestamp;
use mairust_hooks::{FailureKind, HealthReport, HookError};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::LONGEST_ANSWER;
use super::frames::{FromWorker, PROTOCOL, Said, ToWorker, is_frame};
use super::lines::{Line, Lines};
use super::log::{Ignored, LONGEST_LINE, PluginLog, Source, readable};

/// Frames that are no calls and wait to be written.
const CONTROL_FRAMES: usize = 64;
/// Octets that are kept of what a worker says for people about a call or about how it does.
const LONGEST_TEXT: usize = 1_024;
/// How long a worker has to say how it does.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// One process of a worker, as calls see it.
#[derive(Debug)]
pub(super) struct Link {
    calls: mpsc::Sender<Call>,
    control: mpsc::Sender<Control>,
    /// Calls that the worker takes at a time. There is none before it is ready, and it is closed when the process has
    /// ended.
    places: Semaphore,
    /// When the worker has to have said something.
    silent_until: watch::Sender<Option<Instant>>,
    inner: Mutex<Inner>,
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Outbox {
    calls: mpsc::Receiver<Call>,
    control: mpsc::Receiver<Control>,
}

#[derive(Debug, Default)]
struct Inner {
    asked: HashMap<String, Asked>,
    checks: HashMap<String, oneshot::Sender<HealthReport>>,
    last_check: u64,
    ready_at: Option<Timestamp>,
    has_ended: bool,
}

/// A call that waits for its answer.
#[derive(Debug)]
struct Asked {
    answer: oneshot::Sender<Result<Vec<u8>, HookError>>,
    since: Instant,
    deadline: Instant,
    /// Whether the worker has seen some of it.
    is_written: bool,
}

#[derive(Debug)]
struct Call {
    id: String,
    line: Bytes,
}

#[derive(Debug)]
enum Control {
    Line(Bytes),
    /// Nothing more is written.
    End,
}

/// Why a process is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// It does not read or write any more.
    Closed(&'static str),
    /// It does not keep to the protocol.
    Wrong(String),
}

impl Link {
    /// To a process that has not said anything yet.
    pub(super) fn new() -> (Arc<Self>, Outbox) {
        let (calls, next_call) = mpsc::channel(1);
        let (control, next_control) = mpsc::channel(CONTROL_FRAMES);
        let (places, silent_until) = (Semaphore::new(0), watch::Sender::new(None));
        let link = Self { calls, control, places, silent_until, inner: Mutex::default() };
        (Arc::new(link), Outbox { calls: next_call, control: next_control })
    }

    /// Has a frame written before all calls that wait. One that finds no room is dropped: the worker does not read.
    pub(super) fn tell(&self, frame: &ToWorker<'_>) {
        let _ = self.control.try_send(Control::Line(frame.line().into()));
    }

    /// Ends its standard input, after what was told before.
    pub(super) fn hang_up(&self) {
        let _ = self.control.try_send(Control::End);
    }

    /// Waits for a place, writes the call, and waits for the answer; `None` if the process ended before the call had a
    /// place. Dropped, the call is cancelled.
    pub(super) async fn ask(&self, id: &str, line: &Bytes, deadline: Instant) -> Option<Result<Vec<u8>, HookError>> {
        let since = Instant::now();
        let _place = match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return None,
            Err(_) => return Some(Err(HookError::of(FailureKind::Busy, "the worker has too many calls to answer"))),
        };
        let (sender, mut answer) = oneshot::channel();
        let asked = Asked { answer: sender, since, deadline, is_written: false };
        {
            let mut inner = self.lock();
            if inner.has_ended {
                return None;
            }
            if inner.asked.contains_key(id) {
                return Some(Err(HookError::of(FailureKind::Busy, "the worker is at the same call already")));
            }
            inner.asked.insert(id.to_owned(), asked);
        }
        let _ticket = Ticket { link: self, id };
        let waiting = async {
            tokio::select! {
                // The process may end while the call waits to be written.
                answer = &mut answer => return answer,
                _ = self.calls.send(Call { id: id.to_owned(), line: line.clone() }) => {}
            }
            answer.await
        };
        Some(match timeout_at(deadline, waiting).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(HookError::new("the worker has ended"))),
            Err(_) => Err(HookError::of(FailureKind::Timeout, "the worker did not answer in time")),
        })
    }

    /// Asks the worker how it does.
    pub(super) async fn check(&self) -> HealthReport {
        let (sender, report) = oneshot::channel();
        let id = {
            let mut inner = self.lock();
            let id = inner.next_check();
            inner.checks.insert(id.clone(), sender);
            id
        };
        self.tell(&ToWorker::Health { id: &id });
        let report = timeout(HEALTH_TIMEOUT, report).await;
        self.lock().checks.remove(&id);
        match report {
            Ok(report) => report.unwrap_or_else(|_| HealthReport::error("the worker has ended")),
            Err(_) => HealthReport::error(format_args!("no answer within {HEALTH_TIMEOUT:?}")),
        }
    }

    /// Since when the worker is ready, if it is.
    pub(super) fn ready_at(&self) -> Option<Timestamp> {
        self.lock().ready_at
    }

    /// Waits until the worker has been silent for twice the time of a call that it did not answer. Safe to drop.
    pub(super) async fn falls_silent(&self) {
        let mut silent_until = self.silent_until.subscribe();
        loop {
            let until = *silent_until.borrow_and_update();
            let changed = silent_until.changed();
            match until {
                Some(until) => {
                    if timeout_at(until, changed).await.is_err() {
                        return;
                    }
                }
                // The sender is ours: this does not end.
                None => drop(changed.await),
            }
        }
    }

    /// Fails all that waits. There are no more calls.
    pub(super) fn end(&self, why: &str) {
        let mut inner = self.lock();
        inner.has_ended = true;
        for (_, asked) in inner.asked.drain() {
            let _ = asked.answer.send(Err(HookError::new(why)));
        }
        for (_, check) in inner.checks.drain() {
            let _ = check.send(HealthReport::error(why));
        }
        drop(inner);
        self.places.close();
    }

    /// Reads what the worker says, until it ends or can't be understood any more. `ready` is called once.
    pub(super) async fn read(
        &self,
        stdout: ChildStdout,
        most: usize,
        log: &PluginLog,
        source: Source<'_>,
        ready: impl Fn(),
    ) -> Broken {
        let mut lines = Lines::new(stdout, LONGEST_ANSWER);
        loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) | Err(_) => return Broken::Closed("output"),
            };
            if !is_frame(&line.octets) {
                log.ignored(Ignored::Text);
                let kept = line.octets.len().min(LONGEST_LINE);
                log.line(source, &line.octets[..kept], line.is_cut || kept < line.octets.len());
                continue;
            }
            if line.is_cut {
                return Broken::Wrong(format!("it wrote a frame of more than {LONGEST_ANSWER} octets"));
            }
            self.silent_until.send_if_modified(|until| until.take().is_some());
            match self.take(&line, log, source) {
                Ok(None) => {}
                Ok(Some(offered)) => {
                    let places = offered.unwrap_or(most).min(most).max(1);
                    self.places.add_permits(places);
                    ready();
                }
                Err(wrong) => return Broken::Wrong(wrong),
            }
        }
    }

    /// Does what a frame says; tells how many calls the worker takes once it is ready, if it said so.
    fn take(&self, line: &Line, log: &PluginLog, source: Source<'_>) -> Result<Option<Option<usize>>, String> {
        let frame = match FromWorker::parse(&line.octets) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                log.ignored(Ignored::Unknown);
                return Ok(None);
            }
            Err(error) => {
                log.ignored(Ignored::Unreadable);
                tracing::warn!(
                    component = "plugin",
                    plugin = log.plugin(),
                    error,
                    "a frame of the worker can't be read"
                );
                return Ok(None);
            }
        };
        match frame {
            FromWorker::Ready { protocol, .. } if protocol != PROTOCOL => {
                return Err(format!("it speaks version {protocol} of the protocol, not {PROTOCOL}"));
            }
            FromWorker::Ready { max_inflight, .. } => {
                if self.lock().ready_at.replace(log.now()).is_none() {
                    return Ok(Some(max_inflight));
                }
                log.ignored(Ignored::Unknown);
            }
            FromWorker::Result { id, said } => {
                let Some(asked) = self.lock().asked.remove(&*id) else {
                    log.ignored(Ignored::Late);
                    return Ok(None);
                };
                let _ = asked.answer.send(match said {
                    Said::Answer(octets) => Ok(octets.as_bytes().to_vec()),
                    Said::Error(error) => Err(HookError::new(brief(&error))),
                    Said::Nothing => {
                        let text = "a result has to have either a response or an error";
                        Err(HookError::of(FailureKind::Protocol, text))
                    }
                });
            }
            FromWorker::Health { id, mut report } => {
                report.details = brief(&report.details);
                if let Some(check) = self.lock().checks.remove(&*id) {
                    let _ = check.send(report);
                }
            }
            FromWorker::Log { level, text, fields } => log.entry(level, source, &text, fields),
        }
        Ok(None)
    }

    /// Writes what there is to be written, until the end is asked for or the worker does not read any more.
    pub(super) async fn write(&self, mut stdin: ChildStdin, mut outbox: Outbox) -> io::Result<()> {
        loop {
            let line = tokio::select! {
                biased;
                control = outbox.control.recv() => match control {
                    Some(Control::Line(line)) => line,
                    Some(Control::End) | None => return Ok(()),
                },
                Some(call) = outbox.calls.recv() => {
                    match self.lock().asked.get_mut(&call.id) {
                        Some(asked) => asked.is_written = true,
                        None => continue,
                    }
                    call.line
                }
            };
            stdin.write_all(&line).await?;
        }
    }

    /// A call is over, answered or not.
    fn forget(&self, id: &str) {
        let mut inner = self.lock();
        let Some(asked) = inner.asked.remove(id).filter(|asked| asked.is_written) else { return };
        let check = inner.next_check();
        drop(inner);
        self.tell(&ToWorker::Cancel { id });
        // No answer is expected to a call that is cancelled; one is expected to this.
        self.tell(&ToWorker::Health { id: &check });
        let until = asked.deadline + asked.deadline.saturating_duration_since(asked.since);
        self.silent_until.send_if_modified(|silent| {
            let is_earlier = silent.is_none_or(|silent| until < silent);
            if is_earlier {
                *silent = Some(until);
            }
            is_earlier
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_check(&mut self) -> String {
        self.last_check += 1;
        format!("h{}", self.last_check)
    }
}

/// What a worker says for people, as far as it is kept.
fn brief(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_TEXT);
    readable(&text.as_bytes()[..end], end < text.len())
}

/// The right to wait for an answer.
struct Ticket<'l> {
    link: &'l Link,
    id: &'l str,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.link.forget(self.id);
    }
}
