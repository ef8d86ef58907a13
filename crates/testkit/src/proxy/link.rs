//! One connection through the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::pump::{Direction, End, Ended, pump};
use super::{Counters, Settings, Side};

/// How long an end that was told of the close may still send.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Carries bytes between `client` and a new connection to `server` until an end
/// of either kind.
pub(super) async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    mut settings: watch::Receiver<Settings>,
    counters: Arc<Counters>,
) {
    let _open = Open::new(&counters);
    let generation = settings.borrow().generation;
    let connected = tokio::select! {
        biased;
        () = outdated(&mut settings, generation) => None,
        connected = TcpStream::connect(server) => connected.ok(),
    };
    let Some(mut server) = connected else {
        reset(client);
        return;
    };
    for stream in [&client, &server] {
        // Packets are to arrive as they were sent; on a broken stream the pumps
        // find out.
        let _ = stream.set_nodelay(true);
    }

    let end = {
        let (client_reader, client_writer) = client.split();
        let (server_reader, server_writer) = server.split();
        let requests = pump(
            Direction::Requests,
            client_reader,
            server_writer,
            settings.clone(),
            &counters.requests,
        );
        let replies = pump(
            Direction::Replies,
            server_reader,
            client_writer,
            settings.clone(),
            &counters.replies,
        );
        tokio::select! {
            biased;
            () = outdated(&mut settings, generation) => End::Reset,
            end = both(requests, replies) => end,
        }
    };
    let half_open = settings.borrow().half_open;
    match (end, half_open) {
        (End::Reset, Some((side, when))) if when == generation => {
            let (lost, mut left) = match side {
                Side::Client => (client, server),
                Side::Server => (server, client),
            };
            reset(lost);
            tokio::select! {
                biased;
                () = outdated(&mut settings, generation + 1) => reset(left),
                () = swallow(&mut left) => {}
            }
        }
        (End::Reset, _) => {
            reset(client);
            reset(server);
        }
        (End::Closed, _) => {
            for stream in [&mut client, &mut server] {
                // An end that is gone needs no close.
                let _ = stream.shutdown().await;
            }
            // Closing with bytes unread would turn the close into a reset.
            let last_words = async { tokio::join!(swallow(&mut client), swallow(&mut server)) };
            let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        }
    }
}

/// Returns when both directions are closed, or one of them for both.
async fn both(requests: impl Future<Output = Ended>, replies: impl Future<Output = Ended>) -> End {
    tokio::pin!(requests, replies);
    let (first, requests_left) = tokio::select! {
        first = &mut requests => (first, false),
        first = &mut replies => (first, true),
    };
    match first {
        Ended::ForBoth(end) => end,
        Ended::HalfClosed => {
            let second =
                if requests_left { requests.as_mut().await } else { replies.as_mut().await };
            match second {
                Ended::ForBoth(end) => end,
                Ended::HalfClosed => End::Closed,
            }
        }
    }
}

/// Waits until connections of `generation` are to end.
async fn outdated(settings: &mut watch::Receiver<Settings>, generation: u64) {
    // An error means that the proxy is gone, which ends them too.
    let _ = settings.wait_for(|settings| settings.generation != generation).await;
}

fn reset(stream: TcpStream) {
    // Fails if the other end was faster.
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn swallow(stream: &mut TcpStream) {
    let mut bytes = [0; 4_096];
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

/// Counts a connection while it lives.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
