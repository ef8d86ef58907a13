use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use trine_core::Secret;
use trine_db_shard::{DbService, ShardId, Timestamp};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::passwords::Passwords;

pub(crate) use cached::AccountCache;

mod cached;

/// Registers accounts and finds them again. Accounts live in the global
/// database; their documents live in the shard that their id is assigned to.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    db: DbService,
    passwords: Passwords,
    cache: AccountCache,
}

/// An account as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) id: Uuid,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
}

/// What a new account is made of.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) email: Email,
    pub(crate) name: Name,
    pub(crate) password: Password,
}

/// What a login is checked against.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    pub(crate) id: Uuid,
    pub(crate) password_hash: String,
}

impl Accounts {
    pub(crate) fn new(db: DbService, passwords: Passwords, cache: AccountCache) -> Self {
        Self { db, passwords, cache }
    }

    /// Makes an account and returns its id and the shard of its documents.
    ///
    /// The account's row is the only write that decides: of many callers with
    /// one address it lets one through. A crash between it and the assignment
    /// of the shard is made up for by the next login, which repeats the
    /// assignment.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::EmailTaken`] if the address has an account, and
    /// with the errors of the database.
    pub(crate) async fn register(&self, registration: Registration) -> Result<(Uuid, ShardId)> {
        let Registration { email, name, password } = registration;
        // Spares the hash; what decides is the unique key.
        if self.find_credentials(&email).await?.is_some() {
            return Err(Error::EmailTaken);
        }
        let id = Uuid::now_v7();
        let hash = self.passwords.turn().await?.hash(password.0).await?;
        let insert = self.db.global().execute(
            "INSERT INTO account (id, email, name, password_hash, created_at) \
             VALUES (?, ?, ?, ?, ?)",
            (id, email.as_str(), name.0, hash, SystemTime::now()),
        );
        insert.await.map_err(|error| match error.unique_key() {
            Some(_) => Error::EmailTaken,
            None => error.into(),
        })?;
        Ok((id, self.assign_shard(id).await?))
    }

    /// Returns the shard of the account's documents, assigning one if it has
    /// none yet. Idempotent.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` if no shard takes new keys, and with the
    /// errors of the database.
    pub(crate) async fn assign_shard(&self, id: Uuid) -> Result<ShardId> {
        Ok(self.db.assign(id).await?)
    }

    /// Returns what a login of `email` is checked against.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub(crate) async fn find_credentials(&self, email: &Email) -> Result<Option<Credentials>> {
        let found = self.db.global().query_optional(
            "SELECT id, password_hash FROM account WHERE email = ?",
            (email.as_str(),),
        );
        Ok(found.await?)
    }

    /// Returns the account with this id, as it was at most `account_ttl` ago; a
    /// change is seen at once.
    ///
    /// # Errors
    ///
    /// Fails with `Internal` if there is none: no account is ever removed. And
    /// with the errors of the database.
    pub(crate) async fn get(&self, id: Uuid) -> Result<Account> {
        if let Some(account) = self.cache.find(id).await {
            return Ok(account);
        }
        let account = self.read(id).await?;
        self.cache.keep(&account).await;
        Ok(account)
    }

    /// Gives the account another name and returns it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and with the errors of the cache, which would
    /// otherwise go on showing the old name.
    pub(crate) async fn rename(&self, id: Uuid, name: Name) -> Result<Account> {
        self.cache.forget(id).await?;
        let update = "UPDATE account SET name = ? WHERE id = ?";
        self.db.global().execute(update, (name.0, id)).await?;
        self.cache.forget_again(id).await;
        self.read(id).await
    }

    async fn read(&self, id: Uuid) -> Result<Account> {
        let found = self
            .db
            .global()
            .query_one("SELECT id, email, name, created_at FROM account WHERE id = ?", (id,));
        Ok(found.await?)
    }
}

/// An e-mail address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Email(String);

impl Email {
    const MAX: usize = 254;

    /// Reads an address: something, an `@`, something; no spaces.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] for the field `email`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let folded = text.trim().to_lowercase();
        let is_blank = |c: char| c.is_whitespace() || c.is_control();
        let is_address = match folded.rsplit_once('@') {
            Some((local, domain)) => !local.is_empty() && !domain.is_empty(),
            None => false,
        };
        if !is_address || folded.contains(is_blank) || folded.len() > Self::MAX {
            let expected = "an e-mail address of at most 254 bytes";
            return Err(Error::invalid("email", expected));
        }
        Ok(Self(folded))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an account's owner.
#[derive(Clone, Debug)]
pub(crate) struct Name(String);

impl Name {
    /// Reads a name of 1 to 100 characters.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] for the field `name`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let name = text.trim();
        if !(1..=100).contains(&name.chars().count()) || name.contains(char::is_control) {
            let expected = "1 to 100 characters without control characters";
            return Err(Error::invalid("name", expected));
        }
        Ok(Self(name.to_owned()))
    }
}

/// A password that is long enough to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Password(Secret);

impl Password {
    /// Longest password in bytes. Longer ones match nothing.
    pub(crate) const MAX: usize = 1_024;

    /// Reads a password of at least 8 characters and at most 1,024 bytes.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] for the field `password`.
    pub(crate) fn parse(text: Secret) -> Result<Self> {
        let password = text.expose();
        if password.chars().count() < 8 || password.len() > Self::MAX {
            let expected = "at least 8 characters and at most 1024 bytes";
            return Err(Error::invalid("password", expected));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use trine_cache::{CacheConfig, CacheDeps, CacheService};
    use trine_core::{CallContext, Deadline, ManualClock, Tasks};
    use trine_db_shard::DbConfig;

    use super::*;
    use crate::schema;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    struct Bench {
        _folder: tempfile::TempDir,
        db: DbService,
        cache: CacheService,
        clock: Arc<ManualClock>,
        rows: AccountCache,
        accounts: Accounts,
        /// Of Ann.
        id: Uuid,
    }

    /// Where a request takes at most as long as `READING`, and a statement that
    /// was given up `SETTLING` longer.
    const READING: Duration = Duration::from_secs(10);
    const SETTLING: Duration = Duration::from_secs(5);

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = DbConfig::sqlite(folder.path(), 1);
            let migrated = trine_db_shard::migrate(&config, &schema::migrations()).await.unwrap();
            assert!(migrated.is_complete());
            let db = DbService::connect(&config).await.unwrap();
            let clock = Arc::new(ManualClock::new());
            let deps = CacheDeps::default().with_clock(Arc::<ManualClock>::clone(&clock));
            let cache = CacheService::open(&CacheConfig::memory(), deps).unwrap();
            cache.start().await.unwrap();
            let passwords = Passwords::new(1, HOUR, &Tasks::new("test")).unwrap();
            let rows = AccountCache::new(cache.clone(), HOUR, READING, SETTLING);
            let accounts = Accounts::new(db.clone(), passwords, rows.clone());
            let registration = Registration {
                email: Email::parse("ann@example.com").unwrap(),
                name: Name::parse("Ann").unwrap(),
                password: Password::parse(Secret::new("correct horse")).unwrap(),
            };
            let (id, _) = accounts.register(registration).await.unwrap();
            Self { _folder: folder, db, cache, clock, rows, accounts, id }
        }

        async fn name(&self) -> String {
            self.accounts.get(self.id).await.unwrap().name
        }
    }

    fn bob() -> Name {
        Name::parse("Bob").unwrap()
    }

    #[tokio::test]
    async fn a_row_is_cached_until_it_changes_and_read_without_a_cache() {
        let bench = Bench::new().await;
        let Bench { accounts, id, .. } = &bench;
        let old = accounts.get(*id).await.unwrap();
        assert_eq!(old.name, "Ann");
        let elsewhere = "UPDATE account SET name = 'Eve' WHERE id = ?";
        bench.db.global().execute(elsewhere, (*id,)).await.unwrap();
        assert_eq!(bench.name().await, "Ann", "the row is not read again");

        let renamed = accounts.rename(*id, bob()).await.unwrap();
        assert_eq!(renamed.name, "Bob");
        // Somebody has read the row before the change and comes late.
        bench.rows.keep(&old).await;
        assert_eq!(bench.name().await, "Bob");

        bench.cache.shutdown(Deadline::after(HOUR)).await.unwrap();
        assert_eq!(bench.name().await, "Bob", "without a cache the row is read");
        let refused = accounts.rename(*id, Name::parse("Eve").unwrap()).await;
        assert!(matches!(refused, Err(Error::Cache(_))), "{refused:?}");
        assert_eq!(bench.name().await, "Bob", "and not changed");
    }

    #[tokio::test]
    async fn a_reader_who_comes_as_late_as_can_be_keeps_no_old_row() {
        let bench = Bench::new().await;
        let old = bench.accounts.get(bench.id).await.unwrap();
        // The change is given up at the end of its request, the statement ends
        // on the server after that, and the reader had just read the row.
        bench.rows.forget(bench.id).await.unwrap();
        bench.clock.advance(READING + SETTLING + READING - Duration::from_millis(1));
        bench.rows.keep(&old).await;
        assert_eq!(bench.rows.find(bench.id).await, None);
        bench.clock.advance(Duration::from_millis(1));
        bench.rows.keep(&old).await;
        assert_eq!(bench.rows.find(bench.id).await, Some(old), "it is cached again");
    }

    #[tokio::test]
    async fn a_row_that_was_kept_while_it_changed_goes_when_it_has() {
        let bench = Bench::new().await;
        let old = bench.accounts.get(bench.id).await.unwrap();
        // The change waits for its turn to write.
        let turn = bench.db.global().begin().await.unwrap();
        let rename = bench.accounts.rename(bench.id, bob());
        let full = async {
            while bench.rows.find(bench.id).await.is_some() {
                tokio::task::yield_now().await;
            }
            // The mark is dropped by a cache that is full, and a reader comes.
            let _dropped = bench.cache.remove(format!("account:{}", bench.id)).await.unwrap();
            bench.rows.keep(&old).await;
            drop(turn);
        };
        let (renamed, ()) = tokio::join!(rename, full);
        assert_eq!(renamed.unwrap().name, "Bob");
        assert_eq!(bench.name().await, "Bob");
    }

    #[tokio::test]
    async fn a_reader_whose_time_is_over_keeps_nothing() {
        let bench = Bench::new().await;
        let row = bench.accounts.read(bench.id).await.unwrap();
        let late = CallContext::default().with_deadline(Deadline::after(Duration::ZERO));
        late.scope(bench.rows.keep(&row)).await;
        assert_eq!(bench.rows.find(bench.id).await, None);
    }

    #[test]
    fn addresses_are_folded_and_checked() {
        assert_eq!(Email::parse(" Ann@Example.COM ").unwrap().as_str(), "ann@example.com");
        let long = format!("{}@example.com", "x".repeat(250));
        for text in ["", "ann", "@example.com", "ann@", "a nn@example.com", "a\0@b.c", &long] {
            let error = Email::parse(text).unwrap_err();
            assert!(matches!(error, Error::Invalid { field: "email", .. }), "{text}");
        }
    }

    #[test]
    fn names_and_passwords_have_bounds() {
        assert_eq!(Name::parse(" Ann ").unwrap().0, "Ann");
        let too_long = "é".repeat(101);
        for text in ["", "  ", &too_long, "a\nb"] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        assert!(Password::parse(Secret::new("pässwörd")).is_ok());
        for text in ["1234567".to_owned(), "x".repeat(1_025)] {
            assert!(Password::parse(Secret::new(text)).is_err());
        }
    }
}
