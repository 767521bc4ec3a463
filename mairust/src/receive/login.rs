//! SMTP AUTH against the directory.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{EnhancedCode, Rejection, Secret};
use mairust_store::password::PasswordHasher;
use mairust_store::{Directory, StorageBackend, StoreError, User};
use tokio::sync::Semaphore;

use crate::metrics::{AuthOutcome, Metrics};
use crate::throttle::{Locked, Throttle};

/// Passwords that are checked at a time. Each takes a core and 64 MiB.
const CHECKS_AT_A_TIME: usize = 2;

/// Checks names and passwords.
#[derive(Debug)]
pub(crate) struct Accounts {
    storage: Arc<dyn StorageBackend>,
    hasher: PasswordHasher,
    throttle: Arc<Throttle>,
    metrics: Arc<Metrics>,
    turns: Semaphore,
}

/// Who logged in.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) user: User,
}

/// Why somebody did not log in.
#[derive(Debug)]
enum LoginError {
    /// The directory, or what checks passwords, does not work.
    Down(StoreError),
    /// There were too many failures before; the password was not looked at.
    Locked(Duration),
    /// Name or password are wrong.
    Wrong(&'static str),
}

impl Accounts {
    pub(crate) fn new(storage: Arc<dyn StorageBackend>, throttle: Arc<Throttle>, metrics: Arc<Metrics>) -> Self {
        let turns = Semaphore::new(CHECKS_AT_A_TIME);
        Self { storage, hasher: PasswordHasher::default(), throttle, metrics, turns }
    }

    /// Who has this name and password. A name that nobody has takes as long as a wrong password
    /// and gets the same answer; a directory that is down is never the client's fault.
    pub(crate) async fn check(
        &self,
        client: IpAddr,
        name: &str,
        password: &Secret<String>,
    ) -> Result<Account, Rejection> {
        let checked = self.verify(client, name, password).await;
        let outcome = match &checked {
            Ok(_) => AuthOutcome::Success,
            Err(LoginError::Down(_)) => AuthOutcome::Unavailable,
            Err(LoginError::Locked(_)) => AuthOutcome::Locked,
            Err(LoginError::Wrong(_)) => AuthOutcome::Failure,
        };
        self.metrics.login_attempted("smtp", outcome);
        checked.map_err(|error| error.rejection())
    }

    async fn verify(&self, client: IpAddr, name: &str, password: &Secret<String>) -> Result<Account, LoginError> {
        self.throttle.admit(name, client)?;
        let directory: &dyn Directory = self.storage.directory();
        let login = directory.login(name).await?;
        // Who tries many passwords at once waits here, and is looked at again.
        let _turn = self.turns.acquire().await;
        self.throttle.admit(name, client)?;
        let genuine = match &login {
            Some(login) => self.hasher.verify(&login.password_hash, password).await?,
            None => self.hasher.verify_nobody(password).await?,
        };
        match login {
            Some(login) if genuine && login.enabled => {
                self.throttle.succeeded(name, client);
                Ok(Account { user: login.user })
            }
            login => {
                self.throttle.failed(name, client);
                Err(LoginError::Wrong(match login {
                    None => "nobody has this name",
                    Some(login) if login.enabled => "the password is wrong",
                    Some(_) => "the user or the tenant is disabled",
                }))
            }
        }
    }
}

impl LoginError {
    /// RFC 4954 §6: 454 says that the same credentials may do later, 535 that they are wrong.
    fn rejection(&self) -> Rejection {
        let temporary = |text| Rejection::new(454, EnhancedCode(4, 7, 0), text);
        match self {
            Self::Down(error) => temporary("Temporary authentication failure").because(crate::error::chain(error)),
            Self::Locked(remaining) => temporary("Too many failed logins, please try again later")
                .because(format_args!("locked for {} s", remaining.as_secs())),
            Self::Wrong(reason) => Rejection::new(535, EnhancedCode(5, 7, 8), "Authentication failed").because(reason),
        }
    }
}

impl From<Locked> for LoginError {
    fn from(locked: Locked) -> Self {
        Self::Locked(locked.remaining)
    }
}

impl From<StoreError> for LoginError {
    fn from(error: StoreError) -> Self {
        Self::Down(error)
    }
}
