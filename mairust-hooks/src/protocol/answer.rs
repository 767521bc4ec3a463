//! An answer that was understood, and what of it may be done.

use mairust_core::{EnhancedCode, Rejection};

use super::grants::{Decide, Grants};
use super::invocation::InvocationId;
use super::response::{Action, HookResponse, ResponseError, VerdictName};
use crate::handler::{FailureKind, HookError, HookPoint};
use crate::verdict::Verdict;

/// What a hook says about a message, and wants done with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What is to become of the message.
    pub verdict: Verdict,
    /// How much speaks against the message, from -100 to 100, on the program's own scale.
    pub score: Option<f64>,
    /// Why, for logs and administrators, on one line.
    pub reason: Option<String>,
    /// What is to be done if the message is taken, in this order.
    pub actions: Vec<Action>,
    /// What it wanted, too, and may not do: the name of the verdict, or of each action.
    pub denied: Vec<&'static str>,
    /// Whether this is no answer yet, but comes later, by the callback API: only [`Remote`](crate::Remote) says so.
    pub later: bool,
}

/// What a hook function may return: an [`Answer`], a [`Verdict`], `()` for "go on", or a `Result` of one of these.
#[diagnostic::on_unimplemented(
    message = "a hook must return `Verdict`, `Answer`, `()` or a `Result` of one of these, not `{Self}`"
)]
pub trait IntoAnswer {
    /// The answer, or why there is none.
    ///
    /// # Errors
    /// When the hook failed.
    fn into_answer(self) -> Result<Answer, HookError>;
}

impl Answer {
    /// Lets the message pass, and does nothing with it.
    pub fn allow() -> Self {
        Verdict::Allow.into()
    }

    /// No answer yet: it is told later, by the callback API.
    pub(crate) fn later() -> Self {
        Self { later: true, ..Self::allow() }
    }

    /// Says how much speaks against the message: from -100 to 100, on the hook's own scale.
    #[must_use]
    pub fn score(mut self, score: f64) -> Self {
        self.score = Some(score);
        self
    }

    /// Says why, for logs and administrators.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Puts a tag on the message: 1 to 64 letters, digits and `_ : . / -`.
    #[must_use]
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.then(Action::TagAdd { tags: vec![tag.into()] })
    }

    /// Wants this done, too, after what it wants already.
    #[must_use]
    pub fn then(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// Reads an answer to a call.
    ///
    /// # Errors
    /// When anything about it is wrong: nothing of it is done then.
    pub fn parse(octets: &[u8], hook: HookPoint, invocation: &InvocationId) -> Result<Self, ResponseError> {
        HookResponse::parse(octets, hook)?.into_answer(invocation)
    }

    /// What of it may be done. A program that wants more than its tenant gave it gets less than it wants; one that
    /// never said it would want it is broken.
    ///
    /// # Errors
    /// When it wants something that is not in `declared`: nothing of it is done then.
    pub fn under(self, declared: &Grants, granted: &Grants) -> Result<Self, ResponseError> {
        let mut denied = self.denied.clone();
        let verdict = match decision(&self.verdict) {
            Some(decide) if !declared.decide.contains(&decide) => {
                return Err(ResponseError::Undecidable(self.verdict.as_str()));
            }
            Some(decide) if !granted.decide.contains(&decide) => {
                denied.push(self.verdict.as_str());
                Verdict::Allow
            }
            _ => self.verdict,
        };
        if let Some(action) = self.actions.iter().find(|action| !declared.permits(action)) {
            return Err(ResponseError::Undeclared(match action {
                Action::HeaderAdd { name, .. } => format!("{} {name}", action.op()),
                _ => action.op().to_owned(),
            }));
        }
        let (actions, refused): (Vec<_>, Vec<_>) = self.actions.into_iter().partition(|action| granted.permits(action));
        denied.extend(refused.iter().map(Action::op));
        Ok(Self { verdict, actions, denied, ..self })
    }

    /// The verdict that it wanted and may not decide, if it is so.
    pub fn denied_verdict(&self) -> Option<&'static str> {
        let names = [VerdictName::Quarantine, VerdictName::Reject, VerdictName::Tempfail].map(VerdictName::as_str);
        self.denied.iter().copied().find(|name| names.contains(name))
    }
}

impl HookResponse {
    /// What is meant. The text that a sender sees ends with the id of the call, so that its postmaster can quote it.
    ///
    /// # Errors
    /// When something in it may not be said.
    pub fn into_answer(self, invocation: &InvocationId) -> Result<Answer, ResponseError> {
        self.check()?;
        let reason = self.reason.as_deref().map(one_line);
        let refuse = |code, enhanced, text: &str| {
            let smtp = self.smtp.as_ref();
            let code = smtp.map_or(code, |smtp| smtp.code);
            let enhanced = smtp.and_then(|smtp| smtp.enhanced_code()).unwrap_or(enhanced);
            let text = smtp.and_then(|smtp| smtp.text.as_deref()).unwrap_or(text);
            let rejection = Rejection::new(code, enhanced, format!("{text} [{invocation}]"));
            match &reason {
                Some(reason) => rejection.because(reason),
                None => rejection,
            }
        };
        let verdict = match self.verdict {
            VerdictName::Allow => Verdict::Allow,
            VerdictName::Quarantine => Verdict::quarantine(reason.clone().unwrap_or_default()),
            VerdictName::Tempfail => Verdict::Tempfail(refuse(451, EnhancedCode(4, 7, 1), "Try again later")),
            VerdictName::Reject => Verdict::Reject(refuse(550, EnhancedCode(5, 7, 1), "Message rejected")),
        };
        Ok(Answer { verdict, score: self.score, reason, actions: self.actions, denied: Vec::new(), later: false })
    }
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, score: None, reason: None, actions: Vec::new(), denied: Vec::new(), later: false }
    }
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> Result<Answer, HookError> {
        self.check().map_err(|error| HookError::of(FailureKind::Protocol, error))?;
        Ok(self)
    }
}

impl IntoAnswer for Verdict {
    fn into_answer(self) -> Result<Answer, HookError> {
        Ok(self.into())
    }
}

impl IntoAnswer for () {
    fn into_answer(self) -> Result<Answer, HookError> {
        Ok(Answer::allow())
    }
}

impl<A: IntoAnswer, E: std::fmt::Display> IntoAnswer for Result<A, E> {
    fn into_answer(self) -> Result<Answer, HookError> {
        self.map_err(HookError::new)?.into_answer()
    }
}

/// What a verdict takes leave for.
fn decision(verdict: &Verdict) -> Option<Decide> {
    match verdict {
        Verdict::Allow => None,
        Verdict::Quarantine { .. } => Some(Decide::Quarantine),
        Verdict::Reject(_) => Some(Decide::Reject),
        Verdict::Tempfail(_) => Some(Decide::Tempfail),
    }
}

/// A reason may be what an exception says, in several lines; a log has one for it.
fn one_line(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
