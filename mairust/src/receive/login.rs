//! SMTP AUTH against the directory: by password, or by SCRAM, which proves to know it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{EnhancedCode, Rejection, ScramVerifier, Secret};
use mairust_store::directory::login_key;
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
    /// Makes the verifiers of those who do not exist.
    nobody: Secret<[u8; 32]>,
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
    /// `nobody` must stay the same and unknown, or the challenges of SCRAM tell who exists.
    pub(crate) fn new(
        storage: Arc<dyn StorageBackend>,
        throttle: Arc<Throttle>,
        metrics: Arc<Metrics>,
        nobody: Secret<[u8; 32]>,
    ) -> Self {
        let turns = Semaphore::new(CHECKS_AT_A_TIME);
        Self { storage, hasher: PasswordHasher::default(), throttle, metrics, turns, nobody }
    }

    /// Who has this name and password. A name that nobody has takes as long as a wrong password
    /// and gets the same answer; a directory that is down is never the client's fault.
    pub(crate) async fn check(
        &self,
        client: IpAddr,
        name: &str,
        password: &Secret<String>,
    ) -> Result<Account, Rejection> {
        self.answer(self.verify(client, name, password).await)
    }

    /// The verifier of this user, for SCRAM; for who has none, one that no password fits.
    pub(crate) async fn scram_verifier(&self, client: IpAddr, name: &str) -> Result<ScramVerifier, Rejection> {
        match self.find_verifier(client, name).await {
            Ok(verifier) => Ok(verifier),
            Err(error) => self.answer(Err(error)),
        }
    }

    /// Who this is, after the client has proved to know the password.
    pub(crate) async fn proved(&self, client: IpAddr, name: &str) -> Result<Account, Rejection> {
        self.answer(self.find_proved(client, name).await)
    }

    /// The client has not proved to know the password of this user.
    pub(crate) fn unproved(&self, client: IpAddr, name: &str) {
        self.throttle.failed(name, client);
        self.metrics.login_attempted("smtp", AuthOutcome::Failure);
    }

    async fn find_verifier(&self, client: IpAddr, name: &str) -> Result<ScramVerifier, LoginError> {
        self.throttle.admit(name, client)?;
        let login = self.storage.directory().login(name).await?;
        let kept = login.filter(|login| login.enabled).and_then(|login| login.password.scram);
        Ok(kept.unwrap_or_else(|| ScramVerifier::for_nobody(&login_key(name), self.nobody.expose())))
    }

    async fn find_proved(&self, client: IpAddr, name: &str) -> Result<Account, LoginError> {
        self.throttle.admit(name, client)?;
        match self.storage.directory().login(name).await? {
            Some(login) if login.enabled => {
                self.throttle.succeeded(name, client);
                Ok(Account { user: login.user })
            }
            _ => Err(LoginError::Wrong("the user is gone or disabled since the challenge")),
        }
    }

    /// Counts an answer, and says it in the words of SMTP.
    fn answer<T>(&self, checked: Result<T, LoginError>) -> Result<T, Rejection> {
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
            Some(login) => self.hasher.verify(&login.password.hash, password).await?,
            None => self.hasher.verify_nobody(password).await?,
        };
        match login {
            Some(login) if genuine && login.enabled => {
                self.throttle.succeeded(name, client);
                if login.password.scram.is_none() {
                    self.add_verifier(&login.user, password).await;
                }
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

impl Accounts {
    /// For a password that was set before there were verifiers: now it is known.
    async fn add_verifier(&self, user: &User, password: &Secret<String>) {
        let added = async {
            let kept = self.hasher.hash(password).await?;
            self.storage.directory().set_password(user.tenant, user.id, kept).await
        };
        if let Err(error) = added.await {
            let error = crate::error::chain(&error);
            tracing::warn!(component = "login", user = %user.address, error, "no verifier for SCRAM was added");
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
