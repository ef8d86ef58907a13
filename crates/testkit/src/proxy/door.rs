//! Accepts, or does not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::link;
use super::{Counters, Door, Settings};

/// Pause before a port that is still in use is tried again.
const AGAIN: Duration = Duration::from_millis(10);
/// What waits to be accepted: more than tests connect at once.
const BACKLOG: u32 = 1_024;

/// Keeps the door as the settings say, until the proxy is dropped.
pub(super) async fn keep(
    addr: SocketAddr,
    server: SocketAddr,
    mut settings: watch::Receiver<Settings>,
    in_force: watch::Sender<Door>,
    counters: Arc<Counters>,
) {
    let mut links = JoinSet::new();
    'doors: loop {
        let door = settings.borrow_and_update().door;
        let Ok(held) = Held::at(addr, door).await else {
            // The kernel may hold the port for a moment after a close.
            tokio::time::sleep(AGAIN).await;
            if settings.has_changed().is_err() {
                break;
            }
            continue;
        };
        in_force.send_replace(door);
        while settings.borrow_and_update().door == door {
            tokio::select! {
                biased;
                changed = settings.changed() => {
                    if changed.is_err() {
                        break 'doors;
                    }
                }
                Some(_) = links.join_next(), if !links.is_empty() => {}
                client = held.accept() => {
                    counters.accepted.fetch_add(1, Ordering::SeqCst);
                    if door == Door::Reset {
                        // Fails if the client is gone already.
                        let _ = client.set_zero_linger();
                    } else {
                        let link =
                            link::carry(client, server, settings.clone(), Arc::clone(&counters));
                        links.spawn(link);
                    }
                }
            }
        }
    }
    // They see that the proxy is gone and reset their ends.
    while links.join_next().await.is_some() {}
}

/// The port in one of its states. Never let go of, so that nobody else gets it.
enum Held {
    Listening(TcpListener),
    /// Bound and not listening: the kernel refuses for us.
    Bound {
        _socket: TcpSocket,
    },
    /// Listening with a full queue: the kernel drops what comes.
    Full {
        _listener: TcpListener,
        _filler: TcpStream,
    },
}

impl Held {
    async fn at(addr: SocketAddr, door: Door) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        match door {
            Door::Open | Door::Reset => Ok(Self::Listening(socket.listen(BACKLOG)?)),
            Door::Refuse => Ok(Self::Bound { _socket: socket }),
            Door::Silent => {
                // A queue of length 0 holds one connection.
                let listener = socket.listen(0)?;
                let filler = TcpStream::connect(addr).await?;
                Ok(Self::Full { _listener: listener, _filler: filler })
            }
        }
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self {
                Self::Listening(listener) => match listener.accept().await {
                    Ok((client, _)) => return client,
                    // Out of file descriptors, or the client has given up.
                    Err(_) => tokio::time::sleep(AGAIN).await,
                },
                Self::Bound { .. } | Self::Full { .. } => std::future::pending().await,
            }
        }
    }
}
