use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use smallvec::SmallVec;
use trine_core::{Claim, Clock, Deadline, Durability, Fence, Renewal};
use uuid::Uuid;

use super::record::{Asked, GrantName, Now, Record};
use super::{
    Answer, Call, Capabilities, Event, EventSender, Events, LockBackend, StoreFacts, StoreStats,
    Waiter, Want,
};
use crate::{At, Error, Key, Page, ReleaseOutcome, Result};

/// Locks in this process: the reference for every other store.
///
/// It has a record for each key that is held, kept or waited for. One whose time
/// is over goes when its key is used, and at the latest when as many other calls
/// were made as there are records.
#[derive(Debug)]
pub struct MemoryBackend {
    store: Arc<Store>,
    /// This view of it.
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Store {
    name: Arc<str>,
    claim_timeout: Duration,
    clock: Arc<dyn Clock>,
    identity: Box<str>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last token, of whatever key: so that no key leaves a record.
    last: u64,
    records: BTreeMap<Key, Record>,
    listeners: Listeners,
    /// After which key to look for records that are over.
    swept: Option<Key>,
}

/// Records that each call looks at beside its own: so many that they are all
/// met before their number has grown by half, and so few that none waits.
const SWEPT_PER_CALL: usize = 2;

impl MemoryBackend {
    /// Returns an empty store for the locks called `name`. Does no I/O.
    #[must_use]
    pub fn open(name: &Arc<str>, claim_timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            last: 0,
            records: BTreeMap::new(),
            listeners: Listeners::default(),
            swept: None,
        };
        let store = Store {
            name: Arc::clone(name),
            claim_timeout,
            clock,
            identity: Uuid::new_v4().simple().to_string().into(),
            state: Mutex::new(state),
        };
        Self { store: Arc::new(store), is_closed: AtomicBool::new(false) }
    }

    /// Returns another backend over the same store, as another process has one
    /// over a shared store: for tests of what processes do to each other.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { store: Arc::clone(&self.store), is_closed: AtomicBool::new(false) }
    }

    fn lock(&self, call: Call) -> Result<MutexGuard<'_, State>> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { at: self.at(call) });
        }
        Ok(self.store.lock())
    }

    fn at(&self, call: Call) -> At {
        At::new(call.operation, &self.store.name)
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        let (time, wall) = (self.clock.now().into(), self.clock.wall().into());
        Now { time, wall, claim_timeout: self.claim_timeout }
    }
}

impl State {
    /// Works on the record of a key, and lets it go if nothing is left in it.
    fn with<T>(&mut self, now: Now, key: &str, work: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let (known, _) = self.records.get_key_value(key)?;
        let known = known.clone();
        let record = self.records.get_mut(key)?;
        let listeners = &self.listeners;
        let mut tell = |waiter: &Waiter| listeners.free(&known, waiter);
        record.settle(now, &mut tell);
        let done = work(record);
        record.settle(now, &mut tell);
        if record.is_over() {
            self.records.remove(key);
        }
        Some(done)
    }

    /// Lets go of some of what is over, as many records as a call may bring.
    fn sweep(&mut self, now: Now) {
        let from = self.swept.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.records.range::<Key, _>((from, Bound::Unbounded)).take(SWEPT_PER_CALL);
        let keys: SmallVec<[Key; SWEPT_PER_CALL]> = next.map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.with(now, key.as_str(), |_| ());
        }
        self.swept = keys.into_iter().last();
    }
}

/// Where processes are told what concerns them.
#[derive(Debug, Default)]
struct Listeners {
    of: HashMap<Arc<str>, EventSender>,
}

impl Listeners {
    /// Tells a waiter that it is next; `false` if nobody is there any more. One
    /// that never listened asks by itself.
    fn free(&self, key: &Key, waiter: &Waiter) -> bool {
        let event = Event::Free { key: key.clone(), lane: waiter.lane };
        self.of.get(&waiter.process).is_none_or(|listener| listener.tell(event))
    }

    fn lost(&self, process: &Arc<str>, fence: Fence) {
        if let Some(listener) = self.of.get(process) {
            // A process that is gone needs not be told.
            let _ = listener.tell(Event::Lost(fence));
        }
    }
}

#[async_trait]
impl LockBackend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::local()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        drop(self.lock(call)?);
        Ok(StoreFacts::new("memory", self.store.identity.clone(), Durability::Memory))
    }

    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer> {
        let mut state = self.lock(call)?;
        let now = self.store.now();
        state.sweep(now);
        let token = Fence::next_token(state.last, now.wall.get());
        state.records.entry(want.key.clone()).or_default();
        let asked = state.with(now, want.key.as_str(), |record| record.ask(now, want, token));
        let (name, ended) = match asked {
            Some(Asked::Granted { name, ended }) => (name, ended),
            Some(Asked::Held(held)) => return Ok(held),
            None => {
                let cause = "the record of a key that was just made is gone".into();
                return Err(Error::Internal { at: self.at(call), cause });
            }
        };
        state.last = token;
        let fence = |name: GrantName| {
            let fence = name.fence(&self.store.name, &want.key);
            fence.map_err(|cause| Error::Internal { at: self.at(call), cause })
        };
        for (process, ended) in ended {
            state.listeners.lost(&process, fence(ended)?);
        }
        Ok(Answer::Granted(fence(name)?))
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        let mut state = self.lock(call)?;
        let now = self.store.now();
        let renewals = claims.iter().map(|claim| {
            let renewed = GrantName::of(&self.store.name, claim.fence()).and_then(|(key, name)| {
                state.with(now, key, |record| record.renew(now.time, name, claim))
            });
            if renewed == Some(true) { Renewal::Renewed } else { Renewal::Gone }
        });
        Ok(renewals.collect())
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        let mut state = self.lock(call)?;
        let now = self.store.now();
        let outcomes = claims.iter().map(|claim| {
            let released =
                GrantName::of(&self.store.name, claim.fence()).and_then(|(key, name)| {
                    state.with(now, key, |record| record.release(now.time, name))
                });
            released.unwrap_or(ReleaseOutcome::NotHeld)
        });
        Ok(outcomes.collect())
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        let mut state = self.lock(call)?;
        let now = self.store.now();
        state.with(now, key.as_str(), |record| record.withdraw(waiter));
        Ok(())
    }

    async fn holders(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&Key>,
        count: u32,
    ) -> Result<Page> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let state = self.lock(call)?;
        let now = self.store.now();
        let from = match after {
            Some(after) => Bound::Excluded(after.as_str()),
            None => Bound::Included(prefix),
        };
        let found = state.records.range::<str, _>((from, Bound::Unbounded));
        let mut found = found.take_while(|(key, _)| key.as_str().starts_with(prefix)).peekable();
        let (mut keys, mut last) = (Vec::new(), None);
        // Those that are over count too, so that no page is long.
        for (key, record) in found.by_ref().take(count) {
            keys.extend(record.held_key(now, key));
            last = Some(key.clone());
        }
        let next = last.filter(|_| found.peek().is_some());
        Ok(Page::new(keys, next))
    }

    fn events(&self, process: &Arc<str>) -> Events {
        let (sender, events) = Events::channel();
        let listeners = &mut self.store.lock().listeners.of;
        listeners.retain(|_, listener| !listener.is_closed());
        listeners.insert(Arc::clone(process), sender);
        events
    }

    fn stats(&self) -> StoreStats {
        let state = self.store.lock();
        let mut stats = StoreStats::default();
        for record in state.records.values() {
            stats.keys += 1;
            record.count(&mut stats);
        }
        stats
    }

    async fn close(&self, _deadline: Deadline) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}
