//! SMTP AUTH against the directory.

use std::sync::Arc;

use mairust_core::{EnhancedCode, Rejection, Secret};
use mairust_store::password::PasswordHasher;
use mairust_store::{Directory, StorageBackend, User};

/// Checks names and passwords.
#[derive(Debug)]
pub(crate) struct Accounts {
    storage: Arc<dyn StorageBackend>,
    hasher: PasswordHasher,
}

/// Who logged in.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) user: User,
}

impl Accounts {
    pub(crate) fn new(storage: Arc<dyn StorageBackend>) -> Self {
        Self { storage, hasher: PasswordHasher::default() }
    }

    /// Who has this name and password. A name that nobody has takes as long as a wrong password
    /// and gets the same answer; a directory that is down is never the client's fault.
    pub(crate) async fn check(&self, name: &str, password: &Secret<String>) -> Result<Account, Rejection> {
        let down = |error: mairust_store::StoreError| {
            Rejection::new(454, EnhancedCode(4, 7, 0), "Temporary authentication failure")
                .because(crate::error::chain(&error))
        };
        let directory: &dyn Directory = self.storage.directory();
        let Some(login) = directory.login(name).await.map_err(down)? else {
            self.hasher.verify_nobody(password).await.map_err(down)?;
            return Err(wrong("nobody has this name"));
        };
        if !self.hasher.verify(&login.password_hash, password).await.map_err(down)? {
            return Err(wrong("the password is wrong"));
        }
        Ok(Account { user: login.user })
    }
}

fn wrong(reason: &str) -> Rejection {
    Rejection::new(535, EnhancedCode(5, 7, 8), "Authentication failed").because(reason)
}
