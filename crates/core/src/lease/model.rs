//! A model of one holder, its network and the store, with clocks that go at
//! different rates.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::state::LeaseState;
use super::{LeaseTerms, Renewal};
use crate::{Moment, lease::state::LeaseStep};

/// What happens to one request, in milliseconds of true time.
#[derive(Clone, Copy, Debug)]
struct Trip {
    there: u64,
    back: u64,
    fate: Fate,
    /// For how long the holder does not run after it has sent the request.
    stall: u64,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    RequestLost,
    ReplyLost,
}

#[derive(Clone, Debug)]
struct Case {
    ttl: u64,
    margin: u64,
    /// Rates of the two clocks, in parts per thousand of true time.
    holder_rate: u64,
    store_rate: u64,
    /// The first is the acquire, the others are renewals.
    trips: Vec<Trip>,
}

/// When the lease starts to count.
#[derive(Clone, Copy)]
enum Origin {
    Sent,
    Answered,
}

/// A moment `millis` of true time after the beginning, on a clock of this rate.
fn on_clock(millis: u64, rate: u64) -> Duration {
    Duration::from_micros(millis * rate)
}

fn at(millis: u64, rate: u64) -> Moment {
    Moment::from_elapsed(on_clock(millis, rate))
}

struct Store {
    rate: u64,
    ttl: Duration,
    expires: Duration,
}

impl Store {
    fn holds(&self, now: u64) -> bool {
        on_clock(now, self.rate) < self.expires
    }

    fn renew(&mut self, now: u64) -> Renewal {
        if !self.holds(now) {
            return Renewal::Gone;
        }
        self.expires = on_clock(now, self.rate) + self.ttl;
        Renewal::Renewed
    }
}

/// Plays the case millisecond by millisecond; answers the first moment at which
/// the holder believed to hold what the store had let go.
fn overlap(case: &Case, origin: Origin) -> Option<u64> {
    let millis = Duration::from_millis;
    let terms = LeaseTerms::new(millis(case.ttl), millis(case.margin)).unwrap();
    let mut trips = case.trips.iter();
    let acquire = trips.next()?;
    let mut now = acquire.there;
    let mut store = Store {
        rate: case.store_rate,
        ttl: terms.ttl(),
        expires: on_clock(now, case.store_rate) + terms.ttl(),
    };
    now += acquire.back;
    let holder = |millis| at(millis, case.holder_rate);
    let began = match origin {
        Origin::Sent => 0,
        Origin::Answered => now,
    };
    let mut lease = LeaseState::granted(terms, holder(began));
    let mut under_way: Option<(u64, Moment, Trip, Option<Renewal>)> = None;
    let mut asleep_until = 0;
    // Past every renewal that could still be confirmed.
    let end = now + case.ttl * 4;
    while now < end {
        if let Some((sent, patience, trip, answer)) = &mut under_way {
            if now == *sent + trip.there && !matches!(trip.fate, Fate::RequestLost) {
                *answer = Some(store.renew(now));
            }
            let is_back = now >= *sent + trip.there + trip.back && now >= asleep_until;
            if let Some(answer) =
                answer.filter(|_| is_back && !matches!(trip.fate, Fate::ReplyLost))
            {
                if matches!(origin, Origin::Answered) {
                    lease.renewal_sent(holder(now));
                }
                lease.renewal_answered(holder(now), answer);
                under_way = None;
            } else if holder(now) >= *patience && now >= asleep_until {
                lease.renewal_answered(holder(now), Renewal::Unreachable);
                // The request may still be on its way and arrive.
                if answer.is_none() && now < *sent + trip.there {
                    store_later(&mut store, *sent + trip.there, trip.fate);
                }
                under_way = None;
            }
        }
        let is_due = now >= asleep_until && lease.step(holder(now)) == LeaseStep::Renew;
        if let Some(trip) = is_due.then(|| trips.next()).flatten() {
            lease.renewal_sent(holder(now));
            under_way = Some((now, lease.patience(holder(now)), *trip, None));
            asleep_until = now + trip.stall;
        }
        if lease.is_held(holder(now)) && !store.holds(now) {
            return Some(now);
        }
        now += 1;
    }
    None
}

/// An answer that nobody waits for can only prolong the claim.
fn store_later(store: &mut Store, arrival: u64, fate: Fate) {
    if !matches!(fate, Fate::RequestLost) && store.holds(arrival) {
        store.renew(arrival);
    }
}

fn trip() -> impl Strategy<Value = Trip> {
    let fate = prop_oneof![
        6 => Just(Fate::Arrives),
        1 => Just(Fate::RequestLost),
        2 => Just(Fate::ReplyLost),
    ];
    let stall = prop_oneof![4 => Just(0), 1 => 0_u64..200];
    (0_u64..60, 0_u64..120, fate, stall).prop_map(|(there, back, fate, stall)| Trip {
        there,
        back,
        fate,
        stall,
    })
}

/// Cases whose holder's clock may be slower than the store's by up to
/// margin / ttl, and by `extra` parts per thousand more.
fn case(extra: u64) -> impl Strategy<Value = Case> {
    let terms = (60_u64..300, 0_u64..=50);
    let rates = (900_u64..=1_100, 0_u64..=1_000, any::<bool>());
    let trips = proptest::collection::vec(trip(), 1..8);
    (terms, rates, trips).prop_map(move |((ttl, percent), (store_rate, share, at_edge), trips)| {
        let margin = ttl * percent / 100;
        let share = if at_edge { 1_000 } else { share };
        let slack = store_rate * margin / ttl * share / 1_000;
        let slow = store_rate - slack - store_rate * extra / 1_000;
        let fast = store_rate + slack;
        let holder_rate = if at_edge || share % 2 == 0 { slow } else { fast };
        Case { ttl, margin, holder_rate, store_rate, trips }
    })
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    )
}

fn finds_an_overlap(extra: u64, origin: Origin) -> bool {
    let found = runner(2_000).run(&case(extra), |case| {
        prop_assert!(overlap(&case, origin).is_none());
        Ok(())
    });
    found.is_err()
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_holder_believes_in_a_lease_that_the_store_has_let_go(case in case(0)) {
        prop_assert_eq!(overlap(&case, Origin::Sent), None);
    }
}

/// The control: the model is able to see what the rules prevent.
#[test]
fn counting_from_the_answer_overlaps() {
    assert!(!finds_an_overlap(0, Origin::Sent));
    assert!(finds_an_overlap(0, Origin::Answered));
}

#[test]
fn clocks_that_differ_by_more_than_the_margin_overlap() {
    assert!(finds_an_overlap(20, Origin::Sent));
}

/// Every combination of the edge values, for what random cases might miss.
#[test]
fn no_overlap_at_any_combination_of_the_edges() {
    let fates = [Fate::Arrives, Fate::RequestLost, Fate::ReplyLost];
    let mut checked = 0;
    for (holder_rate, store_rate) in [(900, 1_000), (1_000, 1_000), (1_100, 1_000), (909, 1_010)] {
        for (there, back) in [(0, 0), (1, 0), (0, 1), (29, 0), (0, 29), (15, 15), (31, 0), (0, 99)]
        {
            for first in fates {
                for second in fates {
                    for stall in [0, 29, 30, 31, 50, 60, 80, 81, 90, 120] {
                        let trip = |fate, stall| Trip { there, back, fate, stall };
                        let acquire = trip(Fate::Arrives, 0);
                        let trips =
                            vec![acquire, trip(first, 0), trip(second, stall), trip(first, stall)];
                        let case = Case { ttl: 90, margin: 9, holder_rate, store_rate, trips };
                        assert_eq!(overlap(&case, Origin::Sent), None, "{case:?}");
                        checked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(checked, 4 * 8 * 9 * 10);
}
