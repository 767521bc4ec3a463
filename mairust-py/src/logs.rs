//! Log lines from one side to the other.
//!
//! Where Python hosts the server, its lines are handed to `logging`: they wait here for a thread of Python. Where the
//! command line runs, lines of Python go into the log of the server. There is never both, so no line comes back.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait at most; of more, the newest are dropped.
const LINES: usize = 10_000;

/// Level as `logging` has it, component, and text with its fields.
type Line = (u8, String, String);

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Line>,
    dropped: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

/// Lines of the server for `logging`.
#[pyclass(frozen, module = "mairust._mairust")]
#[derive(Debug)]
pub(crate) struct Logs(Arc<Queue>);

#[pymethods]
impl Logs {
    /// Takes all lines of this process from now on; `None` if they go somewhere else already.
    #[staticmethod]
    fn install(filter: &str) -> PyResult<Option<Self>> {
        let filter = EnvFilter::try_new(filter)
            .map_err(|error| crate::errors::configuration(format_args!("log filter {filter:?}: {error}")))?;
        let queue = Arc::new(Queue::default());
        let layer = ToPython(queue.clone());
        let installed = tracing_subscriber::registry().with(filter).with(layer).try_init();
        Ok(installed.is_ok().then_some(Self(queue)))
    }

    /// Waits for lines; an empty list when there will be none any more.
    fn next(&self, py: Python<'_>) -> Vec<Line> {
        py.detach(|| {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            while waiting.lines.is_empty() && !waiting.closed {
                waiting = self.0.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let mut lines: Vec<_> = waiting.lines.drain(..).collect();
            match std::mem::take(&mut waiting.dropped) {
                0 => {}
                count => lines.push((30, "logs".to_owned(), format!("{count} lines were dropped"))),
            }
            lines
        })
    }

    /// Ends the wait for lines.
    fn close(&self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.filled.notify_all();
    }
}

struct ToPython(Arc<Queue>);

impl<S: Subscriber> Layer<S> for ToPython {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let component = text.component.unwrap_or_else(|| event.metadata().target().to_owned());
        let line = (number(*event.metadata().level()), component, text.message + &text.fields);
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return;
        }
        if waiting.lines.len() < LINES {
            waiting.lines.push_back(line);
            self.0.filled.notify_one();
        } else {
            waiting.dropped += 1;
        }
    }
}

#[derive(Default)]
struct Text {
    component: Option<String>,
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "component" => self.component = Some(format!("{value:?}").trim_matches('"').to_owned()),
            "message" => self.message = format!("{value:?}"),
            // Of lines that come from the crate `log`: where the source stood when it was compiled.
            name if name.starts_with("log.") => {}
            // Writing to a String does not fail.
            name => drop(write!(self.fields, " {name}={value:?}")),
        }
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// Writes a line into the log of the server.
#[pyfunction]
pub(crate) fn log(py: Python<'_>, level: u32, logger: &str, message: &str, invocation_id: Option<&str>) {
    py.detach(|| match level {
        40.. => tracing::error!(component = "python", logger, invocation_id, "{message}"),
        30..40 => tracing::warn!(component = "python", logger, invocation_id, "{message}"),
        20..30 => tracing::info!(component = "python", logger, invocation_id, "{message}"),
        _ => tracing::debug!(component = "python", logger, invocation_id, "{message}"),
    });
}
