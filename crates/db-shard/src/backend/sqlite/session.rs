use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use trine_core::Deadline;

use super::failure::Failure;
use super::group::control;
use super::link::{Item, Link, ROLLED_BACK};
use super::place::{GRACE, Place};
use super::reader::SHUT_DOWN;
use super::text::{COMMIT, ROLLBACK};
use super::translate::Phase;
use super::writer::Writer;
use crate::backend::Reply;

/// Why a transaction was ended from outside.
const HELD_TOO_LONG: &str = "the transaction kept the writer longer than hold_limit: rolled back";
pub(super) const DROPPED: &str = "a call on the transaction was dropped";
const STUCK: &str = "a statement of the transaction could not be stopped";
const GONE: &str = "the writer ended";

/// The caller's end of a transaction that has the writer alone.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) commands: mpsc::Sender<Command>,
    /// Set before the other end goes away early.
    ended: Arc<OnceLock<&'static str>>,
}

impl Session {
    /// Returns why the other end went away.
    pub(super) fn end(&self) -> Failure {
        Failure::Ended(self.ended.get().copied().unwrap_or(GONE))
    }
}

/// What the holder of a transaction asks of the writer.
pub(super) struct Command {
    pub(super) step: Step,
    pub(super) deadline: Deadline,
    pub(super) answer: oneshot::Sender<Result<Reply, Failure>>,
}

pub(super) enum Step {
    Run { item: Item, max_rows: u64 },
    Commit,
    RollBack,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Writer {
    /// Lends the writer to one caller until the transaction ends, is dropped,
    /// or has had it for the hold limit.
    pub(super) async fn lend(&mut self, place: Place<Session>) {
        if !place.turn.take() {
            return;
        }
        if let Err(failure) = self.begin().await {
            let _ = place.answer(Err(failure));
            return;
        }
        let (commands, inbox) = mpsc::channel(1);
        let ended = Arc::new(OnceLock::new());
        let session = Session { commands, ended: Arc::clone(&ended) };
        if place.answer(Ok(session)).is_err() {
            self.undo().await;
            return;
        }
        self.serve(inbox, &ended).await;
    }

    async fn serve(&mut self, inbox: mpsc::Receiver<Command>, ended: &OnceLock<&'static str>) {
        let hold = sleep(self.shared.config.hold_limit.get());
        let cut = self.shared.cut.clone();
        let Ok(link) = self.link().await else { return };
        let mut holding = Holding { link, inbox, cut, hold: Box::pin(hold) };
        let end = holding.serve().await;
        if let End::Early(reason) = end {
            // Told before the inbox goes, by which the holder notices.
            let _ = ended.set(reason);
        }
        drop(holding);
        match end {
            End::Committed => self.committed(),
            End::Early(STUCK) => self.drop_link(),
            End::Early(_) | End::RolledBack => self.undo().await,
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Committed,
    /// By its holder, who knows; it may still be open.
    RolledBack,
    /// For another reason, which the holder has to be told.
    Early(&'static str),
}

/// A transaction while the writer is lent to it.
struct Holding<'a> {
    link: &'a mut Link,
    inbox: mpsc::Receiver<Command>,
    cut: CancellationToken,
    hold: Pin<Box<Sleep>>,
}

impl Holding<'_> {
    async fn serve(&mut self) -> End {
        loop {
            let command = tokio::select! {
                biased;
                () = &mut self.hold => return End::Early(HELD_TOO_LONG),
                () = self.cut.cancelled() => return End::Early(SHUT_DOWN),
                command = self.inbox.recv() => command,
            };
            let Some(command) = command else { return End::RolledBack };
            if let Some(end) = self.obey(command).await {
                return end;
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Option<End> {
        let Command { step, deadline, answer } = command;
        match step {
            Step::Run { item, max_rows } => self.run(&item, max_rows, deadline, answer).await,
            Step::RollBack => {
                let result = control(self.link, ROLLBACK, Phase::Write).await;
                let end = if result.is_ok() { End::RolledBack } else { End::Early(ROLLED_BACK) };
                let _ = answer.send(result.map(|()| Reply::default()));
                Some(end)
            }
            Step::Commit => {
                // A caller that left before the commit was begun gets none.
                if answer.is_closed() {
                    return Some(End::Early(DROPPED));
                }
                let result = control(self.link, COMMIT, Phase::Commit).await;
                let end = match &result {
                    Ok(()) => End::Committed,
                    Err(failure) if failure.breaks_connection() => End::Early(STUCK),
                    Err(_) => End::Early(ROLLED_BACK),
                };
                let _ = answer.send(result.map(|()| Reply::default()));
                Some(end)
            }
        }
    }

    /// Runs a statement until its deadline, its caller or the transaction ends
    /// it. Returns the end of the transaction, if it came to that.
    async fn run(
        &mut self,
        item: &Item,
        max_rows: u64,
        deadline: Deadline,
        mut answer: oneshot::Sender<Result<Reply, Failure>>,
    ) -> Option<End> {
        let watch = Arc::clone(self.link.watch());
        let (stop, outcome) = {
            let mut run = std::pin::pin!(statement(self.link, item, max_rows));
            let stop = tokio::select! {
                biased;
                outcome = &mut run => Err(outcome),
                () = answer.closed() => Ok(Some(DROPPED)),
                () = &mut self.hold => Ok(Some(HELD_TOO_LONG)),
                () = self.cut.cancelled() => Ok(Some(SHUT_DOWN)),
                () = sleep_until(deadline.instant()) => Ok(None),
            };
            match stop {
                Err(outcome) => (None, Some(outcome)),
                Ok(reason) => {
                    watch.stop();
                    (reason, timeout(GRACE, run).await.ok())
                }
            }
        };
        watch.resume();
        let Some(outcome) = outcome else {
            let _ = answer.send(Err(Failure::Ended(stop.unwrap_or(STUCK))));
            return Some(End::Early(STUCK));
        };
        let end = match (&outcome, stop) {
            (_, Some(reason)) => Some(End::Early(reason)),
            (Err(failure), None) if failure.breaks_connection() => Some(End::Early(STUCK)),
            (_, None) if watch.was_rolled_back() => Some(End::Early(ROLLED_BACK)),
            (_, None) => None,
        };
        let reported = match stop {
            Some(reason) => Err(Failure::Ended(reason)),
            None => outcome,
        };
        let _ = answer.send(reported);
        end
    }
}

/// Runs one statement of a transaction: a failed one changes nothing.
async fn statement(link: &mut Link, item: &Item, max_rows: u64) -> Result<Reply, Failure> {
    if item.plan.returns_rows && item.plan.changes_rows {
        // More rows than wanted fail it after it has changed them.
        let replies = link.run_in_savepoint(std::slice::from_ref(item), max_rows).await??;
        return Ok(replies.into_iter().next().unwrap_or_default());
    }
    link.run_plain(item, max_rows).await
}
