use trine_core::Secret;
use trine_db_shard::ShardId;
use uuid::Uuid;

use crate::accounts::{Accounts, Email, Name, Password, Registration};
use crate::error::{Error, Result};
use crate::tokens::fill_random;

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
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub(crate) async fn find_or_make(accounts: &Accounts) -> Result<Self> {
        let email = Email::parse(Self::EMAIL)?;
        let password = random_password()?;
        let registration = Registration {
            email: email.clone(),
            name: Name::parse("Demo")?,
            password: Password::parse(password.clone())?,
        };
        match accounts.register(registration).await {
            Ok((id, shard)) => Ok(Self { id, shard, password: Some(password) }),
            Err(Error::EmailTaken) => {
                let Some(found) = accounts.find_credentials(&email).await? else {
                    return Err(Error::EmailTaken);
                };
                let shard = accounts.assign_shard(found.id).await?;
                Ok(Self { id: found.id, shard, password: None })
            }
            Err(error) => Err(error),
        }
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
    use super::*;

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (random_password().unwrap(), random_password().unwrap());
        assert_eq!(one.expose().len(), 20);
        assert_ne!(one.expose(), other.expose());
        assert!(Password::parse(one).is_ok());
    }
}
