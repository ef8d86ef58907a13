use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use redis::Cmd;
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Driver, alongside};

/// How often the other end of a connection has shown that it is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks whether the other end is there, and returns `false` if neither the
    /// answer nor anything else comes within the response time-out.
    ///
    /// What is large holds the answer up; while it moves, the connection is in
    /// order. Of what leaves only that is seen which the kernel's own buffer
    /// had no room for.
    pub(crate) async fn is_felt(
        &self,
        driver: &mut Driver,
        connection: &mut MultiplexedConnection,
    ) -> bool {
        let ping = Cmd::new().arg("PING").take();
        loop {
            let before = self.beats();
            match alongside(driver, connection.send_packed_command(&ping)).await {
                Some(Ok(_)) => return true,
                Some(Err(error)) if error.is_timeout() && self.beats() != before => {}
                _ => return false,
            }
        }
    }
}

/// A network connection that takes the pulse of its other end.
pub(super) struct Pulsed<S> {
    stream: S,
    pulse: Pulse,
    /// Whether the kernel had no room left.
    was_full: bool,
}

impl<S> Pulsed<S> {
    pub(super) fn new(stream: S, pulse: &Pulse) -> Self {
        Self { stream, pulse: pulse.clone(), was_full: false }
    }

    /// Room that comes again says that the other end has taken something.
    fn wrote(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Pending => self.was_full = true,
            Poll::Ready(Ok(_)) if self.was_full => {
                self.was_full = false;
                self.pulse.beat();
            }
            Poll::Ready(_) => {}
        }
        wrote.map_err(broken)
    }
}

/// The driver calls its own time-outs by the kind that the kernel gives to a
/// peer that is gone.
fn broken(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::TimedOut => io::Error::new(io::ErrorKind::ConnectionAborted, error),
        _ => error,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pulsed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf)).map_err(broken)?;
        if buf.filled().len() > before {
            self.pulse.beat();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pulsed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_arrives_and_room_that_comes_again_are_felt() {
        let pulse = Pulse::default();
        let (near, mut far) = duplex(4);
        let mut near = Pulsed::new(near, &pulse);
        near.write_all(b"abcd").await.unwrap();
        assert_eq!(pulse.beats(), 0, "the kernel takes what nobody has read");
        assert!(near.write(b"e").now_or_never().is_none());
        assert_eq!(pulse.beats(), 0);
        far.read_exact(&mut [0; 4]).await.unwrap();
        near.write_all(b"e").await.unwrap();
        assert_eq!(pulse.beats(), 1);
        far.write_all(b"x").await.unwrap();
        near.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(pulse.beats(), 2);
    }

    struct Gone;

    impl AsyncRead for Gone {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_no_late_reply() {
        let mut stream = Pulsed::new(Gone, &Pulse::default());
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert!(!redis::RedisError::from(error).is_timeout());
    }
}
