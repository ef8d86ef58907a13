use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use trine::{Adopted, Builder, Container, Loader};
use trine_core::{
    BoxFault, Deadline, ErrorKind, Fault, Health, HealthStatus, Metrics, Probe, Service, Snapshot,
    State,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What happened to all fakes of a test, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("on purpose")]
pub(crate) struct Refused(pub(crate) ErrorKind);

impl Fault for Refused {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// A service that does what the test says and tells what was done to it.
#[derive(Debug)]
pub(crate) struct Fake {
    name: String,
    log: Log,
    state: Mutex<State>,
    pub(crate) metrics: Metrics,
    /// Damps the answers, as every service has to.
    probe: Probe,
    /// What a start answers.
    pub(crate) refusal: Mutex<Option<Refused>>,
    /// How long a start and a shutdown take.
    pub(crate) start_takes: Mutex<Duration>,
    pub(crate) shutdown_takes: Mutex<Duration>,
    pub(crate) panics: AtomicBool,
    pub(crate) health: Mutex<HealthStatus>,
    pub(crate) health_takes: Mutex<Duration>,
    pub(crate) starts: AtomicU32,
    pub(crate) started_at: Mutex<Option<Instant>>,
}

impl Fake {
    pub(crate) fn new(name: &str, log: &Log) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            log: Arc::clone(log),
            state: Mutex::new(State::Created),
            metrics: Metrics::new("fake"),
            probe: Probe::new(SECOND * 60, Duration::ZERO),
            refusal: Mutex::default(),
            start_takes: Mutex::default(),
            shutdown_takes: Mutex::default(),
            panics: AtomicBool::new(false),
            health: Mutex::default(),
            health_takes: Mutex::default(),
            starts: AtomicU32::new(0),
            started_at: Mutex::default(),
        })
    }

    pub(crate) fn refuse(&self, kind: ErrorKind) {
        *self.refusal.lock().unwrap() = Some(Refused(kind));
    }

    pub(crate) fn accept(&self) {
        *self.refusal.lock().unwrap() = None;
    }

    pub(crate) fn enter(&self, state: State) {
        *self.state.lock().unwrap() = state;
    }

    pub(crate) fn set_health(&self, status: HealthStatus) {
        *self.health.lock().unwrap() = status;
    }

    fn say(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

#[async_trait]
impl Service for Fake {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap()
    }

    async fn start(&self) -> Result<(), BoxFault> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics.load(Ordering::Relaxed), "on purpose");
        let takes = *self.start_takes.lock().unwrap();
        sleep(takes).await;
        if let Some(refused) = *self.refusal.lock().unwrap() {
            return Err(refused.into());
        }
        self.enter(State::Running);
        *self.started_at.lock().unwrap() = Some(Instant::now());
        self.say("start");
        Ok(())
    }

    async fn shutdown(&self, _: Deadline) -> Result<(), BoxFault> {
        self.say("stop");
        let takes = *self.shutdown_takes.lock().unwrap();
        sleep(takes).await;
        self.enter(State::Closed);
        match *self.refusal.lock().unwrap() {
            Some(refused) => Err(refused.into()),
            None => Ok(()),
        }
    }

    async fn health(&self) -> Health {
        let check = || async {
            let takes = *self.health_takes.lock().unwrap();
            sleep(takes).await;
            let status = *self.health.lock().unwrap();
            Health::new(status).with_error(format_args!("fake is {status}"))
        };
        self.probe.check(check).await
    }

    fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    fn reset_metrics(&self) {
        self.metrics.reset();
    }
}

/// Returns a container of services that the test has built, with short delays.
pub(crate) fn container(services: impl IntoIterator<Item = Adopted>) -> Container {
    let mut builder = Builder::new();
    for service in services {
        builder.adopt(service);
    }
    let loader = Loader::new().with_defaults("[container]\ndrain_delay = '5s'");
    builder.configure(&loader).unwrap().build().unwrap()
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(SECOND * 60)
}

pub(crate) fn lines(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}
