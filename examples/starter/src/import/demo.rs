use trine_core::Secret;
use trine_db_shard::ShardId;
use uuid::Uuid;

use crate::accounts::{Accounts, Email, Name, Password, Registration};
use crate::error::Result;
use crate::random::fill_random;

/// The account that imported documents belong to.
#[derive(Debug)]
pub(crate) struct DemoAccount {
    pub(crate) id: Uuid,
    pub(crate) shard: ShardId,
    /// Its password, if the account was made just now. Nobody can ask for it
    /// later.
    pub(crate) password: Option<Secret>,
}

impl DemoAccount {
    pub(crate) const EMAIL: &str = "demo@example.com";

    /// Returns the demo account, making it if it is not there.
    ///
    /// Its password goes to `show` before the account is made: a process that
    /// dies in between leaves no account whose password nobody has seen.
    ///
    /// # Errors
    ///
    /// Fails with `EmailTaken` if another process makes the account at
    /// the same moment, and with the errors of the database.
    pub(crate) async fn find_or_make(
        accounts: &Accounts,
        show: impl FnOnce(&Secret),
    ) -> Result<Self> {
        let email = Email::parse(Self::EMAIL)?;
        if let Some(found) = accounts.find_credentials(&email).await? {
            let shard = accounts.assign_shard(found.id).await?;
            return Ok(Self { id: found.id, shard, password: None });
        }
        let password = random_password()?;
        show(&password);
        let registration = Registration {
            email,
            name: Name::parse("Demo")?,
            password: Password::parse(password.clone())?,
        };
        let (id, shard) = accounts.register(registration).await?;
        Ok(Self { id, shard, password: Some(password) })
    }
}

/// Returns 100 random bits as 20 letters and digits that are hard to confuse.
fn random_password() -> Result<Secret> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    fill_random(&mut bytes)?;
    let letter = |byte: u8| LETTERS.get(usize::from(byte % 32)).copied().map(char::from);
    Ok(Secret::new(bytes.into_iter().filter_map(letter).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::time::Duration;

    use futures_util::FutureExt;
    use trine_cache::{CacheConfig, CacheService};
    use trine_core::Tasks;
    use trine_db_shard::{DbConfig, DbService};

    use super::*;
    use crate::accounts::AccountCache;
    use crate::passwords::Passwords;
    use crate::schema;

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (random_password().unwrap(), random_password().unwrap());
        assert_eq!(one.expose().len(), 20);
        assert_ne!(one.expose(), other.expose());
        assert!(Password::parse(one).is_ok());
    }

    #[tokio::test]
    async fn a_password_is_shown_before_the_account_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::sqlite(folder.path(), 1);
        let migrated = trine_db_shard::migrate(&config, &schema::migrations()).await.unwrap();
        assert!(migrated.is_complete());
        let db = DbService::connect(&config).await.unwrap();
        let passwords = Passwords::new(1, Duration::from_secs(60), &Tasks::new("test")).unwrap();
        let cache = CacheService::connect(&CacheConfig::memory()).await.unwrap();
        let second = Duration::from_secs(1);
        let rows = AccountCache::new(cache, second, second, second);
        let accounts = Accounts::new(db, passwords, rows);
        let email = Email::parse(DemoAccount::EMAIL).unwrap();
        let dies = DemoAccount::find_or_make(&accounts, |_| panic!("on purpose"));
        AssertUnwindSafe(dies).catch_unwind().await.unwrap_err();
        assert!(accounts.find_credentials(&email).await.unwrap().is_none());

        let mut shown = None;
        let show = |password: &Secret| shown = Some(password.clone());
        let made = DemoAccount::find_or_make(&accounts, show).await.unwrap();
        assert_eq!(shown.unwrap().expose(), made.password.unwrap().expose());
        let kept = DemoAccount::find_or_make(&accounts, |_| panic!("shown twice")).await.unwrap();
        assert!(kept.id == made.id && kept.password.is_none());
    }
}
