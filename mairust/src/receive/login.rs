//! SMTP AUTH against the directory: by password, or by a proof to know it (SCRAM).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{EnhancedCode, Rejection, ScramVerifier, Secret, TenantId};
use mairust_store::directory::login_key;
use mairust_store::password::PasswordHasher;
use mairust_store::{Directory, Login, StorageBackend, StoreError, User};
use tokio::sync::Semaphore;

use crate::audit::Recorder;
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
    /// Makes the verifiers of names that nobody has.
    nobody: Secret<[u8; 32]>,
    turns: Semaphore,
    audit: Option<Arc<Recorder>>,
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
    /// `nobody` must stay the same, or who asks again after a restart learns which names exist.
    pub(crate) fn new(
        storage: Arc<dyn StorageBackend>,
        throttle: Arc<Throttle>,
        metrics: Arc<Metrics>,
        nobody: Secret<[u8; 32]>,
    ) -> Self {
        let turns = Semaphore::new(CHECKS_AT_A_TIME);
        Self { storage, hasher: PasswordHasher::default(), throttle, metrics, nobody, turns, audit: None }
    }

    /// Puts logins into the audit log, also those that fail.
    pub(crate) fn with_audit(mut self, recorder: Option<Arc<Recorder>>) -> Self {
        self.audit = recorder;
        self
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
        self.settle(checked)
    }

    /// What a client has to prove by SCRAM to be let in under this name. Who can't log in by SCRAM
    /// is given a verifier that nothing fits.
    pub(crate) async fn scram_verifier(&self, client: IpAddr, name: &str) -> Result<ScramVerifier, Rejection> {
        self.find_verifier(client, name).await.map_err(|error| self.refuse(&error))
    }

    /// Who has this name, after a client has proved by SCRAM to know the password.
    pub(crate) async fn scram_login(&self, client: IpAddr, name: &str) -> Result<Account, Rejection> {
        let checked = self.admit_proved(client, name).await;
        self.settle(checked)
    }

    /// Takes note of a proof by SCRAM that was wrong.
    pub(crate) fn scram_failed(&self, client: IpAddr, name: &str) {
        self.throttle.failed(name, client);
        self.metrics.login_attempted("smtp", AuthOutcome::Failure);
        if let Some(audit) = &self.audit {
            audit.login_failed(client, name, None, "the proof is wrong");
        }
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
        let tenant = login.as_ref().map(|login| login.user.tenant);
        let checked = enabled(login).and_then(|login| if genuine { Ok(login) } else { Err("the password is wrong") });
        if let Ok(login) = &checked
            && login.password.scram.is_none()
        {
            self.keep_verifier(login, password).await;
        }
        self.conclude(client, name, tenant, checked)
    }

    async fn find_verifier(&self, client: IpAddr, name: &str) -> Result<ScramVerifier, LoginError> {
        self.throttle.admit(name, client)?;
        let login = self.storage.directory().login(name).await?.filter(|login| login.enabled);
        let known = login.and_then(|login| login.password.scram);
        Ok(known.unwrap_or_else(|| ScramVerifier::for_nobody(&login_key(name), self.nobody.expose())))
    }

    async fn admit_proved(&self, client: IpAddr, name: &str) -> Result<Account, LoginError> {
        // Time has passed since the verifier was asked for: other proofs may have failed, and the
        // user may have been disabled.
        self.throttle.admit(name, client)?;
        let login = self.storage.directory().login(name).await?;
        let tenant = login.as_ref().map(|login| login.user.tenant);
        self.conclude(client, name, tenant, enabled(login))
    }

    /// Adds to a password what SCRAM needs, now that it is known. That this fails is no reason to
    /// refuse the login: the next one tries again.
    async fn keep_verifier(&self, login: &Login, password: &Secret<String>) {
        let keep = async {
            let verifier = self.hasher.scram(password).await?;
            let directory = self.storage.directory();
            directory.set_scram(login.user.tenant, login.user.id, &login.password.hash, &verifier).await
        };
        if let Err(error) = keep.await {
            let (user, error) = (&login.user.address, crate::error::chain(&error));
            tracing::warn!(component = "login", %user, error, "the user can't log in by SCRAM yet");
        }
    }

    /// Lets in or refuses, and counts that for or against who tried.
    fn conclude(
        &self,
        client: IpAddr,
        name: &str,
        tenant: Option<TenantId>,
        checked: Result<Login, &'static str>,
    ) -> Result<Account, LoginError> {
        match checked {
            Ok(login) => {
                self.throttle.succeeded(name, client);
                if let Some(audit) = &self.audit {
                    audit.logged_in(client, &login.user);
                }
                Ok(Account { user: login.user })
            }
            Err(reason) => {
                self.throttle.failed(name, client);
                if let Some(audit) = &self.audit {
                    audit.login_failed(client, name, tenant, reason);
                }
                Err(LoginError::Wrong(reason))
            }
        }
    }

    fn settle(&self, checked: Result<Account, LoginError>) -> Result<Account, Rejection> {
        match checked {
            Ok(account) => {
                self.metrics.login_attempted("smtp", AuthOutcome::Success);
                Ok(account)
            }
            Err(error) => Err(self.refuse(&error)),
        }
    }

    fn refuse(&self, error: &LoginError) -> Rejection {
        self.metrics.login_attempted("smtp", error.outcome());
        error.rejection()
    }
}

fn enabled(login: Option<Login>) -> Result<Login, &'static str> {
    match login {
        Some(login) if login.enabled => Ok(login),
        Some(_) => Err("the user or the tenant is disabled"),
        None => Err("nobody has this name"),
    }
}

impl LoginError {
    fn outcome(&self) -> AuthOutcome {
        match self {
            Self::Down(_) => AuthOutcome::Unavailable,
            Self::Locked(_) => AuthOutcome::Locked,
            Self::Wrong(_) => AuthOutcome::Failure,
        }
    }

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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mairust_core::SystemClock;
    use mairust_store::password::PasswordCost;
    use mairust_store::{DirectoryExt, MemoryStorage, PasswordRecord, SqlStorage, TenantChange, UserChange};

    use super::*;
    use crate::throttle::LoginLimits;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ALICE: &str = "alice@example.com";

    fn accounts(storage: Arc<dyn StorageBackend>) -> Accounts {
        let metrics = Arc::new(Metrics::new());
        let throttle = Throttle::new(LoginLimits::default(), Arc::new(SystemClock), metrics.clone());
        Accounts::new(storage, Arc::new(throttle), metrics, Secret::new([7; 32]))
    }

    /// Alice, whose password was set before verifiers were kept.
    async fn with_alice() -> (Arc<MemoryStorage>, User, Accounts) {
        let storage = Arc::new(MemoryStorage::new(Arc::new(SystemClock)));
        let user = storage.directory().ensure_user(ALICE, "other").await.unwrap();
        let record = PasswordHasher::new(PasswordCost::Low).record(&secret("right")).await.unwrap();
        let old = PasswordRecord::of_hash(record.hash);
        storage.directory().set_password(user.tenant, user.id, old).await.unwrap();
        (storage.clone(), user, accounts(storage))
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn code<T>(result: Result<T, Rejection>) -> u16 {
        result.err().map_or(0, |rejection| rejection.reply().code())
    }

    #[tokio::test]
    async fn a_password_brings_the_verifier_that_is_missing() {
        let (storage, ..) = with_alice().await;
        let accounts = accounts(storage.clone());
        let nobody = accounts.scram_verifier(CLIENT, ALICE).await.unwrap();
        assert_eq!(code(accounts.check(CLIENT, ALICE, &secret("wrong")).await), 535);
        assert_eq!(accounts.scram_verifier(CLIENT, ALICE).await.unwrap(), nobody);
        accounts.check(CLIENT, ALICE, &secret("right")).await.unwrap();
        let verifier = accounts.scram_verifier(CLIENT, "Alice@Example.com").await.unwrap();
        let salt = verifier.salt().try_into().unwrap();
        assert_eq!(verifier, ScramVerifier::derive(&secret("right"), salt));
        accounts.check(CLIENT, ALICE, &secret("right")).await.unwrap();
        assert_eq!(accounts.scram_verifier(CLIENT, ALICE).await.unwrap(), verifier);
    }

    #[tokio::test]
    async fn who_can_not_log_in_looks_like_anybody() {
        let (storage, alice, accounts) = with_alice().await;
        accounts.check(CLIENT, ALICE, &secret("right")).await.unwrap();
        let known = accounts.scram_verifier(CLIENT, ALICE).await.unwrap();
        let nobody = accounts.scram_verifier(CLIENT, "Nobody").await.unwrap();
        assert_eq!(accounts.scram_verifier(CLIENT, "nobody").await.unwrap(), nobody);
        assert_eq!((nobody.iterations(), nobody.salt().len()), (known.iterations(), known.salt().len()));
        let mut shut = TenantChange::default();
        shut.enabled = Some(false);
        storage.directory().change_tenant(alice.tenant, &shut).await.unwrap();
        assert_eq!(accounts.scram_verifier(CLIENT, ALICE).await.unwrap(), ScramVerifier::for_nobody(ALICE, &[7; 32]));
    }

    #[tokio::test]
    async fn a_proof_is_not_enough_for_who_was_disabled_meanwhile() {
        let (storage, alice, accounts) = with_alice().await;
        let account = accounts.scram_login(CLIENT, ALICE).await.unwrap();
        assert_eq!(account.user.id, alice.id);
        let mut lock = UserChange::default();
        lock.enabled = Some(false);
        storage.directory().change_user(alice.tenant, alice.id, &lock).await.unwrap();
        assert_eq!(code(accounts.scram_login(CLIENT, ALICE).await), 535);
    }

    #[tokio::test]
    async fn wrong_proofs_and_wrong_passwords_lock_together() {
        let (_storage, _, accounts) = with_alice().await;
        for _ in 0..4 {
            accounts.scram_failed(CLIENT, ALICE);
        }
        accounts.scram_verifier(CLIENT, ALICE).await.unwrap();
        assert_eq!(code(accounts.check(CLIENT, ALICE, &secret("wrong")).await), 535);
        assert_eq!(code(accounts.scram_verifier(CLIENT, ALICE).await), 454);
        assert_eq!(code(accounts.scram_login(CLIENT, ALICE).await), 454);
        assert_eq!(code(accounts.check(CLIENT, ALICE, &secret("right")).await), 454);
    }

    #[tokio::test]
    async fn a_directory_that_is_down_is_nobodys_fault() {
        let directory = tempfile::tempdir().unwrap();
        let storage = SqlStorage::sqlite(directory.path().join("mail.db")).fs_bodies(directory.path());
        let storage = storage.open().await.unwrap();
        storage.close().await;
        let accounts = accounts(Arc::new(storage));
        assert_eq!(code(accounts.scram_verifier(CLIENT, ALICE).await), 454);
        assert_eq!(code(accounts.scram_login(CLIENT, ALICE).await), 454);
    }
}
