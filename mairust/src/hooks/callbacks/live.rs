//! Calls that go on, or have ended a short while ago: in memory.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mairust_core::{HookId, JobId, Mail, MessageId, TenantId, Timestamp};
use mairust_hooks::protocol::{InvocationId, LateResult, MailFacts, Mode};
use mairust_hooks::{HookCall, HookPoint};
use mairust_store::AwaitedResult;

use super::token::TokenHash;

/// What is known of a call from its beginning.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) tenant: TenantId,
    pub(super) hook: HookId,
    pub(super) invocation: InvocationId,
    pub(super) point: HookPoint,
    pub(super) mode: Mode,
    pub(super) attempt: u32,
    pub(super) subject: Subject,
    /// Until when the token is good.
    pub(super) expires_at: Timestamp,
}

/// The message that a call is about.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    Stored(MessageId),
    /// It is on its way, and nowhere else.
    Unsaved(Mail, Arc<MailFacts>),
}

/// A call that is open in memory.
#[derive(Debug)]
pub(super) struct LiveCall {
    pub(super) known: Known,
    progress: Mutex<Progress>,
}

/// How far a call is.
#[derive(Debug)]
enum Progress {
    /// The program was asked, and has told a result perhaps, before it said that it would.
    Asked(Option<LateResult>),
    /// It was answered, or nobody waits any more.
    Over,
    /// The program has taken it, to tell the result later: the store knows of it.
    Taken,
}

/// What becomes of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is kept until the program says that it has taken the call.
    Early,
    /// There is another one already.
    Again,
    /// Nobody waits for it any more.
    TooLate,
    /// The store waits for it.
    Awaited,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct LiveCalls(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    by_token: HashMap<TokenHash, Arc<LiveCall>>,
    by_expiry: BTreeSet<(Timestamp, TokenHash)>,
}

impl LiveCalls {
    /// Opens a call, and forgets those whose tokens are not good any more.
    pub(super) fn open(&self, token: TokenHash, call: Arc<LiveCall>, now: Timestamp) {
        let mut calls = self.calls();
        while let Some((_, expired)) = calls.by_expiry.first().copied().filter(|(at, _)| *at <= now) {
            calls.remove(&expired);
        }
        calls.by_expiry.insert((call.known.expires_at, token));
        calls.by_token.insert(token, call);
    }

    pub(super) fn find(&self, token: &TokenHash, now: Timestamp) -> Option<Arc<LiveCall>> {
        self.calls().by_token.get(token).filter(|call| call.known.expires_at > now).cloned()
    }

    pub(super) fn close(&self, token: &TokenHash) {
        self.calls().remove(token);
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn remove(&mut self, token: &TokenHash) {
        if let Some(call) = self.by_token.remove(token) {
            self.by_expiry.remove(&(call.known.expires_at, *token));
        }
    }
}

impl LiveCall {
    pub(super) fn new((tenant, hook): (TenantId, HookId), call: &HookCall, expires_at: Timestamp) -> Self {
        let subject = match call.mail.id() {
            Some(id) => Subject::Stored(id),
            None => Subject::Unsaved(call.mail.clone(), call.facts.clone()),
        };
        let known = Known {
            tenant,
            hook,
            invocation: call.id.clone(),
            point: call.point,
            mode: call.mode,
            attempt: call.attempt,
            subject,
            expires_at,
        };
        Self { known, progress: Mutex::new(Progress::Asked(None)) }
    }

    /// The program tells a result.
    pub(super) fn tell(&self, result: LateResult) -> Told {
        match &mut *self.progress() {
            Progress::Asked(Some(known)) if *known == result => Told::Early,
            Progress::Asked(Some(_)) => Told::Again,
            Progress::Asked(early) => {
                *early = Some(result);
                Told::Early
            }
            Progress::Over => Told::TooLate,
            Progress::Taken => Told::Awaited,
        }
    }

    /// The program has taken the call; what it has told already.
    pub(super) fn taken(&self) -> Option<LateResult> {
        match mem::replace(&mut *self.progress(), Progress::Taken) {
            Progress::Asked(early) => early,
            Progress::Over | Progress::Taken => None,
        }
    }

    /// The call has ended. What somebody only tries out may be told all the same.
    pub(super) fn over(&self) {
        let mut progress = self.progress();
        if matches!(*progress, Progress::Asked(_)) && self.known.is_for_real() {
            *progress = Progress::Over;
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// A call of which the store knows.
    pub(super) fn awaited(awaited: &AwaitedResult) -> Self {
        Self {
            tenant: awaited.tenant,
            hook: awaited.hook,
            invocation: InvocationId::from_bytes(*awaited.job.as_bytes()),
            point: HookPoint::PostReceive,
            mode: Mode::Enforce,
            attempt: awaited.attempt,
            subject: Subject::Stored(awaited.message),
            expires_at: awaited.expires_at,
        }
    }

    /// The job that makes the call.
    pub(super) fn job(&self) -> JobId {
        JobId::from_bytes(self.invocation.to_bytes())
    }

    /// Whether somebody does what the program says, or would if it were not on trial.
    pub(super) fn is_for_real(&self) -> bool {
        !matches!(self.mode, Mode::Replay | Mode::Test)
    }
}

impl Subject {
    pub(super) fn message(&self) -> Option<MessageId> {
        match self {
            Self::Stored(id) => Some(*id),
            Self::Unsaved(..) => None,
        }
    }
}
