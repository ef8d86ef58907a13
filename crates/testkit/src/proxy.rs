mod buffer;
mod door;
mod framing;
mod link;
mod pump;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::engine;
use crate::error::{Error, Result};
use crate::port::free_port;

/// Longest wait for a listener to open or close.
const DOOR_BOUND: Duration = Duration::from_secs(10);
/// Far more packets than a test steps through.
const MOST_STEPS: usize = 1 << 20;

/// A TCP proxy that misbehaves on demand, between a client and a server.
///
/// [`Flow`] says what happens to the bytes, apart for requests (client to
/// server) and replies (server to client), on the connections that exist and on
/// new ones; [`Door`] says what happens to new connections. Both can change at
/// any time: bytes that arrive after a setter has returned meet the new
/// setting, bytes that are held back leave by the new one, in their order.
///
/// Runs on threads of its own in real time, so it serves tests whose clock is
/// paused or whose threads are blocked. Dropping it resets all connections.
///
/// # Example
///
/// ```
/// # use trine_testkit::Result;
/// use trine_testkit::{Flow, Proxy};
///
/// # async fn example(server: std::net::SocketAddr) -> Result<()> {
/// let proxy = Proxy::to(server).await?;
/// // … connect to proxy.addr() …
/// proxy.set_replies(Flow::CutAfter(10)); // ten more bytes, then the end
/// proxy.set(Flow::Pass); // both directions work again
/// # Ok(())
/// # }
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
/// #     .block_on(example(listener.local_addr().unwrap())).unwrap();
/// ```
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    settings: watch::Sender<Settings>,
    /// The door that is in force, which follows the settings.
    door: watch::Receiver<Door>,
    counters: Arc<Counters>,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// They pass at once.
    Pass,
    /// Nothing is read and nothing passes: a network that swallows everything.
    /// The ends are not told.
    Hang,
    /// They arrive this much later.
    Delay(Duration),
    /// They pass at this many bytes per second, 0 being none.
    Throttle(u32),
    /// This many more bytes pass on each connection, then both its ends are
    /// closed in an orderly way, as by a server that exits.
    CutAfter(u64),
    /// This many more bytes pass on each connection, then both its ends are
    /// reset, as by a server that crashed. `ResetAfter(0)` resets at once.
    ResetAfter(u64),
    /// One packet of the [`Protocol`] passes for each [`step`](Proxy::step).
    Step,
    /// One packet of the [`Protocol`] passes, then nothing for this long, so
    /// that its reader is polled for each.
    Packets(Duration),
}

/// What the ends of a [`Proxy`] speak, which says where packets end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// That of MySQL and MariaDB.
    #[default]
    Mysql,
    /// That of Redis, version 2 or 3: a packet is one reply or command with all
    /// its elements.
    Redis,
}

/// What happens to connections that are about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Door {
    /// They are accepted and a connection to the server is made for each.
    Open,
    /// Nobody listens: they are refused.
    Refuse,
    /// They are accepted and reset.
    Reset,
    /// Nobody answers, not even with a refusal: an address behind which there
    /// is nothing.
    Silent,
}

/// One end of the connections that a [`Proxy`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Whoever connected to the proxy.
    Client,
    /// Where the proxy connected to.
    Server,
}

/// How many bytes a [`Proxy`] has passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyBytes {
    /// From clients to the server.
    pub requests: u64,
    /// From the server to clients.
    pub replies: u64,
}

#[derive(Clone, Debug)]
struct Settings {
    protocol: Protocol,
    door: Door,
    requests: Setting,
    replies: Setting,
    /// Connections accepted in an earlier generation are reset.
    generation: u64,
    /// The side that was last reset alone, and the generation in which.
    half_open: Option<(Side, u64)>,
    steps: Arc<Semaphore>,
}

/// A flow and how often it was set, from which a cut counts its bytes.
#[derive(Clone, Copy, Debug)]
struct Setting {
    flow: Flow,
    times: u64,
}

#[derive(Debug, Default)]
struct Counters {
    open: AtomicUsize,
    accepted: AtomicU64,
    requests: AtomicU64,
    replies: AtomicU64,
}

impl Proxy {
    /// Starts a proxy to `server` on a free loopback port, with everything
    /// passing. The server need not be there yet.
    ///
    /// # Errors
    ///
    /// Fails if no port is free.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let pass = Setting { flow: Flow::Pass, times: 0 };
        let settings = watch::Sender::new(Settings {
            protocol: Protocol::default(),
            door: Door::Open,
            requests: pass,
            replies: pass,
            generation: 0,
            half_open: None,
            steps: Arc::new(Semaphore::new(0)),
        });
        let counters = Arc::new(Counters::default());
        // Any door but the one that is asked for.
        let (in_force, door) = watch::channel(Door::Refuse);
        engine::handle()?.spawn(door::keep(
            addr,
            server,
            settings.subscribe(),
            in_force,
            Arc::clone(&counters),
        ));
        let proxy = Self { addr, settings, door, counters };
        proxy.set_door(Door::Open).await?;
        Ok(proxy)
    }

    /// Sets what is spoken on connections made from now on. Default: MySQL.
    #[must_use]
    pub fn speaking(self, protocol: Protocol) -> Self {
        self.settings.send_modify(|settings| settings.protocol = protocol);
        self
    }

    /// Returns the address to connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets what happens to the bytes of both directions.
    pub fn set(&self, flow: Flow) {
        self.change(flow, true, true);
    }

    /// Sets what happens to what clients send.
    pub fn set_requests(&self, flow: Flow) {
        self.change(flow, true, false);
    }

    /// Sets what happens to what the server sends.
    pub fn set_replies(&self, flow: Flow) {
        self.change(flow, false, true);
    }

    fn change(&self, flow: Flow, requests: bool, replies: bool) {
        self.settings.send_modify(|settings| {
            let next = |setting: &mut Setting| {
                *setting = Setting { flow, times: setting.times.wrapping_add(1) };
            };
            if requests {
                next(&mut settings.requests);
            }
            if replies {
                next(&mut settings.replies);
            }
            if flow == Flow::Step {
                settings.steps = Arc::new(Semaphore::new(0));
            }
        });
    }

    /// Sets what happens to new connections, and waits until it does.
    /// Connections that exist go on; [`kill_all`](Self::kill_all) ends them.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TimedOut`] if the port cannot be had again.
    pub async fn set_door(&self, door: Door) -> Result<()> {
        self.settings.send_modify(|settings| settings.door = door);
        let mut in_force = self.door.clone();
        let wait = async move {
            // The other half lives as long as this proxy.
            let _ = in_force.wait_for(|now| *now == door).await;
        };
        tokio::select! {
            biased;
            () = wait => Ok(()),
            () = engine::real_sleep(DOOR_BOUND) => Err(Error::TimedOut {
                operation: format!("set the door of the proxy on {} to {door:?}", self.addr),
                after: DOOR_BOUND,
            }),
        }
    }

    /// Lets one packet pass where the flow is [`Flow::Step`]. Packets not yet
    /// there may use it later; setting the flow again takes it back.
    pub fn step(&self) {
        let steps = Arc::clone(&self.settings.borrow().steps);
        if steps.available_permits() < MOST_STEPS {
            steps.add_permits(1);
        }
    }

    /// Resets every connection.
    pub fn kill_all(&self) {
        self.settings.send_modify(|settings| settings.generation += 1);
    }

    /// Resets one side of every connection and leaves the other open and
    /// silent, as a firewall does that forgot them or a machine that lost its
    /// power: what the other side sends is swallowed.
    pub fn lose(&self, side: Side) {
        self.settings.send_modify(|settings| {
            settings.half_open = Some((side, settings.generation));
            settings.generation += 1;
        });
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Returns how many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// Returns how many bytes have passed so far.
    #[must_use]
    pub fn bytes(&self) -> ProxyBytes {
        ProxyBytes {
            requests: self.counters.requests.load(Ordering::SeqCst),
            replies: self.counters.replies.load(Ordering::SeqCst),
        }
    }
}
