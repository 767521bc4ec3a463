//! One message, for Python.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mairust_core::content::{TextLeaf, attachment_bytes, header_fields, text_leaves};
use mairust_core::{Body, Content, Envelope, NamedAddress, Origin, ReversePath, TenantId};
use mairust_hooks::protocol::request::SessionOrigin;
use mairust_hooks::protocol::{AttachmentGrant, Grants, MailFacts, View};
use mairust_hooks::{Fingerprint, HookCall, HookPoint};
use pyo3::exceptions::{PyIndexError, PyKeyError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A message, decoded as the server itself decodes mail, each part when it is asked for.
#[pyclass(frozen, module = "mairust._mairust")]
#[derive(Debug)]
pub(crate) struct Mail {
    mail: mairust_core::Mail,
    facts: Arc<MailFacts>,
    call: Option<HookCall>,
    octets: OnceLock<Bytes>,
}

impl Mail {
    /// The message of a call.
    pub(crate) fn of(call: &HookCall) -> Self {
        Self { mail: call.mail.clone(), facts: call.facts.clone(), call: Some(call.clone()), octets: OnceLock::new() }
    }

    fn octets(&self) -> PyResult<&Bytes> {
        if let Some(octets) = self.octets.get() {
            return Ok(octets);
        }
        let read = self.mail.body().read_all().map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(self.octets.get_or_init(|| read))
    }

    /// Runs `read` over the octets, while other threads of Python go on.
    fn read<T: Send>(&self, py: Python<'_>, read: impl FnOnce(&[u8]) -> T + Send) -> PyResult<T> {
        py.detach(|| self.octets().map(|octets| read(octets)))
    }
}

#[pymethods]
impl Mail {
    /// A message of these octets, for tests.
    #[new]
    fn new(py: Python<'_>, octets: Vec<u8>) -> Self {
        py.detach(|| {
            let facts = MailFacts::new(Fingerprint::of_octets(&octets), SessionOrigin::Smtp);
            let content = Content::parse(&octets);
            let envelope = Envelope { sender: ReversePath::Null, recipients: Vec::new() };
            let tenant = TenantId::from_bytes([0; 16]);
            let mail = mairust_core::Mail::new(tenant, envelope, Origin::default(), Body::from(octets), content);
            Self { mail, facts: Arc::new(facts), call: None, octets: OnceLock::new() }
        })
    }

    /// What is told about it: a request of the hook protocol without what the message says, in JSON.
    fn facts(&self, py: Python<'_>) -> PyResult<String> {
        self.read(py, |octets| {
            let hook = self.call.as_ref().map_or(HookPoint::PreReceive, |call| call.point);
            let mut grants = Grants::default();
            grants.read_attachments = AttachmentGrant::Metadata;
            let mut view = View { hook, mail: &self.mail, octets, facts: &self.facts, links: None }.under(&grants);
            // Nothing is withheld: the rest is asked for as well.
            view.redacted.clear();
            let mut told = serde_json::json!(view);
            if let Some(call) = &self.call {
                told["invocation_id"] = call.id.as_str().into();
                told["hook"] = call.point.as_str().into();
                told["mode"] = call.mode.as_str().into();
                told["attempt"] = call.attempt.into();
                told["occurred_at"] = call.occurred_at.to_rfc3339().into();
                told["tenant"] = serde_json::json!({ "id": self.mail.tenant().to_string() });
            }
            told.to_string()
        })
    }

    /// Name, decoded value and octets of each header field.
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Vec<(String, String, Bound<'py, PyBytes>)>> {
        let fields = self.read(py, header_fields)?;
        Ok(fields.into_iter().map(|field| (field.name, field.value, PyBytes::new(py, &field.octets))).collect())
    }

    /// Name and address of all in From, To or Cc.
    fn addresses(&self, field: &str) -> PyResult<Vec<(String, String)>> {
        let content = self.mail.content();
        let found = match field {
            "Cc" => &content.cc,
            "From" => &content.from,
            "To" => &content.to,
            other => return Err(PyKeyError::new_err(other.to_owned())),
        };
        let written = |one: &NamedAddress| (one.name.clone().unwrap_or_default(), one.address.clone());
        Ok(found.iter().map(written).collect())
    }

    /// All texts; HTML reduced to text if there is nothing else.
    fn text(&self, py: Python<'_>) -> PyResult<String> {
        self.read(py, |octets| {
            let (html, plain): (Vec<_>, Vec<_>) = text_leaves(octets).into_iter().partition(TextLeaf::is_html);
            let shown = if plain.is_empty() { html } else { plain };
            shown.into_iter().map(TextLeaf::into_shown).collect::<Vec<_>>().join("\n")
        })
    }

    /// All HTML, as it is written.
    fn html(&self, py: Python<'_>) -> PyResult<String> {
        self.read(py, |octets| {
            let html = text_leaves(octets).into_iter().filter(TextLeaf::is_html).map(|leaf| leaf.text);
            html.collect::<Vec<_>>().join("\n")
        })
    }

    /// All octets.
    fn raw<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        py.detach(|| self.octets().map(drop))?;
        Ok(PyBytes::new(py, self.octets()?))
    }

    /// The octets of an attachment, its transfer encoding undone.
    fn attachment<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyBytes>> {
        let found = self.read(py, |octets| attachment_bytes(octets, index))?;
        found.map(|octets| PyBytes::new(py, &octets)).ok_or_else(|| PyIndexError::new_err(index))
    }
}
