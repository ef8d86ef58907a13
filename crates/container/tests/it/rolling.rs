use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trine::{Adopted, Builder, Container, Loader};
use trine_core::{Deadline, HealthStatus, Service, State, Tasks};
use trine_testkit::SoakPlan;

use crate::fake::{Fake, Log, SECOND};

const REPLICAS: usize = 3;
const CLIENTS: usize = 8;

/// One place behind the load balancer, whichever process is in it.
struct Place {
    address: SocketAddr,
    container: Mutex<Container>,
    restart: Notify,
    /// Set when the place began to accept after its last restart.
    round: AtomicU64,
}

fn container(drain_delay: &str) -> (Container, Arc<Fake>) {
    let service = Fake::new("main", &Log::default());
    *service.start_takes.lock().unwrap() = SECOND / 20;
    let mut builder = Builder::new();
    builder.adopt(Adopted::from(Arc::clone(&service)));
    let loader = Loader::new().with_override("test", "container.drain_delay", drain_delay);
    (builder.configure(&loader).unwrap().build().unwrap(), service)
}

/// Answers each connection's byte with `k`, as long as the service works.
async fn server(
    listener: TcpListener,
    service: Arc<Fake>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let tasks = Tasks::new("connections");
    loop {
        let (mut stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = stop.cancelled() => break,
        };
        let service = Arc::clone(&service);
        tasks.spawn("connection", async move {
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            sleep(Duration::from_millis(5)).await;
            let answer = if service.state() == State::Running { b"k" } else { b"n" };
            stream.write_all(answer).await
        });
    }
    drop(listener);
    tasks.shutdown(Deadline::after(SECOND * 10)).await;
    Ok(())
}

/// Runs one process after the other in a place.
async fn keep(
    place: Arc<Place>,
    drain_delay: &'static str,
    mut first: Option<(Container, Arc<Fake>, TcpListener)>,
) {
    loop {
        let (container, service, listener) = match first.take() {
            Some(first) => first,
            None => {
                let (container, service) = container(drain_delay);
                *place.container.lock().unwrap() = container.clone();
                (container, service, TcpListener::bind(place.address).await.unwrap())
            }
        };
        place.round.fetch_add(1, Ordering::Relaxed);
        let signal = place.restart.notified();
        container.serve(signal, |stop| server(listener, service, stop)).await.unwrap();
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"?").await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"k")
}

/// Longer than the balancer is late.
const DRAIN_DELAY: &str = "250ms";

/// Restarts each place in turn, over and over, under load; returns the answers
/// of all requests that failed.
async fn roll(drain_delay: &'static str) -> Vec<String> {
    let mut plan = SoakPlan::new("rolling", 3).unwrap();
    let tasks = Tasks::new("test");
    let mut places = Vec::new();
    for _ in 0..REPLICAS {
        let (container, service) = container(drain_delay);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Arc::new(Place {
            address: listener.local_addr().unwrap(),
            container: Mutex::new(container.clone()),
            restart: Notify::new(),
            round: AtomicU64::new(0),
        });
        let first = Some((container, service, listener));
        tasks.spawn("place", keep(Arc::clone(&place), drain_delay, first));
        places.push(place);
    }
    let is_ready =
        |place: &Place| place.container.lock().unwrap().ready().status != HealthStatus::Down;
    // As a load balancer sees them: by probes, a moment late.
    let balanced = Arc::new(Mutex::new(Vec::new()));
    let (seen, probed) = (Arc::clone(&balanced), places.clone());
    tasks.spawn("probes", async move {
        loop {
            let ready = probed.iter().filter(|place| is_ready(place)).map(|place| place.address);
            *seen.lock().unwrap() = ready.collect();
            sleep(SECOND / 20).await;
        }
    });
    while balanced.lock().unwrap().len() < REPLICAS {
        sleep(SECOND / 50).await;
    }
    let (answered, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (balanced, over) = (Arc::clone(&balanced), Arc::clone(&over));
            let (answered, failed) = (Arc::clone(&answered), Arc::clone(&failed));
            tasks.spawn("client", async move {
                let mut turn = client;
                while !over.load(Ordering::Relaxed) {
                    turn += 1;
                    let address = {
                        let ready = balanced.lock().unwrap();
                        ready[turn % ready.len()]
                    };
                    match timeout(SECOND * 10, ask(address)).await.unwrap() {
                        Ok(true) => answered.fetch_add(1, Ordering::Relaxed),
                        other => {
                            failed.lock().unwrap().push(format!("{other:?}"));
                            0
                        }
                    };
                }
            })
        })
        .collect();
    while plan.next_round().is_some() {
        for place in &places {
            let round = place.round.load(Ordering::Relaxed);
            place.restart.notify_one();
            while place.round.load(Ordering::Relaxed) == round || !is_ready(place) {
                sleep(SECOND / 100).await;
            }
            while balanced.lock().unwrap().len() < REPLICAS {
                sleep(SECOND / 100).await;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let (answered, failed) = (answered.load(Ordering::Relaxed), failed.lock().unwrap().clone());
    let restarts = plan.rounds() * REPLICAS as u64;
    println!("{restarts} restarts: {answered} answered, {} failed", failed.len());
    assert!(answered > restarts * 30);
    failed
}

async fn roll_without_failure() {
    let failed = roll(DRAIN_DELAY).await;
    assert!(failed.is_empty(), "{} failed, such as {:?}", failed.len(), failed[0]);
}

// CO-07
#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_under_load_fail_no_request() {
    roll_without_failure().await;
}

// CO-07, the control: the balancer sends to who has stopped accepting.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_drain_delay_a_late_balancer_fails_requests() {
    let failed = roll("0s").await;
    assert!(!failed.is_empty());
}

// CO-07
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: cargo xtask soak rolling --minutes 10 --count 334"]
async fn soak_rolling() {
    roll_without_failure().await;
}
