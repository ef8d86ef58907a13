mod claim;
pub(crate) mod epoch;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use trine_core::Report;

use crate::{
    Database, DbService, Error, InvalidShardKey, Result, ShardId, ShardKey, ShardStatus, Tx,
    TxOptions,
};

use claim::{Claim, Claimed};
use epoch::{Gate, KeyState, mark};

/// One key on its way from one shard to another, as the host's part of the
/// move sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Move {
    key: ShardKey,
    from: ShardId,
    to: ShardId,
    source: Database,
    target: Database,
    epoch: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Copying,
    Removing,
}

impl Move {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &ShardKey {
        &self.key
    }

    /// Returns the number of the shard that the key comes from.
    #[must_use]
    pub fn from_shard(&self) -> ShardId {
        self.from
    }

    /// Returns the number of the shard that the key goes to.
    #[must_use]
    pub fn to_shard(&self) -> ShardId {
        self.to
    }

    /// Returns the shard that the key comes from, to read from.
    #[must_use]
    pub fn source(&self) -> &Database {
        &self.source
    }

    /// Returns the shard that the key goes to, to read from. What is written
    /// there past [`write`](Self::write) is not protected from a move that
    /// replaced this one.
    #[must_use]
    pub fn target(&self) -> &Database {
        &self.target
    }

    /// Runs `body` in a transaction on the shard that this part of the move
    /// changes: the target for the copy, the source for the removal. Retried
    /// on deadlock, like [`Database::transaction`].
    ///
    /// It is refused once another call has taken over the move, finished or
    /// aborted it: a process that was stopped half-way changes nothing when it
    /// wakes up.
    ///
    /// # Errors
    ///
    /// Fails with the body's own error, with one of the commit's, and with
    /// `Conflict` if this move was replaced.
    pub async fn write<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let (database, state) = match self.phase {
            Phase::Copying => (&self.target, KeyState::Arriving),
            Phase::Removing => (&self.source, KeyState::Moved),
        };
        let gate = Gate::carrying(&self.key, self.epoch, state);
        gate.transaction(database, &TxOptions::default(), &Mutex::new(body)).await
    }
}

/// What a move did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoveOutcome {
    /// The key is on the shard now.
    Moved,
    /// It was there already.
    AlreadyThere,
}

/// What an abort did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbortOutcome {
    /// The key stays on the shard it was on, and takes writes again.
    Aborted,
    /// The key was not being moved, or not any more.
    NotMoving,
}

type Step<'a, E> = Box<dyn FnMut(Move) -> BoxFuture<'a, Result<(), E>> + Send + 'a>;

/// A move of one key; awaiting it runs it. See [`DbService::move_key`].
#[must_use = "a move does nothing until it is awaited"]
pub struct MoveKey<'a, E> {
    service: &'a DbService,
    key: Result<ShardKey>,
    to: ShardId,
    copy: Step<'a, E>,
    remove: Option<Step<'a, E>>,
}

impl DbService {
    /// Moves `key` to the shard `to` while everything else goes on: the host's
    /// `copy` brings its rows over, and the map switches to the new shard.
    ///
    /// 1. The map says `moving`: from here on writes and transactions on the
    ///    key answer `Unavailable`, reads go to the source. Transactions that
    ///    are under way are waited for, at most `query_timeout`.
    /// 2. One `map.lease` later no process acts on an older look at the map.
    ///    All processes must have the same `map.lease`.
    /// 3. `copy` makes the target's rows of the key **equal** to the source's,
    ///    whatever it finds there: rows of an earlier attempt, or of a time
    ///    when the key lived there, have to go. It writes by [`Move::write`]
    ///    and may run more than once.
    /// 4. The map says `to`. Whoever asks again gets the new shard.
    /// 5. With [`then_remove`](MoveKey::then_remove), a lease later, the
    ///    source's rows are removed. Until then, or without it, a query over
    ///    all shards finds them in both places.
    ///
    /// After an error, a crash or a dropped future the key stays where it is
    /// and in the state it had reached. The same call again goes on from
    /// there, in any process, even if the first one still runs: the later one
    /// takes over, and the former can change nothing more.
    /// [`abort_move`](Self::abort_move) gives the key back instead.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if the key was never assigned or the shard is
    /// unknown, `Unavailable` if the target takes no new keys or the source no
    /// writes, `Conflict` if the key is being moved elsewhere or this call was
    /// replaced by another, with the host's own error, and with the errors of
    /// the databases. Calling again is the answer to all that can be retried.
    ///
    /// # Example
    ///
    /// ```
    /// # use trine_db_shard::{DbService, Move, Result};
    /// # async fn example(db: &DbService) -> Result<()> {
    /// async fn copy(step: Move) -> Result<()> {
    ///     let notes: Vec<(String, String)> = step
    ///         .source()
    ///         .query("SELECT id, text FROM note WHERE owner = ?", ("user:1",))
    ///         .await?;
    ///     step.write(|mut tx| {
    ///         let notes = notes.clone();
    ///         async move {
    ///             tx.execute("DELETE FROM note WHERE owner = ?", ("user:1",)).await?;
    ///             for (id, text) in notes {
    ///                 let note = ("user:1", id, text);
    ///                 tx.execute("INSERT INTO note (owner, id, text) VALUES (?, ?, ?)", note)
    ///                     .await?;
    ///             }
    ///             Ok(())
    ///         }
    ///     })
    ///     .await
    /// }
    ///
    /// async fn remove(step: Move) -> Result<()> {
    ///     step.write(|mut tx| async move {
    ///         tx.execute("DELETE FROM note WHERE owner = ?", ("user:1",)).await?;
    ///         Ok(())
    ///     })
    ///     .await
    /// }
    ///
    /// db.move_key("user:1", 2, copy).then_remove(remove).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn move_key<'a, E, F, Fut>(
        &'a self,
        key: impl TryInto<ShardKey, Error: Into<InvalidShardKey>>,
        to: impl Into<ShardId>,
        mut copy: F,
    ) -> MoveKey<'a, E>
    where
        E: From<Error>,
        F: FnMut(Move) -> Fut + Send + 'a,
        Fut: Future<Output = Result<(), E>> + Send + 'a,
    {
        MoveKey {
            service: self,
            key: self.key(OPERATION, key),
            to: to.into(),
            copy: Box::new(move |step| copy(step).boxed()),
            remove: None,
        }
    }

    /// Ends a move that has not switched yet: the key stays where it was and
    /// takes writes again.
    ///
    /// A copy that still runs somewhere can write no more, unless the target
    /// cannot be reached now. What it has written stays there, out of sight of
    /// the key: the next move to that shard replaces it, and one that
    /// [removes](MoveKey::then_remove) clears it. Idempotent; after an error or
    /// a dropped future, call again.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if the key was never assigned, `Conflict` if
    /// another call took over in between, and with the errors of the databases.
    pub async fn abort_move(
        &self,
        key: impl TryInto<ShardKey, Error: Into<InvalidShardKey>>,
    ) -> Result<AbortOutcome> {
        let key = self.key("abort_move", key)?;
        let _in_flight = self.global().enter("abort_move")?;
        let Some(aborted) = self.claim_abort(&key).await? else {
            return Ok(AbortOutcome::NotMoving);
        };
        let (from, to) = (aborted.from, aborted.to);
        mark(&aborted.source, &key, aborted.epoch, KeyState::Settled).await?;
        let telling = async { mark(&self.shard(to)?, &key, aborted.epoch, KeyState::Moved).await };
        if let Err(error) = telling.await {
            let error = Report(&error).to_string();
            tracing::warn!(?key, %to, error, "target of an aborted move not told");
        }
        self.give_back(&key, &aborted).await?;
        self.shared.counters.move_aborted.add(1);
        tracing::info!(?key, %from, %to, "move aborted");
        Ok(AbortOutcome::Aborted)
    }
}

const OPERATION: &str = "move_key";

impl<'a, E> MoveKey<'a, E>
where
    E: From<Error> + Send + 'a,
{
    /// Removes the key's rows from the shard it came from, one lease after the
    /// switch, for readers that were on their way.
    ///
    /// `remove` deletes by [`Move::write`] and may run more than once. If the
    /// key is on its new shard already, it runs for every shard that still has
    /// to do with the key: so the same call again finishes a removal that a
    /// crash has cut off. Shards that are offline are left out then.
    pub fn then_remove<F, Fut>(mut self, mut remove: F) -> Self
    where
        F: FnMut(Move) -> Fut + Send + 'a,
        Fut: Future<Output = Result<(), E>> + Send + 'a,
    {
        self.remove = Some(Box::new(move |step| remove(step).boxed()));
        self
    }

    async fn run(self) -> Result<MoveOutcome, E> {
        let Self { service, key, to, copy, remove } = self;
        let key = key?;
        let _in_flight = service.global().enter(OPERATION)?;
        match service.claim_move(&key, to).await? {
            Claimed::Move(claim) => {
                let counters = &service.shared.counters;
                let carried = service.carry(&claim, copy).await;
                let counter = if carried.is_ok() { &counters.moved } else { &counters.move_failed };
                counter.add(1);
                carried?;
                if let Some(remove) = remove {
                    service.remove(&claim, remove).await?;
                }
                Ok(MoveOutcome::Moved)
            }
            Claimed::AlreadyThere => {
                if let Some(remove) = remove {
                    service.remove_leftovers(&key, to, remove).await?;
                }
                Ok(MoveOutcome::AlreadyThere)
            }
        }
    }
}

impl<'a, E> IntoFuture for MoveKey<'a, E>
where
    E: From<Error> + Send + 'a,
{
    type Output = Result<MoveOutcome, E>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

impl<E> fmt::Debug for MoveKey<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MoveKey")
            .field("key", &self.key)
            .field("to", &self.to)
            .field("removes", &self.remove.is_some())
            .finish_non_exhaustive()
    }
}

impl DbService {
    /// Brings the rows over and switches.
    async fn carry<E: From<Error>>(&self, claim: &Claim, mut copy: Step<'_, E>) -> Result<(), E> {
        let Claim { key, source, target, epoch, .. } = claim;
        tracing::info!(?key, from = %claim.from, to = %claim.to, "move begins");
        // The lease runs from the claim, which others see from now on.
        let claimed_at = self.shared.deps.clock.now();
        mark(source, key, *epoch, KeyState::Moving).await?;
        mark(target, key, *epoch, KeyState::Arriving).await?;
        self.wait_for_lease(claimed_at).await;
        copy(claim.step(Phase::Copying)).await?;
        // Before the switch, so that nobody is refused where the map leads.
        mark(target, key, *epoch, KeyState::Settled).await?;
        self.switch(claim).await?;
        tracing::info!(?key, from = %claim.from, to = %claim.to, "key moved");
        mark(source, key, *epoch, KeyState::Moved).await?;
        Ok(())
    }

    /// Removes the rows from the shard that the key has left.
    async fn remove<E: From<Error>>(
        &self,
        claim: &Claim,
        mut remove: Step<'_, E>,
    ) -> Result<(), E> {
        self.wait_for_lease(self.shared.deps.clock.now()).await;
        remove(claim.step(Phase::Removing)).await?;
        mark(&claim.source, &claim.key, claim.epoch, KeyState::Removed).await?;
        Ok(())
    }

    /// Removes the rows from every shard that still has to do with a key that
    /// lives elsewhere.
    async fn remove_leftovers<E: From<Error>>(
        &self,
        key: &ShardKey,
        home: ShardId,
        mut remove: Step<'_, E>,
    ) -> Result<(), E> {
        let mut left = Vec::new();
        for shard in self.shards() {
            if shard.id == home || shard.status == ShardStatus::Offline {
                continue;
            }
            let database = self.shard(shard.id)?;
            let row = epoch::read(&database, key).await?;
            if row.is_some_and(|row| row.state != KeyState::Removed) {
                left.push((shard.id, database));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        // Only whoever has the latest epoch may remove: the key may come back.
        let (target, epoch) = self.claim_removal(key, home).await?;
        let claimed_at = self.shared.deps.clock.now();
        let claim = |(from, source)| {
            let (key, target) = (key.clone(), target.clone());
            Claim { key, from, to: home, source, target, epoch }
        };
        let claims: Vec<_> = left.into_iter().map(claim).collect();
        for claim in &claims {
            mark(&claim.source, key, epoch, KeyState::Moved).await?;
        }
        self.wait_for_lease(claimed_at).await;
        for claim in &claims {
            remove(claim.step(Phase::Removing)).await?;
            mark(&claim.source, key, epoch, KeyState::Removed).await?;
        }
        Ok(())
    }

    /// Waits until nobody acts on what the map said before `since`.
    async fn wait_for_lease(&self, since: trine_core::Moment) {
        let lease = self.shared.config.map.lease.get();
        self.shared.deps.clock.sleep_until(since + lease).await;
    }
}

impl Claim {
    fn step(&self, phase: Phase) -> Move {
        Move {
            key: self.key.clone(),
            from: self.from,
            to: self.to,
            source: self.source.clone(),
            target: self.target.clone(),
            epoch: self.epoch,
            phase,
        }
    }
}
