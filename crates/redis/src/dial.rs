mod login;
mod pulse;
mod refusal;
mod tls;

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use trine_core::Deadline;

use crate::config::{Address, Credentials};
use crate::facts::Stated;
use crate::{RedisConfig, ServerFacts};

pub(crate) use login::auth;
pub(crate) use pulse::Pulse;
use pulse::Pulsed;
pub(crate) use refusal::{Reason, Refusal};
use tls::Tls;

/// A peer that is gone without a word is noticed after 30 s by the kernel, if
/// nobody calls before.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;

/// What reads and writes a connection; it has to be polled for anything to
/// happen. Once it has ended, it has ended for whoever polls it again: it may
/// have ended together with an answer, which is all that its poller saw.
pub(crate) struct Driver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Driver {
    fn new(driver: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(driver)))
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(driver) = &mut self.0 {
            ready!(driver.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

/// A connection that has logged in.
pub(crate) struct Dialed {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) driver: Driver,
    pub(crate) facts: ServerFacts,
    pub(crate) pulse: Pulse,
}

/// What a connection is for.
pub(crate) enum Purpose {
    /// Commands of everybody, each bounded by the response time-out.
    Commands,
    /// Whoever has it bounds each call.
    Dedicated,
    /// What is pushed goes to the function.
    Subscription(Box<dyn Fn(PushInfo) + Send + Sync>),
}

/// Makes connections to the nodes of one configuration.
pub(crate) struct Dialer {
    name: Arc<str>,
    credentials: ArcSwapOption<Credentials>,
    tls: Option<Arc<Tls>>,
    connect_timeout: Duration,
    response_timeout: Duration,
    stated: Stated,
}

impl Dialer {
    pub(crate) fn new(
        name: &Arc<str>,
        config: &RedisConfig,
        credentials: Option<Credentials>,
        tls: bool,
    ) -> Self {
        // What the server takes as the name of a client.
        let shown = |c: char| if c.is_ascii_graphic() { c } else { '-' };
        Self {
            name: name.chars().map(shown).collect::<String>().into(),
            credentials: ArcSwapOption::new(credentials.map(Arc::new)),
            tls: tls.then(|| Arc::new(Tls::new(&config.tls))),
            connect_timeout: config.connect_timeout.get(),
            response_timeout: config.response_timeout.get(),
            stated: config.stated(),
        }
    }

    /// Returns one that logs in as somebody else.
    pub(crate) fn with_credentials(&self, credentials: Option<Credentials>) -> Self {
        Self {
            name: Arc::clone(&self.name),
            credentials: ArcSwapOption::new(credentials.map(Arc::new)),
            tls: self.tls.clone(),
            ..*self
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    pub(crate) fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.load_full()
    }

    pub(crate) fn set_credentials(&self, credentials: Credentials) {
        self.credentials.store(Some(Arc::new(credentials)));
    }

    /// Makes a connection within the connect time-out. Dropped unfinished, it
    /// leaves nothing behind.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        purpose: Purpose,
    ) -> Result<Dialed, Arc<Refusal>> {
        let credentials = self.credentials();
        self.dial_as(address, purpose, credentials.as_deref()).await
    }

    pub(crate) async fn dial_as(
        &self,
        address: &Address,
        purpose: Purpose,
        credentials: Option<&Credentials>,
    ) -> Result<Dialed, Arc<Refusal>> {
        let name: Arc<str> = address.to_string().into();
        let attempt = Attempt {
            dialer: self,
            name: &name,
            credentials,
            deadline: Deadline::after(self.connect_timeout),
        };
        let dialed = attempt.run(address, purpose).await;
        dialed.map_err(|reason| Arc::new(Refusal::new(&name, reason)))
    }
}

/// Leaves the credentials out.
impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("name", &self.name).finish_non_exhaustive()
    }
}

struct Attempt<'a> {
    dialer: &'a Dialer,
    name: &'a Arc<str>,
    credentials: Option<&'a Credentials>,
    deadline: Deadline,
}

impl Attempt<'_> {
    async fn run(&self, address: &Address, purpose: Purpose) -> Result<Dialed, Reason> {
        match address {
            Address::Unix(path) => {
                let stream = self.phase("connect", UnixStream::connect(path)).await?;
                self.log_in(stream.map_err(Reason::Network)?, purpose).await
            }
            Address::Tcp { host, port } => {
                let connecting = TcpStream::connect((&**host, *port));
                let stream = self.phase("connect", connecting).await?;
                let stream = stream.and_then(prepared).map_err(Reason::Network)?;
                let Some(tls) = &self.dialer.tls else {
                    return self.log_in(stream, purpose).await;
                };
                let connector = tls.connector()?;
                let shaking = connector.connect(tls.server_name(host)?, stream);
                let stream = self.phase("tls", shaking).await?.map_err(Reason::of_tls)?;
                self.log_in(stream, purpose).await
            }
        }
    }

    async fn phase<F: Future>(&self, phase: &'static str, work: F) -> Result<F::Output, Reason> {
        let after = self.dialer.connect_timeout;
        let tls = self.dialer.tls.is_some();
        self.deadline.limit(work).await.ok_or(Reason::TimedOut { phase, after, tls })
    }

    async fn log_in<S>(&self, stream: S, purpose: Purpose) -> Result<Dialed, Reason>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let timeout = match purpose {
            Purpose::Dedicated => None,
            Purpose::Commands | Purpose::Subscription(_) => Some(self.dialer.response_timeout),
        };
        let mut config = AsyncConnectionConfig::new().set_response_timeout(timeout);
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let mut protocol = 2;
        if let Purpose::Subscription(pushed) = purpose {
            config = config.set_push_sender(move |push| {
                pushed(push);
                Ok::<(), ()>(())
            });
            // The driver wants to log in by itself where something is pushed.
            settings = settings.set_protocol(ProtocolVersion::RESP3);
            protocol = 3;
            if let Some(credentials) = self.credentials {
                settings = settings.set_username(credentials.user());
                settings = settings.set_password(credentials.password.expose());
            }
        }
        let pulse = Pulse::default();
        let stream = Pulsed::new(stream, &pulse);
        let opening = MultiplexedConnection::new_with_config(&settings, stream, config);
        let opened = self.phase("login", opening).await?;
        let (mut connection, driver) = opened.map_err(Reason::of_driver)?;
        let mut driver = Driver::new(driver);
        let (credentials, name) = (self.credentials, &self.dialer.name);
        let greeting = login::greet(&mut connection, protocol, credentials, name);
        let greeted = self.phase("login", alongside(&mut driver, greeting)).await?;
        let reply = greeted.unwrap_or(Err(Reason::Closed))?;
        let facts = reply.into_facts(self.name, self.dialer.stated)?;
        Ok(Dialed { connection, driver, facts, pulse })
    }
}

fn prepared(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TRIES);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    // Nothing is asked while something that was sent is not confirmed.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEPALIVE_AFTER + KEEPALIVE_EVERY * KEEPALIVE_TRIES))?;
    Ok(stream)
}

/// Runs `work` on a connection whose driver nobody else polls. `None` if the
/// connection ended before it was answered.
pub(crate) async fn alongside<F: Future>(driver: &mut Driver, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return Some(done),
        () = driver => {}
    }
    // The driver answers what is under way before it ends.
    work.now_or_never()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    /// Who has heard its answer asks again.
    #[tokio::test]
    async fn a_connection_that_ends_with_an_answer_has_ended_for_all_that_follows() {
        let mut driver = Driver::new(async {});
        let mut is_answered = false;
        let work = poll_fn(|_| {
            let was_answered = std::mem::replace(&mut is_answered, true);
            if was_answered { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(alongside(&mut driver, work).await, Some(()));
        assert_eq!(alongside(&mut driver, pending::<()>()).await, None);
        driver.await;
    }

    #[tokio::test]
    async fn the_kernel_notices_a_peer_that_is_gone_while_it_sends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = prepared(stream).unwrap();
        let bound = SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(bound, Some(Duration::from_secs(30)));
    }
}
