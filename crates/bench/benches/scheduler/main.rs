//! What jobs cost through the whole service: triggers per second, how late runs
//! begin, what registered jobs take while nothing is due, and how fast ticks
//! that are all due at once are made. tokio-cron-scheduler runs beside it.
//!
//! A name of a part as an argument measures that part alone: `rate`, `lateness`,
//! `idle`, `plan`.

mod idle;
mod lateness;
mod plan;
mod rate;
mod store;

use trine_bench::Rounds;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(subject) = args.iter().find_map(|arg| arg.strip_prefix(idle::SUBJECT)) {
        return idle::measure(subject).await;
    }
    let names = ["rate", "lateness", "idle", "plan"];
    let is_one = args.iter().any(|arg| names.contains(&&**arg));
    let is_wanted = |name: &str| !is_one || args.iter().any(|arg| arg == name);
    let rounds = Rounds::from_args();
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let folder = tempfile::tempdir_in(".").expect("a folder on the device under test");
    if is_wanted("rate") {
        rate::run(folder.path(), rounds.count).await;
    }
    if is_wanted("lateness") {
        lateness::run(folder.path(), if is_quick { 3 } else { 10 }).await;
    }
    if is_wanted("idle") {
        idle::run(is_quick);
    }
    if is_wanted("plan") {
        plan::run(folder.path(), rounds.count.min(3)).await;
    }
}
