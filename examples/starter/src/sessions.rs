use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use trine_core::{Outage, Report, Secret};
use trine_db_shard::Timestamp;
use uuid::Uuid;

use crate::accounts::{Accounts, Email, Password};
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

    /// Returns whose session it is, `None` if there is none at `now`.
    async fn find(&self, digest: TokenDigest, now: Timestamp) -> Result<Option<Uuid>>;

    /// Removes a session. Idempotent.
    async fn remove(&self, digest: TokenDigest) -> Result<()>;

    /// Removes what has expired at `now`.
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
}

impl Sessions {
    pub(crate) fn new(
        accounts: Accounts,
        passwords: Passwords,
        limit: LoginLimit,
        store: Arc<dyn SessionStore>,
        lifetime: Duration,
    ) -> Self {
        Self { accounts, passwords, limit: Arc::new(limit), store, lifetime }
    }

    /// Checks a password and returns the token of a new session with its
    /// lifetime.
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
        // Once more: those that had their turn meanwhile may have failed.
        self.limit.check(caller)?;
        let (id, hash) = account.map(|account| (account.id, account.password_hash)).unzip();
        let is_right = turn.matches(password, hash).await?;
        let Some(id) = id.filter(|_| is_right) else {
            self.limit.record_failure(caller);
            return Err(Error::WrongPassword);
        };
        self.accounts.assign_shard(id).await?;
        let token = Token::random()?;
        let expires_at = Timestamp::from(SystemTime::now()).plus(self.lifetime);
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
