//! Where calls of hooks wait for Python.
//!
//! Threads of the async runtime put calls here, and never enter the interpreter. Calls of coroutines are fetched by
//! Python's asyncio loop, which is woken once for all that came meanwhile, by an octet in a socket that it watches.
//! Calls of other functions are fetched by a pool of Python's threads. Nobody can end a function that goes on for ever:
//! at the deadline of its call it is only waited for no more, and another thread works in place of its own. So many
//! threads may be blocked as the pool was given spare ones.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mairust::cli::PythonHooks;
use mairust_hooks::{Binding, FailureKind, HookError, HookPoint, OnFailure, RecipientFilter};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::errors::configuration;
use crate::hook::{Call, Job, Phase, PythonHook};

/// Calls that wait, and the threads that fetch them.
#[derive(Debug)]
pub(crate) struct Queues {
    state: Mutex<State>,
    /// There is a call for the pool, or none any more.
    for_pool: Condvar,
    /// A thread of the pool is missing, or none any more.
    missing: Condvar,
    /// Wakes the loop.
    waker: UnixStream,
    /// Threads that are blocked by calls which nobody waits for.
    stuck: Arc<AtomicI64>,
}

#[derive(Debug)]
struct State {
    /// For the loop: calls, and those that nobody waits for any more.
    for_loop: VecDeque<(Arc<Job>, Wish)>,
    /// Whether the loop was woken, and has not looked yet.
    woken: bool,
    for_pool: VecDeque<Arc<Job>>,
    /// Threads of the pool.
    threads: usize,
    /// Threads that answer calls which nobody waits for; at most half of the pool, so that a sender never waits for one.
    background: usize,
    /// Threads that may still take the place of blocked ones.
    spare: usize,
    /// Threads that are to be made.
    missing: usize,
    /// Threads that have work no more: they were blocked, others took their places, and they came back.
    surplus: usize,
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Answer,
    Cancel,
}

impl Queues {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has Python called.
    pub(crate) fn push(&self, job: &Arc<Job>) -> Result<(), HookError> {
        let mut state = self.state();
        if state.closed {
            return Err(HookError::of(FailureKind::Connect, "Python does not run any more"));
        }
        if job.is_async {
            state.for_loop.push_back((job.clone(), Wish::Answer));
            self.wake(&mut state);
        } else {
            state.for_pool.push_back(job.clone());
            self.for_pool.notify_one();
        }
        Ok(())
    }

    /// Nobody waits for it any more.
    pub(crate) fn abandon(&self, job: &Arc<Job>) {
        let mut state = self.state();
        let mut phase = job.phase();
        match &*phase {
            Phase::Abandoned { .. } | Phase::Done => {}
            Phase::Waiting(_) => {
                *phase = Phase::Done;
                state.for_pool.retain(|waiting| !Arc::ptr_eq(waiting, job));
                state.for_loop.retain(|(waiting, _)| !Arc::ptr_eq(waiting, job));
            }
            Phase::Running(_) if job.is_async => {
                *phase = Phase::Done;
                state.for_loop.push_back((job.clone(), Wish::Cancel));
                self.wake(&mut state);
            }
            Phase::Running(_) => {
                let replaced = state.spare > 0;
                *phase = Phase::Abandoned { replaced };
                self.stuck.fetch_add(1, Ordering::Relaxed);
                if replaced {
                    (state.spare, state.missing) = (state.spare - 1, state.missing + 1);
                    state.leave(job);
                    self.missing.notify_one();
                }
            }
        }
    }

    /// It was answered, or there will be no answer.
    pub(crate) fn finish(&self, job: &Job, reply: Result<Vec<u8>, HookError>) {
        let mut state = self.state();
        let phase = std::mem::replace(&mut *job.phase(), Phase::Done);
        match phase {
            Phase::Abandoned { replaced } => {
                self.stuck.fetch_sub(1, Ordering::Relaxed);
                if replaced {
                    (state.spare, state.surplus) = (state.spare + 1, state.surplus + 1);
                } else {
                    state.leave(job);
                }
            }
            Phase::Done => {}
            // Nobody may wait any more: whoever did has gone just now.
            Phase::Waiting(sender) => drop(sender.send(reply)),
            Phase::Running(sender) => {
                state.leave(job);
                let _ = sender.send(reply);
            }
        }
    }

    fn wake(&self, state: &mut State) {
        if !state.woken {
            state.woken = true;
            // A full socket wakes as well.
            let _ = (&self.waker).write(&[0]);
        }
    }

    /// What the loop has to do.
    fn take(&self) -> Vec<(Arc<Job>, Wish)> {
        let mut state = self.state();
        state.woken = false;
        let mut taken: Vec<_> = state.for_loop.drain(..).collect();
        taken.retain(|(job, wish)| *wish == Wish::Cancel || begin(job));
        taken
    }

    /// The next call for the pool, when there is one; `None` when the thread is to end.
    fn next(&self) -> Option<Arc<Job>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if state.surplus > 0 {
                state.surplus -= 1;
                return None;
            }
            while let Some(job) = state.pop_for_pool() {
                if begin(&job) {
                    state.background += usize::from(job.call.point.is_async());
                    return Some(job);
                }
            }
            state = self.for_pool.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a thread is missing; `false` when there will be no more.
    fn vacancy(&self) -> bool {
        let mut state = self.state();
        while state.missing == 0 && !state.closed {
            state = self.missing.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.missing -= 1;
        true
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        // Whoever waits is told by what is dropped here.
        for job in state.for_pool.drain(..) {
            *job.phase() = Phase::Done;
        }
        for (job, _) in state.for_loop.drain(..) {
            *job.phase() = Phase::Done;
        }
        self.for_pool.notify_all();
        self.missing.notify_all();
    }
}

impl State {
    /// The next call that a thread of the pool may answer.
    fn pop_for_pool(&mut self) -> Option<Arc<Job>> {
        let full = self.background >= (self.threads / 2).max(1);
        let place = self.for_pool.iter().position(|job| !full || !job.call.point.is_async())?;
        self.for_pool.remove(place)
    }

    /// A thread of the pool has no more to do with it.
    fn leave(&mut self, job: &Job) {
        let counted = !job.is_async && job.call.point.is_async();
        self.background -= usize::from(counted);
    }
}

/// Takes a call out of its queue; `false` if nobody waits for it any more.
fn begin(job: &Job) -> bool {
    let mut phase = job.phase();
    match std::mem::replace(&mut *phase, Phase::Done) {
        Phase::Waiting(sender) => {
            *phase = Phase::Running(sender);
            true
        }
        other => {
            *phase = other;
            false
        }
    }
}

/// Calls of hooks in Python, on their way.
#[pyclass(frozen, module = "mairust._mairust")]
#[derive(Debug)]
pub(crate) struct Calls {
    queues: Arc<Queues>,
    bindings: Mutex<Vec<Binding>>,
    /// The other end of what wakes the loop.
    woken: UnixStream,
}

impl Calls {
    /// What the server has to know about them.
    pub(crate) fn for_server(&self) -> PythonHooks {
        let bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        PythonHooks::new(bindings, self.queues.stuck.clone())
    }
}

#[pymethods]
impl Calls {
    /// No calls yet. A pool of `threads` fetches those of functions; `spare` more take the places of blocked ones.
    #[new]
    fn new(threads: usize, spare: usize) -> PyResult<Self> {
        let pair = UnixStream::pair().and_then(|(waker, woken)| {
            waker.set_nonblocking(true)?;
            woken.set_nonblocking(true)?;
            Ok((waker, woken))
        });
        let (waker, woken) = pair.map_err(|error| PyOSError::new_err(error.to_string()))?;
        let state = State {
            for_loop: VecDeque::new(),
            woken: false,
            for_pool: VecDeque::new(),
            threads,
            background: 0,
            spare,
            missing: 0,
            surplus: 0,
            closed: false,
        };
        let queues = Queues {
            state: Mutex::new(state),
            for_pool: Condvar::new(),
            missing: Condvar::new(),
            waker,
            stuck: Arc::default(),
        };
        Ok(Self { queues: Arc::new(queues), bindings: Mutex::default(), woken })
    }

    /// Adds a hook. Times are in seconds.
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    #[pyo3(signature = (name, point, *, is_async, priority, timeout, on_failure, on_open, required, max_inflight, recipients))]
    fn add(
        &self,
        name: String,
        point: &str,
        is_async: bool,
        priority: u16,
        timeout: Option<f64>,
        on_failure: &str,
        on_open: Option<&str>,
        required: bool,
        max_inflight: Option<usize>,
        recipients: Option<&str>,
    ) -> PyResult<()> {
        let wrong = |what: &str| configuration(format_args!("hook {name:?}: {what}"));
        let failure = |word: &str| OnFailure::parse(word).ok_or_else(|| wrong("on_failure and on_open are verdicts"));
        let point = HookPoint::parse(point).ok_or_else(|| wrong("there is no such point"))?;
        let timeout =
            timeout.map(Duration::try_from_secs_f64).transpose().map_err(|error| wrong(&error.to_string()))?;
        let filter = recipients.map(RecipientFilter::parse).transpose();
        let recipients = filter.map_err(|error| wrong(&format!("recipients: {error}")))?;
        let (on_failure, on_open) = (failure(on_failure)?, on_open.map(failure).transpose()?);
        let mut bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        let queues = self.queues.clone();
        let hook = PythonHook { name, points: [point], index: bindings.len(), is_async, queues };
        let mut binding = Binding::new(Arc::new(hook));
        binding.priority = priority;
        binding.timeout = timeout;
        binding.required = required;
        binding.on_failure = on_failure;
        binding.on_open = on_open;
        binding.max_inflight = max_inflight;
        binding.recipients = recipients;
        bindings.push(binding);
        Ok(())
    }

    /// The descriptor that can be read when [`take`](Self::take) has something.
    #[getter]
    fn fd(&self) -> i32 {
        self.woken.as_raw_fd()
    }

    /// Threads that are blocked by calls which nobody waits for any more.
    #[getter]
    fn stuck(&self) -> i64 {
        self.queues.stuck.load(Ordering::Relaxed)
    }

    /// For the loop, without waiting: calls to be answered, and the ids of those that are to be cancelled.
    fn take(&self) -> Vec<(Option<Call>, String)> {
        let mut buffer = [0; 64];
        while (&self.woken).read(&mut buffer).is_ok_and(|count| count == buffer.len()) {}
        let taken = self.queues.take().into_iter().map(|(job, wish)| {
            let id = job.call.id.to_string();
            ((wish == Wish::Answer).then(|| Call::new(job, self.queues.clone())), id)
        });
        taken.collect()
    }

    /// For a thread of the pool: waits for the next call; `None` when the thread is to end.
    fn next(&self, py: Python<'_>) -> Option<Call> {
        let job = py.detach(|| self.queues.next())?;
        Some(Call::new(job, self.queues.clone()))
    }

    /// Waits until a thread is missing in the pool; `False` when there will be no more.
    fn vacancy(&self, py: Python<'_>) -> bool {
        py.detach(|| self.queues.vacancy())
    }

    /// There are no more calls: whoever waits for one is told so.
    fn close(&self) {
        self.queues.close();
    }
}
