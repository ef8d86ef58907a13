use std::num::NonZeroU32;
use std::time::Duration;

use trine_core::{CallContext, Moment};

use super::place::Place;
use super::question::{Ask, Asked};
use super::{LockService, to_key};
use crate::guard::held::Grip;
use crate::lines::Turn;
use crate::options::Terms;
use crate::{
    AcquireOutcome, Error, Guard, Guards, InvalidKey, Key, LockOptions, Mode, Permit, ReadGuard,
    Result, Shape, TryAcquireOutcome, Unavailable,
};

impl LockService {
    /// Takes `key` for the caller alone, waiting for it in line.
    ///
    /// Dropping the future leaves the line; what was granted meanwhile is given
    /// back at once.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a bad key or option, with `Timeout` if the store
    /// gave no answer within the wait, with `Closed` when the service is shut
    /// down, and with the errors of the store.
    ///
    /// # Example
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> trine_lock::Result<()> {
    /// # use trine_lock::{LockConfig, LockService};
    /// use trine_lock::{AcquireOutcome, LockOptions};
    ///
    /// # let locks = LockService::connect(&LockConfig::memory()).await?;
    /// match locks.acquire("order:42", LockOptions::default()).await? {
    ///     AcquireOutcome::Acquired(guard) => {
    ///         // … work, showing `guard.fence()` to what it writes to …
    ///         guard.release().await?;
    ///     }
    ///     AcquireOutcome::TimedOut(holder) => println!("held by {holder}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire<K>(&self, key: K, options: LockOptions) -> Result<AcquireOutcome>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        let held = self.wait("acquire", to_key(key)?, Shape::Write, options).await?;
        Ok(held.map(Guard::new))
    }

    /// Takes `key` for the caller alone if it is free and nobody waits for it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire<K>(&self, key: K, options: LockOptions) -> Result<TryAcquireOutcome>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        self.attempt("try_acquire", to_key(key)?, Shape::Write, options, Guard::new).await
    }

    /// Takes `key` beside others who read, waiting for it in line. Who waits to
    /// write goes before reads that come later.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_read<K>(
        &self,
        key: K,
        options: LockOptions,
    ) -> Result<AcquireOutcome<ReadGuard>>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        let held = self.wait("acquire_read", to_key(key)?, Shape::Read, options).await?;
        Ok(held.map(ReadGuard::new))
    }

    /// Takes `key` beside others who read, if nobody writes or waits to.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire_read<K>(
        &self,
        key: K,
        options: LockOptions,
    ) -> Result<TryAcquireOutcome<ReadGuard>>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        self.attempt("try_acquire_read", to_key(key)?, Shape::Read, options, ReadGuard::new).await
    }

    /// Takes one of `of` permits of `key`, waiting for it in line. All callers
    /// of one key should bring the same number.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_permit<K>(
        &self,
        key: K,
        of: NonZeroU32,
        options: LockOptions,
    ) -> Result<AcquireOutcome<Permit>>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        let held = self.wait("acquire_permit", to_key(key)?, Shape::Permit { of }, options).await?;
        Ok(held.map(Permit::new))
    }

    /// Takes one of `of` permits of `key` if there is one and nobody waits.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire_permit<K>(
        &self,
        key: K,
        of: NonZeroU32,
        options: LockOptions,
    ) -> Result<TryAcquireOutcome<Permit>>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        let shape = Shape::Permit { of };
        self.attempt("try_acquire_permit", to_key(key)?, shape, options, Permit::new).await
    }

    /// Takes all of `keys` or none, in their order, so that two callers never
    /// wait for each other; the wait is one for all.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); `Invalid` also without any key, and with
    /// one that is there twice.
    pub async fn acquire_all<K>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: LockOptions,
    ) -> Result<AcquireOutcome<Guards>>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        const OPERATION: &str = "acquire_all";
        let mut keys = keys.into_iter().map(to_key).collect::<Result<Vec<_>>>()?;
        keys.sort_unstable();
        if keys.is_empty() {
            return Err(Error::invalid(self.shared.at(OPERATION), "no key was given"));
        }
        if let Some([key, _]) = keys.array_windows().find(|[key, next]| key == next) {
            let detail = format!("key `{key}` was given twice");
            return Err(Error::invalid(self.shared.at(OPERATION), detail));
        }
        let wait = options.wait.unwrap_or(self.shared.config.wait.get());
        let until = self.shared.clock.now() + wait;
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            let left = until.saturating_since(self.shared.clock.now());
            let options = options.clone().with_wait(left);
            match self.wait(OPERATION, key, Shape::Write, options).await? {
                AcquireOutcome::Acquired(held) => taken.push(Guard::new(held)),
                AcquireOutcome::TimedOut(holder) => {
                    // What fails is given back in the background.
                    let _ = Guards::new(taken).release().await;
                    return Ok(AcquireOutcome::TimedOut(holder));
                }
            }
        }
        Ok(AcquireOutcome::Acquired(Guards::new(taken)))
    }

    /// Ends every present grant of `key` and takes it, with a higher token.
    ///
    /// Holders of this process are told at once where the store
    /// [pushes losses](crate::Capabilities::push_loss), others at their next
    /// renewal: until then only the fence stops them.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn steal<K>(&self, key: K, options: LockOptions) -> Result<Guard>
    where
        K: TryInto<Key, Error: Into<InvalidKey>>,
    {
        const OPERATION: &str = "steal";
        let key = to_key(key)?;
        let _in_flight = self.enter(OPERATION)?;
        let terms = self.terms(OPERATION, options)?;
        let ask = self.ask(OPERATION, key, Shape::Write, &terms)?;
        match self.request(ask, Mode::Steal, None).await.1? {
            Asked::Granted(held) => Ok(Guard::new(held)),
            Asked::Held(_) => {
                let cause = "the store refused to end the grants of a key".into();
                Err(Error::Internal { at: self.shared.at(OPERATION), cause })
            }
            Asked::Barred(retry_in) => Err(self.barred(OPERATION, retry_in)),
        }
    }

    /// Asks once.
    async fn attempt<G>(
        &self,
        operation: &'static str,
        key: Key,
        shape: Shape,
        options: LockOptions,
        guard: fn(Grip) -> G,
    ) -> Result<TryAcquireOutcome<G>> {
        let options = options.with_wait(Duration::ZERO);
        Ok(match self.wait(operation, key, shape, options).await? {
            AcquireOutcome::Acquired(held) => TryAcquireOutcome::Acquired(guard(held)),
            AcquireOutcome::TimedOut(holder) => TryAcquireOutcome::Held(holder),
        })
    }

    pub(crate) async fn wait(
        &self,
        operation: &'static str,
        key: Key,
        shape: Shape,
        options: LockOptions,
    ) -> Result<AcquireOutcome<Grip>> {
        let _in_flight = self.enter(operation)?;
        let (shared, began) = (&self.shared, self.shared.clock.now());
        let terms = self.terms(operation, options)?;
        let ask = self.ask(operation, key, shape, &terms)?;
        let outcome = if let Some(held) = shared.again(&ask)? {
            Ok(AcquireOutcome::Acquired(held))
        } else if terms.wait.is_zero() {
            self.try_once(ask).await
        } else {
            self.wait_until(ask, began + terms.wait, terms.wait).await
        };
        let waited = shared.clock.now().saturating_since(began);
        match &outcome {
            Ok(AcquireOutcome::Acquired(_)) => shared.waits.acquired.record(waited),
            Ok(AcquireOutcome::TimedOut(_)) => shared.waits.timed_out.record(waited),
            Err(_) => {}
        }
        outcome
    }

    async fn try_once(&self, ask: Ask) -> Result<AcquireOutcome<Grip>> {
        let operation = ask.operation;
        match self.request(ask, Mode::Try, None).await.1? {
            Asked::Granted(held) => Ok(AcquireOutcome::Acquired(held)),
            Asked::Held(holder) => Ok(AcquireOutcome::TimedOut(holder)),
            Asked::Barred(retry_in) => Err(self.barred(operation, retry_in)),
        }
    }

    async fn wait_until(
        &self,
        ask: Ask,
        until: Moment,
        wait: Duration,
    ) -> Result<AcquireOutcome<Grip>> {
        let shared = &self.shared;
        let (operation, deadline) = (ask.operation, CallContext::current().deadline());
        let id = (ask.want.key.clone(), ask.want.waiter.lane);
        let place = Place::enter(shared, &ask, &id);
        let mut in_line = Box::pin(self.wait_in_line(place, ask));
        let deadline_passed = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.instant()).await,
                None => std::future::pending().await,
            }
        };
        let limit = tokio::select! {
            biased;
            held = &mut in_line => return Ok(AcquireOutcome::Acquired(held?)),
            () = shared.closing.cancelled() => {
                return Err(Error::Closed { at: shared.at(operation) });
            }
            () = shared.clock.sleep_until(until) => "wait",
            () = deadline_passed => "the deadline of the call",
        };
        // Before the place is left, and the line with it.
        match shared.lines.holder(&id, shared.clock.now()) {
            Some(holder) => Ok(AcquireOutcome::TimedOut(holder)),
            None => Err(Error::Timeout { at: shared.at(operation), after: wait, limit }),
        }
    }

    async fn wait_in_line(&self, mut place: Place, ask: Ask) -> Result<Grip> {
        let shared = &self.shared;
        loop {
            if let Some(held) = shared.again(&ask)? {
                return Ok(held);
            }
            let next = match place.turn() {
                Turn::Ask { next } => next,
                Turn::Wait(until) => {
                    place.wait(until).await;
                    continue;
                }
            };
            let (back, asked) = self.request(ask.clone(), Mode::Wait { next }, Some(place)).await;
            match asked? {
                Asked::Granted(held) => return Ok(held),
                Asked::Held(_) => {}
                Asked::Barred(retry_in) => {
                    shared.clock.sleep_until(shared.clock.now() + retry_in).await;
                }
            }
            let Some(back) = back else {
                let cause = "a request lost its place in line".into();
                return Err(Error::Internal { at: shared.at(ask.operation), cause });
            };
            place = back;
        }
    }

    pub(crate) fn terms(&self, operation: &'static str, options: LockOptions) -> Result<Terms> {
        let terms = options.resolve(&self.shared.config);
        terms.map_err(|problem| Error::invalid(self.shared.at(operation), problem))
    }

    fn barred(&self, operation: &'static str, retry_in: Duration) -> Error {
        Error::unavailable(self.shared.at(operation), Unavailable::Barred, Some(retry_in))
    }
}
