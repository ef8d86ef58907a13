use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures_util::StreamExt;
use sqlx::Either;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::{sleep_until, timeout};

use super::connect::{Role, connect};
use super::failure::Failure;
use super::link::{Item, Link, Rows};
use super::place::GRACE;
use super::shared::{Shared, Spare};
use super::translate::Phase;
use crate::backend::{Call, Reply, RowStream};
use crate::{Error, Result};

/// A reader in use. Dropping it gives it back: as it is, or told to stop, in
/// which case the next user waits until it has, and replaces it if it does not
/// in time.
#[derive(Debug)]
pub(super) struct Lease {
    /// Absent until connected, and once given back.
    link: Option<Link>,
    shared: Arc<Shared>,
    state: State,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its thread has nothing to do.
    Ready,
    /// A statement is under way.
    Busy,
    /// A statement was told to stop.
    Stopping,
    /// It must not be used again.
    Spent,
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a reader that is ready.
    pub(super) async fn reader(self: &Arc<Self>, call: &Call) -> Result<Lease> {
        let permit = self.permit(call).await?;
        let mut lease =
            Lease { link: None, shared: Arc::clone(self), state: State::Ready, _permit: permit };
        match call.deadline.limit(lease.prepare()).await {
            Some(Ok(())) => Ok(lease),
            Some(Err(failure)) => Err(failure.into_error(self.at(call), call)),
            None => Err(Failure::Late.into_error(self.at(call), call)),
        }
    }

    async fn permit(&self, call: &Call) -> Result<OwnedSemaphorePermit> {
        if self.closing.is_cancelled() {
            return Err(Error::Closed { at: self.at(call) });
        }
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(Error::Closed { at: self.at(call) }),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _waiting = Waiting::new(self);
        let acquire = self.config.acquire_timeout.get();
        let limited = timeout(acquire, Arc::clone(&self.permits).acquire_owned());
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(Error::Closed { at: self.at(call) }),
            permit = limited => match permit {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_)) => Err(Error::Closed { at: self.at(call) }),
                Err(_) => Err(self.exhausted(call)),
            },
            () = sleep_until(call.deadline.instant()) => {
                Err(Failure::Late.into_error(self.at(call), call))
            }
        }
    }

    fn exhausted(&self, call: &Call) -> Error {
        let max = self.max_readers();
        Error::Exhausted {
            at: self.at(call),
            what: "connection",
            waited: self.config.acquire_timeout.get(),
            in_use: max.saturating_sub(self.permits.available_permits()),
            max,
            waiting: self.counts.waiting.load(Ordering::Relaxed).saturating_sub(1),
            setting: "db.connections.*.readers",
        }
    }

    /// Waits until no reader is in use, or has to, and closes them.
    pub(super) async fn close_readers(&self) {
        let all = self.config.readers.get();
        let returned = tokio::select! {
            permits = self.permits.acquire_many(all) => permits.is_ok(),
            () = self.cut.cancelled() => false,
        };
        if !returned {
            // Whoever was cut off gives its reader back when it is polled; a
            // reader that is still open would keep the log from being removed.
            let _ = timeout(GRACE, self.permits.acquire_many(all)).await;
        }
        self.permits.close();
        let spares = std::mem::take(&mut *self.idle());
        for spare in spares {
            self.counts.readers.fetch_sub(1, Ordering::Relaxed);
            // A thread that does not end in time goes on by itself.
            let _ = timeout(GRACE, spare.link.close()).await;
        }
    }

    /// Runs a query on a reader.
    pub(super) async fn read(self: &Arc<Self>, call: &Call, item: &Item) -> Result<Reply> {
        let mut lease = self.reader(call).await?;
        let result = lease.run(call, item).await;
        result.map_err(|failure| failure.into_error(self.at(call), call))
    }

    /// Runs a query on a reader and yields its rows as they arrive.
    pub(super) fn rows(self: Arc<Self>, call: Call, item: Item) -> RowStream {
        async_stream::try_stream! {
            let mut lease = self.reader(&call).await?;
            let failed = |failure: Failure| failure.into_error(self.at(&call), &call);
            let cut = self.cut.clone();
            let mut stop = std::pin::pin!(async {
                tokio::select! {
                    biased;
                    () = cut.cancelled() => Failure::Ended(SHUT_DOWN),
                    () = sleep_until(call.deadline.instant()) => Failure::Late,
                }
            });
            let mut gathered = Rows::default();
            lease.state = State::Busy;
            let link = lease.link.as_mut().ok_or(Failure::Gone).map_err(failed)?;
            let mut steps = link.send(&item.plan.plain, item.arguments);
            let mut is_finished = false;
            loop {
                let step = tokio::select! {
                    biased;
                    failure = &mut stop => Err(failure),
                    step = steps.next() => Ok(step),
                };
                match step.map_err(failed)? {
                    Some(Ok(Either::Right(row))) => {
                        let row = gathered.decode(&row).map_err(failed)?;
                        yield row;
                    }
                    Some(Ok(Either::Left(_))) => is_finished = true,
                    Some(Err(error)) => {
                        drop(steps);
                        let failure = Failure::driver(error, Phase::Read);
                        lease.settle(Some(&failure));
                        Err(failed(failure))?;
                        break;
                    }
                    None if is_finished => {
                        drop(steps);
                        lease.settle(None);
                        break;
                    }
                    None => {
                        drop(steps);
                        lease.spend();
                        Err(failed(Failure::driver(sqlx::Error::WorkerCrashed, Phase::Read)))?;
                        break;
                    }
                }
            }
        }
        .boxed()
    }
}

/// What a read is told that a shutdown ended.
pub(super) const SHUT_DOWN: &str = "the service is shutting down";

impl Lease {
    /// Sees to it that there is a connection, and that its thread is idle.
    async fn prepare(&mut self) -> Result<(), Failure> {
        let spare = self.shared.idle().pop();
        if let Some(spare) = spare {
            self.state = if spare.is_stopping { State::Stopping } else { State::Ready };
            let link = self.link.insert(spare.link);
            if !spare.is_stopping {
                return Ok(());
            }
            if let Ok(Ok(())) = timeout(GRACE, link.idle()).await {
                link.watch().resume();
                self.state = State::Ready;
                return Ok(());
            }
            self.shared.counts.abandoned.fetch_add(1, Ordering::Relaxed);
            self.discard();
        }
        let path = self.shared.path.get().ok_or(Failure::Gone)?;
        let link = connect(path, Role::Reader).await;
        self.link = Some(link.map_err(|error| Failure::driver(error, Phase::Connect))?);
        self.state = State::Ready;
        self.shared.counts.connects.fetch_add(1, Ordering::Relaxed);
        self.shared.counts.readers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Runs one statement until its deadline. If it does not end by itself, the
    /// reader is told to stop when the lease is dropped.
    pub(super) async fn run(&mut self, call: &Call, item: &Item) -> Result<Reply, Failure> {
        let link = self.link.as_mut().ok_or(Failure::Gone)?;
        self.state = State::Busy;
        let cut = &self.shared.cut;
        let result = tokio::select! {
            biased;
            result = link.run_plain(item, call.max_rows) => result.map_err(Failure::of_read),
            () = cut.cancelled() => return Err(Failure::Ended(SHUT_DOWN)),
            () = sleep_until(call.deadline.instant()) => return Err(Failure::Late),
        };
        self.settle(result.as_ref().err());
        result
    }

    /// Runs a text of ours.
    pub(super) async fn control(&mut self, call: &Call, text: &'static str) -> Result<(), Failure> {
        let link = self.link.as_mut().ok_or(Failure::Gone)?;
        self.state = State::Busy;
        let result = call.deadline.limit(link.control(text)).await.ok_or(Failure::Late)?;
        let result = result.map_err(|error| Failure::driver(error, Phase::Read));
        self.settle(result.as_ref().err());
        result
    }

    /// Notes how a statement ended.
    fn settle(&mut self, failure: Option<&Failure>) {
        self.state = match failure {
            // The thread may still work on rows that nobody wants.
            Some(Failure::TooManyRows | Failure::Cell(_)) => State::Stopping,
            Some(failure) if failure.breaks_connection() => State::Spent,
            Some(_) | None => State::Ready,
        };
    }

    /// Has the connection closed when the lease is dropped.
    pub(super) fn spend(&mut self) {
        self.state = State::Spent;
    }

    /// Lets the connection go: its thread ends what it does, and itself.
    fn discard(&mut self) {
        if let Some(link) = self.link.take() {
            link.watch().stop();
            self.shared.counts.readers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.state == State::Busy {
            self.shared.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        if self.state == State::Spent || self.shared.permits.is_closed() {
            self.discard();
        }
        let Some(link) = self.link.take() else { return };
        if self.state == State::Ready {
            self.shared.idle().push(Spare { link, is_stopping: false });
            return;
        }
        // Told now, so that it holds no old state of the database any longer.
        link.watch().stop();
        self.shared.idle().insert(0, Spare { link, is_stopping: true });
    }
}

/// Counts a call that waits.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.counts.waiting.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counts.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
