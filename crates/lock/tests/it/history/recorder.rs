//! Where the operations of a history are written down.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use trine_core::{Claim, Clock, Deadline, Renewal};
use trine_lock::{
    Answer, Call, Capabilities, Events, Guard, HolderState, Key, LockBackend, LockDeps, Mode, Page,
    ReleaseOutcome, Result, StoreFacts, StoreStats, Waiter, Want,
};

use super::model::{Asked, Operation, Said, Stamp};

/// The history of some keys.
#[derive(Debug)]
pub(crate) struct Log {
    clock: Arc<dyn Clock>,
    order: AtomicU64,
    keys: Mutex<BTreeMap<String, Vec<Operation>>>,
    troubles: Mutex<Vec<Trouble>>,
    given: Mutex<Given>,
}

impl Log {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            order: AtomicU64::new(0),
            keys: Mutex::default(),
            troubles: Mutex::default(),
            given: Mutex::default(),
        })
    }

    fn stamp(&self) -> Stamp {
        Stamp { order: self.order.fetch_add(1, Ordering::SeqCst), at: self.clock.now() }
    }

    /// Writes down a call; it may take effect from now on.
    fn call(self: &Arc<Self>, process: usize, key: &str, asked: Asked) -> Pending {
        let operation = Operation { process, asked, called: self.stamp(), answer: None };
        let index = self.push(key, operation);
        Pending { log: Arc::clone(self), key: key.to_owned(), index }
    }

    fn push(&self, key: &str, operation: Operation) -> usize {
        let mut keys = self.keys.lock().unwrap();
        let operations = keys.entry(key.to_owned()).or_default();
        operations.push(operation);
        operations.len() - 1
    }

    /// Writes down that a guard is held, if it says so.
    pub(crate) fn look(&self, process: usize, guard: &Guard) {
        let (called, token) = (self.stamp(), guard.fence().token());
        if guard.is_held() {
            let answer = Some((Said::Held, self.stamp()));
            let operation = Operation { process, asked: Asked::Look { token }, called, answer };
            self.push(guard.key().as_str(), operation);
        }
    }

    /// Writes down what a client was given.
    pub(crate) fn give(&self, guard: &Guard) {
        let given = (guard.key().to_string(), guard.fence().token());
        let mut taken = self.given.lock().unwrap();
        if !taken.all.insert(given.clone()) {
            taken.twice.push(given);
        }
    }

    /// Returns the grants that two clients were given.
    pub(crate) fn given_twice(&self) -> Vec<(String, u64)> {
        self.given.lock().unwrap().twice.clone()
    }

    /// Writes down that from now on answers of these processes may be lost.
    pub(crate) fn trouble(&self, processes: Range<usize>) -> TroubleEnd<'_> {
        let from = self.stamp().order;
        let mut troubles = self.troubles.lock().unwrap();
        troubles.push(Trouble { processes, from, to: u64::MAX });
        TroubleEnd { log: self, index: troubles.len() - 1 }
    }

    /// Returns what was asked of each key. Of a call that `insists`, and that
    /// the store may have been asked twice, the first question is another one
    /// whose answer nobody has heard.
    pub(crate) fn histories(&self, insists: bool) -> BTreeMap<String, Vec<Operation>> {
        let mut keys = self.keys.lock().unwrap().clone();
        let troubles = self.troubles.lock().unwrap();
        for operations in keys.values_mut().filter(|_| insists) {
            let is_doubled = |operation: &&Operation| {
                matches!(operation.asked, Asked::Acquire { .. })
                    && operation.answer.is_some()
                    && troubles.iter().any(|trouble| trouble.concerns(operation))
            };
            let doubled: Vec<_> = operations.iter().filter(is_doubled).copied().collect();
            operations.extend(doubled.into_iter().map(|first| Operation { answer: None, ..first }));
        }
        keys
    }
}

/// When the connections of some processes were not what they should be.
#[derive(Debug)]
struct Trouble {
    processes: Range<usize>,
    from: u64,
    to: u64,
}

impl Trouble {
    fn concerns(&self, operation: &Operation) -> bool {
        self.processes.contains(&operation.process)
            && operation.called.order < self.to
            && self.from < operation.returned()
    }
}

/// The end of a trouble, once it has come.
pub(crate) struct TroubleEnd<'a> {
    log: &'a Log,
    index: usize,
}

impl TroubleEnd<'_> {
    pub(crate) fn end(self) {
        let to = self.log.stamp().order;
        self.log.troubles.lock().unwrap()[self.index].to = to;
    }
}

/// Grants, key and token.
#[derive(Debug, Default)]
struct Given {
    all: HashSet<(String, u64)>,
    twice: Vec<(String, u64)>,
}

/// A call whose answer was not heard so far.
struct Pending {
    log: Arc<Log>,
    key: String,
    index: usize,
}

impl Pending {
    fn answer(&mut self, said: Said) {
        let stamp = self.log.stamp();
        let mut keys = self.log.keys.lock().unwrap();
        keys.get_mut(&self.key).unwrap()[self.index].answer = Some((said, stamp));
    }
}

/// A store as one process sees it, with all that it sees written down.
#[derive(Debug)]
pub(crate) struct Recorder {
    inner: Arc<dyn LockBackend>,
    log: Arc<Log>,
    process: usize,
}

impl Recorder {
    pub(crate) fn new(inner: Arc<dyn LockBackend>, log: &Arc<Log>, process: usize) -> Self {
        Self { inner, log: Arc::clone(log), process }
    }

    fn claims(&self, claims: &[Claim], asked: impl Fn(&Claim) -> Asked) -> Vec<Pending> {
        let call = |claim: &Claim| self.log.call(self.process, locked(claim), asked(claim));
        claims.iter().map(call).collect()
    }
}

/// Returns the key of a claim.
pub(crate) fn locked(claim: &Claim) -> &str {
    let key = claim.fence().key();
    key.strip_prefix(&*LockDeps::default().name).unwrap().strip_prefix('/').unwrap()
}

fn said(answer: &Answer) -> Option<Said> {
    match answer {
        Answer::Granted(fence) => Some(Said::Granted(fence.token())),
        Answer::Held { holder, .. } => Some(match holder.state {
            HolderState::Holding { token } => Said::HeldBy(token),
            HolderState::Next => Said::Reserved,
            other => panic!("{other:?}: nothing is kept in these histories"),
        }),
        _ => None,
    }
}

#[async_trait]
impl LockBackend for Recorder {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        self.inner.prove(call).await
    }

    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer> {
        let asked = Asked::Acquire { ttl: want.terms.ttl(), is_steal: want.mode == Mode::Steal };
        let mut pending = self.log.call(self.process, want.key.as_str(), asked);
        let answer = self.inner.acquire(call, want).await?;
        if let Some(said) = said(&answer) {
            pending.answer(said);
        }
        Ok(answer)
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        let asked = |claim: &Claim| {
            let (token, ttl) = (claim.fence().token(), claim.terms().ttl());
            Asked::Renew { token, ttl }
        };
        let mut pending = self.claims(claims, asked);
        let renewals = self.inner.renew(call, claims).await?;
        for (pending, renewal) in pending.iter_mut().zip(&renewals) {
            match renewal {
                Renewal::Renewed => pending.answer(Said::Renewed),
                Renewal::Gone => pending.answer(Said::Gone),
                Renewal::Unreachable => {}
            }
        }
        Ok(renewals)
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        let mut pending =
            self.claims(claims, |claim| Asked::Release { token: claim.fence().token() });
        let outcomes = self.inner.release(call, claims).await?;
        for (pending, outcome) in pending.iter_mut().zip(&outcomes) {
            pending.answer(match outcome {
                ReleaseOutcome::Released => Said::Released,
                ReleaseOutcome::NotHeld => Said::NotHeld,
                ReleaseOutcome::HeldByOther => Said::HeldByOther,
                other => panic!("{other:?}: no store says that"),
            });
        }
        Ok(outcomes)
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        self.inner.withdraw(call, key, waiter).await
    }

    async fn holders(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&Key>,
        count: u32,
    ) -> Result<Page> {
        self.inner.holders(call, prefix, after, count).await
    }

    fn events(&self, process: &Arc<str>) -> Events {
        self.inner.events(process)
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
