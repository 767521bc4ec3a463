//! A function in Python as a hook, and one call of it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mairust_hooks::protocol::Answer;
use mairust_hooks::{FailureKind, HookCall, HookError, HookHandler, HookPoint};
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::calls::Queues;
use crate::mail::Mail;

/// What Python says: an answer in JSON, or why there is none.
type Reply = Result<Vec<u8>, HookError>;

/// A function in Python. It has nothing of Python in it, so that it can be used and dropped anywhere.
#[derive(Debug)]
pub(crate) struct PythonHook {
    pub(crate) name: String,
    pub(crate) points: [HookPoint; 1],
    /// Its place in Python's list of hooks.
    pub(crate) index: usize,
    /// Whether it runs on the loop rather than on a thread of the pool.
    pub(crate) is_async: bool,
    pub(crate) queues: Arc<Queues>,
}

/// One call on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) hook: usize,
    pub(crate) is_async: bool,
    pub(crate) call: HookCall,
    pub(crate) phase: Mutex<Phase>,
}

/// How far a call is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nobody waits for it any more; whether another thread works in place of its own.
    Abandoned { replaced: bool },
    /// It is answered, or will never be.
    Done,
    /// It is being answered.
    Running(oneshot::Sender<Reply>),
    /// It is in a queue.
    Waiting(oneshot::Sender<Reply>),
}

/// Whoever waits for a call. Dropped before there is an answer, nobody waits for it any more.
struct Waiting<'a> {
    queues: &'a Queues,
    job: &'a Arc<Job>,
}

#[async_trait]
impl HookHandler for PythonHook {
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    async fn call(&self, call: &HookCall) -> Result<Answer, HookError> {
        let (sender, receiver) = oneshot::channel();
        let phase = Mutex::new(Phase::Waiting(sender));
        let job = Arc::new(Job { hook: self.index, is_async: self.is_async, call: call.clone(), phase });
        self.queues.push(&job)?;
        let waiting = Waiting { queues: &self.queues, job: &job };
        let reply = receiver.await;
        drop(waiting);
        let answer = reply.map_err(|_| HookError::of(FailureKind::Connect, "Python does not run any more"))??;
        Answer::parse(&answer, call.point, &call.id).map_err(|error| HookError::of(FailureKind::Protocol, error))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queues.abandon(self.job);
    }
}

impl Job {
    pub(crate) fn phase(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that Python answers.
#[pyclass(frozen, module = "mairust._mairust")]
#[derive(Debug)]
pub(crate) struct Call {
    job: Arc<Job>,
    queues: Arc<Queues>,
}

impl Call {
    pub(crate) fn new(job: Arc<Job>, queues: Arc<Queues>) -> Self {
        Self { job, queues }
    }
}

#[pymethods]
impl Call {
    /// The place of the hook, in the order in which hooks were added.
    #[getter]
    fn hook(&self) -> usize {
        self.job.hook
    }

    /// The id of the call.
    #[getter]
    fn id(&self) -> &str {
        self.job.call.id.as_str()
    }

    /// The message.
    #[getter]
    fn mail(&self) -> Mail {
        Mail::of(&self.job.call)
    }

    /// Answers it: JSON, as the hook protocol has it. Does nothing if nobody waits for it any more.
    fn finish(&self, answer: Vec<u8>) {
        self.queues.finish(&self.job, Ok(answer));
    }

    /// There is no answer, for this reason.
    fn fail(&self, reason: &str) {
        self.queues.finish(&self.job, Err(HookError::new(reason)));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.queues.finish(&self.job, Err(HookError::new("Python has dropped the call")));
    }
}
