//! What programs say that is no answer: lines for the log of the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mairust_core::{Clock, Rate, Timestamp, TokenBucket};
use tokio::io::AsyncRead;

use super::frames::LogLevel;
use super::lines::Lines;
use crate::metrics::Metrics;

/// Octets of a line that are kept.
pub(super) const LONGEST_LINE: usize = 16 << 10;
/// Lines that may come at once, and how long it takes until as many may come again: 200 a second.
const BURST: u32 = 1_000;
const REFILLED_IN: Duration = Duration::from_secs(5);
/// So many lines of text among the frames within a minute, and somebody is told.
const STRAY_LINES: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);

/// The log of one plugin.
#[derive(Debug)]
pub(crate) struct PluginLog {
    plugin: String,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    bucket: TokenBucket,
    /// The minute that is counted began then.
    minute: Timestamp,
    /// Lines of text among the frames in this minute.
    stray: u32,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) stream: &'static str,
    /// The process, if it is one of ours.
    pub(super) pid: Option<u32>,
    /// The call, where a process has only one.
    pub(super) invocation: Option<&'a str>,
}

/// Why a line of a worker is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// It answers a call that nobody waits for any more.
    Late,
    /// It is text among the frames; it is logged.
    Text,
    /// It is of a kind that is not known.
    Unknown,
    /// It is meant to be a frame, but can't be read.
    Unreadable,
}

impl PluginLog {
    pub(crate) fn new(plugin: String, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let now = clock.now();
        let inner = Mutex::new(Inner { bucket: TokenBucket::full(now), minute: now, stray: 0 });
        Self { plugin, clock, metrics, inner }
    }

    pub(super) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// The time by the clock of the server.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Logs all that comes from a stream, until its end.
    pub(super) async fn copy(&self, stream: impl AsyncRead + Unpin, source: Source<'_>) {
        let mut lines = Lines::new(stream, LONGEST_LINE);
        // One that can't be read any more has ended.
        while let Ok(Some(line)) = lines.next().await {
            self.line(source, &line.octets, line.is_cut);
        }
    }

    /// Logs a line of text.
    pub(super) fn line(&self, source: Source<'_>, octets: &[u8], is_cut: bool) {
        self.write(LogLevel::Info, source, octets, is_cut, None);
    }

    /// Logs what a worker asked to log.
    pub(super) fn entry(&self, level: LogLevel, source: Source<'_>, text: &str, fields: Option<&str>) {
        self.write(level, source, text.as_bytes(), false, fields);
    }

    /// Logs what a program told by the callback API.
    pub(crate) fn remote(&self, level: tracing::Level, invocation: &str, text: &str, fields: Option<&str>) {
        let source = Source { stream: "callback", pid: None, invocation: Some(invocation) };
        self.entry(LogLevel::from(level), source, text, fields);
    }

    fn write(&self, level: LogLevel, source: Source<'_>, octets: &[u8], is_cut: bool, fields: Option<&str>) {
        let rate = Rate::new(BURST, REFILLED_IN);
        let taken = self.lock().bucket.take(&rate, self.clock.now());
        if taken.is_err() {
            self.metrics.plugin_log_dropped(&self.plugin);
            return;
        }
        let text = readable(octets, is_cut);
        let fields = fields.map(|fields| readable(fields.as_bytes(), false));
        let (plugin, Source { stream, pid, invocation }) = (&self.plugin, source);
        macro_rules! write {
            ($level:ident) => {
                tracing::$level!(
                    component = "plugin",
                    plugin,
                    pid,
                    stream,
                    invocation_id = invocation,
                    fields,
                    "{text}"
                )
            };
        }
        match level {
            LogLevel::Debug => write!(debug),
            LogLevel::Error => write!(error),
            LogLevel::Info => write!(info),
            LogLevel::Trace => write!(trace),
            LogLevel::Warn => write!(warn),
        }
    }

    /// Counts a line of a worker that is passed over, and tells of many.
    pub(super) fn ignored(&self, why: Ignored) {
        self.metrics.plugin_line_ignored(&self.plugin, why);
        if why != Ignored::Text {
            return;
        }
        let now = self.clock.now();
        let mut inner = self.lock();
        if now.since(inner.minute) >= MINUTE {
            (inner.minute, inner.stray) = (now, 0);
        }
        inner.stray = inner.stray.saturating_add(1);
        if inner.stray == STRAY_LINES + 1 {
            let plugin = &self.plugin;
            tracing::warn!(
                component = "plugin",
                plugin,
                "more than {STRAY_LINES} lines of its standard output within a minute are no frames; standard error is for text"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ignored {
    /// For metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Text => "text",
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The octets as text in which nothing moves a cursor or begins a line: control characters and octets that are no
/// text are escaped.
pub(super) fn readable(octets: &[u8], is_cut: bool) -> String {
    let mut text = String::with_capacity(octets.len());
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push(character),
                _ if character.is_control() || is_direction(character) => text.extend(character.escape_default()),
                _ => text.push(character),
            }
        }
        text.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    if is_cut {
        text.push_str(" […]");
    }
    text
}

/// Whether a character changes the order in which others are shown, or ends a line.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use mairust_core::ManualClock;

    use super::*;

    #[test]
    fn lines_can_do_no_harm() {
        assert_eq!(readable("日本語\tb\r".as_bytes(), false), "日本語\tb");
        assert_eq!(readable(b"\x1b[2J\0\rINFO forged", false), r"\u{1b}[2J\u{0}\rINFO forged");
        assert_eq!(readable("a\u{85}b\u{202e}c".as_bytes(), false), r"a\u{85}b\u{202e}c");
        assert_eq!(readable(b"caf\xe9", true), r"caf\xe9 […]");
        // Cut within a character.
        assert_eq!(readable(&"は".as_bytes()[..2], true), r"\xe3\x81 […]");
    }

    #[test]
    fn too_many_lines_are_dropped_and_counted() {
        let (clock, metrics) = (Arc::new(ManualClock::at(Timestamp::from_unix(0))), Arc::new(Metrics::new()));
        let log = PluginLog::new("com.example.hook".to_owned(), clock.clone(), metrics.clone());
        let dropped = |lines: u32| {
            let source = Source { stream: "stderr", pid: Some(1), invocation: None };
            (0..lines).for_each(|_| log.line(source, b"hello", false));
            let name = "mairust_plugin_log_dropped_total{plugin=\"com.example.hook\"} ";
            let text = metrics.render();
            text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap())
        };
        assert_eq!(dropped(1_000), 0);
        assert_eq!(dropped(10), 10);
        clock.advance(Duration::from_secs(1));
        assert_eq!(dropped(200), 10);
        assert_eq!(dropped(1), 11);
    }
}
