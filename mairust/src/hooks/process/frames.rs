//! What goes to a worker and comes from it: one JSON object a line.

use std::borrow::Cow;
use std::time::Duration;

use mairust_hooks::protocol::{Grants, InvocationId};
use mairust_hooks::{HealthReport, HealthStatus};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The version of the protocol.
pub(super) const PROTOCOL: u64 = 1;

/// What a line begins with that is a frame; other lines are text.
const MARK: &[u8] = br#"{"type""#;

/// What a worker is told, apart from calls.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToWorker<'a> {
    Cancel {
        id: &'a str,
    },
    Config {
        config_rev: u64,
        config: &'a Map<String, Value>,
    },
    Health {
        id: &'a str,
    },
    Hello {
        protocol: u64,
        mairust: &'static str,
        plugin_id: &'a str,
        config: &'a Map<String, Value>,
        granted: &'a Grants,
        max_inflight: usize,
    },
    Shutdown {
        grace_ms: u64,
    },
}

/// What a worker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromWorker<'a> {
    Health { id: Cow<'a, str>, report: HealthReport },
    Log { level: LogLevel, text: Cow<'a, str>, fields: Option<&'a str> },
    Ready { protocol: u64, max_inflight: Option<usize> },
    Result { id: Cow<'a, str>, said: Said<'a> },
}

/// What a worker says about a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// Its answer: JSON.
    Answer(&'a str),
    /// It has none, for this reason.
    Error(Cow<'a, str>),
    /// Nothing that could be understood.
    Nothing,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogLevel {
    Debug,
    Error,
    Info,
    Trace,
    Warn,
}

impl From<tracing::Level> for LogLevel {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::ERROR => Self::Error,
            tracing::Level::INFO => Self::Info,
            tracing::Level::TRACE => Self::Trace,
            tracing::Level::WARN => Self::Warn,
        }
    }
}

/// All fields that any frame has.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    status: Option<HealthStatus>,
    #[serde(borrow)]
    details: Option<Cow<'a, str>>,
    #[serde(borrow)]
    level: Option<Cow<'a, str>>,
    #[serde(borrow)]
    msg: Option<Cow<'a, str>>,
    #[serde(borrow)]
    fields: Option<&'a RawValue>,
    protocol: Option<u64>,
    max_inflight: Option<usize>,
}

impl ToWorker<'_> {
    /// The line, with its end.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("maps with texts as keys are JSON");
        line.push(b'\n');
        line
    }

    /// How long a worker has to end.
    pub(super) fn shutdown(grace: Duration) -> Self {
        Self::Shutdown { grace_ms: grace.as_millis().try_into().unwrap_or(u64::MAX) }
    }
}

/// The line of a call, with its end.
pub(super) fn call(id: &InvocationId, request: &[u8]) -> Vec<u8> {
    let head = format!(r#"{{"type":"hook","id":"{id}","request":"#);
    let mut line = Vec::with_capacity(head.len() + request.len() + 2);
    line.extend_from_slice(head.as_bytes());
    // Between the parts of JSON only: texts have no line ends in them.
    line.extend(request.iter().map(|octet| if matches!(octet, b'\n' | b'\r') { b' ' } else { *octet }));
    line.extend_from_slice(b"}\n");
    line
}

/// Whether a line is a frame, or is meant to be one.
pub(super) fn is_frame(line: &[u8]) -> bool {
    line.starts_with(MARK)
}

impl LogLevel {
    /// That of this name, as loggers of many languages write it.
    fn of(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "critical" | "error" | "fatal" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => Self::Info,
        }
    }
}

impl<'a> FromWorker<'a> {
    /// Reads a frame; `None` for one of a kind that is not known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(line: &'a [u8]) -> Result<Option<Self>, String> {
        let fields: Fields<'a> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let lacks = |name: &str| format!("a frame of the type {:?} has no {name}", fields.kind);
        Ok(Some(match &*fields.kind {
            "health" => {
                let status = fields.status.ok_or_else(|| lacks("status"))?;
                let details = fields.details.unwrap_or_default().into_owned();
                Self::Health { id: fields.id.ok_or_else(|| lacks("id"))?, report: HealthReport { status, details } }
            }
            "log" => Self::Log {
                level: LogLevel::of(fields.level.as_deref().unwrap_or_default()),
                text: fields.msg.unwrap_or_default(),
                fields: fields.fields.map(RawValue::get).filter(|fields| *fields != "{}"),
            },
            "ready" => Self::Ready {
                protocol: fields.protocol.ok_or_else(|| lacks("protocol"))?,
                max_inflight: fields.max_inflight,
            },
            "result" => {
                let said = match (fields.response, fields.error) {
                    (Some(answer), None) => Said::Answer(answer.get()),
                    (None, Some(error)) => Said::Error(error),
                    (Some(_), Some(_)) | (None, None) => Said::Nothing,
                };
                Self::Result { id: fields.id.ok_or_else(|| lacks("id"))?, said }
            }
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &[u8]) -> &str {
        std::str::from_utf8(line).unwrap()
    }

    #[test]
    fn frames_are_written_as_the_protocol_has_them() {
        let config = Map::from_iter([("threshold".to_owned(), 0.8.into())]);
        let granted = Grants::default();
        let hello = ToWorker::Hello {
            protocol: PROTOCOL,
            mairust: "0.1.0",
            plugin_id: "com.example.hook",
            config: &config,
            granted: &granted,
            max_inflight: 4,
        };
        let hello: Value = serde_json::from_slice(&hello.line()).unwrap();
        assert_eq!(
            (&hello["type"], &hello["protocol"], &hello["max_inflight"]),
            (&"hello".into(), &1.into(), &4.into())
        );
        assert_eq!((&hello["config"]["threshold"], &hello["granted"]["read_body"]), (&0.8.into(), &"none".into()));
        for (frame, line) in [
            (ToWorker::Cancel { id: "inv_1" }, r#"{"type":"cancel","id":"inv_1"}"#),
            (ToWorker::Health { id: "h1" }, r#"{"type":"health","id":"h1"}"#),
            (ToWorker::shutdown(Duration::from_secs(5)), r#"{"type":"shutdown","grace_ms":5000}"#),
            (
                ToWorker::Config { config_rev: 8, config: &config },
                r#"{"type":"config","config_rev":8,"config":{"threshold":0.8}}"#,
            ),
        ] {
            assert_eq!(text(&frame.line()), format!("{line}\n"));
        }
    }

    #[test]
    fn a_call_is_one_line() {
        let id = InvocationId::new(mairust_core::Timestamp::from_unix(0));
        let line = call(&id, b"{\r\n \"subject\": \"a\\nb\"\n}");
        assert_eq!(
            text(&line),
            format!("{{\"type\":\"hook\",\"id\":\"{id}\",\"request\":{{   \"subject\": \"a\\nb\" }}}}\n")
        );
    }

    #[test]
    fn frames_are_read() {
        let read = |line: &'static str| FromWorker::parse(line.as_bytes()).unwrap().unwrap();
        let ready = r#"{"type":"ready","protocol":1,"sdk":"mairust-py/0.1","max_inflight":4}"#;
        assert_eq!(read(ready), FromWorker::Ready { protocol: 1, max_inflight: Some(4) });
        let answer = r#"{"verdict": "allow", "verdict": 1}"#;
        assert_eq!(
            read(r#"{"type":"result","id":"inv_1","response":{"verdict": "allow", "verdict": 1}}"#),
            FromWorker::Result { id: "inv_1".into(), said: Said::Answer(answer) },
            "as it was written: whoever reads answers judges it"
        );
        assert_eq!(
            read(r#"{"type":"result","id":"inv_1","error":"no \"idea\""}"#),
            FromWorker::Result { id: "inv_1".into(), said: Said::Error("no \"idea\"".into()) }
        );
        assert_eq!(
            read(r#"{"type":"result","id":"inv_1"}"#),
            FromWorker::Result { id: "inv_1".into(), said: Said::Nothing }
        );
        let report = HealthReport { status: HealthStatus::Degraded, details: "slow".to_owned() };
        assert_eq!(
            read(r#"{"type":"health","id":"h1","status":"degraded","details":"slow"}"#),
            FromWorker::Health { id: "h1".into(), report }
        );
        assert_eq!(
            read(r#"{"type":"log","level":"WARNING","msg":"こんにちは","fields":{"a": 1}}"#),
            FromWorker::Log { level: LogLevel::Warn, text: "こんにちは".into(), fields: Some(r#"{"a": 1}"#) }
        );
    }

    #[test]
    fn what_is_no_frame_is_told() {
        assert!(is_frame(br#"{"type":"ready"}"#) && !is_frame(b"{'type': 1}") && !is_frame(b" hello"));
        assert_eq!(FromWorker::parse(br#"{"type":"later","id":7}"#).err().map(|_| ()), Some(()), "an id is a text");
        assert_eq!(FromWorker::parse(br#"{"type":"later"}"#), Ok(None));
        for line in [
            &br#"{"type":"result"}"#[..],
            br#"{"type":"health","id":"h1","status":"fine"}"#,
            br#"{"type":"ready"}"#,
            br#"{"type":"result","id":"inv_1","response":{"verdict":}}"#,
            b"{\"type\":\"result\",\"id\":\"\xff\",\"response\":{}}",
        ] {
            assert!(FromWorker::parse(line).is_err(), "{}", line.escape_ascii());
        }
    }
}
