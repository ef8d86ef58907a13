use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use trine_core::Deadline;

/// Why a server ended other than asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener failed.
    #[error("the server cannot accept connections")]
    Listen(#[source] io::Error),
    /// Requests were not finished in time; their connections were cut.
    #[error("{connections} connections were cut after {after:?}")]
    Cut {
        /// How many.
        connections: usize,
        /// How long they were given.
        after: Duration,
    },
}

/// Serves `router` until `stop` ends, then accepts nothing new, finishes the
/// requests in flight within `drain`, and cuts what is left.
///
/// Handlers may extract `ConnectInfo<SocketAddr>`, the other end of the
/// connection: behind a proxy, that is the proxy.
///
/// Begin it before the services start, so that the process can say that it
/// lives and is not ready. Dropping the future cuts every connection.
///
/// # Errors
///
/// Fails with [`ServeError::Cut`] if connections had to be cut.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> Result<(), ServeError> {
    let (cut, open) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let _cut_on_drop = cut.clone().drop_guard();
    let listener = Cuttable { listener, cut: cut.clone(), open: Arc::clone(&open) };
    let stopping = CancellationToken::new();
    let stopped = stopping.clone();
    let signal = async move {
        stop.await;
        stopped.cancel();
    };
    let service = router
        .layer(axum::middleware::map_request(tell_peer))
        .into_make_service_with_connect_info::<Peer>();
    let mut server =
        pin!(axum::serve(listener, service).with_graceful_shutdown(signal).into_future());
    tokio::select! {
        ended = &mut server => return ended.map_err(ServeError::Listen),
        () = stopping.cancelled() => {}
    }
    if let Some(ended) = Deadline::after(drain).limit(&mut server).await {
        return ended.map_err(ServeError::Listen);
    }
    let connections = open.load(Ordering::Relaxed);
    cut.cancel();
    server.await.map_err(ServeError::Listen)?;
    Err(ServeError::Cut { connections, after: drain })
}

/// The other end of a connection; axum has no such thing for listeners that are
/// not its own.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Cuttable>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Cuttable>) -> Self {
        Self(*stream.remote_addr())
    }
}

async fn tell_peer(ConnectInfo(peer): ConnectInfo<Peer>, mut request: Request) -> Request {
    request.extensions_mut().insert(ConnectInfo(peer.0));
    request
}

/// A listener whose connections can all be cut at once.
struct Cuttable {
    listener: TcpListener,
    cut: CancellationToken,
    open: Arc<AtomicUsize>,
}

impl Listener for Cuttable {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Answers are written in one go; waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let cut = Box::pin(self.cut.clone().cancelled_owned());
        self.open.fetch_add(1, Ordering::Relaxed);
        (Connection { stream, cut, open: Arc::clone(&self.open) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    open: Arc<AtomicUsize>,
}

impl Connection {
    /// Returns the stream, or an error once it is to be cut.
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_shutdown(cx)
    }
}
