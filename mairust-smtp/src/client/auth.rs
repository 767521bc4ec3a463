//! Logging in at a relay (RFC 4954).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mairust_core::{Reply, Secret};
use zeroize::Zeroizing;

use super::connection::{Conversation, Lost, Stop};
use super::peer::Login;
use super::report::Verdict;

impl Conversation {
    /// Logs in, if the terms say so. What the host says against it is a matter between it and our
    /// administrator: the mail waits.
    pub(super) async fn log_in(&mut self) -> Result<(), Stop> {
        let Some(login) = self.endpoint.terms.login.clone() else { return Ok(()) };
        if !self.is_verified() {
            return Err(self.not_logged_in("a password is sent under verified TLS only"));
        }
        let offers = |mechanism: &str| self.extensions.auth.iter().any(|offered| offered == mechanism);
        let answered = if offers("PLAIN") {
            self.plain(&login).await
        } else if offers("LOGIN") {
            self.login(&login).await
        } else {
            return Err(self.not_logged_in("it offers neither AUTH PLAIN nor AUTH LOGIN"));
        };
        match answered {
            Ok(reply) if reply.is_positive() => Ok(()),
            Ok(reply) => Err(self.not_logged_in(&reply.to_string())),
            Err(lost) => Err(self.next_host(&lost)),
        }
    }

    /// RFC 4616, with an initial response.
    async fn plain(&mut self, login: &Login) -> Result<Reply, Lost> {
        let message = Zeroizing::new(format!("\0{}\0{}", login.user, login.password.expose()));
        let command = Zeroizing::new(format!("AUTH PLAIN {}", STANDARD.encode(message.as_bytes())));
        self.command(&command).await
    }

    /// LOGIN was never standardised; all servers ask for the name first.
    async fn login(&mut self, login: &Login) -> Result<Reply, Lost> {
        let mut reply = self.command("AUTH LOGIN").await?;
        for answer in [&Secret::new(login.user.clone()), &login.password] {
            if reply.code() != 334 {
                return Ok(reply);
            }
            let answer = Zeroizing::new(STANDARD.encode(answer.expose()));
            reply = self.command(&answer).await?;
        }
        Ok(reply)
    }

    fn not_logged_in(&self, reason: &str) -> Stop {
        Stop::NextHost(Verdict::deferred_at(&self.label, format!("login at the relay failed: {reason}")))
    }
}
