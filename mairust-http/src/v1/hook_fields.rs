//! Settings of hooks, as the API describes them. What they may be is up to
//! [`HookSettings`](mairust_hooks::HookSettings), which reads them, too.

use mairust_hooks::HookSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::problem::Problem;

/// How a hook is bound. What is null or left out has its default; in a change, what is left out stays as it is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookFields {
    /// Where it is called; at least one of `pre_receive`, `post_receive` and `pre_send`.
    points: Option<Vec<String>>,
    /// How it is reached.
    transport: Option<TransportFields>,
    /// The version of the program, as it is told to it.
    #[schema(default = "0.0.0")]
    version: Option<String>,
    /// Lower runs first; equals run at the same time.
    #[schema(minimum = 0, maximum = 1000, default = 100)]
    priority: Option<u16>,
    /// How long one call may take, in milliseconds: up to 3000 at `pre_receive`, 5000 at `pre_send`, 300000 at
    /// `post_receive`. By default 2000, and 30000 at `post_receive`.
    timeout_ms: Option<u64>,
    /// How long it is waited for a result that it tells later, in milliseconds, from when it has taken a call with 202:
    /// from 1000 to 86400000.
    #[schema(default = 300000)]
    result_timeout_ms: Option<u64>,
    /// Whether no mail is to pass that it has not seen.
    #[schema(default = false)]
    required: Option<bool>,
    /// What becomes of a message when it fails: `allow`, `quarantine`, `tempfail` or `reject`. By default `allow`, or
    /// `tempfail` if it is required.
    on_failure: Option<String>,
    /// The same while it is left alone since too many calls failed. By default as `on_failure`.
    on_open: Option<String>,
    /// `reject` in `on_failure` and `on_open` needs it.
    #[schema(default = false)]
    i_know_this_bounces_mail: Option<bool>,
    /// Calls at the same time, at each point. By default 16, and 4 at `post_receive`.
    #[schema(minimum = 1, maximum = 1000)]
    max_inflight: Option<u32>,
    /// Whether what it says counts (`enforce`) or is only written down (`shadow`).
    #[schema(default = "enforce")]
    mode: Option<String>,
    /// Whether it is asked at `pre_send` before the policy. Only whoever runs the server can set it.
    #[schema(default = false)]
    before_policy: Option<bool>,
    /// Whether it is asked at `pre_send` about mail of the server itself, too, such as notices about deliveries. It may
    /// add to it, and neither refuses it nor holds it up.
    #[schema(default = false)]
    include_internal: Option<bool>,
    /// Whether it is asked at `pre_receive` later about mail that passed without it. By default if it is not required
    /// and may decide `quarantine`.
    catch_up: Option<bool>,
    /// The recipients that it is called for: a regular expression for whole addresses. By default all.
    recipients: Option<String>,
    /// What somebody wants of its breakers: `automatic`, `disabled` or `forced_open`.
    #[schema(default = "automatic")]
    circuit: Option<String>,
    /// What it may see and do. By default the envelope, and no more.
    grants: Option<GrantFields>,
    /// Settings of its own, as they are told to it. A change replaces all of them.
    #[schema(value_type = Option<Object>)]
    config: Option<Map<String, Value>>,
}

/// How a hook is reached.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransportFields {
    /// `http`, or `process`, which only whoever runs the server can set. It can't be changed.
    kind: String,
    /// `http`: where requests go.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://spam.example/hook")]
    endpoint: Option<String>,
    /// `http`: where it is asked whether it works; at the same host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    health_endpoint: Option<String>,
    /// `http`: whether answers have to be signed: `off`, `prefer` or `require`.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_signature: Option<String>,
    /// `http`: whether it may be at a private address. Only whoever runs the server can set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    private_address: Option<bool>,
    /// `process`: the program and its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    /// `process`: where it is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    /// `process`: how many messages one process sees: all (`worker`) or one (`oneshot`).
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
}

/// What a hook may see and do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantFields {
    /// Session, envelope, results of authentication, policy and fingerprint; granted unless it is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    read_envelope: Option<bool>,
    /// Header fields.
    read_headers: Option<bool>,
    /// The only header fields that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_headers_only: Option<Vec<String>>,
    /// The text: `none`, `preview` or `full`.
    read_body: Option<String>,
    /// How many octets of UTF-8 a preview has at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 4096, maximum = 16384, default = 4096)]
    preview_bytes: Option<u32>,
    /// What is attached: `none`, `metadata`, `preview` or `full`.
    read_attachments: Option<String>,
    /// To set and remove tags; needs `read_headers`.
    write_tags: Option<bool>,
    /// To set and remove flags; needs `read_headers`.
    write_flags: Option<bool>,
    /// To say which folder a message belongs into; needs `read_headers` and `read_body`.
    move_message: Option<bool>,
    /// To keep data of its own with a message; needs `read_headers`.
    write_metadata: Option<bool>,
    /// What it may decide besides letting a message pass: `tempfail`, `quarantine`, and `reject`, which only whoever
    /// runs the server can grant.
    decide: Option<Vec<String>>,
    /// To add header fields.
    add_headers: Option<bool>,
    /// The only header fields that it may add; a final `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    add_headers_only: Option<Vec<String>>,
}

impl HookFields {
    /// Settings as they are kept.
    pub(super) fn kept(settings: &Value) -> Result<Self, Problem> {
        // What an older version kept gets the defaults of this one.
        let settings = HookSettings::kept(settings).map(|settings| settings.to_json());
        let read = settings.and_then(|json| Self::deserialize(json).map_err(|error| error.to_string()));
        read.map_err(|error| {
            tracing::error!(error, "settings of a hook can't be read");
            Problem::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn has_all_that_settings_have() {
        let all = json!({
            "points": ["pre_send"],
            "transport": {"kind": "http", "endpoint": "https://a/", "health_endpoint": "https://a/h",
                "response_signature": "off", "private_address": true},
            "grants": {"read_envelope": false, "read_headers_only": ["a"], "preview_bytes": 8192,
                "add_headers_only": ["b"]},
        });
        let process =
            json!({"transport": {"kind": "process", "command": ["/a"], "directory": "/b", "mode": "oneshot"}});
        for settings in [all, process] {
            let settings = HookSettings::kept(&settings).unwrap().to_json();
            assert_eq!(json!(HookFields::kept(&settings).unwrap()), settings);
        }
    }
}
