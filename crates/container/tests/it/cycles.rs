use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use trine::{Adopted, Builder, Container, Loader};
use trine_core::{
    Backoff, BoxFault, Deadline, Health, Intensity, Lifecycle, Metrics, Service, Snapshot, State,
    Tasks,
};
use trine_testkit::SoakPlan;

use crate::fake::SECOND;

/// A service as real ones are: a life cycle, a supervised task, a socket.
#[derive(Debug)]
struct Real {
    lifecycle: Lifecycle,
    tasks: Tasks,
    metrics: Metrics,
    socket: std::sync::Mutex<Option<tokio::net::TcpListener>>,
    leak: Leak,
}

/// What a service of a control leaves behind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leak {
    Nothing,
    Task,
    Socket,
}

impl Real {
    fn new(name: &str, leak: Leak) -> Self {
        Self {
            leak,
            lifecycle: Lifecycle::new(name),
            tasks: Tasks::new(name),
            metrics: Metrics::new("real"),
            socket: std::sync::Mutex::default(),
        }
    }
}

#[async_trait::async_trait]
impl Service for Real {
    fn name(&self) -> &str {
        self.lifecycle.name()
    }

    fn state(&self) -> State {
        self.lifecycle.state()
    }

    async fn start(&self) -> Result<(), BoxFault> {
        let prove = || async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            if self.leak == Leak::Socket {
                std::mem::forget(listener);
            } else {
                *self.socket.lock().unwrap() = Some(listener);
            }
            Ok::<(), crate::fake::Refused>(())
        };
        self.lifecycle.start(SECOND, &Backoff::default(), prove).await?;
        if self.leak == Leak::Task {
            let unowned = Tasks::new("leak");
            unowned.spawn("leak", std::future::pending::<()>());
            std::mem::forget(unowned);
        }
        self.tasks.supervise("tick", Intensity::default(), || async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Ok(())
    }

    async fn shutdown(&self, deadline: Deadline) -> Result<(), BoxFault> {
        let close = || async {
            self.tasks.shutdown(Deadline::after(Duration::ZERO)).await;
            self.socket.lock().unwrap().take();
            Ok::<(), crate::fake::Refused>(())
        };
        self.lifecycle.shutdown(deadline, close).await?;
        Ok(())
    }

    async fn health(&self) -> Health {
        Health::up()
    }

    fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    fn reset_metrics(&self) {
        self.metrics.reset();
    }
}

fn container(folder: &Path, leak: Leak) -> Container {
    let mut builder = Builder::new();
    let mut before: Option<trine::Need> = None;
    for name in ["a", "b", "c"] {
        let mut adopted = Adopted::from(Arc::new(Real::new(name, leak)));
        if let Some(need) = before.take() {
            adopted = adopted.needing(need);
        }
        before = Some(builder.adopt(adopted));
    }
    builder.adopt(Adopted::from(Arc::new(Real::new("d", Leak::Nothing))).optional());
    let loader = with_database(&mut builder, Loader::new(), folder);
    builder.configure(&loader).unwrap().build().unwrap()
}

/// Adds the database of Trine itself, with a shard.
#[cfg(feature = "sqlite")]
fn with_database(builder: &mut Builder, loader: Loader, folder: &Path) -> Loader {
    builder.add(trine::Db::new());
    crate::db::files(loader, folder)
}

#[cfg(not(feature = "sqlite"))]
fn with_database(_: &mut Builder, loader: Loader, _: &Path) -> Loader {
    loader
}

async fn cycle(folder: &Path, leak: Leak) {
    let container = container(folder, leak);
    container.start().await.unwrap();
    container.health().await;
    assert!(!container.metrics().families.is_empty());
    container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// What this process held after a cycle.
#[derive(Clone, Copy)]
struct Held {
    files: usize,
    memory: u64,
}

/// Cycles at the end of a run over which nothing may grow.
const LAST: usize = 500;

/// Counts open files and memory of its process: runs in one of its own.
#[cfg(target_os = "linux")]
fn run(mut plan: SoakPlan, leak: Leak) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut held = Vec::new();
    runtime.block_on(async {
        while let Some(round) = plan.next_round() {
            cycle(folder.path(), leak).await;
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "after round {round}");
            held.push(Held { files: open_files(), memory: resident() });
        }
    });
    let (first, last) = (held[held.len().saturating_sub(LAST + 1)], held[held.len() - 1]);
    let grown = |from: Held| last.memory.saturating_sub(from.memory);
    println!(
        "{} cycles: the last {LAST} grew by {} bytes, the second half by {}",
        held.len(),
        grown(first),
        grown(held[held.len() / 2])
    );
    assert_eq!(last.files, first.files, "files are left open");
    assert!(grown(first) <= 1 << 20, "{} bytes in the last {LAST} cycles", grown(first));
}

const CHILD: &str = "TRINE_TEST_CYCLES";

/// Runs `test` again in a process of its own: open files and memory are counted
/// per process, and the other tests use both. Returns whether it passed, and
/// what it said; `None` in that process.
#[cfg(target_os = "linux")]
fn alone(test: &str, rounds: u64, leak: Leak) -> Option<(bool, String)> {
    #[allow(clippy::disallowed_methods)]
    if std::env::var_os(CHILD).is_some() {
        run(SoakPlan::new("cycles", rounds).unwrap(), leak);
        return None;
    }
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    Some((output.status.success(), said + &errors))
}

#[cfg(target_os = "linux")]
fn leaves_nothing(test: &str) {
    let Some((passed, text)) = alone(test, 1_000, Leak::Nothing) else {
        return;
    };
    assert!(passed, "{text}");
    let figures = text.lines().find(|line| line.contains("cycles: the last"));
    println!("{}", figures.expect("nothing was run"));
}

// CO-13
#[cfg(target_os = "linux")]
#[test]
fn a_thousand_cycles_leave_no_task_and_no_file() {
    leaves_nothing("cycles::a_thousand_cycles_leave_no_task_and_no_file");
}

// CO-13, a control
#[cfg(target_os = "linux")]
#[test]
fn a_task_that_is_left_behind_is_found() {
    let test = "cycles::a_task_that_is_left_behind_is_found";
    if let Some((passed, text)) = alone(test, 20, Leak::Task) {
        assert!(!passed && text.contains("after round 0"), "{text}");
    }
}

// CO-13, a control
#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_is_left_behind_is_found() {
    let test = "cycles::a_socket_that_is_left_behind_is_found";
    if let Some((passed, text)) = alone(test, 20, Leak::Socket) {
        assert!(!passed && text.contains("files are left open"), "{text}");
    }
}

// CO-13
#[cfg(target_os = "linux")]
#[test]
#[ignore = "long form: cargo xtask soak cycles --minutes 10 --count 20000"]
fn soak_cycles() {
    leaves_nothing("cycles::soak_cycles");
}
