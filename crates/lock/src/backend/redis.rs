mod decode;
mod ear;
mod place;
mod question;
mod script;
mod sweep;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use trine_core::{Backoff, CallContext, Claim, Deadline, Renewal, Tasks};
use trine_redis::{Command, Namespace, RedisPool, Script, Value};

use self::decode::translate;
use self::ear::{Ear, Hearing};
use self::place::{Placed, TAGS, field, locked, pattern, tag};
use self::question::micros;
use super::{
    Answer, Call, Capabilities, Events, LockBackend, StoreFacts, StoreStats, Waiter, Want,
};
use crate::{
    AfterLoss, At, ConfigError, Error, Key, LockConfig, Page, RedisStoreConfig, ReleaseOutcome,
    Result,
};

/// Most claims of one script. One has at most 300 bytes of arguments, so that
/// none has more than 1 MiB.
const MOST_CLAIMS: usize = 500;

/// How many tags are asked at once for who holds what, and for how many fields.
const TAGS_PER_ROUND: usize = 16;
const FIELDS_PER_SCAN: u32 = 250;

/// How often a waiter asks by itself that hears nothing.
const DEAF_RETRY: Duration = Duration::from_millis(500);

/// Locks on Redis: one server, a master that sentinels watch, or a cluster.
///
/// They are in 256 hashes, which scripts read and write by the server's clock.
/// A key that is neither held nor waited for leaves nothing there; one whose
/// holder died goes when it is used, and at the latest when a round of looks is
/// over: one each [`sweep_interval`](crate::RedisStoreConfig::sweep_interval),
/// for each of the hashes and each 250 keys more in it.
#[derive(Debug)]
pub struct RedisBackend {
    store: Arc<Store>,
    allow_eviction: bool,
    sweep_interval: Duration,
    /// The servers that are known to have the record of each tag.
    primed: Mutex<Box<str>>,
    sweeps: OnceLock<()>,
    tasks: Tasks,
    is_closed: AtomicBool,
}

/// What the tasks in the background use too.
#[derive(Debug)]
struct Store {
    name: Arc<str>,
    pool: RedisPool,
    namespace: Namespace,
    /// What scripts are told of the configuration: how long a server grants
    /// nothing that may not know what was granted, the time of a claim, and
    /// whether the number of those who heard a message is that of all.
    settings: Box<str>,
    hearing: Hearing,
}

impl RedisBackend {
    /// Returns the store of the locks called `name` on `pool`; of `config` it
    /// takes `max_ttl` and `claim_timeout`. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration, and if
    /// the name cannot be a part of a key.
    pub fn open(
        name: &Arc<str>,
        pool: &RedisPool,
        store: &RedisStoreConfig,
        config: &LockConfig,
    ) -> Result<Self> {
        config.validate()?;
        let mut problems = Vec::new();
        store.check(&mut problems);
        ConfigError::unless_empty(problems)?;
        let namespace = pool.namespace(name).map_err(|refused| {
            Error::invalid(At::new("open", name), format!("name `{name}`: {refused}"))
        })?;
        let margin = store.clock_margin.get();
        let bar = match store.mode {
            AfterLoss::Overlap => margin,
            AfterLoss::Exclusive => margin.max(config.max_ttl.get()),
        };
        let (allow_eviction, sweep_interval) = (store.allow_eviction, store.sweep_interval.get());
        let is_counted = i32::from(pool.slot(b"").is_none());
        let claim = micros(config.claim_timeout.get());
        let store = Store {
            name: Arc::clone(name),
            pool: pool.clone(),
            namespace,
            settings: format!("{} {claim} {is_counted}", micros(bar)).into(),
            hearing: Hearing::default(),
        };
        Ok(Self {
            store: Arc::new(store),
            allow_eviction,
            sweep_interval,
            primed: Mutex::default(),
            sweeps: OnceLock::new(),
            tasks: Tasks::new(&**name),
            is_closed: AtomicBool::new(false),
        })
    }

    fn at(&self, call: Call) -> At {
        At::new(call.operation, &self.store.name)
    }

    fn enter(&self, call: Call) -> Result<()> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { at: self.at(call) });
        }
        Ok(())
    }

    /// Has every tag note which server it is on, so that what follows a change
    /// of that is waited for once.
    async fn prime(&self, call: Call, identity: &str) -> Result<()> {
        if **self.primed.lock().unwrap_or_else(PoisonError::into_inner) == *identity {
            return Ok(());
        }
        let commands = (0..TAGS).map(|tag| self.store.command(&script::PRIME, tag)).collect();
        let outcomes = within(call, self.store.pool.run_all(commands)).await;
        let all = outcomes.len();
        let failures: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        let count = failures.len();
        match failures.into_iter().next() {
            None => {
                *self.primed.lock().unwrap_or_else(PoisonError::into_inner) = identity.into();
                Ok(())
            }
            // A part of a cluster is away; its tags are primed when they are met.
            Some(error) if count < all && error.is_retryable() => Ok(()),
            Some(error) => Err(translate(self.at(call), error)),
        }
    }

    /// Asks about the claims of each tag by a script that `command` makes, and
    /// returns its answer to each claim, `None` where none came, and why none
    /// came. Claims of other locks are answered as those that are not held.
    async fn batch(
        &self,
        call: Call,
        claims: &[Claim],
        command: fn(&Store, u16, &[Placed<'_>]) -> Command,
    ) -> (Vec<Option<i64>>, Option<Error>) {
        if let [claim] = claims
            && let Some((key, slot)) = locked(&self.store.name, claim.fence())
        {
            let command = command(&self.store, tag(key), &[Placed { place: 0, claim, key, slot }]);
            return match within(call, self.store.pool.run(&command)).await {
                Ok(reply) => (vec![told(reply).first().and_then(Value::to_int)], None),
                Err(error) => (vec![None], Some(translate(self.at(call), error))),
            };
        }
        let mut answers = vec![Some(0); claims.len()];
        let mut tags: BTreeMap<u16, Vec<Placed<'_>>> = BTreeMap::new();
        for (place, claim) in claims.iter().enumerate() {
            if let Some((key, slot)) = locked(&self.store.name, claim.fence()) {
                tags.entry(tag(key)).or_default().push(Placed { place, claim, key, slot });
            }
        }
        let (mut commands, mut chunks) = (Vec::new(), Vec::new());
        for (tag, claims) in &tags {
            for chunk in claims.chunks(MOST_CLAIMS) {
                commands.push(command(&self.store, *tag, chunk));
                chunks.push(chunk);
            }
        }
        let mut failure = None;
        let replies = within(call, self.store.send_all(commands)).await;
        for (reply, chunk) in replies.into_iter().zip(chunks) {
            let told = reply.map(told).unwrap_or_else(|error| {
                failure.get_or_insert_with(|| translate(self.at(call), error));
                Vec::new()
            });
            let mut told = told.into_iter();
            for claim in chunk {
                if let Some(answer) = answers.get_mut(claim.place) {
                    *answer = told.next().and_then(|one| one.to_int());
                }
            }
        }
        (answers, failure)
    }

    /// Asks a question again whose answer was lost: the server knows it.
    async fn ask_again(&self, question: &Command) -> trine_redis::Result<Value> {
        let (backoff, until) = (Backoff::new(FIRST_RETRY, LONGEST_RETRY), Instant::now() + INSIST);
        let mut failure = 0;
        loop {
            sleep(backoff.delay(failure)).await;
            failure += 1;
            match self.store.pool.run(question).await {
                Err(error) if Instant::now() < until && may_be_answered(&error) => {}
                reply => return reply,
            }
        }
    }

    /// Gives back in the background what a question may have been granted whose
    /// answer was lost, until that has succeeded or the grant is over.
    fn give_up(&self, want: &Want) {
        let store = Arc::clone(&self.store);
        let command = store.withdrawal(&want.key, &want.waiter, NO_LANE, Some(want.nonce));
        let stop = self.tasks.token();
        let over = Instant::now() + want.terms.ttl().max(want.at_least.unwrap_or_default());
        self.tasks.spawn("give up a question", async move {
            let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
            for failure in 0.. {
                let is_last = tokio::select! {
                    () = stop.cancelled() => true,
                    () = sleep(backoff.delay(failure)) => Instant::now() >= over,
                };
                if store.pool.run(&command).await.is_ok() || is_last {
                    return;
                }
            }
        });
    }

    fn internal(&self, call: Call, cause: &'static str) -> Error {
        Error::Internal { at: self.at(call), cause: cause.into() }
    }
}

/// Between two attempts to give back what nobody knows of.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// For how long a question is asked again whose answer was lost.
const INSIST: Duration = Duration::from_secs(1);

/// In the place of a lane where none is meant.
const NO_LANE: i64 = -1;

impl Store {
    /// Returns a script on a tag, which has the identity of its server and the
    /// settings first.
    fn command(&self, script: &Script, tag: u16) -> Command {
        self.bare(script, tag).server_id().arg(&*self.settings)
    }

    fn bare(&self, script: &Script, tag: u16) -> Command {
        script.command([format!("{}{{{tag:02x}}}", self.namespace.prefix())])
    }

    /// Returns where a process is told what concerns it.
    fn channel(&self, process: &str) -> String {
        [self.namespace.prefix(), process].concat()
    }

    fn question(&self, want: &Want) -> Command {
        let key = want.key.as_str();
        let text = question::text(want, &self.settings, self.hearing.has(&want.waiter.process));
        self.bare(&script::ACQUIRE, tag(key)).server_id().arg(field(key)).arg(text)
    }

    fn renewal(&self, tag: u16, claims: &[Placed<'_>]) -> Command {
        claims.iter().fold(self.command(&script::RENEW, tag), |command, claim| {
            command.arg(field(claim.key)).arg(claim.text()).arg(micros(claim.claim.terms().ttl()))
        })
    }

    fn release(&self, tag: u16, claims: &[Placed<'_>]) -> Command {
        let command = self.bare(&script::RELEASE, tag);
        let command = claims
            .iter()
            .fold(command, |command, claim| command.arg(field(claim.key)).arg(claim.text()));
        command.arg(&*self.settings)
    }

    /// Returns what takes a waiter out of the line, and back what a question
    /// was granted.
    fn withdrawal(&self, key: &Key, waiter: &Waiter, lane: i64, nonce: Option<u64>) -> Command {
        self.command(&script::WITHDRAW, tag(key.as_str()))
            .arg(field(key.as_str()))
            .arg(&*waiter.process)
            .arg(lane)
            .arg(nonce.map(|nonce| nonce.to_string()).unwrap_or_default())
    }

    /// A single command is not sent as a pipeline.
    async fn send_all(&self, commands: Vec<Command>) -> Vec<trine_redis::Result<Value>> {
        match &*commands {
            [only] => vec![self.pool.run(only).await],
            _ => self.pool.run_all(commands).await,
        }
    }
}

/// Returns the answers to the claims of a script; a single one may come alone.
fn told(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(answers) => answers,
        only => vec![only],
    }
}

/// Runs `work` with the caller's deadline in force, which the background does
/// not have.
async fn within<T>(call: Call, work: impl Future<Output = T> + Send) -> T {
    match call.deadline {
        None => work.await,
        Some(deadline) => CallContext::current().with_deadline(deadline).scope(work).await,
    }
}

#[async_trait]
impl LockBackend for RedisBackend {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { is_shared: true, push: true, push_loss: true }
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        self.enter(call)?;
        let facts = within(call, self.store.pool.facts()).await;
        let facts = facts.map_err(|error| translate(self.at(call), error))?;
        if facts.evicts && !self.allow_eviction {
            let backend = format!("{} that may evict (allow_eviction)", facts.version).into();
            return Err(Error::Unsupported { at: self.at(call), what: "a lock", backend });
        }
        self.prime(call, &facts.identity).await?;
        self.sweeps.get_or_init(|| {
            sweep::begin(&self.tasks, Arc::clone(&self.store), self.sweep_interval);
        });
        Ok(StoreFacts::new(facts.version, facts.identity, facts.durability))
    }

    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer> {
        self.enter(call)?;
        let command = self.store.question(want);
        let mut reply = within(call, self.store.pool.run(&command)).await;
        if reply.as_ref().is_err_and(is_unknown) {
            reply = within(call, self.ask_again(&command)).await;
            if reply.is_err() {
                self.give_up(want);
            }
        }
        let reply = reply.map_err(|error| translate(self.at(call), error))?;
        let answer = decode::answer(&self.store.name, want, reply)
            .ok_or_else(|| self.internal(call, "a question was answered otherwise"))?;
        Ok(match answer {
            Answer::Held { holder, retry_in } if !self.store.hearing.has(&want.waiter.process) => {
                Answer::Held { holder, retry_in: retry_in.min(DEAF_RETRY) }
            }
            answer => answer,
        })
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        self.enter(call)?;
        let (answers, failure) = self.batch(call, claims, Store::renewal).await;
        if let Some(failure) = failure
            && answers.iter().all(Option::is_none)
        {
            return Err(failure);
        }
        let renewal = |answer| match answer {
            Some(1) => Renewal::Renewed,
            Some(_) => Renewal::Gone,
            None => Renewal::Unreachable,
        };
        Ok(answers.into_iter().map(renewal).collect())
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        self.enter(call)?;
        let (answers, failure) = self.batch(call, claims, Store::release).await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let outcome = |answer| match answer {
            Some(0) => Ok(ReleaseOutcome::NotHeld),
            Some(1) => Ok(ReleaseOutcome::Released),
            Some(_) => Ok(ReleaseOutcome::HeldByOther),
            None => Err(self.internal(call, "a release was answered otherwise")),
        };
        answers.into_iter().map(outcome).collect()
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        self.enter(call)?;
        let lane = i64::try_from(waiter.lane).unwrap_or(i64::MAX);
        let command = self.store.withdrawal(key, waiter, lane, None);
        let sent = within(call, self.store.pool.run(&command)).await;
        sent.map(drop).map_err(|error| translate(self.at(call), error))
    }

    /// Each page looks at all keys, so many at a time that memory is bounded by
    /// the page and a few thousand more.
    async fn holders(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&Key>,
        count: u32,
    ) -> Result<Page> {
        self.enter(call)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let pattern = pattern(prefix);
        let mut first = BTreeMap::new();
        let mut is_more = false;
        let mut due: Vec<(u16, Box<str>)> = (0..TAGS).rev().map(|tag| (tag, "0".into())).collect();
        while !due.is_empty() {
            let round = due.split_off(due.len().saturating_sub(TAGS_PER_ROUND));
            let scan = |(tag, cursor): &(u16, Box<str>)| {
                let command = self.store.command(&script::HOLDERS, *tag);
                command.arg(&**cursor).arg(&*pattern).arg(FIELDS_PER_SCAN)
            };
            let replies = self.store.pool.run_all(round.iter().map(scan).collect());
            for ((tag, _), reply) in round.iter().zip(within(call, replies).await) {
                let reply = reply.map_err(|error| translate(self.at(call), error))?;
                let (next, held) = decode::page(reply)
                    .ok_or_else(|| self.internal(call, "a page has something else in it"))?;
                if &*next != "0" {
                    due.push((*tag, next));
                }
                for held in held.into_iter().filter(|held| after.is_none_or(|a| held.key > *a)) {
                    first.insert(held.key.clone(), held);
                    if first.len() > count {
                        first.pop_last();
                        is_more = true;
                    }
                }
            }
        }
        let next = first.last_key_value().map(|(key, _)| key.clone()).filter(|_| is_more);
        Ok(Page::new(first.into_values().collect(), next))
    }

    fn events(&self, process: &Arc<str>) -> Events {
        let (sender, events) = Events::channel();
        let (store, process, stop) =
            (Arc::clone(&self.store), Arc::clone(process), self.tasks.token());
        self.tasks.spawn("lock ear", Ear { store, process, sender, stop }.listen());
        events
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    async fn close(&self, deadline: Deadline) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.tasks.shutdown(deadline).await;
    }
}

/// Tells whether the same question may be answered soon.
fn may_be_answered(error: &trine_redis::Error) -> bool {
    is_unknown(error) || matches!(error, trine_redis::Error::Unavailable { .. })
}

/// Tells whether a question may have been answered to nobody.
fn is_unknown(error: &trine_redis::Error) -> bool {
    matches!(error, trine_redis::Error::OutcomeUnknown { .. })
}
