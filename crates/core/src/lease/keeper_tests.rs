//! The keeper with a store that forgets, hangs and panics, under paused time.

use std::cell::Cell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    Backoff, Clock, Deadline, ErrorKind, Fault, Jitter, Lease, LeaseEnd, LeaseKeeper, ManualClock,
    Moment, RetryBudget, RetryPolicy, Tasks, retry,
};

const TTL: Duration = Duration::from_millis(3_000);
const MARGIN: Duration = Duration::from_millis(300);

fn terms() -> LeaseTerms {
    LeaseTerms::new(TTL, MARGIN).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Away,
    Hanging,
    Panicking,
    /// Answers at random: well, away, or after a delay.
    Erratic,
}

#[derive(Debug)]
struct FakeStore {
    clock: ManualClock,
    jitter: Jitter,
    mood: Mutex<Mood>,
    grants: Mutex<HashMap<String, (u64, Moment)>>,
    renewals: Mutex<Vec<usize>>,
    releases: Mutex<Vec<usize>>,
}

#[derive(Debug, thiserror::Error)]
#[error("away")]
struct Away;

impl Fault for Away {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}

impl FakeStore {
    fn grant(&self, key: &str, token: u64) {
        let expires = self.clock.now() + TTL;
        self.grants.lock().unwrap().insert(key.to_owned(), (token, expires));
    }

    fn holds(&self, key: &str) -> bool {
        let now = self.clock.now();
        self.grants.lock().unwrap().get(key).is_some_and(|(_, expires)| now < *expires)
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn trip(&self) -> Result<(), BoxFault> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => {}
            Mood::Away => return Err(Away.into()),
            Mood::Hanging => std::future::pending().await,
            Mood::Panicking => panic!("on purpose"),
            Mood::Erratic => {
                if self.jitter.next() < 0.3 {
                    return Err(Away.into());
                }
                sleep(TTL.mul_f64(self.jitter.next() * 0.15)).await;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Leases for FakeStore {
    async fn renew(&self, batch: &[Claim]) -> Result<Vec<Renewal>, BoxFault> {
        self.renewals.lock().unwrap().push(batch.len());
        self.trip().await?;
        let now = self.clock.now();
        let answers = batch.iter().map(|claim| {
            match self.grants.lock().unwrap().get_mut(claim.fence().key()) {
                Some((token, expires)) if *token == claim.fence().token() && now < *expires => {
                    *expires = (*expires).max(now + claim.terms().ttl());
                    Renewal::Renewed
                }
                _ => Renewal::Gone,
            }
        });
        let answers = answers.collect();
        // The way back may fail too.
        self.trip().await?;
        Ok(answers)
    }

    async fn release(&self, batch: &[Claim]) -> Result<(), BoxFault> {
        self.releases.lock().unwrap().push(batch.len());
        self.trip().await?;
        for claim in batch {
            let mut grants = self.grants.lock().unwrap();
            let key = claim.fence().key();
            if grants.get(key).is_some_and(|(token, _)| *token == claim.fence().token()) {
                grants.remove(key);
            }
        }
        Ok(())
    }
}

struct Rig {
    tasks: Tasks,
    store: Arc<FakeStore>,
    clock: ManualClock,
    keeper: LeaseKeeper,
}

impl Rig {
    fn new() -> Self {
        Self::with_rates(1.0, 1.0, 0)
    }

    fn with_rates(holder: f64, store: f64, seed: u64) -> Self {
        let store = Arc::new(FakeStore {
            clock: ManualClock::with_rate(store),
            jitter: Jitter::seeded(seed),
            mood: Mutex::new(Mood::Well),
            grants: Mutex::default(),
            renewals: Mutex::default(),
            releases: Mutex::default(),
        });
        let (tasks, clock) = (Tasks::new("lock.default"), ManualClock::with_rate(holder));
        let keeper = LeaseKeeper::spawn(&tasks, store.clone(), Arc::new(clock.clone()));
        Self { tasks, store, clock, keeper }
    }

    fn acquire(&self, key: &str) -> Lease {
        self.acquire_for(key, terms())
    }

    fn acquire_for(&self, key: &str, terms: LeaseTerms) -> Lease {
        let sent = self.clock.now();
        self.store.grant(key, 1);
        self.keeper.hold(Claim::new(Fence::new(key, 1).unwrap(), terms), sent)
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlives_its_ttl_as_long_as_it_is_renewed() {
    let rig = Rig::with_rates(0.92, 1.0, 0);
    let lease = rig.acquire("a");
    sleep(TTL * 100).await;
    assert!(lease.is_held() && rig.store.holds("a"));
    assert!(rig.keeper.stats().renewed >= 200, "{:?}", rig.keeper.stats());
    assert_eq!(rig.keeper.stats().lost, 0);
}

#[tokio::test(start_paused = true)]
async fn renewals_go_in_batches() {
    let rig = Rig::new();
    let mut leases = Vec::new();
    for id in 0..1_200 {
        leases.push(rig.acquire(&id.to_string()));
        if id % 300 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    sleep(TTL / 3).await;
    let mut sizes = rig.store.renewals.lock().unwrap().clone();
    sizes.sort_unstable();
    assert_eq!(sizes, [200, 500, 500]);
    assert_eq!(rig.keeper.stats().held, 1_200);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_loses_the_lease_at_its_time_and_not_before() {
    for mood in [Mood::Away, Mood::Hanging, Mood::Panicking] {
        let rig = Rig::new();
        let sent = rig.clock.now();
        let lease = rig.acquire("a");
        rig.store.set(mood);
        let token = lease.token();
        sleep(TTL - MARGIN - Duration::from_millis(2)).await;
        assert!(lease.is_held(), "{mood:?}");
        assert_eq!(lease.lost().await, LeaseEnd::Expired);
        let lost_after = rig.clock.now().saturating_since(sent);
        assert!(lost_after >= TTL - MARGIN && lost_after < TTL, "{mood:?} {lost_after:?}");
        assert!(!lease.is_held() && token.is_cancelled() && rig.store.holds("a"));
        // Whatever the store answers later.
        rig.store.set(Mood::Well);
        sleep(TTL).await;
        assert!(!lease.is_held());
        drop(lease);
        assert_eq!(rig.keeper.stats().lost, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_of_the_store_loses_nothing() {
    for mood in [Mood::Away, Mood::Hanging, Mood::Panicking] {
        let rig = Rig::new();
        let lease = rig.acquire("a");
        rig.store.set(mood);
        sleep(TTL / 2).await;
        rig.store.set(Mood::Well);
        sleep(TTL * 4).await;
        assert!(lease.is_held(), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_that_stalls_loses_nothing_whatever_the_margin() {
    for margin in [Duration::ZERO, MARGIN, TTL / 3, TTL / 2] {
        let rig = Rig::new();
        let lease = rig.acquire_for("a", LeaseTerms::new(TTL, margin).unwrap());
        rig.store.set(Mood::Hanging);
        while rig.store.renewals.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        rig.store.set(Mood::Well);
        sleep(TTL * 2).await;
        assert!(lease.is_held(), "{margin:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_gone_ends_at_the_next_renewal() {
    let rig = Rig::new();
    let (lease, other) = (rig.acquire("a"), rig.acquire("b"));
    rig.store.grant("a", 2);
    let end = Deadline::after(TTL / 2).limit(lease.lost()).await;
    assert_eq!(end, Some(LeaseEnd::Gone));
    assert!(other.is_held());
    drop(lease);
    sleep(TTL).await;
    assert!(rig.store.releases.lock().unwrap().is_empty());
}

/// Without waiting for their time.
#[tokio::test(start_paused = true)]
async fn all_leases_are_renewed_when_told() {
    let rig = Rig::new();
    let (lease, other) = (rig.acquire("a"), rig.acquire("b"));
    rig.store.grant("a", 2);
    sleep(TTL / 10).await;
    rig.keeper.renew_all();
    let end = Deadline::after(TTL / 100).limit(lease.lost()).await;
    assert_eq!(end, Some(LeaseEnd::Gone));
    assert!(other.remaining() >= TTL - MARGIN - TTL / 100, "{:?}", other.remaining());
    assert_eq!(*rig.store.renewals.lock().unwrap(), [2]);
}

#[tokio::test(start_paused = true)]
async fn without_the_keepers_task_the_clock_still_ends_the_lease() {
    let Rig { tasks, store, clock, keeper } = Rig::new();
    let sent = clock.now();
    store.grant("a", 1);
    let lease = keeper.hold(Claim::new(Fence::new("a", 1).unwrap(), terms()), sent);
    drop(tasks);
    assert!(lease.is_held());
    assert_eq!(lease.lost().await, LeaseEnd::Expired);
    assert!(!lease.is_held() && store.holds("a"));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_finds_its_leases_lost() {
    let rig = Rig::new();
    let lease = rig.acquire("a");
    sleep(TTL / 2).await;
    rig.clock.advance(TTL);
    assert!(!lease.is_held());
    assert_eq!(lease.lost().await, LeaseEnd::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_given_back_and_renewed_no_more() {
    let rig = Rig::new();
    let leases: Vec<_> = (0..10).map(|id| rig.acquire(&id.to_string())).collect();
    drop(leases);
    sleep(Duration::from_millis(1)).await;
    assert!(!rig.store.holds("0") && !rig.store.holds("9"));
    assert_eq!(*rig.store.releases.lock().unwrap(), [10]);
    sleep(TTL * 2).await;
    assert!(rig.store.renewals.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_repeated_while_it_matters() {
    let rig = Rig::new();
    rig.store.set(Mood::Away);
    let error = rig.acquire("a").release().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    sleep(TTL / 2).await;
    assert_eq!(rig.keeper.stats().releasing, 1);
    rig.store.set(Mood::Well);
    sleep(TTL / 10).await;
    assert!(!rig.store.holds("a"));
    assert_eq!(rig.keeper.stats().releasing, 0);

    rig.store.set(Mood::Away);
    drop(rig.acquire("b"));
    sleep(TTL * 3).await;
    let tries = rig.store.releases.lock().unwrap().len();
    assert_eq!(rig.keeper.stats().releasing, 0);
    sleep(TTL * 3).await;
    assert_eq!(rig.store.releases.lock().unwrap().len(), tries);
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_the_answer_within_its_bound() {
    let rig = Rig::new();
    rig.acquire("a").release().await.unwrap();
    assert!(!rig.store.holds("a"));
    rig.store.set(Mood::Hanging);
    let began = rig.clock.now();
    let error = rig.acquire("b").release().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let took = rig.clock.now().saturating_since(began);
    assert!(took < TTL / 3 + Duration::from_millis(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_detached_claim_stays_with_the_store() {
    let rig = Rig::new();
    let lease = rig.acquire("a");
    let lost = lease.lost();
    assert_eq!(lease.detach().fence().key(), "a");
    assert_eq!(lost.await, LeaseEnd::Released);
    sleep(TTL / 2).await;
    assert!(rig.store.holds("a"));
    assert!(rig.store.renewals.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_renewed_at_once_and_keeps_its_own_pace() {
    let rig = Rig::new();
    let lease = rig.acquire("a");
    let longer = LeaseTerms::new(TTL * 10, MARGIN * 10).unwrap();
    assert_eq!(lease.extend(longer).await, Renewal::Renewed);
    assert!(lease.remaining() > TTL * 8, "{:?}", lease.remaining());
    sleep(TTL).await;
    assert_eq!(rig.store.renewals.lock().unwrap().len(), 1);
    rig.store.set(Mood::Away);
    assert_eq!(lease.extend(terms()).await, Renewal::Unreachable);
    assert!(lease.remaining() > TTL * 7, "{:?}", lease.remaining());
    rig.store.set(Mood::Well);
    rig.store.grant("a", 2);
    assert_eq!(lease.extend(terms()).await, Renewal::Gone);
    assert_eq!(lease.extend(terms()).await, Renewal::Gone);
    assert!(!lease.is_held());
}

/// Its answer is lost: the store may hold the claim for the longer ttl.
#[tokio::test(start_paused = true)]
async fn a_release_is_repeated_for_as_long_as_an_extension_may_hold() {
    let rig = Rig::new();
    let lease = rig.acquire("a");
    rig.store.set(Mood::Away);
    let longer = LeaseTerms::new(TTL * 10, MARGIN).unwrap();
    assert_eq!(lease.extend(longer).await, Renewal::Unreachable);
    drop(lease);
    sleep(TTL * 5).await;
    assert_eq!(rig.keeper.stats().releasing, 1);
    rig.store.set(Mood::Well);
    sleep(TTL).await;
    assert_eq!(rig.keeper.stats().releasing, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_its_holder_ends_is_given_back_unless_it_is_gone() {
    let rig = Rig::new();
    for (end, releases) in [(LeaseEnd::Gone, 0), (LeaseEnd::Released, 1)] {
        let lease = rig.acquire("a");
        lease.end(end);
        assert_eq!(lease.lost().await, end);
        drop(lease);
        sleep(TTL).await;
        assert_eq!(rig.store.releases.lock().unwrap().len(), releases, "{end:?}");
    }
    assert_eq!(rig.keeper.stats().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_all_leases_and_gives_them_back_in_batches() {
    let rig = Rig::new();
    let leases: Vec<_> = (0..700).map(|id| rig.acquire(&id.to_string())).collect();
    assert!(rig.tasks.shutdown(Deadline::after(TTL)).await.is_empty());
    assert!(leases.iter().all(|lease| !lease.is_held()));
    assert_eq!(leases[0].lost().await, LeaseEnd::Closed);
    assert!(rig.store.grants.lock().unwrap().is_empty());
    assert_eq!(rig.store.releases.lock().unwrap().len(), 2);
    assert_eq!(rig.acquire("late").lost().await, LeaseEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_dropped_without_a_shutdown_leaves_no_claim_behind() {
    let Rig { tasks, store, keeper, clock } = Rig::new();
    let sent = clock.now();
    let hold = |key: &str| {
        store.grant(key, 1);
        keeper.hold(Claim::new(Fence::new(key, 1).unwrap(), terms()), sent)
    };
    let held = hold("a");
    drop(hold("b"));
    drop(tasks);
    sleep(Duration::from_millis(1)).await;
    assert!(held.is_held() && !store.holds("b"));
    drop(held);
    sleep(Duration::from_millis(1)).await;
    assert!(!store.holds("a"));
}

#[tokio::test(start_paused = true)]
async fn a_release_under_way_is_sent_again_by_the_close() {
    let rig = Rig::new();
    rig.store.set(Mood::Hanging);
    drop(rig.acquire("a"));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(*rig.store.releases.lock().unwrap(), [1]);
    assert_eq!(rig.keeper.stats().releasing, 1);
    rig.store.set(Mood::Well);
    assert!(rig.tasks.shutdown(Deadline::after(TTL)).await.is_empty());
    assert!(!rig.store.holds("a"));
}

#[tokio::test(start_paused = true)]
async fn a_release_under_way_survives_a_panic_of_the_keeper() {
    let rig = Rig::new();
    rig.store.set(Mood::Panicking);
    drop(rig.acquire("a"));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(*rig.store.releases.lock().unwrap(), [1]);
    rig.store.set(Mood::Well);
    sleep(TTL / 2).await;
    assert!(!rig.store.holds("a"));
    assert_eq!(rig.keeper.stats().releasing, 0);
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_close_is_given_back_once() {
    let rig = Rig::new();
    rig.store.set(Mood::Hanging);
    let mut under_way = Box::pin(rig.acquire("a").release());
    assert!(Deadline::after(TTL / 100).limit(&mut under_way).await.is_none());
    rig.store.set(Mood::Well);
    rig.tasks.shutdown(Deadline::after(TTL)).await;
    assert!(rig.store.holds("a"), "the close knew nothing of it");

    // Dropped outside of the runtime.
    std::thread::scope(|scope| scope.spawn(|| drop(under_way)).join().unwrap());
    let late = rig.acquire("late");
    assert_eq!(late.lost().await, LeaseEnd::Closed);
    sleep(Duration::from_millis(1)).await;
    assert!(!rig.store.holds("a") && !rig.store.holds("late"));

    drop(late);
    rig.store.set(Mood::Away);
    drop(rig.acquire("away"));
    let before = rig.store.releases.lock().unwrap().len();
    sleep(TTL).await;
    assert_eq!(rig.store.releases.lock().unwrap().len(), before + 1, "one try");

    rig.store.set(Mood::Well);
    let last = rig.acquire("last");
    let Rig { store, keeper, .. } = rig;
    drop((keeper, last));
    sleep(Duration::from_millis(1)).await;
    assert!(!store.holds("last"), "nobody else holds the keeper");
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

/// What a lease and a retry do within ten ttl, while a wall clock is moved by
/// `jump` again and again.
async fn seen_under(jump: fn(SystemTime, u32) -> SystemTime) -> Vec<(u64, Duration, u32)> {
    let rig = Rig::new();
    let lease = rig.acquire("a");
    let attempts = Cell::new(0);
    let policy = RetryPolicy::new(
        NonZeroU32::new(50).unwrap(),
        Backoff::new(TTL / 9, TTL).with_jitter(Jitter::none()),
    );
    let budget = RetryBudget::new(100.0, 100.0);
    let retried = retry(&policy, &budget, None, || {
        attempts.set(attempts.get() + 1);
        std::future::ready(Err::<(), _>(Away))
    });
    let mut seen = Vec::new();
    let watched = async {
        for round in 0..70 {
            sleep(TTL / 7).await;
            let wall = rig.clock.wall();
            rig.clock.set_wall(jump(wall, round));
            assert_eq!(rig.clock.wall(), jump(wall, round));
            seen.push((rig.keeper.stats().renewed, lease.remaining(), attempts.get()));
        }
    };
    tokio::select! {
        _ = retried => panic!("given up"),
        () = watched => {}
    }
    assert!(lease.is_held() && attempts.get() > 5);
    seen
}

// CO-18
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_moves_no_renewal_and_no_retry() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let still = seen_under(|wall, _| wall).await;
    let jumping =
        seen_under(|wall, round| if round % 2 == 0 { wall - HOUR } else { wall + HOUR }).await;
    let leaping = seen_under(|wall, _| wall + HOUR).await;
    assert_eq!(still, jumping);
    assert_eq!(still, leaping);
    assert!(still.last().unwrap().0 >= 20, "{still:?}");
}

/// The keeper as a whole, as the model checks the rules alone: an erratic
/// store that falls silent at some moment, so that the last confirmed renewal
/// decides.
#[tokio::test(start_paused = true)]
async fn holders_with_skewed_clocks_never_overlap_an_erratic_store() {
    for seed in 0..100 {
        let (holder, store) = [(0.9, 1.0), (1.0, 1.0), (1.1, 1.0), (1.0, 1.1)][seed % 4];
        let rig = Rig::with_rates(holder, store, seed as u64);
        let leases = [rig.acquire("a"), rig.acquire("b")];
        rig.store.set(Mood::Erratic);
        let silence = (TTL * 2).mul_f64(rig.store.jitter.next());
        let began = Instant::now();
        while leases.iter().any(Lease::is_held) {
            if began.elapsed() > silence {
                rig.store.set(Mood::Hanging);
            }
            sleep(Duration::from_millis(1)).await;
            for lease in &leases {
                let key = lease.fence().key();
                assert!(!lease.is_held() || rig.store.holds(key), "seed {seed}, key {key}");
            }
            assert!(began.elapsed() < TTL * 5, "seed {seed}: held for ever");
        }
    }
}
