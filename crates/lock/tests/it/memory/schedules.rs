//! Random schedules of calls, drops, releases and time, over two processes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use trine_core::{Fence, ManualClock};
use trine_lock::{AcquireOutcome, Guard, LockBackend, LockOptions, LockService, ReadGuard, Result};
use trine_testkit::Rng;

use super::{start, watched};
use crate::support::Watched;

type Call<G> = Pin<Box<dyn Future<Output = Result<AcquireOutcome<G>>> + Send>>;

/// One key, those who want it and those who have it.
struct Round {
    seed: u64,
    rng: Rng,
    processes: [LockService; 2],
    backend: Arc<Watched>,
    clock: Arc<ManualClock>,
    writes: Vec<Call<Guard>>,
    reads: Vec<Call<ReadGuard>>,
    writing: Vec<Guard>,
    reading: Vec<ReadGuard>,
    last: Option<Fence>,
    granted: u64,
}

impl Round {
    async fn new(seed: u64) -> Self {
        let (locks, backend, clock) = watched().await;
        let other = start(&Arc::new(backend.beside()), &clock).await;
        Self {
            seed,
            rng: Rng::seeded(seed),
            processes: [locks, other],
            backend,
            clock,
            writes: Vec::new(),
            reads: Vec::new(),
            writing: Vec::new(),
            reading: Vec::new(),
            last: None,
            granted: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap()
    }

    fn call(&mut self) {
        let locks = self.processes[self.below(2)].clone();
        let options = LockOptions::default().with_ttl(Duration::from_millis(300));
        if self.below(3) == 0 {
            self.reads.push(Box::pin(async move { locks.acquire_read("k", options).await }));
        } else {
            self.writes.push(Box::pin(async move { locks.acquire("k", options).await }));
        }
    }

    async fn step(&mut self) {
        match self.below(12) {
            0..=3 => self.call(),
            4 if !self.writes.is_empty() => {
                let place = self.below(self.writes.len());
                drop(self.writes.remove(place));
            }
            5 if !self.reads.is_empty() => {
                let place = self.below(self.reads.len());
                drop(self.reads.remove(place));
            }
            6 | 7 => {
                for guard in self.writing.drain(..) {
                    guard.release().await.unwrap();
                }
            }
            8 => self.writing.clear(),
            9 => self.reading.clear(),
            10 => self.clock.advance(Duration::from_millis(90)),
            // Past every ttl at once: whoever holds has lost.
            11 if self.below(4) == 0 => self.clock.advance(Duration::from_millis(400)),
            _ => {}
        }
        for _ in 0..self.below(6) {
            tokio::task::yield_now().await;
        }
        self.poll().await;
        self.check();
    }

    /// Lets every call go on, and takes what was granted.
    async fn poll(&mut self) {
        for mut call in std::mem::take(&mut self.writes) {
            match poll!(&mut call) {
                std::task::Poll::Ready(Ok(AcquireOutcome::Acquired(guard))) => {
                    let last = self.last.replace(guard.fence().clone());
                    let grew = last.is_none_or(|last| last.token() < guard.fence().token());
                    assert!(grew, "seed {}: a token fell", self.seed);
                    self.granted += 1;
                    self.writing.push(guard);
                }
                std::task::Poll::Ready(_) => {}
                std::task::Poll::Pending => self.writes.push(call),
            }
        }
        for mut call in std::mem::take(&mut self.reads) {
            match poll!(&mut call) {
                std::task::Poll::Ready(Ok(AcquireOutcome::Acquired(guard))) => {
                    self.reading.push(guard);
                }
                std::task::Poll::Ready(_) => {}
                std::task::Poll::Pending => self.reads.push(call),
            }
        }
    }

    fn check(&self) {
        let writing = self.writing.iter().filter(|guard| guard.is_held()).count();
        let reading = self.reading.iter().filter(|guard| guard.is_held()).count();
        let is_sound = writing <= 1 && (writing == 0 || reading == 0);
        assert!(is_sound, "seed {}: {writing} write, {reading} read", self.seed);
    }
}

/// And every token is higher than the one before; in the end nothing is left.
#[tokio::test]
async fn no_schedule_lets_two_believe_that_they_write() {
    let mut granted = 0;
    for seed in 0..150 {
        let mut round = Round::new(seed).await;
        for _ in 0..200 {
            round.step().await;
        }
        granted += round.granted;
        let Round { processes, backend, writes, reads, writing, reading, .. } = round;
        drop((writes, reads, writing, reading));
        let emptied = async {
            while backend.stats().keys > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let emptied = tokio::time::timeout(Duration::from_secs(20), emptied).await;
        assert!(emptied.is_ok(), "seed {seed}: {:?}", backend.stats());
        drop(processes);
    }
    assert!(granted > 1_000, "only {granted} grants");
}
