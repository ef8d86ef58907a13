//! Whatever is done to a store, its indexes have what going through all jobs
//! finds.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trine_core::{Fence, Moment};

use super::micros::{Micros, time};
use super::state::State;
use crate::{
    AttemptEnd, ClaimedTick, Definition, Finish, FinishOutcome, JobId, Overlap, Terms, TickState,
};

const SERVICE: &str = "scheduler.default";

/// What is done, by small numbers for processes, jobs and terms.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Pass(i64),
    Jump(i64),
    Register { process: u8, job: u8, revision: u8 },
    Withdraw { process: u8 },
    Beat { process: u8 },
    Remove { job: u8 },
    Pause { job: u8 },
    Resume { job: u8 },
    Trigger { job: u8 },
    Plan { process: u8, jobs: u8 },
    Claim { process: u8, count: u8 },
    Renew { held: u8 },
    Finish { held: u8, end: u8 },
    Sweep { runs: u8, rows: u8 },
}

fn deed() -> impl Strategy<Value = Deed> {
    let process = 0_u8..3;
    let job = 0_u8..5;
    prop_oneof![
        4 => (1_i64..40_000_000).prop_map(Deed::Pass),
        1 => (-90_000_000_i64..90_000_000).prop_map(Deed::Jump),
        3 => (process.clone(), job.clone(), 0_u8..4)
            .prop_map(|(process, job, revision)| Deed::Register { process, job, revision }),
        1 => process.clone().prop_map(|process| Deed::Withdraw { process }),
        2 => process.clone().prop_map(|process| Deed::Beat { process }),
        1 => job.clone().prop_map(|job| Deed::Remove { job }),
        1 => job.clone().prop_map(|job| Deed::Pause { job }),
        2 => job.clone().prop_map(|job| Deed::Resume { job }),
        3 => job.prop_map(|job| Deed::Trigger { job }),
        4 => (process.clone(), 0_u8..6).prop_map(|(process, jobs)| Deed::Plan { process, jobs }),
        6 => (process, 1_u8..6).prop_map(|(process, count)| Deed::Claim { process, count }),
        2 => any::<u8>().prop_map(|held| Deed::Renew { held }),
        5 => (any::<u8>(), 0_u8..5).prop_map(|(held, end)| Deed::Finish { held, end }),
        1 => (0_u8..4, 0_u8..5).prop_map(|(runs, rows)| Deed::Sweep { runs, rows }),
    ]
}

/// The terms of a job differ by its revision.
fn definition(job: u8, revision: u8) -> Arc<Definition> {
    let schedule =
        ["every 5s", "delay 3s", "once now", "every 7s; jitter 9s", "cron */4 * * * * *"];
    let mut terms = Terms::new(schedule[usize::from(job)].parse().unwrap());
    terms.overlap = match (job + revision) % 4 {
        0 => Overlap::Skip,
        1 => Overlap::QueueOne,
        most => Overlap::Allow { at_most: NonZeroU32::from(NonZeroU32::new(most.into()).unwrap()) },
    };
    terms.takeovers = u32::from(revision);
    terms.pause_after = NonZeroU32::new(u32::from(job));
    let id = JobId::new(format!("job {job}")).unwrap();
    Arc::new(Definition::new(id, revision.into(), terms))
}

struct Run {
    state: State,
    elapsed: Micros,
    wall: Micros,
    held: Vec<ClaimedTick>,
    tokens: u64,
}

impl Run {
    fn now(&mut self) -> Micros {
        let moment = Moment::from_elapsed(Duration::from_micros(self.elapsed.unsigned_abs()));
        self.state.now(moment, time(self.wall))
    }

    fn slot(&self, job: u8) -> Option<u32> {
        self.state.known(&format!("job {job}"))
    }

    fn act(&mut self, deed: Deed) {
        let now = self.now();
        let process = |process: u8| -> Arc<str> { format!("process {process}").into() };
        let lease = Duration::from_secs(10);
        match deed {
            Deed::Pass(span) => (self.elapsed, self.wall) = (self.elapsed + span, self.wall + span),
            Deed::Jump(span) => self.wall += span,
            Deed::Register { process: at, job, revision } => {
                let definition = definition(job, revision);
                self.state.register(&process(at), &[definition], now).unwrap();
            }
            Deed::Withdraw { process: at } => self.state.withdraw(&process(at), None),
            Deed::Beat { process: at } => {
                self.state.beat(&process(at), lease * 2, now);
            }
            Deed::Remove { job } => {
                if let Some(slot) = self.slot(job) {
                    self.state.remove(slot, now);
                }
            }
            Deed::Pause { job } => {
                if let Some(slot) = self.slot(job) {
                    self.state.pause(slot, "", now);
                }
            }
            Deed::Resume { job } => {
                if let Some(slot) = self.slot(job) {
                    self.state.resume(slot, now);
                }
            }
            Deed::Trigger { job } => {
                if let Some(slot) = self.slot(job) {
                    self.state.trigger(slot, now).unwrap();
                }
            }
            Deed::Plan { process: at, jobs } => {
                self.state.plan(&process(at), lease, jobs.into(), now);
            }
            Deed::Claim { process: at, count } => {
                let answer = self.state.claim(SERVICE, &process(at), lease, count.into(), now);
                let answer = answer.unwrap();
                assert!(answer.ticks.len() <= usize::from(count));
                if answer.ticks.len() < usize::from(count) {
                    assert!(answer.next_ready.is_none_or(|next| next > time(now)), "asked again");
                }
                for tick in answer.ticks {
                    assert!(tick.fence.token() > self.tokens);
                    self.tokens = tick.fence.token();
                    self.held.push(tick);
                }
            }
            Deed::Renew { held } => {
                if let Some(tick) = self.held.get(usize::from(held) % self.held.len().max(1)) {
                    let fence: Fence = tick.fence.clone();
                    self.state.renew(SERVICE, &fence, lease, now);
                }
            }
            Deed::Finish { held, end } => {
                let Some(tick) = self.held.get(usize::from(held) % self.held.len().max(1)) else {
                    return;
                };
                let failed = || AttemptEnd::Failed { error: "no".into() };
                let (end, retry_in) = match end {
                    0 => (failed(), None),
                    1 => (failed(), Some(lease)),
                    2 => (AttemptEnd::HandedOver, None),
                    _ => (AttemptEnd::Succeeded, None),
                };
                let finish = Finish::new(tick, end, retry_in);
                let first = self.state.finish(&finish, now);
                let again = self.state.finish(&finish, now);
                let expected = match first {
                    FinishOutcome::Finished => FinishOutcome::Repeated,
                    same => same,
                };
                assert_eq!(again, expected);
            }
            Deed::Sweep { runs, rows } => {
                let swept = self.state.sweep(lease * 3, runs.into(), rows.into(), now);
                assert!(swept <= u64::from(rows));
            }
        }
    }

    fn check(&mut self) {
        self.state.jobs.check();
        for job in 0..5 {
            let name = format!("job {job}");
            let slot = self.state.jobs.slot(&name);
            let Some(job) = slot.and_then(|slot| self.state.jobs.get(slot)) else { continue };
            let open = job.work().ticks.values().filter(|tick| !tick.state.is_over()).count();
            assert_eq!(job.work().open() as usize, open);
            let ran = |tick: &&super::record::Record| tick.state == TickState::Running;
            let running = job.work().ticks.values().filter(ran).count();
            assert_eq!(job.work().running as usize, running);
            for tick in job.work().ticks.values() {
                let ends = tick.attempts.iter().filter(|attempt| attempt.end.is_none()).count();
                assert_eq!(ends, usize::from(tick.state == TickState::Running));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_nothing_is_lost_from_sight(
        deeds in proptest::collection::vec(deed(), 1..120),
    ) {
        let (elapsed, wall) = (86_400_000_000, 1_790_000_000_000_000);
        let moment = Moment::from_elapsed(Duration::from_micros(86_400_000_000));
        let state = State::new(moment, time(wall));
        let mut run = Run { state, elapsed, wall, held: Vec::new(), tokens: 0 };
        for deed in deeds {
            run.act(deed);
            run.check();
        }
        // Whatever still goes on comes to its end.
        for job in 0..5 {
            if let Some(slot) = run.slot(job) {
                let now = run.now();
                run.state.remove(slot, now);
            }
        }
        run.act(Deed::Pass(200_000_000));
        for process in 0..3 {
            run.act(Deed::Withdraw { process });
        }
        run.act(Deed::Sweep { runs: 0, rows: 255 });
        for _ in 0..9 {
            run.act(Deed::Pass(40_000_000));
            run.act(Deed::Sweep { runs: 0, rows: 255 });
        }
        run.check();
        prop_assert!(run.state.jobs.is_empty());
    }
}
