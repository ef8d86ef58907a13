//! What the comparisons share: rounds that alternate between the competitors,
//! and medians of what each did.
//!
//! Machines are shared and drift, so competitors never run one after the
//! other: each round gives every one of them a turn, and a ratio is taken round
//! by round.

#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

/// How long and how often each competitor runs.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Turns of each competitor.
    pub count: usize,
    /// Length of one turn.
    pub turn: Duration,
}

impl Rounds {
    /// Returns the size that the command line asks for: `--quick` is short.
    #[must_use]
    pub fn from_args() -> Self {
        let is_quick = std::env::args().any(|arg| arg == "--quick");
        let (count, millis) = if is_quick { (3, 300) } else { (9, 1_000) };
        Self { count, turn: Duration::from_millis(millis) }
    }
}

/// One operation of a competitor, run over and over by every task.
pub type Operation = Arc<dyn Fn(Turn) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The part of one task in the turn of a competitor.
#[derive(Debug)]
pub struct Turn {
    first: u64,
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

/// Returns the operation that `make` returns a future of.
///
/// A task awaits these futures where they are, as callers do: a box for each
/// would cost a competitor with few allocations the most.
pub fn operation<F, Fut>(make: F) -> Operation
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let make = Arc::new(make);
    Arc::new(move |turn| {
        let make = Arc::clone(&make);
        Box::pin(async move {
            let mut index = turn.first;
            while !turn.is_over.load(Ordering::Relaxed) {
                make(index).await;
                turn.done.fetch_add(1, Ordering::Relaxed);
                index += 1;
            }
        })
    })
}

/// Runs every competitor in turn at `tasks` tasks and prints operations per
/// second and the ratio to the first one, median and range over the rounds.
pub async fn compare(title: &str, tasks: usize, rounds: Rounds, competitors: &[(&str, Operation)]) {
    let mut rates = vec![Vec::with_capacity(rounds.count); competitors.len()];
    for round in 0..=rounds.count {
        for (operations, (_, operation)) in rates.iter_mut().zip(competitors) {
            let rate = run(operation, tasks, rounds.turn).await;
            // The first round warms caches and connections up.
            if round > 0 {
                operations.push(rate);
            }
        }
    }
    println!("\n{title}, {tasks} tasks, {} rounds of {:?}", rounds.count, rounds.turn);
    let base = rates.first().cloned().unwrap_or_default();
    for ((name, _), rates) in competitors.iter().zip(&rates) {
        let ratios: Vec<f64> = base.iter().zip(rates).map(|(base, rate)| base / rate).collect();
        let (low, middle, high) = spread(rates.clone());
        let (least, ratio, most) = spread(ratios);
        println!(
            "  {name:<42} {middle:>10.0}/s ({low:.0}-{high:.0})   first/this {ratio:.2} ({least:.2}-{most:.2})"
        );
    }
}

async fn run(operation: &Operation, tasks: usize, turn: Duration) -> f64 {
    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..tasks)
        .map(|task| {
            let first = task as u64 * 1_000_003;
            let (is_over, done) = (Arc::clone(&is_over), Arc::clone(&done));
            tokio::spawn(operation(Turn { first, is_over, done }))
        })
        .collect();
    let began = Instant::now();
    let before = done.load(Ordering::Relaxed);
    tokio::time::sleep(turn).await;
    let count = done.load(Ordering::Relaxed) - before;
    let elapsed = began.elapsed();
    is_over.store(true, Ordering::Relaxed);
    join_all(workers).await;
    count as f64 / elapsed.as_secs_f64()
}

/// Returns the least, the median and the greatest.
#[must_use]
pub fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}

/// Times `runs` runs of `work` and returns the median duration.
pub async fn median_time<Fut: Future<Output = ()>>(
    runs: usize,
    work: impl Fn() -> Fut,
) -> Duration {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let began = Instant::now();
        work().await;
        times.push(began.elapsed().as_secs_f64());
    }
    Duration::from_secs_f64(spread(times).1)
}
