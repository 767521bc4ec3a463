//! Log lines on standard error: one JSON object each, or text for people.

use std::io::IsTerminal;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// Sends log lines of this level and above to standard error. Does nothing if the application
/// has a subscriber of its own.
///
/// # Errors
/// When `level` is neither a level nor a filter such as `info,mairust_smtp=debug`.
pub fn init(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(directives(level)).map_err(|error| format!("log level {level:?}: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    // An application that embeds the server may have a subscriber already.
    let _ = match format {
        LogFormat::Json => {
            registry.with(SpanFields).with(fmt::layer().event_format(JsonLines).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colours)).try_init()
        }
    };
    Ok(())
}

/// What strangers do wrong in a handshake makes rustls warn: that is for whoever looks for a fault,
/// and must not fill the log of everybody else. The audit log is told whatever the level.
fn directives(level: &str) -> String {
    match level {
        "error" | "warn" | "info" => format!("{level},audit=info,rustls=error"),
        _ => level.to_owned(),
    }
}

/// The fields of a span, kept for the events inside it.
#[derive(Debug, Default, Clone)]
struct Fields(serde_json::Map<String, serde_json::Value>);

/// Keeps the fields of each span.
struct SpanFields;

/// Writes one flat JSON object a line: `timestamp level component message`, then the fields of
/// the spans around it and its own.
struct JsonLines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanFields {
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, id: &tracing::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &tracing::Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = Fields::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(kept) = span.extensions().get::<Fields>() {
                fields.0.extend(kept.0.clone());
            }
        }
        event.record(&mut fields);
        // Of lines that come from the crate `log`: where the source stood when it was compiled.
        fields.0.retain(|name, _| !name.starts_with("log."));
        let now = mairust_core::Clock::now(&mairust_core::SystemClock);
        let component = fields.0.remove("component");
        let line = Line {
            timestamp: now.to_rfc3339(),
            level: event.metadata().level().as_str(),
            component: component.unwrap_or_else(|| event.metadata().target().into()),
            message: fields.0.remove("message").unwrap_or_default(),
            fields: fields.0,
        };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| std::fmt::Error)?)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    component: serde_json::Value,
    message: serde_json::Value,
    #[serde(flatten)]
    fields: serde_json::Map<String, serde_json::Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_carries_the_fields_of_its_spans() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = fmt::layer().event_format(JsonLines).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(SpanFields).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span =
                tracing::info_span!("session", component = "smtp", session_id = "s1", size = tracing::field::Empty);
            let _entered = span.enter();
            span.record("size", 7_u64);
            tracing::info!(message_id = "m1", "log.file" = "lib.rs", "a \"quoted\" message");
        });
        let written = sink.0.lock().unwrap().clone();
        let line: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(line["component"], "smtp");
        assert_eq!(line["session_id"], "s1");
        assert_eq!(line["message_id"], "m1");
        assert_eq!(line["message"], "a \"quoted\" message");
        assert_eq!((&line["level"], &line["size"]), (&"INFO".into(), &7.into()));
        assert_eq!(line.get("log.file"), None);
    }

    #[test]
    fn rustls_speaks_to_those_who_look_for_a_fault() {
        let hears = |level: &str| {
            let filter = EnvFilter::try_new(directives(level)).unwrap();
            let subscriber = tracing_subscriber::registry().with(filter);
            tracing::subscriber::with_default(
                subscriber,
                || tracing::enabled!(target: "rustls::msgs::handshake", tracing::Level::WARN),
            )
        };
        assert_eq!(["error", "warn", "info", "debug", "trace"].map(hears), [false, false, false, true, true]);
        assert!(hears("info,rustls=warn"));
    }
}
