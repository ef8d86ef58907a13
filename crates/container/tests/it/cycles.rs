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
}

impl Real {
    fn new(name: &str) -> Self {
        Self {
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
            *self.socket.lock().unwrap() = Some(listener);
            Ok::<(), crate::fake::Refused>(())
        };
        self.lifecycle.start(SECOND, &Backoff::default(), prove).await?;
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

fn container() -> Container {
    let mut builder = Builder::new();
    let mut before: Option<trine::Need> = None;
    for name in ["a", "b", "c"] {
        let mut adopted = Adopted::from(Arc::new(Real::new(name)));
        if let Some(need) = before.take() {
            adopted = adopted.needing(need);
        }
        before = Some(builder.adopt(adopted));
    }
    builder.adopt(Adopted::from(Arc::new(Real::new("d"))).optional());
    builder.configure(&Loader::new()).unwrap().build().unwrap()
}

async fn cycle() {
    let container = container();
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
fn run(mut plan: SoakPlan) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut held = Vec::new();
    runtime.block_on(async {
        while let Some(round) = plan.next_round() {
            cycle().await;
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
    assert_eq!(last.files, first.files);
    assert!(grown(first) <= 1 << 20, "{} bytes in the last {LAST} cycles", grown(first));
}

const CHILD: &str = "TRINE_TEST_CYCLES";

/// Runs `test` again in a process of its own: open files and memory are counted
/// per process, and the other tests use both.
#[cfg(target_os = "linux")]
fn alone(test: &str) {
    #[allow(clippy::disallowed_methods)]
    if std::env::var_os(CHILD).is_some() {
        run(SoakPlan::new("cycles", 1_000).unwrap());
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let figures = text.lines().find(|line| line.contains("cycles: the last"));
    println!("{}", figures.expect("nothing was run"));
}

// CO-13
#[cfg(target_os = "linux")]
#[test]
fn a_thousand_cycles_leave_no_task_and_no_file() {
    alone("cycles::a_thousand_cycles_leave_no_task_and_no_file");
}

// CO-13
#[cfg(target_os = "linux")]
#[test]
#[ignore = "long form: cargo xtask soak cycles --minutes 10 --count 20000"]
fn soak_cycles() {
    alone("cycles::soak_cycles");
}
