use std::sync::Arc;
use std::time::Duration;

use trine_cache::{CacheService, CreateOutcome, SessionToken, SessionsConfig};
use trine_core::Secret;
use uuid::Uuid;

use crate::accounts::{Accounts, Email, Password};
use crate::config::LoginConfig;
use crate::error::{Error, NoSession, Result};
use crate::login_limit::{Caller, LoginLimit};
use crate::passwords::Passwords;

/// Logs accounts in and out. Their sessions live in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    accounts: Accounts,
    passwords: Passwords,
    limit: Arc<LoginLimit>,
    store: trine_cache::Sessions<()>,
}

impl Sessions {
    /// Returns the sessions kept in `cache`.
    ///
    /// # Errors
    ///
    /// Never fails: the configuration was checked when it was read.
    pub(crate) fn new(
        accounts: Accounts,
        passwords: Passwords,
        cache: &CacheService,
        config: &SessionsConfig,
        login: &LoginConfig,
    ) -> Result<Self> {
        let store = trine_cache::Sessions::open(cache, config)?;
        Ok(Self { accounts, passwords, limit: Arc::new(LoginLimit::new(login)), store })
    }

    /// Checks a password and returns the token of a new session with its
    /// lifetime, as far as it is used. If the account has too many sessions, the
    /// one that was unused for longest ends.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::WrongPassword`] for a wrong password and, after the
    /// same time, for an address without an account; with
    /// [`Error::TooManyFailures`] once too many of these came from the address
    /// or for the account; with [`Error::TooManySessions`] if the settings end
    /// no session to make room; and with the errors of the database and of the
    /// cache.
    pub(crate) async fn log_in(
        &self,
        email: &Email,
        password: Secret,
        caller: Caller<'_>,
    ) -> Result<(SessionToken, Duration)> {
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
        match self.store.create(&user(id), &()).await? {
            CreateOutcome::Created(created) => {
                let session = created.session;
                let lifetime = session.ends_at.duration_since(session.created_at);
                Ok((created.token, lifetime.unwrap_or_default()))
            }
            _ => Err(Error::TooManySessions),
        }
    }

    /// Returns whose token it is, and notes that it was used.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoSession`] if the token is unknown or expired, and
    /// with the errors of the cache: an outage ends no session.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Uuid> {
        let found = self.store.get(token).await?;
        let session = found.ok_or(Error::NoSession(NoSession::Unknown))?;
        Uuid::try_parse(&session.user).map_err(|cause| Error::Internal {
            what: "reading whose session it is",
            cause: cause.into(),
        })
    }

    /// Ends the session of `token`.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the cache.
    pub(crate) async fn log_out(&self, token: &str) -> Result<()> {
        self.store.revoke(token).await?;
        Ok(())
    }

    /// Ends every session of `account`.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the cache.
    pub(crate) async fn log_out_everywhere(&self, account: Uuid) -> Result<()> {
        self.store.revoke_all(&user(account)).await?;
        Ok(())
    }
}

/// Returns what the account is called in its sessions.
fn user(account: Uuid) -> String {
    account.to_string()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use trine_cache::CacheConfig;
    use trine_db_shard::{DbConfig, DbService};

    use super::*;
    use crate::accounts::AccountCache;
    use crate::schema;

    const ANN: Caller<'_> = Caller { account: "ann@example.com", address: None };

    #[tokio::test]
    async fn a_login_that_is_given_up_while_it_is_checked_counts() {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::sqlite(folder.path(), 1);
        let migrated = trine_db_shard::migrate(&config, &schema::migrations()).await.unwrap();
        assert!(migrated.is_complete());
        let db = DbService::connect(&config).await.unwrap();
        let cache = CacheService::connect(&CacheConfig::memory()).await.unwrap();
        let tasks = trine_core::Tasks::new("test");
        let second = Duration::from_secs(1);
        let passwords = Passwords::new(1, second * 9, &tasks).unwrap();
        let rows = AccountCache::new(cache.clone(), second, second, second);
        let accounts = Accounts::new(db.clone(), passwords.clone(), rows);
        let login = LoginConfig { failures_per_account: NonZeroU32::MIN, ..LoginConfig::default() };
        let config = SessionsConfig::new(Secret::new("k".repeat(32)));
        let sessions = Sessions::new(accounts, passwords.clone(), &cache, &config, &login).unwrap();
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
