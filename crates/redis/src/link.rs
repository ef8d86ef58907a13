mod actor;
mod live;
mod trouble;

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use redis::Pipeline;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use trine_core::{Backoff, Deadline, TaskHandle, Tasks};

use crate::command::Form;
use crate::config::Address;
use crate::dial::{Dialed, Dialer, Refusal};
use crate::service::Counters;
use crate::{Command, Value};

pub(crate) use live::Live;
use live::{Doubt, Ready};
pub(crate) use trouble::Trouble;

/// What one command came to.
pub(crate) type Outcome = Result<Value, Trouble>;

/// One connection that all commands of a node share, made again by itself
/// whenever it breaks.
///
/// A task of the pool's owns it from the first call on. Callers never make a
/// connection themselves: one that is dropped costs nothing.
pub(crate) struct Link {
    shared: Arc<Shared>,
    actor: Mutex<Option<TaskHandle<()>>>,
}

struct Shared {
    address: Address,
    dialer: Arc<Dialer>,
    backoff: Backoff,
    live: ArcSwapOption<Live>,
    state: watch::Sender<State>,
    /// Told when a reply is late, or nobody waits for it any more.
    suspected: Arc<Notify>,
    /// Told whenever the connection breaks or cannot be made.
    trouble: Arc<Notify>,
    stop: CancellationToken,
    counters: Counters,
}

#[derive(Clone)]
enum State {
    /// Nobody has called.
    Idle,
    Connecting,
    Connected,
    /// The next attempt is due after a while.
    Waiting(Arc<Refusal>),
    Closed,
}

impl Link {
    pub(crate) fn new(
        address: &Address,
        dialer: &Arc<Dialer>,
        backoff: &Backoff,
        trouble: &Arc<Notify>,
        stop: CancellationToken,
        counters: &Counters,
    ) -> Self {
        let shared = Shared {
            address: address.clone(),
            dialer: Arc::clone(dialer),
            backoff: backoff.clone(),
            live: ArcSwapOption::empty(),
            state: watch::Sender::new(State::Idle),
            suspected: Arc::new(Notify::new()),
            trouble: Arc::clone(trouble),
            stop,
            counters: counters.clone(),
        };
        Self { shared: Arc::new(shared), actor: Mutex::new(None) }
    }

    /// Returns the connection, if it works at this moment.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.shared.live.load_full()
    }

    /// Returns why there is no connection while the next attempt is only due.
    pub(crate) fn refusal(&self) -> Option<Arc<Refusal>> {
        match &*self.shared.state.borrow() {
            State::Waiting(refusal) => Some(Arc::clone(refusal)),
            _ => None,
        }
    }

    /// Has the link kept up from now on, beginning with a connection that was
    /// made already, if there is one.
    pub(crate) fn start(&self, tasks: &Tasks, first: Option<Dialed>) {
        let mut actor = self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        let is_kept_up = actor.as_ref().is_some_and(|task| !task.is_finished());
        if is_kept_up || self.shared.stop.is_cancelled() {
            return;
        }
        self.shared.state.send_replace(State::Connecting);
        let work = actor::run(Arc::clone(&self.shared), first);
        *actor = Some(tasks.spawn("redis connection", work));
    }

    /// Waits for a connection that is being made; while the next attempt is
    /// only due, it fails at once.
    ///
    /// Cancel-safe.
    pub(crate) async fn connected(
        &self,
        tasks: &Tasks,
        until: Option<Deadline>,
    ) -> Result<Arc<Live>, Trouble> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if tasks.token().is_cancelled() {
            return Err(Trouble::Closed);
        }
        if self.shared.stop.is_cancelled() {
            return Err(Trouble::Retired);
        }
        self.start(tasks, None);
        let bound = Deadline::after(self.shared.dialer.connect_timeout()).or_earlier(until);
        let after = bound.remaining();
        let mut states = self.shared.state.subscribe();
        let waiting = async {
            loop {
                match &*states.borrow_and_update() {
                    State::Waiting(refusal) => return Err(Trouble::Away(Arc::clone(refusal))),
                    State::Closed => return Err(Trouble::Retired),
                    State::Connected | State::Idle | State::Connecting => {}
                }
                if let Some(live) = self.live() {
                    return Ok(live);
                }
                if states.changed().await.is_err() {
                    return Err(Trouble::Retired);
                }
            }
        };
        let waited = bound.limit(waiting).await;
        let is_callers = until == Some(bound);
        waited.unwrap_or(Err(Trouble::NoConnection { after, is_callers }))
    }

    /// Sends one command and returns its reply.
    ///
    /// Dropped unfinished, the command may or may not have been sent; the reply
    /// is thrown away by the driver and reaches nobody else.
    pub(crate) async fn run(
        &self,
        tasks: &Tasks,
        command: &Command,
        asking: bool,
        until: Option<Deadline>,
    ) -> Outcome {
        // What is rare is boxed: every caller's future would have to hold it.
        if asking {
            let mut outcomes = Box::pin(self.run_all(tasks, &[command], true, until)).await;
            return outcomes.pop().unwrap_or(Err(Trouble::Closed));
        }
        let ready = match self.ready(command, Form::Digest) {
            Some(ready) => ready,
            None => Box::pin(self.connected(tasks, until)).await?.ready(command, Form::Digest),
        };
        let outcome = self.send(ready, until).await;
        match outcome {
            Err(Trouble::Server(error)) if error.is_unknown_script() => {
                self.shared.counters.script_loads.add(1);
                let whole = async {
                    let live = self.connected(tasks, until).await?;
                    self.send(live.ready(command, Form::Text), until).await
                };
                Box::pin(whole).await
            }
            outcome => outcome,
        }
    }

    /// Sends the command that is made for the server with the `run_id` that it
    /// is told, and returns that with the reply.
    pub(crate) async fn run_for(
        &self,
        tasks: &Tasks,
        until: Option<Deadline>,
        command: impl FnOnce(&str) -> Command,
    ) -> Result<(Value, Arc<str>), Trouble> {
        let live = self.connected(tasks, until).await?;
        let command = command(&live.facts.run_id);
        let value = self.send(live.ready(&command, Form::Digest), until).await?;
        Ok((value, Arc::clone(&live.facts.run_id)))
    }

    /// Returns what a command needs to be sent, if the connection works at this
    /// moment.
    fn ready<'a>(&self, command: &'a Command, form: Form) -> Option<Ready<'a>> {
        // A look, not a copy: every call makes it.
        self.shared.live.load().as_ref().map(|live| live.ready(command, form))
    }

    async fn send(&self, (mut connection, packed): Ready<'_>, until: Option<Deadline>) -> Outcome {
        let sending = pin!(connection.send_packed_command(&packed));
        let reply = self.bounded(until, sending).await?;
        Trouble::checked(Value::new(reply))
    }

    /// Sends the commands as one pipeline and returns the outcome of each.
    ///
    /// What the server refuses stays with its command.
    pub(crate) async fn run_all(
        &self,
        tasks: &Tasks,
        commands: &[&Command],
        asking: bool,
        until: Option<Deadline>,
    ) -> Vec<Outcome> {
        let live = match self.connected(tasks, until).await {
            Ok(live) => live,
            Err(trouble) => return commands.iter().map(|_| Err(trouble.clone())).collect(),
        };
        let mut outcomes = self.send_all(&live, commands, Form::Digest, asking, until).await;
        let is_unknown = |outcome: &Outcome| matches!(outcome, Err(Trouble::Server(error)) if error.is_unknown_script());
        let unknown: Vec<usize> = (0..outcomes.len())
            .filter(|place| outcomes.get(*place).is_some_and(is_unknown))
            .collect();
        if unknown.is_empty() {
            return outcomes;
        }
        self.shared.counters.script_loads.add(1);
        let again: Vec<&Command> =
            unknown.iter().filter_map(|place| commands.get(*place).copied()).collect();
        let texts = self.send_all(&live, &again, Form::Text, asking, until).await;
        for (place, outcome) in unknown.into_iter().zip(texts) {
            if let Some(slot) = outcomes.get_mut(place) {
                *slot = outcome;
            }
        }
        outcomes
    }

    async fn send_all(
        &self,
        live: &Live,
        commands: &[&Command],
        form: Form,
        asking: bool,
        until: Option<Deadline>,
    ) -> Vec<Outcome> {
        let forms = live.forms(commands, form);
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for (command, form) in commands.iter().zip(forms) {
            if asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(command.packed(&live.facts.run_id, form).into_owned());
        }
        let mut connection = live.connection.clone();
        let sending = pin!(connection.send_packed_commands(&pipeline, 0, pipeline.len()));
        match self.bounded(until, sending).await {
            Ok(replies) => {
                let step = if asking { 2 } else { 1 };
                let replies = replies.into_iter().skip(step - 1).step_by(step);
                let outcomes: Vec<_> =
                    replies.map(|reply| Trouble::checked(Value::new(reply))).collect();
                live.note_scripts(commands, &outcomes);
                outcomes
            }
            Err(trouble) => commands.iter().map(|_| Err(trouble.clone())).collect(),
        }
    }

    /// Bounds a request by the caller's deadline where that is nearer than the
    /// driver's own time-out: one timer is enough. The request stays where it
    /// is, because moving it in would double the caller's future.
    async fn bounded<T>(
        &self,
        until: Option<Deadline>,
        sending: Pin<&mut impl Future<Output = redis::RedisResult<T>>>,
    ) -> Result<T, Trouble> {
        let bound = self.shared.dialer.response_timeout();
        let left = until.map(Deadline::remaining).filter(|left| *left < bound);
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Trouble::TooLate);
        }
        let doubt = Doubt::of(&self.shared.suspected);
        let sent = match (left, until) {
            (Some(left), Some(until)) => {
                let sent = until.limit(sending).await;
                sent.ok_or(Trouble::Late { after: left, limit: "deadline of the call" })?
            }
            _ => sending.await,
        };
        if sent.as_ref().is_err_and(redis::RedisError::is_timeout) {
            return Err(Trouble::Late { after: bound, limit: "response_timeout" });
        }
        doubt.clear();
        sent.map_err(Trouble::Lost)
    }

    /// Sends the credentials again on the connection, if there is one.
    pub(crate) async fn log_in_again(&self, auth: &redis::Cmd) {
        let Some(live) = self.live() else { return };
        let mut connection = live.connection.clone();
        let reply = connection.send_packed_command(auth).await;
        if !matches!(reply, Ok(redis::Value::Okay)) {
            self.shared.suspected.notify_one();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.shared.state.borrow() {
            State::Idle => "idle",
            State::Connecting => "connecting",
            State::Connected => "connected",
            State::Waiting(_) => "waiting",
            State::Closed => "closed",
        };
        f.debug_tuple("Link").field(&state).finish()
    }
}
