mod config;
mod record;
mod token;

use std::cmp::Reverse;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::{
    Batch, CacheService, Error, Expected, Key, Op, Outcome, Presence, Reply, Result, Ttl,
    Unavailable,
};

use self::record::Record;
use self::token::{Hash, Tagger};

pub use self::config::{SessionsConfig, WhenTooMany};
pub use self::token::{SessionId, SessionToken};

/// The sessions of users, in a cache: whoever shows a token is the user that it
/// was made for, until the session ends or is revoked. Cheap to clone.
///
/// A session ends when it was not used for `idle`, and at the latest after
/// `absolute`; both by the clock of the store, which all processes share. The
/// store holds hashes of tokens only. The sessions of one user live together,
/// so that making one more and taking the oldest out, or revoking all of them,
/// is one step.
///
/// `T` is what the host keeps in each session.
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trine_cache::Result<()> {
/// use trine_cache::{CacheConfig, CacheService, CreateOutcome, Sessions, SessionsConfig};
/// use trine_core::Secret;
///
/// # let mut config = CacheConfig::memory();
/// # config.backend = serde_json::from_str(r#"{"kind":"memory","when_full":"refuse"}"#).unwrap();
/// let cache = CacheService::connect(&config).await?;
/// let key = Secret::new("at least thirty-two random bytes");
/// let sessions = Sessions::<String>::open(&cache, &SessionsConfig::new(key))?;
///
/// let CreateOutcome::Created(created) = sessions.create("user 7", &"laptop".to_owned()).await?
/// else {
///     return Ok(());
/// };
/// let token = created.token.expose(); // goes to the client, and nowhere else
/// let session = sessions.get(token).await?;
/// assert_eq!(session.map(|session| session.user).as_deref(), Some("user 7"));
/// # Ok(())
/// # }
/// ```
pub struct Sessions<T> {
    shared: Arc<Shared>,
    data: PhantomData<fn() -> T>,
}

struct Shared {
    cache: CacheService,
    config: SessionsConfig,
    tagger: Tagger,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session<T> {
    /// Its name among the sessions of its user; no secret, and no token.
    pub id: SessionId,
    /// Whom it was made for.
    pub user: String,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was last used, give or take `touch_every`.
    pub used_at: SystemTime,
    /// When it ends if it is not used any more.
    pub ends_at: SystemTime,
    /// What the host keeps in it.
    pub data: T,
}

/// A session that was just made or rotated.
#[derive(Debug)]
#[non_exhaustive]
pub struct Created<T> {
    /// What the client shows from now on.
    pub token: SessionToken,
    /// The session.
    pub session: Session<T>,
    /// The sessions of the user that were ended to make room.
    pub ended: Vec<SessionId>,
}

/// What became of an attempt to make a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateOutcome<T> {
    /// It is there.
    Created(Created<T>),
    /// The user has as many as there may be, and `when_too_many` is `refuse`.
    TooMany {
        /// How many there are.
        present: u32,
    },
}

/// Tries of one change that others change beneath.
const TRIES: u32 = 16;

/// Changes with every step that makes or ends sessions of a user. Its name is
/// of another length than those of sessions.
const VERSION: Bytes = Bytes::from_static(b"v");

/// The sessions of one user as they were read.
struct Found {
    now: Duration,
    version: Option<Bytes>,
    live: Vec<Live>,
    /// Those that are over, or that are no records.
    over: Vec<Bytes>,
}

/// A session whose data nobody has looked at: that of a process with another
/// `T` counts and can be revoked all the same.
struct Live {
    hash: Hash,
    used: Duration,
    value: Bytes,
}

impl<T: Serialize + DeserializeOwned> Sessions<T> {
    /// Returns the sessions kept in `cache`. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration.
    pub fn open(cache: &CacheService, config: &SessionsConfig) -> Result<Self> {
        config.validate()?;
        let tagger = Tagger::new(&config.key);
        let shared = Shared { cache: cache.clone(), config: config.clone(), tagger };
        Ok(Self { shared: Arc::new(shared), data: PhantomData })
    }

    /// Makes a session for `user`. If there are `max_per_user` already, the one
    /// that was unused for longest ends, or none is made, as `when_too_many`
    /// says.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` on a store that may evict, unless
    /// `allow_eviction` is set; with `Codec` if the data cannot be encoded, with
    /// `Unavailable` if others kept changing the user's sessions, and with the
    /// errors of the store.
    pub async fn create(&self, user: &str, data: &T) -> Result<CreateOutcome<T>>
    where
        T: Clone,
    {
        const OPERATION: &str = "session create";
        self.check_store(OPERATION)?;
        let key = self.shared.tagger.key(&self.shared.config.prefix, user)?;
        let most = self.shared.config.max_per_user.get();
        for _ in 0..TRIES {
            let found = self.found(OPERATION, &key, user).await?;
            let mut live = found.live;
            let present = u32::try_from(live.len()).unwrap_or(u32::MAX);
            if present >= most && self.shared.config.when_too_many == WhenTooMany::Refuse {
                return Ok(CreateOutcome::TooMany { present });
            }
            // The longest unused come last, and leave.
            live.sort_by_key(|session| Reverse(session.used));
            let kept = usize::try_from(most - 1).unwrap_or(usize::MAX);
            let leaving = live.split_off(kept.min(live.len()));
            let ended = leaving.iter().map(|session| session.hash.id()).collect();
            let token = self.shared.tagger.token(user)?;
            let record = Record::new(user, found.now, data.clone());
            let mut removed = found.over;
            removed.extend(leaving.iter().map(|session| session.hash.field()));
            let added = (token.hash().field(), self.encode(OPERATION, &key, &record)?);
            let step = self.step(&key, found.version, removed, Some(added));
            if self.took_place(OPERATION, step).await? {
                let session = self.session(&token.hash(), record);
                return Ok(CreateOutcome::Created(Created { token, session, ended }));
            }
        }
        Err(self.contended(OPERATION))
    }

    /// Returns the session that `token` belongs to, and notes that it was used;
    /// `None` if there is none, or none any more.
    ///
    /// The note is written at most once in `touch_every`. Where that write
    /// fails, the session is returned all the same and ends a little earlier.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the data is no `T`, and with the errors of the
    /// store: an outage is not taken for the end of a session.
    pub async fn get(&self, token: &str) -> Result<Option<Session<T>>> {
        const OPERATION: &str = "session get";
        let Some(token) = SessionToken::parse(token) else { return Ok(None) };
        let key = token.key(&self.shared.config.prefix)?;
        let hash = token.hash();
        let Some((now, old, mut record)) = self.live(OPERATION, &key, &hash).await? else {
            return Ok(None);
        };
        if now.saturating_sub(record.used) >= self.shared.config.touch_every() {
            record.used = now;
            let new = self.encode(OPERATION, &key, &record)?;
            let touch = self.change(&key, &hash, old, vec![(hash.field(), new)], Vec::new());
            if let Err(error) = self.took_place(OPERATION, touch).await {
                tracing::debug!(%error, "the use of a session was not noted");
            }
        }
        Ok(Some(self.session(&hash, record)))
    }

    /// Replaces what the host keeps in a session; `None` if there is no session
    /// any more.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub async fn put(&self, token: &str, data: &T) -> Result<Option<Session<T>>>
    where
        T: Clone,
    {
        const OPERATION: &str = "session put";
        let Some(token) = SessionToken::parse(token) else { return Ok(None) };
        let key = token.key(&self.shared.config.prefix)?;
        let hash = token.hash();
        for _ in 0..TRIES {
            let Some((now, old, mut record)) = self.live(OPERATION, &key, &hash).await? else {
                return Ok(None);
            };
            (record.used, record.data) = (now, data.clone());
            let new = self.encode(OPERATION, &key, &record)?;
            let change = self.change(&key, &hash, old, vec![(hash.field(), new)], Vec::new());
            if self.took_place(OPERATION, change).await? {
                return Ok(Some(self.session(&hash, record)));
            }
        }
        Err(self.contended(OPERATION))
    }

    /// Gives a session a new token and ends the old one, in one step: to be
    /// done when its user gains rights. `None` if there is no session any more.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create). After `OutcomeUnknown` either token may be
    /// the good one; the new one is lost with the error, so log in again.
    pub async fn rotate(&self, token: &str) -> Result<Option<Created<T>>> {
        const OPERATION: &str = "session rotate";
        let Some(token) = SessionToken::parse(token) else { return Ok(None) };
        let key = token.key(&self.shared.config.prefix)?;
        let hash = token.hash();
        for _ in 0..TRIES {
            let Some((now, old, mut record)) = self.live(OPERATION, &key, &hash).await? else {
                return Ok(None);
            };
            record.used = now;
            let fresh = self.shared.tagger.token(&record.user)?;
            let new = self.encode(OPERATION, &key, &record)?;
            let written = vec![(fresh.hash().field(), new), (VERSION, nonce()?)];
            let change = self.change(&key, &hash, old, written, vec![hash.field()]);
            if self.took_place(OPERATION, change).await? {
                let session = self.session(&fresh.hash(), record);
                return Ok(Some(Created { token: fresh, session, ended: Vec::new() }));
            }
        }
        Err(self.contended(OPERATION))
    }

    /// Returns the live sessions of `user`, the one used last first.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if the data of one is no `T`, and with the errors of
    /// the store.
    pub async fn list(&self, user: &str) -> Result<Vec<Session<T>>> {
        const OPERATION: &str = "session list";
        let key = self.shared.tagger.key(&self.shared.config.prefix, user)?;
        let mut live = self.found(OPERATION, &key, user).await?.live;
        live.sort_by_key(|session| Reverse(session.used));
        let session = |Live { hash, value, .. }: &Live| {
            Ok(self.session(hash, self.decode(OPERATION, &key, value)?))
        };
        live.iter().map(session).collect()
    }

    /// Ends the session that `token` belongs to.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn revoke(&self, token: &str) -> Result<Presence> {
        let Some(token) = SessionToken::parse(token) else { return Ok(Presence::Absent) };
        let key = token.key(&self.shared.config.prefix)?;
        let gone = Op::HashRemove { key: key.clone(), fields: vec![token.hash().field()] };
        let count = self.ended("session revoke", gone, key).await?;
        Ok(Presence::of(count > 0))
    }

    /// Ends one session of `user` by its name.
    ///
    /// # Errors
    ///
    /// As [`revoke_all`](Self::revoke_all).
    pub async fn revoke_one(&self, user: &str, id: &SessionId) -> Result<Presence> {
        let count = self.revoke_where("session revoke", user, |hash| hash.id() == *id).await?;
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
        self.revoke_where("session revoke others", &session.user, others).await.map(Some)
    }

    /// Ends all sessions of `user`, and returns how many there were. One that
    /// is made at the same moment is either ended too or made afterwards.
    ///
    /// # Errors
    ///
    /// Fails with `Unavailable` if others kept changing the user's sessions, and
    /// with the errors of the store.
    pub async fn revoke_all(&self, user: &str) -> Result<u64> {
        self.revoke_where("session revoke all", user, |_| true).await
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

    /// Reads everything that is stored for a user, with the store's time.
    async fn found(&self, operation: &'static str, key: &Key, user: &str) -> Result<Found> {
        let ops = vec![Op::Time { key: key.clone() }, Op::HashAll { key: key.clone() }];
        let mut replies = self.shared.cache.many(operation, ops).await?.into_iter();
        let now = since_epoch(replies.next())?;
        let pairs = replies.next().map_or(Ok(Vec::new()), Reply::into_pairs)?;
        let mut found = Found { now, version: None, live: Vec::new(), over: Vec::new() };
        for (field, value) in pairs {
            let Some(hash) = Hash::of_field(&field) else {
                found.version = Some(value);
                continue;
            };
            match serde_json::from_slice::<Record<IgnoredAny>>(&value) {
                Ok(record) if self.is_over(&record, now) => found.over.push(field),
                Ok(Record { user: owner, used, .. }) if owner == user => {
                    found.live.push(Live { hash, used, value });
                }
                // Another user with the same tag.
                Ok(_) => {}
                Err(_) => found.over.push(field),
            }
        }
        Ok(found)
    }

    /// Reads one session as it is stored, with the store's time. Also `None`
    /// for one that was made with another key of the configuration: nobody who
    /// lists or revokes the user's sessions would find it.
    async fn live(
        &self,
        operation: &'static str,
        key: &Key,
        hash: &Hash,
    ) -> Result<Option<(Duration, Bytes, Record<T>)>> {
        let look = Op::HashGet { key: key.clone(), fields: vec![hash.field()] };
        let ops = vec![Op::Time { key: key.clone() }, look];
        let mut replies = self.shared.cache.many(operation, ops).await?.into_iter();
        let now = since_epoch(replies.next())?;
        let mut values = replies.next().map_or(Ok(Vec::new()), Reply::into_values)?;
        let Some(value) = values.pop().flatten() else { return Ok(None) };
        let record: Record<T> = self.decode(operation, key, &value)?;
        let home = self.shared.tagger.key(&self.shared.config.prefix, &record.user)?;
        let is_live = home == *key && !self.is_over(&record, now);
        Ok(is_live.then_some((now, value, record)))
    }

    /// Returns the step that ends sessions and adds one, if nothing was made or
    /// ended since `version` was read.
    fn step(
        &self,
        key: &Key,
        version: Option<Bytes>,
        removed: Vec<Bytes>,
        added: Option<(Bytes, Bytes)>,
    ) -> Result<Batch> {
        let mut batch = Batch::atomic();
        if !removed.is_empty() {
            batch.push(Op::HashRemove { key: key.clone(), fields: removed });
        }
        let fields = added.into_iter().chain([(VERSION, nonce()?)]).collect();
        batch.push(Op::HashPut { key: key.clone(), fields, ttl: self.idle() });
        let expected = Expected::Field { field: VERSION, value: version };
        Ok(batch.when(key, expected))
    }

    /// Returns the step that changes one session, if it is still as it was
    /// read.
    fn change(
        &self,
        key: &Key,
        hash: &Hash,
        old: Bytes,
        written: Vec<(Bytes, Bytes)>,
        removed: Vec<Bytes>,
    ) -> Result<Batch> {
        let mut batch = Batch::atomic();
        if !removed.is_empty() {
            batch.push(Op::HashRemove { key: key.clone(), fields: removed });
        }
        batch.push(Op::HashPut { key: key.clone(), fields: written, ttl: self.idle() });
        let expected = Expected::Field { field: hash.field(), value: Some(old) };
        Ok(batch.when(key, expected))
    }

    async fn took_place(&self, operation: &'static str, step: Result<Batch>) -> Result<bool> {
        match self.shared.cache.run(step?.named(operation)).await? {
            Outcome::Ran(replies) => {
                for reply in replies {
                    if let Reply::Failed(error) = reply {
                        return Err(error);
                    }
                }
                Ok(true)
            }
            Outcome::Refused { .. } => Ok(false),
        }
    }

    /// Ends sessions without a look at them first.
    async fn ended(&self, operation: &'static str, gone: Op, key: Key) -> Result<u64> {
        let fields = vec![(VERSION, nonce()?)];
        let mark = Op::HashPut { key, fields, ttl: Ttl::IfNew(Ttl::MIN) };
        let batch = Batch::atomic().named(operation).with(gone).with(mark);
        match self.shared.cache.run(batch).await? {
            Outcome::Ran(replies) => replies.into_iter().next().map_or(Ok(0), Reply::into_count),
            Outcome::Refused { .. } => Ok(0),
        }
    }

    /// Every session of the key has ended by then: none was used later than
    /// now.
    fn idle(&self) -> Ttl {
        Ttl::After(self.shared.config.idle.get())
    }

    fn is_over<D>(&self, record: &Record<D>, now: Duration) -> bool {
        now >= self.ends(record)
    }

    fn ends<D>(&self, record: &Record<D>) -> Duration {
        let config = &self.shared.config;
        (record.used + config.idle.get()).min(record.created + config.absolute.get())
    }

    fn session(&self, hash: &Hash, record: Record<T>) -> Session<T> {
        Session {
            id: hash.id(),
            created_at: SystemTime::UNIX_EPOCH + record.created,
            used_at: SystemTime::UNIX_EPOCH + record.used,
            ends_at: SystemTime::UNIX_EPOCH + self.ends(&record),
            user: record.user,
            data: record.data,
        }
    }

    /// Refuses a store that may drop sessions to make room.
    fn check_store(&self, operation: &'static str) -> Result<()> {
        let cache = &self.shared.cache;
        let Some(facts) = cache.facts() else {
            return Err(Error::unavailable(cache.at(operation), Unavailable::NotStarted));
        };
        if !facts.evicts || self.shared.config.allow_eviction {
            return Ok(());
        }
        Err(Error::Unsupported {
            at: cache.at(operation),
            what: "a session",
            backend: format!("{} that may evict (allow_eviction)", facts.version).into(),
        })
    }

    fn contended(&self, operation: &'static str) -> Error {
        Error::unavailable(self.shared.cache.at(operation), Unavailable::Contended)
    }

    fn encode(&self, operation: &'static str, key: &Key, record: &Record<T>) -> Result<Bytes> {
        self.shared.cache.encode(operation, key, record)
    }

    fn decode(&self, operation: &'static str, key: &Key, bytes: &[u8]) -> Result<Record<T>> {
        self.shared.cache.decode(operation, key, bytes)
    }
}

fn since_epoch(reply: Option<Reply>) -> Result<Duration> {
    match reply {
        Some(Reply::Time(since_epoch)) => Ok(since_epoch),
        Some(Reply::Failed(error)) => Err(error),
        Some(other) => Err(Error::unexpected_reply("Time", &other)),
        None => Err(Error::Reply { expected: "Time", found: "none" }),
    }
}

/// Returns a text that nobody used before.
fn nonce() -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(&token::random::<8>()?))
}

impl<T> Clone for Sessions<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), data: PhantomData }
    }
}

impl<T> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("cache", &self.shared.cache).finish_non_exhaustive()
    }
}
