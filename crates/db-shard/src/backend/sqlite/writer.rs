use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::connect::{Role, connect};
use super::failure::Failure;
use super::group::Job;
use super::link::{Item, Link};
use super::lock::{ProcessLock, Refused, resolve};
use super::place::Place;
use super::session::Session;
use super::shared::Shared;
use super::sync::WalSync;
use super::text::{Plan, ROLLBACK};
use super::translate::Phase;
use crate::StatementText;
use crate::backend::{Reply, ServerFacts};

/// What callers ask of the writer.
#[derive(Debug)]
pub(super) enum Request {
    /// To connect if it is not, and to answer.
    Prove(Place<ServerFacts>),
    /// To run statements and commit them.
    Job(Job),
    /// To have the writer alone.
    Begin(Place<Session>),
}

/// The one task that writes: it owns the connection and the lock of the
/// process, and serves requests in the order they came.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: mpsc::Receiver<Request>,
    /// A request that ended the gathering of a group.
    pub(super) kept: Option<Request>,
    /// Closed before the lock is given up: fields are dropped in order.
    link: Option<Link>,
    lock: Option<(PathBuf, ProcessLock)>,
    sync: WalSync,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, inbox: mpsc::Receiver<Request>, sync: WalSync) -> Self {
        Self { shared, inbox, kept: None, link: None, lock: None, sync }
    }

    /// Serves until the backend is closed or dropped.
    pub(super) async fn work(mut self) {
        while let Some(request) = self.next().await {
            let counts = &self.shared.counts;
            counts.is_writing.store(true, Ordering::Relaxed);
            match request {
                Request::Prove(place) => self.prove(place).await,
                Request::Job(job) => self.commit(job).await,
                Request::Begin(place) => self.lend(place).await,
            }
            self.shared.counts.is_writing.store(false, Ordering::Relaxed);
        }
        self.end().await;
    }

    async fn next(&mut self) -> Option<Request> {
        loop {
            let request = match self.kept.take() {
                Some(request) => request,
                None => self.receive().await?,
            };
            if !self.shared.cut.is_cancelled() {
                return Some(request);
            }
            request.refuse();
        }
    }

    /// Receives the next request; once closing, what still waits.
    async fn receive(&mut self) -> Option<Request> {
        if !self.shared.closing.is_cancelled() {
            tokio::select! {
                biased;
                request = self.inbox.recv() => return request,
                () = self.shared.closing.cancelled() => {}
            }
        }
        self.inbox.close();
        self.inbox.recv().await
    }

    async fn prove(&mut self, place: Place<ServerFacts>) {
        if !place.turn.take() {
            return;
        }
        let mut answer = self.facts().await;
        if matches!(&answer, Err(failure) if failure.breaks_connection()) {
            answer = self.facts().await;
        }
        // Whoever asked and left misses nothing.
        let _ = place.answer(answer);
    }

    async fn facts(&mut self) -> Result<ServerFacts, Failure> {
        let text = StatementText::constant(
            "SELECT sqlite_version(), (SELECT count(*) FROM sqlite_schema)",
        );
        let item = Item { plan: Arc::new(Plan::of(&text)), arguments: Default::default() };
        let reply = self.link().await?.run_plain(&item, 1).await;
        let reply = reply.map_err(Failure::of_read).inspect_err(|failure| self.check(failure))?;
        let path = self.shared.path.get().ok_or(Failure::Gone)?;
        Ok(ServerFacts {
            version: format!("SQLite {}", first_text(&reply)).into(),
            identity: path.to_string_lossy().into(),
            is_read_only: false,
            durability: self.sync.durability(),
        })
    }

    /// Returns the connection, made anew if there is none.
    pub(super) async fn link(&mut self) -> Result<&mut Link, Failure> {
        if self.link.is_none() {
            self.link = Some(self.connect().await?);
        }
        self.link.as_mut().ok_or(Failure::Gone)
    }

    async fn connect(&mut self) -> Result<Link, Failure> {
        let path = match &self.lock {
            Some((path, _)) => path.clone(),
            None => {
                let path = self.shared.config.path.clone();
                let taken = tokio::task::spawn_blocking(move || {
                    let path = resolve(&path)?;
                    ProcessLock::take(&path).map(|lock| (path, lock))
                });
                let taken = taken.await.map_err(|_| Failure::Gone)?.map_err(refused)?;
                self.lock.insert(taken).0.clone()
            }
        };
        let durability = self.shared.config.durability;
        let link = connect(&path, Role::Writer(durability)).await;
        let link = link.map_err(|error| Failure::driver(error, Phase::Connect))?;
        self.sync.opened(&path);
        let counts = &self.shared.counts;
        counts.connects.fetch_add(1, Ordering::Relaxed);
        counts.has_writer.store(true, Ordering::Relaxed);
        // Readers may connect from now on.
        let _ = self.shared.path.set(path);
        Ok(link)
    }

    /// Gives the connection up if the failure says that it is of no use.
    pub(super) fn check(&mut self, failure: &Failure) {
        if failure.breaks_connection() {
            self.drop_link();
        }
    }

    pub(super) fn drop_link(&mut self) {
        self.link = None;
        self.shared.counts.has_writer.store(false, Ordering::Relaxed);
    }

    /// Leaves no transaction open, whatever went on.
    pub(super) async fn undo(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.watch().watch_nobody();
        link.watch().resume();
        let is_undone = link.watch().was_rolled_back() || link.control(ROLLBACK).await.is_ok();
        if !is_undone {
            // Closing the connection is what is left to roll back with.
            self.drop_link();
        }
    }

    /// Notes that something was committed.
    pub(super) fn committed(&self) {
        self.sync.written();
    }

    async fn end(mut self) {
        self.shared.close_readers().await;
        if let Some(mut link) = self.link.take() {
            let truncated = link.control("PRAGMA wal_checkpoint(TRUNCATE)").await;
            let closed = link.close().await;
            if let Err(error) = truncated.and(closed) {
                tracing::warn!(database = %self.shared.name, %error, "closed without a checkpoint");
            }
        }
        self.shared.counts.has_writer.store(false, Ordering::Relaxed);
    }
}

impl Request {
    /// Answers that the handle is closed; who has left needs no answer.
    fn refuse(self) {
        match self {
            Self::Prove(place) => drop(place.answer(Err(Failure::Closed))),
            Self::Job(job) => drop(job.place.answer(Err(Failure::Closed))),
            Self::Begin(place) => drop(place.answer(Err(Failure::Closed))),
        }
    }
}

fn refused(refused: Refused) -> Failure {
    match refused {
        Refused::Held(holder) => Failure::Held(holder),
        Refused::Io(error) => Failure::Io(Arc::new(error)),
    }
}

fn first_text(reply: &Reply) -> &str {
    match reply.rows.first().and_then(|row| row.values().first()) {
        Some(crate::Value::Text(text)) => text,
        _ => "3",
    }
}
