//! How a client logs in: the questions of AUTH, put to the handler.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mairust_core::Rejection;

use super::connection::{Driver, guarded};
use super::handler::Identity;
use crate::proto::Credentials;

impl Driver {
    pub(super) async fn login(&mut self, credentials: Credentials) {
        let user = credentials.user.clone();
        let answer = guarded(self.server.handler.login(&self.info.peer, credentials)).await;
        self.settle_login(&user, answer).await;
    }

    pub(super) async fn scram_verifier(&mut self, user: &str) {
        match guarded(self.server.handler.scram_verifier(&self.info.peer, user)).await {
            Ok(verifier) => self.session.challenge(verifier, &nonce()),
            Err(rejection) => self.refuse_login(user, &rejection).await,
        }
    }

    pub(super) async fn scram_login(&mut self, user: &str) {
        let answer = guarded(self.server.handler.scram_login(&self.info.peer, user)).await;
        self.settle_login(user, answer).await;
    }

    pub(super) async fn scram_failed(&mut self, user: &str) {
        tracing::info!(user, "login refused: the proof is wrong");
        let noted = async {
            self.server.handler.scram_failed(&self.info.peer, user).await;
            Ok(())
        };
        if let Err(rejection) = guarded(noted).await {
            tracing::error!(reason = rejection.reason(), "a failed login was not noted");
        }
        self.delay_login().await;
    }

    async fn settle_login(&mut self, user: &str, answer: Result<Identity, Rejection>) {
        match answer {
            Ok(identity) => {
                tracing::info!(user = %identity.name, "logged in");
                self.info.origin.user = Some(identity.name.clone());
                self.info.identity = Some(identity);
                self.session.accept();
            }
            Err(rejection) => self.refuse_login(user, &rejection).await,
        }
    }

    async fn refuse_login(&mut self, user: &str, rejection: &Rejection) {
        tracing::info!(?user, reply = %rejection.reply(), reason = rejection.reason(), "login refused");
        self.session.refuse(rejection.reply());
        self.delay_login().await;
    }

    /// Waits after a failed login, longer after each; the answer is sent only after this.
    async fn delay_login(&self) {
        let delay = self.server.config.login_delay.saturating_mul(self.session.failed_logins());
        tokio::time::sleep(delay).await;
    }
}

/// Hard to guess, and new for each exchange (RFC 5802 §5.1).
fn nonce() -> String {
    STANDARD_NO_PAD.encode(rand::random::<[u8; 18]>())
}
