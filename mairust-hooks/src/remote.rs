//! A program elsewhere as a hook: what it is shown, and what its answer may do.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::callback::{Callbacks, OpenCallback};
use crate::handler::{FailureKind, HealthReport, HookCall, HookError, HookHandler, HookPoint};
use crate::protocol::request::{Plugin, Tenant};
use crate::protocol::{Answer, Callback, Grants, HookRequest, VERSION, View};
use crate::transport::{Incoming, Outgoing, Transport};

/// Up to so many octets a request is made where it is asked for: that takes less time than handing it to another
/// thread.
const INLINE: usize = 64 << 10;

/// A program elsewhere as a hook: all transports have this in common.
#[derive(Debug)]
pub struct Remote {
    plugin: Plugin,
    points: Vec<HookPoint>,
    declared: Grants,
    granted: Grants,
    transport: Arc<dyn Transport>,
    callbacks: Option<Arc<dyn Callbacks>>,
}

impl Remote {
    /// A program that is called at these points. What it asked for is `declared`; what it sees and may do is
    /// `granted`.
    pub fn new(
        plugin: Plugin,
        points: Vec<HookPoint>,
        declared: Grants,
        granted: Grants,
        transport: Arc<dyn Transport>,
    ) -> Self {
        Self { plugin, points, declared, granted, transport, callbacks: None }
    }

    /// The same program, which may ask for more and tell results later.
    #[must_use]
    pub fn with_callbacks(self, callbacks: Arc<dyn Callbacks>) -> Self {
        Self { callbacks: Some(callbacks), ..self }
    }

    /// What the program is asked, without a way to ask for more.
    ///
    /// # Errors
    /// When the message can't be read, or when there is too much to say about it.
    pub async fn request(&self, call: &HookCall) -> Result<Vec<u8>, HookError> {
        self.request_with(call, None).await
    }

    async fn request_with(&self, call: &HookCall, open: Option<&dyn OpenCallback>) -> Result<Vec<u8>, HookError> {
        let (plugin, granted, call) = (self.plugin.clone(), self.granted.clone(), call.clone());
        let open = open.map(|open| (open.message(), open.callback()));
        if call.mail.body().in_memory().is_some_and(|octets| octets.len() <= INLINE) {
            return write(plugin, granted, &call, open);
        }
        tokio::task::spawn_blocking(move || write(plugin, granted, &call, open)).await.map_err(HookError::new)?
    }

    async fn answer(
        &self,
        incoming: Incoming,
        call: &HookCall,
        open: Option<&dyn OpenCallback>,
    ) -> Result<Answer, HookError> {
        match incoming {
            Incoming::Nothing => Ok(Answer::allow()),
            Incoming::Accepted if call.point.is_async() => match open {
                Some(open) => open.accepted().await.map(|()| Answer::later()),
                // There is no way to tell more: it has taken note, and that is all.
                None => Ok(Answer::allow()),
            },
            Incoming::Accepted => {
                let text = "it wants to answer later, but somebody waits for the answer";
                Err(HookError::of(FailureKind::Protocol, text))
            }
            Incoming::Answer(octets) => {
                let answer = Answer::parse(&octets, call.point, &call.id)?;
                Ok(answer.under(&self.declared, &self.granted)?)
            }
        }
    }
}

#[async_trait]
impl HookHandler for Remote {
    fn name(&self) -> &str {
        &self.plugin.id
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    async fn call(&self, call: &HookCall) -> Result<Answer, HookError> {
        let open = self.callbacks.as_ref().and_then(|callbacks| callbacks.open(call));
        let body = self.request_with(call, open.as_deref()).await?;
        let outgoing = Outgoing::new(call.id.clone(), call.point, call.attempt, call.deadline, body);
        let incoming = self.transport.exchange(outgoing).await?;
        self.answer(incoming, call, open.as_deref()).await
    }

    async fn health(&self) -> Option<HealthReport> {
        self.transport.health().await
    }

    async fn close(&self) {
        self.transport.close().await;
    }
}

fn write(
    plugin: Plugin,
    granted: Grants,
    call: &HookCall,
    open: Option<(String, Callback)>,
) -> Result<Vec<u8>, HookError> {
    let (links, callback) = open.unzip();
    let unreadable = |error| HookError::new(format_args!("the message can't be read: {error}"));
    let octets = call.mail.body().read_all().map_err(unreadable)?;
    let links = links.as_deref();
    let view = View { hook: call.point, mail: &call.mail, octets: &octets, facts: &call.facts, links }.under(&granted);
    let request = HookRequest {
        v: VERSION,
        invocation_id: call.id.clone(),
        hook: call.point,
        mode: call.mode,
        attempt: call.attempt,
        occurred_at: call.occurred_at.to_rfc3339(),
        deadline_ms: call.deadline.saturating_duration_since(Instant::now()).as_millis().try_into().unwrap_or(u64::MAX),
        plugin,
        tenant: Tenant { id: call.mail.tenant().to_string() },
        granted,
        view,
        callback,
    };
    request.to_json().map_err(HookError::new)
}
