use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use trine_core::{Outage, Report, Secret};
use trine_db_shard::Timestamp;
use uuid::Uuid;

use crate::accounts::{Accounts, Email, Password};
use crate::config::StarterConfig;
use crate::error::{Error, NoSession, Result};
use crate::login_limit::{Caller, LoginLimit};
use crate::passwords::Passwords;
use crate::tokens::{Token, TokenDigest};

pub(crate) use sql::SqlSessions;

mod sql;

/// Where sessions are kept: by the digest of their token, with the account and
/// the moment they expire.
#[async_trait]
pub(crate) trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Adds a session.
    async fn insert(&self, digest: TokenDigest, account: Uuid, expires_at: Timestamp)
    -> Result<()>;

    /// Removes the sessions of `account` but those `keep` that expire last. Of
    /// sessions that expire at the same moment it may remove more. Idempotent.
    async fn trim(&self, account: Uuid, keep: u32) -> Result<()>;

    /// Returns whose session it is, `None` if there is none at `now`.
    async fn find(&self, digest: TokenDigest, now: Timestamp) -> Result<Option<Uuid>>;

    /// Removes a session. Idempotent.
    async fn remove(&self, digest: TokenDigest) -> Result<()>;

    /// Removes what has expired at `now`, in steps that hold no lock for long.
    async fn sweep(&self, now: Timestamp) -> Result<()>;
}

/// Logs accounts in and out.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    accounts: Accounts,
    passwords: Passwords,
    limit: Arc<LoginLimit>,
    store: Arc<dyn SessionStore>,
    lifetime: Duration,
    per_account: NonZeroU32,
}

impl Sessions {
    pub(crate) fn new(
        accounts: Accounts,
        passwords: Passwords,
        store: Arc<dyn SessionStore>,
        config: &StarterConfig,
    ) -> Self {
        Self {
            accounts,
            passwords,
            limit: Arc::new(LoginLimit::new(&config.login)),
            store,
            lifetime: config.session_lifetime.get(),
            per_account: config.sessions_per_account,
        }
    }

    /// Checks a password and returns the token of a new session with its
    /// lifetime. If the account has too many sessions, its oldest end.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::WrongPassword`] for a wrong password and, after the
    /// same time, for an address without an account; with
    /// [`Error::TooManyFailures`] once too many of these came from the address
    /// or for the account; and with the errors of the database.
    pub(crate) async fn log_in(
        &self,
        email: &Email,
        password: Secret,
        caller: Caller<'_>,
    ) -> Result<(Token, Duration)> {
        if password.expose().len() > Password::MAX {
            return Err(Error::invalid("password", "at most 1024 bytes"));
        }
        self.limit.check(caller)?;
        let account = self.accounts.find_credentials(email).await?;
        let turn = self.passwords.turn().await?;
        // Those that had their turn meanwhile may have failed.
        self.limit.check(caller)?;
        let (id, hash) = account.map(|account| (account.id, account.password_hash)).unzip();
        let (limit, name) = (Arc::clone(&self.limit), caller.account.to_owned());
        let refused =
            move || limit.record_failure(Caller { account: &name, address: caller.address });
        let is_right = turn.matches(password, hash, refused).await?;
        let Some(id) = id.filter(|_| is_right) else {
            return Err(Error::WrongPassword);
        };
        self.accounts.assign_shard(id).await?;
        let token = Token::random()?;
        let expires_at = Timestamp::from(SystemTime::now()).plus(self.lifetime);
        self.store.trim(id, self.per_account.get() - 1).await?;
        self.store.insert(token.digest(), id, expires_at).await?;
        Ok((token, self.lifetime))
    }

    /// Returns whose token it is.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoSession`] if the token is unknown or expired, and
    /// with the errors of the store.
    pub(crate) async fn authenticate(&self, token: &Token) -> Result<Uuid> {
        let found = self.store.find(token.digest(), SystemTime::now().into()).await?;
        found.ok_or(Error::NoSession(NoSession::Unknown))
    }

    /// Ends the session of `token`.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub(crate) async fn log_out(&self, token: &Token) -> Result<()> {
        self.store.remove(token.digest()).await
    }
}

/// Removes expired sessions again and again, until `token` is cancelled.
pub(crate) async fn sweep_forever(store: Arc<dyn SessionStore>, token: CancellationToken) {
    const PAUSE: Duration = Duration::from_secs(60);
    let mut outage = Outage::new();
    while token.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        match store.sweep(SystemTime::now().into()).await {
            Ok(_) => {
                if let Some(failures) = outage.over() {
                    tracing::warn!(failures, "expired sessions are removed again");
                }
            }
            Err(error) => {
                if let Some(failures) = outage.failed() {
                    tracing::warn!(error = %Report(&error), failures, "expired sessions not removed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use trine_db_shard::{DbConfig, DbService};

    use super::*;
    use crate::schema;

    const ANN: Caller<'_> = Caller { account: "ann@example.com", address: None };

    #[tokio::test]
    async fn a_login_that_is_given_up_while_it_is_checked_counts() {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::sqlite(folder.path(), 1);
        let migrated = trine_db_shard::migrate(&config, &schema::migrations()).await.unwrap();
        assert!(migrated.is_complete());
        let db = DbService::connect(&config).await.unwrap();
        let tasks = trine_core::Tasks::new("test");
        let passwords = Passwords::new(1, Duration::from_secs(9), &tasks).unwrap();
        let accounts = Accounts::new(db.clone(), passwords.clone());
        let mut config = StarterConfig::default();
        config.login.failures_per_account = NonZeroU32::MIN;
        let store = Arc::new(SqlSessions::new(db));
        let sessions = Sessions::new(accounts, passwords.clone(), store, &config);
        let email = Email::parse(ANN.account).unwrap();
        let log_in = || sessions.log_in(&email, Secret::new("wrong password"), ANN);
        let hashing = async {
            while !format!("{passwords:?}").contains("free: 0") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = hashing => {}
            _ = log_in() => {}
        }
        let refused = log_in().await;
        assert!(matches!(refused, Err(Error::TooManyFailures { .. })), "{refused:?}");
    }
}
