use std::time::Duration;

use trine_testkit::{Result, Rng};

use crate::victim;

/// Runs the ignored test `name` of this module and returns what it printed.
async fn failure_of(name: &str, seed: &str) -> String {
    let child =
        victim(&format!("test_macro::{name}")).env("TRINE_TEST_SEED", seed).spawn().unwrap();
    let status = child.wait(Duration::from_secs(30)).await.unwrap();
    assert!(!status.success(), "{}", child.log());
    child.log()
}

#[trine_testkit::test(threads = 3, timeout = "5s")]
async fn the_runtime_has_the_threads_that_were_asked_for() {
    assert_eq!(tokio::runtime::Handle::current().metrics().num_workers(), 3);
}

#[trine_testkit::test(start_paused = true)]
async fn a_paused_clock_jumps_over_sleeps() {
    let start = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert!(start.elapsed() >= Duration::from_secs(86_400));
}

#[trine_testkit::test]
#[should_panic(expected = "as expected")]
async fn panics_reach_should_panic() {
    tokio::task::yield_now().await;
    panic!("as expected");
}

#[trine_testkit::test]
async fn results_of_any_error_are_accepted() -> Result<(), Box<dyn std::error::Error>> {
    let number: u8 = "7".parse()?;
    assert_eq!(number, 7);
    Ok(())
}

#[trine_testkit::test(timeout = "25s")]
async fn a_test_that_waits_for_ever_fails_in_time_with_its_seed() {
    let log = failure_of("victim_that_waits", "42").await;
    assert!(log.contains("not finished within 200ms"), "{log}");
    assert!(log.contains("TRINE_TEST_SEED=42"), "{log}");
}

#[trine_testkit::test]
async fn a_test_that_blocks_its_threads_fails_in_time() {
    let log = failure_of("victim_that_blocks", "42").await;
    assert!(log.contains("not finished within 200ms"), "{log}");
}

#[trine_testkit::test]
async fn an_error_fails_the_test_and_is_shown() {
    let log = failure_of("victim_with_an_error", "42").await;
    assert!(log.contains("the test returned an error"), "{log}");
    assert!(log.contains("ParseIntError"), "{log}");
}

#[trine_testkit::test]
async fn a_printed_seed_repeats_the_choices() {
    let first = failure_of("victim_with_choices", "7").await;
    let chosen = first.lines().find(|line| line.contains("chose ")).unwrap().to_owned();
    assert!(failure_of("victim_with_choices", "7").await.contains(&chosen));
    assert!(!failure_of("victim_with_choices", "8").await.contains(&chosen));
    let log = failure_of("victim_with_choices", "seven").await;
    assert!(log.contains("TRINE_TEST_SEED=seven: expected a whole number"), "{log}");
}

#[trine_testkit::test(timeout = "20s")]
async fn a_blocking_task_that_never_ends_does_not_hold_a_finished_test() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || receiver.recv());
    std::mem::forget(sender);
}

#[trine_testkit::test(timeout = "200ms")]
#[ignore = "run as a process of its own by another test"]
async fn victim_that_waits() {
    std::future::pending::<()>().await;
}

#[trine_testkit::test(timeout = "200ms", start_paused = true)]
#[ignore = "run as a process of its own by another test"]
async fn victim_that_blocks() {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    // Blocks for good: the sender is alive and sends nothing.
    let _ = receiver.recv();
}

#[trine_testkit::test]
#[ignore = "run as a process of its own by another test"]
async fn victim_with_an_error() -> Result<(), Box<dyn std::error::Error>> {
    "seven".parse::<u8>()?;
    Ok(())
}

#[trine_testkit::test]
#[ignore = "run as a process of its own by another test"]
async fn victim_with_choices(mut rng: Rng) {
    panic!("chose {}", rng.next_u64());
}
