use serde::Serialize;
use serde::de::DeserializeOwned;

use super::token::{Hash, SessionId, SessionToken};
use super::{Sessions, TRIES};
use crate::{Op, Presence, Result};

/// How sessions are ended.
impl<T: Serialize + DeserializeOwned> Sessions<T> {
    /// Ends the session that `token` belongs to.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn revoke(&self, token: &str) -> Result<Presence> {
        let Some(token) = SessionToken::parse(token) else { return Ok(Presence::Absent) };
        let key = token.key(&self.shared.config.prefix)?;
        let gone = Op::HashRemove { key: key.clone(), fields: vec![token.hash().field()] };
        let count = self.ended("session_revoke", gone, key).await?;
        Ok(Presence::of(count > 0))
    }

    /// Ends one session of `user` by its name.
    ///
    /// # Errors
    ///
    /// As [`revoke_all`](Self::revoke_all).
    pub async fn revoke_one(&self, user: &str, id: &SessionId) -> Result<Presence> {
        let count = self.revoke_where("session_revoke", user, |hash| hash.id() == *id).await?;
        Ok(Presence::of(count > 0))
    }

    /// Ends all sessions of the user of `token` but this one, and returns how
    /// many there were; `None` if there is no session any more.
    ///
    /// # Errors
    ///
    /// As [`revoke_all`](Self::revoke_all).
    pub async fn revoke_others(&self, token: &str) -> Result<Option<u64>> {
        let Some(session) = self.get(token).await? else { return Ok(None) };
        let others = |hash: &Hash| hash.id() != session.id;
        self.revoke_where("session_revoke_others", &session.user, others).await.map(Some)
    }

    /// Ends all sessions of `user`, and returns how many there were. One that
    /// is made at the same moment is either ended too or made afterwards.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` if others kept changing the user's sessions, and
    /// with the errors of the store.
    pub async fn revoke_all(&self, user: &str) -> Result<u64> {
        self.revoke_where("session_revoke_all", user, |_| true).await
    }

    async fn revoke_where(
        &self,
        operation: &'static str,
        user: &str,
        is_meant: impl Fn(&Hash) -> bool,
    ) -> Result<u64> {
        let key = self.shared.tagger.key(&self.shared.config.prefix, user)?;
        for _ in 0..TRIES {
            let found = self.found(operation, &key, user).await?;
            let meant = found.live.iter().filter(|session| is_meant(&session.hash));
            let mut removed: Vec<_> = meant.map(|session| session.hash.field()).collect();
            let count = u64::try_from(removed.len()).unwrap_or(u64::MAX);
            if count == 0 {
                return Ok(0);
            }
            removed.extend(found.over);
            let step = self.step(&key, found.version, removed, None);
            if self.took_place(operation, step).await? {
                return Ok(count);
            }
        }
        Err(self.contended(operation))
    }
}
